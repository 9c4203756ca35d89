"""Training metrics: metrics.jsonl with one JSON object per line, and the same values as TensorBoard events.

step                number of the update, from 1
levels              N(k) for k = step - 1
loss                mean over the batch, of this step only
gradient_norm       of the whole batch, before clipping
images_per_second   over all processes, since the previous line
seconds_per_step    since the previous line, or the start of the process
tflop_per_second    10^12 FLOP per second over all processes; absent if FLOP are not counted
share_of_peak       FLOP per second / peak of all devices; absent if the peak is not known, as on CPUs
peak_memory_bytes   of the first process: GPU memory allocated since the previous line; on a CPU, resident memory since
                    the process began, because that peak cannot be reset
microbatches        per process and update
skipped_steps       updates that were not finite and were skipped, since the run began

Speeds do not include the time of checkpoints and sample sheets. The first line of a process includes its warm-up and
compilation. Lines of earlier versions end with images_per_second, then an average since the process began.
"""

import json
import os
from collections.abc import Mapping
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
        self._lines.flush()  # for `--wait`, which reads it
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def sync(self) -> None:
        """Write everything to disk."""
        os.fsync(self._lines.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._events is not None:
            self._events.close()


def summary(values: Mapping[str, int | float]) -> str:
    """Return the values of a line in a few words, without those that it does not have.

    >>> summary({"levels": 641, "loss": 0.0123, "images_per_second": 1830.4, "share_of_peak": 0.38})
    'N 641, loss 0.0123, 1830 images/s, 38 % of peak'
    """
    speed = values["images_per_second"]
    words = [f"N {values['levels']}", f"loss {values['loss']:.4g}"]
    words.append(f"{speed:.0f} images/s" if speed >= 10 else f"{speed:.2g} images/s")
    if "share_of_peak" in values:
        words.append(f"{100 * values['share_of_peak']:.0f} % of peak")
    if "peak_memory_bytes" in values:
        words.append(f"{values['peak_memory_bytes'] / 1e9:.3g} GB")
    if values.get("skipped_steps", 0) > 0:
        words.append(f"{values['skipped_steps']} skipped")
    return ", ".join(words)


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
