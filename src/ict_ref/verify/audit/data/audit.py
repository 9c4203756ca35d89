"""An audit of training data: the range, layout, order, flips, shards and labels of a loader.

An image is recognised by a checksum that its mirrored and upside-down forms share. So most can be seen without the data
set: whether an image returns in the next epoch, mirrored or not, with the same label. Known images show the rest.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.verify.audit.data.batches import seeded, source, variables
from ict_ref.verify.audit.data.epochs import Epoch, Record, joined, looked_up, recorded
from ict_ref.verify.audit.data.flips import NAME as FLIPS
from ict_ref.verify.audit.data.flips import flips
from ict_ref.verify.audit.data.known import Known, known_images
from ict_ref.verify.audit.data.order import (
    SOURCE,
    are_seen_again,
    coverage,
    last_batch,
    order,
    replacement,
    shards,
)
from ict_ref.verify.audit.options import DataOptions
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

EPOCHS = 4
RANGE = "EDM's pipeline; iCT, Appendix B"
UNSEEN = "cannot be seen"


def audit(target: object, options: DataOptions) -> Iterator[Result]:
    """Yield the findings about training data.

    Raises:
        TargetError: The target is not a dataset, a loader or a function that returns one, or it fails.
        ValueError: The known images cannot be read.
    """
    known = known_images(options.images)
    records = []
    size = options.size or (len(known.images) if known is not None else 0)
    for rank in range(options.world_size):
        with seeded(options.seed), variables(options, rank):
            data = source(target, options, rank)
            records.append(recorded(data, known, EPOCHS, options.limit, size))
    yield from _findings(records, data.is_dataset, known, options)


def _findings(records: list[Record], is_dataset: bool, known: Known | None, options: DataOptions) -> Iterator[Result]:
    record = records[0]
    reference = looked_up(known) if known and record.reading.matched else None
    yield last_batch(record.epochs[0], record.is_cut)
    yield from _form(record)
    yield from _labels(record, reference, options.labels)
    seen = [
        joined([one.epochs[number] for one in records]) for number in range(min(len(one.epochs) for one in records))
    ]
    if record.reading.axes is None:
        yield not_checked(FLIPS, SOURCE, f"{UNSEEN}: the places of rows and columns are not known")
    elif reference is None and not are_seen_again(seen):
        yield not_checked(FLIPS, SOURCE, f"{UNSEEN}: {_why_never_again(record)}")
    else:
        yield flips(record.epochs, reference, options.flip)
    yield from _order(records, seen, is_dataset, reference, options)


def _why_never_again(record: Record) -> str:
    if len(record.epochs) < 2:
        return "one epoch was read; --size gives the number of images of an epoch of an endless stream"
    return "no image is seen again, as if each were changed at random"


def _form(record: Record) -> Iterator[Result]:
    """Yield the results about shape, layout, type, range and numbers that are not finite."""
    reading, seen = record.reading, record.seen
    wrong = f"images have several shapes: {sorted(seen.shapes)[:3]}" if len(seen.shapes) > 1 else None
    yield verdict("data:shape", RANGE, wrong)
    yield verdict("data:layout", RANGE, reading.layout, deviation=reading.deviation)
    bad = f"{seen.not_finite} images have values that are not finite" if seen.not_finite else None
    yield verdict("data:finite", RANGE, bad)
    yield from _dtype(seen.dtypes)
    if reading.matched is False:
        text = "the first images are not among the known ones, up to flips and the range"
        yield verdict("data:known", RANGE, text)
    if seen.dtypes == {torch.uint8}:
        yield not_checked("data:range", RANGE, f"{UNSEEN}: images are uint8, and the range is made later")
    elif reading.scale.cannot_see:
        yield not_checked("data:range", RANGE, f"{UNSEEN}: {reading.scale.cannot_see}")
    else:
        yield verdict("data:range", RANGE, reading.scale.wrong, deviation=reading.scale.deviation)


def _dtype(dtypes: set[torch.dtype]) -> Iterator[Result]:
    names = ", ".join(sorted(str(one).removeprefix("torch.") for one in dtypes))
    if dtypes & {torch.float16, torch.bfloat16}:
        yield verdict("data:dtype", RANGE, f"images are {names}, should be float32", kind="precision")
    elif dtypes <= {torch.float32, torch.uint8}:
        yield verdict("data:dtype", RANGE, None)
    else:
        yield verdict("data:dtype", RANGE, f"images are {names}, should be float32", kind="type")


# Labels.


def _labels(record: Record, known: Epoch | None, classes: int) -> Iterator[Result]:
    """Yield whether labels are classes from 0 on, and stay with their images."""
    if not record.seen.has_labels:
        if classes:
            yield verdict("data:labels", SOURCE, f"batches do not have labels, should be of {classes} classes")
        return
    wrong = _wrong_labels(record.seen.labels, classes)
    yield verdict("data:labels", SOURCE, wrong)
    if wrong is None:
        yield _attached(record, known)


def _wrong_labels(labels: list[Shaped[Tensor, "..."]], classes: int) -> str | None:
    """Return what is wrong about the form or the range of labels."""
    flat = torch.cat([one.reshape(-1) for one in labels])
    if labels[0].ndim == 2 and labels[0].shape[1] > 1:
        return _wrong_one_hot(torch.cat(labels), classes)
    if flat.is_floating_point() and bool((flat != flat.round()).any()):
        return "labels are not integers"
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or (classes and high >= classes):
        shift = "; they begin at 1" if classes and (low, high) == (1, classes) else ""
        limit = f"to {classes - 1}" if classes else "on"
        return f"labels are from {low} to {high}, should be from 0 {limit}{shift}"
    return None


def _wrong_one_hot(labels: Shaped[Tensor, "n classes"], classes: int) -> str | None:
    is_one_hot = bool(((labels == 0) | (labels == 1)).all()) and bool((labels.sum(1) == 1).all())
    if not is_one_hot:
        return f"labels have the shape {list(labels.shape[1:])} and are not one-hot"
    if classes and labels.shape[1] != classes:
        return f"labels are one-hot vectors of {labels.shape[1]} classes, should be {classes}"
    return None


def _attached(record: Record, known: Epoch | None) -> Result:
    """Return whether an image has the same label each time, and that of the known images."""
    name, epochs = "data:labels_of_images", record.epochs
    of_image: dict[int, set[int]] = {}
    for one in ([known] if known is not None and known.labels is not None else []) + epochs:
        if one.labels is None:
            return not_checked(name, SOURCE, f"{UNSEEN}: labels are not one class per image")
        for key, label in zip(one.keys.tolist(), one.labels.tolist(), strict=True):
            of_image.setdefault(key, set()).add(label)
    if known is None and not are_seen_again(epochs):
        return not_checked(name, SOURCE, f"{UNSEEN}: {_why_never_again(record)}")
    several = sum(len(labels) > 1 for labels in of_image.values())
    wrong = f"{several} of {len(of_image)} images have different labels" if several > len(of_image) // 100 else None
    return verdict(name, SOURCE, wrong, deviation="DetachedLabels")


# Order.


def _order(
    records: list[Record], seen: list[Epoch], is_dataset: bool, known: Epoch | None, options: DataOptions
) -> Iterator[Result]:
    """Yield the results about the order, repetitions, images that are never seen, and shards."""
    record = records[0]
    if is_dataset:
        yield not_checked("data:order", SOURCE, f"{UNSEEN}: a dataset does not have an order; name its loader")
        if known is not None and not record.is_cut:
            yield coverage(seen, known, sizes=[1], is_endless=True)
        return
    if not are_seen_again(seen):
        yield not_checked("data:order", SOURCE, f"{UNSEEN}: {_why_never_again(record)}")
        return
    yield order(record.epochs, known)
    same = False
    if options.world_size > 1:
        result = shards([one.epochs[0] for one in records], options.shards)
        yield result
        same = result.status == "fail" or options.shards == "same"
    # Processes with the same images are one fault.
    whole = record.epochs if same else seen
    if record.is_cut:
        yield observation("data:limit", f"an epoch is longer than the {options.limit} images that were read")
        return
    allowed = 0 if same else options.world_size - 1
    repeated = replacement(whole, known, allowed=allowed, is_endless=record.is_endless)
    yield repeated
    if known is None:
        text = f"{UNSEEN}: images that are never seen; --images gives all of them"
        yield not_checked("data:coverage", SOURCE, text)
    elif repeated.status != "fail" and not (options.world_size > 1 and same and options.shards != "same"):
        sizes = [int(size) for one in (records[:1] if same else records) for size in one.epochs[0].sizes]
        yield coverage(whole, known, sizes=sizes, is_endless=record.is_endless)
