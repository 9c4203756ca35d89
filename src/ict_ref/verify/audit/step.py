"""An audit of a training step from outside, through a network that records its calls.

The step is a callable step(network, x, *, step, total_steps) -> loss, one per example or their mean. `network` is the
free-form F(c_in x, c_noise) of Eq. (2): a torch.nn.Module with a parameter and a dropout layer, called with positional
arguments. The audit derives levels, noise, data, coefficients, masks, weight and distance from three records: the
calls, the network's outputs and the gradients with respect to them. Each finding is a result like that of a vector.
Findings that depend on a wrong one are left out.
"""

import math
import sys
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.utils.progress import bar
from ict_ref.verify.audit.network_spy import (
    TOTAL_STEPS,
    ObservedStep,
    Step,
    UnreadableStep,
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
from ict_ref.verify.checks.check import Result, Status
from ict_ref.verify.vectors.load import deviations

# The numbers of steps whose intervals are counted, at N = 11 and at N = 161. Each of 64 examples draws one interval.
DRAWS, LATER_DRAWS = 500, 250
# The false alarm rate of each statistical test. A correct step fails in less than one of 100 000 audits.
FALSE_ALARM = 1e-6
# float32 levels up to 80 have a relative rounding error of 4e-6 when the network gets them.
RTOL = 1e-4
# First and last steps of some of the curriculum's eight stages.
STAGE = TOTAL_STEPS // 8
CORNERS = (STAGE - 1, STAGE, 2 * STAGE - 1, 2 * STAGE, 5 * STAGE, 8 * STAGE - 1)


class AuditStopped(Exception):  # noqa: N818 - a finding, not an error of ours
    """A wrong finding on which the rest of the audit depends."""


def audit(step: Step, *, seed: int = 0) -> Iterator[Result]:
    """Yield the findings about a training step, in the order of its computation."""
    try:
        yield from _findings(step, seed)
    except AuditStopped:
        return  # the remaining findings depend on a wrong one


def result(name: str, source: str, wrong: str | None, deviation: str | None = None) -> Result:
    """Return a finding: the message `wrong`, or a pass if it is None."""
    explanation = f"; {deviations()[deviation]}" if wrong and deviation else ""
    message = f"step:{name}: {wrong}{explanation} [{source}]" if wrong else ""
    status: Status = "fail" if wrong else "pass"
    return Result(f"step:{name}", f"step:{name}", source, status, message=message, deviation=deviation)


def off(got: Tensor, expected: Tensor, rtol: float = RTOL) -> bool:
    """Return whether a tensor differs from the expected one."""
    return not torch.allclose(got, expected, rtol=rtol, atol=rtol * float(expected.abs().max()) + 1e-12)


def _findings(step: Step, seed: int) -> Iterator[Result]:
    try:
        yield from _observed(step, seed)
    except UnreadableStep as refused:
        yield result("runs", "iCT, Section 2, Eq. (5)", str(refused))


def _observed(step: Step, seed: int) -> Iterator[Result]:
    whole = [observe(step, at, seed + at) for at in (0, TOTAL_STEPS // 2, TOTAL_STEPS - 1)]
    early, late = _early_and_late(step, seed)
    yield result("runs", "iCT, Section 2, Eq. (5)", None)
    failed = set()
    for seen in whole:
        for finding in _check_step(seen, f"at N = {seen.n}: "):
            yield finding
            failed |= {(seen.n, finding.id)} if finding.status == "fail" else set()
    yield _curriculum([observe(step, at, seed) for at in CORNERS])
    # These checks would repeat an error that a grid with few levels shows already.
    if {name for n, name in failed if n == whole[0].n} <= {"step:gradient"}:
        boundary = _boundary(observe(step, 0, seed, loud))
        yield boundary
        if boundary.status == "pass":
            yield _constant(observe(step, 0, seed, quiet(data(seed).double())))
    yield _distribution(early, late)
    if "step:unit_noise" not in {name for _, name in failed}:
        yield _noise(early)


def _early_and_late(step: Step, seed: int) -> tuple[list[ObservedStep], list[ObservedStep]]:
    """Return many steps of the first stage of the curriculum, and many of a later one."""
    # Every step of a stage has the same grid; a step may use its number as a seed.
    later = TOTAL_STEPS // 2
    counted = [*range(1, 1 + DRAWS), *range(later + 1, later + 1 + LATER_DRAWS)]
    shown = bar(counted, "observing", "steps", shown=sys.stderr.isatty())
    many = [observe(step, at, seed + at) for at in shown]
    return many[:DRAWS], many[DRAWS:]


def _check_step(seen: ObservedStep, where: str) -> Iterator[Result]:
    wrong, deviation = _off_grid(seen, where)
    yield result("c_noise", "CM, Appendix C; iCT, Section 2", wrong, deviation)
    if wrong:
        raise AuditStopped
    grid, upper, lower = _intervals(seen)
    apart = sorted(set((upper - lower).tolist()))
    wrong = None if apart == [1] else f"{where}the two levels are {apart} intervals apart, should be 1"
    yield result("neighbours", "iCT, Section 2, Eq. (5)", wrong)
    if wrong:
        raise AuditStopped
    high, low = grid[upper], grid[lower]
    yield from _inputs(seen, where, high, low)
    yield from _masks_and_gradients(seen, where)
    loss = _loss(seen, where, high, low, lower)
    yield loss
    if loss.status == "pass" and seen.student.has_gradient:
        yield _gradient(seen, where, high, low, lower)


def _intervals(seen: ObservedStep) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid of N(k), and the indices of the student's and the teacher's levels in it."""
    grid = formulas.sigma_grid(seen.n)
    return grid, nearest(grid, levels(seen.student)), nearest(grid, levels(seen.teacher))


def _off_grid(seen: ObservedStep, where: str) -> tuple[str | None, str | None]:
    """Return the error message about the levels, and the known deviation that explains it."""
    grid, upper, lower = _intervals(seen)
    if not off(levels(seen.student), grid[upper], 1e-5) and not off(levels(seen.teacher), grid[lower], 1e-5):
        return None, None
    raw = seen.student.noise.double().reshape(-1)
    deviation = "RawSigmaNoise" if not off(raw, grid[nearest(grid, raw)], 1e-5) else None
    quarter, logs = raw / 250, grid.log()
    deviation = "ScaledNoise" if not off(quarter, logs[nearest(logs, quarter)], 1e-5) else deviation
    wrong = f"{where}the network gets c_noise = {float(raw[0]):.6g}, which is not log(sigma) / 4 of a level of the grid"
    return wrong, deviation


def _curriculum(corners: list[ObservedStep]) -> Result:
    """Check that the levels are those of N(k) where a stage of the curriculum begins and ends."""
    wrong = None
    for seen in corners:
        _, upper, lower = _intervals(seen)
        if _off_grid(seen, "")[0] or set((upper - lower).tolist()) != {1}:
            wrong = f"at step {seen.at} of {TOTAL_STEPS} the levels are not neighbours on the grid of N(k) = {seen.n}"
            break
    return result("curriculum", "iCT, Section 3.4, Eq. (9)", wrong)


def _inputs(seen: ObservedStep, where: str, high: Tensor, low: Tensor) -> Iterator[Result]:
    x_lo = noisy(seen.teacher, low)
    z = z_of(seen, high, low)
    found = x_lo - column(low) * z
    plain = seen.student.x.double()
    wrong, deviation = None, None
    # The rounding error of x_hi - x_lo is divided by the gap, so it is largest in the finest intervals.
    slack = 1e-5 / float((high - low).min())
    if off(found, seen.x, max(RTOL, slack)):
        z_plain = (plain - seen.teacher.x.double()) / column(high - low)
        unscaled = not off(plain - column(high) * z_plain, seen.x, max(RTOL, slack))
        deviation = "NoInputScaling" if unscaled else None
        wrong = f"{where}the two inputs are not c_in (x + sigma z) of the given x and of one z"
    yield result("one_path", "iCT, Section 2, Eq. (5); CM, Appendix C", wrong, deviation)
    if wrong:
        raise AuditStopped
    spread = float(z.square().mean())
    # The mean of 3 072 or more squares of unit normals may be eight standard deviations from 1.
    limit = 8 * math.sqrt(2 / z.numel()) + slack**2
    wrong = None if abs(spread - 1) < limit else f"{where}z has variance {spread:.3f}, should be 1"
    yield result("unit_noise", "iCT, Section 2", wrong)


def _masks_and_gradients(seen: ObservedStep, where: str) -> Iterator[Result]:
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
        wrong = f"{where}the loss does not send a gradient to the network"
    elif not seen.student.has_gradient:
        wrong = f"{where}the call at the larger level, the student's, does not get a gradient"
    elif seen.teacher.has_gradient:
        wrong = f"{where}the gradient passes through the teacher"
    deviation = "TeacherAtHigherLevel" if wrong and "larger" in wrong else None
    yield result("stop_gradient", "iCT, Section 2, Eq. (4)", wrong, deviation)


def _loss(seen: ObservedStep, where: str, high: Tensor, low: Tensor, cell: Tensor) -> Result:
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
        for distance, (value, deviation) in distances.items():
            per_example = weight * value
            expected = per_example if seen.loss.ndim else per_example.mean()
            if seen.loss.shape == expected.shape and not off(seen.loss, expected, 5e-2 if seen.n > 20 else 1e-2):
                right = distance == "pseudo-Huber" and weighting != "1"
                wrong = None if right else f"{where}the loss is {distance} with weight {weighting}"
                return result("loss", "iCT, Section 3.3, Eq. (8); Section 3.1", wrong, deviation if wrong else None)
    expected = (weights["1 / (sigma_{i+1} - sigma_i)"] * huber).mean()
    wrong = f"{where}got {float(seen.loss.mean()):.6g}, should be {float(expected):.6g}"
    return result("loss", "iCT, Section 3.3, Eq. (8); Section 3.1", wrong)


def _gradient(seen: ObservedStep, where: str, high: Tensor, low: Tensor, cell: Tensor) -> Result:
    """Compare the gradient of the student's output with that of Eq. (5), example by example."""
    student, teacher = values(seen, high, low)
    delta = student - teacher
    c = formulas.pseudo_huber_constant(seen.x[0].numel())
    weight = formulas.inverse_gap_weights(formulas.sigma_grid(seen.n))[cell]
    length = delta.reshape(len(delta), -1).norm(dim=1)
    expected = column(weight * formulas.c_out(high) / torch.hypot(length, torch.tensor(c)) / len(delta)) * delta
    assert seen.student.output.grad is not None  # noqa: S101 - the caller checks it
    got = seen.student.output.grad.double()
    error = (got - expected).reshape(len(got), -1).norm(dim=1)
    size = expected.reshape(len(got), -1).norm(dim=1)
    # The rounding error of float32, relative to the smallest difference of neighbours.
    slack = 1e-2 + 1e-5 / float(length.min())
    worst = int((error / size).argmax())
    wrong = None
    if float(error[worst]) > slack * float(size[worst]):
        ratio = float((got[worst] * expected[worst]).sum()) / float(size[worst]) ** 2
        wrong = (
            f"{where}the gradient of example {worst} is {ratio:.3g} times the expected one, or has another direction"
        )
    return result("gradient", "iCT, Section 2, Eq. (5); Section 3.3, Eq. (8)", wrong)


def _expected_mean(seen: ObservedStep) -> Tensor:
    """Return the mean of the loss of Eq. (5) for the network's outputs."""
    grid, upper, lower = _intervals(seen)
    student, teacher = values(seen, grid[upper], grid[lower])
    c = formulas.pseudo_huber_constant(seen.x[0].numel())
    return (formulas.inverse_gap_weights(grid)[lower] * formulas.pseudo_huber(student, teacher, c=c)).mean()


def _boundary(seen: ObservedStep) -> Result:
    """Check that an output of 10 000 at sigma_min does not change the loss."""
    got, expected = float(seen.loss.mean()), float(_expected_mean(seen))
    wrong = None
    if abs(got - expected) > 0.02 * abs(expected):
        wrong = f"f(x, sigma_min) depends on the network: the loss is {got:.6g}, should be {expected:.6g}"
    return result("boundary", "iCT, Section 2, Eq. (2)", wrong)


def _constant(seen: ObservedStep) -> Result:
    """Check the distance of a student and a teacher that are closer to each other than c."""
    got, expected = float(seen.loss.mean()), float(_expected_mean(seen))
    wrong = None
    if abs(got - expected) > 0.03 * abs(expected):
        wrong = (
            f"where student and teacher are nearer than c = 0.00054 sqrt(d) the loss is {got:.6g}, should be "
            f"{expected:.6g}: the constant differs or is missing"
        )
    return result("huber_constant", "iCT, Section 3.3, Eq. (8)", wrong)


def _distribution(early: list[ObservedStep], late: list[ObservedStep]) -> Result:
    """Compare the drawn intervals of many steps with p(i) by a chi-square test, for few and for many levels."""
    source = "iCT, Section 3.5, Eq. (10)"
    for seen in (early, late):
        grid = formulas.sigma_grid(seen[0].n)
        intervals = torch.cat([nearest(grid, levels(observed.teacher)) for observed in seen])
        counts = torch.bincount(intervals.clamp_max(len(grid) - 2), minlength=len(grid) - 1).double()
        right = formulas.lognormal_pmf(grid)
        if chi_square_tail(counts, right) > FALSE_ALARM:
            continue
        known = {
            "uniform over the intervals": (formulas.uniform_pmf(grid), None),
            "p(i) with P_mean = +1.1": (formulas.lognormal_pmf(grid, p_mean=1.1), "MeanSign"),
            "p(i) in reverse": (right.flip(0), "MirroredPmf"),
        }
        for name, (pmf, deviation) in known.items():
            if chi_square_tail(counts, pmf) > FALSE_ALARM:
                return result("p(i)", source, f"at N = {len(grid)}: the intervals are drawn {name}", deviation)
        fractions = ", ".join(f"{fraction:.3f}" for fraction in (counts / counts.sum())[:10].tolist())
        return result(
            "p(i)", source, f"at N = {len(grid)}: intervals are drawn with frequencies {fractions}, should be p(i)"
        )
    return result("p(i)", source, None)


def _noise(many: list[ObservedStep]) -> Result:
    """Compare the moments of the noise of many steps with those of independent unit normals."""
    parts = []
    for seen in many:
        grid, upper, lower = _intervals(seen)
        high, low = grid[upper], grid[lower]
        # Wide gaps hide the rounding error of the inputs.
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
    """Return the probability of counts as far from N pmf as these, or farther; rare intervals are counted together."""
    expected = counts.sum() * pmf
    rare = expected < 10
    if int(rare.sum()) > 1:
        counts = torch.cat([counts[~rare], counts[rare].sum().reshape(1)])
        expected = torch.cat([expected[~rare], expected[rare].sum().reshape(1)])
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), torch.tensor(statistic / 2)))
