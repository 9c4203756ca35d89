"""How a run goes, as numbers: metrics.jsonl, a JSON object per line, and the same as TensorBoard events.

step                from 1
levels              N(k) for k = step - 1
loss                of this step alone, the mean over the batch
gradient_norm       of the whole batch, before clipping
images_per_second   since this process began
"""

import json
import os
from pathlib import Path
from typing import Any

from ict_ref.utils.atomic import write_atomically

METRICS = "metrics.jsonl"


class Metrics:
    """The files in which a run notes how it goes, open for writing after some step."""

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        self._lines = (folder / METRICS).open("a")
        self._events: Any = None
        if tensorboard:
            # Here, because it takes seconds, and because it is not always installed.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, int | float]) -> None:
        """Note the numbers of a step."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def sync(self) -> None:
        """Have what was noted on disk."""
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
    """Raise ValueError if TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError(
            "record.tensorboard needs the package tensorboard; got none; pip install 'ict_ref[tensorboard]'"
        ) from None


def forget_metrics_after(folder: Path, step: int) -> None:
    """Drop the lines that a killed process wrote after its last checkpoint, which will be written again.

    Raises ValueError for a line that is whole and is not of these metrics.
    """
    path = folder / METRICS
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # the last line, cut off by a kill
        try:
            if int(json.loads(line)["step"]) <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged in line {number}; mend it or move it away") from None
    if kept != lines:
        write_atomically(path, b"".join(kept))
