"""Weights & Biases and MLflow as loggers, in threads for which training does not wait.

Neither deletes values: steps that a killed process logged after its last checkpoint have two, and the later one counts.
"""

import functools
import importlib
import importlib.util
import json
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ict_ref.config import Record
from ict_ref.training.loggers import Logger, Options
from ict_ref.utils.atomic import refuse_link, remove_leftovers, write_atomically
from ict_ref.utils.command_line import expect
from ict_ref.utils.file_format import format_of
from ict_ref.utils.json_file import entry, read_json
from ict_ref.utils.printable import printable
from ict_ref.utils.progress import write_line

PROJECT = "ict_ref"
IDS = "tracking.json"
"""The file of a run folder with the run's identifier at each tracker."""
FORMAT = 1
PATIENCE_S = 60.0
"""Seconds that the end of a run waits for a tracker."""
PARAMETERS = 100
"""Most parameters that MLflow takes at once."""
_IDS_LOCK = threading.Lock()


class WeightsAndBiases:
    """A run of Weights & Biases: offline in the folder wandb of the run folder, or at a server.

    It has metrics, sheets of samples and options, and neither console, code, nor packages. wandb itself adds the name
    of the host and versions.
    """

    def __init__(self, folder: Path, options: Options, *, server: bool) -> None:
        # Its reports of its own errors would be sent in offline runs, too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb: Any = importlib.import_module("wandb")
        known = run_id(folder, "wandb")
        self._run: Any = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder),
            id=known or secrets.token_hex(8),
            name=folder.name,
            config=dict(options),
            mode="online" if server else "offline",
            resume="allow",
            allow_val_change=True,
            reinit="create_new",
            settings=self._wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True, save_code=False,
                disable_job_creation=True, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )  # fmt: skip
        # Its own count of steps only grows, so that values of a resumed run would be lost.
        self._run.define_metric("*", step_metric="step")
        if known is None:
            keep_run_id(folder, "wandb", self._run.id)

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write the metrics and their step."""
        self._run.log({"step": step, **values})

    def image(self, step: int, file: Path) -> None:
        """Write the sheet as an image."""
        self._run.log({"step": step, "samples": self._wandb.Image(str(file))})

    def sync(self) -> None:
        """Write nothing: its process writes each value at once."""

    def close(self) -> None:
        """Write the rest and end its process."""
        self._run.finish()


class MLflow:
    """A run of MLflow: in the folder mlflow of the run folder, or at the place that MLFLOW_TRACKING_URI names."""

    def __init__(self, folder: Path, options: Options, *, server: bool) -> None:
        # Its reports of its use would be sent from runs without a server, too.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self._entities: Any = importlib.import_module("mlflow.entities")
        client: Any = importlib.import_module("mlflow.tracking").MlflowClient
        if server:
            self._client, images = client(), None
        else:
            place = (folder / "mlflow").absolute()
            place.mkdir(exist_ok=True)
            self._client, images = client(f"sqlite:///{place / 'mlflow.db'}"), (place / "images").as_uri()
        known = run_id(folder, "mlflow")
        if known is None:
            found = self._client.get_experiment_by_name(PROJECT)
            experiment = found.experiment_id if found else self._client.create_experiment(PROJECT, images)
            known = str(self._client.create_run(experiment, run_name=folder.name).info.run_id)
            keep_run_id(folder, "mlflow", known)
        self._id = known
        self._client.update_run(known, "RUNNING")
        # A parameter cannot be changed later.
        old = self._client.get_run(known).data.params
        new = [self._entities.Param(name, str(value)) for name, value in options.items() if name not in old]
        for first in range(0, len(new), PARAMETERS):
            self._client.log_batch(known, params=new[first : first + PARAMETERS])

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write the metrics."""
        now = time.time_ns() // 1_000_000
        metrics = [self._entities.Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def image(self, step: int, file: Path) -> None:
        """Write the sheet as an image."""
        from PIL import Image

        with Image.open(file) as sheet:
            self._client.log_image(self._id, sheet.convert("RGB"), key="samples", step=step)

    def sync(self) -> None:
        """Write nothing: each value is written at once."""

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


KINDS: Mapping[str, type[WeightsAndBiases] | type[MLflow]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}
"""The trackers by the names of their options, packages and folders."""


class Background:
    """A logger in a thread of its own: an error in it, or a server that does not answer, does not stop the run.

    The first error is printed in one line, and ends this logger only.
    """

    def __init__(self, option: str, begin: Callable[[], Logger], patience_s: float = PATIENCE_S) -> None:
        self._option, self._begin, self._patience_s = option, begin, patience_s
        self._calls: queue.SimpleQueue[Callable[[Logger], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=option, daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Let the thread write the metrics."""
        given = dict(values)
        self._calls.put(lambda logger: logger.log(step, given))

    def image(self, step: int, file: Path) -> None:
        """Let the thread write the sheet of samples."""
        self._calls.put(lambda logger: logger.image(step, file))

    def sync(self) -> None:
        """Let the thread write everything; training does not wait for it."""
        self._calls.put(lambda logger: logger.sync())

    def close(self) -> None:
        """Wait for the thread, but not longer than `patience_s`."""
        self._calls.put(None)
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            calls = self._calls.qsize()
            self._warn(f"expected an answer within {self._patience_s:g} s, got none; about {calls} calls are lost")

    def _work(self) -> None:
        try:
            logger = self._begin()
            for call in iter(self._calls.get, None):
                call(logger)
            logger.close()
        except Exception as error:  # of any kind: these are other people's programs
            self._warn(f"stopped after {type(error).__name__}: {error}")

    def _warn(self, reason: str) -> None:
        write_line(
            printable(f"{self._option}: {' '.join(reason.split())}. Training continues; metrics.jsonl has every line.")
        )


def trackers(folder: Path, options: Options) -> list[Logger]:
    """Return the trackers that the options of a run ask for; they open in the background.

    Raises:
        ValueError: the folder of one of them is a symbolic link.
        OSError: a file that a killed process left cannot be deleted.
    """
    remove_leftovers(folder, IDS.__eq__)
    found: list[Logger] = []
    for name, kind in KINDS.items():
        place = options[f"record.{name}"]
        if place != "off":
            refuse_link(folder / name)
            begin = functools.partial(kind, folder, options, server=place == "server")
            found.append(Background(f"--record.{name}", begin))
    return found


def refuse_missing_trackers(record: Record) -> None:
    """Check that the packages of the trackers are installed, and that the place of a server is known.

    Raises:
        ModuleNotFoundError: a package is not installed.
        ValueError: MLFLOW_TRACKING_URI is not set.
    """
    for name in KINDS:
        if getattr(record, name) != "off" and importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    known = record.mlflow != "server" or "MLFLOW_TRACKING_URI" in os.environ
    advice = "Set it to the server's address, or give --record.mlflow folder."
    expect(known, "--record.mlflow server", "the variable MLFLOW_TRACKING_URI", "an environment without it", advice)


def run_id(folder: Path, tracker: str) -> str | None:
    """Return the identifier of this run at a tracker; None before the first start.

    Raises:
        ValueError: the file is damaged, or a later version wrote it.
        OSError: the file cannot be read.
    """
    path = folder / IDS
    if not path.exists():
        return None
    stored = read_json(path, "Delete it; the trackers then begin new runs.")
    format_of(path, stored, FORMAT)
    return str(entry(stored, tracker, str, f"{path}: ")) if tracker in stored else None


def keep_run_id(folder: Path, tracker: str, identifier: str) -> None:
    """Store the identifier of this run at a tracker.

    Raises:
        ValueError: the file is damaged or a symbolic link.
        OSError: the file cannot be written.
    """
    path = folder / IDS
    with _IDS_LOCK:
        stored = read_json(path) if path.exists() else {"format": FORMAT}
        write_atomically(path, f"{json.dumps({**stored, tracker: identifier})}\n".encode())
