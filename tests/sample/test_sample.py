"""`python -m ict_ref.sample` on a run of a few steps: what is in its files, and on what a sample depends."""

import dataclasses
import hashlib
import io
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.networks import small_weights
from tests.support.one_line import rejection
from tests.support.runs import short_run

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import export
from ict_ref.config import minimal
from ict_ref.data.image_files import read_pixels
from ict_ref.sample import images as making
from ict_ref.sample.__main__ import main
from ict_ref.sample.make import columns, recipe_of
from ict_ref.sample.options import Sampling
from ict_ref.sample.parts import Parts
from ict_ref.utils.atomic import lock_of
from ict_ref.utils.locks import lock_file
from ict_ref.utils.rng import stream


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with labels."""
    return short_run(tmp_path_factory.mktemp("sample") / "run")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have five digits made at once."""
    monkeypatch.setattr(making, "VALUES", 5 * 64)


def arrays(path: Path) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], list[int]]:
    """Return arr_0 and arr_1 of a file, as a public tool reads it."""
    with np.load(path) as archive:
        return archive["arr_0"], archive["arr_1"].tolist()


def test_two_steps_are_algorithm_1_step_by_step(run: Path, tmp_path: Path) -> None:
    assert (
        main([str(run), "--sigmas", "80", "0.5", "--count", "3", "--seed", "7", "--out", str(tmp_path / "a.npz")]) == 0
    )
    pixels, labels = arrays(tmp_path / "a.npz")
    model = load_pretrained(run).model
    for k, label in enumerate(labels):
        noise = [
            stream(7, "sample", step=k, shard=level).standard_normal((1, 8, 8), dtype=np.float32) for level in (0, 1)
        ]
        x = torch.from_numpy(80 * noise[0])[None]
        x = model(x, torch.tensor([80.0]), torch.tensor([label])).clamp(-1, 1)
        x = x + math.sqrt(0.5**2 - 0.002**2) * torch.from_numpy(noise[1])[None]
        x = model(x, torch.tensor([0.5]), torch.tensor([label])).clamp(-1, 1)
        wanted = np.rint((x[0, 0].double().numpy() + 1) * 127.5)
        assert np.abs(pixels[k, :, :, 0] - wanted).max() <= 1  # rounding may fall either way
        assert np.mean(pixels[k, :, :, 0] == wanted) > 0.9


def test_a_sample_depends_on_seed_and_number_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_batches: None
) -> None:
    wanted = {"12": [], "7": ["--count", "7"], "other": ["--seed", "1"]}
    for name, options in wanted.items():
        assert main([str(run), "--count", "12", *options, "--out", str(tmp_path / f"{name}.npz")]) == 0
    monkeypatch.setattr(making, "VALUES", 12 * 64)
    assert main([str(run), "--count", "12", "--out", str(tmp_path / "at once.npz")]) == 0
    of = {name: arrays(tmp_path / f"{name}.npz")[0] for name in [*wanted, "at once"]}
    assert (of["7"] == of["12"][:7]).all()
    assert (of["at once"] == of["12"]).all()
    assert (of["other"] != of["12"]).mean() > 0.2
    assert len(np.unique(of["12"], axis=0)) == 12


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_two_processes_make_what_one_makes(run: Path, tmp_path: Path) -> None:
    one, two = ([str(run), "--count", "1100", "--out", str(tmp_path / f"{name}.npz")] for name in "12")
    assert main([*one, "--processes", "1"]) == 0
    command = [sys.executable, "-m", "ict_ref.sample", *two, "--processes", "2"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels, others = (read_pixels(tmp_path / f"{name}.npz") for name in "12")
    assert len(pixels) == 1100
    assert torch.equal(pixels, others)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_killed_and_started_again_it_makes_the_same(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed.npz"
    command = [sys.executable, "-m", "ict_ref.sample", str(run), "--count", "4000", "--out", str(out)]
    for number, says in ((signal.SIGKILL, ""), (signal.SIGTERM, "ict_ref.sample: stopped, ")):
        before = len(list(tmp_path.glob("*.parts/*.npy")))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.parts/*.npy"))) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert says in process.communicate()[1]
        assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    assert not out.exists()
    assert main(command[3:]) == 0
    assert main([*command[3:-1], str(tmp_path / "whole.npz")]) == 0
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "killed.npz",
        "killed.npz.json",
        "whole.npz",
        "whole.npz.json",
    ]


def test_samples_that_were_stopped_are_not_mixed_with_others(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "a.npz.parts"
    assert main([str(run), "--out", str(tmp_path / "b.npz")]) == 0
    parts.mkdir()
    (parts / "about.json").write_text((tmp_path / "b.npz.json").read_text())
    assert main([str(run), "--seed", "3", "--out", str(tmp_path / "a.npz")]) == 2
    assert "with another seed: expected 3, got 0" in capsys.readouterr().err
    for text in (b"[" * 100_000, b"\x80", b"[]", b'{"format": "2"}'):
        (parts / "about.json").write_bytes(text)
        assert main([str(run), "--out", str(tmp_path / "a.npz")]) == 2
        assert "a.npz.parts/about.json" in rejection(capsys, "ict_ref.sample")
        assert (parts / "about.json").read_bytes() == text
    (parts / "about.json").rename(parts / "mine")
    assert main([str(run), "--out", str(tmp_path / "a.npz")]) == 2
    assert "a.npz.parts, got other files. Move it" in capsys.readouterr().err


def test_each_batch_is_missing_until_it_is_kept_and_ranks_divide_them(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "a.parts", [range(2), range(2, 4), range(4, 5)])
    parts.begin({})
    assert (parts.missing(), parts.missing(1, 2), parts.missing(0, 2)) == ([0, 1, 2], [1], [0, 2])
    parts.keep(1, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert (parts.missing(), parts.missing(1, 2), parts.made()) == ([0, 2], [], 2)


@pytest.mark.parametrize("damage", ["cut", "changed", "of another shape", "empty", "a float", "swapped"])
def test_a_damaged_part_is_made_again(damage: str, run: Path, tmp_path: Path, small_batches: None) -> None:
    out = tmp_path / "a.npz"
    command = [str(run), "--count", "12", "--out"]
    assert main([*command, str(tmp_path / "whole.npz")]) == 0
    about = json.loads((tmp_path / "whole.npz.json").read_text())
    parts = Parts(Path(f"{out}.parts"), [range(5), range(5, 10), range(10, 12)], (1, 8, 8))
    parts.begin(about)
    with np.load(tmp_path / "whole.npz") as archive:
        pixels = torch.from_numpy(archive["arr_0"][:, None, :, :, 0])
    for number, batch in enumerate(parts.batches):
        parts.keep(number, pixels[batch.start : batch.stop])
    file = parts.folder / "batch-000001.npy"
    content = file.read_bytes()
    if damage == "of another shape":
        parts.keep(1, pixels[:4])
    elif damage == "a float":
        array = io.BytesIO()
        np.save(array, np.zeros((5, 1, 8, 8), np.float32))
        file.write_bytes(array.getvalue() + hashlib.sha256(array.getvalue()).digest())
    elif damage == "swapped":
        file.write_bytes((parts.folder / "batch-000002.npy").read_bytes())
    else:
        damaged = {"cut": content[:-40], "changed": content[:200] + bytes([content[200] ^ 1]) + content[201:]}
        file.write_bytes(damaged.get(damage, b""))
    assert parts.missing() == [1]
    assert main([*command, str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not parts.folder.exists()


def test_two_at_once_do_not_write_the_same_samples(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.npz", "a.png", "a"):
        out = tmp_path / name
        with lock_file(lock_of(out)):
            assert main([str(run), "--out", str(out)]) == 2
        assert f"{name} is in use by another process" in rejection(capsys, "ict_ref.sample")
        assert list(tmp_path.iterdir()) == []
        assert main([str(run), "--count", "3", "--out", str(out)]) == 0
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        (tmp_path / f"{name}.json").unlink(missing_ok=True)
        capsys.readouterr()


def test_samples_that_are_not_finite_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.safetensors"
    weights = small_weights(channels=1, classes=2)
    state = {name: tensor * 1e30 if tensor.ndim > 1 else tensor for name, tensor in weights.state.items()}
    export(dataclasses.replace(weights, state=state), file)
    assert main([str(file), "--clip", "no", "--out", str(tmp_path / "a.npz")]) == 1
    line = rejection(capsys, "ict_ref.sample")
    assert "images: expected finite values, got a NaN or an infinity from the network" in line
    assert not (tmp_path / "a.npz").exists()


def test_a_damaged_checkpoint_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "checkpoint-00000031.safetensors").write_bytes(b"cut")
    assert main([str(copy), "--out", str(tmp_path / "a.npz")]) == 0
    assert re.search(r"warning: .*-00000031.safetensors is damaged .* EMA weights of step 30", capsys.readouterr().err)


def test_a_folder_and_a_grid_hold_the_same_images_as_an_npz(run: Path, tmp_path: Path) -> None:
    for name in ("a.npz", "folder", "a.png"):
        assert main([str(run), "--count", "10", "--labels", "3", "5", "--out", str(tmp_path / name)]) == 0
    pixels, labels = arrays(tmp_path / "a.npz")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (10, 8, 8, 3)
    assert labels == [3, 5] * 5
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [*(f"{k:06d}.png" for k in range(10)), "about.json"]
    for k in range(10):
        assert (np.asarray(Image.open(tmp_path / "folder" / f"{k:06d}.png")) == pixels[k, :, :, 0]).all()
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    # A column for each class; each pixel is five wide, and white lines of two stand between images.
    assert grid.shape == (5 * 42 - 2, 2 * 42 - 2, 3)
    assert (grid[42 * 2 : 42 * 2 + 40 : 5, 42 : 42 + 40 : 5] == pixels[5]).all()
    assert (grid[40:42] == 255).all()


def test_beside_the_samples_stands_how_they_were_made(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--sigmas", "80", "2", "--count", "4", "--seed", "9", "--out", str(tmp_path / "a.npz")]) == 0
    about = json.loads((tmp_path / "a.npz.json").read_text())
    assert about["sigmas"] == [80.0, 2.0]
    assert (about["count"], about["seed"], about["clipping"][:4], about["shape"]) == (4, 9, "each", [1, 8, 8])
    assert about["model"] == f"{run} after step 30"
    assert len(about["network_sha256"]) == 64
    assert about["labels"] == "all, in turn"
    assert main([str(run), "--labels", "3", "1", "--count", "2", "--out", str(tmp_path / "b.npz")]) == 0
    assert json.loads((tmp_path / "b.npz.json").read_text())["labels"] == [3, 1]


def test_truncated_samples_with_drawn_labels_say_so(run: Path, tmp_path: Path) -> None:
    options = [str(run), "--count", "30", "--seed", "3"]
    for name, chosen in (("plain", []), ("drawn", ["--label-order", "random"])):
        for cut in ([], ["--truncate"]):
            place = tmp_path / f"{name}{len(cut)}.npz"
            assert main([*options, *chosen, *cut, "--out", str(place)]) == 0
    (nearest, turn), (down, same) = arrays(tmp_path / "plain0.npz"), arrays(tmp_path / "plain1.npz")
    assert turn == same == [*range(10)] * 3
    assert set(np.unique(nearest.astype(int) - down)) == {0, 1}
    _, drawn = arrays(tmp_path / "drawn1.npz")
    assert drawn == [int(10 * u) for u in stream(3, "label").random(30)]
    about = json.loads((tmp_path / "drawn1.npz.json").read_text())
    assert (about["labels"], about["label_order"]) == ("all, at random", "at random")
    assert about["quantisation"] == "rounded down to 256 values"
    assert "label_order" not in json.loads((tmp_path / "plain1.npz.json").read_text())


def test_labels_of_a_model_without_labels_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(small_weights(channels=3, classes=0), tmp_path / "net.safetensors")
    assert main([str(tmp_path / "net.safetensors"), "--label-order", "random", "--out", str(tmp_path / "a.npz")]) == 2
    assert "--label-order: expected a model with labels for random, got" in rejection(capsys, "ict_ref.sample")


def test_a_network_file_in_colour_without_labels(tmp_path: Path) -> None:
    export(small_weights(channels=3, classes=0), tmp_path / "net.safetensors")
    assert main([str(tmp_path / "net.safetensors"), "--count", "3", "--out", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].shape == (3, 8, 8, 3)
        assert (archive["arr_0"][..., 0] != archive["arr_0"][..., 1]).any()


@pytest.mark.parametrize(("classes", "first", "last"), [(10, 0, 9), (12, 0, 9), (4, 0, 3)])
def test_a_picture_of_a_run_has_as_many_samples_of_each_of_the_first_ten_classes(
    classes: int, first: int, last: int
) -> None:
    count, labels = making.shown_labels(classes, minimal())
    assert labels is not None
    assert labels.tolist() == [label for label in range(first, last + 1) for _ in range(count // (last - first + 1))]


@pytest.mark.parametrize("clip", [True, False])
def test_a_network_file_is_sampled_as_trained_or_as_requested(clip: bool, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    export(dataclasses.replace(small_weights(channels=1, classes=2), clip=clip), file)
    trained, place = load_pretrained(file), tmp_path / "a.npz"
    assert trained.sample.clip == clip
    assert recipe_of(Sampling(model=file, out=place), trained).clips == clip
    assert recipe_of(Sampling(model=file, out=place, clip="yes"), trained).clips
    assert not recipe_of(Sampling(model=file, out=place, clip="no"), trained).clips


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sigmas", "80", "90"], "expected sigmas that descend"),
        (["--sigmas", "80", "0.001"], "at or above sigma_min = 0.002"),
        (["--sigmas", "80", "80"], "expected sigmas that descend"),
        (["--sigmas", "many"], "--sigmas: expected numbers, got many"),
        (["--labels", "10"], "--labels: expected classes from 0 to 9, got 10"),
        (["--labels", "-1"], "--labels: expected classes from 0 to 9, got -1"),
        (["--count", "0"], "--count: expected an integer >= 1, got 0"),
        (["--count", "20000", "--out", "big.png"], "--count: expected at most 10000 samples in a grid, got 20000"),
        (["--seed", "-1"], "--seed: expected an integer >= 0, got -1"),
        (["--conut", "3"], "unknown option --conut; perhaps you meant --count"),
        (["--processes", "-2"], "--processes: expected an integer >= 0, got -2"),
        (["--wait"], "--wait: expected --slurm too, got --wait alone. Add --slurm."),
        (["--job.nodes", "2"], "--job.nodes: expected --slurm too, got --job.nodes alone. Add --slurm."),
        (["--out", "there.npz"], "--out: expected a new path, got there.npz."),
        (["--out", "there.png"], "--out: expected a new path, got there.png.json."),
        (["--out", "a.jpg"], "--out: expected FILE.npz, FILE.png or a folder, got a.jpg"),
        (["--out", "there.npz/a.npz"], "--out: expected a path in a writable folder"),
        (["--device", "cuda"], "--device: expected a GPU"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    says: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.npz", "there.png.json"):
        (tmp_path / name).write_text("mine")
    assert main([str(run), *options]) == 2
    assert says in rejection(capsys, "ict_ref.sample")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.npz", "there.png.json"]


def test_what_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no network")
    for name, says in {"empty": "not a run folder", "file": "not safetensors", "missing": "does not exist"}.items():
        assert main([str(tmp_path / name), "--out", str(tmp_path / "a.npz")]) == 2
        assert says in capsys.readouterr().err
    assert main(["--count", "3"]) == 2
    assert "RUN|FILE: expected a path, got nothing" in capsys.readouterr().err


def test_help_comes_without_torch() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['sample', '--help']\n"
        "try: runpy.run_module('ict_ref.sample', run_name='__main__')\n"
        "except SystemExit: assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--sigmas" in done.stdout


@pytest.mark.parametrize(
    ("classes", "count", "expected"), [(1, 6, None), (2, 6, 2), (3, 8, 3), (20, 60, 20), (21, 63, None)]
)
def test_a_grid_has_a_column_for_each_of_a_few_alternating_classes(
    classes: int, count: int, expected: int | None
) -> None:
    labels = [2 * (number % classes) + 1 for number in range(count)]
    assert columns(torch.tensor(labels)) == expected
    assert columns(torch.tensor(sorted(labels))) is None
    assert columns(None) is None


def test_samples_in_the_precision_of_the_run(tmp_path: Path) -> None:
    options = ("--train.precision", "bfloat16")
    run, out = short_run(tmp_path / "run", *options), tmp_path / "a.npz"
    assert main([str(run), "--count", "4", "--precision", "run", "--out", str(out)]) == 0
    pixels, labels = arrays(out)
    model = load_pretrained(run).model
    noise = [stream(0, "sample", step=k, shard=0).standard_normal((1, 8, 8), dtype=np.float32) for k in range(4)]
    with torch.autocast("cpu", torch.bfloat16):
        made = model(80 * torch.from_numpy(np.stack(noise)), torch.full((4,), 80.0), torch.tensor(labels))
    wanted = np.rint((made[:, 0].clamp(-1, 1).double().numpy() + 1) * 127.5)
    assert np.abs(pixels[..., 0] - wanted).max() <= 1
    assert json.loads((tmp_path / "a.npz.json").read_text())["precision"] == "bfloat16"


def test_without_the_option_samples_are_in_float32(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--count", "4", "--out", str(tmp_path / "a.npz")]) == 0
    assert main([str(run), "--count", "4", "--precision", "run", "--out", str(tmp_path / "b.npz")]) == 0
    assert (arrays(tmp_path / "a.npz")[0] == arrays(tmp_path / "b.npz")[0]).all()
    assert "precision" not in json.loads((tmp_path / "a.npz.json").read_text())


def test_a_network_file_has_no_precision_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(small_weights(channels=1, classes=10), tmp_path / "network")
    assert main([str(tmp_path / "network"), "--precision", "run", "--out", str(tmp_path / "a.npz")]) == 2
    assert "--precision: expected float32 for a network file, got run. A file has no run." in capsys.readouterr().err


def test_a_compiled_network_is_described(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: seen.append(options))
    assert main([str(run), "--count", "4", "--compile", "--out", str(tmp_path / "a.npz")]) == 0
    assert seen == [{"dynamic": False}]
    assert json.loads((tmp_path / "a.npz.json").read_text())["compiled"] is True
