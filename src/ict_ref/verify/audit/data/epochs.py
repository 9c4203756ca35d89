"""Records of epochs: which image was seen where, whether it was mirrored, and its label."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from ict_ref.verify.audit.data.batches import Batch, Source
from ict_ref.verify.audit.data.known import Known
from ict_ref.verify.audit.data.reading import Reading, read, turned
from ict_ref.verify.target.load import TargetError

# Images from which the form is read.
ENOUGH = 512
TURNS = range(4)
"""The image itself, mirrored, upside down, and both."""
SYMMETRIC = -1
"""Turn of an image that equals one of its turned ones."""


@dataclass(frozen=True)
class Epoch:
    """The images of an epoch in their order. An image and its turned ones have the same key."""

    keys: Int64[np.ndarray, " n"]
    turns: Int64[np.ndarray, " n"]
    batches: Int64[np.ndarray, " n"]
    """Number of the batch of each image."""
    labels: Int64[np.ndarray, " n"] | None
    """Label of each image; None without labels, or if a label is not one integer."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> Int64[np.ndarray, " batches"]:
        """Return the size of each batch."""
        return np.unique(self.batches, return_counts=True)[1]


@dataclass
class Seen:
    """Facts about all batches that were read."""

    dtypes: set[torch.dtype] = field(default_factory=set)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    not_finite: int = 0
    labels: list[Shaped[Tensor, "..."]] = field(default_factory=list)
    has_labels: bool = False


@dataclass(frozen=True)
class Record:
    """All epochs of one process, and what was seen of them."""

    epochs: list[Epoch]
    reading: Reading
    seen: Seen
    is_cut: bool
    """Whether there were more images than were read."""
    is_endless: bool
    """Whether an epoch is a number of images of an endless stream."""


def recorded(source: Source, known: Known | None, count: int, limit: int, size: int) -> Record:
    """Return the record of some epochs, of at most `limit` images each; `size` images are one of an endless stream.

    Raises:
        TargetError: There are no images, or the target raised an exception.
    """
    seen = Seen()
    stream = source.epoch(0)
    first = list(_first(stream))
    if not first:
        raise TargetError("TARGET: expected batches of images, got none. A loader must yield at least one batch.")
    reading = read([one.images for one in first if one.images.shape[1:] == first[0].images.shape[1:]], known)
    stream = _noted(chain(first, stream), seen)
    # A loader that ends before it has made all epochs is not endless.
    epoch, is_cut = _epoch(stream, reading, count * min(size, limit) if size else limit)
    if size and (is_cut or source.is_endless):
        return Record(_parts(epoch, min(size, limit)), reading, seen, is_cut=size > limit, is_endless=True)
    if is_cut and (found := len(np.unique(epoch.keys))) <= len(epoch) // 2:
        return Record(_parts(epoch, found)[:count], reading, seen, is_cut=False, is_endless=True)
    if source.is_endless:
        return Record([epoch], reading, seen, is_cut=True, is_endless=True)
    epochs = [epoch]
    for number in range(1, count):
        one, cut = _epoch(_noted(source.epoch(number), seen), reading, limit)
        epochs += [one] if len(one) else []
        is_cut |= cut
    return Record(epochs, reading, seen, is_cut, is_endless=False)


def _first(stream: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches of the first images."""
    count = 0
    while count < ENOUGH and (batch := next(stream, None)) is not None:
        count += len(batch.images)
        yield batch


def _noted(stream: Iterator[Batch], seen: Seen) -> Iterator[Batch]:
    """Yield batches, and note their types."""
    for batch in stream:
        seen.dtypes.add(batch.images.dtype)
        seen.shapes.add(tuple(batch.images.shape[1:]))
        if batch.images.is_floating_point():
            flat = batch.images.reshape(len(batch.images), -1)
            seen.not_finite += int((~flat.isfinite()).any(1).sum())
        if batch.labels is not None:
            seen.has_labels = True
            seen.labels.append(batch.labels)
        yield batch


def _epoch(stream: Iterator[Batch], reading: Reading, limit: int) -> tuple[Epoch, bool]:
    """Return the record of an epoch, and whether there were more images than the limit."""
    rows: list[tuple[int, int, int]] = []
    labels: list[int] | None = []
    for number, batch in enumerate(stream):
        keys = identities(reading.levels(batch.images).numpy())
        rows += [(key, turn, number) for key, turn in keys]
        of_batch = class_numbers(batch.labels, len(keys))
        labels = None if of_batch is None or labels is None else labels + of_batch
        if len(rows) > limit:
            break
    is_cut = len(rows) > limit
    return _as_epoch(rows[:limit], labels[:limit] if labels else None), is_cut


def _as_epoch(rows: list[tuple[int, int, int]], labels: list[int] | None) -> Epoch:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Epoch(table[:, 0], table[:, 1], table[:, 2], None if labels is None else np.array(labels, dtype=np.int64))


def _parts(whole: Epoch, size: int) -> list[Epoch]:
    """Return the epochs of a stream that follow each other, perhaps within a batch."""
    starts = range(0, len(whole) - size + 1, size)
    parts = [slice(start, start + size) for start in starts] or [slice(None)]
    return [
        Epoch(
            whole.keys[part],
            whole.turns[part],
            whole.batches[part],
            None if whole.labels is None else whole.labels[part],
        )
        for part in parts
    ]


def class_numbers(labels: Shaped[Tensor, "..."] | None, count: int) -> list[int] | None:
    """Return one class for each image, also from one-hot vectors; None without labels."""
    if labels is None or labels.ndim == 0 or len(labels) != count:
        return None
    if labels.ndim == 2 and labels.shape[1] > 1:
        return list(map(int, labels.argmax(1)))
    flat = labels.reshape(count, -1)
    return [int(one) for one in flat[:, 0]] if flat.shape[1] == 1 else None


def identities(images: Shaped[np.ndarray, "n ..."]) -> list[tuple[int, int]]:
    """Return the key of each image, the same for its turned ones, and its turn; SYMMETRIC if it does not have one."""
    if images.ndim != 4:
        return [(_hash(image), 0) for image in images]
    of_turns = [[_hash(image) for image in turned(images, turn)] for turn in TURNS]
    return [_identity(hashes) for hashes in zip(*of_turns, strict=True)]


def _identity(hashes: tuple[int, ...]) -> tuple[int, int]:
    key = min(hashes)
    return key, SYMMETRIC if len(set(hashes)) < len(hashes) else hashes.index(key)


def _hash(image: Shaped[np.ndarray, "..."]) -> int:
    return int.from_bytes(blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest(), signed=True)


def looked_up(known: Known) -> Epoch:
    """Return the known images as an epoch in their order."""
    pieces = (known.images[start : start + ENOUGH] for start in range(0, len(known.images), ENOUGH))
    rows = [(key, turn, 0) for piece in pieces for key, turn in identities(np.asarray(piece))]
    return _as_epoch(rows, None if known.labels is None else list(map(int, known.labels)))


def joined(epochs: list[Epoch]) -> Epoch:
    """Return the images of several processes as one epoch."""
    labels = [one.labels for one in epochs if one.labels is not None]
    return Epoch(
        np.concatenate([one.keys for one in epochs]),
        np.concatenate([one.turns for one in epochs]),
        np.concatenate([one.batches for one in epochs]),
        np.concatenate(labels) if len(labels) == len(epochs) else None,
    )
