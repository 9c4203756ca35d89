"""Options of `python -m ict_ref.experiments`, without an import of torch, so that help and errors appear at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ict_ref.utils.option_parser import Several, metavar

Name = Literal["delta", "gaussian", "mixture", "levels", "teacher-ema", "huber"]
EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.experiments
  python -m ict_ref.experiments --only levels huber --json found.json
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

    Each experiment uses one CPU thread and takes less than a minute; all together take four minutes. Numbers are
    reproducible on the same machine.
    """

    only: Annotated[Several[Name], metavar("NAME ...")] = ()
    """Experiments to run; by default all."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """New file for the tables."""
