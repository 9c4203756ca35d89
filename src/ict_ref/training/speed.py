"""Speed and memory of training between two lines of metrics."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cost:
    """The arithmetic that a run needs and its devices offer."""

    flop_per_image: int
    """FLOP of an update, divided by the number of its images."""
    peak_flop_per_second: float | None = None
    """Peak of the device of one process, or None where it is not known."""


class SpeedMeter:
    """A meter of updates since its last reading; time in `paused` does not count.

    `batch_size` counts the images of an update over all processes.

    >>> meter = SpeedMeter(torch.device("cpu"), step=0, batch_size=16, processes=1)
    >>> sorted(meter.read(step=10))
    ['images_per_second', 'peak_memory_bytes', 'seconds_per_step']
    """

    def __init__(
        self,
        device: torch.device,
        *,
        step: int,
        batch_size: int,
        processes: int,
        cost: Cost | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._device, self._batch_size, self._processes = device, batch_size, processes
        self._cost, self._clock = cost, clock
        self._step, self._since, self._paused_s = step, clock(), 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of a block that makes no updates, after the GPU has finished those before it."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        began = self._clock()
        try:
            yield
        finally:
            self._paused_s += self._clock() - began

    def read(self, step: int) -> dict[str, int | float]:
        """Return the fields of a metrics line after `step` updates, and start the next interval.

        The GPU must have finished the updates. Fields whose cost or peak is not known are absent.
        """
        now = self._clock()
        seconds = (now - self._since - self._paused_s) / (step - self._step)
        self._step, self._since, self._paused_s = step, now, 0.0
        return {
            "images_per_second": _rounded(self._batch_size / seconds),
            "seconds_per_step": _rounded(seconds),
            **self._arithmetic(self._batch_size / seconds),
            "peak_memory_bytes": _peak_memory_bytes(self._device),
        }

    def _arithmetic(self, images_per_second: float) -> dict[str, float]:
        if self._cost is None:
            return {}
        speed, peak = images_per_second * self._cost.flop_per_image, self._cost.peak_flop_per_second
        share = {} if peak is None else {"share_of_peak": _rounded(speed / (self._processes * peak))}
        return {"tflop_per_second": _rounded(speed / 1e12), **share}


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of allocated GPU memory since the last call, or of the process's memory since it began."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    # macOS counts bytes, Linux KiB.
    import resource  # Windows does not have it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _rounded(value: float) -> float:
    """Return the value with six significant digits."""
    return float(f"{value:.6g}")
