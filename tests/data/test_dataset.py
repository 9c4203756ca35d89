import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from sklearn.datasets import load_digits
from tests.support.datasets import prepared, random_images

from ict_ref.config import Data
from ict_ref.data.dataset import Images, _floats, flips, load, positions, to_float, to_uint8
from ict_ref.data.prepared import open_arrays
from ict_ref.utils.json_file import with_checksum


def test_the_digits_are_all_there_and_every_third_is_held_out() -> None:
    dataset = load(Data())
    assert (len(dataset.train), len(dataset.held_out)) == (1198, 599)
    bunch = load_digits()
    grey = np.round(bunch.images * 255 / 16)
    assert np.array_equal(dataset.held_out.pixels[:, 0].numpy(), grey[2::3])
    assert np.array_equal(dataset.held_out.labels.numpy(), bunch.target[2::3])
    assert np.array_equal(dataset.train.pixels[:2, 0].numpy(), grey[:2])
    assert np.array_equal(dataset.train.labels[::2].numpy(), bunch.target[::3])


def test_the_digits_are_described() -> None:
    for part in (load(Data()).train, load(Data()).held_out):
        assert (part.event, part.classes, part.names) == ((1, 8, 8), 10, tuple(str(digit) for digit in range(10)))
        assert "1 797 handwritten digits" in part.source


def test_pixels_are_restored_after_conversion_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    x = to_float(every)
    assert (float(x[0]), float(x[-1])) == (-1.0, 1.0)
    assert torch.equal(to_uint8(x), every)


def test_pixels_become_the_same_floats_as_by_division_in_float32() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(2, 1, 128)
    expected = every.astype(np.float32) / np.float32(127.5) - np.float32(1)
    made = to_float(torch.from_numpy(every))
    assert made.dtype == torch.float32
    assert made.shape == every.shape
    assert np.array_equal(made.numpy(), expected)
    # Networks in float64 get these numbers exactly.
    assert np.array_equal(made.double().numpy(), expected.astype(np.float64))
    assert to_float(torch.zeros(0, 3, dtype=torch.uint8)).shape == (0, 3)


def test_pixels_of_any_layout_keep_their_places() -> None:
    pixels = torch.from_numpy(random_images(3, 2, 4, 5)).permute(3, 1, 0, 2)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)


def test_the_table_of_floats_is_computed_whatever_the_default_device() -> None:
    _floats.cache_clear()
    with torch.device("meta"):
        table = _floats(torch.device("cpu"))
    _floats.cache_clear()
    assert (float(table[0]), float(table[-1])) == (-1.0, 1.0)


def test_a_float_of_a_pixel_is_no_view_of_the_table() -> None:
    to_float(torch.arange(256, dtype=torch.uint8)).zero_()
    assert float(to_float(torch.tensor([255], dtype=torch.uint8))) == 1


def test_pixels_are_rounded_to_the_nearest_and_clipped() -> None:
    # (x + 1) 127.5: 10.4 rounds down, 10.6 up; beyond [-1, 1] is black or white.
    x = torch.tensor([10.4, 10.6, 300.0, -20.0]) / 127.5 - 1
    assert to_uint8(x).tolist() == [10, 11, 255, 0]


def test_an_epoch_shows_every_image_once() -> None:
    # 12 images in batches of 4: three steps an epoch.
    for epoch in range(3):
        seen = torch.cat([positions(3 * epoch + k, batch_size=4, count=12, seed=0) for k in range(3)])
        assert sorted(seen.tolist()) == list(range(12))


def test_epochs_are_laid_end_to_end_where_the_batch_does_not_divide_them() -> None:
    # 10 images in batches of 4: five batches are two epochs, and the third batch has images of both.
    seen = torch.cat([positions(k, batch_size=4, count=10, seed=0) for k in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))


def test_the_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    here = positions(5, batch_size=8, count=100, seed=0)
    assert torch.equal(positions(5, batch_size=8, count=100, seed=0), here)
    assert not torch.equal(positions(5, batch_size=8, count=100, seed=1), here)
    first, second = (
        torch.cat([positions(e * 4 + k, batch_size=25, count=100, seed=0) for k in range(4)]) for e in (0, 1)
    )
    assert not torch.equal(first, second)


def numbered(count: int, *, flip: bool) -> Images:
    """Return images of which image k has k on the left and 255 on the right, and class k."""
    array = np.full((count, 1, 2, 2), 255, np.uint8)
    array[:, 0, :, 0] = np.arange(count)[:, None]
    return Images(array, torch.arange(count), count, flip)


def test_a_batch_has_the_images_of_its_positions_and_their_labels() -> None:
    images = numbered(50, flip=False)
    for step in (0, 3, 17):
        pixels, labels = images.batch(step, batch_size=8, seed=4)
        assert torch.equal(labels, positions(step, batch_size=8, count=50, seed=4))
        assert torch.equal(pixels[:, 0, 0, 0].long(), labels)
        assert bool((pixels[:, 0, :, 1] == 255).all())


def test_images_are_mirrored_from_left_to_right_where_their_toss_is_true() -> None:
    plain, images = numbered(50, flip=False), numbered(50, flip=True)
    for step in range(10):
        pixels, labels = images.batch(step, batch_size=16, seed=4)
        straight, same = plain.batch(step, batch_size=16, seed=4)
        assert torch.equal(labels, same)
        for tossed, made, whole in zip(
            flips(step, batch_size=16, count=50, seed=4).tolist(), pixels, straight, strict=True
        ):
            assert torch.equal(made, whole[..., [1, 0]] if tossed else whole)


def test_a_batch_cut_in_rows_is_the_same_batch() -> None:
    images = numbered(30, flip=True)
    for step in range(12):  # 30 images in batches of 8: some batches have images of two epochs
        pixels, labels = images.batch(step, batch_size=8, seed=0)
        parts = [images.batch(step, batch_size=8, seed=0, rows=rows) for rows in (slice(0, 3), slice(3, 8))]
        assert torch.equal(torch.cat([part for part, _ in parts]), pixels)
        assert torch.equal(torch.cat([part for _, part in parts]), labels)


def test_batches_depend_on_nothing_that_was_read_before() -> None:
    images = numbered(40, flip=True)
    late = [images.batch(step, batch_size=16, seed=0) for step in (9, 2, 31, 9)]
    again = numbered(40, flip=True).batch(9, batch_size=16, seed=0)
    for pixels, labels in (late[0], late[3]):
        assert torch.equal(pixels, again[0])
        assert torch.equal(labels, again[1])


def test_half_of_the_images_are_flipped_and_by_other_tosses_in_each_epoch_and_for_each_seed() -> None:
    # 20 000 tosses: the standard deviation of their number of heads is 71, five of them 354.
    first, second, other = (
        flips(epoch, batch_size=20_000, count=20_000, seed=seed) for epoch, seed in ((0, 0), (1, 0), (0, 1))
    )
    for tosses in (first, second, other):
        assert abs(int(tosses.sum()) - 10_000) < 354
    for here, there in ((first, second), (first, other), (first[1:], first[:-1])):
        assert abs(int((here == there).sum()) - 10_000) < 354
    # Nor do they go with the order: of the images of the first half as many are flipped as of the second.
    low = positions(0, batch_size=20_000, count=20_000, seed=0) < 10_000
    assert abs(int(first[low].sum()) - 5_000) < 250


def test_tosses_are_philox_bits_of_their_own_purpose() -> None:
    # Purpose 7 of seed 3 in epoch 2: NumPy gives out each 32-bit half of a Philox word from its lowest bit on.
    words = np.random.Philox(key=3, counter=[0, 0, 2, 7]).random_raw(2)
    bits = [int(word) >> k & 1 for word in words for k in range(64)]
    assert flips(2, batch_size=100, count=100, seed=3).tolist() == [bool(bit) for bit in bits[:100]]


def test_a_batch_larger_than_the_data_goes_through_several_epochs() -> None:
    chosen = positions(1, batch_size=25, count=10, seed=0)  # places 25 to 49: half of epoch 2, epochs 3 and 4
    assert sorted(chosen[5:15].tolist()) == sorted(chosen[15:].tolist()) == list(range(10))
    assert len(set(chosen[:5].tolist())) == 5
    assert len(flips(1, batch_size=25, count=10, seed=0)) == 25


def folder(tmp_path: Path, pixels: UInt8[np.ndarray, " n channels height width"], labels: list[int] | None) -> Data:
    """Return the options of a prepared folder of these images."""
    return Data(name="folder", path=str(prepared(tmp_path / "data", pixels, labels)), labels=labels is not None)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 12)])
def test_a_prepared_folder_is_what_was_prepared(channels: int, side: int, tmp_path: Path) -> None:
    pixels = random_images(7, channels, side, side)
    dataset = load(folder(tmp_path, pixels, [0, 0, 1, 1, 1, 2, 2]))
    assert np.array_equal(dataset.train.pixels.numpy(), pixels)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert (dataset.train.classes, dataset.train.event, len(dataset.held_out)) == (3, (channels, side, side), 0)
    about = json.loads((tmp_path / "data" / "data.json").read_text())
    assert dataset.train.names == (None if about["names"] is None else tuple(about["names"]))


def test_pixels_are_read_on_access_and_cannot_be_written(tmp_path: Path) -> None:
    pixels = random_images(7, 3, 8, 8)
    options = folder(tmp_path, pixels, None)
    images = load(options).train
    assert isinstance(images.array.base, np.memmap)
    assert not images.array.flags.writeable
    # The array is a map of the file, so it shows a change of the file.
    with (Path(options.path) / "images.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([pixels[-1, -1, -1, -1] ^ 255]))
    batch, _ = images.batch(0, batch_size=7, seed=0)
    order = positions(0, batch_size=7, count=7, seed=0)
    assert batch[order == 6, -1, -1, -1].item() == pixels[-1, -1, -1, -1] ^ 255


def test_labels_are_needed_for_a_conditional_model_only(tmp_path: Path) -> None:
    options = folder(tmp_path, random_images(5, 3, 4, 4), None)
    images = load(options).train
    assert (images.classes, images.labels.tolist()) == (0, [0] * 5)
    with pytest.raises(ValueError, match=r"--data\.labels: expected images with classes, got .*\. Give --data"):
        load(dataclasses.replace(options, labels=True))


def test_only_training_images_are_flipped(tmp_path: Path) -> None:
    options = folder(tmp_path, random_images(9, 3, 4, 4), None)
    assert not load(options).train.flip
    assert load(dataclasses.replace(options, flip=True)).train.flip
    assert not load(Data()).train.flip
    assert load(Data(flip=True)).train.flip


def test_at_most_a_thousand_held_out_images_are_taken_evenly(tmp_path: Path) -> None:
    options = folder(tmp_path, random_images(9, 1, 2, 2), None)
    pixels = np.arange(2500, dtype=np.uint16).view(np.uint8).reshape(2500, 1, 1, 2).repeat(2, axis=2)
    held_out = load(dataclasses.replace(options, held_out=str(prepared(tmp_path / "rest", pixels)))).held_out
    assert len(held_out) == 1000
    assert [int(k) for k in held_out.array[:, 0, 0].copy().view(np.uint16)[:, 0]] == [
        math.floor(2.5 * k) for k in range(1000)
    ]
    assert not isinstance(held_out.array.base, np.memmap)


@pytest.mark.parametrize(
    ("shape", "labels", "options", "message"),
    [
        (
            (3, 8, 8),
            None,
            {"name": "cifar10"},
            r"--data\.path: expected images of \(3, 32, 32\) .*, got \(3, 8, 8\)",
        ),
        ((1, 32, 32), None, {"name": "cifar10"}, r"expected images of \(3, 32, 32\) for cifar10, got \(1, 32, 32\)"),
        ((3, 32, 32), None, {"name": "imagenet64"}, r"expected images of \(3, 64, 64\) for imagenet64"),
        ((3, 32, 32), list(range(11)), {"name": "cifar10"}, r"--data\.path: expected labels below 10, got 10"),
        ((3, 4, 4), None, {"checksum": "0" * 16}, r"--data\.checksum: expected [0-9a-f]{16}, that of .*, got 0000"),
        ((3, 4, 4), None, {"path": "nowhere"}, r"expected a prepared folder, got nowhere, which does not exist"),
        ((3, 4, 4), None, {"held_out": "nowhere"}, r"expected a prepared folder, got nowhere, which does not exist"),
        ((3, 4, 4), None, {"path": ""}, r"--data\.path: expected a prepared folder of folder, got nothing"),
    ],
)
def test_a_folder_of_another_dataset_than_its_name_is_rejected(
    shape: tuple[int, int, int], labels: list[int] | None, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    given = folder(tmp_path, random_images(11, *shape), labels)
    with pytest.raises(ValueError, match=message):
        load(dataclasses.replace(given, **options))  # type: ignore[arg-type]


def test_a_published_set_with_some_of_its_classes_has_all_of_them(tmp_path: Path) -> None:
    options = folder(tmp_path, random_images(4, 3, 32, 32), [0, 0, 1, 2])
    assert load(dataclasses.replace(options, name="cifar10", partial=True)).train.classes == 10


def test_held_out_images_must_have_the_same_shape_and_be_enough(tmp_path: Path) -> None:
    options = folder(tmp_path, random_images(8, 3, 4, 4), [0, 0, 0, 0, 1, 1, 1, 1])
    for name, pixels, labels, message in (
        ("size", random_images(8, 3, 6, 6), [0, 0, 0, 0, 1, 1, 1, 1], r"expected images of \(3, 4, 4\) in 2 classes"),
        ("classes", random_images(6, 3, 4, 4), [0, 0, 1, 1, 2, 2], r"got \(3, 4, 4\) in 3 classes"),
        ("few", random_images(3, 3, 4, 4), [0, 0, 1], r"expected at least 4 images"),
    ):
        held_out = str(prepared(tmp_path / name, pixels, labels))
        with pytest.raises(ValueError, match=rf"--data\.held-out: .*{message}"):
            load(dataclasses.replace(options, held_out=held_out))
        if name == "classes":  # without labels, the number of classes does not matter
            load(dataclasses.replace(options, held_out=held_out, labels=False))


def test_digits_have_no_folder() -> None:
    for name in ("path", "held_out", "checksum"):
        with pytest.raises(
            ValueError, match=rf"--data\.{name.replace('_', '-')}: expected nothing for --data\.name digits"
        ):
            Data(**{name: "somewhere"})  # type: ignore[arg-type]


def changed(path: Path, **fields: object) -> None:
    """Change data.json, which then has the checksum of its new entries."""
    file = path / "data.json"
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps(with_checksum(content, "sha256_of_others")))


@pytest.mark.parametrize("fields", [{"names": ["a", "B"]}, {"words": "images"}, {"class_order": "x"}, {"recipe": {}}])
def test_a_changed_entry_of_data_json_is_found(fields: dict[str, object], tmp_path: Path) -> None:
    source = prepared(tmp_path / "data", random_images(4, 3, 4, 4), [0, 0, 1, 1])
    file = source / "data.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | fields))
    with pytest.raises(ValueError, match=r"data\.json: expected the sha256_of_others [0-9a-f]{64}, got .*has changed"):
        open_arrays(source)
    del content["sha256_of_others"]  # as earlier versions wrote it
    file.write_text(json.dumps(content | fields))
    assert open_arrays(source)[0].count == 4


def test_a_wrong_data_json_is_rejected_by_name(tmp_path: Path) -> None:
    source = prepared(tmp_path / "data", random_images(4, 3, 4, 4), [0, 0, 1, 1])
    whole = (source / "data.json").read_bytes()
    for number, (fields, message) in enumerate(
        [
            ({"format": 2}, r"data\.json: expected format 1 or lower, got 2"),
            ({"count": 5}, r"images\.npy: expected uint8 \(5, 3, 4, 4\) as in data\.json, got uint8 \(4, 3, 4, 4\)"),
            ({"shape": [4, 3, 4]}, r"data\.json is damaged"),
            ({"shape": [3, 4]}, r"data\.json is damaged"),
            ({"classes": 1}, r"labels\.npy: expected labels from 0 to 0, got 0 to 1"),
            ({"classes": 0}, r"data\.json is damaged"),
            ({"sha256": {"../images.npy": "", "labels.npy": ""}}, r"data\.json is damaged"),
            ({"sha256": {"images.npy": "0", "labels.npy": "0"}}, r"images\.npy is damaged: its checksum"),
            ({"names": 3}, r"data\.json is damaged \(names: expected a list or null, got 3\)"),
            ({"names": [3]}, r"data\.json is damaged \(names\[0\]: expected a string, got 3\)"),
            ({"count": math.inf}, r"data\.json is damaged \(count: expected an integer, got inf\)"),
            ({"count": "4"}, r"data\.json is damaged \(count: expected an integer, got '4'\)"),
            ({"count": 0}, r"data\.json is damaged \(count: expected an integer >= 1, got 0\)"),
            ({"shape": [3, math.nan, 4]}, r"data\.json is damaged \(shape\[1\]: expected an integer, got nan\)"),
            ({"shape": 3}, r"data\.json is damaged \(shape: expected a list, got 3\)"),
            ({"classes": -1}, r"data\.json is damaged \(classes: expected an integer >= 0, got -1\)"),
            ({"recipe": 5}, r"data\.json is damaged \(recipe: expected an object, got 5\)"),
            ({"sha256": 5}, r"data\.json is damaged \(sha256: expected an object, got 5\)"),
            ({"words": None}, r"data\.json is damaged \(words: expected a string, got None\)"),
        ]
    ):
        copy = tmp_path / str(number)
        shutil.copytree(source, copy)
        changed(copy, **fields)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            open_arrays(copy)
    for text in (whole[:-20], b"[" * 100_000, b"\x80", b"[]"):
        (source / "data.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"data\.json is damaged: it is not a JSON object\. Restore"):
            open_arrays(source)
    (source / "data.json").rename(source / "journal.partial")
    with pytest.raises(ValueError, match=r"is not complete\. Run the same python -m ict_ref\.prepare command"):
        open_arrays(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is not a prepared folder: data\.json is missing"):
        open_arrays(tmp_path / "empty")


def test_arrays_of_objects_are_never_loaded(tmp_path: Path) -> None:
    source = prepared(tmp_path / "data", random_images(4, 3, 4, 4), [0, 0, 1, 1])
    np.save(source / "labels.npy", np.array([print, 0, 0, 0], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"labels\.npy is truncated or damaged"):
        open_arrays(source)


def test_an_epoch_of_a_million_images_is_drawn_once() -> None:
    # Drawing the order of 1.28 million images takes 20 ms; a batch must not.
    positions(0, batch_size=512, count=1_281_167, seed=0)
    flips(0, batch_size=512, count=1_281_167, seed=0)
    began = time.perf_counter()
    for step in range(100):
        positions(step, batch_size=512, count=1_281_167, seed=0)
        flips(step, batch_size=512, count=1_281_167, seed=0)
    assert time.perf_counter() - began < 0.5
