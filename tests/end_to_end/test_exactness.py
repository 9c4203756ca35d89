"""A run is the same however often it is killed and in however many processes it is made: with real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.runs import images, lines, never, newest, recorded, same, unchecked
from tests.support.several import STEPS, configurations, train

from ict_ref.launch.__main__ import main
from ict_ref.sample.images import one_and_two_steps
from ict_ref.training.discretization import discretization
from ict_ref.training.loop import fit, resume
from ict_ref.training.trainer import Trainer

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(("number", "steps"), [(6, 120), pytest.param(20, 800, marks=pytest.mark.thorough)])
@pytest.mark.slow
def test_a_run_that_is_killed_many_times_ends_with_the_same_bits(number: int, steps: int, tmp_path: Path) -> None:
    options = ["--config", "minimal", "--train.steps", str(steps), "--network.multipliers", "1"]
    options += ["--record.save-every", "3", "--record.keep", "2", "--out"]
    for kills, name in ((0, "whole"), (number, "run")):
        command = [sys.executable, "-m", "tests.support.killing", str(kills), *options, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"killed {kills} times" in done.stdout
    saved = json.loads(done.stdout.split("saved at ")[1])
    # It was killed in the middle: after many different checkpoints.
    assert len(set(saved)) > number // 4, done.stdout
    ends = [f"checkpoint-{step:08d}.safetensors" for step in ((steps - 1) // 3 * 3, steps)]
    for name in (*ends, "samples.png", "scores.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for key in ("step", "levels", "loss", "gradient_norm"):
        assert [line[key] for line in lines(tmp_path / "run")] == [line[key] for line in lines(tmp_path / "whole")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where one process, this one, has trained every configuration."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.delenv("WORLD_SIZE", raising=False)
        patch.delenv("ICT_REF_RENDEZVOUS", raising=False)
        train(1, folder, configurations())
    return folder


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (2, [*configurations()]),
        (4, ["ict in parts", "ct"]),
        pytest.param(4, [*configurations()], marks=pytest.mark.thorough),
    ],
)
@pytest.mark.slow
def test_several_processes_learn_what_one_learns(size: int, names: list[str], alone: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.several", str(size), str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        here, there = (json.loads((place / name / "losses.json").read_text()) for place in (alone, tmp_path))
        assert len(here) == STEPS
        # The first loss is of the same parameters: but for the order of sums, the same noise give the same number.
        assert there[0] == pytest.approx(here[0], rel=1e-14), name
        assert there == pytest.approx(here, rel=1e-10), name
        mine, theirs = newest(alone / name), newest(tmp_path / name)
        assert mine is not None
        assert theirs is not None
        assert mine.tensors.keys() == theirs.tensors.keys()
        for key, value in mine.tensors.items():
            torch.testing.assert_close(theirs.tensors[key], value, rtol=0, atol=1e-12, msg=f"{name}: {key}")


@pytest.mark.parametrize(
    "names",
    [
        ["ict in parts", "ct"],
        pytest.param(["continuous", "ict clipped", "ict compiled"], marks=pytest.mark.thorough),
    ],
)
@pytest.mark.slow
def test_four_processes_that_resume_end_with_the_same_bits(names: list[str], tmp_path: Path) -> None:
    # With more than two ranks a sum depends on their order, and so on the place of a gradient in its buffer.
    command = [sys.executable, "-m", "tests.support.several", "4", str(tmp_path), "--resumed", *names]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        whole, resumed = (
            tmp_path / name / place / f"checkpoint-{STEPS:08d}.safetensors" for place in ("whole", "resumed")
        )
        assert whole.read_bytes() == resumed.read_bytes(), name


def launched(*options: str) -> subprocess.Popen[str]:
    """Start the launcher with two processes."""
    command = [sys.executable, "-m", "ict_ref.launch", "--config", "minimal", "--processes", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a launcher has started, the first one first."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something to happen in a run."""
    deadline = time.monotonic() + 120
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def saved(folder: Path) -> int:
    """Return how many checkpoints a run has."""
    return len(list(folder.glob("checkpoint-*.safetensors")))


@pytest.mark.skipif(sys.platform != "linux", reason="finds a run's processes in /proc")
@pytest.mark.slow
def test_two_processes_that_are_stopped_and_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    options = ["--train.steps", "80", "--network.multipliers", "1"]
    options += ["--record.save-every", "2", "--record.keep", "100", "--out"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    process = launched(*options, str(whole))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "2 processes on cpu, 8 images each" in out

    # Asked to stop: both do, at the same step.
    process = launched(*options, str(folder))
    wait_until(lambda: saved(folder) >= 2, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM and saved after step" in err

    # One of them killed: the run ends soon and says which; the one that is left is no culprit.
    process = launched(*options, str(folder))
    before = saved(folder)
    wait_until(lambda: saved(folder) >= before + 2, process)
    os.kill(children(process)[1], signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 137, err
    assert err.splitlines()[-1] == "ict_ref.launch: process 1 of 2 was killed by SIGKILL"
    assert "Traceback" not in err

    # The launcher itself killed: its processes save and end.
    process = launched(*options, str(folder))
    before = saved(folder)
    wait_until(lambda: saved(folder) >= before + 2, process)
    started = children(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(_lives(pid) for pid in started):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process = launched(*options, str(folder))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    for name in ("checkpoint-00000080.safetensors", "samples.png", "scores.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def _lives(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    # The first one is refused, and says so itself; the other one is ended.
    (tmp_path / "thesis.tex").write_text("precious")
    process = launched("--out", str(tmp_path))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = err.splitlines()
    assert "it has files but no config.json" in line


@pytest.mark.slow
def test_an_error_in_one_of_three_processes_ends_all_in_seconds(tmp_path: Path) -> None:
    options = [
        "--config",
        "minimal",
        "--train.batch-size",
        "6",
        "--train.noise-shards",
        "3",
        "--out",
        str(tmp_path / "run"),
    ]
    # The launcher's processes do not import modules from the working directory.
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.support.failing", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    # Otherwise the failed process would wait for the others, and the launcher for all of them.
    _, err = process.communicate(timeout=90)
    assert time.monotonic() - float((tmp_path / "failed").read_text()) < 20
    assert process.returncode == 1
    assert "ict_ref.launch: process 1 of 3 ended with status 1; its last line:" in err
    assert err.endswith("RuntimeError: a defect of rank 1\n")


@pytest.mark.usefixtures("unchecked")
def test_what_is_kept_and_shown_on_the_way_does_not_change_where_it_leads(tmp_path: Path) -> None:
    for name in ("plain", "watched"):
        (tmp_path / name).mkdir()
    plain, watched = (
        Trainer(chosen, images())
        for chosen in (
            recorded(),
            recorded(log_every=7, save_every=3, keep=1, milestone_every=4, sample_every=5, tensorboard=True),
        )
    )
    assert fit(plain, tmp_path / "plain", never)
    shown: list[Path] = []

    def show(path: Path) -> None:
        one_and_two_steps(watched.ema, None if watched.score else torch.zeros(2, dtype=torch.int64),
                          watched.config, count=2, event=watched.event)  # fmt: skip
        shown.append(path)

    assert fit(watched, tmp_path / "watched", never, show_samples=show)
    assert same(watched.checkpoint(), plain.checkpoint())
    assert [path.name for path in shown] == [f"step-{step:08d}.png" for step in range(5, 41, 5)]
    kept = sorted(int(path.stem.split("-")[1]) for path in (tmp_path / "watched").glob("checkpoint-*"))
    assert kept == list(range(4, 41, 4))


@pytest.mark.usefixtures("unchecked")
def test_the_curriculum_goes_on_where_it_was(tmp_path: Path) -> None:
    # N(k) of a whole run of eight stages, each of five steps, stopped in the middle of three of them.
    for limit in (7, 8, 22, 99):
        trainer = Trainer(recorded(), images())
        resume(trainer, tmp_path)
        fit(trainer, tmp_path, lambda: trainer.step >= limit)  # noqa: B023 (called here)
    expected = [n for n in (11, 21, 41, 81, 161, 321, 641, 1281) for _ in range(5)]
    assert [line["levels"] for line in lines(tmp_path)] == expected
    assert [len(discretization(step, trainer.config).sigmas) for step in range(40)] == expected


@pytest.mark.usefixtures("unchecked")
def test_pictures_on_the_way_are_of_the_same_noise(tmp_path: Path) -> None:
    options = ["--config", "minimal", "--train.steps", "8", "--record.sample-every", "4", "--out"]
    for name in ("a", "b"):
        assert main([*options, str(tmp_path / name)]) == 0
    made = sorted(path.name for path in (tmp_path / "a" / "samples").iterdir())
    assert made == ["step-00000004.png", "step-00000008.png"]
    pictures = [(tmp_path / place / "samples" / name).read_bytes() for place in ("a", "b") for name in made]
    assert pictures[:2] == pictures[2:]
    assert pictures[0] != pictures[1]
