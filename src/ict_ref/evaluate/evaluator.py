"""Scores of images against held-out real images: Frechet distance, precision, recall and label accuracy in pixels.

Baselines, such as real images and noise, give the scale of each score.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from ict_ref.config import Acceptance
from ict_ref.data.dataset import Images, to_float, to_uint8
from ict_ref.evaluate.features import Pixels
from ict_ref.evaluate.measured import Measured, measure
from ict_ref.evaluate.scores import score
from ict_ref.evaluate.sets import in_memory
from ict_ref.utils.rng import stream

# Neighbours for precision and recall.
K = 3
# Largest number of training images to which the normal distribution is fitted.
MOMENTS = 10_000


@dataclass(frozen=True)
class Score:
    """The scores of one set of images; accuracy is None without labels."""

    name: str
    frechet_distance: float
    precision: float
    recall: float
    accuracy: float | None


class Evaluator:
    """A scorer of images with held-out real images as reference set and training set of its classifier.

    The scores are those of `python -m ict_ref.evaluate --features pixels`, with the accuracy of the labels.
    """

    def __init__(self, held_out: Images) -> None:
        self._held_out = held_out
        self._reference = _measured("held-out images", held_out.pixels)

    def score(
        self, name: str, pixels: UInt8[Tensor, " n channels height width"], labels: Int64[Tensor, " n"] | None
    ) -> Score:
        """Return the scores of these images.

        Raises:
            ValueError: There are fewer than four images.
        """
        found = score(_measured(name, pixels), self._reference, k=K)
        assert found.precision is not None and found.recall is not None  # noqa: S101, PT018 (both have features)
        accuracy = None
        if labels is not None:
            accuracy = float(np.mean(self._classifier.predict(_flat(pixels)) == labels.numpy()))
        return Score(name, found.frechet_distance, found.precision, found.recall, accuracy)

    def baselines(self, train: Images, labels: Int64[Tensor, " n"] | None, seed: int) -> list[Score]:
        """Return the scores of training images, of samples from a normal distribution fitted to them, and of noise.

        Each baseline has as many images as the held-out set, because the scores depend on this number. `labels` are
        assigned to the last two baselines, so their accuracy is that of chance.
        """
        count = len(self._held_out)
        generator = stream(seed, "baseline")
        real = train.evenly(count)
        features = _flat(train.evenly(min(len(train), MOMENTS)).pixels)
        normal = generator.multivariate_normal(features.mean(0), np.cov(features.T), size=count, method="eigh")
        noise = generator.integers(256, size=self._held_out.array.shape, dtype=np.uint8)
        return [
            self.score("real images", real.pixels, None if labels is None else real.labels),
            self.score(
                "fitted Gaussian", to_uint8(torch.from_numpy(normal)).reshape(self._held_out.array.shape), labels
            ),
            self.score("noise", torch.from_numpy(noise), labels),
        ]

    @cached_property
    def _classifier(self) -> Any:
        # This import takes about a second, so only this function makes it.
        from sklearn.svm import SVC

        return SVC().fit(_flat(self._held_out.pixels), self._held_out.labels.numpy())


def below_thresholds(score: Score, acceptance: Acceptance) -> list[str]:
    """Return one line per acceptance threshold that this score misses."""
    missed = []
    if acceptance.accuracy is not None and score.accuracy is not None and score.accuracy < acceptance.accuracy:
        missed.append(f"accuracy {score.accuracy:.3f} is below {acceptance.accuracy}")
    if acceptance.frechet_distance is not None and not score.frechet_distance <= acceptance.frechet_distance:
        missed.append(f"Frechet distance {score.frechet_distance:.3f} is above {acceptance.frechet_distance}")
    if acceptance.recall is not None and not score.recall >= acceptance.recall:
        missed.append(f"recall {score.recall:.3f} is below {acceptance.recall}")
    return missed


def table(scores: list[Score], acceptance: Acceptance) -> str:
    """Return a table of the scores, with the acceptance thresholds in its last row."""

    def row(name: str, *cells: str) -> str:
        return f"{name:<24}" + "".join(f"{cell:>18}" for cell in cells)

    def limit(sign: str, value: float | None) -> str:
        return "" if value is None else f"{sign} {value}"

    lines = [row("", "Frechet distance", "precision", "recall", "label accuracy")]
    for each in scores:
        accuracy = "-" if each.accuracy is None else f"{each.accuracy:.3f}"
        numbers = (each.frechet_distance, each.precision, each.recall)
        lines.append(row(each.name, *(f"{number:.3f}" for number in numbers), accuracy))
    if acceptance != Acceptance():
        lines.append(
            row(
                "thresholds",
                limit("<=", acceptance.frechet_distance),
                "",
                limit(">=", acceptance.recall),
                limit(">=", acceptance.accuracy),
            )
        )
    return "\n".join(lines)


def _measured(name: str, pixels: UInt8[Tensor, " n channels height width"]) -> Measured:
    images = in_memory(name, pixels)
    return measure(images, Pixels(), channels=images.event[0], classify=False, what=name)


def _flat(pixels: UInt8[Tensor, " n channels height width"]) -> Float64[np.ndarray, " n d"]:
    return to_float(pixels).double().reshape(len(pixels), -1).numpy()
