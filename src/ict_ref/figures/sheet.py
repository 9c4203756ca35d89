"""Pictures of what a model makes."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ROWS, COLUMNS = 10, 8
PIXEL, SIDE, GAP, MARGIN, TITLE = 5, 40, 5, 26, 28


def sample_sheet(
    blocks: dict[str, UInt8[Tensor, " n channels height width"]],
    labels: Int64[Tensor, " n"] | None,
    path: Path,
) -> None:
    """Save a PNG with sets of images side by side, each under its title: the first eight images of each of the first
    ten classes, a row per class; without labels, the first eighty. Image k stands in the same place in each set.
    """
    if labels is None:
        count = min(ROWS * COLUMNS, *(len(images) for images in blocks.values()))
        rows = [torch.arange(k, min(k + COLUMNS, count)) for k in range(0, count, COLUMNS)]
        names = [""] * len(rows)
    else:
        classes = sorted(set(labels.tolist()))[:ROWS]
        names, rows = [str(c) for c in classes], [(labels == c).nonzero()[:COLUMNS, 0] for c in classes]
    drawn = {title: _block([images[row] for row in rows]) for title, images in blocks.items()}
    width = sum(MARGIN + image.width for image in drawn.values())
    sheet = Image.new("RGB", (width, TITLE + max(image.height for image in drawn.values())), "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(size=14)
    for row, name in enumerate(names):
        pen.text(
            (MARGIN / 2, TITLE + (row + 0.5) * (sheet.height - TITLE) / len(names)), name, fill="black", anchor="mm"
        )
    left = MARGIN
    for title, image in drawn.items():
        sheet.paste(image, (left, TITLE))
        pen.text((left, TITLE / 2), title, fill="black", anchor="lm")
        left += image.width + MARGIN
    sheet.save(path)


def _block(rows: list[UInt8[Tensor, " _ channels height width"]]) -> Image.Image:
    """Return the images in rows, each pixel magnified to a square; of two or more than three channels, the first."""
    pixel = max(1, min(PIXEL, SIDE // rows[0].shape[-1]))
    height, width = (pixel * side + GAP for side in rows[0].shape[-2:])
    canvas = np.full((len(rows) * height, COLUMNS * width, 3), 255, dtype=np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            colours = image if len(image) == 3 else image[:1].expand(3, -1, -1)
            square = colours.permute(1, 2, 0).numpy().repeat(pixel, axis=0).repeat(pixel, axis=1)
            canvas[top * height :, left * width :][: height - GAP, : width - GAP] = square
    return Image.fromarray(canvas)
