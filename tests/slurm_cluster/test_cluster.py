import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.slurm_cluster.cluster import Accounting, Cluster, best_accounting, conf, missing, scratch

SCRIPT = Path(__file__).with_name("__main__.py")
SMALL = ("--nodes", "1", "--gpus", "1", "--cpus", "1", "--memory-mb", "500", "--accounting", "squeue")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not there yet, short enough for sockets."""
    base = scratch.new().base
    base.rmdir()
    yield base
    Cluster(base).stop(remove=True)
    shutil.rmtree(base, ignore_errors=True)


def command(*words: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `python tests/slurm_cluster` in another folder."""
    arguments = [sys.executable, str(SCRIPT), *map(str, words)]
    env = {**os.environ, **variables}
    return subprocess.run(arguments, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=100)


def run(*words: str) -> str:
    """Run a program of SLURM's as a user would, and return what it prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=100).stdout


def batch(folder: Path, script: str, *options: str) -> str:
    """Submit a batch job and return its number."""
    (folder / "job.sh").write_text(f"#!/bin/sh\n{script}\n")
    log = f"--output={folder}/log"
    return run("sbatch", "--parsable", log, "--open-mode=append", *options, f"{folder}/job.sh").strip()


def wait_for(ready: Callable[[], bool], what: str, patience: float = 40) -> None:
    end = time.monotonic() + patience
    while not ready():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.1)


def processes_in(folder: Path) -> list[str]:
    """Return the commands of processes that work in the folder, or have a file there open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for link in (process / "cwd", *(process / "fd").glob("*")):
            try:
                if folder in (link.readlink(), *link.readlink().parents):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it has just ended
                continue
    return found


def test_a_job_runs_on_two_nodes(slurm: Cluster) -> None:
    assert slurm.node_states() == dict.fromkeys(("127.0.0.2", "127.0.0.3", "127.0.0.4"), "idle")
    printed = run("srun", "-N2", "sh", "-c", "echo $SLURM_PROCID $SLURMD_NODENAME")
    assert sorted(printed.splitlines()) == ["0 127.0.0.2", "1 127.0.0.3"]


def test_gpus_are_granted_and_counted(slurm: Cluster) -> None:
    printed = run("srun", "-N3", "--gpus-per-node=a100:8", "printenv", "CUDA_VISIBLE_DEVICES")
    assert printed.splitlines() == ["0,1,2,3,4,5,6,7"] * 3
    assert run("srun", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES") == "0,1\n"
    refused = run("sh", "-c", "srun --gpus-per-node=9 true 2>&1 || true")
    assert "Requested node configuration is not available" in refused


def test_accounting_knows_how_jobs_ended(slurm: Cluster, tmp_path: Path) -> None:
    jobs = {batch(tmp_path, "exit 0"): "COMPLETED", batch(tmp_path, "exit 3"): "FAILED"}
    ask = ["sacct", "-o", "JobID,State,NodeList", "--parsable2"]  # as submitit asks
    for job in jobs:
        ask += ["-j", job]
    lines = {f"{job}|{state}|127.0.0.2" for job, state in jobs.items()}
    wait_for(lambda: lines <= set(run(*ask).splitlines()), "what sacct says")
    assert [slurm.job_state(job)[0] for job in jobs] == list(jobs.values())


def test_a_crashed_node_requeues_its_job(slurm: Cluster, tmp_path: Path) -> None:
    # The job writes which run it is, and waits for a file.
    script = (
        f'echo run ${{SLURM_RESTART_COUNT:-0}} >> "{tmp_path}/runs"\n'
        f"srun sh -c 'echo $SLURMD_NODENAME; while [ ! -e \"{tmp_path}/end\" ]; do sleep 0.1; done'\n"
    )
    job = batch(tmp_path, script, "-N2", "--requeue")
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("\n") == 2, "two tasks")
    slurm.crash_node("127.0.0.3")
    assert "slurmd.127.0.0.3" not in slurm.daemons()
    assert slurm.node_states()["127.0.0.3"].startswith("down")
    slurm.start_now(job)
    wait_for(lambda: (tmp_path / "runs").read_text() == "run 0\nrun 1\n", "the second run")
    (tmp_path / "end").touch()
    wait_for(lambda: slurm.job_state(job)[0] == "COMPLETED", "the job's end")
    assert sorted((tmp_path / "log").read_text().split()[-2:]) == ["127.0.0.2", "127.0.0.4"]
    slurm.start_node("127.0.0.3")
    assert slurm.node_states()["127.0.0.3"] == "idle"


def test_what_is_not_there_is_refused_or_unknown(slurm: Cluster) -> None:
    assert slurm.job_state(67_000_000) == ("", "")
    with pytest.raises(TimeoutError, match="job 67000000 was not requeued"):
        slurm.start_now(67_000_000, patience=0)
    with pytest.raises(ValueError, match=r"expected one of the nodes 127.0.0.2, .*, got 127.0.0.9"):
        slurm.crash_node("127.0.0.9")
    slurm.start_node("127.0.0.2")  # it is there, and stays


@pytest.mark.parametrize("accounting", ["squeue", "dbd"])
def test_stopping_leaves_no_process_and_no_file(
    accounting: Accounting, folder: Path, tmp_path: Path, installed: Accounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    if accounting == "dbd" != installed:
        pytest.skip("slurmdbd and MariaDB are not installed")
    cluster = Cluster(folder).start(nodes=2, accounting=accounting)
    assert set(cluster.daemons()) == set(cluster.expected_daemons())
    # A task that has left its session and parent, and one that has nothing in its environment; neither heeds SIGTERM.
    task = f"trap '' TERM; cd {tmp_path}; (setsid sleep 1000 &); touch ready.$SLURM_PROCID; env -i sleep 1000\n"
    (tmp_path / "task").write_text(task)
    monkeypatch.setenv("SLURM_CONF", cluster.env()["SLURM_CONF"])
    batch(tmp_path, f"srun sh {tmp_path}/task", "-N2")
    wait_for(lambda: len(list(tmp_path.glob("ready.*"))) == 2, "two tasks")
    assert processes_in(folder)
    assert cluster.stop() == []
    assert processes_in(folder) == processes_in(tmp_path) == []
    assert (cluster.log / "slurmctld.log").stat().st_size > 0
    assert cluster.stop(remove=True) == []
    assert not folder.exists()


@pytest.mark.usefixtures("installed")
def test_the_command_starts_shows_and_stops_a_cluster_and_starts_it_again(folder: Path) -> None:
    for _ in range(2):
        started = command("start", folder, *SMALL)
        assert started.returncode == 0, started.stderr
        assert started.stdout == f'export SLURM_CONF={folder}/slurm.conf\nexport PATH={folder}/bin:"$PATH"\n'
        assert "1 nodes, each 1 CPUs, 500 MB and 1 GPUs" in started.stderr
        assert command("env", folder).stdout == started.stdout
        shell = f"{started.stdout}srun --gpus-per-node=1 printenv CUDA_VISIBLE_DEVICES && sacct --parsable2"
        assert run("sh", "-ec", shell).startswith("0\nJobID|State|NodeList\n")
        again = command("start", folder, *SMALL)
        assert (again.returncode, again.stdout) == (2, "")
        assert again.stderr.endswith(f"a cluster is recorded in {folder} and runs; stop it first\n")
        shown = command("status", folder)
        assert shown.returncode == 0
        assert [line.split()[0] for line in shown.stdout.splitlines()] == ["munged", "slurmctld", "slurmd.127.0.0.2"]
        assert shown.stdout.endswith(" idle\n")
        stopped = command("stop", folder)
        assert stopped.returncode == 0, stopped.stderr
        assert command("status", folder).returncode == 1
    assert command("stop", folder, "--remove").returncode == 0
    assert not folder.exists()


@pytest.mark.usefixtures("installed")
def test_a_cluster_whose_process_was_killed_is_swept(folder: Path) -> None:
    code = (
        "import os, pathlib, sys, signal; from tests.slurm_cluster.cluster import Cluster\n"
        "Cluster(pathlib.Path(sys.argv[1])).start(nodes=1, accounting='none', owner=os.getpid())\n"
        "print('up', flush=True); signal.pause()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=SCRIPT.parents[2], stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert folder not in scratch.sweep()
        assert len(Cluster(folder).daemons()) == 3
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: folder in scratch.sweep() or not folder.exists(), "the sweep")
    assert not folder.exists()
    assert processes_in(folder) == []


@pytest.mark.usefixtures("installed")
def test_a_daemon_that_does_not_start_says_why_and_leaves_nothing(folder: Path) -> None:
    failed = command("start", folder, *SMALL, "--extra", "SchedulerType=sched/nonesuch")
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert "slurmctld has ended; its last words: " in line
    assert f"logs are in {folder}/log" in line
    assert processes_in(folder) == []


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("start", f"{scratch.PARENT}/{'x' * 60}"),
            "is too long for sockets below it; needs a path of at most 57 bytes",
        ),
        (("start", f"{scratch.PARENT}/ict slurm"), "cannot stand in slurm.conf"),
        (("start", "/dev"), "/dev has files of something else; name a new folder"),
        (("start", "/nonesuch", "--nodes", "0"), "nodes: expected an integer >= 1, got 0"),
        (("start", "/nonesuch", "--nodes", "101"), "nodes: expected an integer <= 100, got 101"),
        (("start", "/nonesuch", "--gpus", "-1"), "gpus: expected an integer >= 0, got -1"),
        (("status", "/nonesuch"), "no cluster is recorded in /nonesuch"),
        (("env", "/nonesuch"), "no cluster is recorded in /nonesuch"),
        (("stop", "/nonesuch", "--remove"), "no cluster is recorded in /nonesuch"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str) -> None:
    refused = command(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("tests/slurm_cluster: ")
    assert message in line


def test_a_held_port_is_for_a_daemon_and_nobody_else() -> None:
    with conf.held_ports(["daemon"]) as ports, socket.socket() as daemon, socket.socket() as other:
        place = ("127.0.0.1", ports["daemon"])
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(place)
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        daemon.bind(place)
        daemon.listen()
        other.connect(place)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conf, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"munged", "slurmctld", "srun"} <= set(missing("none")) < set(missing("dbd"))
    assert best_accounting() == "squeue"
    with pytest.raises(ValueError, match=r"not installed: munged, slurmctld, .*; on Debian: apt-get install"):
        Cluster(tmp_path / "none").start(accounting="squeue")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_record_is_of_nobody_is_not_swept(folder: Path) -> None:
    folder.mkdir()
    assert folder not in scratch.sweep()
    (folder / "cluster.json").write_text(json.dumps({"nodes": [], "accounting": "none", "owner": None}))
    assert folder not in scratch.sweep()
