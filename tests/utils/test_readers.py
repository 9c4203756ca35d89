"""Every function that reads a stored file by its name rejects a pipe, a device and a loop of links at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.utils.test_regular_file import SPECIAL, alarm

from ict_ref.checkpoint.foreign_file import content
from ict_ref.checkpoint.run_dir import read_run
from ict_ref.evaluate.curve import read_curve
from ict_ref.figures.__main__ import write_missing
from ict_ref.launch.results import refuse_results
from ict_ref.launch.submit import progress
from ict_ref.prepare.sources.source import of_split
from ict_ref.sample.parts import Parts
from ict_ref.search.scored import Scored
from ict_ref.slurm.follow import _end
from ict_ref.slurm.worker import agreed_port
from ict_ref.training.metrics_log import forget_metrics_after
from ict_ref.utils.atomic import open_to_append
from ict_ref.utils.locks import OWNER, refuse_locked
from ict_ref.verify.adapt import cut
from ict_ref.verify.audit.data.known import known_images

__all__ = ["alarm"]


def scores_of_a_search(folder: Path) -> object:
    """Read the scores of a search whose description is whole."""
    (folder / "search.json").write_text('{"format": 2, "search": {}}')
    return Scored(folder).begin({})


# The name of the file, and the function that reads it in its folder.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "log to append to": ("metrics.jsonl", lambda folder: open_to_append(folder / "metrics.jsonl")),
    "metrics of a run": ("metrics.jsonl", lambda folder: forget_metrics_after(folder, 0)),
    "metrics of a job": ("metrics.jsonl", lambda folder: progress(folder / "metrics.jsonl")),
    "network of others": ("net.pt", lambda folder: content(folder / "net.pt")),
    "curve": ("curve.json", lambda folder: read_curve(folder / "curve.json")),
    "configuration": ("config.json", lambda folder: read_run(folder)),
    "figure": ("2a.png", lambda folder: write_missing({folder / "2a.png": b""})),
    "scores of a run": ("scores.json", refuse_results),
    "batch of images": ("train.npz", lambda folder: of_split(folder, ".npz", "train")),
    "description of samples": ("about.json", lambda folder: Parts(folder, [range(3)]).begin({"count": 3})),
    "scores of a search": ("scores.csv", scores_of_a_search),
    "result of a job": ("7_0_ended.json", lambda folder: _end(folder, "7", 0, 0.0)),
    "port of a job": ("7_port_0", lambda folder: agreed_port(folder / "7_port_0", first=False)),
    "owner of a lock": (f"a.lock{OWNER}", lambda folder: refuse_locked(folder / "a.lock")),
    "lines of a script": ("train.py", lambda folder: cut(folder / "train.py", 1, 1, result="x")),
    "known images": ("images.npy", lambda folder: known_images(str(folder))),
}
ABSENT = {
    "scores of a search",
    "scores of a run",
    "metrics of a job",
    "result of a job",
    "port of a job",
    "owner of a lock",
}
"""Files that need not exist; a loop of links counts as a file that does not."""


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits(
    reader: str, make: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ict_ref.slurm.worker.PATIENCE", 0.1)
    name, read = READERS[reader]
    make(tmp_path / name)
    if reader in ABSENT and make.__name__ == "loop":
        pytest.skip("it counts as a file that does not exist")
    with pytest.raises((ValueError, OSError)) as caught:
        read(tmp_path)
    assert not isinstance(caught.value, TimeoutError)
    assert "\n" not in str(caught.value)
    if reader != "network of others":  # its commands name the file
        assert str(tmp_path) in str(caught.value)
