"""Two processes of one thread each, against one process with two threads: the same batch, the same cores."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.ratio import Ratio, of
from ict_ref.distributed.local_launcher import supervise

STEPS = 8


def measure(pairs: int) -> list[Ratio]:
    """Return the time of a step in two processes over that in one."""
    ratios = [_seconds(2, threads=1) / _seconds(1, threads=2) for _ in range(max(2, pairs // 5))]
    return [of("2 processes of 1 thread / 1 of 2", ratios)]


def _seconds(processes: int, *, threads: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "seconds.json"
        options = ["--threads", str(threads), "--steps", str(STEPS), "--out", str(out)]
        if supervise([sys.executable, "-m", "benchmarks.worker", *options], processes):
            raise RuntimeError("a worker failed")
        seconds: list[float] = json.loads(out.read_text())
        return statistics.median(seconds)
