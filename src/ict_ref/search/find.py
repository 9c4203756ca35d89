"""The search over noise levels, scored by the Frechet distance of samples from the same noise."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.evaluate.features import Features, find_features
from ict_ref.evaluate.group import ProcessGroup, joined_by
from ict_ref.evaluate.measured import measure_together
from ict_ref.evaluate.reference import find_reference, measured_reference
from ict_ref.evaluate.report import scored_by
from ict_ref.evaluate.sets import ImageSet, recipe_of, sampled
from ict_ref.formulas import frechet_distance, search_intermediate_sigma, sigma_grid
from ict_ref.search.options import SearchOptions
from ict_ref.search.scored import Scored
from ict_ref.utils.atomic import locked_output
from ict_ref.utils.progress import bar
from ict_ref.utils.torchscript import trust


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
        trust(options.trust)
        self._features: Features = find_features(options.features, group.device)
        first = samples_at(before[:1], trained, options)
        real = find_reference(options.reference, self._features, group)
        self._reference, self._channels = measured_reference(real, first, self._features, group, least=2)
        self.about: dict[str, Any] = {}
        self.known: dict[tuple[float, ...], float] = {}
        if self._reference is not None and group.first:
            self.about = {
                "model": trained.name,
                "count": first.count,
                **{name: value for name, value in first.made.items() if name != "sigmas"},
                "before": list(before),
                "after": list(options.after),
                "nodes": nodes,
                **scored_by(self._reference, self._features, group.device.type),
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
        made, reference = samples_at(levels, self._trained, self._options), self._reference
        samples = measure_together(
            made, self._features, self._group, channels=self._channels, classify=False, what="samples"
        )
        if samples is not None and reference is not None:
            distance = frechet_distance(samples.mean, samples.covariance, reference.mean, reference.covariance)
            self.known[levels] = float(distance)
            self._place.keep(self.known)


def samples_at(levels: tuple[float, ...], trained: PretrainedModel, options: SearchOptions) -> ImageSet:
    """Return the samples of the model at these noise levels, which are made later.

    Raises:
        ValueError: The model does not support the noise levels or labels.
    """
    return sampled(
        recipe_of(trained, options, count=options.count, sigmas=levels, labels=options.labels, seed=options.seed)
    )


def find(options: SearchOptions, show: Callable[[Found], object] = lambda _: None) -> Found | None:
    """Return the best noise level, and write it with all scores to the folder; None in all processes but the first.

    `show` is called with the result in the first process, while the folder is locked.

    Raises:
        ValueError: The model does not support the levels, labels, reference or device, or the folder is in use.
        OSError: A file cannot be read or written.
    """
    with contextlib.ExitStack() as held, joined_by(options) as group:
        trained = load_pretrained(
            options.model,
            group.device,
            step=options.step,
            ema=options.ema,
            ema_sigma=options.ema_sigma,
            network=options.network,
        )
        if group.first:
            held.enter_context(locked_output(options.folder))
        found = _find(options, trained, group)
        if found is not None:
            show(found)
        return found


@dataclass(frozen=True)
class Plan:
    """The grid of a search, and the noise levels of the steps before the searched one."""

    before: tuple[float, ...]
    grid: Float64[Tensor, " nodes"]

    @property
    def nodes(self) -> int:
        """Return the number of nodes of the grid."""
        return len(self.grid)


def plan_of(options: SearchOptions, trained: PretrainedModel) -> Plan:
    """Return the grid and the first noise levels of a search.

    Raises:
        ValueError: The levels do not descend or have no node between them, or the model does not support the samples.
    """
    method = trained.method
    plan = Plan(
        options.before or (method.sigma_max,),
        sigma_grid(
            options.nodes or method.s1 + 1,
            sigma_min=trained.lowest_sigma,
            sigma_max=method.sigma_max,
            rho=method.rho,
        ),
    )
    trained.refuse_untrained("--before", plan.before)
    trained.refuse_untrained("--after", options.after)
    search_intermediate_sigma(lambda _: 0.0, plan.grid, before=plan.before, after=options.after)
    samples_at(plan.before[:1], trained, options)
    return plan


def _find(options: SearchOptions, trained: PretrainedModel, group: ProcessGroup) -> Found | None:
    plan, place = plan_of(options, trained), Scored(options.folder)
    before, after, grid, nodes = plan.before, options.after, plan.grid, plan.nodes
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
