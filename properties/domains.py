"""The domain of every public formula: arguments that are in it, and for every parameter values that are not.

A parameter that takes anything has the reason in place of values.
"""

import math
from dataclasses import dataclass

import hypothesis.strategies as st
import torch
from torch import Tensor

from ict_ref.formulas import inpainting_operator, sigma_grid, squared_l2

NAN, INF = math.nan, math.inf

CALLBACK = "any function"
BATCH, EVENT, CELLS = 3, (2, 4), 4

Values = st.SearchStrategy[object]


def f64(*values: float) -> Tensor:
    """Return a float64 vector."""
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    """Return unit normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


not_positive: Values = st.one_of(st.floats(max_value=0.0, allow_nan=False), st.sampled_from([0.0, NAN, INF]))
not_finite: Values = st.sampled_from([NAN, INF, -INF])
negative_or_not_finite: Values = st.one_of(
    st.floats(max_value=0.0, exclude_max=True, allow_nan=False), st.sampled_from([NAN, INF])
)
below_one: Values = st.integers(max_value=0)


def spoiled(good: Tensor, bad: Values) -> Values:
    """This tensor with one of its values replaced."""

    def replace(place: int, value: object) -> Tensor:
        flat = good.flatten().clone()
        flat[place] = value  # type: ignore[assignment]
        return flat.reshape(good.shape)

    return st.builds(replace, st.integers(0, good.numel() - 1), bad)


def other_shapes(good: Tensor) -> Values:
    """Tensors with another batch, other or more or fewer axes, of the same dtype."""
    shapes = [(*good.shape, 1), (len(good) + 1, *good.shape[1:]), (1, *good.shape), ()]
    if good.ndim > 1:
        shapes += [(*good.shape[:-1], good.shape[-1] + 1), (*good.shape[:-1], 1), good.shape[:1]]
    if len(good) != 1:
        shapes.append((1, *good.shape[1:]))
    return st.sampled_from([torch.ones(shape, dtype=torch.float64).to(good.dtype) for shape in shapes])


def disordered(good: Tensor) -> Values:
    """This list of levels with two of them exchanged or made equal."""
    swapped, equal = good.clone(), good.clone()
    swapped[[0, 1]] = good[[1, 0]]
    equal[-1] = equal[-2]
    return st.sampled_from([swapped, equal, good.flip(0), good[:0]])


x, z, noises = normal(BATCH, *EVENT), normal(BATCH, *EVENT) + 1, normal(2, BATCH, *EVENT)
sigma = f64(0.002, 0.5, 80.0)
sigmas = sigma_grid(CELLS + 1)
descending = f64(80.0, 0.8)
index = torch.tensor([0, 1, CELLS - 1])
pmf = f64(0.5, 0.0, 0.25, 0.25)
features = normal(6, 3)
covariance = features.T.cov()

bad_levels = st.one_of(spoiled(sigma, not_positive), other_shapes(sigma))
bad_grid = st.one_of(spoiled(sigmas, not_positive), disordered(sigmas), st.just(sigmas[:1]))
bad_descending = st.one_of(
    spoiled(descending, not_positive), disordered(descending), st.just(f64(80.0, 0.001)), st.just(f64(80.0, 0.8, 0.1))
)
bad_index = st.one_of(
    spoiled(index, st.one_of(st.integers(-(2**40), -1), st.integers(CELLS, 2**40))), other_shapes(index)
)
bad_weights = st.one_of(spoiled(f64(1.0, 2.0, 3.0, 4.0), not_positive), other_shapes(f64(1.0, 2.0, 3.0, 4.0)))
bad_noises = st.sampled_from([noises[:1], noises[0], noises[:, :2], noises[:, :, :1], normal(3, BATCH, *EVENT)])
bad_pmf = st.one_of(
    spoiled(pmf, st.one_of(negative_or_not_finite, st.floats(1.1, 1e6))), st.just(pmf[:0]), st.just(pmf * 0.999)
)
bad_features = st.one_of(spoiled(features, not_finite), st.sampled_from([normal(6, 4), features[:1], features[:0]]))
bad_range = st.one_of(not_positive, st.floats(80.0, 1e6))


def tanh(x: Tensor, sigma: Tensor) -> Tensor:
    """Return a consistency function, or a score."""
    return torch.tanh(x) / (1 + sigma.reshape(-1, *(1 for _ in x.shape[1:])))


@dataclass(frozen=True)
class Case:
    """Arguments of a function, and what is not in their domain."""

    arguments: dict[str, object]
    bad: dict[str, Values]
    free: dict[str, str]


STEPS: dict[str, object] = {"step": 30, "total_steps": 80, "s0": 2, "s1": 16}
CURRICULUM = Case(
    STEPS,
    {
        "step": st.one_of(st.integers(max_value=-1), st.integers(81)),
        "total_steps": st.integers(max_value=29),
        "s0": st.one_of(below_one, st.integers(17)),
        "s1": st.integers(max_value=1),
    },
    {},
)
RANGE: dict[str, object] = {"sigma_min": 0.002, "sigma_max": 80.0}
BAD_RANGE: dict[str, Values] = {"sigma_min": bad_range, "sigma_max": st.one_of(not_positive, st.floats(0, 0.002))}
LOSS: dict[str, object] = {"index": index, "sigmas": sigmas, "distance": squared_l2, "weights": f64(1, 2, 3, 4)}
BAD_LOSS: dict[str, Values] = {"index": bad_index, "sigmas": bad_grid, "weights": bad_weights}
TEACHING = {"student": CALLBACK, "teacher": CALLBACK, "distance": CALLBACK}
CONTINUOUS: dict[str, object] = {"student": tanh, "sigma": sigma, "weights": f64(1, 2, 3), "distance": squared_l2}
BAD_CONTINUOUS: dict[str, Values] = {"sigma": bad_levels, "weights": bad_levels}
COEFFICIENT: dict[str, object] = {"sigma": sigma, "sigma_min": 0.002, "sigma_data": 0.5}
BAD_COEFFICIENT: dict[str, Values] = {
    "sigma": spoiled(sigma, not_positive),
    "sigma_min": not_positive,
    "sigma_data": not_positive,
}


def without(names: dict[str, Values] | dict[str, object], *others: str) -> dict[str, object]:
    """Return the same without these names."""
    return {name: value for name, value in names.items() if name not in others}


high, low = f64(80.0, 1.0, 0.5), f64(40.0, 0.0, 0.4)
negative: Values = st.floats(max_value=0.0, exclude_max=True, allow_nan=False)
bad_high = st.one_of(spoiled(high, not_positive), st.just(f64(80.0, 1.0, 0.4)), other_shapes(high))
bad_low = st.one_of(spoiled(low, st.one_of(negative, st.just(NAN))), st.just(f64(40.0, 1.0, 0.4)), other_shapes(low))

# 1/4 to 3/2: angles of TrigFlow that have a level.
angles, low_angles = f64(0.25, 0.75, 1.5), f64(0.1, 0.75, 0.0)
beyond: Values = st.one_of(st.floats(1.58, 1e6), st.sampled_from([NAN, INF]))
bad_angles = st.one_of(spoiled(angles, st.one_of(negative, beyond)), other_shapes(angles))
bad_inner_angles = st.one_of(bad_angles, spoiled(angles, st.just(0.0)))
bad_low_angles = st.one_of(spoiled(low_angles, st.one_of(negative, beyond)), other_shapes(low_angles))
PATH: dict[str, object] = {"x0": x, "z": z, "t": angles}
BAD_PATH: dict[str, Values] = {"x0": other_shapes(x), "z": other_shapes(z), "t": bad_angles}
TANGENT: dict[str, object] = {
    "network": tanh, "x": x, "t": angles, "velocity": z, "sigma_data": 0.5, "warmup": 0.75
}  # fmt: skip
BAD_TANGENT: dict[str, Values] = {
    "x": other_shapes(x),
    "t": bad_inner_angles,
    "velocity": other_shapes(z),
    "sigma_data": not_positive,
    "warmup": st.one_of(negative, st.floats(1.0, 1e6, exclude_min=True), st.just(NAN)),
}
BAD_STUDENT_T: dict[str, Values] = {
    "loc": not_finite,
    "scale": not_positive,
    "dof": not_positive,
    "sigma_min": st.one_of(not_positive, st.floats(80.0, 1e6)),
    "sigma_max": st.one_of(not_positive, st.floats(0, 1.0)),
}
below_angles = f64(0.1, 0.5, 0.0)

CASES: dict[str, Case] = {
    "adaptive_weighting": Case(
        {"squared_norm": f64(1.0, 0.0, 3.0), "log_weight": f64(0.5, -1.0, 2.0), "dim": 12},
        {"dim": below_one},
        {"squared_norm": "computed from a network's output", "log_weight": "a network's output"},
    ),
    "log_student_t_density": Case(
        {"log_sigma": f64(0.0, 1.0, 5.0), "loc": 0.0, "scale": 0.2, "dof": 0.01, "sigma_min": 1.0, "sigma_max": 80.0},
        {"log_sigma": spoiled(f64(0.0, 1.0), not_finite), **BAD_STUDENT_T},
        {},
    ),
    "log_student_t_level": Case(
        {"u": f64(0.1, 0.5), "loc": 0.0, "scale": 0.2, "dof": 0.01, "sigma_min": 1.0, "sigma_max": 80.0},
        {"u": spoiled(f64(0.1, 0.5), st.one_of(not_positive, st.floats(1.0, 1e6))), **BAD_STUDENT_T},
        {},
    ),
    "truncated": Case(
        {"f": tanh, "f0": tanh, "x": x, "sigma": sigma, "sigma_cut": 1.0},
        {"x": st.just(x[:2]), "sigma": bad_levels, "sigma_cut": not_positive},
        {"f": CALLBACK, "f0": CALLBACK},
    ),
    "truncated_weights": Case(
        {"boundary": torch.tensor([True, False, False]), "boundary_weight": 0.1},
        {
            "boundary": st.sampled_from([torch.zeros(3), torch.ones(3), torch.zeros(0)]).map(lambda b: b.bool()),
            "boundary_weight": negative_or_not_finite,
        },
        {},
    ),
    "normalized_tangent": Case({"g": x, "c": 0.1}, {"g": st.just(torch.tensor(1.0).double()), "c": not_positive}, {}),
    "scm_loss": Case(
        {**TANGENT, "log_weight": f64(0.5, -1.0, 2.0), "c": 0.1},
        {**BAD_TANGENT, "c": not_positive},
        {"network": CALLBACK, "log_weight": "a network's output"},
    ),
    "tangent_warmup": Case(
        {"step": 30, "warmup_steps": 80}, {"step": st.integers(max_value=-1), "warmup_steps": below_one}, {}
    ),
    "trigflow_difference": Case(
        {**TANGENT, "t_low": below_angles},
        {**BAD_TANGENT, "t_low": st.one_of(bad_low_angles, st.just(angles))},
        {"network": CALLBACK},
    ),
    "trigflow_interpolant": Case(PATH, BAD_PATH, {}),
    "trigflow_level": Case(
        {"t": angles, "sigma_data": 0.5},
        {"t": spoiled(angles, st.one_of(negative, beyond)), "sigma_data": not_positive},
        {},
    ),
    "trigflow_parameterization": Case(
        {"network": tanh, "x": x, "t": angles, "sigma_data": 0.5},
        {"x": st.just(x[:2]), "t": bad_angles, "sigma_data": not_positive},
        {"network": CALLBACK},
    ),
    "trigflow_sample": Case(
        {"f": tanh, "noises": noises, "times": f64(1.5, 1.1)},
        {
            "noises": st.sampled_from([noises[:1], noises[0, 0, 0], normal(3, BATCH)]),
            "times": st.one_of(spoiled(f64(1.5, 1.1), not_positive), disordered(f64(1.5, 1.1)), st.just(f64(1.6, 1.1))),
        },
        {"f": CALLBACK},
    ),
    "trigflow_step": Case(
        {"x": x, "velocity": z, "t": angles, "t_low": low_angles},
        {"x": other_shapes(x), "velocity": other_shapes(z), "t": bad_angles, "t_low": bad_low_angles},
        {},
    ),
    "trigflow_tangent": Case(TANGENT, BAD_TANGENT, {"network": CALLBACK}),
    "trigflow_time": Case(
        {"sigma": sigma, "sigma_data": 0.5},
        {"sigma": spoiled(sigma, st.one_of(negative, st.sampled_from([NAN, INF]))), "sigma_data": not_positive},
        {},
    ),
    "trigflow_time_density": Case(
        {"t": angles, "p_mean": -1.0, "p_std": 1.4, "sigma_data": 0.5},
        {
            "t": spoiled(angles, st.one_of(not_positive, beyond)),
            "p_mean": not_finite,
            "p_std": not_positive,
            "sigma_data": not_positive,
        },
        {},
    ),
    "trigflow_velocity": Case(PATH, BAD_PATH, {}),
    "adaptive_weights": Case(
        {"x": x, "y": z, "c": 0.06, "p": 0.5},
        {"x": other_shapes(x), "y": other_shapes(z), "c": not_positive, "p": negative_or_not_finite},
        {},
    ),
    "consistency_tuning_loss": Case(
        {
            "student": tanh,
            "teacher": tanh,
            "x": x,
            "z": z,
            "t": high,
            "r": low,
            "distance": squared_l2,
            "weights": f64(1.0, 2.0, 3.0),
        },
        {
            "x": other_shapes(x),
            "z": other_shapes(z),
            "t": bad_high,
            "r": bad_low,
            "weights": st.one_of(spoiled(f64(1.0, 2.0, 3.0), not_positive), other_shapes(f64(1.0, 2.0, 3.0))),
        },
        TEACHING,
    ),
    "ect_exponent": Case(
        {"step": 30, "steps_per_stage": 8}, {"step": st.integers(max_value=-1), "steps_per_stage": below_one}, {}
    ),
    "ect_mapping": Case(
        {"t": high, "exponent": 2, "q": 2.0, "k": 8.0, "b": 1.0},
        {
            "t": spoiled(high, not_positive),
            "exponent": st.one_of(below_one, st.integers(50)),
            "q": st.one_of(st.floats(max_value=1.0), st.sampled_from([NAN, INF, 1e8])),
            "k": negative_or_not_finite,
            "b": not_positive,
        },
        {},
    ),
    "gap_weights": Case({"t": high, "r": low}, {"t": bad_high, "r": bad_low}, {}),
    "l2": Case({"x": x, "y": z}, {"x": other_shapes(x), "y": other_shapes(z)}, {}),
    "lognormal_level": Case(
        {"u": f64(0.1, 0.5), "p_mean": -1.1, "p_std": 2.0, "sigma_min": 0.002, "sigma_max": 80.0},
        {
            "u": spoiled(f64(0.1, 0.5), st.one_of(not_positive, st.floats(1.0, 1e6))),
            "p_mean": st.one_of(not_finite, st.floats(100.0, 1e6)),
            "p_std": not_positive,
            "sigma_min": st.one_of(negative_or_not_finite, st.floats(80.0, 1e6)),
            "sigma_max": st.one_of(st.floats(max_value=0.002), st.just(NAN)),
        },
        {},
    ),
    "snr_weights": Case(
        {"t": high, "sigma_data": 0.5}, {"t": spoiled(high, not_positive), "sigma_data": not_positive}, {}
    ),
    "boundary_parameterization": Case(
        {"network": tanh, "x": x, **COEFFICIENT},
        {**BAD_COEFFICIENT, "sigma": bad_levels, "x": st.sampled_from([x[:2], torch.tensor(1.0).double()])},
        {"network": CALLBACK},
    ),
    "c_in": Case(
        {"sigma": sigma, "sigma_data": 0.5},
        {"sigma": spoiled(sigma, not_positive), "sigma_data": not_positive},
        {},
    ),
    "c_noise": Case({"sigma": sigma}, {"sigma": spoiled(sigma, not_positive)}, {}),
    "c_out": Case(COEFFICIENT, BAD_COEFFICIENT, {}),
    "c_skip": Case(COEFFICIENT, BAD_COEFFICIENT, {}),
    "cauchy": Case({"x": x, "y": z, "c": 0.03}, {"x": other_shapes(x), "y": other_shapes(z), "c": not_positive}, {}),
    "colorization_mask": Case({}, {}, {}),
    "colorization_operator": Case({}, {}, {}),
    "consistency_matching_loss": Case(
        {"student": tanh, "teacher": tanh, "score": tanh, "x_hi": x, **LOSS},
        {**BAD_LOSS, "x_hi": st.just(x[:2])},
        {**TEACHING, "score": CALLBACK},
    ),
    "consistency_training_loss": Case(
        {"student": tanh, "teacher": tanh, "x": x, "z": z, **LOSS},
        {**BAD_LOSS, "x": other_shapes(x), "z": other_shapes(z)},
        TEACHING,
    ),
    "constant_curriculum": CURRICULUM,
    "continuous_consistency_distillation_loss": Case(
        {**CONTINUOUS, "score": tanh, "x": x},
        {**BAD_CONTINUOUS, "x": st.just(x[:2])},
        {"student": CALLBACK, "score": CALLBACK, "distance": CALLBACK},
    ),
    "continuous_consistency_training_loss": Case(
        {**CONTINUOUS, "x": x, "z": z},
        {**BAD_CONTINUOUS, "x": other_shapes(x), "z": other_shapes(z)},
        {"student": CALLBACK, "distance": CALLBACK},
    ),
    "cosine_curriculum": CURRICULUM,
    "ct_gradient_divergence": Case(
        {"theta": 1.0, "theta_minus": 0.5},
        {"theta": st.one_of(not_finite, st.just(0.5)), "theta_minus": st.one_of(not_finite, st.just(1.0))},
        {},
    ),
    "ct_gradient_divergent_term": Case(
        {"theta": 1.0, "theta_minus": 0.5, **RANGE},
        {"theta": not_finite, "theta_minus": not_finite, **BAD_RANGE},
        {},
    ),
    "ct_gradient_leading_term": Case(
        {"theta": 1.0, "xi": 0.1, "delta_sigma": 0.01, **RANGE},
        {"theta": not_finite, "xi": not_finite, "delta_sigma": not_positive, **BAD_RANGE},
        {},
    ),
    "ct_gradient_limit": Case(
        {"theta": 1.0, "xi": 0.1, **RANGE},
        {"theta": not_finite, "xi": not_finite, **BAD_RANGE},
        {},
    ),
    "ct_loss_limit": Case(
        {"theta": 1.0, "theta_minus": 0.5, **RANGE},
        {"theta": not_finite, "theta_minus": not_finite, **BAD_RANGE},
        {},
    ),
    "delta_consistency_function": Case(
        {"x": x, "sigma": sigma, "xi": x[0], "sigma_min": 0.002},
        {"x": st.just(x[:2]), "sigma": bad_levels, "xi": other_shapes(x[0]), "sigma_min": not_positive},
        {},
    ),
    "denoise": Case({"f": tanh, "x": x, "sigma": sigma}, {"x": st.just(x[:2]), "sigma": bad_levels}, {"f": CALLBACK}),
    "edit": Case(
        {
            "f": tanh,
            "reference": x,
            "operator": inpainting_operator(),
            "mask": x > 0,
            "noises": noises,
            "sigmas": descending,
            "sigma_min": 0.002,
        },
        {
            "reference": other_shapes(x),
            "mask": st.sampled_from([x[:2] > 0, (x > 0)[None], torch.ones(5, dtype=torch.bool)]),
            "noises": bad_noises,
            "sigmas": bad_descending,
            "sigma_min": st.one_of(not_positive, st.floats(0.81, 1e6)),
        },
        {"f": CALLBACK, "operator": CALLBACK},
    ),
    "ema_update": Case(
        {"ema": x, "value": z, "decay": 0.9},
        {
            "ema": other_shapes(x),
            "value": other_shapes(z),
            "decay": st.one_of(negative_or_not_finite, st.floats(1.0, 1e6)),
        },
        {},
    ),
    "euler_step": Case(
        {"x_hi": x, "sigma_hi": f64(1, 2, 80), "sigma_lo": f64(0.5, 2, 0.1), "score_value": z},
        {
            "x_hi": other_shapes(x),
            "sigma_hi": st.one_of(bad_levels, st.just(f64(1, 1.9, 80))),
            "sigma_lo": st.one_of(bad_levels, st.just(f64(0.5, 2.1, 0.1))),
            "score_value": other_shapes(z),
        },
        {},
    ),
    "exponential_curriculum": Case(
        STEPS, {**CURRICULUM.bad, "total_steps": st.one_of(st.integers(max_value=29), st.just(3))}, {}
    ),
    "fourier_embedding": Case(
        {"c_noise": f64(1, 2), "frequencies": f64(0.1, 0.2, 0.3)},
        {"c_noise": st.just(normal(2, 2)), "frequencies": st.just(normal(2, 2))},
        {},
    ),
    "frechet_distance": Case(
        {"mean1": features[0], "cov1": covariance, "mean2": features[1], "cov2": 2 * covariance},
        {
            **{mean: st.one_of(spoiled(features[0], not_finite), st.just(normal(4))) for mean in ("mean1", "mean2")},
            **{
                cov: st.one_of(
                    spoiled(covariance, not_finite),
                    st.just(covariance + f64(0.0, 1e3, 0.0)),
                    st.just(-covariance),
                    st.just(normal(4).diag()),
                )
                for cov in ("cov1", "cov2")
            },
        },
        {},
    ),
    "gaussian_consistency_function": Case(
        {"x": x, "sigma": sigma, "mean": x[0], "std": 0.5, "sigma_min": 0.002},
        {
            "x": st.just(x[:2]),
            "sigma": bad_levels,
            "mean": other_shapes(x[0]),
            "std": negative_or_not_finite,
            "sigma_min": not_positive,
        },
        {},
    ),
    "gaussian_mixture_score": Case(
        {"x": x, "sigma": sigma, "means": z[:2], "stds": f64(0.0, 0.5), "mixture_weights": f64(0.25, 0.75)},
        {
            "x": st.just(x[:2]),
            "sigma": bad_levels,
            "means": st.sampled_from([z, z[:2, :1], z[:2, 0], z[:0]]),
            "stds": st.one_of(spoiled(f64(0.0, 0.5), negative_or_not_finite), st.just(f64(1.0))),
            "mixture_weights": st.one_of(spoiled(f64(0.25, 0.75), negative_or_not_finite), st.just(f64(1.0))),
        },
        {},
    ),
    "heun_step": Case(
        {"x_hi": x, "sigma_hi": f64(1, 2, 80), "sigma_lo": f64(0.5, 2, 0.1), "score": tanh},
        {
            "x_hi": st.just(x[:2]),
            "sigma_hi": st.one_of(bad_levels, st.just(f64(1, 1.9, 80))),
            "sigma_lo": st.one_of(bad_levels, st.just(f64(0.5, 2.1, 0.1))),
        },
        {"score": CALLBACK},
    ),
    "inception_score": Case(
        {"p": f64(0.5, 0.5, 0.0, 1.0).reshape(2, 2)},
        {"p": st.one_of(spoiled(f64(0.5, 0.5, 0.0, 1.0).reshape(2, 2), negative_or_not_finite), st.just(normal(0, 2)))},
        {},
    ),
    "index_from_uniform": Case(
        {"u": f64(0.0, 0.5, 0.99), "pmf": pmf},
        {"u": spoiled(f64(0.0, 0.5), st.one_of(negative_or_not_finite, st.floats(1.0, 1e6))), "pmf": bad_pmf},
        {},
    ),
    "inpainting_operator": Case({}, {}, {}),
    "inverse_gap_weights": Case({"sigmas": sigmas}, {"sigmas": bad_grid}, {}),
    "kernel_distance": Case({"real": features, "fake": features + 1}, {"real": bad_features, "fake": bad_features}, {}),
    "l1": Case({"x": x, "y": z}, {"x": other_shapes(x), "y": other_shapes(z)}, {}),
    "linear_curriculum": CURRICULUM,
    "log_sigma_density": Case(
        {"log_sigma": f64(-7.0, 0.0, 5.0), **RANGE, "rho": 7.0},
        {"log_sigma": spoiled(f64(-7.0, 0.0), not_finite), **BAD_RANGE, "rho": not_positive},
        {},
    ),
    "lognormal_density": Case(
        {"log_sigma": f64(-7.0, 0.0, 5.0), "p_mean": -1.1, "p_std": 2.0},
        {"log_sigma": spoiled(f64(-7.0, 0.0), not_finite), "p_mean": not_finite, "p_std": not_positive},
        {},
    ),
    "lognormal_pmf": Case(
        {"sigmas": sigmas, "p_mean": -1.1, "p_std": 2.0},
        {"sigmas": bad_grid, "p_mean": st.one_of(not_finite, st.floats(100.0, 1e6)), "p_std": not_positive},
        {},
    ),
    "multistep_sample": Case(
        {"f": tanh, "noises": noises, "sigmas": descending, "sigma_min": 0.002},
        {
            "noises": st.sampled_from([noises[:1], noises[0, 0, 0], normal(3, BATCH)]),
            "sigmas": bad_descending,
            "sigma_min": st.one_of(not_positive, st.floats(0.81, 1e6)),
        },
        {"f": CALLBACK},
    ),
    "one_step_sample": Case(
        {"f": tanh, "z": x, "sigma_max": 80.0},
        {"sigma_max": not_positive, "z": st.just(torch.tensor(1.0).double())},
        {"f": CALLBACK},
    ),
    "positional_embedding": Case(
        {"c_noise": f64(1, 2), "width": 6, "max_period": 10000.0},
        {
            "c_noise": st.just(normal(2, 2)),
            "width": st.one_of(below_one, st.integers(0, 50).map(lambda half: 2 * half + 1)),
            "max_period": not_positive,
        },
        {},
    ),
    "precision_recall": Case(
        {"real": features, "fake": features + 1, "k": 3},
        {"real": bad_features, "fake": bad_features, "k": st.one_of(below_one, st.integers(6))},
        {},
    ),
    "probability_flow_drift": Case(
        {"x": x, "sigma": sigma, "score": tanh}, {"x": st.just(x[:2]), "sigma": bad_levels}, {"score": CALLBACK}
    ),
    "pseudo_huber": Case(
        {"x": x, "y": z, "c": 0.03}, {"x": other_shapes(x), "y": other_shapes(z), "c": not_positive}, {}
    ),
    "pseudo_huber_constant": Case({"dim": 3072}, {"dim": below_one}, {}),
    "renoise": Case(
        {"x": x, "z": z, "sigma": 0.5, "sigma_min": 0.002},
        {
            "x": other_shapes(x),
            "z": other_shapes(z),
            "sigma": st.one_of(not_positive, st.floats(0, 0.0019)),
            "sigma_min": st.one_of(not_positive, st.floats(0.51, 1e6)),
        },
        {},
    ),
    "search_intermediate_sigma": Case(
        {"objective": lambda levels: float(levels[1]), "sigmas": sigmas, "before": (80.0,), "after": (0.002,)},
        {
            "objective": st.just(lambda _levels: NAN),
            "sigmas": bad_grid,
            "before": st.sampled_from([(0.001,), (NAN,), (-1.0,), (80.0, 80.0), (1.0, 80.0), (INF,)]),
            "after": st.sampled_from([(100.0,), (NAN,), (0.0,), (0.002, 0.002), (INF,)]),
        },
        {},
    ),
    "sigma_grid": Case(
        {"n": 11, **RANGE, "rho": 7.0}, {"n": st.integers(max_value=1), **BAD_RANGE, "rho": not_positive}, {}
    ),
    "slerp": Case(
        {"z1": x, "z2": z, "alpha": f64(0.0, 0.5, 1.0)},
        {
            "z1": st.one_of(other_shapes(x), st.sampled_from([0 * x, -z])),
            "z2": st.one_of(other_shapes(z), st.sampled_from([0 * z, -x])),
            "alpha": st.one_of(spoiled(f64(0.0, 0.5, 1.0), not_finite), other_shapes(f64(0.0, 0.5, 1.0))),
        },
        {},
    ),
    "sqrt_curriculum": CURRICULUM,
    "square_curriculum": CURRICULUM,
    "squared_l2": Case({"x": x, "y": z}, {"x": other_shapes(x), "y": other_shapes(z)}, {}),
    "stroke_edit": Case(
        {"f": tanh, "reference": x, "noises": noises, "sigmas": descending, "sigma_min": 0.002},
        {
            "reference": other_shapes(x),
            "noises": bad_noises,
            "sigmas": bad_descending,
            "sigma_min": st.one_of(not_positive, st.floats(0.81, 1e6)),
        },
        {"f": CALLBACK},
    ),
    "super_resolution_mask": Case({"channels": 3, "patch": 2}, {"channels": below_one, "patch": below_one}, {}),
    "super_resolution_operator": Case({"patch": 2}, {"patch": below_one}, {}),
    "teacher_ema_decay": Case(
        {"n": 11, "s0": 2, "mu0": 0.9},
        {"n": below_one, "s0": below_one, "mu0": st.one_of(not_positive, st.floats(1.0, 1e6))},
        {},
    ),
    "uniform_pmf": Case({"sigmas": sigmas}, {"sigmas": bad_grid}, {}),
    "uniform_weights": Case({"sigmas": sigmas}, {"sigmas": bad_grid}, {}),
}
