"""One rule for images from files: each command reads the same ones, and says what it leaves out."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.edit.test_edit import network
from tests.support.datasets import prepared, random_images, write_images
from tests.support.odd_images import png, ppm, tiff

from ict_ref.data.image_files import read_images, read_pixels
from ict_ref.data.image_listing import list_images
from ict_ref.data.stored_images import evenly, stored_images
from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.prepare.__main__ import main as prepare

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def names(folder: Path) -> list[str]:
    """Return the paths of the images in the list."""
    return [name for name, _ in list_images(folder).images]


def classes(place: Path) -> Path:
    """Write two class folders of two images."""
    return write_images(place, random_images(4, 3, 8, 8), [0, 0, 1, 1])


def plain(place: Path) -> Path:
    """Return two class folders."""
    return classes(place / "set")


def linked_class(place: Path) -> Path:
    """Return two class folders, of which one is a link to a folder elsewhere."""
    (classes(place / "set") / "c1").rename(place / "elsewhere")
    (place / "set" / "c1").symlink_to(place / "elsewhere")
    return place / "set"


def linked_files(place: Path) -> Path:
    """Return two class folders, one of links to images elsewhere."""
    linked_class(place)
    (place / "set" / "c1").unlink()
    (place / "set" / "c1").mkdir()
    for file in (place / "elsewhere").iterdir():
        (place / "set" / "c1" / file.name).symlink_to(file)
    return place / "set"


def linked_root(place: Path) -> Path:
    """Return a link to two class folders."""
    classes(place / "there")
    (place / "set").symlink_to("there")
    return place / "set"


def relative_chain(place: Path) -> Path:
    """Return two class folders, one by a relative link to a link."""
    linked_class(place)
    (place / "set" / "c1").unlink()
    (place / "again").symlink_to("elsewhere")
    (place / "set" / "c1").symlink_to("../again")
    return place / "set"


def with_circle(place: Path) -> Path:
    """Return two class folders with links to the folders above them."""
    classes(place / "set")
    (place / "set" / "c0" / "up").symlink_to("..")
    (place / "set" / "all").symlink_to(".")
    return place / "set"


def folder_like_an_image(place: Path) -> Path:
    """Return two class folders with the ends of image files."""
    for name in ("c0", "c1"):
        (classes(place / "set") / name if name == "c0" else place / "set" / name).rename(place / "set" / f"{name}.png")
    return place / "set"


@pytest.mark.parametrize(
    "kind", [plain, linked_class, linked_files, linked_root, relative_chain, with_circle, folder_like_an_image]
)
def test_prepare_and_evaluate_read_the_same_images(
    kind: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kind(tmp_path)
    expected = random_images(4, 3, 8, 8)
    assert prepare([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), expected)
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 0, 1, 1]
    assert np.array_equal(read_pixels(folder).numpy(), expected)
    out = capsys.readouterr().out
    assert "found 4 images" in out
    assert ("2 other files left out (2 link to a folder above)" in out) == (kind is with_circle)


def test_hidden_files_and_those_of_macos_are_in_no_list_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = classes(tmp_path / "set")
    (folder / "__MACOSX" / "c0").mkdir(parents=True)
    (folder / "__MACOSX" / "c0" / "._00000.png").write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "00000-checkpoint.png").write_bytes(b"x")
    (folder / "c0" / "._00000.png").write_bytes(b"x")
    (folder / "c1" / "Thumbs.db").write_bytes(b"x")
    assert prepare([str(folder)]) == 0
    assert "found 4 images of 3x8x8 in 2 classes (c0, c1), 0.0 MB; 4 other files left out (3 hidden, 1 .db)" in (
        capsys.readouterr().out
    )
    assert len(read_pixels(folder)) == 4


def test_a_list_is_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/10.png", "a b/1.png", "c.png", "B/1.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert names(tmp_path) == ["B/1.png", "a/10.png", "a/2.png", "a b/1.png", "b/1.png", "c.png"]
    assert names(tmp_path) == [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*.png"))]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JPG", "JPEG"), ("a.jfif", "JPEG"), ("a.JPE", "JPEG"), ("a.pnm", "PPM"), ("a.dib", "DIB"), ("a.TIFF", "TIFF")],
)
def test_every_ending_of_a_format_is_read(name: str, kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (0, 128, 255)).save(tmp_path / name, kind)
    (pixel,) = read_pixels(tmp_path)[:, :, 0, 0].tolist()
    assert np.abs(np.subtract(pixel, [0, 128, 255])).max() <= 2


def test_files_with_other_endings_are_counted_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "set", random_images(4, 1, 8, 8))
    for name in ("1.HEIC", "2.heic", "3.avif", "README", "fid_stats.npz", "t.parquet"):
        (folder / name).write_bytes(b"x")
    counted = "6 other files left out (2 .heic, 1 .avif, 1 .npz, 1 .parquet, 1 without an ending)"
    assert prepare([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert f"found 4 images of 3x8x8 without classes, 0.0 MB; {counted}" in capsys.readouterr().out
    assert evaluate([str(folder), "--reference", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"{folder}: {counted}\n") == 2
    assert shown.index(counted) < shown.index("Frechet")
    path, _ = network(tmp_path, channels=1, classes=0)
    assert edit([path, str(folder), "--task", "denoise", "--out", str(tmp_path / "edited")]) == 0
    assert f"{folder}: {counted}\n" in capsys.readouterr().out


def test_a_folder_of_other_files_alone_is_rejected_with_their_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    for name in ("1.heic", "2.heic"):
        (tmp_path / "set" / name).touch()
    assert prepare([str(tmp_path / "set")]) == 2
    assert "got only 2 other files (2 .heic)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"has no images in it \(2 other files left out \(2 .heic\)\)"):
        read_pixels(tmp_path / "set")


DEEP = {
    "16 bits, grey.png": png("grey", 16, 0x80F0),
    "16 bits, colour.png": png("rgb", 16, 0x80F0),
    "16 bits, alpha.png": png("rgba", 16, 0x80F0),
    "16 bits, grey and alpha.png": png("grey alpha", 16, 0x80F0),
    "16 bits, grey.tif": tiff(1, 16, 0x80F0),
    "16 bits, colour.tif": tiff(3, 16, 0x80F0),
    "16 bits, colour.ppm": ppm(3, 65535, 0x80F0),
    "10 bits, colour.ppm": ppm(3, 1023, 514),
    "16 bits, grey.pgm": ppm(1, 65535, 0x80F0),
    "12 bits, grey.pnm": ppm(1, 4095, 2056),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_rejected_in_grey_and_in_colour(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(DEEP[name])
    assert prepare([str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2
    assert f"{name} is not an image that can be used: " in (line := capsys.readouterr().err)
    assert "has more than 8 bits per channel. Convert it to 8 bits first" in line
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_pixels(tmp_path / "set" / name)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", png("grey", 8, 0x80), 0x80),
        ("a.png", png("rgb", 8, 0x80), 0x80),
        ("a.tif", tiff(1, 8, 0x80), 0x80),
        ("a.tif", tiff(3, 8, 0x80), 0x80),
        ("a.ppm", ppm(3, 255, 0x80), 0x80),
        ("a.ppm", ppm(3, 15, 8), 136),  # 8 of 15 of 255
    ],
)
def test_8_bits_or_fewer_are_read(name: str, content: bytes, expected: int, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert set(read_pixels(tmp_path / name).flatten().tolist()) == {expected}


def transparent(mode: str) -> Image.Image:
    """Return an image of one colour in this mode, half of it transparent."""
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.info["transparency"] = 0
        return image
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0) if mode == "RGBA" else (20, 20, 20, 0))
    image.paste((200, 200, 200, 255), (0, 0, 8, 4))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_dropped_transparency_is_counted_and_the_stored_colours_stay(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "set", random_images(2, 3, 8, 8))
    transparent(mode).save(folder / "a.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(folder / "opaque.png")
    read = read_images(folder)
    assert read.remarks == (f"transparency dropped from 1 image ({folder / 'a.png'})",)
    assert read.pixels[2, :, 7, 7].tolist() == ([10, 20, 30] if mode != "LA" else [20, 20, 20])
    assert prepare([str(folder), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "alpha channels are dropped" in out
    assert read.remarks[0] in out


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pixels_stay_as_they_are_stored_and_orientations_are_counted(
    orientation: int, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarters = np.kron([[0, 80], [160, 250]], np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(quarters).convert("RGB").save(folder / f"a.{kind.lower()}", kind, exif=exif)
    read = read_images(folder)
    centres = read.pixels[0, 0, 4::8, 4::8].tolist()
    assert np.abs(np.array(centres) - [[0, 80], [160, 250]]).max() <= 4  # JPEG and WebP round
    remark = f"EXIF orientation not applied to 1 image ({folder / f'a.{kind.lower()}'})"
    assert read.remarks == ((remark,) if orientation > 1 else ())
    assert prepare([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert (remark in capsys.readouterr().out) == (orientation > 1)
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy")[0, 0], read.pixels[0, 0])


@pytest.mark.parametrize("orientation", [2, 6, 8])
def test_a_tiff_with_an_orientation_is_rejected(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (10, 5)).save(tmp_path / "a.tif", exif=exif)
    with pytest.raises(ValueError, match=r"a\.tif .* it is a TIFF with an orientation\. Save it upright"):
        read_pixels(tmp_path / "a.tif")
    exif[0x0112] = 1
    Image.new("L", (10, 5)).save(tmp_path / "a.tif", exif=exif)
    assert read_pixels(tmp_path / "a.tif").shape == (1, 1, 5, 10)


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("CMYK", "tif"), ("LAB", "tif"), ("YCbCr", "tif")])
def test_images_of_other_colours_are_counted(mode: str, ending: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", random_images(2, 3, 8, 8))
    Image.new("RGB", (8, 8), (9, 99, 200)).save(folder / "a.png")
    Image.new(mode, (8, 8)).save(folder / f"a.{ending}")
    remark = f"{mode} converted without colour profiles in 1 image ({folder / f'a.{ending}'})"
    assert read_images(folder).remarks == (remark,)


def test_a_command_that_resumes_says_which_images_it_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "set", random_images(2, 3, 8, 8))
    transparent("RGBA").save(folder / "a.png")
    words = [str(folder), "--out", str(tmp_path / "out")]
    assert prepare(words) == 0
    assert "transparency dropped from 1 image" in capsys.readouterr().out
    assert prepare(words) == 0
    assert "3 of 3 images were read earlier; these lines count the others\n" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_file_of_several_images_is_rejected_with_their_number(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    others = [Image.new("L", (8, 8), value) for value in (100, 200)]
    Image.new("L", (8, 8)).save(path, kind, save_all=True, append_images=others)
    with pytest.raises(ValueError, match=r"it has 3 images \(pages or frames of an animation\)"):
        read_pixels(path)
    Image.new("L", (8, 8), 7).save(path, kind)
    assert set(read_pixels(path).flatten().tolist()) == {7}


def test_a_photograph_with_a_preview_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (9, 9, 9)).save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), (200, 200, 200))]
    )
    assert set(read_pixels(tmp_path / "a.jpg").flatten().tolist()) == {9}


@pytest.mark.parametrize("kind", ["EPS", "PCX", "ICO", "SGI"])
def test_other_formats_of_pillow_are_not_opened(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        Image.new("RGB", (16, 16)).save(file, kind)
    with pytest.raises(ValueError, match=r"a\.png is not an image that can be used"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.zip", "a.npy", "a.tar", "a"])
def test_a_file_of_another_kind_is_rejected_with_what_is_accepted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    for command in ([str(tmp_path / name), "--reference", "digits:train"], ["--save-stats", "x.npz", "--reference"]):
        full = command if command[0] != "--save-stats" else [*command, str(tmp_path / name)]
        assert evaluate(full) == 2
        accepted = "expected a folder of images, a prepared folder, an .npz with arr_0, or an image (.bmp, .dib"
        assert accepted in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.bin"])
def test_a_git_lfs_pointer_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(LFS)
    with pytest.raises(ValueError, match=r"it is a Git LFS pointer, not the file itself\. Run git lfs pull"):
        read_pixels(tmp_path / name)


def test_a_pipe_named_like_an_image_is_rejected_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for place in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(ValueError, match="expected a regular file, got a pipe"):
            read_pixels(place)


def test_edit_takes_what_evaluate_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    pixels = random_images(6, 1, 8, 8)
    prepared(tmp_path / "folder", pixels, [0, 1, 0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", pixels.transpose(0, 2, 3, 1))
    for k, name in enumerate(("folder", "folder-images", "a.npz", "digits:train", "digits:held-out")):
        place = name if name.startswith("digits") else str(tmp_path / name)
        out = tmp_path / f"out-{k}"
        assert edit([path, place, "--task", "inpaint", "--mask", "left", "--count", "3", "--out", str(out)]) == 0
        assert np.load(out / "images.npz")["arr_0"].shape == (3, 8, 8, 3)
    # The right halves are those of images 0, 2 and 4 of the prepared folder, which is sorted by class.
    made = np.load(tmp_path / "out-0" / "images.npz")["arr_0"][..., 0]
    assert np.array_equal(made[:, :, 4:], pixels[[0, 4, 3], 0, :, 4:])
    capsys.readouterr()
    assert edit([path, "digits:heldout", "--task", "inpaint"]) == 2
    assert "digits:heldout does not exist; perhaps you meant digits:held-out. Give a folder" in capsys.readouterr().err


def test_images_are_chosen_evenly_over_several_sets(tmp_path: Path) -> None:
    pixels = random_images(10, 1, 4, 4)
    for name, part in (("a", pixels[:3]), ("b", pixels[3:])):
        write_images(tmp_path / name, part)
    sets = [stored_images(str(tmp_path / name), "IMAGE") for name in "ab"]
    for count in (1, 4, 10):
        expected = pixels[[k * 10 // count for k in range(count)]].repeat(3, axis=1)
        chosen, labels = evenly(sets, count, 3)
        assert torch.equal(chosen, torch.from_numpy(expected))
        assert labels is None


def test_bytes_in_memory_may_be_a_pointer() -> None:
    from ict_ref.data.image_files import decode

    with pytest.raises(ValueError, match="row 1 is not an image that can be used: it is a Git LFS pointer"):
        decode(io.BytesIO(LFS), "row 1", size=None, grey=False)


def test_every_file_that_is_a_pointer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("net.safetensors", "inception.pt", "stats.npz", "cifar-10-python.tar.gz", "train_data_batch_1.npz"):
        (tmp_path / name).write_bytes(LFS)
    prepared(tmp_path / "folder", random_images(2, 1, 8, 8))
    (tmp_path / "folder" / "images.npy").write_bytes(LFS)
    place = {path.name: str(path) for path in tmp_path.iterdir()}
    for command, words in (
        (evaluate, [place["net.safetensors"], "--reference", "digits:train"]),
        (evaluate, ["digits:train", "--reference", "digits:train", "--features", place["inception.pt"]]),
        (evaluate, ["digits:train", "--reference", place["stats.npz"]]),
        (evaluate, ["digits:train", "--reference", place["folder"]]),
        (prepare, [place["cifar-10-python.tar.gz"]]),
        (prepare, [place["train_data_batch_1.npz"]]),
    ):
        assert command(words) == 2
        assert "it is a Git LFS pointer, not the file itself" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fid_stats.npz", "train_stats.npz", "test.npz", "index.parquet", "val_cache.parquet"])
def test_a_file_of_a_tool_beside_images_does_not_make_them_a_published_set(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (write_images(tmp_path / "flat", random_images(3, 3, 4, 4)), classes(tmp_path / "classes")):
        (folder / name).write_bytes(b"x")
        assert prepare([str(folder)]) == 0
        assert f"1 other file left out (1 {Path(name).suffix})" in capsys.readouterr().out


def test_images_beside_a_published_set_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "npz", random_images(2, 3, 4, 4))
    (folder / "map.d").mkdir()
    np.savez(folder / "train_data_batch_1.npz", data=random_images(3, 192), labels=np.array([1, 2, 3]))
    assert prepare([str(folder)]) == 0
    assert "found 3 images of 3x8x8 in 1000 classes, 0.0 MB; 3 other files left out (2 .png, 1 folder)" in (
        capsys.readouterr().out
    )


def test_the_transparency_of_a_mask_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    mask = Image.new("LA", (8, 8), (255, 0))
    mask.save(tmp_path / "mask.png")
    words = [path, "digits:train", "--count", "2", "--task", "inpaint", "--mask", str(tmp_path / "mask.png")]
    assert edit([*words, "--out", str(tmp_path / "out")]) == 0
    assert f"--mask: transparency dropped from 1 image ({tmp_path / 'mask.png'})" in capsys.readouterr().out
