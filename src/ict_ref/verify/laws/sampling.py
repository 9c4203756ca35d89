"""Laws of sampling in one step and in several, and of the search for its levels."""

import math

import torch
from torch import Tensor

from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, norm, refused
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column

SIGMA_MIN = 0.002


class Gaussian:
    """f*(x, sigma) = m + sqrt((s^2 + sigma_min^2) / (s^2 + sigma^2)) (x - m), which counts its calls."""

    def __init__(self, mean: float = 0.3, std: float = 0.5) -> None:
        self.mean, self.variance, self.calls = mean, std**2, 0

    def gain(self, sigma: Tensor) -> Tensor:
        """Return the factor of x - m."""
        return ((self.variance + SIGMA_MIN**2) / (self.variance + sigma**2)).sqrt()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return f*(x, sigma)."""
        self.calls += 1
        return self.mean + column(self.gain(sigma), x) * (x - self.mean)


@law("multistep_sample", needs=("float32",))
@given(levels=some.descending_levels, mean=some.means, std=some.stds)
def has_a_gaussian_s_variance(f: Function, levels: Tensor, mean: float, std: float) -> None:
    """With a Gaussian's f* the variance of samples follows the recursion of Algorithm 1, at any levels."""
    exact, count = Gaussian(mean, std), len(levels)
    # Row 0 has no noise; row 1 + k to a unit of noise k alone: samples are linear in the noises.
    noises = torch.cat([torch.zeros(count, 1), torch.eye(count)], dim=1).double()
    x = f(f=exact, noises=noises, sigmas=levels)
    gains = exact.gain(levels)
    variance, shift = (gains[0] * levels[0]) ** 2, (1 - gains[0]) * mean
    for gain, level in zip(gains[1:], levels[1:], strict=True):
        variance = gain**2 * (variance + level**2 - SIGMA_MIN**2)
        shift = mean + gain * (shift - mean)
    close((x[1:] - x[0]).square().sum(), variance, what="a variance of")
    close(x[0], shift, atol=1e-11, what="a mean of")


@law("multistep_sample", needs=("float64",))
@given(x=some.images, z=some.images)
def adds_nothing_at_sigma_min(f: Function, x: Tensor, z: Tensor) -> None:
    """A last level sigma_min adds noise of variance 0, and f(x, sigma_min) = x: exactly nothing."""
    top = torch.tensor([80.0], dtype=torch.float64)
    both = torch.cat([top, torch.tensor([SIGMA_MIN], dtype=torch.float64)])
    once = f(f=Gaussian(0.0), noises=x[None], sigmas=top)
    equal(f(f=Gaussian(0.0), noises=torch.stack([x, z]), sigmas=both), once)


@law("multistep_sample", needs=("float32",))
@given(levels=some.descending_levels)
def costs_one_evaluation_per_level(f: Function, levels: Tensor) -> None:
    """K levels, K network evaluations."""
    exact = Gaussian()
    f(f=exact, noises=torch.zeros(len(levels), 2, 3, dtype=torch.float64), sigmas=levels)
    equal(exact.calls, len(levels), "a number of evaluations of")


@law("multistep_sample", kind="accepts", needs=("float32",))
@given(levels=some.descending_levels)
def needs_levels_that_descend(f: Function, levels: Tensor) -> None:
    """sigma_max = sigma_1 > sigma_2 > ... >= sigma_min."""
    noises = torch.zeros(len(levels) + 1, 2, dtype=torch.float64)
    for last, what in ((levels[-1], "two equal levels"), (levels[0] + 1, "rising levels"), (levels[0] * 0, "level 0")):
        bad = torch.cat([levels, last.reshape(1)])
        refused(lambda bad=bad: f(f=Gaussian(), noises=noises, sigmas=bad), what)  # type: ignore[misc]


@law("one_step_sample")
@given(z=some.images, sigma_max=some.sigma_maxs)
def asks_f_at_sigma_max(f: Function, z: Tensor, sigma_max: float) -> None:
    """x = f(sigma_max z, sigma_max): the identity returns sigma_max z, and each example has the level sigma_max."""
    close(f(f=lambda x, _: x, z=z, sigma_max=sigma_max), sigma_max * z, rtol=1e-14)
    seen: list[Tensor] = []

    def level(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        return column(sigma, x).expand_as(x)

    asked = f(f=level, z=z, sigma_max=sigma_max)
    equal(list(seen[0].shape), [len(z)], "f gets levels in a shape of")
    close(asked, torch.full_like(z, sigma_max), rtol=1e-14, what="f is called at sigma =")


@law("one_step_sample")
@given(z=some.images)
def sees_each_example_alone(f: Function, z: Tensor) -> None:
    """The samples of a batch are the samples of its noises."""
    alone = [f(f=Gaussian(), z=z[j : j + 1]) for j in range(len(z))]
    close(f(f=Gaussian(), z=z), torch.cat(alone), atol=1e-15)


@law("renoise")
@given(x=some.images, z=some.images, sigma_hi=some.upper_levels)
def adds_variances(f: Function, x: Tensor, z: Tensor, sigma_hi: Tensor) -> None:
    """sigma_min^2 + (added deviation)^2 = sigma^2, exactly nothing at sigma_min, and x comes through unchanged."""
    sigma = SIGMA_MIN + float(sigma_hi[0])
    added = f(x=torch.zeros_like(z), z=torch.ones_like(z), sigma=sigma)
    close(added**2 + SIGMA_MIN**2, torch.full_like(z, sigma**2), rtol=1e-13, what="variances of")
    equal(f(x=x, z=z, sigma=SIGMA_MIN), x)
    equal(f(x=x, z=torch.zeros_like(z), sigma=sigma), x)


@law("search_intermediate_sigma", needs=("float32",))
@given(sigmas=some.grids, interval=some.positions, a=some.factors)
def finds_the_bottom_of_a_valley(f: Function, sigmas: Tensor, interval: int, a: float) -> None:
    """The arg min over the nodes, wherever it lies, however lopsided the valley is."""
    bottom = float(sigmas[interval % len(sigmas)])

    def objective(levels: Tensor) -> float:
        away = math.log(float(levels[0]) / bottom)
        return -away if away < 0 else a * away

    close(f(objective=objective, sigmas=sigmas), bottom, rtol=1e-15)


@law("search_intermediate_sigma", needs=("float32",))
@given(sigmas=some.grids, interval=some.positions)
def scores_few_levels_and_none_twice(f: Function, sigmas: Tensor, interval: int) -> None:
    """Two scores for each third that is cut off, ln(n) / ln(3/2) times, and at most four at the end."""
    bottom, asked = float(sigmas[interval % len(sigmas)]), []

    def objective(levels: Tensor) -> float:
        asked.append(float(levels[0]))
        return abs(math.log(asked[-1] / bottom))

    f(objective=objective, sigmas=sigmas)
    needs(len(asked) == len(set(asked)), "a level is scored twice")
    most = 2 * math.log(len(sigmas)) / math.log(1.5) + 4
    needs(len(asked) <= most, f"{len(asked)} levels of {len(sigmas)} are scored, at most {most:.0f} are needed")


@law("slerp")
@given(x=some.images, y=some.images)
def runs_from_one_to_the_other(f: Function, x: Tensor, y: Tensor) -> None:
    """alpha = 0 is the first, alpha = 1 the second."""
    z1, z2 = _apart(x, y)
    for end, alpha in ((z1, 0.0), (z2, 1.0)):
        close(f(z1=z1, z2=z2, alpha=torch.full((len(x),), alpha, dtype=torch.float64)), end, rtol=1e-12, atol=1e-12)


@law("slerp")
@given(x=some.images, y=some.images, fraction=some.fractions)
def keeps_the_length_of_unit_vectors(f: Function, x: Tensor, y: Tensor, fraction: float) -> None:
    """||z1|| = ||z2|| = 1: every point between has length 1, and alpha backwards is the way back."""
    z1, z2 = (z / column(norm(z), z) for z in _apart(x, y))
    alpha = torch.full((len(x),), fraction, dtype=torch.float64)
    there, back = f(z1=z1, z2=z2, alpha=alpha), f(z1=z2, z2=z1, alpha=1 - alpha)
    close(norm(there), torch.ones(len(x)), what="lengths of")
    close(there, back, atol=1e-12)


@law("slerp")
@given(angle=some.angles, fraction=some.fractions)
def turns_by_its_share_of_the_angle(f: Function, angle: float, fraction: float) -> None:
    """From e1 to cos(t) e1 + sin(t) e2 it leads through cos(alpha t) e1 + sin(alpha t) e2, and on beyond both ends."""
    alpha = torch.tensor([3 * fraction - 1], dtype=torch.float64)
    z1, z2 = (torch.tensor([[math.cos(t), math.sin(t)]], dtype=torch.float64) for t in (0.0, angle))
    turned = alpha * angle
    close(f(z1=z1, z2=z2, alpha=alpha), torch.stack([turned.cos(), turned.sin()], 1), rtol=1e-7, atol=1e-9)


def _apart(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two images for each example that are neither 0 nor parallel."""
    a, b = x / (1 + x.abs().max()), y / (1 + y.abs().max())
    return torch.stack([a + 2, a], 1), torch.stack([b, b - 2], 1)


LAWS: tuple[Laws, ...] = (
    has_a_gaussian_s_variance,
    adds_nothing_at_sigma_min,
    costs_one_evaluation_per_level,
    needs_levels_that_descend,
    asks_f_at_sigma_max,
    sees_each_example_alone,
    adds_variances,
    finds_the_bottom_of_a_valley,
    scores_few_levels_and_none_twice,
    runs_from_one_to_the_other,
    keeps_the_length_of_unit_vectors,
    turns_by_its_share_of_the_angle,
)
