"""The places to which a run writes its metrics: a file of JSON lines and TensorBoard events, behind one protocol."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ict_ref.utils.atomic import open_to_append, refuse_link

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
Options = Mapping[str, Any]
"""All options of a run by their full names, such as train.steps."""


@runtime_checkable
class Logger(Protocol):
    """A place for the metrics and the sheets of samples of a run, which the first process writes."""

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write the metrics after update number `step`, from 1."""

    def image(self, step: int, file: Path) -> None:
        """Write the sheet of samples after update number `step`, a PNG file."""

    def sync(self) -> None:
        """Write everything to disk; the run resumes behind it."""

    def close(self) -> None:
        """Write the rest and close the files."""


class JsonLines:
    """The file metrics.jsonl, with one JSON object per line; sheets of samples are files already.

    Raises:
        ValueError: the file is a symbolic link.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = open_to_append(folder / METRICS)

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write a line."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()  # for `--wait`, which reads it

    def image(self, step: int, file: Path) -> None:
        """Write nothing."""

    def sync(self) -> None:
        """Write everything to disk."""
        os.fsync(self._lines.fileno())

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class TensorBoard:
    """The folder tensorboard, with events after `step` updates: scalars, images, and the options as hyperparameters.

    Events of later steps, which a killed process wrote, are not shown.
    """

    def __init__(self, folder: Path, step: int, options: Options) -> None:
        # Imported here: it takes seconds and is optional.
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self._events: Any = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1)
        shown = {
            name: value if isinstance(value, bool | int | float) else str(value) for name, value in options.items()
        }
        # SummaryWriter.add_hparams would begin a folder of its own, in which the scalars are missing.
        writer: Any = self._events.file_writer
        for summary in hparams(shown, {"loss": 0.0}):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write each value as a scalar."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def image(self, step: int, file: Path) -> None:
        """Write the sheet as an image."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as sheet:
            self._events.add_image("samples", np.asarray(sheet.convert("RGB")), step, dataformats="HWC")

    def sync(self) -> None:
        """Write everything to disk."""
        self._events.flush()

    def close(self) -> None:
        """Close the file of events."""
        self._events.close()


def open_loggers(folder: Path, *, step: int, options: Options) -> list[Logger]:
    """Return the loggers that the options of a run ask for, open for writing after `step` updates.

    Raises:
        ValueError: metrics.jsonl or the folder tensorboard is a symbolic link.
        ModuleNotFoundError: an optional package is not installed.
    """
    refuse_link(folder / TENSORBOARD)
    lines = JsonLines(folder)
    return [lines, TensorBoard(folder, step, options)] if options["record.tensorboard"] else [lines]


def refuse_without_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        ModuleNotFoundError: It is not.
    """
    import tensorboard  # noqa: F401
