"""Data of the user's own: what they may be, and what is one line."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ict_ref.data.own_images import checksum, own_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
FLOATS = (PIXELS / 127.5 - 1).astype(np.float32)
LABELS = [0, 2, 1, 0, 1, 2]


class Digits(Dataset[Any]):
    """A dataset as torchvision's are."""

    classes = ("zero", "one", "two", "three")

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(PIXELS[index]), LABELS[index]


def listed(*images: Any) -> list[Any]:
    return list(images)


@pytest.mark.parametrize(
    "data",
    [
        PIXELS,
        torch.from_numpy(PIXELS),
        list(PIXELS),
        TensorDataset(torch.from_numpy(PIXELS)),
    ],
    ids=["array", "tensor", "list", "dataset of one tensor"],
)
def test_images_alone(data: Any) -> None:
    images = own_images(data)
    assert images.array.dtype == np.uint8
    assert np.array_equal(images.array, PIXELS)
    assert (images.classes, images.names, len(images)) == (0, None, 6)
    assert checksum(images) == checksum(own_images(PIXELS))


@pytest.mark.parametrize(
    ("data", "classes"),
    [
        ((PIXELS, LABELS), 3),
        ((torch.from_numpy(PIXELS), torch.tensor(LABELS)), 3),
        ([(image, np.int32(label)) for image, label in zip(PIXELS, LABELS, strict=True)], 3),
        (TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS)), 3),
        (Digits(), 4),
    ],
    ids=["pair", "pair of tensors", "list of pairs", "dataset of two tensors", "dataset with names of classes"],
)
def test_images_with_labels(data: Any, classes: int) -> None:
    images = own_images(data, flip=True)
    assert np.array_equal(images.array, PIXELS)
    assert images.labels.tolist() == LABELS
    assert images.classes == classes
    assert images.flip
    assert images.names == (Digits.classes if classes == 4 else None)


def test_floats_are_kept_as_float32() -> None:
    images = own_images(FLOATS.astype(np.float64))
    assert images.array.dtype == np.float32
    assert np.array_equal(images.array, FLOATS)
    batch, _ = images.batch(0, batch_size=4, seed=0)
    assert batch.dtype == torch.float32
    assert {tuple(one.flatten().tolist()) for one in batch} <= {tuple(one.ravel().tolist()) for one in FLOATS}


def test_the_checksum_is_of_images_and_labels() -> None:
    other = PIXELS.copy()
    other[5, 0, 7, 7] ^= 1
    all_data = (PIXELS, other, FLOATS, PIXELS[:5], (PIXELS, LABELS), (PIXELS, LABELS[::-1]), Digits())
    sums = {checksum(own_images(data)) for data in all_data}
    assert len(sums) == len(all_data)
    assert all(len(one) == 16 for one in sums)


class Noisy(Digits):
    """A dataset whose items change."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randint(256, (1, 8, 8), dtype=torch.uint8), 0


ONE = PIXELS[0]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (3, r"data: expected a torch Dataset with a length, .*, got int"),
        (iter(PIXELS), r"data: expected a torch Dataset with a length, .*"),
        ({"images": PIXELS}, r"data: expected a torch Dataset .*, got dict"),
        (PIXELS[:0], r"data: expected one image or more, got none"),
        ((PIXELS, LABELS[:4]), r"data: expected a label for each image, got 6 images and 4 labels"),
        (listed(ONE, ONE[:, :7]), r"data\[1\]: expected uint8 \(1, 8, 8\) as in data\[0\], got uint8 \(1, 7, 8\)\."),
        (
            listed(ONE, ONE, FLOATS[0]),
            r"data\[2\]: expected uint8 \(1, 8, 8\) as in data\[0\], got float32 \(1, 8, 8\)",
        ),
        (listed(ONE, (ONE, 1)), r"data\[1\]: expected an image without label as in data\[0\], got a pair"),
        (listed((ONE, 1), ONE), r"data\[1\]: expected a pair \(image, label\) as in data\[0\], got an image without"),
        (listed((ONE, 1), (ONE, -1)), r"data\[1\]: expected a label that is an integer >= 0, got -1"),
        (listed((ONE, 0.5)), r"data\[0\]: expected a label that is an integer >= 0, got 0.5"),
        (listed((ONE, torch.zeros(10))), r"data\[0\]: expected a label .*, got torch.float32 \(10,\)"),
        (listed("a.png"), r"data\[0\]: expected an image, or a pair .*, got 'a.png'"),
        (PIXELS[:, 0], r"data\[0\]: expected a square image \[channels, side, side\], got shape \(8, 8\)\. Convert"),
        (np.zeros((2, 3, 8, 9), np.uint8), r"data\[0\]: expected a square image .*, got shape \(3, 8, 9\)"),
        (PIXELS.astype(np.int64), r"data\[0\]: expected uint8 or floats, got int64"),
        (PIXELS.astype(np.float32), r"data\[0\]: expected floats from -1 to 1, got \S+ to 2\d\d"),
        (listed(FLOATS[0], FLOATS[1] * np.nan), r"data\[1\]: expected floats from -1 to 1, got nan to nan"),
        (Noisy(), r"data\[0\]: expected the same item at each reading, got another one\. Leave random transforms out"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_data_that_cannot_be_used_are_one_line(data: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        own_images(data)
    assert "\n" not in str(error.value)


def test_more_labels_than_names_are_one_line() -> None:
    class Few(Digits):
        classes = ("zero", "one")  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"^data: expected labels below 2, the number of names in `classes`, got 2"):
        own_images(Few())


def test_data_that_do_not_fit_into_memory_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ict_ref.data.own_images.available_bytes", lambda: 300)
    with pytest.raises(ValueError, match=r"^data: expected at most 300 bytes, the free memory, got 384. Prepare large"):
        own_images(PIXELS)


def test_floats_from_0_to_1_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    own_images(np.abs(FLOATS))
    assert capsys.readouterr().err.startswith("ict_ref: warning: the values of data are from 0 to 1.")
    own_images(FLOATS)
    assert capsys.readouterr().err == ""
