"""Environment variables are checked by their names wherever they are read."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ict_ref.distributed import process_group
from ict_ref.distributed.local_launcher import processes_to_start, visible_gpus
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample
from ict_ref.slurm.cluster_file import folder
from ict_ref.utils.environment import group_numbers, refuse_bad_threads, whole_number
from ict_ref.verify.report.output import append_step_summary

GROUP = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "ICT_REF_RENDEZVOUS")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of a group of processes."""
    for name in GROUP:
        monkeypatch.delenv(name, raising=False)


BAD: list[tuple[Callable[[], object], dict[str, str], str]] = [
    (group_numbers, {"WORLD_SIZE": "two"}, "$WORLD_SIZE: expected an integer >= 1, got two. Correct or unset it."),
    (group_numbers, {"WORLD_SIZE": "0"}, "$WORLD_SIZE: expected an integer >= 1, got 0."),
    (group_numbers, {"WORLD_SIZE": "-2"}, "$WORLD_SIZE: expected an integer >= 1, got -2."),
    (group_numbers, {"WORLD_SIZE": "2.0"}, "$WORLD_SIZE: expected an integer >= 1, got 2.0."),
    (group_numbers, {"WORLD_SIZE": "٢"}, "$WORLD_SIZE: expected an integer >= 1, got ٢."),
    (group_numbers, {"WORLD_SIZE": "2"}, "$RANK: expected an integer from 0 to 1, got nothing."),
    (group_numbers, {"WORLD_SIZE": "2", "RANK": "2"}, "$RANK: expected an integer from 0 to 1, got 2."),
    (group_numbers, {"RANK": "1"}, "$RANK: expected an integer from 0 to 0, got 1."),
    (
        group_numbers, {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "x"},
        "$LOCAL_RANK: expected an integer from 0 to 1, got x.",
    ),
    (refuse_bad_threads, {"OMP_NUM_THREADS": "all"}, "$OMP_NUM_THREADS: expected an integer >= 1, got all."),
    (refuse_bad_threads, {"OMP_NUM_THREADS": "0"}, "$OMP_NUM_THREADS: expected an integer >= 1, got 0."),
    (refuse_bad_threads, {"OMP_NUM_THREADS": "4,"}, "$OMP_NUM_THREADS: expected an integer >= 1, got 4,."),
    (
        lambda: visible_gpus("auto"), {"CUDA_VISIBLE_DEVICES": "all"},
        "$CUDA_VISIBLE_DEVICES: expected different numbers or UUIDs of GPUs, got all.",
    ),
    (
        lambda: visible_gpus("cuda"), {"CUDA_VISIBLE_DEVICES": "0;1"},
        "$CUDA_VISIBLE_DEVICES: expected different numbers or UUIDs of GPUs, got 0;1.",
    ),
    *[
        (
            lambda: visible_gpus("cuda"), {"CUDA_VISIBLE_DEVICES": text},
            f"$CUDA_VISIBLE_DEVICES: expected different numbers or UUIDs of GPUs, got {text}.",
        )
        for text in ("0,0", "1,-1,2", "0,", "GPU-1a2b,GPU-1a2b", "0,NoDevFiles")
    ],
    *[
        (
            lambda: append_step_summary("a report"), {"GITHUB_STEP_SUMMARY": path},
            f"$GITHUB_STEP_SUMMARY: expected a file that can be written, got {path} (",
        )
        for path in ("/dev/null", "/", "/no-such-folder/summary.md", "/proc/version")
    ],
    (folder, {"XDG_CONFIG_HOME": "config"}, "$XDG_CONFIG_HOME: expected an absolute path, got config."),
    (
        lambda: whole_number("SLURM_RESTART_COUNT", 0, 0), {"SLURM_RESTART_COUNT": "../x"},
        "$SLURM_RESTART_COUNT: expected an integer >= 0, got ../x.",
    ),
    (
        process_group.use_deterministic_operations, {"CUBLAS_WORKSPACE_CONFIG": ":0:0"},
        "$CUBLAS_WORKSPACE_CONFIG: expected :4096:8 or :16:8, got :0:0.",
    ),
    (process_group._refuse_unknown_host, {"MASTER_ADDR": "localhost"}, "$MASTER_PORT: expected an integer from 1 to"),
    (
        process_group._refuse_unknown_host, {"MASTER_ADDR": "localhost", "MASTER_PORT": "65536"},
        "$MASTER_PORT: expected an integer from 1 to 65535, got 65536.",
    ),
    (process_group._refuse_unknown_host, {"MASTER_PORT": "29500"}, "$MASTER_ADDR: expected the host of the first"),
    (
        process_group._refuse_unknown_host, {"MASTER_ADDR": "no-such-host.invalid", "MASTER_PORT": "29500"},
        "$MASTER_ADDR: expected a host that can be found, got no-such-host.invalid (",
    ),
    (
        process_group._refuse_unknown_host, {"MASTER_ADDR": "x" * 300, "MASTER_PORT": "29500"},
        "$MASTER_ADDR: expected a host that can be found, got xxx",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("read", "values", "message"), BAD)
def test_a_bad_value_is_named(
    read: Callable[[], object], values: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "RESOLVE_S", 0.0)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^\$") as refused:
        read()
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (0, 1, 0, False)),
        ({"WORLD_SIZE": "", "RANK": ""}, (0, 1, 0, False)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (0, 1, 0, False)),  # of a cluster operator, for one container
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, (0, 1, 0, True)),  # of torchrun
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, (3, 4, 1, True)),
        ({"WORLD_SIZE": " 2 ", "RANK": "1"}, (1, 2, 0, True)),
    ],
)
def test_the_environment_describes_a_group(values: dict[str, str], expected: tuple[int, int, int, bool]) -> None:
    numbers = group_numbers(values)
    assert (numbers.rank, numbers.size, numbers.local_rank, numbers.is_member) == expected


@pytest.mark.parametrize("value", ["1", "16", "4,2", " 2 ", ""])
def test_threads_of_openmp_are_accepted(value: str) -> None:
    refuse_bad_threads({"OMP_NUM_THREADS": value})


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus("cuda") == 0


def test_processes_are_started_beside_a_world_of_one_container(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_to_start(3, "cpu") == 3
    for name, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("MASTER_ADDR", "pod-0"), ("MASTER_PORT", "23456")):
        monkeypatch.setenv(name, value)
    assert processes_to_start(3, "cpu") == 3
    assert processes_to_start(0, "cpu") == 1
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert processes_to_start(0, "cpu") == 1
    assert processes_to_start(1, "cpu") == 1
    with pytest.raises(
        ValueError, match=r"^--processes: expected 1, as \$WORLD_SIZE says, got 3. Leave --processes out"
    ):
        processes_to_start(3, "cpu")


def test_a_process_of_a_group_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    assert processes_to_start(0, "cpu") == 1
    assert processes_to_start(2, "cpu") == 1  # our own launcher's children have the same command line
    with pytest.raises(ValueError, match=r"expected 2, as \$WORLD_SIZE says, got 4"):
        processes_to_start(4, "cpu")


@pytest.mark.parametrize("main", [launch, sample])
def test_the_commands_say_it_in_one_line(
    main: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "several")
    arguments = ["--config", "minimal"] if main is launch else ["net.safetensors"]
    assert main([*arguments, "--processes", "2", "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "$WORLD_SIZE: expected an integer >= 1, got several" in err
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "$OMP_NUM_THREADS: expected an integer >= 1, got many" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_the_processes_that_the_environment_describes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", "minimal", "--dry-run", "--train.noise-shards", "2", "--train.batch-size", "8"]
    assert launch(arguments) == 0
    assert capsys.readouterr().out.rstrip().endswith("\nready")
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    assert launch(arguments) == 0
    assert "not ready: --train.noise-shards: expected a multiple of 4 (4 processes" in capsys.readouterr().out
    assert launch([*arguments, "--processes", "2"]) == 0
    assert "not ready: --processes: expected 4, as $WORLD_SIZE says, got 2" in capsys.readouterr().out


def first_of_two(port: int, host: str) -> subprocess.CompletedProcess[str]:
    """Run the first of two processes."""
    code = (
        "from ict_ref.distributed import process_group\nfrom ict_ref.utils.command_line import guarded, leave\n"
        "from ict_ref.config import Machine\nprocess_group.RESOLVE_S = 0.5\n"
        "def it():\n    with process_group.joined(Machine(device='cpu')):\n        return 0\nleave(guarded('it', it))\n"
    )
    group = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": host, "MASTER_PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **group}, capture_output=True, text=True, check=False
    )


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = first_of_two(port, "localhost")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"it: $MASTER_PORT: expected a port that the first process can open on localhost, got {port} "
        "(address already in use). Choose another MASTER_PORT."
    )


def test_a_user_without_a_home_folder_has_no_cluster_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an entry and HOME
    assert not folder().exists()
