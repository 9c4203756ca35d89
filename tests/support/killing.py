"""Kills a run at random moments, then lets it end: `python -m tests.support.killing KILLS ARGUMENT...` of the launcher.

Prints how often it was killed and at which steps it had been saved. The runs are forked: torch is imported once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import sklearn.datasets  # noqa: F401 (imported here, once)
import torch
import torch._dynamo  # by every optimizer

import ict_ref.evaluate.evaluator
import ict_ref.sample.sheet  # noqa: F401
from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse


def start(arguments: list[str]) -> int:
    """Start the run, silent, and return its process."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(main(arguments))
    return child


def newest(folder: Path) -> int:
    """Return the last step that is saved."""
    return next(iter(checkpoints(folder)), 0)


def kill(kills: int, arguments: list[str], folder: Path) -> None:
    """Kill the run so often, each time a moment after it began, and let it end."""
    moments = random.Random(0)  # noqa: S311 (not for secrets)
    saved = []
    for number in range(kills):
        before, child = newest(folder), start(arguments)
        # Every fourth time while it begins, else when it has come on a little.
        while number % 4 != 3 and newest(folder) == before:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run has ended by itself"
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the run had ended with {status}"
        saved.append(newest(folder))
    print(f"killed {kills} times; saved at {saved}")
    _, status = os.waitpid(start(arguments), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    torch.set_num_threads(1)
    kill(int(sys.argv[1]), sys.argv[2:], parse(sys.argv[2:]).folder())
