"""Whole runs of `python -m ict_ref.launch`: what they write, how they stop, and how they resume."""

import contextlib
import dataclasses
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.support.datasets import prepared, random_images
from tests.support.files import contents
from tests.support.runs import newest

import ict_ref
from ict_ref.data.dataset import load
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.evaluator import Evaluator
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.launch.run import prepare
from ict_ref.networks.model import build_model
from ict_ref.sample.images import images
from ict_ref.sample.sheet import sample_sheet
from ict_ref.utils.signals import StopRequest


def test_a_run_trains_samples_and_scores_and_the_same_command_finds_it_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", "minimal", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "1198 images, 49,081 parameters" in first.out
    assert re.search(r"40/40 .* 00:00 left, N 1281, loss [\d.]+, \d+ images/s, [\d.]+ GB", first.err)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["scores"]
    names = ["one step", "two steps, sigma 0.821", "real images", "fitted Gaussian", "noise"]
    assert [score["name"] for score in scores] == names
    assert all(name in first.out for name in names)
    with Image.open(tmp_path / "run" / "samples.png") as sheet:
        # Three sets of 8 columns and 10 rows; 8 pixels of 5 and a gap of 5 each; margins of 26, a title of 28.
        assert sheet.size == (3 * (26 + 8 * 45), 28 + 10 * 45)
    assert first.out.splitlines()[-1].startswith("preset minimal: its samples are not yet digits")
    before = contents(tmp_path)
    assert main(command) == 0
    assert "resumed after step 40 of 40" in capsys.readouterr().out
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("unchecked")
def test_the_scores_and_the_picture_are_of_the_average_and_of_the_held_out_images(tmp_path: Path) -> None:
    options = ["--train.steps", "16", "--train.seed", "5", "--sample.two-step-sigma", "0.5", "--sample.no-clip"]
    command = ["--config", "minimal", "--method.sigma-max", "20", *options, "--out", str(tmp_path)]
    assert main(command) == 0
    config = parse(command).config
    checkpoint = newest(tmp_path)
    assert checkpoint is not None
    model = build_model(config, event=(1, 8, 8), classes=10)
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({name: checkpoint.tensors[f"average/{name}"] for name in names})
    dataset = load(config.data)
    labels = dataset.held_out.labels
    made = {
        name: images(model, labels, levels, count=599, event=(1, 8, 8), seed=5, clip=False)
        for name, levels in {"one step": [20.0], "two steps, sigma 0.5": [20.0, 0.5]}.items()
    }
    evaluator = Evaluator(dataset.held_out)
    scores = [evaluator.score(name, pixels, labels) for name, pixels in made.items()]
    scores += evaluator.baselines(dataset.train, labels, seed=5)
    protocol = "599 images, against as many held-out ones, by pixels from -1 to 1, k = 3"
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        "format": 2,
        "ict_ref": ict_ref.__version__,
        "step": 16,
        "seed": 5,
        "protocol": protocol,
        "scores": [dataclasses.asdict(score) for score in scores],
    }
    sample_sheet({**made, "real images, held out": dataset.held_out.pixels}, labels, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "samples.png").read_bytes()


@pytest.mark.usefixtures("unchecked")
def test_the_acceptance_thresholds_are_for_one_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # After eight steps two-step samples are nearer to real ones than one-step samples: 38 lies between.
    command = [
        "--config",
        "minimal",
        "--train.steps",
        "8",
        "--acceptance.frechet-distance",
        "38",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 1
    one, two = (score["frechet_distance"] for score in json.loads((tmp_path / "scores.json").read_text())["scores"][:2])
    assert two < 38 < one
    assert f"Frechet distance {one:.3f} is above 38" in capsys.readouterr().err


@pytest.mark.usefixtures("unchecked")
def test_the_number_of_threads_is_set_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", chosen.append)
    for threads in ("3", "0"):
        options = ["--machine.threads", threads, "--out", str(tmp_path / threads)]
        assert main(["--config", "minimal", "--train.steps", "8", *options]) == 0
    assert chosen == [3]


def test_a_second_signal_stops_at_once_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "the same command resumes from the last checkpoint"),
        (KeyboardInterrupt(signal.SIGTERM), 143, "the same command resumes from the last checkpoint"),
        (MemoryError("1 TiB"), 2, "not enough memory on this machine: 1 TiB"),
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (OSError(28, "No space left on device"), 2, "cannot use the run folder: No space left on device"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "cannot use /x/y: Permission denied"),
    ],
)
def test_what_happens_in_a_run_is_one_line_and_a_status(
    error: BaseException,
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ict_ref.training.loop.fit", fail)
    assert main(["--config", "minimal", "--out", str(tmp_path)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_programming_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr("ict_ref.training.loop.fit", fail)
    with pytest.raises(ValueError, match="ours"):
        main(["--config", "minimal", "--out", str(tmp_path)])


def test_a_run_without_labels_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "minimal", "--data.no-labels", "--train.steps", "8", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("-\n") == 5


@pytest.mark.usefixtures("unchecked")
def test_a_run_below_its_acceptance_thresholds_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8", "--acceptance.accuracy", "0.99", "--out", str(tmp_path)]
    assert main(command) == 1
    assert "one-step samples miss acceptance thresholds: accuracy" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    command = ["--config", "minimal", "--machine.device", "cuda", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--machine.device: expected a GPU for each process of a machine, got 0 for 1 or more" in line
    assert not (tmp_path / "run").exists()


def test_a_preset_of_the_paper_without_a_gpu_needs_the_word_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = prepared(tmp_path / "data", random_images(40, 3, 32, 32), [k % 10 for k in range(40)])
    small = ["--network.width", "32", "--network.blocks", "1", "--train.batch-size", "64", "--train.steps", "8"]
    command = ["--config", "cifar10", "--data.path", str(images), *small, "--out", str(tmp_path / "run")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "--machine.device: expected a GPU for the preset cifar10, and torch found none. Give --machine.device" in line
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unchecked")
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8", "--out", str(tmp_path)]
    assert main(command) == 0
    path = tmp_path / "checkpoint-00000008.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "checkpoint-00000008.safetensors is damaged" in line
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("unchecked")
def test_another_run_s_checkpoint_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8"]
    for seed in ("1", "2"):
        assert main([*command, "--train.seed", seed, "--out", str(tmp_path / seed)]) == 0
    name = "checkpoint-00000008.safetensors"
    (tmp_path / "2" / name).write_bytes((tmp_path / "1" / name).read_bytes())
    before = contents(tmp_path)
    capsys.readouterr()
    assert main([*command, "--train.seed", "2", "--out", str(tmp_path / "2")]) == 2
    assert "the checkpoint is of another configuration" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_output_that_nobody_reads_ends_the_run_without_a_word(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ict_ref.launch",
        "--config",
        "minimal",
        "--train.steps",
        "8",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 141)
    assert "Traceback" not in err
    assert "Broken pipe" not in err


@pytest.mark.usefixtures("unchecked")
def test_another_configuration_s_folder_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8", "--out", str(tmp_path)]
    assert main(command) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert main([*command, "--train.seed", "1"]) == 2
    assert "--train.seed: expected 0 as in the run" in capsys.readouterr().err
    assert contents(tmp_path) == before


ARGUMENTS = ["--config", "minimal", "--train.steps", "120", "--out"]


def stopped(folder: Path, number: signal.Signals) -> tuple[int, str]:
    """Start a run, send it a signal after its tenth step, and return its exit status and what it wrote to stderr."""
    command = [sys.executable, "-m", "ict_ref.launch", *ARGUMENTS, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    # The tenth step is saved, and with it its line is written out.
    while not any(folder.glob("checkpoint-*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    return process.returncode, err


def test_a_run_stopped_by_ctrl_c_saves_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    status, err = stopped(tmp_path, signal.SIGINT)
    assert status == 130
    said = re.search(r"stopped by SIGINT and saved after step (\d+) of 120 in .*; the same command resumes there", err)
    assert said is not None, err
    with contextlib.ExitStack() as stack:
        trainer = prepare(parse([*ARGUMENTS, str(tmp_path)]), ProcessGroup(), stack).trainer
    assert trainer.step == int(said[1]) < 120
    trainer.update()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_whose_terminal_is_closed_saves(processes: str, tmp_path: Path) -> None:
    arguments = ["--config", "minimal", "--train.steps", "2000", "--train.batch-size", "8", "--processes", processes]
    arguments += ["--record.save-every", "2000", "--out", str(tmp_path)]
    child, terminal = pty.fork()
    if not child:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it for the tests themselves
        os.execv(sys.executable, [sys.executable, "-m", "ict_ref.launch", *arguments])  # noqa: S606 (our own command)
    deadline = time.monotonic() + 120
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and '"step": 2' in metrics.read_text()):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 4096)
    os.close(terminal)  # the system sends SIGHUP, and nothing can be written from now on
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert len(list(tmp_path.glob("checkpoint-*.safetensors"))) == 1


def test_a_hangup_stops_once_and_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it for the tests themselves
    try:
        stop = StopRequest()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)  # no KeyboardInterrupt
            assert stop.signal == signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = StopRequest()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_saves_and_a_killed_one_has_its_last_checkpoint(tmp_path: Path) -> None:
    status, err = stopped(tmp_path / "terminated", signal.SIGTERM)
    assert status == 143
    assert "stopped by SIGTERM and saved after step" in err
    assert stopped(tmp_path / "killed", signal.SIGKILL)[0] == -9
    for name in ("terminated", "killed"):
        checkpoint = newest(tmp_path / name)
        assert checkpoint is not None
        assert 10 <= checkpoint.step < 120
        # No line of a saved step is lost.
        steps = [json.loads(line)["step"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()[:10]]
        assert steps == list(range(1, 11))


def test_training_runs_without_run_time_shape_checks() -> None:
    # What checks shapes in the tests would cost time in a run: neither the checker nor its hook is loaded.
    code = (
        "import sys, ict_ref.launch, ict_ref.training.loop, ict_ref.evaluate.evaluator, ict_ref.sample.sheet\n"
        "assert 'beartype' not in sys.modules\n"
        "assert not any('jaxtyping' in type(finder).__module__ for finder in sys.meta_path)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_run_time_checks_a_formula_still_rejects_a_fraction_of_a_level() -> None:
    code = "from ict_ref.formulas import sigma_grid\ntry:\n    sigma_grid(2.5)\nexcept ValueError as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "expected a whole n >= 2" in done.stdout, done.stderr


def test_the_tests_run_with_run_time_shape_checks() -> None:
    from jaxtyping import TypeCheckError

    from ict_ref.formulas import inverse_gap_weights, pseudo_huber

    with pytest.raises(TypeCheckError):
        pseudo_huber(torch.ones(2, 3), torch.ones(2, 4), c=1.0)
    with pytest.raises(TypeCheckError):
        inverse_gap_weights(torch.ones(3, dtype=torch.float32))


def test_a_finished_run_is_scored_again_with_other_thresholds_sampling_and_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--config", "minimal", "--train.steps", "8"]
    assert main(command) == 0
    (run,) = (tmp_path / "runs").iterdir()
    checkpoint = (run / "checkpoint-00000008.safetensors").stat()
    capsys.readouterr()
    changed = ["--sample.two-step-sigma", "0.5", "--sample.no-clip", "--acceptance.recall", "0.9", "--record.keep", "1"]
    assert main([*command, *changed, "--machine.threads", "2"]) == 1
    out, err = capsys.readouterr()
    assert "two steps, sigma 0.5" in out
    assert "recall" in err
    assert list((tmp_path / "runs").iterdir()) == [run]
    assert (run / "checkpoint-00000008.safetensors").stat().st_ino == checkpoint.st_ino
    stored = json.loads((run / "config.json").read_text())["config"]
    assert (stored["sample"], stored["acceptance"]["recall"]) == ({"two_step_sigma": 0.5, "clip": False}, 0.9)
