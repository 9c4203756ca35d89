"""The search over noise levels, scored by the Frechet distance of samples from the same noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

import ict_ref
from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.evaluate.features import Features, find_features
from ict_ref.evaluate.group import ProcessGroup, joined_by
from ict_ref.evaluate.measured import measure_together
from ict_ref.evaluate.reference import find_reference, measured_reference
from ict_ref.evaluate.sets import ImageSet, recipe_of, sampled
from ict_ref.formulas import frechet_distance, search_intermediate_sigma, sigma_grid
from ict_ref.search.options import SearchOptions
from ict_ref.search.scored import Scored
from ict_ref.utils.progress import bar


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    sigma: float
    node: int
    nodes: int
    frechet_distance: float
    without: float
    """Frechet distance without the step at sigma."""
    before: tuple[float, ...]
    after: tuple[float, ...]
    levels: dict[float, float]
    """Frechet distance by scored noise level."""


class Scorer:
    """A cached function from sampling noise levels to the Frechet distance of their samples."""

    def __init__(
        self,
        trained: PretrainedModel,
        options: SearchOptions,
        before: tuple[float, ...],
        nodes: int,
        place: Scored,
        group: ProcessGroup,
    ) -> None:
        self._trained, self._options, self._place, self._group = trained, options, place, group
        self._features: Features = find_features(options.features, group.device)
        first = self._samples(before[:1])
        real = find_reference(options.reference, self._features)
        self._reference, self._channels = measured_reference(real, first, self._features, group, least=2)
        self.about: dict[str, Any] = {}
        self.known: dict[tuple[float, ...], float] = {}
        if self._reference is not None and group.first:
            # Descriptions without a device are of the CPU.
            device = {} if group.device.type == "cpu" else {"device": group.device.type}
            self.about = {
                "ict_ref": ict_ref.__version__,
                "model": trained.name,
                "count": first.count,
                **{name: value for name, value in first.made.items() if name != "sigmas"},
                "before": list(before),
                "after": list(options.after),
                "nodes": nodes,
                "reference": self._reference.about,
                "features": {"name": self._features.name, "sha256": self._features.sha256},
                **device,
            }
            self.known = place.begin(self.about)

    def __call__(self, levels: Float64[Tensor, " levels"] | Sequence[float]) -> float:
        """Return the Frechet distance between the reference and samples made at these levels."""
        key = tuple(float(level) for level in levels)
        if self._group.any(self._group.first and key not in self.known):
            self._score(key)
        # The other processes have only the scores of this command, so they take all from the first.
        value = torch.tensor([self.known.get(key, math.nan)], dtype=torch.float64)
        self._group.share_([value])
        return float(value)

    def _score(self, levels: tuple[float, ...]) -> None:
        """Score these levels, and store the score in the first process."""
        made, reference = self._samples(levels), self._reference
        samples = measure_together(
            made, self._features, self._group, channels=self._channels, classify=False, what="samples"
        )
        if samples is not None and reference is not None:
            distance = frechet_distance(samples.mean, samples.covariance, reference.mean, reference.covariance)
            self.known[levels] = float(distance)
            self._place.keep(self.known)

    def _samples(self, levels: tuple[float, ...]) -> ImageSet:
        options = self._options
        return sampled(
            recipe_of(
                self._trained, options, count=options.count, sigmas=levels, labels=options.labels, seed=options.seed
            )
        )


def find(options: SearchOptions) -> Found | None:
    """Return the best noise level, and write it with all scores to the folder; None in all processes but the first.

    Raises:
        ValueError: The model does not support the levels, labels, reference or device, or the folder is in use.
        OSError: A file cannot be read or written.
    """
    with joined_by(options) as group:
        trained = load_pretrained(
            options.model, group.device, step=options.step, ema=options.ema, ema_sigma=options.ema_sigma
        )
        return _find(options, trained, group)


def _find(options: SearchOptions, trained: PretrainedModel, group: ProcessGroup) -> Found | None:
    method = trained.method
    before, after = options.before or (method.sigma_max,), options.after
    nodes = options.nodes or method.s1 + 1
    grid = sigma_grid(nodes, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    # Reject levels that do not descend or have no node between them, before the folder is created.
    search_intermediate_sigma(lambda _: 0.0, grid, before=before, after=after)
    place = Scored(options.folder)
    score = Scorer(trained, options, before, nodes, place, group)
    with bar(most_scores(nodes), "searching, at most", "levels", shown=group.first) as progress:

        def shown(levels: Float64[Tensor, " levels"]) -> float:
            value = score(levels)
            progress.update()
            return value

        sigma = search_intermediate_sigma(shown, grid, before=before, after=after)
        without, best = score([*before, *after]), score([*before, sigma, *after])
    if not group.first:
        return None
    node = int((grid - sigma).abs().argmin()) + 1
    place.finish(
        score.about,
        {
            "sigma": sigma,
            "node": node,
            "nodes": nodes,
            "frechet_distance": best,
            "frechet_distance_without": without,
        },
    )
    steps = len(before) + len(after)
    levels = {key[len(before)]: value for key, value in score.known.items() if len(key) > steps}
    return Found(sigma, node, nodes, best, without, before, after, levels)


def most_scores(nodes: int) -> int:
    """Return the largest number of nodes that a ternary search scores: two per step, and the last few."""
    return 2 * math.ceil(math.log(max(nodes, 2), 1.5)) + 4
