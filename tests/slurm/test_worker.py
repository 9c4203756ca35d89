"""The port on which the processes of a job agree; tests/slurm_cluster runs them under a real SLURM."""

import socket
import threading
import time
from pathlib import Path

import pytest

from ict_ref.slurm.worker import agreed_port


def test_the_first_process_takes_a_free_port_and_the_others_wait_for_it(tmp_path: Path) -> None:
    file, found = tmp_path / "7_port_0", dict[int, str]()

    def process(rank: int) -> None:
        found[rank] = agreed_port(file, first=rank == 0)

    others = [threading.Thread(target=process, args=(rank,)) for rank in (1, 2)]
    for other in others:
        other.start()
    time.sleep(0.3)
    assert found == {}
    process(0)
    for other in others:
        other.join(timeout=10)
    assert len(set(found.values())) == 1
    with socket.socket() as some:
        some.bind(("", int(found[0])))  # it is free


def test_the_first_process_of_another_start_takes_a_port_anew(tmp_path: Path) -> None:
    file = tmp_path / "7_port_0"
    file.write_text("1")
    assert agreed_port(file, first=True) != "1"
    assert agreed_port(file, first=False) != "1"


def test_who_never_sees_the_port_says_what_may_be_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ict_ref.slurm.worker.PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match=r"7_port_0 does not appear on this node. Use a run folder"):
        agreed_port(tmp_path / "7_port_0", first=False)
