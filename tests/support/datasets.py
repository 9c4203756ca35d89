"""Data sets in the formats in which they are published, written opcode by opcode and byte by byte."""

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ict_ref.prepare.__main__ import main


def random_images(count: int, *shape: int, seed: int = 0) -> UInt8[np.ndarray, " n channels height width"]:
    """Return images of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def python_2(value: object) -> bytes:
    """Return what Python 2's cPickle writes of a value, protocol 2, without the frame of header and stop."""
    if isinstance(value, bytes) and len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python_2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python_2(key) + python_2(item) for key, item in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(python_2, value.shape)) + b"t"
    return made + b"(K\x01" + shape + dtype + b"\x89" + python_2(value.tobytes()) + b"tb"


def python_batch(pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int]) -> bytes:
    """Return a batch as in cifar-10-batches-py."""
    content = {
        b"batch_label": b"training batch 1 of 5",
        b"labels": labels,
        b"data": pixels.reshape(len(pixels), -1),
        b"filenames": [b"leptodactylus_pentadactylus_s_%06d.png" % k for k in range(len(pixels))],
    }
    return b"\x80\x02" + python_2(content) + b"."


def binary_batch(pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int]) -> bytes:
    """Return a batch as in cifar-10-batches-bin: a byte for the label, 3072 for the image, ..."""
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True))


def cifar(kind: str, pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int]) -> dict[str, bytes]:
    """Return the files of CIFAR-10: the images in five batches of different sizes, and the last three for the test."""
    write, end = (python_batch, "") if kind == "python" else (binary_batch, ".bin")
    cuts = [0, 3, 4, 9, 10, len(pixels) - 3]
    spans = {f"data_batch_{k + 1}{end}": slice(cuts[k], cuts[k + 1]) for k in range(5)}
    spans[f"test_batch{end}"] = slice(cuts[5], None)
    return {name: write(pixels[span], labels[span]) for name, span in spans.items()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, inner: str, files: dict[str, bytes]) -> Path:
    """Write files into a .tar.gz, the last one first: the order of its members says nothing."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reversed(files.items()):
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_images(
    folder: Path, pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int] | None = None
) -> Path:
    """Write PNG files, by classes `c0`, `c1`, ... if there are labels; image k is named by its number."""
    for k, image in enumerate(pixels):
        place = folder if labels is None else folder / f"c{labels[k]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(place / f"{k:05d}.png")
    return folder


def prepared(out: Path, pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int] | None = None) -> Path:
    """Return a prepared folder of these images; those with labels are sorted by them."""
    grey = ["--grey"] if pixels.shape[1] == 1 else []
    assert main([str(write_images(out.with_name(out.name + "-images"), pixels, labels)), "--out", str(out), *grey]) == 0
    return out
