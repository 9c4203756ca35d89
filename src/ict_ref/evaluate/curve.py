"""Scores of every checkpoint of a run, in a file to which each score is added as it is computed."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.checkpoint.run_dir import read_run
from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured, measure_together
from ict_ref.evaluate.scores import Scores, score
from ict_ref.evaluate.sets import recipe_of, sampled
from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.sample.recipe import Recipe
from ict_ref.training.discretization import number_of_levels
from ict_ref.utils.atomic import locked_output, remove_leftovers, write_atomically
from ict_ref.utils.file_format import KEY, LaterFormatError, difference, format_of
from ict_ref.utils.json_file import checked, entry, read_json, refuse_changed, with_checksum
from ict_ref.utils.progress import bar
from ict_ref.utils.regular_file import real_path
from ict_ref.utils.version import __version__

NAME = "curve.json"
"""Name of the file in the run folder."""
FORMAT = 2
"""Format of the file; the first that exists, numbered like other score files."""
SCORES = ("frechet_distance", "kernel_distance", "inception_score", "precision", "recall")


@dataclass(frozen=True)
class Point:
    """The scores of one checkpoint."""

    step: int
    levels: int
    """N(k) of the last update before the checkpoint."""
    network_sha256: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """The scores of a run's checkpoints in the order of their steps, with their protocol."""

    run: str
    """Name of the run folder."""
    identity: str
    """Identity of the run."""
    protocol: Mapping[str, Any]
    points: tuple[Point, ...]

    def to_json(self) -> bytes:
        """Return the content of the file."""
        points = [dataclasses.asdict(point) for point in self.points]
        content = {
            KEY: FORMAT,
            "ict_ref": __version__,
            "run": self.run,
            "identity": self.identity,
            "protocol": self.protocol,
            "points": points,
        }
        return json.dumps(with_checksum(content), indent=2).encode() + b"\n"

    def table(self) -> str:
        """Return a table with a row per checkpoint."""
        lines = [f"{'step':>9}{'N':>7}" + "".join(f"{name.replace('_', ' '):>19}" for name in SCORES)]
        for point in self.points:
            cells = ("-" if (value := point.scores[name]) is None else f"{value:.4f}" for name in SCORES)
            lines.append(f"{point.step:>9}{point.levels:>7}" + "".join(f"{cell:>19}" for cell in cells))
        return "\n".join(lines)


def read_curve(path: Path) -> Curve:
    """Return the curve in a file.

    Raises:
        LaterFormatError: A later version of ict_ref wrote the file.
        ValueError: The file does not exist, is damaged, or is not a curve.
    """
    if not path.exists():
        advice = "Write it with python -m ict_ref.evaluate RUN --every-milestone."
        raise ValueError(f"{path} does not exist. {advice}")
    refuse_other_than_file(path)
    content = read_json(path, "Choose another file.")
    format_of(path, content, FORMAT)
    refuse_changed(content, path)
    try:
        points = entry(content, "points", tuple[Any, ...])
        return Curve(
            run=entry(content, "run", str),
            identity=entry(content, "identity", str),
            protocol=_protocol(entry(content, "protocol", Mapping[str, Any])),
            points=tuple(_point(point, f"points[{k}]") for k, point in enumerate(points)),
        )
    except ValueError as error:
        raise ValueError(f"{path} is not a curve of scores ({error}). Choose another file.") from None


def refuse_other_than_file(path: Path) -> None:
    """Reject the path of an existing curve that is a folder or a device.

    Raises:
        ValueError: The path exists and is not a file.
    """
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "device"
        raise ValueError(f"curve of scores: expected a file, got the {kind} {path}. Choose another file.")


def _protocol(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a protocol whose entries for figures and comparisons have their types.

    Raises:
        ValueError: An entry is missing or has another type.
    """
    kinds: dict[str, dict[str, Any]] = {
        "samples": {"count": int, "sigmas": tuple[float, ...], "seed": int},
        "reference": {"name": str},
        "features": {"name": str},
    }
    for name, entries in kinds.items():
        part = entry(stored, name, Mapping[str, Any], "protocol.")
        for inner, kind in entries.items():
            entry(part, inner, kind, f"protocol.{name}.", least=0)
    return stored


def _point(stored: Any, name: str) -> Point:
    """Return a point of the curve from its JSON.

    Raises:
        ValueError: An entry is missing or has another type.
    """
    point = checked(stored, Mapping[str, Any], name)
    scores = entry(point, "scores", Mapping[str, Any], f"{name}.")
    return Point(
        step=entry(point, "step", int, f"{name}.", least=0),
        levels=entry(point, "levels", int, f"{name}.", least=0),
        network_sha256=entry(point, "network_sha256", str, f"{name}."),
        scores={score: entry(scores, score, float | None, f"{name}.scores.") for score in SCORES},
    )


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The settings by which each checkpoint is sampled and scored, in one of the processes of the command."""

    options: SharedOptions
    features: Features
    reference: Measured | None
    """Statistics of the reference; None in processes other than the first."""
    channels: int
    k: int
    count: int
    sigmas: tuple[float, ...]
    labels: tuple[int, ...]
    seed: int
    clip: bool | None
    ema: float | None = None
    ema_sigma: float | None = None
    group: ProcessGroup

    def load(self, run: Path, step: int | None = None) -> PretrainedModel:
        """Return the model of a checkpoint, by default the newest, with the chosen EMA weights.

        Raises:
            ValueError: The checkpoint is damaged, or the run does not have such EMA weights.
        """
        network = self.options.network
        return load_pretrained(
            run, self.group.device, step=step, ema=self.ema, ema_sigma=self.ema_sigma, network=network
        )

    def recipe(self, trained: PretrainedModel) -> Recipe:
        """Return the recipe of the samples of a checkpoint."""
        return recipe_of(
            trained,
            self.options,
            count=self.count,
            sigmas=self.sigmas,
            labels=self.labels,
            seed=self.seed,
            clip=self.clip,
        )

    def protocol(self, recipe: Recipe, reference: Measured) -> dict[str, Any]:
        """Return everything on which the scores depend, except the network."""
        sampling = {name: value for name, value in recipe.described().items() if name != "network_sha256"}
        config = recipe.trained.config
        is_first = config is not None and self.ema == config.train.ema_decays[0]
        chosen = {"ema": None if is_first else self.ema, "ema_sigma": self.ema_sigma}
        device = self.group.device.type
        return {
            # Protocols without EMA weights are of the first decay.
            "samples": {
                "count": self.count,
                **sampling,
                **{name: value for name, value in chosen.items() if value is not None},
            },
            "reference": reference.about,
            "features": {"name": self.features.name, "sha256": self.features.sha256, "input": self.features.how},
            "k": self.k,
            # Protocols without a device are of the CPU.
            **({} if device == "cpu" else {"device": device}),
        }

    def scores(self, recipe: Recipe, what: str) -> Scores | None:
        """Return the scores of the samples of a recipe; None in processes other than the first."""
        made = sampled(recipe)
        samples = measure_together(made, self.features, self.group, channels=self.channels, classify=True, what=what)
        return None if samples is None or self.reference is None else score(samples, self.reference, k=self.k)


def score_checkpoints(run: Path, scorer: Scorer, path: Path) -> tuple[Curve | None, list[str]]:
    """Score every checkpoint of a run that the file does not contain yet.

    Return the whole curve, and a line for each checkpoint that cannot be read; no curve in processes other than the
    first, which writes the file after each checkpoint. Scores of checkpoints that have been deleted are kept.

    Raises:
        LaterFormatError: A later version of ict_ref wrote a file.
        ValueError: The run has no good checkpoint, or the file has scores of another run or by another protocol.
        OSError: A file cannot be read or written.
    """
    steps, unusable = sorted(checkpoints(run)), list[str]()
    curve: Curve | None = None
    loaded = False
    with _held(path, scorer.group), bar(len(steps), "scoring", "checkpoints", shown=scorer.group.first) as progress:
        for step in steps:
            try:
                trained = scorer.load(run, step)
            except LaterFormatError:
                raise
            except ValueError as error:
                unusable.append(f"step {step} is not scored: {error}")
                progress.update()
                continue
            loaded, recipe = True, scorer.recipe(trained)
            if scorer.reference is not None:
                curve = curve or _begun(run, scorer.protocol(recipe, scorer.reference), path)
            curve = _with_checkpoint(curve, step, trained, recipe, scorer, path)
            progress.update()
    if not loaded:
        scorer.load(run)  # its error is the reason
        raise ValueError(f"{run} has no checkpoint by which it can be scored")
    return curve, unusable


@contextlib.contextmanager
def _held(path: Path, group: ProcessGroup) -> Iterator[None]:
    """Lock the file for the processes of this command while the block runs."""
    with contextlib.ExitStack() as held:
        if group.first:
            held.enter_context(locked_output(path))
            remove_leftovers(path.parent, path.name.__eq__)
        yield


def _with_checkpoint(
    curve: Curve | None, step: int, trained: PretrainedModel, recipe: Recipe, scorer: Scorer, path: Path
) -> Curve | None:
    """Return the curve with the scores of a checkpoint, and write it; those that it has of the same network are kept.

    Processes without a curve take their part in the scoring.
    """
    network = str(recipe.described()["network_sha256"])
    known = curve is not None and any((point.step, point.network_sha256) == (step, network) for point in curve.points)
    if not scorer.group.any(curve is not None and not known):
        return curve
    scores = scorer.scores(recipe, f"step {step}")
    if curve is None or scores is None:
        return None
    assert trained.config is not None  # noqa: S101 (it is a run)
    found = dataclasses.asdict(scores)
    point = Point(step, number_of_levels(step - 1, trained.config), network, {name: found[name] for name in SCORES})
    points = [*(other for other in curve.points if other.step != step), point]
    curve = dataclasses.replace(curve, points=tuple(sorted(points, key=lambda point: point.step)))
    write_atomically(path, curve.to_json())
    return curve


def _begun(run: Path, protocol: Mapping[str, Any], path: Path) -> Curve:
    """Return the curve in the file, or an empty one.

    Raises:
        ValueError: The file has scores of another run, or by another protocol.
    """
    protocol, identity = json.loads(json.dumps(protocol)), read_run(run).identities[0]
    if not path.exists():
        return Curve(real_path(run).name, identity, protocol, ())
    curve = read_curve(path)
    if curve.identity != identity:
        raise ValueError(f"--json: expected a file of {run}, got {path} of {curve.run}. Give --json another file.")
    if differs := difference(curve.protocol, protocol):
        name, there, here = differs
        advice = "Give the same options to continue that file, or --json another file."
        raise ValueError(f"--json: expected {name} {there}, as in {path}, got {here}. {advice}")
    return curve
