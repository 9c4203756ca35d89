"""The picture of what was made: an image a row, under titled columns."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ict_ref.data.image_files import GAP, grid
from ict_ref.utils.atomic import atomically

# Rows that are shown; pixels to which a small image is magnified; space for titles and names.
ROWS, SIDE, TITLE, MARGIN = 10, 64, 24, 26


def write_sheet(columns: list[tuple[str, UInt8[Tensor, " n _ height width"]]], names: list[str], path: Path) -> None:
    """Write the first rows of these columns as a PNG, each column under its title, each row beside its name."""
    shown = torch.stack([images[:ROWS].expand(-1, 3, -1, -1) for _, images in columns], dim=1)
    zoom = max(1, SIDE // shown.shape[-1])
    large = shown.flatten(0, 1).repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    picture = grid(large, len(columns)).permute(1, 2, 0).numpy()
    canvas = np.full((TITLE + picture.shape[0], MARGIN + picture.shape[1], 3), 255, np.uint8)
    canvas[TITLE:, MARGIN:] = picture
    sheet = Image.fromarray(canvas)
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(size=13)
    height, width = (side + GAP for side in large.shape[2:])
    for k, (title, _) in enumerate(columns):
        pen.text((MARGIN + (k + 0.5) * width, TITLE / 2), title, fill="black", anchor="mm")
    for k, name in enumerate(names[:ROWS]):
        pen.text((MARGIN / 2, TITLE + (k + 0.5) * height), name, fill="black", anchor="mm")
    with atomically(path) as aside, aside.open("wb") as file:
        sheet.save(file, "PNG")
