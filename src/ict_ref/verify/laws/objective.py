"""Laws of the objectives, of the steps along the ODE, and of averaging."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, tolerance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column


class Recorder:
    """f(x, sigma) = theta x / (1 + sigma), with a record of its calls; theta has a gradient where a law is of it."""

    def __init__(self, *, gradient: bool = False) -> None:
        self.theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=gradient)
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return f(x, sigma)."""
        self.calls.append((x.detach(), sigma.detach()))
        return self.theta * x / (1 + column(sigma, x))

    def at(self, x: Tensor, sigma: Tensor, role: str) -> None:
        """Raise BrokenError unless it was called once, at (x, sigma)."""
        equal(len(self.calls), 1, f"a number of calls of the {role} of")
        equal(list(self.calls[0][1].shape), [len(x)], f"the {role} gets levels in a shape of")
        close(self.calls[0][1], sigma, rtol=1e-14, what=f"the {role} is called at sigma =")
        close(self.calls[0][0], x, rtol=1e-12, atol=1e-12 * float(x.abs().max()), what=f"the {role} is called at x =")


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Return ||x - y||_2^2."""
    return (x - y).reshape(len(x), -1).square().sum(1)


def ends(sigmas: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return sigma_i and sigma_{i+1}."""
    return sigmas[index], sigmas[index + 1]


def from_data(f: Function) -> Function:
    """Return the training loss of one network as student and teacher; it takes no score."""

    def loss(*, network: Recorder, slope: Tensor | float = 1.0, **others: Tensor) -> Tensor:  # noqa: ARG001
        found: Tensor = f(student=network, teacher=network, distance=squared, **others)
        return found

    return loss


def from_euler(f: Function) -> Function:
    """Return the matching loss of one network as student and teacher, for a score of `slope` times that of N(0, I)."""

    def loss(
        *, network: Recorder, x: Tensor, z: Tensor, sigmas: Tensor, index: Tensor, weights: Tensor, slope: Any = 1.0
    ) -> Tensor:
        x_hi = x + column(sigmas[index + 1], x) * z
        found: Tensor = f(
            student=network,
            teacher=network,
            score=lambda y, sigma: -slope * y / (1 + column(sigma, y) ** 2),
            x_hi=x_hi,
            index=index,
            sigmas=sigmas,
            distance=squared,
            weights=weights,
        )
        return found

    return loss


LOSSES: dict[str, Callable[[Function], Function]] = {
    "consistency_training_loss": from_data,
    "consistency_matching_loss": from_euler,
}


@law("consistency_training_loss", needs=("float32",))
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def compares_neighbouring_levels_of_one_path(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """The student is called at (x + sigma_{i+1} z, sigma_{i+1}), the teacher at (x + sigma_i z, sigma_i)."""
    student, teacher = Recorder(), Recorder()
    weights = torch.ones_like(sigmas[1:])
    f(student=student, teacher=teacher, x=x, z=z, index=index, sigmas=sigmas, distance=squared, weights=weights)
    low, high = ends(sigmas, index)
    student.at(x + column(high, x) * z, high, "student")
    teacher.at(x + column(low, x) * z, low, "teacher")


@law("consistency_training_loss", needs=("gradients", "float32"))
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def sends_no_gradient_to_the_teacher(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """d loss / d theta- = 0; d loss / d theta is the student's alone."""
    student, teacher, weights = Recorder(gradient=True), Recorder(gradient=True), torch.ones_like(sigmas[1:])
    loss = f(student=student, teacher=teacher, x=x, z=z, index=index, sigmas=sigmas, distance=squared, weights=weights)
    needs(isinstance(loss, Tensor) and loss.requires_grad, "the loss has no gradient: nothing reaches the student")
    torch.autograd.backward(loss.sum())
    needs(student.theta.grad is not None, "no gradient reaches the student")
    needs(teacher.theta.grad is None or float(teacher.theta.grad) == 0, "a gradient passes through the teacher")


@law(*LOSSES, calls=LOSSES, needs=("gradients", "float32"))
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def has_the_gradient_of_the_student_alone(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """With one network as student and teacher: d loss / d theta = lambda 2 (f_hi - f_lo) . df_hi / d theta.

    The teacher's call and the score do not add to it.
    """
    network, weights = Recorder(gradient=True), 1 / sigmas.diff()
    slope = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss = f(network=network, x=x, z=z, index=index, sigmas=sigmas, weights=weights, slope=slope)
    needs(isinstance(loss, Tensor) and loss.requires_grad, "the loss has no gradient: nothing reaches the student")
    torch.autograd.backward(loss.sum())
    needs(slope.grad is None or float(slope.grad) == 0, "a gradient passes through the score")
    (x_hi, high), (x_lo, low) = sorted(network.calls, key=lambda call: -float(call[1].sum()))
    f_hi, f_lo = (0.7 * at / (1 + column(level, at)) for at, level in ((x_hi, high), (x_lo, low)))
    parts = weights[index] * (2 * (f_hi - f_lo) * f_hi / 0.7).reshape(len(x), -1).sum(1)
    needs(network.theta.grad is not None, "no gradient reaches the student")
    # The terms that cancel, in an example and between examples, are rounded before.
    terms = weights[index] * ((f_hi.abs() + f_lo.abs()) * f_hi.abs()).reshape(len(x), -1).sum(1)
    close(network.theta.grad, parts.sum(), atol=1e-12 * float(terms.sum()), what="a gradient of")


@law("consistency_training_loss", needs=("float32",))
@given(z=some.images, index=some.intervals, sigmas=some.grids)
def is_0_for_the_exact_function_of_a_point(f: Function, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """p_data = delta(x - xi): f*(x, sigma) = sigma_min / sigma x + (1 - sigma_min / sigma) xi has no loss."""
    xi, weights = 0.5 * torch.ones_like(z), torch.ones_like(sigmas[1:])

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        kept = sigmas[0] / column(sigma, x)
        return kept * x + (1 - kept) * xi

    loss = f(student=exact, teacher=exact, x=xi, z=z, index=index, sigmas=sigmas, distance=squared, weights=weights)
    # Rounding of x + sigma z grows with sigma_max; nothing else is left.
    most = (tolerance(1e-13) * float(sigmas[-1]) * (1 + float(z.abs().max()))) ** 2 * z[0].numel()
    needs(loss.abs() <= most, f"the loss is {loss.tolist()}, should be 0")


@law(*LOSSES, calls=LOSSES, needs=("float32",))
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def is_weighted_by_its_own_cell(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """loss(lambda) = lambda(sigma_i) loss(1), one value per example."""
    weights = 1 / sigmas.diff()
    weighted, plain = (
        f(network=Recorder(), x=x, z=z, index=index, sigmas=sigmas, weights=lambda_)
        for lambda_ in (weights, torch.ones_like(weights))
    )
    equal(list(plain.shape), [len(x)], "a shape of")
    close(weighted, weights[index] * plain, rtol=1e-12)


@law(*LOSSES, calls=LOSSES, needs=("float32",))
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def sees_each_example_alone(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """The losses of a batch are the losses of its examples."""
    weights = 1 / sigmas.diff()

    def loss(part: slice) -> Tensor:
        found: Tensor = f(network=Recorder(), x=x[part], z=z[part], index=index[part], sigmas=sigmas, weights=weights)
        return found

    alone = torch.cat([loss(slice(j, j + 1)) for j in range(len(x))])
    close(loss(slice(None)), alone, rtol=1e-10, atol=1e-20 * float(weights.max()) * float(sigmas[-1]) ** 2)


DIFFERENCES: dict[str, Callable[[Function], Function]] = {
    "consistency_training_loss": lambda f: partial(_difference, f, formulas.consistency_matching_loss),
    "consistency_matching_loss": lambda f: partial(_difference, formulas.consistency_training_loss, f),
}


@law(*DIFFERENCES, calls=DIFFERENCES, needs=("float64",))
@given(mean=some.means, std=some.stds, theta=some.points)
def is_the_other_loss_up_to_o_of_delta_sigma(f: Function, mean: float, std: float, theta: float) -> None:
    """CM, Theorem 2, with the true score: (L_CT^N - L^N) / Delta sigma falls like 1/N, also for theta- != theta.

    For N(mean, std^2), |f_theta|, |f_theta'|, |f_theta''| <= 1 and squared l2 it is at most 3 Delta sigma: Euler's
    point is the mean of x + sigma_i z given x_{i+1}, about which z has a variance of at most 1.
    """
    coarse, fine = (f(mean=mean, std=std, theta=theta, intervals=intervals) for intervals in (64, 128))
    for ratio, intervals in ((coarse, 64), (fine, 128)):
        needs(abs(ratio) <= 3 / intervals + 1e-7, f"(L_CT - L) / Delta sigma = {ratio} for Delta sigma = 1/{intervals}")
    # A / N + B / N^2: what is left without the first term. Every |B| that was tried was below 0.13.
    limit = 2 * fine - coarse
    needs(abs(limit) <= 1 / 64**2, f"(L_CT - L) / Delta sigma has the limit {limit}, should be 0")


def _difference(
    training: Function, matching: Function, *, mean: float, std: float, theta: float, intervals: int
) -> float:
    """Return (L_CT - L) / Delta sigma on a linear grid from 0.1 to 1.1."""
    x, z, chances = _normal_nodes(mean, std)
    sigmas = torch.linspace(0.1, 1.1, intervals + 1, dtype=torch.float64)
    index = torch.arange(intervals).repeat_interleave(len(x))
    x, z, chances = x.repeat(intervals, 1), z.repeat(intervals, 1), chances.repeat(intervals) / intervals

    def student(at: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(at + theta) / (1 + column(sigma, at))

    def teacher(at: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(at) / (1 + column(sigma, at))

    def score(at: Tensor, sigma: Tensor) -> Tensor:
        return (mean - at) / (std**2 + column(sigma, at) ** 2)

    both = {"student": student, "teacher": teacher, "index": index, "sigmas": sigmas, "distance": squared}
    both |= {"weights": torch.ones_like(sigmas[1:])}
    losses = training(x=x, z=z, **both), matching(score=score, x_hi=x + column(sigmas[index + 1], z) * z, **both)
    return float((chances * (losses[0] - losses[1])).sum()) * intervals


def _normal_nodes(mean: float, std: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return x ~ N(mean, std^2) and z ~ N(0, 1) with their probabilities: Gauss and Hermite's nodes, for smooth f."""
    (x, p), (z, q) = (np.polynomial.hermite_e.hermegauss(count) for count in (28, 20))
    nodes = torch.cartesian_prod(torch.from_numpy(x), torch.from_numpy(z))
    chances = torch.cartesian_prod(torch.from_numpy(p), torch.from_numpy(q)).prod(1)
    return mean + std * nodes[:, :1], nodes[:, 1:], chances / chances.sum()


@law("consistency_matching_loss", needs=("float32",))
@given(x=some.images, y=some.images, index=some.intervals, sigmas=some.grids)
def steps_down_by_euler_along_the_score(f: Function, x: Tensor, y: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """The student is at (x_{i+1}, sigma_{i+1}), the teacher at x_{i+1} - (sigma_i - sigma_{i+1}) sigma_{i+1} score."""
    student, teacher, weights = Recorder(), Recorder(), torch.ones_like(sigmas[1:])
    asked: list[Tensor] = []

    def score(at: Tensor, sigma: Tensor) -> Tensor:
        asked.append(sigma)
        return y / column(sigma, at) ** 2

    f(student=student, teacher=teacher, score=score, x_hi=x, index=index, sigmas=sigmas, distance=squared,
      weights=weights)  # fmt: skip
    low, high = ends(sigmas, index)
    equal(len(asked), 1, "a number of calls of the score of")
    close(asked[0], high, rtol=1e-14, what="the score is called at sigma =")
    student.at(x, high, "student")
    teacher.at(x - column((low - high) / high, x) * y, low, "teacher")


@law("consistency_matching_loss", needs=("float32",))
@given(z=some.images, index=some.intervals, sigmas=some.grids)
def is_the_training_loss_for_a_single_point(f: Function, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """p_data = delta(x - xi): Euler's point is xi + sigma_i z, and Eqs. (3) and (5) are the same number."""
    xi, weights = 0.5 * torch.ones_like(z), torch.ones_like(sigmas[1:])
    x_hi = xi + column(sigmas[index + 1], z) * z
    got = f(
        student=Recorder(),
        teacher=Recorder(),
        score=lambda x, sigma: -(x - xi) / column(sigma, x) ** 2,
        x_hi=x_hi,
        index=index,
        sigmas=sigmas,
        distance=squared,
        weights=weights,
    )
    expected = formulas.consistency_training_loss(
        Recorder(), Recorder(), xi, z, index, sigmas, distance=squared, weights=weights
    )
    scale = (float(sigmas[-1]) * (1 + float(z.abs().max()))) ** 2 * z[0].numel()
    close(got, expected, atol=1e-12 * scale)


@law("probability_flow_drift")
@given(x=some.images, y=some.images, sigma=some.noise_levels)
def is_the_residual_of_the_denoiser(f: Function, x: Tensor, y: Tensor, sigma: Tensor) -> None:
    """score = (D - x) / sigma^2: drift = (x - D) / sigma."""
    got = f(x=x, sigma=sigma, score=lambda at, level: (y - at) / column(level, at) ** 2)
    size = float(x.abs().max() + y.abs().max()) / float(sigma.min())
    close(got, (x - y) / column(sigma, x), atol=1e-13 * size)


@law("euler_step")
@given(z=some.images, sigma_hi=some.upper_levels, fraction=some.fractions)
def is_exact_for_a_single_point(f: Function, z: Tensor, sigma_hi: Tensor, fraction: float) -> None:
    """p_data = delta(x - xi): from xi + sigma_{i+1} z the step leads to xi + sigma_i z."""
    low, xi = sigma_hi * (0.1 + 0.9 * fraction), 0.5
    x_hi = xi + column(sigma_hi, z) * z
    got = f(x_hi=x_hi, sigma_hi=sigma_hi, sigma_lo=low, score_value=-(x_hi - xi) / column(sigma_hi, z) ** 2)
    size = float(sigma_hi.max()) * float(1 + z.abs().max()) + 1
    close(got, xi + column(low, z) * z, atol=1e-12 * size)


def with_constant_score(f: Function) -> Function:
    """Return a step that takes the value of a score as one that takes the function."""
    return lambda score_value, **others: f(score=lambda *_: score_value, **others)


@law("euler_step", "heun_step", calls={"heun_step": with_constant_score})
@given(x=some.images, y=some.images, sigma_hi=some.upper_levels)
def stays_where_the_levels_are_equal(f: Function, x: Tensor, y: Tensor, sigma_hi: Tensor) -> None:
    """sigma_i = sigma_{i+1}: x_i = x_{i+1}."""
    close(f(x_hi=x, sigma_hi=sigma_hi, sigma_lo=sigma_hi, score_value=y), x, rtol=1e-14)


@law("heun_step")
@given(x=some.images, sigma_hi=some.upper_levels, fraction=some.fractions)
def is_the_trapezoidal_rule_on_euler_s_prediction(f: Function, x: Tensor, sigma_hi: Tensor, fraction: float) -> None:
    """x_i is half Euler's point and half the one with the drift at its end, for the score of N(0, I)."""
    low = sigma_hi * (0.1 + 0.9 * fraction)

    def score(at: Tensor, sigma: Tensor) -> Tensor:
        return -at / (1 + column(sigma, at) ** 2)

    first = x - column((low - sigma_hi) * sigma_hi, x) * score(x, sigma_hi)
    second = x - column((low - sigma_hi) * low, x) * score(first, low)
    got = f(x_hi=x, sigma_hi=sigma_hi, sigma_lo=low, score=score)
    close(got, (first + second) / 2, atol=1e-12 * float(x.abs().max()))


@law("ema_update")
@given(ema=some.images, value=some.images, decay=some.decays, m=some.small_integers)
def has_a_closed_form(f: Function, ema: Tensor, value: Tensor, decay: float, m: int) -> None:
    """After m updates by a constant v: decay^m ema + (1 - decay^m) v."""
    now = ema
    for _ in range(m):
        now = f(ema=now, value=value, decay=decay)
    kept = decay**m
    close(now, kept * ema + (1 - kept) * value, atol=1e-13 * float(ema.abs().max() + value.abs().max()))


@law("ema_update")
@given(ema=some.images, value=some.images)
def is_the_value_for_decay_0(f: Function, ema: Tensor, value: Tensor) -> None:
    """mu = 0, iCT's teacher: theta- = theta."""
    close(f(ema=ema, value=value, decay=0.0), value, rtol=1e-14, atol=1e-14 * float(ema.abs().max()))


@law("ema_update", needs=("gradients",))
@given(ema=some.images, value=some.images, decay=some.decays)
def carries_no_gradient(f: Function, ema: Tensor, value: Tensor, decay: float) -> None:
    """theta- <- stopgrad(...): the EMA weights do not carry a gradient."""
    now = f(ema=ema, value=value.clone().requires_grad_(), decay=decay)
    needs(isinstance(now, Tensor) and not now.requires_grad, "the EMA weights have a gradient")


@law("ema_update")
@given(ema=some.images, value=some.images, decay=some.decays)
def lies_between(f: Function, ema: Tensor, value: Tensor, decay: float) -> None:
    """min(ema, v) <= updated <= max(ema, v)."""
    now, slack = f(ema=ema, value=value, decay=decay), tolerance(1e-12) * (ema.abs() + value.abs())
    inside = (now >= torch.minimum(ema, value) - slack) & (now <= torch.maximum(ema, value) + slack)
    needs(inside, f"got {now.flatten()[:6].tolist()}, which is not between")


def from_score(f: Function) -> Function:
    """Return the continuous distillation loss as one of the training loss's arguments: for the score of N(0, I)."""
    score = lambda y, level: -y / (1 + column(level, y) ** 2)  # noqa: E731
    return lambda z, **others: f(score=score, **others)  # noqa: ARG005


CONTINUOUS = ("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
FROM_SCORE = {"continuous_consistency_distillation_loss": from_score}


@law(*CONTINUOUS, calls=FROM_SCORE, needs=("gradients",))
@given(x=some.images, z=some.images, sigma=some.noise_levels)
def sends_gradient_through_the_first_factor_alone(f: Function, x: Tensor, z: Tensor, sigma: Tensor) -> None:
    """f linear in theta: the gradient is loss / theta; were D f in the graph too it would be 2 loss / theta, or 0."""
    network, ones = Recorder(gradient=True), torch.ones_like(sigma)
    loss = f(student=network, x=x, z=z, sigma=sigma, weights=ones, distance=squared)
    needs(isinstance(loss, Tensor) and loss.requires_grad, "the loss has no gradient: nothing reaches the student")
    torch.autograd.backward(loss.sum())
    needs(network.theta.grad is not None, "no gradient reaches the student")
    expected = loss.detach().sum() / 0.7
    close(network.theta.grad, expected, atol=1e-12 * float(loss.detach().abs().sum()), what="a gradient of")


@law(*CONTINUOUS, calls=FROM_SCORE)
@given(x=some.images, z=some.images, sigma=some.noise_levels)
def is_weighted_per_example(f: Function, x: Tensor, z: Tensor, sigma: Tensor) -> None:
    """loss(lambda) = lambda loss(1), with each example's own lambda."""
    weights = torch.arange(1, len(sigma) + 1, dtype=torch.float64)
    weighted, plain = (
        f(student=Recorder(), x=x, z=z, sigma=sigma, weights=lambda_, distance=squared)
        for lambda_ in (weights, torch.ones_like(weights))
    )
    close(weighted, weights * plain, rtol=1e-10)


LAWS: tuple[Laws, ...] = (
    compares_neighbouring_levels_of_one_path,
    sends_no_gradient_to_the_teacher,
    has_the_gradient_of_the_student_alone,
    is_0_for_the_exact_function_of_a_point,
    is_weighted_by_its_own_cell,
    sees_each_example_alone,
    is_the_other_loss_up_to_o_of_delta_sigma,
    steps_down_by_euler_along_the_score,
    is_the_training_loss_for_a_single_point,
    is_the_residual_of_the_denoiser,
    is_exact_for_a_single_point,
    stays_where_the_levels_are_equal,
    is_the_trapezoidal_rule_on_euler_s_prediction,
    has_a_closed_form,
    is_the_value_for_decay_0,
    carries_no_gradient,
    lies_between,
    sends_gradient_through_the_first_factor_alone,
    is_weighted_per_example,
)
