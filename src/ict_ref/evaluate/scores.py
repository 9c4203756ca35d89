"""Scores of samples against a reference, and the reasons for missing scores."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from ict_ref.evaluate.measured import Measured
from ict_ref.evaluate.pairs import compare, pairs
from ict_ref.formulas import frechet_distance, inception_score
from ict_ref.utils.progress import bar

PARTS = 10


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of samples; None for a score that cannot be computed."""

    frechet_distance: float
    kernel_distance: float | None
    precision: float | None
    recall: float | None
    inception_score: float | None
    """Inception score of all samples at once."""
    inception_score_of_parts: tuple[float, float] | None
    """Mean and standard deviation over ten parts, in the order of the samples."""
    left_out: tuple[str, ...]
    """One line for each missing score with its reason."""


def score(samples: Measured, reference: Measured, *, k: int) -> Scores:
    """Return the scores of these samples.

    Raises:
        ValueError: There are too few images, or the numbers of features differ.
    """
    distance = frechet_distance(samples.mean, samples.covariance, reference.mean, reference.covariance)
    if not bool(distance.isfinite()):
        got = f"{float(distance)}, from means up to {float(reference.mean.abs().max()):.3g} in the reference"
        raise ValueError(f"--reference: expected statistics with a finite Frechet distance, got {got}")
    left_out, compared = [], None
    if reference.features is None or samples.features is None:
        left_out.append("kernel distance, precision and recall need the reference's features, but it has only moments")
    else:
        total = pairs(len(reference.features), len(samples.features))
        with bar(total, "comparing", "pairs") as progress:
            compared = compare(reference.features, samples.features, k=k, progress=progress.update)
    if samples.probabilities is None:
        left_out.append("the inception score needs probabilities of classes, which these features do not provide")
    p = samples.probabilities
    return Scores(
        frechet_distance=float(distance),
        kernel_distance=compared.kernel_distance if compared else None,
        precision=compared.precision if compared else None,
        recall=compared.recall if compared else None,
        inception_score=None if p is None else float(inception_score(p)),
        inception_score_of_parts=None if p is None or len(p) < PARTS else _of_parts(p),
        left_out=tuple(left_out),
    )


def _of_parts(p: Float32[Tensor, " n classes"]) -> tuple[float, float]:
    each = torch.stack([inception_score(part).double() for part in p.tensor_split(PARTS)])
    return float(each.mean()), float(each.std(correction=0))
