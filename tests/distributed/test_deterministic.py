"""The option --machine.deterministic; what it does on a GPU was not measured."""

import dataclasses
import os
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.support.runs import config, images, same
from torch.backends import cuda

from ict_ref.config import Config, Machine
from ict_ref.distributed.process_group import joined
from ict_ref.launch.options import parse
from ict_ref.training.trainer import Trainer

ATTENTION: list[Callable[[], bool]] = [
    cuda.math_sdp_enabled,
    cuda.flash_sdp_enabled,
    cuda.mem_efficient_sdp_enabled,
    cuda.cudnn_sdp_enabled,
]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore torch's settings, and let this process be alone."""
    for name in ("WORLD_SIZE", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    with torch.backends.cudnn.flags():
        yield
    torch.use_deterministic_algorithms(False)
    for enable in (cuda.enable_math_sdp, cuda.enable_flash_sdp, cuda.enable_mem_efficient_sdp, cuda.enable_cudnn_sdp):
        enable(True)


def trained(chosen: Config) -> Trainer:
    """Return a trainer after three steps, in the group that a command joins."""
    with joined(chosen.machine) as group:
        trainer = Trainer(chosen, images(), group)
        for _ in range(3):
            trainer.update()
    return trainer


def test_on_a_cpu_it_changes_no_bit_and_every_operation_is_allowed() -> None:
    plain = trained(config())
    assert not torch.are_deterministic_algorithms_enabled()
    chosen = dataclasses.replace(config(), machine=Machine(deterministic=True, device="cpu"))
    exact = trained(chosen)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert same(exact.checkpoint(), plain.checkpoint())


def test_all_of_torch_s_settings_are_made_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    cuda.enable_math_sdp(False)
    with joined(Machine(deterministic=True)):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        # The forms of attention that may be chosen: the plain one.
        assert [bool(allowed()) for allowed in ATTENTION] == [True, False, False, False]


def test_a_user_s_workspace_of_cublas_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with joined(Machine(deterministic=True, device="cpu")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_option_is_of_the_launcher_and_not_of_the_identity(capsys: pytest.CaptureFixture[str]) -> None:
    launch = parse(["--config", "minimal", "--machine.deterministic"])
    assert launch.config.machine.deterministic
    assert launch.config.digest() == parse(["--config", "minimal"]).config.digest()
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "--machine.deterministic" in capsys.readouterr().out
