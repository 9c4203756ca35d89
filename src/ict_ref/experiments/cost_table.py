"""The table of what deviations cost, from stored runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from ict_ref.experiments.runs import Table


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


def cost_table(runs: Sequence[StoredRun]) -> Table:
    return Table("x", ("a",), ())
