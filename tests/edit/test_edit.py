"""The images and files that `python -m ict_ref.edit` writes.

Networks have random weights, so that what they make is far from every image: what is kept is kept for no other reason.
Oracle: plain loops over NumPy arrays that call the network alone.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageFont
from tests.support.datasets import random_images
from tests.support.networks import configured, filled

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import export
from ict_ref.config import Sample
from ict_ref.data.dataset import digits
from ict_ref.edit.__main__ import main
from ict_ref.edit.model import function_of
from ict_ref.edit.tasks import into_range
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.sample.__main__ import main as sample
from ict_ref.sample.images import images
from ict_ref.utils.rng import stream

Pixels = UInt8[np.ndarray, " n channels height width"]
Values = Float[np.ndarray, " n channels height width"]
LUMA = np.array([0.2989, 0.5870, 0.1140])
SIGMAS = ["9", "1.5", "0.4"]


def network(place: Path, channels: int = 3, classes: int = 10) -> tuple[str, ConsistencyModel]:
    """Write a network of random weights for images of 8x8, and return where it is and the model."""
    config = configured("float32")
    model = filled(build_model(config, event=(channels, 8, 8), classes=classes or 10))
    state = {name: tensor for name, tensor in model.network.state_dict().items() if classes or "label" not in name}
    path = place / "random.safetensors"
    export(NetworkCheckpoint(options=config.network, channels=channels, size=8, classes=classes, state=state), path)
    return str(path), load_pretrained(path).model


def given(place: Path, count: int = 5, channels: int = 3, size: int = 8) -> tuple[str, Pixels]:
    """Write images of noise to a folder, and return where it is and the images."""
    pixels = random_images(count, channels, size, size)
    folder = place / f"given-{channels}-{size}"
    folder.mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0)).save(folder / f"{k}.png")
    return str(folder), pixels


def edited(*arguments: str, out: Path) -> Pixels:
    """Run the command and return what it made, the same from both formats."""
    assert main([*arguments, "--out", str(out)]) == 0
    made: Pixels = np.load(out / "images.npz")["arr_0"].transpose(0, 3, 1, 2)
    for k, image in enumerate(made):
        with Image.open(out / "images" / f"{k:06d}.png") as file:
            assert np.array_equal(np.asarray(file.convert("RGB")).transpose(2, 0, 1), image)
    return made


def normal(seed: int, count: int, level: int, *event: int) -> Values:
    """Return the noise that sample k has at this level, for each k."""
    draws = [stream(seed, "sample", k, level).standard_normal(event, dtype=np.float32) for k in range(count)]
    return np.stack(draws)


def called(model: ConsistencyModel, x: Values, sigma: float, labels: list[int]) -> Values:
    """Return f(x, sigma), cut to [-1, 1]."""
    level = torch.full((len(x),), sigma)
    with torch.no_grad():
        value = model(torch.from_numpy(x.astype(np.float32)), level, torch.tensor(labels))
    made: Values = value.numpy().clip(-1, 1)
    return made


def as_bytes(x: Values) -> Pixels:
    """Return the nearest pixel values."""
    return ((x + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def apart(a: Pixels, b: Pixels) -> int:
    """Return the largest difference of two sets of pixels."""
    return int(np.abs(a.astype(int) - b).max())


def masks() -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.bool_]]]:
    """Return what each word marks of 8x8 pixels."""
    rows, columns = np.mgrid[:8, :8]
    middle = (rows >= 2) & (rows < 6) & (columns >= 2) & (columns < 6)
    return {"left": columns < 4, "right": columns >= 4, "top": rows < 4, "bottom": rows >= 4, "center": middle}


@pytest.mark.parametrize("where", list(masks()))
def test_inpainting_keeps_every_known_pixel_exactly_and_makes_all_others(tmp_path: Path, where: str) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path)
    command = (path, folder, "--task", "inpaint", "--labels", "3", "--mask", where)
    made = edited(*command, "--sigmas", *SIGMAS, out=tmp_path / "out")
    mask = masks()[where]
    assert np.array_equal(made[..., ~mask], pixels[..., ~mask])
    assert (made[..., mask] != pixels[..., mask]).mean() > 0.9


def test_inpainting_is_algorithm_4_with_the_noise_of_the_samples(tmp_path: Path) -> None:
    path, model = network(tmp_path)
    folder, pixels = given(tmp_path)
    marked = np.random.default_rng(3).random((8, 8)) < 0.5
    Image.fromarray(np.where(marked, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    labels = [0, 9, 3, 3, 1]
    command = (path, folder, "--task", "inpaint", "--labels", *map(str, labels), "--seed", "7", "--sigmas", *SIGMAS)
    made = edited(*command, "--mask", str(tmp_path / "mask.png"), out=tmp_path / "out")
    y = pixels / 127.5 - 1
    x = np.where(marked, 0, y)
    for k, sigma in enumerate(map(float, SIGMAS)):
        size = sigma if k == 0 else np.sqrt(sigma**2 - 0.002**2)
        x = np.where(marked, called(model, x + size * normal(7, 5, k, 3, 8, 8), sigma, labels), y)
    assert apart(made, as_bytes(x)) <= 1  # float32 here and there


def test_where_all_is_made_inpainting_is_sampling(tmp_path: Path) -> None:
    path, model = network(tmp_path, channels=1)
    Image.new("L", (8, 8), "white").save(tmp_path / "all.png")
    command = (path, "digits:held-out", "--task", "inpaint", "--mask", str(tmp_path / "all.png"), "--seed", "2")
    made = edited(*command, "--sigmas", "80", "1", "--count", "4", out=tmp_path / "out")
    labels = digits().held_out.evenly(4).labels
    expected = images(model, labels, [80.0, 1.0], count=4, event=(1, 8, 8), seed=2)
    assert np.array_equal(made, expected.expand(-1, 3, -1, -1).numpy())


def test_random_masks_mark_half_of_each_image_anew_and_follow_the_seed(tmp_path: Path) -> None:
    path, _ = network(tmp_path, channels=1)
    command = (path, "digits:held-out", "--task", "inpaint", "--mask", "random", "--sigmas", "9", "--count", "50")
    known = digits().held_out.evenly(50).pixels.numpy()
    first = edited(*command, out=tmp_path / "a")[:, :1]
    assert np.array_equal(first, edited(*command, out=tmp_path / "b")[:, :1])
    other = edited(*command, "--seed", "1", out=tmp_path / "c")[:, :1]
    kept = [made == known for made in (first, other)]
    # Of 3200 tosses half, and a few pixels are made as they were.
    assert 0.47 < kept[0].mean() < 0.6
    agreeing = (kept[0] == kept[1]).mean(), (kept[0][0] == kept[0][1:]).mean()
    assert max(agreeing) < 0.65
    assert (kept[0].reshape(50, -1).mean(1) > 0.2).all()


@pytest.mark.parametrize("colours", [1, 3])
def test_colors_keep_the_luma_of_what_was_seen_to_rounding(tmp_path: Path, colours: int) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path, channels=colours)
    made = edited(path, folder, "--task", "colorize", "--labels", "3", "--sigmas", *SIGMAS, out=tmp_path / "out")
    weights = LUMA / LUMA.sum()
    grey = pixels[:, 0] if colours == 1 else np.einsum("nchw,c->nhw", pixels, weights).round()
    # Each of three pixel values is rounded by half a level at most, and the luma is a mean of them.
    assert np.abs(np.einsum("nchw,c->nhw", made, weights) - grey).max() <= 0.501
    assert np.ptp(made, axis=1).mean() > 20
    # Some pixels would have left the range, and were moved back only as far as they must.
    assert ((made == 0) | (made == 255)).any()


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_details_keep_the_mean_of_each_patch_to_rounding(tmp_path: Path, patch: int) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path)
    command = ("--task", "superres", "--patch", str(patch), "--labels", "3", "--sigmas", *SIGMAS)
    made = edited(path, folder, *command, out=tmp_path / "out")
    means = [a.reshape(5, 3, 8 // patch, patch, 8 // patch, patch).mean((3, 5)) for a in (made, pixels)]
    assert np.abs(means[0] - means[1].round()).max() <= 0.501
    assert np.std(made.astype(float) - made.mean((2, 3), keepdims=True)) > 20
    # The small images alone are enough.
    small = tmp_path / "small"
    small.mkdir()
    for k, image in enumerate(means[1].round().astype(np.uint8)):
        Image.fromarray(image.transpose(1, 2, 0)).save(small / f"{k}.png")
    assert np.array_equal(edited(path, str(small), *command, out=tmp_path / "again"), made)


def test_what_leaves_the_range_is_moved_back_towards_what_was_given_group_by_group() -> None:
    y = torch.tensor([[0.5, 0.5, -1.0, -1.0, 0.0, 0.0]])
    x = torch.tensor([[1.5, -0.5, -0.8, -1.2, 0.7, -0.7]])

    def pairs(share: torch.Tensor) -> torch.Tensor:
        return share.reshape(1, 3, 2).amin(2).repeat_interleave(2, dim=1)

    # Half of the way; none; all.
    expected = torch.tensor([[1.0, 0.0, -1.0, -1.0, 0.7, -0.7]])
    torch.testing.assert_close(into_range(x, y, pairs), expected)


def test_strokes_are_taken_up_to_the_first_level_and_down_again(tmp_path: Path) -> None:
    path, model = network(tmp_path)
    folder, pixels = given(tmp_path)
    made = edited(path, folder, "--task", "stroke", "--labels", "4", "--seed", "1", out=tmp_path / "out")
    first = called(model, pixels / 127.5 - 1 + 5.38 * normal(1, 5, 0, 3, 8, 8), 5.38, [4] * 5)
    second = called(model, first + np.sqrt(2.24**2 - 0.002**2) * normal(1, 5, 1, 3, 8, 8), 2.24, [4] * 5)
    assert apart(made, as_bytes(second)) <= 1


def test_noise_is_added_and_removed_or_removed_alone(tmp_path: Path) -> None:
    path, model = network(tmp_path)
    folder, pixels = given(tmp_path)
    command = (path, folder, "--task", "denoise", "--labels", "4", "--sigma", "0.7")
    noisy = pixels / 127.5 - 1 + np.sqrt(0.7**2 - 0.002**2) * normal(0, 5, 0, 3, 8, 8)
    assert apart(edited(*command, out=tmp_path / "a"), as_bytes(called(model, noisy, 0.7, [4] * 5))) <= 1
    alone = as_bytes(called(model, pixels / 127.5 - 1, 0.7, [4] * 5))
    assert apart(edited(*command, "--noisy", out=tmp_path / "b"), alone) <= 1


@pytest.mark.parametrize("more", [[], ["--noisy"]])
def test_of_an_image_without_noise_nothing_is_removed(tmp_path: Path, more: list[str]) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path)
    made = edited(path, folder, "--task", "denoise", "--labels", "4", "--sigma", "0.002", *more, out=tmp_path / "out")
    assert np.array_equal(made, pixels)


def test_interpolation_goes_from_one_sample_to_the_other_along_the_circle(tmp_path: Path) -> None:
    path, model = network(tmp_path)
    command = (path, "--task", "interpolate", "--seed", "3", "8", "--labels", "5", "1", "--steps", "5", "--count", "4")
    made = edited(*command, out=tmp_path / "out").reshape(4, 5, 3, 8, 8)
    labels = [5, 1, 5, 1]
    for seed, end in ((3, 0), (8, -1)):
        expected = images(model, torch.tensor(labels), [80.0], count=4, event=(3, 8, 8), seed=seed)
        assert np.array_equal(made[:, end], expected.numpy())
    z1, z2 = (normal(seed, 4, 0, 3, 8, 8).astype(np.float64).reshape(4, -1) for seed in (3, 8))
    angle = np.arccos((z1 * z2).sum(1) / np.linalg.norm(z1, axis=1) / np.linalg.norm(z2, axis=1))[:, None]
    z = (np.sin(0.75 * angle) * z1 + np.sin(0.25 * angle) * z2) / np.sin(angle)
    quarter = called(model, 80 * z.reshape(4, 3, 8, 8), 80.0, labels)
    assert apart(made[:, 1], as_bytes(quarter)) <= 1
    about = json.loads((tmp_path / "out" / "edit.json").read_text())
    assert about["labels"] == [5] * 5 + [1] * 5 + [5] * 5 + [1] * 5


def test_an_image_depends_on_the_seed_and_its_place_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path)
    command = ("--task", "inpaint", "--mask", "random", "--sigmas", *SIGMAS, "--labels", "0", "1")
    more = ("5", "3", "9")
    together = edited(path, folder, *command, *more, out=tmp_path / "together")
    other = edited(path, folder, *command, *more, "--seed", "1", out=tmp_path / "other")
    assert apart(other, together) > 100
    two = edited(path, f"{folder}/0.png", f"{folder}/1.png", *command, out=tmp_path / "two")
    assert apart(together[:2], two) <= 1
    # In parts that fit into memory.
    monkeypatch.setattr("ict_ref.edit.work.VALUES", 2 * pixels[0].size)
    assert apart(together, edited(path, folder, *command, *more, out=tmp_path / "parts")) <= 1
    between = [path, "--task", "interpolate", "--steps", "3", "--labels", "0", "1", *more]
    parts = edited(*between, out=tmp_path / "between-parts")
    monkeypatch.undo()
    assert apart(parts, edited(*between, out=tmp_path / "between")) <= 1


@pytest.mark.parametrize("clip", [True, False])
def test_each_step_is_cut_to_the_range_where_the_samples_are(tmp_path: Path, clip: bool) -> None:
    path, model = network(tmp_path)
    trained = dataclasses.replace(load_pretrained(Path(path)), sample=Sample(clip=clip))
    x, sigma, labels = torch.full((2, 3, 8, 8), 3.0), torch.tensor([0.1, 0.2]), torch.tensor([1, 2])
    calls: list[None] = []
    value = function_of(trained, labels, lambda: calls.append(None))(x, sigma)
    with torch.no_grad():
        expected = model(x, sigma, labels)
    assert expected.max() > 2
    assert torch.equal(value, expected.clamp(-1, 1) if clip else expected)
    assert len(calls) == 1


def test_grey_images_are_expanded_for_a_model_of_colours_and_labels_matter(tmp_path: Path) -> None:
    path, _ = network(tmp_path)
    command = (path, "digits:held-out", "--task", "inpaint", "--mask", "top", "--sigmas", *SIGMAS)
    made = edited(*command, "--count", "3", out=tmp_path / "own")
    assert np.array_equal(made[:, :, 4:], digits().held_out.evenly(3).pixels.expand(-1, 3, -1, -1).numpy()[:, :, 4:])
    own = [str(label) for label in digits().held_out.evenly(3).labels.tolist()]
    command += ("--count", "3", "--labels")
    assert np.array_equal(edited(*command, *own, out=tmp_path / "same"), made)
    assert not np.array_equal(edited(*command, "1", out=tmp_path / "one"), made)


def test_a_model_without_labels_needs_none(tmp_path: Path) -> None:
    path, _ = network(tmp_path, classes=0)
    folder, pixels = given(tmp_path)
    made = edited(path, folder, "--task", "inpaint", "--mask", "left", "--sigmas", *SIGMAS, out=tmp_path / "out")
    assert np.array_equal(made[..., 4:], pixels[..., 4:])
    assert json.loads((tmp_path / "out" / "edit.json").read_text())["labels"] is None
    assert "arr_1" not in np.load(tmp_path / "out" / "images.npz").files
    assert edited(path, "--task", "interpolate", "--steps", "2", out=tmp_path / "between").shape == (16, 3, 8, 8)


def test_the_picture_shows_input_what_is_seen_and_result_side_by_side(tmp_path: Path) -> None:
    path, _ = network(tmp_path)
    folder, pixels = given(tmp_path)
    command = (path, folder, "--task", "inpaint", "--labels", "3", "--sigmas", *SIGMAS)
    made = edited(*command, out=tmp_path / "out")
    with Image.open(tmp_path / "out" / "edit.png") as file:
        picture = np.asarray(file)
    # Pixels of 8, gaps of 5, a title of 28 above, names of 26 on the left and 26 between columns.
    font = ImageFont.load_default(size=14)
    widths = [max(69, math.ceil(font.getlength(title))) for title in ("input", "seen", "result")]
    assert picture.shape == (28 + 5 * 69, sum(26 + width for width in widths), 3)
    seen = pixels.copy()
    seen[..., 4:] = np.array([70, 110, 190]).reshape(3, 1, 1)
    for row in range(5):
        left = 26
        for width, shown in zip(widths, (pixels, seen, made), strict=True):
            part = picture[28 + 69 * row :, left:][:64, :64].transpose(2, 0, 1)
            assert np.array_equal(part, shown[row].repeat(8, axis=1).repeat(8, axis=2))
            left += width + 26
    assert (picture[:28] < 128).any()
    assert (picture[28:, :26] < 128).any()


def test_a_run_is_edited_by_its_own_levels_and_the_settings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--method.sigma-max", "20", "--method.sigma-min", "0.01", "--method.rho", "5", "--sample.no-clip"]
    assert launch(["--config", "minimal", "--train.steps", "8", *options, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["run", "digits:held-out", "--task", "inpaint", "--mask", "bottom", "--count", "3"]) == 0
    assert "inpaint: 3 images by run after step 8" in capsys.readouterr().out
    about = json.loads(Path("edits/run-inpaint/edit.json").read_text())
    low, high = 0.01 ** (1 / 5), 20 ** (1 / 5)
    expected = [(high + k / 39 * (low - high)) ** 5 for k in range(40)]
    assert about.pop("sigmas") == pytest.approx(expected, rel=1e-12)
    assert sample(["run", "--count", "1", "--out", "sample.npz"]) == 0
    assert about.pop("network_sha256") == json.loads(Path("sample.npz.json").read_text())["network_sha256"]
    assert about.pop("labels") == digits().held_out.evenly(3).labels.tolist()
    assert about == {
        "format": 2,
        "version": about["version"],
        "model": "run after step 8",
        "task": "inpaint",
        "given": ["digits:held-out"],
        "count": 3,
        "seeds": [0],
        "clip": False,
        "mask": "bottom",
    }
    assert {path.name for path in Path("edits/run-inpaint").iterdir()} == {
        "edit.json",
        "edit.png",
        "images",
        "images.npz",
    }
