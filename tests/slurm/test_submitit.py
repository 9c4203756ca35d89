"""The parts of submitit that its documentation does not promise, and on which jobs depend.

SLURM's programs are shell scripts here, which record their arguments; tests/slurm_cluster runs a real SLURM. A new
version of submitit that fails here must not be allowed by pyproject.toml.
"""

import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import tomllib
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from ict_ref.slurm.follow import _relevant_lines
from ict_ref.slurm.options import Job
from ict_ref.slurm.submit import executor, submit
from ict_ref.slurm.worker import SlurmTask, Task

ROOT = Path(__file__).parents[2]
NUMBER = "4321"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs named as SLURM's at the front of PATH and return the file to which they write."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    for name, answer in (("sbatch", f"echo Submitted batch job {NUMBER}"), ("scontrol", ":"), ("squeue", ":")):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {shlex.quote(str(log))}\n{answer}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def work(folder: Path, action: Callable[[], int], **job: object) -> SlurmTask:
    wanted = Job(**job)  # type: ignore[arg-type]
    return SlurmTask("test", folder, "folder", wanted, action, total=1, progress=lambda: (1, ""))


def process(folder: Path, rank: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the process of a submitted job that srun would start."""
    text = (folder / "slurm" / NUMBER / f"{NUMBER}_submission.sh").read_text()
    (command,) = re.findall(r"^srun .*? (\S+ -u -m submitit\.core\._submit .*)$", text, re.MULTILINE)
    job = {"SLURM_JOB_ID": NUMBER, "SLURM_NTASKS": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
    more = {"SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost"}
    env = {**os.environ, **job, **more, "SUBMITIT_EXECUTOR": "slurm"}
    return subprocess.run(shlex.split(command), env=env, capture_output=True, text=True, check=False)


def test_the_installed_version_is_one_that_the_package_allows() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (line,) = (line for line in extras["slurm"] if line.startswith("submitit"))
    bounds = re.fullmatch(r"submitit>=(\d+)\.(\d+),<(\d+)\.(\d+)", line)
    assert bounds is not None, line
    lowest, above = (tuple(map(int, pair)) for pair in (bounds.groups()[:2], bounds.groups()[2:]))
    assert lowest <= tuple(map(int, metadata.version("submitit").split(".")[:2])) < above


def test_the_file_for_sbatch_is_written_where_slurm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    given = work(tmp_path, partial(int, "0"), minutes=30, setup=("module load cuda",), sbatch=("exclusive",))
    lines = executor(given).text().splitlines()
    for line in ("--time=30", "--signal=USR2@120", "--requeue", "--exclusive", "--open-mode=append", "--mem=0GB"):
        assert f"#SBATCH {line}" in lines
    assert f"#SBATCH --output={tmp_path}/slurm/%j/%j_0_log.out" in lines
    assert not [line for line in lines if "wckey" in line or "--error" in line]
    (srun,) = (number for number, line in enumerate(lines) if line.startswith("srun "))
    # srun replaces %t in the name of the log, and its processes end together.
    assert f"--output {tmp_path}/slurm/%j/%j_%t_log.out --kill-on-bad-exit=1 --cpus-per-task=1 " in lines[srun]
    assert lines[srun].endswith(f"-u -m submitit.core._submit {tmp_path}/slurm/%j")
    assert lines.index("export PYTHONSAFEPATH=1") < lines.index("set -e") < lines.index("module load cuda") < srun


def test_a_submission_leaves_its_files_in_the_job_s_folder_only(
    programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/our.conf")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "bin" / "sbatch").write_text(
        f'#!/bin/sh\necho "$SLURM_CONF,$SLURM_JOB_ID," >> {programs}\necho Submitted batch job {NUMBER}\n'
    )
    assert submit(work(tmp_path / "run", partial(int, "0")), wait=False) == 0
    assert f"{tmp_path}/run/slurm/{NUMBER}/{NUMBER}_0_log.out" in capsys.readouterr().out
    assert programs.read_text() == "/etc/our.conf,,\n"  # neither the job in which the submission runs
    assert os.environ["SLURM_JOB_ID"] == "7"
    names = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*")}
    inside = {f"slurm/{NUMBER}/{NUMBER}_{end}" for end in ("submission.sh", "submitted.pkl")}
    assert names == {"slurm", f"slurm/{NUMBER}", *inside}


def test_the_errors_of_sbatch_are_in_the_error_of_submitit(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition: x >&2\nexit 1\n")
    with pytest.raises(ValueError, match=r"^sbatch rejects the job: invalid partition: x\. Change --job\.partition\.$"):
        submit(work(tmp_path / "run", partial(int, "0")), wait=False)
    assert not (tmp_path / "run").exists()


def test_an_answer_of_sbatch_without_a_number_is_an_error_too(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho maintenance until noon\n")
    with pytest.raises(ValueError, match=r"sbatch rejects the job: .*maintenance until noon"):
        submit(work(tmp_path / "run", partial(int, "0")), wait=False)


def test_a_process_of_the_job_has_torch_s_variables_and_writes_its_result(programs: Path, tmp_path: Path) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    shown = " ".join(f"{name}=${name}" for name in names)
    submit(work(tmp_path / "run", partial(os.system, f"echo {shown} > {tmp_path / 'seen'}")), wait=False)
    done = process(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    seen = dict(word.split("=") for word in (tmp_path / "seen").read_text().split())
    port = (tmp_path / "run" / "slurm" / NUMBER / f"{NUMBER}_port_0").read_text()
    assert (seen["RANK"], seen["WORLD_SIZE"], seen["LOCAL_RANK"], seen["MASTER_PORT"]) == ("0", "2", "0", port)
    assert seen["MASTER_ADDR"] == "localhost"
    assert json.loads((tmp_path / "run" / "slurm" / NUMBER / f"{NUMBER}_0_ended.json").read_text()) == {"status": 0}


def test_the_handler_of_sigusr2_queues_the_job_of_the_first_process_again(programs: Path, tmp_path: Path) -> None:
    submit(work(tmp_path / "run", partial(int, str(128 + signal.SIGUSR2))), wait=False)
    before = programs.read_text()
    done = process(tmp_path / "run")
    assert programs.read_text().removeprefix(before) == f"scontrol requeue {NUMBER}\n", done.stderr
    assert done.returncode != 0
    assert not list((tmp_path / "run" / "slurm").rglob("*_ended.json"))
    # The next start reads the same task, which may still reach its time limit.
    with (tmp_path / "run" / "slurm" / NUMBER / f"{NUMBER}_submitted.pkl").open("rb") as file:
        delayed = pickle.load(file)  # noqa: S301 (our own file)
    assert isinstance(delayed.function, Task)
    assert delayed._timeout_countdown > 1000


def test_a_failure_ends_in_a_log_whose_lines_after_ours_are_known(programs: Path, tmp_path: Path) -> None:
    submit(work(tmp_path / "run", partial(os.system, "echo the reason; exit 3")), wait=False)
    done = process(tmp_path / "run")
    assert done.returncode == 1
    assert "submitit ERROR" in done.stderr
    kept = _relevant_lines(done.stdout + done.stderr)
    assert "the reason" in kept
    assert not [line for line in kept if "RunFailedError" in line or line.startswith(("Traceback", "submitit ERROR"))]
    (ended,) = (tmp_path / "run" / "slurm").rglob("*_ended.json")
    assert json.loads(ended.read_text())["status"] != 0


def test_a_queued_job_is_pickled_under_the_names_of_the_worker() -> None:
    # A job in the queue outlives an update of the package: the name may move only if a note stays at the old place.
    assert b"ict_ref.slurm.worker" in pickle.dumps(Task(partial(int, "0")))
