"""The device of each process, where GPUs are few; the GPUs themselves are not needed."""

import pytest
import torch

from ict_ref.config import Machine
from ict_ref.distributed import process_group
from ict_ref.distributed.process_group import refuse_shared_gpus


def device(visible: int, local: int, monkeypatch: pytest.MonkeyPatch, *, wanted: str = "auto") -> torch.device:
    """Return the device of a process that sees this number of GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    machine = Machine(device=wanted)  # type: ignore[arg-type]
    return process_group._device(machine, local, "--machine.device")


def test_each_process_takes_the_gpu_of_its_local_rank_or_the_only_one_that_it_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [str(device(8, local, monkeypatch)) for local in (0, 3, 7)] == ["cuda:0", "cuda:3", "cuda:7"]
    assert [str(device(1, local, monkeypatch)) for local in (0, 7)] == ["cuda:0", "cuda:0"]
    assert str(device(0, 3, monkeypatch)) == "cpu"
    assert str(device(8, 3, monkeypatch, wanted="cpu")) == "cpu"


def test_too_few_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^--machine.device: expected a GPU for each process .* got 2 for 3 or more"):
        device(2, 2, monkeypatch)
    with pytest.raises(ValueError, match="got 0 for 1 or more"):
        device(0, 0, monkeypatch, wanted="cuda")


def test_two_processes_on_one_gpu_are_rejected() -> None:
    refuse_shared_gpus([5, 7, 6], "--machine.device")
    with pytest.raises(ValueError, match="got the same one for processes 1 and 3"):
        refuse_shared_gpus([5, 7, 6, 7], "--machine.device")
