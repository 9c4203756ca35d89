"""Pictures of what a model makes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PIXEL, GAP, MARGIN, TITLE = 5, 5, 26, 28


def sample_sheet(
    blocks: dict[str, UInt8[Tensor, " rows columns channels height width"]],
    row_names: list[str],
    path: Path,
) -> None:
    """Save one PNG with the blocks side by side, each under its title, one row per class, pixels magnified."""
    drawn = {title: _block(images) for title, images in blocks.items()}
    height = TITLE + max(image.height for image in drawn.values()) + GAP
    width = sum(MARGIN + image.width for image in drawn.values())
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(size=14)
    step = (height - TITLE - GAP) / max(len(row_names), 1)
    for row, name in enumerate(row_names):
        pen.text((MARGIN / 2, TITLE + (row + 0.5) * step), name, fill="black", anchor="mm")
    left = MARGIN
    for title, image in drawn.items():
        sheet.paste(image, (left, TITLE))
        pen.text((left, TITLE / 2), title, fill="black", anchor="lm")
        left += image.width + MARGIN
    sheet.save(path)


def _block(images: UInt8[Tensor, " rows columns channels height width"]) -> Image.Image:
    rows, columns, _, height, width = images.shape
    cell_height, cell_width = height * PIXEL + GAP, width * PIXEL + GAP
    canvas = np.full((rows * cell_height, columns * cell_width, 3), 255, dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            picture = images[row, column].permute(1, 2, 0).expand(-1, -1, 3).numpy()
            picture = picture.repeat(PIXEL, axis=0).repeat(PIXEL, axis=1)
            top, left = row * cell_height, column * cell_width
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return Image.fromarray(canvas)
