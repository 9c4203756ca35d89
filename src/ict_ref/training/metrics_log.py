"""Training metrics: metrics.jsonl with one JSON object per line, and the same values as TensorBoard events.

step                number of the update, from 1
levels              N(k) for k = step - 1
loss                mean over the batch, of this step only
gradient_norm       of the whole batch, before clipping
images_per_second   since this process began
"""

import json
import os
from pathlib import Path
from typing import Any

from ict_ref.utils.atomic import refuse_link, remove_leftovers, write_atomically
from ict_ref.utils.json_file import entry, json_object

METRICS = "metrics.jsonl"


class Metrics:
    """The metric files of a run, open for writing after `step` updates.

    Raises:
        ValueError: metrics.jsonl is a symbolic link.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        refuse_link(folder / METRICS)
        self._lines = (folder / METRICS).open("a")
        self._events: Any = None
        if tensorboard:
            # Imported here: it takes seconds and is optional.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, int | float]) -> None:
        """Write the values of a step."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def sync(self) -> None:
        """Write everything to disk."""
        self._lines.flush()
        os.fsync(self._lines.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._events is not None:
            self._events.close()


def refuse_without_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError(
            "--record.tensorboard: expected the package tensorboard, got an installation without it. "
            "Run pip install 'ict_ref[tensorboard]'."
        ) from None


def forget_metrics_after(folder: Path, step: int) -> None:
    """Delete the lines after `step`, which a killed process wrote after its last checkpoint.

    Raises:
        ValueError: a complete line is damaged, or the file is a symbolic link.
    """
    path = folder / METRICS
    if not path.exists():
        return
    remove_leftovers(folder, METRICS.__eq__)
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # the last line, cut off by a kill
        try:
            if entry(json_object(line, path), "step", int) <= step:
                kept.append(line)
        except ValueError:
            raise ValueError(f"{path} is damaged in line {number}. Fix it or move it away.") from None
    if kept != lines:
        write_atomically(path, b"".join(kept))
