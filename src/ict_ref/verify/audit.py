"""What a training step does, told from outside: the network is a spy, which writes down how it is called.

The step is a callable step(network, x, *, step, total_steps) -> loss, one per example or their mean. `network` is the
free-form F(c_in x, c_noise) of Eq. (2): a torch.nn.Module with a parameter and a dropout layer, called with positional
arguments. From its calls and from the outputs that it chose all else follows: levels, noise, data, coefficients, masks,
weight and distance. Each finding is a result like that of a vector; what cannot be told after an error is left out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ict_ref import formulas
from ict_ref.verify.check import Result, Status
from ict_ref.verify.vectors import deviations

SHAPE = (64, 3, 4, 4)
TOTAL_STEPS = 800
DROPOUT = 0.5
# So many draws of the index that a wrong distribution shows; a right one fails once in a million audits.
DRAWS = 40
FALSE_ALARM = 1e-6
# float32 levels up to 80 have rounded to 4e-6 of themselves by the time that the network sees them.
RTOL = 1e-4

Step = Callable[..., object]


@dataclass(frozen=True)
class Call:
    """One call of the network, and its answer, which is part of the step's graph."""

    x: Tensor
    noise: Tensor
    output: Tensor
    mask: Tensor
    training: bool

    @property
    def has_gradient(self) -> bool:
        """Whether the loss's gradient has passed through the answer: neither under no_grad nor once detached."""
        return self.output.requires_grad and self.output.grad is not None


class Spy(nn.Module):
    """F(x, c) = theta (sin(3 x) + c / 10), with a dropout layer that acts on nothing but the record."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(DROPOUT)
        self.calls: list[Call] = []

    def forward(self, x: Tensor, noise: Tensor, *others: object, **options: object) -> Tensor:
        """Return F(x, c). Masks that are handed over count as those of the call, else the dropout layer's do."""
        own: Tensor = self.dropout(torch.ones(4096))
        handed = _truth_values([*others, *options.values()])
        mask = torch.cat([mask.flatten() for mask in handed]) if handed else own
        level = noise.reshape(-1, *(1 for _ in x.shape[1:]))
        output = self.theta.to(x.dtype) * (torch.sin(3 * x) + 0.1 * level)
        if output.requires_grad:
            output.retain_grad()
        self.calls.append(Call(x.detach(), noise.detach(), output, mask, self.training or bool(handed)))
        return output


def _truth_values(value: object) -> list[Tensor]:
    """Return the masks among the arguments of a call."""
    if isinstance(value, Tensor):
        return [value] if value.dtype == torch.bool else []
    return [mask for part in value for mask in _truth_values(part)] if isinstance(value, list | tuple) else []


@dataclass(frozen=True)
class Observed:
    """What came of one step."""

    x: Tensor
    n: int
    student: Call
    teacher: Call
    loss: Tensor


class Wrong(Exception):  # noqa: N818 - a finding, not an error of ours
    """A finding, after which the rest cannot be told."""


class Refused(Exception):  # noqa: N818 - a finding, not an error of ours
    """The step could not be run, or its network was called in no way that can be read."""


def audit(step: Step, *, seed: int = 0) -> Iterator[Result]:
    """Return the findings about a training step, in the order in which a step is made."""
    try:
        yield from _findings(step, seed)
    except Wrong:
        return  # what follows from a wrong finding cannot be told


def result(name: str, source: str, wrong: str | None, deviation: str | None = None) -> Result:
    """Return a finding: what is wrong, or that nothing is."""
    story = f"; {deviations()[deviation]}" if wrong and deviation else ""
    message = f"step:{name}: {wrong}{story} [{source}]" if wrong else ""
    status: Status = "fail" if wrong else "pass"
    return Result(f"step:{name}", f"step:{name}", source, status, message=message, deviation=deviation)


def observe(step: Step, at: int, seed: int) -> Observed:
    """Run the step once on known data, and return what its network saw."""
    torch.manual_seed(seed)
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    spy = Spy().train()
    try:
        loss = torch.as_tensor(step(spy, x.clone(), step=at, total_steps=TOTAL_STEPS))
        if loss.requires_grad:
            loss.mean().backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise Refused(f"step {at} raised {type(error).__name__}: {said}") from error
    if len(spy.calls) != 2:
        raise Refused(f"the network was called {len(spy.calls)} times, should be 2: student and teacher")
    for call in spy.calls:
        if call.x.shape != x.shape or call.noise.numel() != len(x):
            raise Refused(
                f"the network was called with x {list(call.x.shape)} and noise {list(call.noise.shape)}, "
                f"should be {list(x.shape)} and [{len(x)}]"
            )
    by_level = sorted(spy.calls, key=lambda call: float(call.noise.double().mean()))
    n = formulas.exponential_curriculum(at, total_steps=TOTAL_STEPS)
    return Observed(x.double(), n, by_level[1], by_level[0], loss.detach().double())


def levels(call: Call) -> Tensor:
    """Return the noise levels of a call, from c_noise = log(sigma) / 4."""
    return (4 * call.noise.double().reshape(-1)).exp()


def column(sigma: Tensor) -> Tensor:
    """Return one number per example, to be broadcast to images."""
    return sigma.reshape(-1, 1, 1, 1)


def noisy(call: Call, sigma: Tensor) -> Tensor:
    """Return x_sigma, from what the network was called with, c_in x_sigma."""
    return call.x.double() / column(formulas.c_in(sigma))


def off(got: Tensor, expected: Tensor, rtol: float = RTOL) -> bool:
    """Return whether a tensor is not what it should be."""
    return not torch.allclose(got, expected, rtol=rtol, atol=rtol * float(expected.abs().max()) + 1e-12)


def _findings(step: Step, seed: int) -> Iterator[Result]:
    try:
        first, middle = observe(step, 0, seed), observe(step, TOTAL_STEPS // 2, seed + 1)
        # Every step of the first eighth has the same grid; a step may draw by its own number.
        many = [observe(step, draw, seed + 2 + draw) for draw in range(DRAWS)]
    except Refused as refused:
        yield result("runs", "iCT, Section 2, Eq. (5)", str(refused))
        return
    yield result("runs", "iCT, Section 2, Eq. (5)", None)
    for seen in (first, middle):
        yield from _one(seen, f"at N = {seen.n}: ")
    yield _distribution(many)


def _one(seen: Observed, where: str) -> Iterator[Result]:
    high, low = levels(seen.student), levels(seen.teacher)
    grid = formulas.sigma_grid(seen.n)
    raw = seen.student.noise.double().reshape(-1)
    upper, lower = _nearest(grid, high), _nearest(grid, low)
    on_grid = not off(high, grid[upper], 1e-5) and not off(low, grid[lower], 1e-5)
    wrong, slip = None, None
    if not on_grid:
        slip = "RawSigmaNoise" if not off(raw, grid[_nearest(grid, raw)], 1e-5) else None
        quarter, logs = raw / 250, grid.log()
        slip = "ScaledNoise" if not off(quarter, logs[_nearest(logs, quarter)], 1e-5) else slip
        wrong = f"{where}the network is told {float(raw[0]):.6g}, which is log(sigma) / 4 of no level of the grid"
    yield result("c_noise", "CM, Appendix C; iCT, Section 2", wrong, slip)
    if wrong:
        raise Wrong
    apart = sorted(set((upper - lower).tolist()))
    wrong = None if apart == [1] else f"{where}the two levels are {apart} cells apart, should be 1"
    yield result("neighbours", "iCT, Section 2, Eq. (5)", wrong)
    if wrong:
        raise Wrong
    high, low = grid[upper], grid[lower]
    yield from _inputs(seen, where, high, low)
    yield from _masks_and_gradients(seen, where)
    yield _loss(seen, where, high, low, lower)


def _nearest(grid: Tensor, values: Tensor) -> Tensor:
    return (values[:, None] - grid).abs().argmin(1)


def _inputs(seen: Observed, where: str, high: Tensor, low: Tensor) -> Iterator[Result]:
    x_hi, x_lo = noisy(seen.student, high), noisy(seen.teacher, low)
    z = (x_hi - x_lo) / column(high - low)
    data = x_lo - column(low) * z
    plain = seen.student.x.double()
    wrong, slip = None, None
    # Rounding of x_hi - x_lo is divided by the gap: the finest cells say least.
    slack = 1e-5 / float((high - low).min())
    if off(data, seen.x, max(RTOL, slack)):
        z_plain = (plain - seen.teacher.x.double()) / column(high - low)
        unscaled = not off(plain - column(high) * z_plain, seen.x, max(RTOL, slack))
        slip = "NoInputScaling" if unscaled else None
        wrong = f"{where}the two inputs are not c_in (x + sigma z) of the x that was given and of one z"
    yield result("one_path", "iCT, Section 2, Eq. (5); CM, Appendix C", wrong, slip)
    if wrong:
        raise Wrong
    spread = float(z.square().mean())
    # 3 072 and more squares of unit normals: eight standard deviations from 1.
    limit = 8 * math.sqrt(2 / z.numel()) + slack**2
    wrong = None if abs(spread - 1) < limit else f"{where}z has variance {spread:.3f}, should be 1"
    yield result("unit_noise", "iCT, Section 2", wrong)


def _masks_and_gradients(seen: Observed, where: str) -> Iterator[Result]:
    same = torch.equal(seen.student.mask, seen.teacher.mask)
    trains = seen.student.training and seen.teacher.training
    wrong = None
    if not trains:
        wrong = f"{where}dropout is off in a call: the network is not in training mode"
    elif not same:
        wrong = f"{where}student and teacher have different dropout masks"
    yield result("shared_dropout", "iCT, Section 3.1", wrong)
    wrong = None
    if not (seen.student.has_gradient or seen.teacher.has_gradient):
        wrong = f"{where}no gradient reaches the network from the loss"
    elif not seen.student.has_gradient:
        wrong = f"{where}the call at the larger level has no gradient: it is the student's"
    elif seen.teacher.has_gradient:
        wrong = f"{where}the gradient passes through the teacher"
    slip = "TeacherAtHigherLevel" if wrong and "larger" in wrong else None
    yield result("stop_gradient", "iCT, Section 2, Eq. (4)", wrong, slip)


def _values(seen: Observed, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """Return f of student and teacher."""

    def f(call: Call, sigma: Tensor) -> Tensor:
        skip, out = column(formulas.c_skip(sigma)), column(formulas.c_out(sigma))
        return skip * noisy(call, sigma) + out * call.output.detach().double()

    return f(seen.student, high), f(seen.teacher, low)


def _loss(seen: Observed, where: str, high: Tensor, low: Tensor, cell: Tensor) -> Result:
    student, teacher = _values(seen, high, low)
    sigmas = formulas.sigma_grid(seen.n)
    c = formulas.pseudo_huber_constant(seen.x[0].numel())
    flat = (student - teacher).reshape(len(student), -1)
    huber = formulas.pseudo_huber(student, teacher, c=c)
    elements = (flat.square() + c**2).sqrt() - c
    squared = flat.square()
    weights = {"1 / (sigma_{i+1} - sigma_i)": formulas.inverse_gap_weights(sigmas)[cell], "1": torch.ones_like(high)}
    distances = {
        "pseudo-Huber": (huber, None),
        "pseudo-Huber per element, averaged": (elements.mean(1), "Elementwise"),
        "pseudo-Huber per element, summed": (elements.sum(1), "ElementwiseSum"),
        "squared l2": (squared.sum(1), None),
        "squared l2, averaged over the elements": (squared.mean(1), "MeanReduction"),
    }
    for weighting, weight in weights.items():
        for distance, (value, slip) in distances.items():
            per_example = weight * value
            expected = per_example if seen.loss.ndim else per_example.mean()
            if seen.loss.shape == expected.shape and not off(seen.loss, expected, 5e-2 if seen.n > 20 else 1e-2):
                right = distance == "pseudo-Huber" and weighting != "1"
                wrong = None if right else f"{where}the loss is {distance} with weight {weighting}"
                return result("loss", "iCT, Section 3.3, Eq. (8); Section 3.1", wrong, slip if wrong else None)
    expected = (weights["1 / (sigma_{i+1} - sigma_i)"] * huber).mean()
    wrong = f"{where}got {float(seen.loss.mean()):.6g}, should be {float(expected):.6g}"
    return result("loss", "iCT, Section 3.3, Eq. (8); Section 3.1", wrong)


def _distribution(many: list[Observed]) -> Result:
    """Compare the cells of many draws with p(i) by a chi-square test."""
    source = "iCT, Section 3.5, Eq. (10)"
    grid = formulas.sigma_grid(11)
    cells = torch.cat([_nearest(grid, levels(seen.teacher)) for seen in many])
    counts = torch.bincount(cells.clamp_max(9), minlength=10).double()
    right = formulas.lognormal_pmf(grid)
    if chi_square_tail(counts, right) > FALSE_ALARM:
        return result("p(i)", source, None)
    known = {
        "uniform over the cells": (formulas.uniform_pmf(grid), None),
        "p(i) with P_mean = +1.1": (formulas.lognormal_pmf(grid, p_mean=1.1), "MeanSign"),
        "p(i) in reverse": (right.flip(0), "MirroredPmf"),
    }
    for name, (pmf, slip) in known.items():
        if chi_square_tail(counts, pmf) > FALSE_ALARM:
            return result("p(i)", source, f"the cells are drawn {name}", slip)
    shares = ", ".join(f"{share:.3f}" for share in (counts / counts.sum()).tolist())
    return result("p(i)", source, f"cells are drawn with shares {shares}, should be p(i)")


def chi_square_tail(counts: Tensor, pmf: Tensor) -> float:
    """Return the probability of counts as far from N pmf as these, or farther."""
    expected = counts.sum() * pmf
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(pmf) - 1) / 2), torch.tensor(statistic / 2)))
