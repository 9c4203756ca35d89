"""Sheets of samples, and `python -m ict_ref.figures --run`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from tests.support.networks import small_weights
from tests.support.one_line import rejection

from ict_ref.checkpoint.network_file import export
from ict_ref.figures import __main__ as figures
from ict_ref.sample import __main__ as sample
from ict_ref.sample.sheet import sample_sheet


def sheet_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a picture's pixels."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_image_stands_in_the_row_of_its_class_and_in_order(tmp_path: Path) -> None:
    # 2x2 images of one grey each, ten classes in turn: image k has grey k.
    grey = torch.arange(200, dtype=torch.uint8)
    pixels = grey.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    sample_sheet({"one": pixels, "inverse": 255 - pixels}, torch.arange(200) % 10, tmp_path / "sheet.png")
    sheet = sheet_of(tmp_path / "sheet.png")
    # A cell is 2 pixels of 5 and a gap of 5; blocks start at 26 and at 26 + 8 * 15 + 26; rows at 28.
    for row in range(10):
        for column in range(8):
            top, left = 28 + 15 * row, 26 + 15 * column
            assert (sheet[top : top + 10, left : left + 10] == 10 * column + row).all()
            assert (sheet[top : top + 10, left + 10 : left + 15] == 255).all()
            left += 8 * 15 + 26
            assert (sheet[top : top + 10, left : left + 10] == 255 - (10 * column + row)).all()


def test_every_row_has_its_class_s_name_beside_it_and_every_block_its_title_above(tmp_path: Path) -> None:
    pixels = torch.zeros(260, 1, 2, 2, dtype=torch.uint8)
    # Classes 2 to 14: the first ten are shown.
    sample_sheet({"first": pixels, "second": pixels}, torch.arange(260) % 13 + 2, tmp_path / "sheet.png")
    sheet = sheet_of(tmp_path / "sheet.png")
    assert len(sheet) == 28 + 10 * 15
    expected = Image.new("RGB", (26, len(sheet)), "white")
    pen = ImageDraw.Draw(expected)
    pen.font = ImageFont.load_default(size=14)
    for row in range(10):
        pen.text((13, 28 + 15 * row + 7.5), str(row + 2), fill="black", anchor="mm")
    assert np.array_equal(sheet[28:, :26], np.asarray(expected)[28:])
    width = 8 * 15
    for title, left in (("first", 26), ("second", 26 + width + 26)):
        above = Image.new("RGB", (width, 28), "white")
        pen = ImageDraw.Draw(above)
        pen.font = ImageFont.load_default(size=14)
        pen.text((0, 14), title, fill="black", anchor="lm")
        assert np.array_equal(sheet[:28, left : left + width], np.asarray(above))


def test_without_labels_the_first_eighty_are_shown_in_order(tmp_path: Path) -> None:
    pixels = torch.arange(100, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    sample_sheet({"all": pixels}, None, tmp_path / "sheet.png")
    sheet = sheet_of(tmp_path / "sheet.png")
    shown = [sheet[28 + 15 * (k // 8), 26 + 15 * (k % 8), 0] for k in range(80)]
    assert shown == list(range(80))


def test_an_image_stands_upright(tmp_path: Path) -> None:
    pixels = torch.tensor([[10, 60, 110], [160, 210, 250]], dtype=torch.uint8).expand(80, 1, 2, 3)
    sample_sheet({"all": pixels}, None, tmp_path / "sheet.png")
    sheet = sheet_of(tmp_path / "sheet.png")
    # Pixels are squares of 5: the middles of the six are at 2, 7, 12 and 2, 7.
    assert [[int(sheet[28 + y, 26 + x, 0]) for x in (2, 7, 12)] for y in (2, 7)] == [[10, 60, 110], [160, 210, 250]]


def test_colours_stay_colours(tmp_path: Path) -> None:
    pixels = torch.tensor([250, 120, 10], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(80, 3, 2, 2)
    sample_sheet({"all": pixels}, None, tmp_path / "sheet.png")
    assert sheet_of(tmp_path / "sheet.png")[30, 30].tolist() == [250, 120, 10]


def test_of_two_channels_the_first_is_shown_in_grey_and_few_images_fill_few_rows(tmp_path: Path) -> None:
    pixels = torch.tensor([90, 200], dtype=torch.uint8).reshape(1, 2, 1, 1).expand(11, 2, 40, 40)
    sample_sheet({"all": pixels}, None, tmp_path / "sheet.png")
    sheet = sheet_of(tmp_path / "sheet.png")
    # Images of 40 pixels and more are not magnified; eleven fill a row of eight and one of three.
    assert sheet.shape == (28 + 2 * 45, 26 + 8 * 45, 3)
    assert (sheet[28 + 45 : 28 + 85, 26 + 90 : 26 + 130] == 90).all()
    assert (sheet[28 + 45 :, 26 + 135 :] == 255).all()


def test_a_sheet_has_as_many_rows_and_columns_as_are_asked_for(tmp_path: Path) -> None:
    grey = torch.arange(200, dtype=torch.uint8)
    pixels = grey.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    sample_sheet({"all": pixels}, torch.arange(200) % 10, tmp_path / "sheet.png", rows=3, columns=2)
    sheet = sheet_of(tmp_path / "sheet.png")
    assert sheet.shape == (28 + 3 * 15, 26 + 2 * 15, 3)
    assert [[int(sheet[30 + 15 * r, 30 + 15 * c, 0]) for c in range(2)] for r in range(3)] == [
        [0, 10],
        [1, 11],
        [2, 12],
    ]
    sample_sheet({"all": pixels}, None, tmp_path / "plain.png", rows=2, columns=3)
    sheet = sheet_of(tmp_path / "plain.png")
    assert [[int(sheet[30 + 15 * r, 30 + 15 * c, 0]) for c in range(3)] for r in range(2)] == [[0, 1, 2], [3, 4, 5]]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a network file with ten classes in the folder in which the test stands."""
    monkeypatch.chdir(tmp_path)
    export(small_weights(channels=1, classes=10), Path("net.safetensors"))
    return "net.safetensors"


def sampled(network: str, sigmas: list[float], count: int, labels: list[int], seed: int) -> list[np.ndarray[Any, Any]]:
    """Return what the command for samples makes of the same model."""
    place = f"samples-{len(sigmas)}.npz"
    levels = ["--sigmas", *map(str, sigmas), "--seed", str(seed)] + (["--labels", *map(str, labels)] if labels else [])
    assert sample.main([network, *levels, "--count", str(count), "--out", place]) == 0
    with np.load(place) as archive:
        return list(archive["arr_0"])


def shown(path: Path, rows: int, columns: int, blocks: int = 2) -> list[list[np.ndarray[Any, Any]]]:
    """Return the images of each block of a sheet of 8x8 pixels, row by row; each pixel is a square of five."""
    sheet = sheet_of(path)
    cell = 45
    assert sheet.shape == (28 + rows * cell, blocks * (26 + columns * cell), 3)
    found = []
    for block in range(blocks):
        left = 26 + block * (columns * cell + 26)
        found.append(
            [sheet[28 + r * cell :, left + c * cell :][:40:5, :40:5] for r in range(rows) for c in range(columns)]
        )
    return found


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Return whether images are equal but for rounding, which the number of images made at once may move."""
    return int(np.abs(a.astype(int) - b.astype(int)).max()) <= 1


@pytest.mark.parametrize(("given", "classes"), [([], [0, 1, 2]), (["--labels", "7", "2", "9"], [7, 2, 9])])
def test_a_labelled_model_s_sheet_has_the_samples_of_the_same_recipe_a_class_a_row(
    network: str, given: list[str], classes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.main(["--run", network, "--sheet", "3", "4", *given, "--seed", "5", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == (
        "figures/net-sheet.png  net.safetensors, 3 rows of 4, from the same noise: one step; two steps, sigma 0.821\n"
    )
    blocks = shown(Path("figures/net-sheet.png"), 3, 4)
    for block, sigmas in zip(blocks, ([80.0], [80.0, 0.821]), strict=True):
        samples = sampled(network, sigmas, 12, classes, seed=5)
        order = sorted(range(3), key=lambda row: classes[row])
        for place, image in enumerate(block):
            row, column = divmod(place, 4)
            assert same(image, samples[3 * column + order[row]])
    about = json.loads(Path("figures/net-sheet.json").read_text())
    assert (about["model"], about["rows"], about["columns"]) == ("net.safetensors", 3, 4)
    assert about["blocks"]["one step"]["labels"] == classes
    assert [block["sigmas"] for block in about["blocks"].values()] == [[80.0], [80.0, 0.821]]
    assert {block["seed"] for block in about["blocks"].values()} == {5}


def test_a_title_that_is_wider_than_its_images_is_not_cut(tmp_path: Path) -> None:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    for name, title in {"short": "one", "long": "two steps, sigma 0.821"}.items():
        sample_sheet({title: images}, None, tmp_path / f"{name}.png", rows=1, columns=1)
    short, long = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("short", "long"))
    assert short.shape == (28 + 45, 26 + 45, 3)
    assert 26 + 130 < long.shape[1] < 26 + 180
    assert (long[:28, 71:] < 128).any()  # the title is wider than the image
    assert (long[:28, -1] == 255).all()


def test_an_unlabelled_model_s_sheet_has_its_samples_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export(small_weights(channels=3, classes=0), Path("colours.safetensors"))
    assert figures.main(["--run", "colours.safetensors", "--sheet", "2", "4", "--out", "here"]) == 0
    blocks = shown(Path("here/colours-sheet.png"), 2, 4)
    for block, sigmas in zip(blocks, ([80.0], [80.0, 0.821]), strict=True):
        samples = sampled("colours.safetensors", sigmas, 8, [], seed=0)
        assert all(map(same, block, samples))
    assert not same(blocks[0][0], blocks[1][0])


def test_without_a_size_there_are_ten_rows_of_eight_or_a_row_for_each_class(network: str) -> None:
    assert figures.main(["--run", network]) == 0
    shown(Path("figures/net-sheet.png"), 10, 8)
    export(small_weights(channels=1, classes=4), Path("four.safetensors"))
    assert figures.main(["--run", "four.safetensors"]) == 0
    shown(Path("figures/four-sheet.png"), 4, 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "nothing"], "nothing"),
        (["--run", "."], "config.json"),
        (["--run", "text"], "text"),
        (["--run", "net.safetensors", "--sheet", "0", "4"], "--sheet: expected ROWS >= 1 and COLUMNS >= 1, got 0 4"),
        (
            ["--run", "net.safetensors", "--sheet", "11", "4"],
            "--sheet: expected at most 10 rows, one per class, got 11",
        ),
        (
            ["--run", "net.safetensors", "--sheet", "3", "4", "--labels", "1", "2"],
            "--sheet: expected at most 2 rows, one per class, got 3",
        ),
        (["--run", "net.safetensors", "--labels", "10"], "--labels: expected classes from 0 to 9, got 10"),
        (
            ["--run", "net.safetensors", "--labels", "3", "3"],
            "--labels: expected different classes, one per row, got 3 3",
        ),
        (["--run", "plain.safetensors", "--labels", "0"], "--labels: expected a model with labels"),
        (["--run", "net.safetensors", "--out", "taken"], "--out: expected a new path, got taken/net-sheet.json."),
    ],
)
def test_what_cannot_be_on_a_sheet_is_one_line_and_status_2(
    network: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text").write_text("no network")
    export(small_weights(channels=1, classes=0), Path("plain.safetensors"))
    Path("taken").mkdir()
    Path("taken/net-sheet.json").write_text("mine")
    assert figures.main(arguments) == 2
    assert said in rejection(capsys, "ict_ref.figures")
    assert not Path("figures").exists()
    assert [path.name for path in Path("taken").iterdir()] == ["net-sheet.json"]
