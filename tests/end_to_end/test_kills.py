"""Commands that are killed between two changes of the file system: the same command then makes the same files.

Every third or so change of each command is tried; `tests/utils/test_new_files.py` tries each change of the function by
which they write. The changes are those of Python.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.support.kills import unclean
from tests.support.runs import short_run, unchecked

from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.export_checkpoint import main as export
from ict_ref.figures.__main__ import main as figures
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

Main = Callable[[Sequence[str]], int]
PLAIN = [word for name in ("accuracy", "frechet-distance", "recall") for word in (f"--acceptance.{name}", "None")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("kills") / "run")


COMMANDS = {
    "sample to an npz": (sample, "RUN --count 6 --out a.npz", 4),
    "sample to a folder": (sample, "RUN --count 3 --out a", 4),
    "sample to a grid": (sample, "RUN --count 3 --out a.png", 4),
    "edit": (edit, "RUN digits:held-out --task inpaint --count 2 --sigmas 80 2 --out a", 3),
    "evaluate": (evaluate, "RUN --count 40 --reference digits:held-out --save-stats s.npz --json a.json", 3),
    "search": (search, "RUN --count 40 --nodes 4 --reference digits:held-out --out a", 6),
    "figures": (figures, "--run RUN --sheet 2 2 --out .", 3),
    "export": (export, "RUN --out a.safetensors", 1),
}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", COMMANDS)
def test_after_a_kill_the_same_command_makes_the_same(name: str, run: Path, emptied: Callable[[], None]) -> None:
    main, options, every = COMMANDS[name]
    words = [str(run) if word == "RUN" else word for word in options.split()]
    assert unclean(Path.cwd(), partial(main, words), emptied, every) == []


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_what_a_whole_run_leaves(emptied: Callable[[], None]) -> None:
    options = ["--config", "minimal", "--train.steps", "8", "--record.save-every", "3", "--record.keep", "1", *PLAIN]
    options = [*options, "--record.log-every", "1000", "--out", "run"]  # its lines have times
    with unchecked():
        found = unclean(Path.cwd(), partial(launch, options), emptied, 5)
    assert [line for line in found if "different: ['run/metrics.jsonl']" not in line] == []
