"""Training metrics, of which `ict_ref.training.loggers` writes one JSON object per line of metrics.jsonl.

step                number of the update, from 1
levels              N(k) for k = step - 1
stage               stage of consistency tuning; absent for other objectives
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

from collections.abc import Mapping
from pathlib import Path

from ict_ref.training.loggers import METRICS
from ict_ref.utils.atomic import refuse_link, remove_leftovers, set_aside, write_atomically
from ict_ref.utils.json_file import entry, json_object
from ict_ref.utils.regular_file import read_regular


def summary(values: Mapping[str, int | float]) -> str:
    """Return the values of a line in a few words, without those that it does not have.

    >>> summary({"levels": 641, "loss": 0.0123, "images_per_second": 1830.4, "share_of_peak": 0.38})
    'N 641, loss 0.0123, 1830 images/s, 38 % of peak'
    """
    speed = values["images_per_second"]
    first = f"stage {values['stage']}" if "stage" in values else f"N {values['levels']}"
    words = [first, f"loss {values['loss']:.4g}"]
    words.append(f"{speed:.0f} images/s" if speed >= 10 else f"{speed:.2g} images/s")
    if "share_of_peak" in values:
        words.append(f"{100 * values['share_of_peak']:.0f} % of peak")
    if "peak_memory_bytes" in values:
        words.append(f"{values['peak_memory_bytes'] / 1e9:.3g} GB")
    if values.get("skipped_steps", 0) > 0:
        words.append(f"{values['skipped_steps']} skipped")
    return ", ".join(words)


def forget_metrics_after(folder: Path, step: int, log_every: int = 0) -> list[str]:
    """Delete the lines after `step`, which a killed process wrote after its last checkpoint.

    Return lines of text if its lines are damaged, or missing among those of every `log_every` steps. Damaged lines are
    left out; the file with them is renamed.

    Raises:
        ValueError: the file is a symbolic link.
        OSError: the file cannot be read or written.
    """
    path, notes = folder / METRICS, list[str]()
    refuse_link(path)
    remove_leftovers(folder, METRICS.__eq__)
    lines = read_regular(path).splitlines(keepends=True) if path.exists() else []
    steps = [_step(line) for line in lines]
    kept = [line for line, its in zip(lines, steps, strict=True) if its is not None and its <= step]
    whole = enumerate(zip(lines, steps, strict=True), start=1)
    if damaged := [number for number, (line, its) in whole if its is None and line.endswith(b"\n")]:
        notes.append(f"{path} is damaged in line {damaged[0]}; it is now {set_aside(path).name}, the rest is kept")
    if kept != lines:
        write_atomically(path, b"".join(kept))
    last = max((its for its in steps if its is not None and its <= step), default=0)
    if log_every > 0 and last < step - step % log_every:
        notes.append(f"{path}: expected lines up to step {step - step % log_every}, got {last}; the others are lost")
    return notes


def _step(line: bytes) -> int | None:
    """Return the step of a line, or None if it is damaged or cut off."""
    try:
        return entry(json_object(line, METRICS), "step", int) if line.endswith(b"\n") else None
    except ValueError:
        return None
