"""The choice of microbatches and recomputation: made once so that an update fits, recorded, and kept by a resume."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ict_ref.config import Config, minimal
from ict_ref.config.schema import Machine
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.launch import fitting
from ict_ref.launch.__main__ import main
from ict_ref.launch.fitting import out_of_memory_explained, settled
from ict_ref.networks.model import build_model
from ict_ref.plan.memory import memory

pytestmark = pytest.mark.usefixtures("unchecked")
COMMAND = ["--config", "minimal", "--train.steps", "8", "--data.no-labels", "--record.save-every", "4", "--out", "run"]


def needed(accumulate: int, *, recompute: bool = False) -> int:
    """Return the predicted memory of an update of the preset minimal on a CPU."""
    config = dataclasses.replace(minimal(), machine=Machine(device="cpu"))
    return memory(config, accumulate=accumulate, recompute=recompute).total


def free(amount: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host have this free memory, beside that for the copy of a checkpoint."""
    # Parameters, EMA weights and two moments in float32, and the optimizer's steps.
    parameters = [*build_model(minimal(), event=(1, 8, 8), classes=10).parameters()]
    copy = 4 * (4 * sum(parameter.numel() for parameter in parameters) + len(parameters))
    monkeypatch.setattr(fitting, "available_bytes", lambda: int(amount) + copy)


def stored() -> Sequence[object]:
    """Return the numbers that the run has recorded."""
    machine = json.loads(Path("run/config.json").read_text())["config"]["machine"]
    return machine["accumulate"], machine["recompute"]


def test_the_choice_is_printed_recorded_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    free(needed(2) / 0.9 + 1000, monkeypatch)
    assert main(COMMAND) == 0
    assert "2 microbatches of 8 images per process and update, activations kept: about " in capsys.readouterr().out
    assert stored() == (2, False)
    free(1e12, monkeypatch)
    assert main(COMMAND) == 0
    assert "microbatch" not in capsys.readouterr().out
    assert stored() == (2, False)
    assert main([*COMMAND, "--machine.accumulate", "4"]) == 0
    assert stored() == (4, False)
    free(needed(4) / 1.2, monkeypatch)
    before = Path("run/config.json").read_bytes()
    assert main(COMMAND) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "--machine.accumulate: expected numbers that fit into " in line
    assert "got 4 microbatches (recompute False)" in line
    assert Path("run/config.json").read_bytes() == before


def test_the_numbers_do_not_depend_on_the_memory_where_it_suffices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(COMMAND) == 0
    assert stored() == (1, False)


def test_recomputation_is_chosen_where_microbatches_do_not_suffice_and_nothing_fits_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recomputed = needed(4, recompute=True)
    assert recomputed < needed(4)
    free((recomputed + needed(4)) / 2 / 0.9, monkeypatch)
    assert main(COMMAND) == 0
    assert stored()[1] is True
    free(1000, monkeypatch)
    assert main([*COMMAND[:-1], "other"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "--machine.accumulate: expected an update of at most 0.0 GiB" in line
    assert not Path("other").exists()


def test_given_numbers_are_kept_even_where_others_would_fit_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, "--machine.recompute", "--machine.accumulate", "2"]) == 0
    assert stored() == (2, True)


def test_a_choice_that_a_probe_refutes_is_followed_by_a_smaller_one() -> None:
    tried: list[tuple[object, object]] = []

    def probe(config: Config) -> bool:
        tried.append((config.machine.accumulate, config.machine.recompute))
        return len(tried) == 3

    config, line = settled(minimal(), Path("nowhere"), ProcessGroup(), probe)
    assert tried == [(1, False), (2, False), (4, False)]
    assert config.machine == Machine(threads=1, accumulate=4, recompute=False)
    assert line.startswith("4 microbatches of 4 images per process and update, activations kept: about ")


def test_a_host_keeps_the_memory_of_the_copy_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    free(1000, monkeypatch)
    assert fitting.free_bytes(ProcessGroup(), minimal()) == 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert fitting.free_bytes(ProcessGroup(0, 4), minimal()) == 500


def test_a_probe_on_a_cpu_tries_nothing() -> None:
    assert fitting.probe_update(minimal(), None, ProcessGroup())  # type: ignore[arg-type]


def test_an_error_about_memory_names_the_options_that_need_less() -> None:
    def raised(machine: Machine, error: RuntimeError) -> None:
        config = dataclasses.replace(minimal(), machine=machine)
        with out_of_memory_explained(config, processes=1):
            raise error

    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
    with pytest.raises(MemoryError, match=r"16 images .* Give --machine.accumulate 2 or --machine.recompute; the run"):
        raised(Machine(), full)
    with pytest.raises(MemoryError, match=r"8 images .* Give --machine.accumulate 4; the run then resumes"):
        raised(Machine(accumulate=2, recompute=True), full)
    with pytest.raises(MemoryError, match="Give more processes"):
        raised(Machine(accumulate=4, recompute=True), full)
    with pytest.raises(RuntimeError, match="another"):
        raised(Machine(), RuntimeError("another"))


def test_large_sizes_have_no_exponent() -> None:
    fit = fitting.fit_of(minimal(), processes=1, bytes_free=141 * 2**30)
    assert fitting.described(fit, 141 * 2**30).endswith(" of 141 GiB")


def test_a_dry_run_divides_the_noise_shards_by_the_recorded_microbatches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, "--machine.accumulate", "4"]) == 0
    capsys.readouterr()
    assert main([*COMMAND, "--processes", "2", "--dry-run"]) == 0
    assert "not ready: --train.noise-shards: expected a multiple of 8 (2 processes with 4" in capsys.readouterr().out
