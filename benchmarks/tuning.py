"""Train iCT from random weights, and ECT from a denoiser, on digits: `python -m benchmarks.tuning --out FOLDER`.

The denoiser is trained first, and its updates and seconds count as ECT's. The first seed tries all settings of each
side; the other seeds train the one with the smallest distance at the end. The command writes tuning.png, .svg and .csv
to the folder. It resumes where it was stopped.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.distillation import UNSCORED, succeed, trained_denoiser
from ict_ref.config import Config, Method
from ict_ref.config.presets import digits
from ict_ref.data.dataset import load
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.evaluate.curve import NAME, read_curve
from ict_ref.launch.__main__ import main as launch
from ict_ref.training.trainer import Trainer
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.chart import files
from ict_ref.utils.panel import Figure, Panel, Points

CHECKPOINTS = 8
"""Scored checkpoints of each model. ECT has as many stages, as in its 200 000 updates on CIFAR-10."""
ICT, ECT = "iCT from random weights", "ECT from a denoiser"
TIMED = 20
"""Timed updates of each method."""

Settings = Mapping[str, Sequence[str]]
"""Options by the words of a setting."""


def settings(tuned: int) -> dict[str, Settings]:
    """Return the settings that are tried for each side, where ECT has `tuned` updates."""
    stages = f"--tuning.steps-per-stage={max(1, tuned // CHECKPOINTS)}"
    slow = "--train.learning-rate=1e-3"
    return {
        ICT: {
            "s1 = 1280 and rate 0.003": (),
            "s1 = 160 and rate 0.003": ("--method.s1=160",),
            "s1 = 1280 and rate 0.001": (slow,),
        },
        ECT: {
            "q = 2 in 8 stages and rate 0.003": (stages,),
            "q = 256 in one stage and rate 0.003": ("--tuning.q=256", f"--tuning.steps-per-stage={tuned}"),
            "q = 2 in 8 stages and rate 0.001": (stages, slow),
            "q = 2 in 5 stages and rate 0.003": (f"--tuning.steps-per-stage={max(1, tuned // 5)}",),
        },
    }


def scored(run: Path, steps: int, *options: str) -> Points:
    """Train a model, score its checkpoints, and return the Frechet distance of one-step samples by the update."""
    every = max(1, steps // CHECKPOINTS)
    train = [f"--train.steps={steps}", f"--record.milestone-every={every}", "--train.ema-decay=0.98", *options]
    succeed(launch(["--config", "digits", *train, *UNSCORED, "--out", str(run)]))
    succeed(evaluate([str(run), "--reference", "digits:held-out", "--every-milestone"]))
    points = read_curve(run / NAME).points
    scores = ((float(point.step), point.scores["frechet_distance"]) for point in points)
    return tuple((step, distance) for step, distance in scores if distance is not None)


@dataclasses.dataclass(frozen=True)
class Runs:
    """The runs of a folder, in which all seeds have the same numbers of updates."""

    folder: Path
    first: int
    """Updates of the denoiser."""
    steps: int
    """Updates of iCT; ECT has these less the denoiser's."""

    @property
    def tuned(self) -> int:
        """Return the updates of ECT."""
        return self.steps - self.first

    def denoiser(self, seed: int) -> Path:
        """Return the file of a seed's denoiser."""
        place = self.folder / f"seed-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        return trained_denoiser(place, self.first, f"--train.seed={seed}")

    def curve(self, side: str, number: int, seed: int) -> Points:
        """Return the distances of a side with one of its settings; the denoiser's updates count as ECT's."""
        options = [*list(settings(self.tuned)[side].values())[number], f"--train.seed={seed}"]
        place = self.folder / f"seed-{seed}"
        if side == ICT:
            return scored(place / f"ict-{number}", self.steps, *options)
        options += ["--method.objective=ect", f"--train.init={self.denoiser(seed)}"]
        return shifted(scored(place / f"ect-{number}", self.tuned, *options), 1.0, self.first)


def shifted(points: Points, scale: float, offset: float) -> Points:
    """Return the points with the abscissa offset + scale x."""
    return tuple((offset + scale * x, y) for x, y in points)


def median(curves: Sequence[Points]) -> Points:
    """Return the median of the ordinates of curves with the same abscissas."""
    return tuple((same[0][0], statistics.median(y for _, y in same)) for same in zip(*curves, strict=True))


def seconds_per_update(denoiser: Path) -> dict[str, float]:
    """Return the median time of an update of each method, in alternation, so that other work slows all alike."""
    base = digits()
    methods = {
        "denoiser": (Method(objective="denoising", p_mean=-1.2, p_std=1.2), ""),
        ICT: (Method(), ""),
        ECT: (Method(objective="ect"), str(denoiser)),
    }
    trainers = {name: _trainer(base, method, init) for name, (method, init) in methods.items()}
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(TIMED + 1):
        for name, trainer in trainers.items():
            begins = time.perf_counter()
            trainer.update()
            times[name].append(time.perf_counter() - begins)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def _trainer(base: Config, method: Method, init: str) -> Trainer:
    """Return a trainer of the digits preset with another method."""
    config = dataclasses.replace(base, method=method, train=dataclasses.replace(base.train, init=init))
    return Trainer(config, load(config.data).train)


def by_seconds(curve: Points, side: str, first: int, cost: Mapping[str, float]) -> Points:
    """Return a curve by seconds of updates instead of updates, those of the denoiser at their own cost."""
    if side == ICT:
        return shifted(curve, cost[ICT], 0.0)
    return shifted(curve, cost[ECT], first * (cost["denoiser"] - cost[ECT]))


def figure(curves: Mapping[str, Sequence[Points]], first: int, cost: Mapping[str, float], words: str) -> Figure:
    """Return the figure of both sides, by the update and by the second: each seed, and the median of the seeds."""
    title = "599 samples of one step, pixels"
    seconds = {side: [by_seconds(curve, side, first, cost) for curve in of] for side, of in curves.items()}
    panels = []
    for scale, given in (("update", curves), ("seconds of updates", seconds)):
        lines = {side: median(of) for side, of in given.items()}
        dots = {f"{side}: each seed": tuple(point for curve in of for point in curve) for side, of in given.items()}
        panels.append(Panel(title, scale, "Frechet distance", lines | dots, y_scale="log", dots=[*dots]))
    return Figure("", words, tuple(panels))


def described(curve: Points, others: Sequence[Points]) -> str:
    """Return the last distance of a median curve, and the range of the seeds' last distances."""
    last = [each[-1][1] for each in others]
    return f"{curve[-1][1]:.2f} ({min(last):.2f} to {max(last):.2f})"


def main() -> None:
    """Train the denoisers and both models, score and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the figure")
    parser.add_argument("--denoiser-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=800, help="updates of iCT; ECT has these less the denoiser's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    runs, seeds = Runs(chosen.out, chosen.denoiser_steps, chosen.steps), chosen.seeds
    curves: dict[str, list[Points]] = {}
    tried = []
    for side, options in settings(runs.tuned).items():
        found = [runs.curve(side, number, seeds[0]) for number in range(len(options))]
        best = min(range(len(found)), key=lambda number: found[number][-1][1])
        curves[side] = [found[best], *(runs.curve(side, best, seed) for seed in seeds[1:])]
        each = ", ".join(f"{curve[-1][1]:.2f} with {words}" for words, curve in zip(options, found, strict=True))
        tried.append(f"{side} {each}")
    cost = seconds_per_update(runs.denoiser(seeds[0]))
    ends = "; ".join(f"{side} {described(median(of), of)}" for side, of in curves.items())
    words = (
        f"iCT from random weights for {runs.steps} updates of 64 digits, and ECT for {runs.tuned} updates from a "
        f"denoiser that was trained here for {runs.first}, whose updates and seconds are counted. EMA decay 0.98, the "
        "pseudo-Huber distance for both. Frechet distance in pixels of one-step samples against the held-out digits; "
        f"lower is better. Lines are medians of {len(seeds)} seeds. At the end: {ends}. "
        f"Settings by the first seed: {'; '.join(tried)}. The best of each side is drawn. "
        "Seconds are the median time of an update, measured in alternation: "
        f"{', '.join(f'{name} {1000 * value:.0f} ms' for name, value in cost.items())}."
    )
    for suffix, content in files(figure(curves, runs.first, cost, words)).items():
        write_atomically(chosen.out / f"tuning{suffix}", content)


if __name__ == "__main__":
    main()
