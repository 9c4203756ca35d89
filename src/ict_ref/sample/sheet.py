"""Sheets: images in rows and titled blocks, as one PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ict_ref.utils.atomic import atomically

ROWS, COLUMNS = 10, 8
SIDE, GAP, MARGIN, TITLE = 40, 5, 26, 28


def sample_sheet(
    blocks: dict[str, UInt8[Tensor, " n channels height width"]],
    labels: Int64[Tensor, " n"] | None,
    path: Path,
    *,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> None:
    """Save a PNG with titled sets of images side by side, in which image k has the same place in each set.

    With labels each row shows the first images of one class. Without labels the sheet shows the first images.
    """
    if labels is None:
        count = min(rows * columns, *(len(images) for images in blocks.values()))
        shown = [torch.arange(k, min(k + columns, count)) for k in range(0, count, columns)]
        names = [""] * len(shown)
    else:
        classes = sorted(set(labels.tolist()))[:rows]
        names, shown = [str(c) for c in classes], [(labels == c).nonzero()[:columns, 0] for c in classes]
    draw_sheet([(title, [images[row] for row in shown]) for title, images in blocks.items()], names, path, columns)


def draw_sheet(
    blocks: Sequence[tuple[str, Sequence[UInt8[Tensor, " _ _ height width"]]]],
    names: Sequence[str],
    path: Path,
    columns: int,
    *,
    side: int = SIDE,
) -> None:
    """Save a PNG with titled blocks of images side by side, and a name at the left of each row.

    A block is a list of rows of at most `columns` images. Small images are magnified to about `side` pixels.
    """
    drawn = [(title, _block(rows, columns, side)) for title, rows in blocks]
    font = ImageFont.load_default(size=14)
    widths = [max(image.width, math.ceil(font.getlength(title))) for title, image in drawn]
    size = (sum(MARGIN + width for width in widths), TITLE + max(image.height for _, image in drawn))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = font
    for row, name in enumerate(names):
        pen.text(
            (MARGIN / 2, TITLE + (row + 0.5) * (sheet.height - TITLE) / len(names)), name, fill="black", anchor="mm"
        )
    left = MARGIN
    for (title, image), width in zip(drawn, widths, strict=True):
        sheet.paste(image, (left, TITLE))
        pen.text((left, TITLE / 2), title, fill="black", anchor="lm")
        left += width + MARGIN
    with atomically(path) as aside, aside.open("wb") as file:
        sheet.save(file, "PNG")


def _block(rows: Sequence[UInt8[Tensor, " _ channels height width"]], columns: int, side: int) -> Image.Image:
    """Return the rows as one picture with magnified pixels; images without three channels show the first channel."""
    pixel = max(1, min(side // 8, side // rows[0].shape[-1]))
    height, width = (pixel * length + GAP for length in rows[0].shape[-2:])
    canvas = np.full((len(rows) * height, columns * width, 3), 255, dtype=np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            colours = image if len(image) == 3 else image[:1].expand(3, -1, -1)
            square = colours.permute(1, 2, 0).numpy().repeat(pixel, axis=0).repeat(pixel, axis=1)
            canvas[top * height :, left * width :][: height - GAP, : width - GAP] = square
    return Image.fromarray(canvas)
