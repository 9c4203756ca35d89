import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.support.datasets import binary_batch, prepared, random_images, write_folder
from tests.support.runs import newest

from ict_ref.config import PRESETS, digits, minimal
from ict_ref.data.dataset import load
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.evaluator import Evaluator
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.launch.run import prepare
from ict_ref.networks.model import build_model
from ict_ref.prepare.__main__ import main as prepare_data
from ict_ref.sample.images import images
from ict_ref.sample.sheet import sample_sheet
from ict_ref.utils.signals import StopRequest


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_trains_samples_and_scores_and_the_same_command_finds_it_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", "minimal", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "1198 images, 49,081 parameters" in first.out
    assert re.search(r"40/40 .* N 1281, loss [\d.]+, \d+ images/s, 00:00 left", first.err)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    names = ["one step", "two steps, sigma 0.821", "real images", "fitted Gaussian", "noise"]
    assert [score["name"] for score in scores] == names
    assert all(name in first.out for name in names)
    with Image.open(tmp_path / "run" / "samples.png") as sheet:
        # Three sets of 8 columns and 10 rows; 8 pixels of 5 and a gap of 5 each; margins of 26, a title of 28.
        assert sheet.size == (3 * (26 + 8 * 45), 28 + 10 * 45)
    assert first.out.splitlines()[-1].startswith("preset minimal: its samples are not yet digits")
    before = files(tmp_path)
    assert main(command) == 0
    assert "resumed after step 40 of 40" in capsys.readouterr().out
    assert files(tmp_path) == before


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
    assert json.loads((tmp_path / "scores.json").read_text()) == [dataclasses.asdict(score) for score in scores]
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
    one, two = (score["frechet_distance"] for score in json.loads((tmp_path / "scores.json").read_text())[:2])
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


def test_the_run_folder_is_named_by_preset_and_configuration() -> None:
    plain, other = (parse(["--config", "minimal", *more]) for more in ([], ["--train.seed", "1"]))
    assert re.fullmatch(r"runs/minimal-[0-9a-f]{8}", str(plain.folder()))
    assert plain.folder() != other.folder()
    assert str(parse(["--config", "minimal", "--out", "here"]).folder()) == "here"


def test_options_change_the_preset() -> None:
    launch = parse(["--config", "digits", "--train.batch_size=32", "--network.multipliers", "1", "2", "2"])
    assert launch.config.train.batch_size == 32
    assert launch.config.network.multipliers == (1, 2, 2)
    assert launch.config.method == digits().method
    assert parse(["--config=minimal"]).config == minimal()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_presets_options_and_their_sources(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([flag])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for expected in (*PRESETS, "--train.batch-size", "iCT, Section 3.5", "--out", "130"):
        assert expected in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config: expected one of digits, minimal"),
        (["--config"], "--config: expected one of digits, minimal"),
        (["--config", "digit"], "got digit; perhaps you meant digits"),
        (["--config", "zebra"], "--config: expected one of digits, minimal"),
        (["--config", "minimal", "--train.batchsize", "3"], "perhaps you meant --train.batch-size"),
        (["--config", "minimal", "--train.batch-size", "many"], "--train.batch-size: expected an integer, got many"),
        (["--config", "minimal", "--train.batch-size"], "--train.batch-size: expected an integer, got nothing"),
        (["--config", "minimal", "--train.batch-size", "0"], "--train.batch-size: expected an integer >= 1, got 0"),
        (["--config", "minimal", "--train.noise-shards", "3"], "--train.noise-shards: expected a divisor of"),
        (["--config", "minimal", "--machine.accumulate", "3"], "--train.noise-shards: expected a multiple of 3"),
        (["--config", "minimal", "--processes", "-1"], "--processes: expected an integer >= 0, got -1"),
        (
            ["--config", "minimal", "--train.dtype", "float64", "--train.autocast", "bfloat16"],
            "--train.autocast: expected none where --train.dtype is float64, got bfloat16",
        ),
        (["--config", "minimal", "--record.keep", "0"], "--record.keep: expected an integer >= 1, got 0"),
        (["--config", "minimal", "--network.dropout", "1"], "--network.dropout: expected 0 <= rate < 1, got 1.0"),
        (["--config", "minimal", "--network.groups", "3"], "--network.groups: expected a divisor of 8 channels"),
        (
            ["--config", "minimal", "--method.sigma-min", "90"],
            "--method.sigma-min: expected 0 < sigma_min < sigma_max < infinity (iCT",
        ),
        (["--config", "minimal", "--train.steps", "3"], "Train for at least 8 steps"),
        (["--config", "minimal", "--sample.two-step-sigma", "90"], "--sample.two-step-sigma: expected 0.002 <= "),
        (["--config", "minimal", "--method.sigma-data", "nan"], "--method.sigma-data: expected 0 < sigma_data"),
        (["--config", "minimal", "--method.rho", "1e-6"], "--method.rho: expected a number for which"),
        (
            ["--config", "minimal", "--method.sigma-max", "1e308"],
            "--method.sigma-max: expected 0 < sigma < ",
        ),
        (
            ["--config", "minimal", "--method.sigma-data", "1e200"],
            "--method.sigma-data: expected a number",
        ),
        (["--config", "minimal", "--network.multipliers", "1", "1", "1", "1", "1"], "cannot be halved 4 times"),
        (["--config", "minimal", "--network.time-scale", "inf"], "--network.time-scale: expected a number between"),
        (["--config", "minimal", "--acceptance.accuracy", "nan"], "--acceptance.accuracy: expected a fraction"),
        (["--config", "minimal", "--acceptance.frechet-distance", "inf"], "expected a finite number >= 0, got inf"),
        (["--config", "digits", "--data.no-labels"], "--acceptance.accuracy: expected None for a model"),
        (["--config", "minimal", "stray"], "unexpected argument stray"),
        (["--config", "minimal", "--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--config", "minimal", "--out", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("ict_ref.launch: ")
    assert message in line
    assert files(tmp_path) == {}


def test_a_gpu_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    command = ["--config", "minimal", "--machine.device", "cuda", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--machine.device: expected a GPU for each process of a machine, got 0 for 1 or more" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unchecked")
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8", "--out", str(tmp_path)]
    assert main(command) == 0
    path = tmp_path / "checkpoint-00000008.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    before = files(tmp_path)
    capsys.readouterr()
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "checkpoint-00000008.safetensors is damaged" in line
    assert files(tmp_path) == before


@pytest.mark.usefixtures("unchecked")
def test_another_run_s_checkpoint_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "minimal", "--train.steps", "8"]
    for seed in ("1", "2"):
        assert main([*command, "--train.seed", seed, "--out", str(tmp_path / seed)]) == 0
    name = "checkpoint-00000008.safetensors"
    (tmp_path / "2" / name).write_bytes((tmp_path / "1" / name).read_bytes())
    before = files(tmp_path)
    capsys.readouterr()
    assert main([*command, "--train.seed", "2", "--out", str(tmp_path / "2")]) == 2
    assert "the checkpoint is of another configuration" in capsys.readouterr().err
    assert files(tmp_path) == before


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
    before = files(tmp_path)
    capsys.readouterr()
    assert main([*command, "--train.seed", "1"]) == 2
    assert "--train.seed: expected 0 as in the run" in capsys.readouterr().err
    assert files(tmp_path) == before


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
        trainer, _ = prepare(parse([*ARGUMENTS, str(tmp_path)]), ProcessGroup(), stack)
    assert trainer.step == int(said[1]) < 120
    trainer.update()


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


def test_without_run_time_checks_a_formula_still_refuses_what_is_no_number_of_levels() -> None:
    code = "from ict_ref.formulas import sigma_grid\ntry:\n    sigma_grid(2.5)\nexcept ValueError as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs a whole n >= 2" in done.stdout, done.stderr


def test_the_tests_run_with_run_time_shape_checks() -> None:
    from jaxtyping import TypeCheckError

    from ict_ref.formulas import inverse_gap_weights, pseudo_huber

    with pytest.raises(TypeCheckError):
        pseudo_huber(torch.ones(2, 3), torch.ones(2, 4), c=1.0)
    with pytest.raises(TypeCheckError):
        inverse_gap_weights(torch.ones(3, dtype=torch.float32))


def test_help_and_errors_come_without_importing_torch() -> None:
    code = (
        "import sys\nfrom ict_ref.launch.__main__ import parse\n"
        "parse(['--config', 'digits'])\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SMALL = ["--train.batch-size", "4", "--data.name"]


def cifar(place: Path) -> str:
    """Prepare a folder like CIFAR-10's, of 40 images, and return it."""
    images = random_images(40, 3, 32, 32)
    batches = {f"data_batch_{k + 1}.bin": binary_batch(images[8 * k : 8 * k + 8], [*range(8)]) for k in range(5)}
    source = write_folder(place / "cifar-10-batches-bin", batches)
    assert prepare_data([str(source), "--out", str(place / "cifar10")]) == 0
    return str(place / "cifar10")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_a_run_on_prepared_data_is_killed_resumes_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    data = cifar(tmp_path)
    options = ["cifar10", "--data.path", data, "--data.flip", "--record.save-every", "5"]
    command = ["--config", "minimal", *SMALL, *options, "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-m", "ict_ref.launch", *command, str(folder)])
    deadline = time.monotonic() + 120
    while not any(folder.glob("checkpoint-*.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait(timeout=60) == -9
    checkpoint = newest(folder)
    assert checkpoint is not None
    assert checkpoint.step < 40
    # The data may have been moved meanwhile.
    Path(data).rename(tmp_path / "elsewhere")
    moved = [str(tmp_path / "elsewhere") if word == data else word for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "ict_ref.launch", *moved, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resumed after step" in done.stdout
    assert "samples are not scored or compared with acceptance thresholds" in done.stdout
    for name in ("checkpoint-00000040.safetensors", "samples.png"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (folder / "scores.json").exists()
    with Image.open(folder / "samples.png") as sheet:
        # Two sets of 8 columns and 10 rows of 32 pixels and a gap of 5; margins of 26, a title of 28.
        assert sheet.size == (2 * (26 + 8 * 37), 28 + 10 * 37)


def test_a_run_with_held_out_images_is_scored_by_them(tmp_path: Path) -> None:
    labels = [k // 8 for k in range(16)]
    train, rest = (
        str(prepared(tmp_path / name, random_images(16, 1, 8, 8, seed=k), labels)) for k, name in ((0, "a"), (1, "b"))
    )
    command = ["--config", "minimal", "--train.steps", "8", "--data.name", "folder", "--data.path", train]
    assert main([*command, "--data.held-out", rest, "--out", str(tmp_path / "run")]) == 0
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    evaluator = Evaluator(load(parse([*command, "--data.held-out", rest]).config.data).held_out)
    real = evaluator.score("real images", load(parse(command).config.data).train.pixels, torch.tensor(labels))
    assert scores[2] == dataclasses.asdict(real)
    assert main([*command, "--data.no-labels", "--data.held-out", rest, "--out", str(tmp_path / "plain")]) == 0
    assert json.loads((tmp_path / "plain" / "scores.json").read_text())[0]["accuracy"] is None


def test_a_run_is_named_by_its_data_and_not_by_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (prepared(tmp_path / name, random_images(4, 1, 8, 8, seed=k)) for k, name in ((0, "a"), (1, "b")))
    copy = shutil.copytree(first, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    command = ["--config", "minimal", "--data.no-labels", "--data.name", "folder", "--data.path"]
    names = [str(parse([*command, str(place)]).folder()) for place in (first, copy, "a", "./copy", second)]
    assert len(set(names[:4])) == 1
    assert names[4] != names[0]
    assert parse([*command, "a"]).config.data.checksum in capture_checksum(first)


def capture_checksum(folder: Path) -> str:
    """Return what `prepare --check` prints of a folder."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert prepare_data(["--check", str(folder)]) == 0
    return shown.getvalue()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["folder"], "--data.path: expected the folder of folder, got nothing"),
        (
            ["folder", "--data.path", "nowhere"],
            "expected a prepared folder, got nowhere, which does not exist. Run",
        ),
        (["folder", "--data.path", "file"], "expected a prepared folder, got file, which is a file"),
        (["folder", "--data.path", "."], "is not a prepared folder: data.json is missing"),
        (["folder", "--data.path", "grey", "--data.labels"], "--data.labels: expected images with classes"),
        (["cifar10", "--data.path", "grey"], "--data.path: expected images of (3, 32, 32) for cifar10, got (1, 6, 6)"),
        (["folder", "--data.path", "grey", "--network.multipliers", "1", "1", "1"], "stages for images of size 6"),
        (["folder", "--data.path", "cut"], "cut/images.npy is truncated or damaged"),
        (["folder", "--data.path", "grey", "--data.checksum", "1234"], "--data.checksum: expected"),
        (["folder", "--data.path", "grey", "--data.held-out", "nowhere"], "got nowhere, which does not exist"),
        (["digits", "--data.path", "grey"], "--data.path: expected nothing for --data.name digits, got grey"),
        (["cifar", "--data.path", "grey"], "--data.name: expected one of digits, cifar10"),
    ],
)
def test_data_that_cannot_be_used_are_one_line_and_status_2(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("grey", "cut"):
        prepared(tmp_path / name, random_images(5, 1, 6, 6))
    whole = (tmp_path / "cut" / "images.npy").read_bytes()
    (tmp_path / "cut" / "images.npy").write_bytes(whole[:-7])
    (tmp_path / "file").touch()
    before = files(tmp_path)
    capsys.readouterr()
    assert main(["--config", "minimal", "--data.no-labels", "--out", "run", "--data.name", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert files(tmp_path) == before


def test_data_that_may_not_be_read_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(tmp_path / "data", random_images(5, 1, 6, 6))
    capsys.readouterr()

    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert main(["--config", "minimal", "--data.name", "folder", "--data.path", str(data)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot use {data / 'data.json'}: Permission denied" in line


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


def test_a_run_that_version_0_1_0_began_is_continued_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name that it gave to the demo's run folder: runs/digits-c86323d6.
    monkeypatch.chdir(tmp_path)
    assert str(parse(["--config", "digits"]).folder()) != "runs/digits-c86323d6"
    (tmp_path / "runs" / "digits-c86323d6").mkdir(parents=True)
    assert str(parse(["--config", "digits"]).folder()) == "runs/digits-c86323d6"
    assert str(parse(["--config", "digits", "--acceptance.recall", "0.2"]).folder()) == "runs/digits-c86323d6"
    assert str(parse(["--config", "digits", "--train.seed", "2"]).folder()) != "runs/digits-c86323d6"
