"""The device that is measured, and the clock of its steps."""

import itertools
import statistics
import time
from collections.abc import Callable

import torch


def device() -> torch.device:
    """Return the first GPU, or the CPU where torch finds none."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def synchronize() -> None:
    """Wait until the device has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_seconds(run: Callable[[], object], *, budget_s: float, least: int = 5) -> float:
    """Return the median time of single calls, after two that warm up.

    Calls are repeated for about `budget_s` seconds, and at least `least` times.
    """
    for _ in range(2):
        run()
    found: list[float] = []
    ends = time.perf_counter() + budget_s
    while len(found) < least or time.perf_counter() < ends:
        synchronize()
        began = time.perf_counter()
        run()
        synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def step_seconds(update: Callable[[], object], steps: int) -> float:
    """Return the median time of successive updates, as a run makes them: the host never waits between them."""
    if not torch.cuda.is_available():
        return median_seconds(update, budget_s=0.0, least=steps)
    marks = [
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(steps + 1)
    ]
    marks[0].record()
    for mark in marks[1:]:
        update()
        mark.record()
    torch.cuda.synchronize()
    milliseconds: list[float] = [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]
    return statistics.median(milliseconds) / 1000


def reset_peak() -> None:
    """Free cached memory and begin to measure the peak."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int | None:
    """Return the largest allocated memory of the GPU since `reset_peak`; None on a CPU, which has no such count."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
