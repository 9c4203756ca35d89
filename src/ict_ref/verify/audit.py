"""What a training step does, told from outside: the network is a spy, which writes down how it is called.

The step is a callable step(network, x, *, step, total_steps) -> loss, one per example or their mean. `network` is the
free-form F(c_in x, c_noise) of Eq. (2): a torch.nn.Module with a parameter and a dropout layer, called with positional
arguments. From its calls, from the answers that it chose and from the gradient that comes back to them all else
follows: levels, noise, data, coefficients, masks, weight and distance. Each finding is a result like that of a vector;
what cannot be told after an error is left out.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from ict_ref import formulas
from ict_ref.verify.check import Result, Status
from ict_ref.verify.spy import (
    TOTAL_STEPS,
    Observed,
    Refused,
    Step,
    column,
    data,
    levels,
    loud,
    nearest,
    noisy,
    observe,
    quiet,
    values,
    z_of,
)
from ict_ref.verify.vectors import deviations

# Steps whose cells are counted, at N = 11 and at N = 161, for which each of 64 examples draws one.
DRAWS, LATER_DRAWS = 500, 250
# Of each test of chance; a right step fails one in 100 000 audits or less.
FALSE_ALARM = 1e-6
# float32 levels up to 80 have rounded to 4e-6 of themselves by the time that the network sees them.
RTOL = 1e-4
# First and last steps of some of the curriculum's eight stages.
STAGE = TOTAL_STEPS // 8
CORNERS = (STAGE - 1, STAGE, 2 * STAGE - 1, 2 * STAGE, 5 * STAGE, 8 * STAGE - 1)


class Wrong(Exception):  # noqa: N818 - a finding, not an error of ours
    """A finding, after which the rest cannot be told."""


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


def off(got: Tensor, expected: Tensor, rtol: float = RTOL) -> bool:
    """Return whether a tensor is not what it should be."""
    return not torch.allclose(got, expected, rtol=rtol, atol=rtol * float(expected.abs().max()) + 1e-12)


def _findings(step: Step, seed: int) -> Iterator[Result]:
    try:
        yield from _observed(step, seed)
    except Refused as refused:
        yield result("runs", "iCT, Section 2, Eq. (5)", str(refused))


def _observed(step: Step, seed: int) -> Iterator[Result]:
    whole = [observe(step, at, seed + at) for at in (0, TOTAL_STEPS // 2, TOTAL_STEPS - 1)]
    # Every step of a stage has the same grid; a step may draw by its own number.
    later = TOTAL_STEPS // 2
    counted = [*range(1, 1 + DRAWS), *range(later + 1, later + 1 + LATER_DRAWS)]
    bar = tqdm(counted, "observing", unit=" steps", delay=2, leave=False, disable=None)
    many = [observe(step, at, seed + at) for at in bar]
    early, late = many[:DRAWS], many[DRAWS:]
    yield result("runs", "iCT, Section 2, Eq. (5)", None)
    failed = set()
    for seen in whole:
        for finding in _one(seen, f"at N = {seen.n}: "):
            yield finding
            failed |= {(seen.n, finding.id)} if finding.status == "fail" else set()
    yield _curriculum([observe(step, at, seed) for at in CORNERS])
    # What is wrong with few levels already would be found again by these.
    if {name for n, name in failed if n == whole[0].n} <= {"step:gradient"}:
        boundary = _boundary(observe(step, 0, seed, loud))
        yield boundary
        if boundary.status == "pass":
            yield _constant(observe(step, 0, seed, quiet(data(seed).double())))
    yield _distribution(early, late)
    if "step:unit_noise" not in {name for _, name in failed}:
        yield _noise(early)


def _one(seen: Observed, where: str) -> Iterator[Result]:
    wrong, slip = _off_grid(seen, where)
    yield result("c_noise", "CM, Appendix C; iCT, Section 2", wrong, slip)
    if wrong:
        raise Wrong
    grid, upper, lower = _cells(seen)
    apart = sorted(set((upper - lower).tolist()))
    wrong = None if apart == [1] else f"{where}the two levels are {apart} cells apart, should be 1"
    yield result("neighbours", "iCT, Section 2, Eq. (5)", wrong)
    if wrong:
        raise Wrong
    high, low = grid[upper], grid[lower]
    yield from _inputs(seen, where, high, low)
    yield from _masks_and_gradients(seen, where)
    loss = _loss(seen, where, high, low, lower)
    yield loss
    if loss.status == "pass" and seen.student.has_gradient:
        yield _gradient(seen, where, high, low, lower)


def _cells(seen: Observed) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid of N(k), and which of its levels student and teacher have."""
    grid = formulas.sigma_grid(seen.n)
    return grid, nearest(grid, levels(seen.student)), nearest(grid, levels(seen.teacher))


def _off_grid(seen: Observed, where: str) -> tuple[str | None, str | None]:
    """Return what is wrong with the levels, and the slip that it is."""
    grid, upper, lower = _cells(seen)
    if not off(levels(seen.student), grid[upper], 1e-5) and not off(levels(seen.teacher), grid[lower], 1e-5):
        return None, None
    raw = seen.student.noise.double().reshape(-1)
    slip = "RawSigmaNoise" if not off(raw, grid[nearest(grid, raw)], 1e-5) else None
    quarter, logs = raw / 250, grid.log()
    slip = "ScaledNoise" if not off(quarter, logs[nearest(logs, quarter)], 1e-5) else slip
    return f"{where}the network is told {float(raw[0]):.6g}, which is log(sigma) / 4 of no level of the grid", slip


def _curriculum(corners: list[Observed]) -> Result:
    """Look whether the levels are those of N(k) where a stage of the curriculum begins and ends."""
    wrong = None
    for seen in corners:
        _, upper, lower = _cells(seen)
        if _off_grid(seen, "")[0] or set((upper - lower).tolist()) != {1}:
            wrong = f"at step {seen.at} of {TOTAL_STEPS} the levels are no neighbours on the grid of N(k) = {seen.n}"
            break
    return result("curriculum", "iCT, Section 3.4, Eq. (9)", wrong)


def _inputs(seen: Observed, where: str, high: Tensor, low: Tensor) -> Iterator[Result]:
    x_lo = noisy(seen.teacher, low)
    z = z_of(seen, high, low)
    found = x_lo - column(low) * z
    plain = seen.student.x.double()
    wrong, slip = None, None
    # Rounding of x_hi - x_lo is divided by the gap: the finest cells say least.
    slack = 1e-5 / float((high - low).min())
    if off(found, seen.x, max(RTOL, slack)):
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


def _loss(seen: Observed, where: str, high: Tensor, low: Tensor, cell: Tensor) -> Result:
    student, teacher = values(seen, high, low)
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


def _gradient(seen: Observed, where: str, high: Tensor, low: Tensor, cell: Tensor) -> Result:
    """Compare the gradient that came back to the student's answer with that of Eq. (5), example by example."""
    student, teacher = values(seen, high, low)
    delta = student - teacher
    c = formulas.pseudo_huber_constant(seen.x[0].numel())
    weight = formulas.inverse_gap_weights(formulas.sigma_grid(seen.n))[cell]
    length = delta.reshape(len(delta), -1).norm(dim=1)
    expected = column(weight * formulas.c_out(high) / torch.hypot(length, torch.tensor(c)) / len(delta)) * delta
    assert seen.student.output.grad is not None  # noqa: S101 - the caller looked
    got = seen.student.output.grad.double()
    error = (got - expected).reshape(len(got), -1).norm(dim=1)
    size = expected.reshape(len(got), -1).norm(dim=1)
    # What float32 leaves of a difference of neighbours, which the finest cells divide by least.
    slack = 1e-2 + 1e-5 / float(length.min())
    worst = int((error / size).argmax())
    wrong = None
    if float(error[worst]) > slack * float(size[worst]):
        ratio = float((got[worst] * expected[worst]).sum()) / float(size[worst]) ** 2
        wrong = f"{where}the gradient of example {worst} is {ratio:.3g} times what it should be, or points elsewhere"
    return result("gradient", "iCT, Section 2, Eq. (5); Section 3.3, Eq. (8)", wrong)


def _expected_mean(seen: Observed) -> Tensor:
    """Return the mean of the loss that Eq. (5) makes of the answers."""
    grid, upper, lower = _cells(seen)
    student, teacher = values(seen, grid[upper], grid[lower])
    c = formulas.pseudo_huber_constant(seen.x[0].numel())
    return (formulas.inverse_gap_weights(grid)[lower] * formulas.pseudo_huber(student, teacher, c=c)).mean()


def _boundary(seen: Observed) -> Result:
    """Look whether an answer of 10 000 at sigma_min is heard in the loss."""
    got, expected = float(seen.loss.mean()), float(_expected_mean(seen))
    wrong = None
    if abs(got - expected) > 0.02 * abs(expected):
        wrong = f"f(x, sigma_min) depends on the network: the loss is {got:.6g}, should be {expected:.6g}"
    return result("boundary", "iCT, Section 2, Eq. (2)", wrong)


def _constant(seen: Observed) -> Result:
    """Look at the distance of student and teacher that are closer to each other than c."""
    got, expected = float(seen.loss.mean()), float(_expected_mean(seen))
    wrong = None
    if abs(got - expected) > 0.03 * abs(expected):
        wrong = (
            f"where student and teacher are nearer than c = 0.00054 sqrt(d) the loss is {got:.6g}, should be "
            f"{expected:.6g}: another constant, or none"
        )
    return result("huber_constant", "iCT, Section 3.3, Eq. (8)", wrong)


def _distribution(early: list[Observed], late: list[Observed]) -> Result:
    """Compare the cells of many draws with p(i) by a chi-square test, for few and for many levels."""
    source = "iCT, Section 3.5, Eq. (10)"
    for seen in (early, late):
        grid = formulas.sigma_grid(seen[0].n)
        cells = torch.cat([nearest(grid, levels(one.teacher)) for one in seen])
        counts = torch.bincount(cells.clamp_max(len(grid) - 2), minlength=len(grid) - 1).double()
        right = formulas.lognormal_pmf(grid)
        if chi_square_tail(counts, right) > FALSE_ALARM:
            continue
        known = {
            "uniform over the cells": (formulas.uniform_pmf(grid), None),
            "p(i) with P_mean = +1.1": (formulas.lognormal_pmf(grid, p_mean=1.1), "MeanSign"),
            "p(i) in reverse": (right.flip(0), "MirroredPmf"),
        }
        for name, (pmf, slip) in known.items():
            if chi_square_tail(counts, pmf) > FALSE_ALARM:
                return result("p(i)", source, f"at N = {len(grid)}: the cells are drawn {name}", slip)
        shares = ", ".join(f"{share:.3f}" for share in (counts / counts.sum())[:10].tolist())
        return result("p(i)", source, f"at N = {len(grid)}: cells are drawn with shares {shares}, should be p(i)")
    return result("p(i)", source, None)


def _noise(many: list[Observed]) -> Result:
    """Compare the moments of the noise of many steps with those of unit normals that know nothing of each other."""
    parts = []
    for seen in many:
        grid, upper, lower = _cells(seen)
        high, low = grid[upper], grid[lower]
        # Where the gap is wide, rounding of the inputs does not show.
        parts.append(z_of(seen, high, low)[low > 0.5])
    z = torch.cat(parts)
    n = z.numel()
    repeated = any(torch.equal(a[:1], b[:1]) for a, b in pairwise(parts) if len(a) and len(b))
    moments = {
        "mean": (float(z.mean()), 0.0, 7 * math.sqrt(1 / n)),
        "variance": (float(z.square().mean()), 1.0, 7 * math.sqrt(2 / n) + 1e-3),
        "fourth moment": (float((z**4).mean()), 3.0, 7 * math.sqrt(96 / n) + 1e-2),
        "correlation of two channels": (float((z[:, 0] * z[:, 1]).mean()), 0.0, 7 * math.sqrt(3 / n)),
    }
    wrong = "the same noise at two steps" if repeated else None
    for name, (got, expected, slack) in moments.items():
        if abs(got - expected) > slack:
            wrong = f"z has {name} {got:.4f}, should be {expected:g}"
            break
    return result("normal_noise", "iCT, Section 2", wrong)


def chi_square_tail(counts: Tensor, pmf: Tensor) -> float:
    """Return the probability of counts as far from N pmf as these, or farther; rare cells are counted together."""
    expected = counts.sum() * pmf
    rare = expected < 10
    if int(rare.sum()) > 1:
        counts = torch.cat([counts[~rare], counts[rare].sum().reshape(1)])
        expected = torch.cat([expected[~rare], expected[rare].sum().reshape(1)])
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), torch.tensor(statistic / 2)))
