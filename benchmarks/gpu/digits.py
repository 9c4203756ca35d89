"""A real run of the launcher: training, checkpoints, sampling and scoring of the preset `digits`."""

import json
import subprocess
import sys
import time

from benchmarks.gpu.device import device
from benchmarks.gpu.notes import Notes


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the exit status, the time and the scores of one-step samples.

    Raises:
        ChildProcessError: the run ended without scores.
    """
    folder, preset = notes.folder / "run", "minimal" if tiny else "digits"
    command = [sys.executable, "-m", "ict_ref.launch", "--config", preset, "--profile", "none", "--processes", "1"]
    command += ["--machine.device", device().type, "--out", str(folder)]
    began = time.perf_counter()
    status = subprocess.run(command, check=False).returncode  # noqa: S603 (our own command)
    seconds = time.perf_counter() - began
    if not (folder / "scores.json").exists():
        raise ChildProcessError(f"the run ended with status {status} and without scores")
    one_step = json.loads((folder / "scores.json").read_text("utf-8"))["scores"][0]
    scores = {name: one_step[name] for name in ("frechet_distance", "accuracy", "recall")}
    notes.add("run", preset=preset, status=status, seconds=seconds, **scores)
