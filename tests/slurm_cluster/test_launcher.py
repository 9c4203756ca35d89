"""`python -m ict_ref.launch --slurm` on a real SLURM: it submits, survives, and says what is wrong.

Each interruption ends with the bits of a run that was never interrupted.
"""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from tests.slurm_cluster.cluster import Cluster
from tests.support.datasets import prepared, random_images

from ict_ref.launch.__main__ import main

STEPS = 160
NODES = 2
OPTIONS = ["--config", "minimal", "--train.steps", str(STEPS), "--record.save-every", "10", "--record.keep", "100"]
DATA = tempfile.TemporaryDirectory(prefix="ict-slurm-data-")
JOB = [
    "--slurm", "--job.nodes", str(NODES), "--job.memory-gb", "1", "--job.minutes", "30", "--job.signal-seconds", "60",
    "--job.setup", "export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo",
]  # fmt: skip


@cache
def data() -> str:
    """Return a folder of prepared images: the digits would bring scikit-learn and scores, seconds for each process."""
    images = prepared(Path(DATA.name) / "data", random_images(40, 1, 8, 8), [k % 10 for k in range(40)])
    return str(images)


def words(folder: Path, *options: str, job: Sequence[str] = JOB) -> list[str]:
    """Return the launcher's command line for a run in this folder."""
    return [*OPTIONS, "--data.name", "folder", "--data.path", data(), *job, "--out", str(folder), *options]


def command(folder: Path, *options: str, job: Sequence[str] = JOB) -> list[str]:
    """Return the command that starts the launcher in a process of its own."""
    return [sys.executable, "-m", "ict_ref.launch", *words(folder, *options, job=job)]


def launch(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher to its end, in this process: what it starts are jobs."""
    line, out, err = words(folder, *options), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(line)
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())


def submitted(folder: Path, *options: str) -> str:
    """Submit a run and return its job."""
    done = launch(folder, *options)
    assert done.returncode == 0, done.stderr
    number = re.search(r"^job (\d+) submitted", done.stdout)
    assert number is not None, done.stdout
    return number[1]


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait for something to happen."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def steps(folder: Path) -> int:
    """Return the last step that is saved."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.safetensors")), default=0)


def last(folder: Path) -> bytes:
    """Return the last checkpoint of a run that is done."""
    return (folder / f"checkpoint-{STEPS:08d}.safetensors").read_bytes()


def logs(folder: Path) -> str:
    """Return what all processes of a run have said."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("slurm/*/*.out")))


def ended(cluster: Cluster, job: str) -> bool:
    """Return whether SLURM is done with a job."""
    return cluster.job_state(job)[:1] not in [(state,) for state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")]


@pytest.fixture(scope="module")
def runs(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(runs: Path) -> bytes:
    """Return the last checkpoint of a run that was never interrupted; it is followed to its end."""
    done = launch(runs / "whole", "--wait")
    assert done.returncode == 0, done.stderr + logs(runs / "whole")
    assert f"{STEPS}/{STEPS}" in done.stderr
    assert "has ended; see" in done.stdout
    return last(runs / "whole")


def test_a_preset_of_the_paper_with_a_cluster_file_is_submitted_as_the_dry_run_prints(
    slurm: Cluster, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = prepared(runs / "im64", random_images(40, 3, 64, 64), [k % 4 for k in range(40)])
    (runs / "cluster.toml").write_text(
        '[data]\nimagenet64 = "im64"\n[job]\nnodes = 2\nmemory_gb = 1\nminutes = 30\nsignal_seconds = 60\n'
        'setup = ["export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo"]\n'
    )
    monkeypatch.setenv("ICT_REF_PROFILE", str(runs / "cluster.toml"))
    folder, out = runs / "a run's folder", io.StringIO()
    small = ["--network.width", "32", "--network.head-channels", "32", "--network.blocks", "1"]
    small += ["--network.multipliers", "1", "1", "--train.steps", "8", "--train.batch-size", "8"]
    line = ["--slurm", "--config", "imagenet64", *small, "--train.noise-shards", "8", "--data.partial"]
    line += ["--machine.device", "cpu", "--out", str(folder)]
    with contextlib.redirect_stdout(out):
        assert main([*line, "--dry-run"]) == 0
        assert main([*line, "--wait"]) == 0
    (script,) = folder.glob("slurm/*/*_submission.sh")
    assert script.read_text().strip() in out.getvalue()
    assert "\n\nready\n" in out.getvalue()
    assert "2 processes on cpu, 4 images each" in logs(folder)
    stored = json.loads((folder / "config.json").read_text())["config"]
    assert stored["data"]["path"] == str(images)
    assert (stored["machine"]["accumulate"], stored["machine"]["recompute"]) == (1, False)
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 8


def test_a_run_on_two_nodes_is_submitted_and_followed(whole: bytes, runs: Path) -> None:
    said = logs(runs / "whole")
    assert "2 processes on cpu, 8 images each" in said
    assert len(list((runs / "whole").glob("slurm/*/*_log.out"))) == NODES
    assert (runs / "whole" / "samples.png").exists()
    assert json.loads((runs / "whole" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == STEPS


def requeue(cluster: Cluster, job: str) -> None:
    subprocess.run(["scontrol", "requeue", job], check=True)  # noqa: S607


def time_limit(cluster: Cluster, job: str) -> None:
    # What SLURM sends before the time limit, to the processes of the job and not to its script.
    subprocess.run(["scancel", "--signal=USR2", job], check=True)  # noqa: S607


@pytest.fixture
def mended(slurm: Cluster) -> Iterator[None]:
    """Bring a node that a test crashed back."""
    yield
    if slurm.node_states().get("127.0.0.3") != "idle":
        slurm.start_node("127.0.0.3")
        wait_for(lambda: slurm.node_states().get("127.0.0.3") == "idle", "the node is back")


def interrupted(cluster: Cluster, jobs: dict[Path, str], interrupts: list[Callable[[Cluster, str], None]]) -> None:
    """Interrupt each of some jobs, all in the queue at once, when it has begun, and wait for the end of all."""
    for (folder, job), interrupt in zip(jobs.items(), interrupts, strict=True):
        wait_for(lambda: 0 < steps(folder) < STEPS, "it has begun")  # noqa: B023 (called here)
        interrupt(cluster, job)
    for job in jobs.values():
        cluster.start_now(job)  # a job that was queued again waits for two minutes
    for job in jobs.values():
        wait_for(lambda: ended(cluster, job), "it ends")  # noqa: B023


def went_on(folder: Path, whole: bytes) -> str:
    """Return what a run has said that was interrupted and has ended with the bits of the whole one."""
    said = logs(folder)
    assert last(folder) == whole, said
    assert "resumed after step" in said
    assert json.loads(next(folder.glob("slurm/*/*_0_ended.json")).read_text()) == {"status": 0}
    return said


def test_interrupted_jobs_end_with_the_same_bits(slurm: Cluster, runs: Path, whole: bytes) -> None:
    interrupts = {runs / "requeued": requeue, runs / "out of time": time_limit}
    interrupted(slurm, {folder: submitted(folder) for folder in interrupts}, [*interrupts.values()])
    for folder, name in zip(interrupts, ("SIGTERM", "SIGUSR2"), strict=True):
        assert f"stopped by {name} and saved after step" in went_on(folder, whole)


def test_preempted_jobs_end_with_the_same_bits(slurm: Cluster, runs: Path, whole: bytes) -> None:
    def leave(cluster: Cluster, job: str) -> None:
        """Leave it to the urgent job, which needs all nodes."""

    def preempt(cluster: Cluster, job: str) -> None:
        urgent = ["sbatch", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]
        subprocess.run(urgent, check=True, capture_output=True)

    jobs = {runs / name: submitted(runs / name, "--job.partition", name) for name in ("patient", "graceful")}
    interrupted(slurm, jobs, [leave, preempt])
    for folder in jobs:
        said = went_on(folder, whole)
        if folder.name == "graceful":
            assert "stopped by SIGTERM and saved after step" in said


def test_following_outlasts_a_failed_node(slurm: Cluster, runs: Path, whole: bytes, mended: None) -> None:
    # NODE_FAIL is what SLURM says of a job that it is about to start again.
    folder = runs / "followed"
    process = followed(folder)
    job = begun(folder)
    slurm.crash_node("127.0.0.3")
    slurm.start_now(job)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    went_on(folder, whole)


def followed(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Submit a run in a process that follows it."""
    return subprocess.Popen(
        command(folder, *options, "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def begun(folder: Path) -> str:
    """Return the job of a run when its training has begun."""
    wait_for(lambda: steps(folder) > 0, "it has begun")
    (job,) = (path.name for path in folder.glob("slurm/*") if path.name.isdigit())
    return job


def test_a_job_ends_whose_process_is_killed_and_one_that_is_cancelled(slurm: Cluster, runs: Path) -> None:
    killed, cancelled = [runs / "killed 0", runs / "killed 1"], runs / "cancelled"
    long = ("--train.steps", "5000")  # none of the three, which are in the queue at once, gets so far
    followers = [followed(folder, *long) for folder in killed]
    submitted(cancelled, *long)
    jobs, since = [], []
    for rank, folder in enumerate(killed):
        jobs.append(begun(folder))
        os.kill(task(jobs[rank], rank), signal.SIGKILL)
        since.append(time.monotonic())
    subprocess.run(["scancel", begun(cancelled)], check=True)  # noqa: S607
    for rank, (follower, job) in enumerate(zip(followers, jobs, strict=True)):
        out, err = follower.communicate(timeout=90)
        assert time.monotonic() - since[rank] < 60, err
        assert follower.returncode == 1, out + err
        assert f"job {job} has failed in process {rank} of 2" in err, err
        wait_for(lambda: ended(slurm, job), "it ends")  # noqa: B023 (called here)
    wait_for(lambda: ended(slurm, begun(cancelled)), "it ends")
    time.sleep(2)  # a job that SLURM or submitit queues again would be in the queue by then
    assert ended(slurm, begun(cancelled))
    assert "stopped by SIGTERM and saved after step" in logs(cancelled)


def test_a_process_that_fails_ends_the_job_and_is_named(slurm: Cluster, runs: Path) -> None:
    # Its run folder has no room for a second process's words: this one is refused when it begins.
    folder = runs / "fails"
    with_setup = [*JOB[:-1], JOB[-1] + "; export ICT_REF_RENDEZVOUS=nonsense://x"]
    done = subprocess.run(
        command(folder, "--wait", job=with_setup), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"job \d+ has failed in process \d of 2: RuntimeError: .*nonsense", done.stderr), done.stderr


def task(job: str, rank: int) -> int:
    """Return the process of a job's rank on this machine.

    srun has the job, rank 0 and the command line of the ranks in its own environment and command line, so that the
    program decides.
    """
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "environ").read_bytes().split(b"\0")
                program, *line = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            mine = f"SLURM_JOB_ID={job}".encode() in words and f"SLURM_PROCID={rank}".encode() in words
            if mine and b"python" in program and b"submitit.core._submit" in line:
                return int(path.name)
    raise AssertionError(f"job {job} has no process {rank}")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--job.partition", "nope"], "--job.partition: expected one of graceful, main, patient, urgent, got nope"),
        (
            ["--job.gpus-per-node", "9", "--job.processes-per-node", "1"],
            "--job.gpus-per-node: expected at most those of a node in partition main (8 a100), got 9",
        ),
        (["--job.nodes", "4"], "--job.nodes: expected at most the 3 such nodes of partition main, got 4"),
        (["--job.memory-gb", "9000"], "--job.memory-gb: expected at most 7 on a node in partition main, got 9000"),
        (["--job.constraint", "hot"], "sbatch rejects the job: Batch job submission failed: Invalid feature"),
        (["--job.sbatch", "bogus=1"], "sbatch rejects the job: sbatch: unrecognized option '--bogus=1'"),
    ],
)
def test_what_the_cluster_cannot_give_is_one_line_and_leaves_nothing(
    options: list[str], says: str, slurm: Cluster, runs: Path
) -> None:
    folder = runs / options[0].strip("-")
    done = launch(folder, *options)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ict_ref.launch: {says}")
    assert f"Change {options[0]}." in line or line.startswith(f"ict_ref.launch: {options[0]}: ")
    assert not folder.exists()


def test_without_a_controller_it_is_one_line(slurm: Cluster, runs: Path, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    text = Path(slurm.env()["SLURM_CONF"]).read_text()
    # Nobody listens there, and nobody waits for long.
    conf.write_text(
        re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", text).replace("MessageTimeout=10", "MessageTimeout=1")
    )
    done = subprocess.run(
        command(runs / "no controller"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "SLURM_CONF": str(conf)},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "--slurm: expected an answer of SLURM's controller to sinfo, got " in line
    assert "Unable to contact slurm controller" in line


def test_a_run_folder_that_cannot_be_written_is_one_line(slurm: Cluster, runs: Path) -> None:
    (runs / "file").touch()
    done = launch(runs / "file" / "run")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"--out: expected a writable folder, got {runs / 'file' / 'run'}" in line


def test_a_run_is_in_the_queue_once_and_a_cancelled_one_is_called_so(slurm: Cluster, runs: Path) -> None:
    folder = runs / "held"
    first = subprocess.Popen(
        command(folder, "--job.sbatch", "hold", "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(folder.glob("slurm/*/*.sh")), "a job")
    (job,) = (path.name for path in folder.glob("slurm/*") if path.name.isdecimal())
    again = launch(folder)
    assert again.returncode == 2, again.stdout
    (line,) = again.stderr.splitlines()
    assert f"expected no job of {folder} in the queue, got job {job} (PENDING (JobHeldUser))" in line
    subprocess.run(["scancel", job], check=True)  # noqa: S607
    out, err = first.communicate(timeout=60)
    assert first.returncode == 143, out + err
    assert f"job {job} was cancelled; the same command resumes from the last checkpoint" in err
    assert "failed" not in err


def test_gpus_that_torch_does_not_see_are_no_cpus(slurm: Cluster, runs: Path) -> None:
    options = ["--job.gpus-per-node", "1", "--job.nodes", "1", "--job.signal-seconds", "90", "--wait"]
    done = launch(runs / "gpus", *options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--machine.device: expected a GPU for each process of a machine" in done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"job \d+ has failed in process 0 of 1: exit status 2; its log is /.*_0_log.out", done.stderr)
