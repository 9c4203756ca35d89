"""Stages in processes of their own, each with a limit and a log, so that one that hangs or fails costs only itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.cuda_tests import ROOT
from benchmarks.gpu.notes import Row, read_rows

LEAST_S = 10.0
"""A stage is left out where less time is left."""


@dataclass(frozen=True)
class Stage:
    """A stage and its limit."""

    name: str
    limit_s: float
    beside: bool = False
    """Whether the stages after it, up to `waits`, run at the same time."""
    waits: bool = False
    """Whether the stage begins after those that run beside others, because it measures time."""


# Compilation takes the CPU for minutes, so it runs beside the stages that do not measure time.
PLAN = (
    Stage("device", 45),
    Stage("compile", 230, beside=True),
    Stage("tests", 150),
    Stage("equality", 45),
    Stage("digits", 80),
    Stage("speed", 170, waits=True),
    Stage("masks", 30),
    Stage("checkpoint", 45),
    Stage("kernels", 60),
    Stage("rounding", 60),
)
WHOLE_S = 470.0
"""The time for which the limits of PLAN are made; they grow in proportion to a longer one."""


@dataclass(frozen=True)
class Result:
    """The end of a stage: its rows, and why it ended."""

    status: str
    seconds: float
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the stage in the JSON file."""
        return {"status": self.status, "seconds": round(self.seconds, 1), "rows": self.rows}


class Process:
    """A running stage."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, limit_s: float) -> None:
        self.name, self._folder, self._limit_s = name, folder, limit_s
        self._began = time.monotonic()
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(  # noqa: S603 (our own command)
                command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(folder), start_new_session=True
            )

    @property
    def log(self) -> Path:
        """Return the file with all that the stage printed."""
        return self._folder / f"{self.name}.log"

    def finish(self) -> Result:
        """Wait until the stage ends or its time is over, end all its processes, and return its result."""
        left_s = self._limit_s - (time.monotonic() - self._began)
        try:
            code: int | None = self._child.wait(max(0.0, left_s))
        except subprocess.TimeoutExpired:
            code = None
        self.end()
        status = "done" if code == 0 else f"failed: {self._last_line()}"
        if code is None:
            status = f"stopped at its limit of {self._limit_s:.0f} s"
        rows = read_rows(self._folder / f"{self.name}.json")
        return Result(status, time.monotonic() - self._began, rows)

    def end(self) -> None:
        """Kill the processes of the stage that still run; its session has no others."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def _last_line(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it printed nothing"


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a stage: the modules of this checkout, and one cache for compiled kernels."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
    cache |= {"TORCHINDUCTOR_FX_GRAPH_CACHE": "1", "TORCHINDUCTOR_AUTOGRAD_CACHE": "1"}
    return {**os.environ, **cache, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def command_of(name: str, folder: Path, *, tiny: bool) -> list[str]:
    """Return the command of a stage."""
    return [sys.executable, "-m", "benchmarks.gpu.stage", name, str(folder), *(["--tiny"] if tiny else [])]
