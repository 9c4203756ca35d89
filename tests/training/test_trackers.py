"""Weights & Biases and MLflow. `nox -s peers` runs the tests that need their packages."""

import importlib
import json
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.runs import images, lines, never, recorded

from ict_ref.launch.__main__ import main
from ict_ref.training.loggers import Logger
from ict_ref.training.loop import fit, resume
from ict_ref.training.trackers import Background, keep_run_id, run_id, trackers
from ict_ref.training.trainer import Trainer

LEVELDB_BLOCK = 32768


class File:
    """A logger that writes its calls to a file, and may be slow or fail."""

    def __init__(self, path: Path, before: Callable[[], object] = lambda: None) -> None:
        self.path, self.before = path, before

    def write(self, *what: object) -> None:
        self.before()
        with self.path.open("a") as file:
            file.write(f"{json.dumps(what)}\n")

    def log(self, step: int, values: Mapping[str, int | float]) -> None:
        self.write("log", step, values)

    def image(self, step: int, file: Path) -> None:
        self.write("image", step, file.name)

    def sync(self) -> None:
        self.write("sync")

    def close(self) -> None:
        self.write("close")


def fails() -> None:
    raise ConnectionError("no route\n\x1b[31mto host")


def test_the_thread_makes_every_call_in_order(tmp_path: Path) -> None:
    logger = Background("--record.x", lambda: File(tmp_path / "calls"))
    assert isinstance(logger, Logger)
    values = {"loss": 0.5}
    logger.log(1, values)
    values["loss"] = 7.0  # the caller's own
    logger.image(1, tmp_path / "sheet.png")
    logger.sync()
    logger.close()
    found = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert found == [["log", 1, {"loss": 0.5}], ["image", 1, "sheet.png"], ["sync"], ["close"]]


@pytest.mark.parametrize("when", ["begin", "log"])
def test_a_failure_is_one_line_and_training_continues(
    when: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin() -> Logger:
        if when == "begin":
            fails()
        return File(tmp_path / "calls", fails)

    logger = Background("--record.x", begin)
    for step in range(1, 4):
        logger.log(step, {"loss": 0.5})
    logger.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--record.x: stopped after ConnectionError: no route ")
    assert line.endswith("to host. Training continues; metrics.jsonl has every line.")
    assert "\x1b" not in line


def test_a_slow_one_delays_neither_training_nor_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered = threading.Event()
    start = time.monotonic()
    logger = Background("--record.x", lambda: File(tmp_path / "calls", answered.wait), patience_s=0.1)
    for step in range(1, 1001):
        logger.log(step, {"loss": 0.5})
    logger.close()
    assert time.monotonic() - start < 5
    assert "--record.x: expected an answer within 0.1 s, got none; about 1000 calls are lost" in capsys.readouterr().err
    answered.set()


def test_identifiers_are_kept_in_the_run_folder(tmp_path: Path) -> None:
    assert run_id(tmp_path, "wandb") is None
    keep_run_id(tmp_path, "wandb", "a")
    keep_run_id(tmp_path, "mlflow", "b")
    assert (run_id(tmp_path, "wandb"), run_id(tmp_path, "mlflow")) == ("a", "b")
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"format": 1, "wandb": "a", "mlflow": "b"}
    (tmp_path / "tracking.json").write_text('{"format": 2, "wandb": "a"}')
    with pytest.raises(ValueError, match="expected format 1 or lower, got 2"):
        run_id(tmp_path, "wandb")


def test_they_are_off_unless_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / ".tracking.json.0123456789abcdef.tmp").touch()  # of a killed process
    assert trackers(tmp_path, {"record.wandb": "off", "record.mlflow": "off"}) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_they_do_not_write_through_links(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=f"{name}: expected a regular file, got a symbolic link"):
        trackers(tmp_path, {"record.wandb": "off", "record.mlflow": "off", f"record.{name}": "folder"})


@pytest.mark.parametrize(
    ("name", "requirement"), [("wandb", "wandb>=0.31"), ("mlflow", "mlflow>=3.17")], ids=["wandb", "mlflow"]
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_missing_package_is_rejected_before_training(
    name: str,
    requirement: str,
    more: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    options = ["--config", "minimal", f"--record.{name}", "folder", "--out", str(tmp_path / "run"), *more]
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    wanted = f"expected the package {name}, got an environment without it. Run pip install '{requirement}'."
    assert line == f"ict_ref.launch: {wanted}"
    assert not (tmp_path / "run").exists()


def run_twice(folder: Path, **options: Any) -> None:
    """Train 12 steps, then lose the last two checkpoints' steps as a kill does, and train to the end."""
    chosen = recorded(log_every=2, sample_every=4, save_every=5, **options)

    def show(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (trainer.step, 20, 30)).save(path)

    trainer = Trainer(chosen, images())
    assert not fit(trainer, folder, lambda: trainer.step >= 12, show_samples=show)
    (folder / "checkpoint-00000012.safetensors").unlink()
    trainer = Trainer(chosen, images())
    resume(trainer, folder)
    assert trainer.step == 10
    assert fit(trainer, folder, never, show_samples=show)


@pytest.mark.usefixtures("unchecked")
def test_wandb_has_metrics_sheets_and_options_in_one_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run_twice(tmp_path, wandb="folder")
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    known = run_id(tmp_path, "wandb")
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    records = [record for file in files for record in wandb_records(file)]
    assert {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"} == {known}
    (options,) = {
        tuple((item.key, item.value_json) for item in record.run.config.update if item.key != "_wandb")
        for record in records
        if record.WhichOneof("record_type") == "run"
    }
    assert dict(options)["train.batch_size"] == str(recorded().train.batch_size)
    rows = [row for record in records if (row := history(record))]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6, 8, 10, 12, *range(12, 41, 2)]
    by_step = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert by_step == {line["step"]: line["loss"] for line in lines(tmp_path)}
    assert [row["step"] for row in rows if "samples/path" in row] == [4, 8, 12, *range(12, 41, 4)]


def wandb_records(file: Path) -> list[Any]:
    """Return the records of an offline run: a log in LevelDB's format of messages that wandb describes."""
    kind = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    content, at, message, found = file.read_bytes(), 7, b"", []
    while at + 7 < len(content):
        if LEVELDB_BLOCK - at % LEVELDB_BLOCK < 7:
            at += LEVELDB_BLOCK - at % LEVELDB_BLOCK
            continue
        size, part = struct.unpack("<HB", content[at + 4 : at + 7])
        message += content[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):  # a whole message, or the last part of one
            found.append(kind.FromString(message))
            message = b""
    return found


def history(record: Any) -> dict[str, Any]:
    if record.WhichOneof("record_type") != "history":
        return {}
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}


@pytest.mark.usefixtures("unchecked")
def test_mlflow_has_metrics_sheets_and_options_in_one_run(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    run_twice(tmp_path, mlflow="folder")
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ict_ref").experiment_id
    (run,) = client.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (run_id(tmp_path, "mlflow"), "FINISHED")
    assert run.data.params["train.batch_size"] == str(recorded().train.batch_size)
    found = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(metric.step for metric in found) == sorted([*range(2, 41, 2), 12])
    assert {metric.step: metric.value for metric in found} == {line["step"]: line["loss"] for line in lines(tmp_path)}
    sheets = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    numbers = [re.match(r"images/samples\W*step\W*(\d+)", path) for path in sheets]
    assert {int(number[1]) for number in numbers if number} == set(range(4, 41, 4))
