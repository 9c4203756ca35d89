"""The distribution of the noise of many steps, and its independence across values, examples and steps."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ict_ref.verify.audit.step.decode import DecodedStep
from ict_ref.verify.audit.step.distribution import DEVIATES
from ict_ref.verify.audit.step.verdicts import result
from ict_ref.verify.checks.result import Result

SAME = 0.98
"""Cosine of the angle between two noises from which they are the same."""
HASHED = 48
"""Number of signs by which equal noise is recognised; 40 000 examples agree by chance once in 300 000 audits."""


def check_noise(steps: Sequence[DecodedStep]) -> Iterator[Result]:
    """Compare the noise of many steps with independent unit normals."""
    z = torch.stack([step.z for step in steps])
    scale = float(z.square().mean().sqrt())
    z = z / max(scale, 1e-12)
    values = z.flatten(2)
    repeated = _repeated(values, [step.seen.at for step in steps])
    # Noise that is not independent has moments that are less certain.
    slack = DEVIATES / math.sqrt(2 * z.numel()) + (0.1 if repeated else 1e-3)
    wrong = abs(scale - 1) > slack
    yield result("unit_noise", f"z has standard deviation {scale:.4g}, should be 1" if wrong else None)
    yield result("normal_noise", None if repeated else _moments(values))
    high = torch.stack([step.high for step in steps])
    images = torch.stack([step.images for step in steps])
    yield result("independent_noise", repeated or _dependence(z, values, images.flatten(2), high))


def _moments(values: Tensor) -> str | None:
    """Return the moment that is not that of a unit normal."""
    count = values.numel()
    moments = {
        "mean": (values, 0.0, 1.0),
        "third moment": (values**3, 0.0, 15.0),
        "fourth moment": (values**4, 3.0, 96.0),
    }
    for name, (powers, expected, variance) in moments.items():
        got = float(powers.mean())
        if abs(got - expected) > DEVIATES * math.sqrt(variance / count) + 3e-3 * max(expected, 0.1):
            return f"z has {name} {got:.4f}, should be {expected:g}"
    return None


def _repeated(values: Tensor, numbers: Sequence[int]) -> str | None:
    """Return which examples have the same noise, or its negative, by the signs of its first values."""
    _, batch, dim = values.shape
    if dim < HASHED:
        same = next((i for i, (one, two) in enumerate(pairwise(values)) if torch.allclose(one, two, atol=1e-2)), None)
        return None if same is None else f"steps {numbers[same]} and {numbers[same + 1]} have the same noise"
    signs = (values[..., :HASHED] > 0).flatten(0, 1)
    signs = signs ^ signs[:, :1]
    keys = (signs.long() << torch.arange(HASHED)).sum(1)
    order = keys.argsort(stable=True)
    equal = keys[order][1:] == keys[order][:-1]
    pairs = torch.stack([order[:-1][equal], order[1:][equal]])
    rows = values.flatten(0, 1)
    cosines = torch.cosine_similarity(rows[pairs[0]], rows[pairs[1]])
    # Noise of which some values are equal can have equal signs by chance.
    pairs, cosines = pairs[:, cosines.abs() > SAME], cosines[cosines.abs() > SAME]
    if not len(cosines):
        return None
    first = int(pairs[0].argmin())
    one, two = pairs[:, first].tolist()
    how = "the same noise" if float(cosines[first]) > 0 else "opposite noise"
    steps = [numbers[row // batch] for row in (one, two)]
    if steps[0] == steps[1]:
        return f"examples {one % batch} and {two % batch} of step {steps[0]} have {how}"
    return f"steps {steps[0]} and {steps[1]} have {how}"


def _dependence(z: Tensor, values: Tensor, images: Tensor, high: Tensor) -> str | None:
    """Return how values of the noise depend on each other, on the image or on the level."""
    count, batch, dim = values.shape
    tests = (
        ("two places of one example", _largest(_places(z)), count * batch),
        ("two examples of a batch", _largest(_examples(values)), count * dim),
        ("neighbouring steps", float((values[1:] * values[:-1]).mean()), (count - 1) * batch * dim),
        ("noise and image", 3**0.5 * float((values * images).mean()), values.numel()),
        ("the noise's mean and the level", _with_level(values, high), count * batch),
    )
    for what, correlation, number in tests:
        # The largest of up to 60 000 correlations; each has a variance of at most 1 / number.
        if abs(correlation) > DEVIATES / math.sqrt(number) + 1e-4:
            return f"{what} are correlated by {correlation:.3f}, should be 0"
    means = (("two examples of a batch", 1), ("two places of one example", 2), ("two steps", 0))
    for what, axis in means:
        size = values.shape[axis]
        spread = size * float(values.mean(axis).square().mean())
        # The mean of squares of normal means; their fourth moment is at most slightly above 3.
        if abs(spread - 1) > DEVIATES * math.sqrt(2 * size / values.numel()) + 2e-3:
            return f"{what} are correlated by {(spread - 1) / (size - 1):.2g} on average, should be 0"
    return None


def _with_level(values: Tensor, high: Tensor) -> float:
    """Return the correlation of the mean over an example with the logarithm of its level."""
    mean = values.mean(2) * math.sqrt(values.shape[2])
    logs = high.clamp_min(1e-12).log()
    return float((mean * (logs - logs.mean())).mean() / logs.std().clamp_min(1e-9))


def _largest(correlations: Tensor) -> float:
    """Return the largest correlation of two different things."""
    rest = correlations - torch.diag(correlations.diag())
    return float(rest.flatten()[rest.abs().argmax()])


def _places(z: Tensor) -> Tensor:
    """Return the correlations of values of one example: of some rows and columns, but all channels."""
    for axis in range(3, z.ndim):
        size = z.shape[axis]
        some = sorted({0, 1, size // 2 - 1, size // 2, size - 2, size - 1} & set(range(size)))
        z = z.index_select(axis, torch.tensor(some))
    values = z.flatten(2).flatten(0, 1)
    values = values[:, :: max(1, values.shape[1] // 256)]
    return values.T @ values / len(values)


def _examples(values: Tensor) -> Tensor:
    """Return the correlations of two examples of a batch, over all steps."""
    return torch.einsum("sbd,scd->bc", values, values) / (values.shape[0] * values.shape[2])
