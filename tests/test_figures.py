from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ict_ref.figures.sheet import sample_sheet


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
