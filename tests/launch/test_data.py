"""Runs of `python -m ict_ref.launch` on prepared data."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.datasets import binary_batch, prepared, random_images, write_folder
from tests.support.files import contents
from tests.support.one_line import rejection
from tests.support.runs import newest

from ict_ref.data.dataset import load
from ict_ref.evaluate.evaluator import Evaluator
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.prepare.__main__ import main as prepare_data
from ict_ref.sample.__main__ import main as sample

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
    options = ["cifar10", "--data.partial", "--data.path", data, "--data.flip", "--record.save-every", "5"]
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
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["scores"]
    evaluator = Evaluator(load(parse([*command, "--data.held-out", rest]).config.data).held_out)
    real = evaluator.score("real images", load(parse(command).config.data).train.pixels, torch.tensor(labels))
    assert scores[2] == dataclasses.asdict(real)
    assert main([*command, "--data.no-labels", "--data.held-out", rest, "--out", str(tmp_path / "plain")]) == 0
    assert json.loads((tmp_path / "plain" / "scores.json").read_text())["scores"][0]["accuracy"] is None


@pytest.mark.usefixtures("unchecked")
def test_a_run_on_a_part_of_cifar_10_needs_data_partial_and_is_otherwise_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = cifar(tmp_path), tmp_path / "run"
    command = ["--config", "minimal", "--train.steps", "8", *SMALL, "cifar10", "--data.path", data]
    command += ["--out", str(folder)]
    capsys.readouterr()
    expected = "--data.path: expected CIFAR-10 as published (50 000 images in 10 classes), got 40 images in 8 classes"
    assert main(command) == 2
    line = rejection(capsys, "ict_ref.launch")
    assert line.endswith(f"{expected} in {data}. Give --data.partial to train on them.\n")
    assert main([*command, "--slurm", "--dry-run"]) == 0
    assert f"not ready: {expected} in {data}. Give --data.partial" in capsys.readouterr().out
    assert not folder.exists()
    assert parse([*command, "--data.partial"]).config.digest() == parse(command).config.digest()
    assert main([*command, "--data.partial"]) == 0
    # A run that began before this option existed does not have it in its config.json.
    stored = json.loads((folder / "config.json").read_text())
    del stored["config"]["data"]["partial"]
    (folder / "config.json").write_text(json.dumps(stored))
    before = contents(folder)
    capsys.readouterr()
    assert main(command) == 2
    assert expected in rejection(capsys, "ict_ref.launch")
    assert contents(folder) == before
    assert sample([str(folder), "--count", "2", "--out", str(tmp_path / "samples.npz")]) == 0
    assert main([*command, "--data.partial"]) == 0
    resumed = json.loads((folder / "config.json").read_text())
    assert resumed["identities"] == stored["identities"]
    assert resumed["config"]["data"] == stored["config"]["data"] | {"partial": True}


def test_a_run_is_named_by_its_data_and_not_by_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (prepared(tmp_path / name, random_images(4, 1, 8, 8, seed=k)) for k, name in ((0, "a"), (1, "b")))
    copy = shutil.copytree(first, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    command = ["--config", "minimal", "--data.no-labels", "--data.name", "folder", "--data.path"]
    names = [str(parse([*command, str(place)]).folder()) for place in (first, copy, "a", "./copy", second)]
    assert len(set(names[:4])) == 1
    assert names[4] != names[0]
    assert parse([*command, "a"]).config.data.checksum in capture_checksum(first)


def test_paths_of_data_are_stored_absolute_and_without_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path / "data", random_images(4, 1, 8, 8))
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command = ["--config", "minimal", "--data.no-labels", "--data.name", "folder"]
    data = parse([*command, "--data.path", "../data", "--data.held-out", ".././link"]).config.data
    assert (data.path, data.held_out) == (str(tmp_path / "data"), str(tmp_path / "link"))
    # The folder above a link's target is not the folder above the link.
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "here" / "away").symlink_to(tmp_path / "far" / "away")
    shutil.copytree(tmp_path / "data", tmp_path / "far" / "data")
    prepared(tmp_path / "here" / "data", random_images(5, 1, 8, 8))
    assert Path(parse([*command, "--data.path", "away/../data"]).config.data.path).samefile(tmp_path / "far" / "data")


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
        (["folder", "--data.path", "grey", "--data.held-out", "nowhere"], "nowhere, which does not exist"),
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
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(["--config", "minimal", "--data.no-labels", "--out", "run", "--data.name", *options]) == 2
    assert message in rejection(capsys, "ict_ref.launch")
    assert contents(tmp_path) == before


def test_data_that_may_not_be_read_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(tmp_path / "data", random_images(5, 1, 6, 6))
    capsys.readouterr()

    opened = os.open

    def forbidden(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path) == data / "data.json":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", forbidden)
    assert main(["--config", "minimal", "--data.name", "folder", "--data.path", str(data)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot use {data / 'data.json'}: Permission denied" in line
