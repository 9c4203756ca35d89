"""The table of what deviations cost, from stored runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ict_ref.experiments.runs import Table

Score: TypeAlias = Literal["frechet_distance", "accuracy", "recall"]
SCORES: Mapping[Score, int] = {"frechet_distance": -1, "accuracy": 1, "recall": 1}
"""The scores, and the sign of a better one."""
SPREADS = 2
"""Number of standard deviations up to which a difference counts as spread."""
LEGIBLE = 0.3
"""Accuracy below which the samples do not count as digits; chance has 0.1."""
RIGHT_NAME = "Right"
COLUMNS = ("deviation", "seeds", "Frechet distance", "accuracy", "recall", "loss", "cost", "what a user sees")
NOTE = (
    "Mean and standard deviation over seeds; the loss is a multiple of the right one. The cost is the difference of"
    f" the Frechet distance, within the spread up to {SPREADS} standard deviations, the larger of the two."
)


@dataclass(frozen=True)
class StoredRun:
    """The result of one run."""

    deviation: str
    seed: int
    updates: int
    """Number of updates that were asked for."""
    configuration: str
    """Digest of the configuration without the deviation."""
    seconds: float
    """CPU time."""
    diverged_at: int | None = None
    """Number of the update whose loss or gradient was not finite, or of all updates if samples were not."""
    loss: float | None = None
    """Mean training loss of the last tenth."""
    frechet_distance: float | None = None
    accuracy: float | None = None
    recall: float | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a score over seeds."""

    mean: float
    deviation: float | None
    """None with one seed."""

    def __str__(self) -> str:
        """Return both with two decimals.

        >>> str(Spread(1.0, 0.25)), str(Spread(1.0, None))
        ('1.00 ± 0.25', '1.00')
        """
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class Summary:
    """The runs of one deviation."""

    name: str
    runs: tuple[StoredRun, ...]

    @property
    def diverged(self) -> tuple[int, ...]:
        """Return the updates at which runs diverged, ascending."""
        return tuple(sorted(run.diverged_at for run in self.runs if run.diverged_at is not None))

    @property
    def has_scores(self) -> bool:
        """Return whether a run has scores."""
        return len(self.diverged) < len(self.runs)

    def spread(self, name: Score | Literal["loss"]) -> Spread:
        """Return mean and standard deviation over the runs with scores.

        Raises:
            ValueError: no run has scores.
        """
        values = [value for run in self.runs if (value := getattr(run, name)) is not None]
        if not values:
            raise ValueError(f"{self.name}: expected a run with scores, got none.")
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def summaries(runs: Iterable[StoredRun]) -> dict[str, Summary]:
    """Return the runs of each deviation, by its name, in the order of the first runs."""
    found: dict[str, list[StoredRun]] = {}
    for run in runs:
        found.setdefault(run.deviation, []).append(run)
    return {name: Summary(name, tuple(of)) for name, of in found.items()}


def change(summary: Summary, right: Summary, score: Score) -> int:
    """Return 1 for a better score than the right one, -1 for a worse one, 0 for a difference within the spread."""
    here, there = summary.spread(score), right.spread(score)
    difference = here.mean - there.mean
    if abs(difference) <= SPREADS * max(here.deviation or 0.0, there.deviation or 0.0):
        return 0
    return SCORES[score] if difference > 0 else -SCORES[score]


def cost(summary: Summary, right: Summary) -> str:
    """Return the difference of the Frechet distance from the right one in words."""
    if not summary.has_scores:
        return "diverges"
    difference = summary.spread("frechet_distance").mean - right.spread("frechet_distance").mean
    within = "" if change(summary, right, "frechet_distance") else ", within the spread"
    return f"{difference:+.2f}{within}"


def symptom(summary: Summary, right: Summary) -> str:
    """Return what a user sees, by the scores and by divergence."""
    updates = ", ".join(map(str, summary.diverged))
    stop = f"training stops, not finite, at update {updates}" if updates else ""
    if not summary.has_scores:
        return stop
    return "; ".join(filter(None, (stop, _of_samples(summary, right))))


def _of_samples(summary: Summary, right: Summary) -> str:
    """Return the difference of the samples in words."""
    accuracy = summary.spread("accuracy").mean
    changes = {score: change(summary, right, score) for score in SCORES}
    if accuracy < LEGIBLE:
        return "no digits"
    worse = []
    if changes["accuracy"] < 0:
        wrong = [1 - each.spread("accuracy").mean for each in (summary, right)]
        worse.append(f"{wrong[0]:.0%} of the digits are wrong or illegible, {wrong[1]:.0%} without the deviation")
    if changes["recall"] < 0:
        worse.append("less variety")
    if changes["frechet_distance"] < 0 and not worse:
        worse.append("digits less like real ones")
    better = "better scores" if max(changes.values()) > 0 else ""
    return "; ".join(filter(None, (*worse, better))) or "nothing"


def row(summary: Summary, right: Summary) -> tuple[str, ...]:
    """Return a row of the table; a dash for scores of runs that all diverged."""
    scores = ["-"] * 4
    if summary.has_scores:
        ratio = summary.spread("loss").mean / right.spread("loss").mean
        scores = [*(str(summary.spread(score)) for score in SCORES), f"{ratio:.2g}"]
    is_right = summary.name == right.name
    ends = ("", "") if is_right else (cost(summary, right), symptom(summary, right))
    return (summary.name, str(len(summary.runs)), *scores, *ends)


def cost_table(runs: Sequence[StoredRun], title: str) -> Table:
    """Return the table, the right runs first.

    Raises:
        ValueError: there are no right runs with scores.
    """
    found = summaries(runs)
    if RIGHT_NAME not in found or not found[RIGHT_NAME].has_scores:
        raise ValueError(f"{RIGHT_NAME}: expected runs with scores, got none. Run the reference first.")
    right = found.pop(RIGHT_NAME)
    return Table(title, COLUMNS, tuple(row(each, right) for each in (right, *found.values())), NOTE)


def clause(summary: Summary, right: Summary, scale: str) -> str:
    """Return the cost as a clause that follows a deviation's effect.

    >>> def runs(name, *distances):
    ...     stored = (StoredRun(name, k, 9, "", 0.0, loss=1.0, frechet_distance=x) for k, x in enumerate(distances))
    ...     return Summary(name, tuple(stored))
    >>> clause(runs("A", 3.0, 3.5), runs("Right", 1.0, 1.5), "on digits")
    'on digits: Frechet distance 3.25 ± 0.35 where 1.25 ± 0.35 is right'
    """
    if not summary.has_scores:
        return f"{scale}: {symptom(summary, right)}"
    here, there = (each.spread("frechet_distance") for each in (summary, right))
    seeds = ", one seed" if here.deviation is None else ""
    if change(summary, right, "frechet_distance") == 0:
        return f"{scale} a cost within the spread"
    return f"{scale}{seeds}: Frechet distance {here} where {there} is right"
