"""The experiment deviations: the cost of each known deviation in scores of samples, by runs with one deviation each."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ict_ref.config import Config, Train
from ict_ref.config import digits as digits_preset
from ict_ref.data.dataset import Images, digits, to_float
from ict_ref.data.image_files import write_grid
from ict_ref.experiments.cost_table import StoredRun, cost_table
from ict_ref.experiments.known_deviations import DEVIATIONS, RIGHT, KnownDeviation
from ict_ref.experiments.runs import EVALUATION_SEED, Table, Tick
from ict_ref.experiments.step_parts import PartedRun
from ict_ref.formulas import frechet_distance, precision_recall
from ict_ref.utils.atomic import write_under_lock
from ict_ref.utils.file_format import KEY, format_of
from ict_ref.utils.json_file import as_fields, read_json
from ict_ref.utils.rng import stream

FOLDER = Path("runs/deviations")
SEEDS, UPDATES = 3, 400
MORE_SEEDS = 2
"""Number of seeds that the reference has more than a deviation."""
NEIGHBOURS = 3
"""Neighbours for precision and recall."""
FORMAT = 1
"""Format of the files of runs."""
SHOWN = 8
"""Number of samples of each class in a picture."""
ADVICE = "Delete it; the same command makes it again."


@dataclass(frozen=True)
class Scores:
    """Scores of one-step samples against the held-out digits, as those of `ict_ref.evaluate.evaluator`."""

    frechet_distance: float
    """Frechet distance in pixels from -1 to 1."""
    accuracy: float
    """Fraction of samples in which a classifier of held-out digits finds the label."""
    recall: float
    precision: float


class DigitScorer:
    """A scorer of digits, with the held-out digits as reference and as training set of its classifier."""

    def __init__(self, held_out: Images) -> None:
        # This import takes about a second, so only this function makes it.
        from sklearn.svm import SVC

        self.labels, self.classes = held_out.labels, range(held_out.classes)
        self._real = _flat(held_out.pixels)
        self._classifier: Any = SVC().fit(self._real.numpy(), held_out.labels.numpy())

    @property
    def shown(self) -> Int64[Tensor, " shown"]:
        """Return the numbers of some samples of each class, by which a picture has one column per class."""
        return torch.stack([(self.labels == one).nonzero()[:SHOWN, 0] for one in self.classes], dim=1).flatten()

    def scores(self, pixels: UInt8[Tensor, " n channels height width"], labels: Int64[Tensor, " n"]) -> Scores:
        """Return the scores of these images."""
        real, made = self._real, _flat(pixels)
        distance = frechet_distance(made.mean(0), made.T.cov(), real.mean(0), real.T.cov())
        precision, recall = precision_recall(real, made, k=NEIGHBOURS)
        accuracy = float((torch.from_numpy(self._classifier.predict(made.numpy())) == labels).double().mean())
        return Scores(float(distance), accuracy, float(recall), float(precision))


def _flat(pixels: UInt8[Tensor, " n channels height width"]) -> Tensor:
    return to_float(pixels).double().flatten(1)


def small_digits(updates: int, seed: int) -> Config:
    """Return a shorter version of the preset digits, with one noise shard."""
    start = digits_preset()
    train = Train(steps=updates, batch_size=64, learning_rate=4e-3, ema_decay=0.985, seed=seed)
    return replace(start, train=train)


@dataclass(frozen=True)
class DeviationCosts:
    """Runs of digits with one deviation each, and a table of their scores. Each run is stored when it is done."""

    folder: Path = FOLDER
    seeds: int = SEEDS
    steps: int = UPDATES
    deviations: tuple[KnownDeviation, ...] = DEVIATIONS
    configuration: Callable[[int, int], Config] = small_digits
    """Return the configuration for a number of updates and a seed."""

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`: the updates of the runs that are not stored."""
        return self.steps * sum(not self._path(each, seed).exists() for each, seed in self.runs())

    def scale(self) -> str:
        """Return the size of the runs in sentences."""
        config, held_out = self.configuration(self.steps, 0), len(self._images[1])
        values = sum(
            each.numel() for each in PartedRun(config, self._images[0], RIGHT.parts).state.student.parameters()
        )
        return (
            f"{len(self._images[0])} digits of 8x8 pixels with labels; ADM with {values} parameters."
            f" {self.steps} updates of {config.train.batch_size} images, RAdam at {config.train.learning_rate:g},"
            f" EMA decay {config.train.ema_decays[0]:g}. Scores in pixels: {held_out} one-step samples of the EMA"
            f" weights against {held_out} held-out digits."
        )

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return the scores of training digits and of noise, by name."""
        train, held_out = self._images
        real = train.evenly(len(held_out))
        noise = stream(EVALUATION_SEED, "baseline").integers(256, size=held_out.array.shape, dtype="uint8")
        sets = {"real training digits": (real.pixels, real.labels), "noise": (torch.from_numpy(noise), held_out.labels)}
        return {name: asdict(self._scorer.scores(*images)) for name, images in sets.items()}

    def runs(self) -> Iterator[tuple[KnownDeviation, int]]:
        """Yield each deviation and seed: all deviations with one seed before the next seed."""
        for seed in range(self.seeds + MORE_SEEDS):
            for deviation in (RIGHT, *self.deviations) if seed < self.seeds else (RIGHT,):
                yield deviation, seed

    def run(self, tick: Tick) -> list[Table]:
        """Make the runs that are not stored, and return the table.

        Raises:
            ValueError: a stored run is damaged, or is of other updates or another configuration.
            OSError: a file cannot be read or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for deviation, seed in self.runs():
            if not self._path(deviation, seed).exists():
                self._make(deviation, seed, tick)
        return [cost_table(self.all_stored(), f"deviations: {self.scale()}")]

    def all_stored(self) -> list[StoredRun]:
        """Return the stored runs in the order of the table.

        Raises:
            ValueError: a run is damaged, or is of other updates or another configuration.
            OSError: a file cannot be read.
        """
        order = sorted(self.runs(), key=lambda each: (RIGHT, *self.deviations).index(each[0]))
        return [self.stored(*each) for each in order if self._path(*each).exists()]

    def stored(self, deviation: KnownDeviation, seed: int) -> StoredRun:
        """Return a stored run.

        Raises:
            ValueError: it is damaged, or is of other updates or another configuration.
            OSError: the file is missing or cannot be read.
        """
        path = self._path(deviation, seed)
        stored = read_json(path, ADVICE)
        format_of(path, stored, FORMAT)
        try:
            found = StoredRun(**as_fields(StoredRun, {name: stored[name] for name in stored if name != KEY}))
        except TypeError:
            raise ValueError(f"{path} is damaged: its entries are not those of a run. {ADVICE}") from None
        here = self.steps, self.configuration(self.steps, seed).digest()
        if (found.updates, found.configuration) != here:
            raise ValueError(
                f"--runs: expected runs of {self.steps} updates with today's configuration, got {path}. "
                "Choose another folder."
            )
        return found

    def _path(self, deviation: KnownDeviation, seed: int) -> Path:
        return self.folder / f"{deviation.name}-{seed}.json"

    def _make(self, deviation: KnownDeviation, seed: int, tick: Tick) -> None:
        """Train, sample and score one run, and store it with a picture of its first samples."""
        begun, config = time.process_time(), self.configuration(self.steps, seed)
        run = PartedRun(config, self._images[0], deviation.parts)
        found = StoredRun(deviation.name, seed, self.steps, config.digest(), 0.0)
        path = self._path(deviation, seed)
        try:
            loss = trained_loss(run, self.steps, tick)
            samples = run.samples(self._scorer.labels)
        except FloatingPointError:
            found = replace(found, diverged_at=min(run.state.step + 1, self.steps))
        else:
            found = replace(found, loss=loss, **asdict(self._scorer.scores(samples, self._scorer.labels)))
            write_grid(samples[self._scorer.shown], path.with_suffix(".png"), len(self._scorer.classes))
        found = replace(found, seconds=round(time.process_time() - begun, 2))
        write_under_lock(path, (json.dumps({KEY: FORMAT, **asdict(found)}, indent=1) + "\n").encode())

    @cached_property
    def _images(self) -> tuple[Images, Images]:
        both = digits()
        return both.train, both.held_out

    @cached_property
    def _scorer(self) -> DigitScorer:
        return DigitScorer(self._images[1])


def trained_loss(run: PartedRun, steps: int, tick: Tick) -> float:
    """Make this number of updates, and return the mean loss of the last tenth.

    `tick` is called `steps` times, also if the run diverges.

    Raises:
        FloatingPointError: the loss or the gradient of an update is not finite.
    """
    last: list[float] = []
    for step in range(steps):
        try:
            run.update()
        except FloatingPointError:
            for _ in range(steps - step):
                tick()
            raise
        if step >= steps - max(steps // 10, 1):
            last.append(float(run.loss))
        tick()
    return statistics.fmean(last)
