"""Pictures of what a model makes."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ict_ref.utils.atomic import atomically

ROWS, COLUMNS = 10, 8
PIXEL, SIDE, GAP, MARGIN, TITLE = 5, 40, 5, 26, 28


def sample_sheet(
    blocks: dict[str, UInt8[Tensor, " n channels height width"]],
    labels: Int64[Tensor, " n"] | None,
    path: Path,
    *,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> None:
    """Save a PNG with sets of images side by side, each under its title: the first images of each of the first
    classes, a row per class; without labels, the first images. Image k stands in the same place in each set.
    """
    if labels is None:
        count = min(rows * columns, *(len(images) for images in blocks.values()))
        shown = [torch.arange(k, min(k + columns, count)) for k in range(0, count, columns)]
        names = [""] * len(shown)
    else:
        classes = sorted(set(labels.tolist()))[:rows]
        names, shown = [str(c) for c in classes], [(labels == c).nonzero()[:columns, 0] for c in classes]
    drawn = {title: _block([images[row] for row in shown], columns) for title, images in blocks.items()}
    font = ImageFont.load_default(size=14)
    widths = {title: max(image.width, math.ceil(font.getlength(title))) for title, image in drawn.items()}
    size = (sum(MARGIN + width for width in widths.values()), TITLE + max(image.height for image in drawn.values()))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = font
    for row, name in enumerate(names):
        pen.text(
            (MARGIN / 2, TITLE + (row + 0.5) * (sheet.height - TITLE) / len(names)), name, fill="black", anchor="mm"
        )
    left = MARGIN
    for title, image in drawn.items():
        sheet.paste(image, (left, TITLE))
        pen.text((left, TITLE / 2), title, fill="black", anchor="lm")
        left += widths[title] + MARGIN
    with atomically(path) as aside, aside.open("wb") as file:
        sheet.save(file, "PNG")


def _block(rows: list[UInt8[Tensor, " _ channels height width"]], columns: int) -> Image.Image:
    """Return the images in rows, each pixel magnified to a square; of two or more than three channels, the first."""
    pixel = max(1, min(PIXEL, SIDE // rows[0].shape[-1]))
    height, width = (pixel * side + GAP for side in rows[0].shape[-2:])
    canvas = np.full((len(rows) * height, columns * width, 3), 255, dtype=np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            colours = image if len(image) == 3 else image[:1].expand(3, -1, -1)
            square = colours.permute(1, 2, 0).numpy().repeat(pixel, axis=0).repeat(pixel, axis=1)
            canvas[top * height :, left * width :][: height - GAP, : width - GAP] = square
    return Image.fromarray(canvas)
