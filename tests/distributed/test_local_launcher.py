import signal
import sys
import time
from pathlib import Path

import pytest

from ict_ref.distributed.local_launcher import supervise, visible_gpus
from ict_ref.utils.signals import LOST, started_by_launcher

# The start of the code of each process.
START = (
    "import os, sys, time, signal\nrank = int(os.environ['RANK'])\nprint('rank', rank, file=sys.stderr, flush=True)\n"
)


def run(code: str, count: int = 3) -> int:
    """Run the code in `count` processes."""
    return supervise([sys.executable, "-c", START + code], count)


def test_each_process_gets_its_rank(tmp_path: Path) -> None:
    code = (
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'ICT_REF_RENDEZVOUS')\n"
        f"open(r'{tmp_path}/' + str(rank), 'w').write(' '.join(os.environ[name] for name in names))\n"
    )
    assert run(code) == 0
    words = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [word[:3] for word in words] == [[str(rank), str(rank), "3"] for rank in range(3)]
    assert len({word[3] for word in words}) == 1
    assert not Path(words[0][3].removeprefix("file://")).exists()  # nothing is left behind


def test_only_the_first_process_writes_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("sys.exit(0 if rank else 1)") == 1
    assert capfd.readouterr().err == "rank 0\n"


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("sys.exit('no such GPU' if rank == 2 else 0)", 1, "process 2 of 3 ended with status 1; its last line: no su"),
        (
            "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else sys.exit(3)",
            137,
            "process 1 of 3 was killed by SIGK",
        ),
        # A process that only lost the others is not named, even if it ended first.
        ("sys.exit(3) if rank < 2 else (time.sleep(0.5), sys.exit(5))", 5, "process 2 of 3 ended with status 5"),
    ],
)
def test_the_process_that_failed_is_named(code: str, status: int, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(code) == status
    assert f"ict_ref.launch: {says}" in capfd.readouterr().err


def test_a_run_fails_if_each_process_has_only_lost_another() -> None:
    assert run("sys.exit(3)") == LOST


def test_after_a_failure_the_others_are_ended_even_if_they_ignore_sigterm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ict_ref.distributed.local_launcher.KILL_S", 3.0)
    began = time.monotonic()
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(0.5 if rank == 0 else 600)\n"
    assert run(stubborn + "sys.exit(2)") == 2
    assert time.monotonic() - began < 30


def test_the_launcher_waits_for_a_process_that_saves_before_it_stops() -> None:
    assert run("time.sleep(3 if rank == 0 else 0)\nsys.exit(143)") == 143


def test_a_process_gets_one_request_to_stop(tmp_path: Path) -> None:
    # A second signal would stop the process in the middle of its writes.
    code = (
        "requests = []\nsignal.signal(signal.SIGTERM, lambda *_: requests.append(1))\n"
        "if rank: time.sleep(0.3); sys.exit(5)\n"
        f"time.sleep(4)\nopen(r'{tmp_path}/requests', 'w').write(str(len(requests)))\nsys.exit(3)"
    )
    assert run(code, 2) == 5
    assert (tmp_path / "requests").read_text() == "1"


def test_signals_are_forwarded_and_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    # The first process requests a stop from its parent, and all processes receive it.
    code = (
        "received = []\nsignal.signal(signal.SIGUSR2, lambda *_: received.append(1))\n"
        "time.sleep(0.5)\n"
        "if rank == 0: os.kill(os.getppid(), signal.SIGUSR2)\n"
        "deadline = time.monotonic() + 30\n"
        "while not received and time.monotonic() < deadline: time.sleep(0.01)\n"
        "sys.exit(0 if received else 7)"
    )
    assert run(code) == 0
    assert signal.getsignal(signal.SIGUSR2) is before


def test_processes_of_the_launcher_are_marked_in_their_environment() -> None:
    assert started_by_launcher({"ICT_REF_RENDEZVOUS": "file:///x"})
    assert not started_by_launcher({"RANK": "0"})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch find two GPUs, of which the machine shows no sign."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("ict_ref.distributed.local_launcher.GPU_FILES", ())
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_counted_where_a_file_suggests_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As /dev/dxg does under WSL 2, which has no /proc/driver/nvidia.
    monkeypatch.setattr("sys.platform", "linux")
    assert visible_gpus("auto") == 0
    monkeypatch.setattr("ict_ref.distributed.local_launcher.GPU_FILES", (str(tmp_path / "none"), str(tmp_path)))
    assert visible_gpus("auto") == 2
    assert visible_gpus("cpu") == 0


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"])
def test_gpus_are_counted_in_a_container_that_names_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0,1")
    assert visible_gpus("auto") == 2


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_counted_wherever_a_sign_is_unknown_or_a_gpu_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_gpus("cuda") == 2
    monkeypatch.setattr("sys.platform", "win32")
    assert visible_gpus("auto") == 2


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_not_counted(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert [visible_gpus(device) for device in ("auto", "cuda")] == [0, 0]


def test_processes_do_not_import_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tqdm.py").write_text("print('run from the working directory')")
    monkeypatch.chdir(tmp_path)
    assert supervise([sys.executable, "-c", "import tqdm, ict_ref"], 1) == 0
    assert "run from the working directory" not in capfd.readouterr().out
