"""Every formula of iCT's successors equals its literal form in `ict_ref.papers`, where rounding does not hurt that."""

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref import formulas
from ict_ref.papers import ect, scm, slct, tcm
from properties.strategies import levels_of, sigma_datas
from properties.test_paper import EVERYWHERE, Domain, arguments, different, examples, gradients, huber, student, teacher

PAPERS = {"ECT": ect, "sCM": scm, "TCM": tcm, "sLCT": slct}


def vectors_of(one: st.SearchStrategy[float]) -> st.SearchStrategy[Tensor]:
    """Return vectors of one to eight numbers."""
    return st.lists(one, min_size=1, max_size=8).map(lambda values: torch.tensor(values, dtype=torch.float64))


levels = vectors_of(st.floats(0.01, 80.0))
uniforms = vectors_of(st.floats(0.01, 0.99))


def pairs(drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with r between t / 4 and 3 t / 4."""
    return drawn | {"r": drawn["t"] * (0.5 + 0.25 * torch.cos(drawn["t"]))}


def tuned(drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a loss."""
    weights = 1 / drawn["t"]
    return pairs(drawn) | {"student": student, "teacher": student, "distance": huber, "weights": weights}


def turned(drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with an angle from 0.05 to 1.5 for each level."""
    return drawn | {"t": torch.atan(2 * drawn["t"]).clamp(0.05, 1.5)}


def network(y: Tensor, t: Tensor) -> Tensor:
    """Return a network whose derivatives are not simple."""
    return torch.tanh(y) * t.cos().reshape(-1, *(1 for _ in y.shape[1:]))


def with_network(drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with a network, and angles."""
    return turned(drawn) | {"network": network}


angles = vectors_of(st.floats(0.01, 1.55))
sigma_data = st.floats(0.2, 2.0)
warmup = st.floats(0.0, 1.0)

DOMAINS: dict[tuple[str, str], Domain] = {
    ("ECT", "ect_mapping"): Domain(
        "levels of the paper, up to 10 stages",
        arguments(
            t=levels,
            exponent=st.integers(1, 10),
            q=st.floats(1.5, 8.0),
            k=st.floats(0.0, 20.0),
            b=st.floats(0.25, 4.0),
        ),
        1000.0,
    ),
    ("ECT", "ect_exponent"): Domain(
        "k / d is not rounded over a whole number",
        arguments(step=st.integers(0, 10**6), steps_per_stage=st.integers(1, 50_000)),
    ),
    ("ECT", "lognormal_level"): Domain(
        "the range is within 3 P_std of P_mean",
        arguments(
            u=uniforms,
            p_mean=st.floats(-2.0, 0.5),
            p_std=st.floats(1.5, 3.0),
            sigma_min=st.sampled_from([0.0, 0.01, 0.1]),
            sigma_max=st.sampled_from([2.0, 40.0, math.inf]),
        ),
    ),
    ("ECT", "gap_weights"): Domain(EVERYWHERE, arguments(t=levels).map(pairs)),
    ("ECT", "snr_weights"): Domain(EVERYWHERE, arguments(t=levels, sigma_data=sigma_datas)),
    ("ECT", "l2"): Domain(EVERYWHERE, examples("x", "y")),
    ("ECT", "adaptive_weights"): Domain(EVERYWHERE, examples("x", "y", c=st.floats(0.01, 3.0), p=st.floats(0.0, 2.0))),
    ("ECT", "consistency_tuning_loss"): Domain(
        "d well-conditioned, as for pseudo_huber, and r > 0", examples("x", "z", t=levels_of).map(tuned), 1.0
    ),
    ("sCM", "trigflow_time"): Domain(EVERYWHERE, arguments(sigma=levels, sigma_data=sigma_data)),
    ("sCM", "trigflow_level"): Domain(EVERYWHERE, arguments(t=angles, sigma_data=sigma_data)),
    ("sCM", "trigflow_interpolant"): Domain(EVERYWHERE, examples("x0", "z", t=levels_of).map(turned), 10.0),
    ("sCM", "trigflow_velocity"): Domain(EVERYWHERE, examples("x0", "z", t=levels_of).map(turned), 10.0),
    ("sCM", "trigflow_step"): Domain(
        EVERYWHERE,
        examples("x", "velocity", t=levels_of).map(lambda drawn: turned(drawn) | {"t_low": turned(drawn)["t"] / 2}),
        10.0,
    ),
    ("sCM", "trigflow_parameterization"): Domain(
        EVERYWHERE, examples("x", t=levels_of, sigma_data=sigma_data).map(with_network), 10.0
    ),
    ("sCM", "trigflow_tangent"): Domain(
        EVERYWHERE,
        examples("x", "velocity", t=levels_of, sigma_data=sigma_data, warmup=warmup).map(with_network),
        100.0,
    ),
    ("sCM", "trigflow_difference"): Domain(
        "t' = t / 2",
        examples("x", "velocity", t=levels_of, sigma_data=sigma_data, warmup=warmup).map(
            lambda drawn: with_network(drawn) | {"t_low": turned(drawn)["t"] / 2}
        ),
        1000.0,
    ),
    ("sCM", "tangent_warmup"): Domain(
        EVERYWHERE, arguments(step=st.integers(0, 10**5), warmup_steps=st.integers(1, 20_000))
    ),
    ("sCM", "normalized_tangent"): Domain(EVERYWHERE, examples("g", c=st.floats(0.01, 2.0))),
    ("sCM", "adaptive_weighting"): Domain(
        EVERYWHERE,
        arguments(squared_norm=levels, dim=st.integers(1, 3072)).map(
            lambda drawn: drawn | {"log_weight": drawn["squared_norm"].cos()}
        ),
        10.0,
    ),
    ("sCM", "scm_loss"): Domain(
        EVERYWHERE,
        examples("x", "velocity", t=levels_of, c=st.floats(0.05, 1.0), warmup=warmup, sigma_data=sigma_data).map(
            lambda drawn: with_network(drawn) | {"log_weight": drawn["t"].cos()}
        ),
        100.0,
    ),
    ("sCM", "trigflow_time_density"): Domain(
        EVERYWHERE,
        arguments(t=angles, p_mean=st.floats(-2.0, 1.0), p_std=st.floats(0.5, 3.0), sigma_data=sigma_data),
    ),
    ("sCM", "trigflow_sample"): Domain(
        EVERYWHERE,
        examples("x", "z").map(
            lambda drawn: {
                "f": student,
                "noises": torch.stack([drawn["x"], drawn["z"]]),
                "times": torch.tensor([1.5, 1.1], dtype=torch.float64),
            }
        ),
        10.0,
    ),
    ("TCM", "truncated"): Domain(
        EVERYWHERE,
        examples("x", sigma=levels_of, sigma_cut=st.floats(0.01, 10.0)).map(
            lambda drawn: drawn | {"f": student, "f0": teacher}
        ),
    ),
    ("TCM", "truncated_weights"): Domain(
        EVERYWHERE,
        arguments(boundary_weight=st.floats(0.0, 10.0), count=st.integers(2, 12)).map(
            lambda drawn: {
                "boundary_weight": drawn["boundary_weight"],
                "boundary": torch.arange(drawn["count"]) % 3 == 1,
            }
        ),
    ),
    ("TCM", "log_student_t_density"): Domain(
        "the range is not far out in a tail",
        arguments(
            log_sigma=vectors_of(st.floats(0.01, 2.3)),
            loc=st.floats(-0.5, 1.0),
            scale=st.floats(0.2, 2.0),
            dof=st.floats(0.01, 5.0),
            sigma_max=st.floats(10.0, 80.0),
        ),
    ),
    ("sLCT", "cauchy"): Domain("||x - y|| >= c / 10: below it the sum loses digits", different()),
}


@pytest.mark.parametrize(("key", "name"), DOMAINS)
@given(st.data())
def test_the_formula_equals_its_literal_form(key: str, name: str, data: st.DataObject) -> None:
    """ict_ref.formulas.f = ict_ref.papers.PAPER.f on the domain of f, and so are their gradients; integers exactly."""
    words, strategy, scale = DOMAINS[key, name]
    drawn = data.draw(strategy)
    expected, slopes = gradients(getattr(PAPERS[key], name), drawn)
    got, ours = gradients(getattr(formulas, name), drawn)
    assert type(got) is type(expected)
    for mine, theirs in zip(
        got if isinstance(got, tuple) else (got,), expected if isinstance(got, tuple) else (expected,), strict=True
    ):
        if isinstance(theirs, Tensor):
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(
                mine, theirs, rtol=1e-11, atol=1e-14 * scale + 1e-300, msg=lambda m: f"{m}\non {words}"
            )
        else:
            assert mine == (theirs if isinstance(theirs, int) else pytest.approx(theirs, rel=1e-12, abs=0.0)), words
    assert len(ours) == len(slopes)
    for mine, theirs in zip(ours, slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-13 * max(1.0, float(theirs.abs().max())))


def test_every_literal_form_has_a_domain() -> None:
    """Every public function of ict_ref.papers is compared with its formula."""
    public = {
        (key, name)
        for key, paper in PAPERS.items()
        for name, value in vars(paper).items()
        if getattr(value, "__module__", "") == paper.__name__ and not name.startswith("_")
    }
    assert set(DOMAINS) == public
