"""Images of the user's own, read into memory from a torch dataset or from arrays."""

import hashlib
from collections.abc import Iterator, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from ict_ref.data.dataset import Images
from ict_ref.utils.available_memory import available_bytes
from ict_ref.utils.command_line import expect, say

OPTION = "data"
SOURCE = "data of the user's own"
FORMS = "a torch Dataset with a length, an array of images, or a pair (images, labels)"
ADVICE = "Convert images to [channels, height, width], uint8 or floats from -1 to 1."
OwnData: TypeAlias = Dataset[Any] | Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."] | Sequence[Any]
"""A torch Dataset of images or of pairs (image, label), an array or tensor of images, or a pair (images, labels)."""
Array: TypeAlias = Shaped[np.ndarray, "..."]


def own_images(data: OwnData, *, flip: bool = False) -> Images:
    """Read all items of a dataset once, and return them in memory; with `flip` training mirrors half of them.

    An item is an image [channels, side, side], or a pair (image, label), of NumPy or torch. Images are uint8, or floats
    from -1 to 1, which are kept as float32. Labels are integers from 0. The number of classes is one more than the
    largest label, or that of the attribute `classes`, a sequence of names.

    >>> images = own_images((np.zeros((6, 1, 8, 8), dtype=np.uint8), [0, 1, 2, 0, 1, 2]))
    >>> len(images), images.event, images.classes
    (6, (1, 8, 8), 3)

    Raises:
        ValueError: the data have another form, an item has another shape or dtype than the first one, is not finite or
            out of range, or differs when it is read again. The message names the item.
    """
    count, items = _items(data)
    expect(count > 0, OPTION, "one image or more", "none")
    first, first_label = _parts(next(items), 0)
    _check_first(first)
    needed, free = count * first.nbytes, available_bytes()
    prepare = "Prepare large data with python -m ict_ref.prepare."
    expect(needed < free, OPTION, f"at most {free:,} bytes, the free memory", f"{needed:,}", prepare)
    array = np.empty((count, *first.shape), dtype=first.dtype)
    labels = np.zeros(count, dtype=np.int64)
    array[0], labels[0] = first, first_label or 0
    for number, item in enumerate(items, start=1):
        image, label = _parts(item, number)
        _check_as_first(image, label, number, first, first_label)
        array[number], labels[number] = image, label or 0
    _check_values(array)
    _check_repeatable(data, array, labels)
    names = None if first_label is None else _names(data)
    largest = int(labels.max())
    if names is not None:
        expect(largest < len(names), OPTION, f"labels below {len(names)}, the number of names in `classes`", largest)
    classes = 0 if first_label is None else len(names or range(largest + 1))
    return Images(array, torch.from_numpy(labels), classes, flip, names, SOURCE)


def checksum(images: Images) -> str:
    """Return 16 hexadecimal digits that identify images and their labels, also when they are in another container.

    >>> images = own_images(np.zeros((2, 1, 8, 8), dtype=np.uint8))
    >>> checksum(images) == checksum(own_images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))
    True
    """
    digest = hashlib.sha256(f"{images.array.dtype} {images.array.shape} {images.classes}".encode())
    digest.update(np.ascontiguousarray(images.array).data)
    digest.update(images.labels.numpy().data)
    return digest.hexdigest()[:16]


def _items(data: Any) -> tuple[int, Iterator[Any]]:
    """Return the number of items and an iterator over them.

    Raises:
        ValueError: the data have neither of the forms, or images and labels differ in number.
    """
    if isinstance(data, tuple) and len(data) == 2:
        images, labels = data
        is_sized = isinstance(images, Sized) and isinstance(labels, Sized)
        expect(is_sized, OPTION, FORMS, f"a pair of {type(images).__name__} and {type(labels).__name__}")
        got = f"{len(images)} images and {len(labels)} labels"
        expect(len(images) == len(labels), OPTION, "a label for each image", got)
        return len(images), zip(images, labels, strict=True)
    has_items = hasattr(data, "__getitem__") and isinstance(data, Sized) and not isinstance(data, str | bytes | dict)
    expect(has_items, OPTION, FORMS, type(data).__name__)
    return len(data), (data[number] for number in range(len(data)))


def _parts(item: Any, number: int) -> tuple[Array, int | None]:
    """Return the image and the label of an item; no label is None.

    Raises:
        ValueError: the item is neither an image nor a pair of an image and a label.
    """
    is_group = isinstance(item, tuple | list) and len(item) in (1, 2)
    image, label = (*item, None)[:2] if is_group else (item, None)
    where = f"{OPTION}[{number}]"
    is_array = isinstance(image, Tensor | np.ndarray)
    expect(is_array, where, "an image, or a pair (image, label), as a tensor or an array", _shown(item), ADVICE)
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.dtype != np.uint8 and np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32)
    return array, None if label is None else _label(label, where)


def _label(label: Any, where: str) -> int:
    """Return a label as an integer.

    Raises:
        ValueError: it is not an integer >= 0.
    """
    is_array = isinstance(label, Tensor | np.ndarray | np.generic)
    one = label.item() if is_array and np.prod(label.shape) == 1 else label
    expect(type(one) is int and one >= 0, where, "a label that is an integer >= 0", _shown(label))
    return int(one)


def _check_first(image: Array) -> None:
    """Reject a shape or a dtype that no image of a model has.

    Raises:
        ValueError: the image is not square, not in [channels, height, width], or neither uint8 nor floats.
    """
    where, shape = f"{OPTION}[0]", image.shape
    is_image = len(shape) == 3 and shape[0] > 0 and 0 < shape[1] == shape[2]
    expect(is_image, where, "a square image [channels, side, side]", f"shape {shape}", ADVICE)
    expect(image.dtype in (np.uint8, np.float32), where, "uint8 or floats", image.dtype, ADVICE)


def _check_as_first(image: Array, label: int | None, number: int, first: Array, first_label: int | None) -> None:
    """Reject an item that differs from the first one in shape or dtype, or in whether it has a label.

    Raises:
        ValueError: it does. The message has its number and both shapes.
    """
    where = f"{OPTION}[{number}]"
    expected, got = (f"{one.dtype} {one.shape}" for one in (first, image))
    expect(got == expected, where, f"{expected} as in {OPTION}[0]", got, "Convert all items to one shape.")
    words = {True: "a pair (image, label)", False: "an image without label"}
    expected, got = (words[one is not None] for one in (first_label, label))
    expect(got == expected, where, f"{expected} as in {OPTION}[0]", got)


def _check_repeatable(data: Any, array: Shaped[np.ndarray, " n *event"], labels: Int64[np.ndarray, " n"]) -> None:
    """Reject data whose first or last item differs when it is read again.

    Raises:
        ValueError: it does.
    """
    if isinstance(data, tuple):
        return
    for number in sorted({0, len(array) - 1}):
        image, label = _parts(data[number], number)
        same = image.shape == array[number].shape and bool((image == array[number]).all())
        advice = "Leave random transforms out; data.flip mirrors images."
        expected = "the same item at each reading"
        same_label = (label or 0) == int(labels[number])
        expect(same and same_label, f"{OPTION}[{number}]", expected, "another one", advice)


def _check_values(array: Shaped[np.ndarray, " n *event"]) -> None:
    """Reject floats that are not finite or not between -1 and 1; warn where all are between 0 and 1.

    Raises:
        ValueError: a value is out of range. The message names its item.
    """
    if array.dtype == np.uint8:
        return
    for number, image in enumerate(array):
        low, high = float(image.min()), float(image.max())
        expect(-1 <= low <= high <= 1, f"{OPTION}[{number}]", "floats from -1 to 1", f"{low:g} to {high:g}", ADVICE)
    if float(array.min()) >= 0:
        say("ict_ref", 0, "warning: the values of data are from 0 to 1. The range of black to white is from -1 to 1.")


def _names(data: Any) -> tuple[str, ...] | None:
    """Return the names of the classes that a dataset has in the attribute `classes`, as torchvision's have."""
    names = getattr(data, "classes", None)
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and names else None


def _shown(value: Any) -> str:
    """Return an item or a label in a few words."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {tuple(value.shape)}"
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__
