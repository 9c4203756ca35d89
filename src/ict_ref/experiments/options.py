"""Options of `python -m ict_ref.experiments`, without an import of torch, so that help and errors appear at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ict_ref.utils.command_line import expect, expect_count
from ict_ref.utils.option_parser import Several, metavar

Name = Literal["delta", "gaussian", "mixture", "levels", "teacher-ema", "huber", "deviations"]
EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.experiments
  python -m ict_ref.experiments --only levels huber --json found.json
  python -m ict_ref.experiments --only deviations --runs costs
"""


@dataclass(frozen=True)
class ExperimentOptions:
    """Train small models with the training engine on data with known answers, and print tables of the results.

      delta         a point: error of the learned f against the exact consistency function, by noise level
      gaussian      a normal distribution in the plane: the same
      mixture       two narrow modes on the line: the same, the exact function by solving Eq. (1)
      levels        error against the number N of noise levels, and its power law (Section 3.4, Fig. 3a)
      teacher-ema   Proposition 1 at finite N, and EMA weights as teacher and without (Section 3.2)
      huber         how much gradients and updates vary, pseudo-Huber and squared l2 (Section 3.3, Fig. 6b)
      deviations    cost of each known deviation of public code, in scores of digits; only where it is named

    Each experiment uses one CPU thread and takes less than a minute; all together take four minutes. Only deviations
    takes 40 minutes or more, half a minute for each run; the same command resumes it. Numbers are reproducible on the
    same machine.
    """

    only: Annotated[Several[Name], metavar("NAME ...")] = ()
    """Experiments to run; by default all but deviations."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """New file for the tables."""
    runs: Annotated[Path | None, metavar("FOLDER")] = None
    """Folder of the runs of deviations; runs that it has are not made again. By default runs/deviations."""
    seeds: int | None = None
    """Seeds of each deviation; the reference has two more. By default 3."""
    steps: int | None = None
    """Updates of each run of deviations. By default 400."""

    def __post_init__(self) -> None:
        for name in ("runs", "seeds", "steps"):
            value = getattr(self, name)
            allowed = value is None or "deviations" in self.only
            expect(allowed, f"--{name}", "nothing without --only deviations", value)
            if isinstance(value, int):
                expect_count(value, f"--{name}")
