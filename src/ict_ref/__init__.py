"""Improved consistency training (Song & Dhariwal 2023), typed, tested, and checked by laws.

Read it in this order:

paper        the equations as printed
formulas     the same, stable and checked: the public interface
equations    which function implements which equation
config       every field of a run, the presets, and what names a run
networks     F_theta: NCSN++ and ADM
data         data sets as training reads them; `prepare` makes them from what is published
training     the loss, one update, and the loop
checkpoint   files of a run and of a network, and loading a model from them
distributed  the processes of one run; `slurm` submits it as a job
launch       the command that trains, samples and scores
sample       the command that makes samples; `evaluate` scores them; `search` finds the second step's noise level
edit         the command that inpaints, colours, enlarges and interpolates
figures      the paper's figures; `experiments` trains where the answer is known
verify       the command that checks another implementation

`Run`, `train` and `loss` are the Python interface (docs/python.md). They are imported when they are first used.

`import_checkpoint` and `export_checkpoint` read and write single networks. `python -m ict_ref eq 9` prints Eq. (9).
"""

import os
import sys


def _command() -> str:
    """Return the name of the command that this process runs, such as ict_ref.sample, or "" in other programs."""
    words, started = sys.orig_argv, sys.argv[:1]
    if started == ["-m"] and "-m" in words[:-1]:
        module = words[words.index("-m") + 1]
        return module if module.partition(".")[0] == "ict_ref" else ""
    return "ict-ref" if started and os.path.basename(started[0]) == "ict-ref" else ""  # noqa: PTH119


def _search_working_directory_last() -> None:
    """Let `python -m ict_ref...` find modules in the working directory last.

    Python searches that directory first, so a queue.py or a random.py in it would replace the module of the same name
    for torch and for all else. Other programs that import ict_ref keep their path.
    """
    if sys.argv[0] == "-m" and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109
        sys.path.append(sys.path.pop(0))


if _command():
    _search_working_directory_last()
    from ict_ref.utils.process_start import prepare_process

    prepare_process(_command())

# These and all other imports follow the change of the path, and the one of what Ctrl-C does.
from typing import TYPE_CHECKING  # noqa: E402

from ict_ref.utils.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from ict_ref.launch.in_python import train
    from ict_ref.sample.run import Run
    from ict_ref.training.own_loop import loss
else:
    PLACES = {"Run": "ict_ref.sample.run", "train": "ict_ref.launch.in_python", "loss": "ict_ref.training.own_loop"}

    def __getattr__(name: str) -> object:
        """Return a name of the interface. Its module, and with it torch, is imported now (PEP 562).

        Raises:
            ImportError: a package that training or sampling needs is missing, or the system is not Linux or macOS. The
                message says how to install the package.
        """
        if name not in PLACES:
            raise AttributeError(f"module 'ict_ref' has no attribute {name!r}")
        from importlib import import_module

        from ict_ref.utils.packages import how_to_install
        from ict_ref.utils.system import has_locks_and_signals, needs_linux_or_macos

        if not has_locks_and_signals():
            raise ImportError(f"ict_ref.{name}: {needs_linux_or_macos()}")
        try:
            return getattr(import_module(PLACES[name]), name)
        except ModuleNotFoundError as error:
            advice = how_to_install(error)
            if advice is None:
                raise
            raise ImportError(f"ict_ref.{name}: {advice}") from error

    def __dir__() -> list[str]:
        """Return the names of the module, with those of the interface."""
        return sorted({*globals(), *PLACES})


__all__ = ["Run", "__version__", "loss", "train"]
