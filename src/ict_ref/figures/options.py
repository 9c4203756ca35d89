"""Options of `python -m ict_ref.figures`, without an import of torch, so that help and errors appear at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.figures.catalogue import FIGURES
from ict_ref.utils.command_line import LARGEST_SEED, expect, expect_count
from ict_ref.utils.nearest import hint
from ict_ref.utils.option_parser import Decay, Several, Step, Width, metavar

GROUPS = {
    "analytic": [number for number, entry in FIGURES.items() if entry.analytic],
    "experiments": [number for number, entry in FIGURES.items() if not entry.analytic],
}
# Figures whose curves are scores of a run's checkpoints.
FROM_RUNS = ("1b", "1c", "2a", "2b", "2c", "3a", "3c", "4b")
# Options that belong to a sheet of samples.
OF_SHEET = ("step", "ema", "ema_sigma", "sheet", "labels", "seed", "device")


def _duration(seconds: float) -> str:
    return "at once" if seconds < 1 else f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


LINES = (f"  {number}  {entry.what:48} {_duration(entry.seconds)}" for number, entry in FIGURES.items())
EPILOG = f"""
figures, with approximate times on one CPU thread:
{chr(10).join(LINES)}

exit status: 0 done; 2 rejected, one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.figures
  python -m ict_ref.figures --only analytic
  python -m ict_ref.figures --only 1a 3b --out paper
  python -m ict_ref.figures --only 3c --from runs/fig3c_exponential-1234abcd runs/fig3c_constant-5678abcd
  python -m ict_ref.figures --run runs/digits-c86323d6
  python -m ict_ref.figures --run net.safetensors --sheet 4 12 --labels 207 88 1 976
"""


@dataclass(frozen=True)
class FigureOptions:
    """Make the paper's figures, or a sheet of samples from a trained model.

    Each figure is written as NUMBER.png and NUMBER.svg, with its points in NUMBER.csv (panel, curve, x, y). Quick
    figures are made first, and each is written as soon as it is made. A figure whose three files exist is kept, so the
    same command resumes after a stop. Existing files are not overwritten. With the same version of matplotlib a figure
    has the same bytes each time. Drawing needs the package matplotlib.

    A sheet (--run, --sheet, --labels, --seed, --device) shows samples in one step and in two steps from the same noise,
    like Figures 5 and 7 to 10. --step, --ema and --ema-sigma choose the weights. It does not need matplotlib. For a
    model with labels each row shows one class, and sample k is that of python -m ict_ref.sample with the same --labels
    and --seed. NAME-sheet.json beside NAME-sheet.png describes how it was made.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("figures")
    """Folder for the figures."""
    only: Annotated[Several[str], metavar("NUMBER ...")] = ()
    """Figures to make, by default all; analytic: all from formulas; experiments: all with training."""
    runs: Annotated[Several[Path], tyro.conf.arg(name="from", metavar="RUN ...", help_behavior_hint="")] = ()
    """Draw the figures from these runs, whose checkpoints python -m ict_ref.evaluate RUN --every-milestone has scored.
    Needs --only with some of 1b, 1c, 2a, 2b, 2c, 3a, 3c and 4b. The files are NUMBER-runs.png, .svg and .csv.
    Existing files that show other runs or fewer checkpoints are rejected."""
    run: Annotated[Path | None, metavar("RUN")] = None
    """Run folder, checkpoint or network file for a sheet of samples."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""
    sheet: Annotated[tuple[int, int] | None, metavar("ROWS COLUMNS")] = None
    """Size of the sheet; by default 10 8, with fewer rows for fewer classes."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes of the rows, sorted; by default from 0."""
    seed: Annotated[int | None, metavar("S")] = None
    """Seed of the noise; by default 0."""
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, metavar("{auto,cpu,cuda}")] = None
    """Device for sampling; by default auto: a GPU if available."""

    def __post_init__(self) -> None:
        if self.runs:
            self._check_runs()
        for name in ("only",) if self.run else OF_SHEET:
            option = f"--{name.replace('_', '-')}"
            if getattr(self, name) not in (None, ()):
                if self.run:
                    raise ValueError(f"{option}: expected only without --run, got both. Leave one of them out.")
                raise ValueError(f"{option}: expected --run too, got {option} alone. Add --run.")
        for name in self.only:
            expect(
                name in {*FIGURES, *GROUPS},
                "--only",
                f"one of {', '.join([*FIGURES, *GROUPS])}",
                name + hint(name, [*FIGURES, *GROUPS]),
            )
        expect_count(self.seed, "--seed", 0, LARGEST_SEED)

    def _check_runs(self) -> None:
        expect(self.run is None, "--run", "only without --from", "both", "Leave one of them out.")
        others = " ".join(name for name in self.only if name not in FROM_RUNS)
        wanted = f"some of {', '.join(FROM_RUNS)} with --from"
        expect(bool(self.only) and not others, "--only", wanted, others or "nothing")

    @property
    def numbers(self) -> list[str]:
        """Return the numbers of the figures to make, in order."""
        wanted = {number for name in self.only or FIGURES for number in GROUPS.get(name, [name])}
        return [number for number in FIGURES if number in wanted]
