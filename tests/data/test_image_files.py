"""Images as files: what is written is read back, by others too, and what cannot be used is named."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ict_ref.data.image_files import grid, read_pixels, write_npz, write_pngs


def some(*shape: int) -> UInt8[Tensor, "..."]:
    """Return random pixels."""
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_read_back_from_each_kind_of_file(channels: int, tmp_path: Path) -> None:
    pixels = some(12, channels, 6, 5)
    write_pngs(pixels, tmp_path / "folder")
    write_npz(pixels, tmp_path / "all.npz")
    for name in ("folder", "all.npz"):
        assert torch.equal(read_pixels(tmp_path / name), pixels)
    assert torch.equal(read_pixels(tmp_path / "folder" / "000003.png"), pixels[3:4])
    with np.load(tmp_path / "all.npz") as archive:  # as public tools read it
        assert archive["arr_0"].shape == (12, 6, 5, 3)
        assert archive["arr_0"][2, 5, 4].tolist() == pixels[2, :, 5, 4].expand(3).tolist()


def test_an_image_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "000001.png").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError):
        write_pngs(some(2, 1, 4, 4), tmp_path)
    assert not (tmp_path / "mine").exists()


def test_class_folders_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    pixels = some(4, 3, 4, 4)
    for name, image in zip(("b/1", "a/2", "a/10", "c"), pixels, strict=True):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    (tmp_path / ".hidden.png").write_text("no image")
    (tmp_path / "about.json").write_text("{}")
    assert torch.equal(read_pixels(tmp_path), pixels[[2, 1, 0, 3]])


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 1), (5, 4, 4, 3)])
def test_arr_0_may_be_grey_or_in_colour(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = some(*shape).numpy()
    np.savez(tmp_path / "x.npz", array)
    read = read_pixels(tmp_path / "x.npz").numpy()
    assert (read.transpose(0, 2, 3, 1).reshape(shape) == array).all()


def test_a_grid_has_its_images_row_by_row() -> None:
    pixels = some(5, 1, 50, 50)  # not magnified
    picture = grid(pixels, columns=2)
    assert picture.shape == (3, 3 * 52 - 2, 2 * 52 - 2)
    assert torch.equal(picture[:, 104:154, :50], pixels[4].expand(3, -1, -1))
    assert torch.equal(picture[:, 52:102, 52:102], pixels[3].expand(3, -1, -1))
    assert bool((picture[:, 104:, 52:] == 255).all())


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write_bad(folder: Path) -> None:
    """Write one of each that cannot be used."""
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "mixed").mkdir()
    for name, size in {"1.png": (4, 4), "2.png": (5, 4)}.items():
        Image.new("L", size).save(folder / "mixed" / name)
    (folder / "cut").mkdir()
    Image.fromarray(some(64, 64, 3).numpy()).save(folder / "cut" / "1.png")
    whole = (folder / "cut" / "1.png").read_bytes()
    (folder / "cut" / "1.png").write_bytes(whole[: len(whole) // 2])
    np.savez(folder / "other.npz", data=np.zeros(3))
    np.savez(folder / "floats.npz", np.zeros((2, 4, 4, 3)))
    np.savez(folder / "none.npz", np.zeros((0, 4, 4, 3), np.uint8))
    np.savez(folder / "objects.npz", np.array([Harmful(folder / "harm")], dtype=object))
    (folder / "damaged.npz").write_bytes((folder / "floats.npz").read_bytes()[:100])
    (folder / "text.npz").write_text("text")
    (folder / "pickle.npz").write_bytes(pickle.dumps(Harmful(folder / "harm")))
    (folder / "text.png").write_text("text")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", ".*nowhere does not exist"),
        ("empty", "empty has no images in it"),
        ("mixed", r"2.png: expected images of one size, 4x4, got 5x4"),
        ("cut", "cut/1.png is not an image that can be used"),
        ("other.npz", "other.npz.*expected uint8 images .* as arr_0, got data"),
        ("floats.npz", r"floats.npz: expected uint8 images .* as arr_0, got float64 \[2, 4, 4, 3\]"),
        ("none.npz", r"got uint8 \[0, 4, 4, 3\]"),
        ("objects.npz", "objects.npz"),
        ("damaged.npz", "damaged.npz.*damaged or not an .npz"),
        ("text.npz", "text.npz.*damaged or not an .npz"),
        ("pickle.npz", "pickle.npz.*damaged or not an .npz"),
        ("text.png", "text.png is not an image"),
    ],
)
def test_an_unusable_file_is_named_and_nothing_is_executed(name: str, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    write_bad(folder)
    with pytest.raises(ValueError, match=says):
        read_pixels(folder / name)
    assert not (folder / "harm").exists()
