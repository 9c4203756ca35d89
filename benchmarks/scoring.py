"""Scores of features against the packages that others use, at the size of Inception's features.

The answers are compared before anything is timed: a fast wrong score is not a result.
"""

import contextlib
import io
import math
import warnings

import prdc
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import KernelInceptionDistance

from benchmarks.ratio import Ratio, interleaved
from ict_ref.evaluate.pairs import Compared, compare
from ict_ref.formulas import frechet_distance

FEATURES, IMAGES, NEIGHBOURS = 2048, 4000, 3


def measure(pairs: int) -> list[Ratio]:
    """Return our Frechet distance over torchmetrics', and our three pairwise scores over prdc's and torchmetrics'."""
    real, fake = features(0, 1.0), features(1, 1.05)
    moments = tuple(moment for some in (real, fake) for moment in (some.double().mean(0), some.double().mT.cov()))

    def ours() -> float:
        return float(frechet_distance(*moments))

    def torchmetrics_fid() -> float:
        return float(_compute_fid(*moments))

    def all_pairs() -> Compared:
        return compare(real, fake, k=NEIGHBOURS)

    def of_prdc() -> tuple[float, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=NEIGHBOURS)
        return found["precision"], found["recall"]

    def torchmetrics_kid() -> float:
        return kid(real, fake)

    found = all_pairs()
    _same("Frechet distance", ours(), torchmetrics_fid())
    _same("KID", found.kernel_distance, torchmetrics_kid())
    for name, one, other in zip(("precision", "recall"), (found.precision, found.recall), of_prdc(), strict=True):
        _same(name, one, other)
    few = max(1, pairs // 3)
    return [
        interleaved("Frechet distance / torchmetrics'", ours, torchmetrics_fid, pairs=few, target=0.5),
        interleaved("KID, precision, recall / prdc's two", all_pairs, of_prdc, pairs=few, target=0.5),
        interleaved("the same / torchmetrics' KID", all_pairs, torchmetrics_kid, pairs=few, target=1.0),
    ]


def features(seed: int, scale: float) -> Tensor:
    """Return rectified features of which each has another variance, as a network's have."""
    generator = torch.Generator().manual_seed(seed)
    of_axes = scale / (1 + torch.arange(FEATURES) / 50)
    return (torch.randn(IMAGES, FEATURES, generator=generator) * of_axes + 0.3 * of_axes).relu()


def kid(real: Tensor, fake: Tensor) -> float:
    """Return torchmetrics' KID of all images at once, in float64."""

    class AsTheyAre(nn.Module):
        num_features = FEATURES

        def forward(self, x: Tensor) -> Tensor:
            return x

    with warnings.catch_warnings(action="ignore"):  # it warns that it keeps all features
        score = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=len(real))
    score.set_dtype(torch.float64)
    score.update(real.double(), real=True)
    score.update(fake.double(), real=False)
    return float(score.compute()[0])


def _same(name: str, one: float, other: float) -> None:
    """Raise ValueError unless two numbers agree to nine digits of their size, or of 1."""
    if not math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(f"{name}: expected {other}, as another package has it, got {one}")
