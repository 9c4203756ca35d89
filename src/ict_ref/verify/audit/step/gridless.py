"""Notes about methods with continuous noise levels: how levels and their ratios are distributed."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ict_ref.verify.audit.step.decode import DecodedStep
from ict_ref.verify.audit.step.verdicts import note
from ict_ref.verify.checks.result import Result


def check_levels(steps: Sequence[DecodedStep]) -> Iterator[Result]:
    """Describe the distribution of the larger level."""
    logs = torch.cat([step.high for step in steps]).log()
    mean, spread = float(logs.mean()), float(logs.std())
    yield note(
        "levels",
        f"log t has mean {mean:.3f} and standard deviation {spread:.3f}; t runs from {float(logs.min().exp()):.3g} "
        f"to {float(logs.max().exp()):.3g}",
    )


def check_ratio(steps: Sequence[DecodedStep]) -> Result:
    """Describe r / t at the first and at the last step."""
    texts = [f"at step {step.seen.at}: {_ratio(step.high, step.low)}" for step in (steps[0], steps[-1])]
    return note("ratio", "; ".join(texts))


def _ratio(t: Tensor, r: Tensor) -> str:
    """Return the rule by which r follows from t, or the range of r / t."""
    used = r > 0
    zero = f", and 0 for {int((~used).sum())} of {len(r)} examples" if bool((~used).any()) else ""
    if not bool(used.any()):
        return "r is 0: denoising"
    t, gap = t[used], (1 - r / t)[used]
    scale = (1 + 8 * torch.sigmoid(-t)) / gap
    if _is_constant(scale):
        return f"r = t (1 - (1 + 8 sigmoid(-t)) / {float(scale.median()):.5g}){zero}, the mapping of ECT"
    if _is_constant(gap):
        return f"r / t = {1 - float(gap.median()):.5g}{zero}"
    return f"r / t is from {1 - float(gap.max()):.5g} to {1 - float(gap.min()):.5g}{zero}"


def _is_constant(values: Tensor) -> bool:
    return bool(((values / values.median() - 1).abs() < 1e-2).all())
