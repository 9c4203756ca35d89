"""Reader of CIFAR-10 from Hugging Face: Parquet files with a PNG and a label per row."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import Int64, UInt8

from ict_ref.data.image_files import Dropped, decode
from ict_ref.data.published import CIFAR10_NAMES, contents
from ict_ref.prepare.sources.cifar import PUBLISHED, SHAPE
from ict_ref.prepare.sources.source import Part, Source, Split, folder_of, of_split, origin, recipe
from ict_ref.utils.archive import refuse_damaged


def from_parquet(path: Path, split: Split) -> Source:
    """Return the rows of a file, or of a folder's files, in order.

    Raises:
        ModuleNotFoundError: pyarrow is missing.
        ValueError: A file is missing, damaged or has another format.
    """
    import pyarrow.parquet  # noqa: F401

    files = of_split(path, ".parquet", split)
    labels, parts, dropped = [], [], Dropped()
    for file in files:
        labels.append(_labels(file))
        parts += [
            Part(count, partial(_pixels, file, group, dropped), (file.name,))
            for group, count in enumerate(_groups(file))
        ]
    sizes = [(file.name, file.stat().st_size) for file in files]
    published, of_all = (PUBLISHED[split],), np.concatenate(labels)
    whence = origin(published, contents(len(of_all), SHAPE, of_all, CIFAR10_NAMES), split)
    return Source(
        words=f"{whence}, from Parquet files; pixels and labels unchanged",
        recipe=recipe("CIFAR-10 Parquet", path, sizes, split=split, pillow=PIL.__version__),
        shape=SHAPE,
        labels=of_all,
        classes=10,
        names=CIFAR10_NAMES,
        parts=parts,
        folder=folder_of(path),
        published=published,
        split=split,
        remarks=lambda: dropped.lines_of(len(of_all)),
    )


def _groups(file: Path) -> list[int]:
    """Return the number of rows in each of the file's groups."""
    import pyarrow.parquet as pq

    with refuse_damaged(file), pq.ParquetFile(file) as table:
        return [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]


def _labels(file: Path) -> Int64[np.ndarray, " n"]:
    import pyarrow.parquet as pq

    with refuse_damaged(file), pq.ParquetFile(file) as table:
        names = table.schema_arrow.names
        if not {"img", "label"} <= set(names):
            raise ValueError(f"expected columns img and label, got {', '.join(names)}")
        labels: Int64[np.ndarray, " n"] = np.array(table.read(["label"]).column("label").to_pylist(), np.int64)
        if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"expected labels from 0 to 9, got {labels}")
        return labels


def _pixels(file: Path, group: int, dropped: Dropped) -> UInt8[np.ndarray, " n channels height width"]:
    import pyarrow.parquet as pq

    with refuse_damaged(file), pq.ParquetFile(file) as table:
        rows = [io.BytesIO(row["bytes"]) for row in table.read_row_group(group, ["img"]).column("img").to_pylist()]
    pixels = []
    for number, row in enumerate(rows):
        place = f"{file}, group {group}, row {number}"
        image = decode(row, place, size=None, grey=False, dropped=dropped)
        if image.shape != SHAPE:
            raise ValueError(f"{place}: expected an image of 3x32x32, got {image.shape}")
        pixels.append(image)
    return np.stack(pixels)
