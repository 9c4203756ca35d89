"""Writers of a few files that are killed before each change of the file system, and then run again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.support.kills import unclean
from tests.support.networks import small_weights
from tests.support.runs import short_run

from ict_ref.import_checkpoint import write as write_imported
from ict_ref.sample.run import Run
from ict_ref.training.lpips_file import write_lpips
from ict_ref.utils.atomic import lock_of
from ict_ref.utils.locks import lock_file
from ict_ref.verify.report.output import write as write_report


def saved(place: Path, run: Path) -> None:
    """Save a copy of a run, unless it exists."""
    if not place.exists() or lock_of(place).exists():
        Run.load(run).save(place)


def imported() -> object:
    """Write an imported network, unless it exists."""
    files = [Path("out/network.safetensors"), Path("out/network.json")]
    if not files[0].exists() or any(lock_of(file).exists() for file in files):
        write_imported(small_weights(channels=1, classes=10), Path("out"))
    return None


def lpips() -> object:
    """Write a file of LPIPS, unless it exists."""
    file = Path("a/lpips.safetensors")
    if not file.exists() or lock_of(file).exists():
        write_lpips({"lin0": torch.ones(3)}, "max", file)
    return None


def report() -> object:
    """Write a report, which replaces an earlier one."""
    write_report(Path("a.json"), "--json", '{"ict_ref": "0.2"}\n')
    return None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("commit") / "run")


@pytest.mark.parametrize("writer", ["imported network", "LPIPS", "report", "copy of a run"])
def test_after_a_kill_the_same_call_makes_the_same(writer: str, run: Path, emptied: Callable[[], None]) -> None:
    writers = {"imported network": imported, "LPIPS": lpips, "report": report, "copy of a run": None}
    action = writers[writer] or partial(saved, Path("copy"), run)
    assert unclean(Path.cwd(), action, emptied) == []


def test_a_writer_is_rejected_while_another_process_writes_the_same_file(
    run: Path, emptied: Callable[[], None]
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "out/network.json": imported,
        "a/lpips.safetensors": lpips,
        "a.json": report,
        "copy": lambda: Run.load(run).save("copy"),
    }
    for name, call in calls.items():
        Path(name).parent.mkdir(exist_ok=True)
        with lock_file(lock_of(Path(name))), pytest.raises(ValueError, match="is in use by another process"):
            call()
        assert not Path(name).exists()
