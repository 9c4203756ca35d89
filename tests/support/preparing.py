"""Inputs and calls of `python -m ict_ref.prepare` for its tests."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from tests.support.datasets import (
    random_images,
)

from ict_ref.prepare.__main__ import main

PIXELS, LABELS = random_images(17, 3, 32, 32), [(7 * k) % 10 for k in range(17)]


INNER = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}


def prepare(*arguments: object) -> int:
    """Run the command."""
    return main([str(argument) for argument in arguments])


def about(folder: Path) -> dict[str, object]:
    """Return what data.json says."""
    content: dict[str, object] = json.loads((folder / "data.json").read_text())
    return content


def parquet(folder: Path, opacity: int | None = None) -> Path:
    """Write CIFAR-10 as Hugging Face does, in row groups of 4; with an opacity, from 0 to 255, as RGBA."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for name, span in (("train-00000-of-00001", slice(14)), ("test-00000-of-00001", slice(14, None))):
        rows = []
        for image, label in zip(PIXELS[span], LABELS[span], strict=True):
            png = io.BytesIO()
            written = Image.fromarray(image.transpose(1, 2, 0))
            if opacity is not None:
                written.putalpha(opacity)
            written.save(png, "PNG")
            rows.append({"img": {"bytes": png.getvalue(), "path": None}, "label": label})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=4)
    return folder
