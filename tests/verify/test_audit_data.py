"""The audit of data finds errors of range, layout, order, flips, labels and shards, and only those."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from ict_ref.data.dataset import Images, to_float
from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.data.audit import audit
from ict_ref.verify.audit.options import AUDITS, DataOptions
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import findings, fix_of, known_deviations
from ict_ref.verify.report.report import graded
from ict_ref.verify.report.waivers import CHECKS
from ict_ref.verify.target.load import TargetError

COUNT, SIZE = 200, 32
generator = np.random.default_rng(0)
# Smooth images of all levels, in colour; each has its own brightness, as photographs have.
COARSE = generator.integers(0, 256, (COUNT, 3, 4, 3))
NOISE = generator.integers(-20, 21, (COUNT, 3, 8, 6))
PIXELS = np.clip(COARSE.repeat(2, 2).repeat(2, 3) + NOISE, 0, 255).astype(np.uint8)
OTHERS = generator.integers(0, 256, (COUNT, 3, 8, 6))
PIXELS[0, :, 0, :2] = (0, 255)
LABELS = torch.from_numpy(generator.integers(0, 5, COUNT))


def scaled(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1


X = scaled(PIXELS)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prepared")
    np.save(folder / "images.npy", PIXELS)
    np.save(folder / "labels.npy", LABELS.numpy())
    return str(folder)


class Loader:
    """A right loader but for the changed parts: each iteration is an epoch."""

    def __init__(
        self,
        *,
        x: Tensor = X,
        value: Callable[[Tensor], Tensor] = lambda x: x,
        order: Callable[[int], Tensor] = lambda epoch: torch.randperm(COUNT),
        flip: Callable[[Tensor, Tensor], Tensor] = lambda x, indices: x,
        labels: Callable[[Tensor], Tensor] = lambda indices: LABELS[indices],
        drop_last: bool = False,
    ) -> None:
        self.x, self.value, self.order, self.flip, self.labels = x, value, order, flip, labels
        self.drop_last, self.epoch = drop_last, -1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.epoch += 1
        for indices in torch.split(self.order(self.epoch), SIZE):
            if len(indices) == SIZE or not self.drop_last:
                yield self.value(self.flip(self.x[indices], indices)), self.labels(indices)


def each(x: Tensor, indices: Tensor) -> Tensor:
    """Mirror each image with probability 1/2."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)


# Right data, in several styles.


class Items(Dataset[Any]):
    """A dataset with an index, with random flips, as of torchvision."""

    def __init__(self, *, flip: bool = True) -> None:
        self.flip = flip

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = X[index]
        return x.flip(-1) if self.flip and np.random.rand() < 0.5 else x, int(LABELS[index])


class Bytes(Dataset[Any]):
    """uint8 images and one-hot labels, as EDM's dataset has them."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return PIXELS[index], np.eye(5, dtype=np.float32)[LABELS[index]]


class Mirrored(Dataset[Any]):
    """Each image and its mirror image, as EDM's --xflip makes them."""

    def __len__(self) -> int:
        return 2 * COUNT

    def __getitem__(self, index: int) -> Tensor:
        return X[index // 2].flip(-1) if index % 2 else X[index // 2]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index in torch.randperm(COUNT):
            yield {"image": X[index], "label": LABELS[index]}


def of_an_epoch(epoch: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of NumPy from a generator that is seeded by the epoch."""
    numbers = np.random.default_rng(epoch)
    for indices in np.array_split(numbers.permutation(COUNT), 10):
        x = PIXELS[indices] / np.float32(127.5) - 1
        turned = np.where(numbers.random(len(x))[:, None, None, None] < 0.5, x[..., ::-1], x)
        yield {"images": turned, "labels": LABELS.numpy()[indices]}


def endless() -> Iterator[Tensor]:
    """A stream without an end, whose batches cross epochs."""
    while True:
        rest = torch.cat([torch.randperm(COUNT) for _ in range(4)])
        yield from (X[indices] for indices in torch.split(rest, SIZE))


def of_a_step(step: int) -> tuple[Tensor, Tensor]:
    """A batch of this project."""
    pixels, labels = Images(PIXELS, LABELS, 5, flip=True).batch(step, batch_size=SIZE, seed=0)
    return to_float(pixels), labels


class Shard(DistributedSampler[Any]):
    def __iter__(self) -> Iterator[int]:
        self.set_epoch(self.epoch + 1)
        return super().__iter__()


def of_a_rank(rank: int, world_size: int) -> DataLoader[Any]:
    return DataLoader(Items(), SIZE, sampler=Shard(Items(), world_size, rank))


def with_epochs(epoch: int, rank: int, world_size: int) -> Iterable[Any]:
    sampler = DistributedSampler(Items(), world_size, rank, drop_last=True)  # type: ignore[var-annotated]
    sampler.set_epoch(epoch)
    return DataLoader(Items(flip=False), 20, sampler=sampler)


def of_seed(seed: int) -> Tensor:
    return torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed))


def of_the_environment() -> Loader:
    """Disjoint shards by the variables of torchrun: an order for all processes, of which each takes its part."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Loader(order=lambda epoch: of_seed(epoch)[rank::world])


def the_same_for_all() -> Loader:
    return Loader(order=of_seed)


RIGHT: dict[str, tuple[Any, dict[str, Any]]] = {
    "a loader without flips": (Loader(), {}),
    "a loader with flips": (Loader(flip=each), {"flip": "half", "labels": 5}),
    "a loader that drops its last batch": (Loader(drop_last=True), {}),
    "DataLoader": (DataLoader(Items(), SIZE, shuffle=True), {"labels": 5}),
    "DataLoader that drops": (DataLoader(Items(), SIZE, shuffle=True, drop_last=True), {}),
    "a dataset": (Items(), {"flip": "half"}),
    "a class of datasets": (Items, {}),
    "tensors": (DataLoader(TensorDataset(X), 50, shuffle=True), {"flip": "none"}),
    "bytes": (DataLoader(Bytes(), SIZE, shuffle=True), {"labels": 5}),
    "each image and its mirror image": (DataLoader(Mirrored(), SIZE, shuffle=True), {}),
    "single images": (Streamed(), {}),
    "a function of the epoch": (of_an_epoch, {"labels": 5}),
    "a stream without an end": (endless, {"size": COUNT}),
    "a function of the step": (of_a_step, {"size": COUNT, "flip": "half"}),
    "disjoint shards": (of_a_rank, {"world_size": 3}),
    "shards of an epoch": (with_epochs, {"world_size": 2}),
    "shards by torchrun's variables": (of_the_environment, {"world_size": 4}),
    "the same batches in all processes": (the_same_for_all, {"world_size": 2, "shards": "same"}),
}


# Wrong data.


def normalised(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
    return ((x + 1) / 2 - mean) / std


def own_range(x: Tensor) -> Tensor:
    low, high = x.amin((1, 2, 3), True), x.amax((1, 2, 3), True)
    return 2 * (x - low) / (high - low) - 1


def dequantised(x: Tensor) -> Tensor:
    return (127.5 * (x + 1) + torch.rand(x.shape)) / 127.5 - 1


def whole_batch(x: Tensor, indices: Tensor) -> Tensor:
    return x.flip(-1) if torch.rand(()) < 0.5 else x


def once(x: Tensor, indices: Tensor) -> Tensor:
    return torch.where((indices % 2 == 0).reshape(-1, 1, 1, 1), x.flip(-1), x)


def rarely(x: Tensor, indices: Tensor) -> Tensor:
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.15, x.flip(-1), x)


def upside_down(x: Tensor, indices: Tensor) -> Tensor:
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-2), x)


def twice(x: Tensor, indices: Tensor) -> Tensor:
    """Flip by one toss, twice: an identity."""
    mirrored = torch.rand(len(x), 1, 1, 1) < 0.5
    x = torch.where(mirrored, x.flip(-1), x)
    return torch.where(mirrored, x.flip(-1), x)


def buffered(epoch: int) -> Tensor:
    """An order from a small buffer of shuffled images."""
    return (torch.arange(COUNT) + 30 * torch.rand(COUNT)).argsort()


def fixed_batches(epoch: int) -> Tensor:
    batches = torch.arange(192).reshape(6, SIZE)
    return torch.cat([batches[torch.randperm(6)].flatten(), torch.arange(192, COUNT)])


def of_a_rank_alone(rank: int, world_size: int) -> Loader:
    numbers = torch.Generator().manual_seed(rank)
    return Loader(order=lambda epoch: torch.randperm(COUNT, generator=numbers)[: COUNT // world_size])


def without_shards(rank: int, world_size: int) -> Loader:
    return Loader()


def forgotten_set_epoch(rank: int, world_size: int) -> DataLoader[Any]:
    return DataLoader(Items(), SIZE, sampler=DistributedSampler(Items(), world_size, rank))


def bad(x: Tensor) -> Tensor:
    return torch.where(x == x.amax((1, 2, 3), True), torch.nan, x)


def broken(x: Tensor) -> Tensor:
    raise ZeroDivisionError("division by zero")


WRONG: dict[str, tuple[Any, dict[str, Any], str, str | None]] = {
    "[0, 1]": (Loader(value=lambda x: (x + 1) / 2), {}, "data:range", "UnitRange"),
    "[0, 255]": (Loader(value=lambda x: 127.5 * (x + 1)), {}, "data:range", "ByteRange"),
    "x / 128 - 1": (Loader(value=lambda x: 127.5 * (x + 1) / 128 - 1), {}, "data:range", "DividedBy128"),
    "(x + 0.5) / 128 - 1": (
        Loader(value=lambda x: (127.5 * (x + 1) + 0.5) / 128 - 1), {}, "data:range", "HalfOffset"
    ),
    "x / 255 - 0.5": (Loader(value=lambda x: x / 2), {}, "data:range", "HalvedRange"),
    "mean and std": (Loader(value=normalised), {}, "data:range", "Normalised"),
    "a range for each image": (Loader(x=0.7 * X, value=own_range), {}, "data:range", "PerImageRange"),
    "channels last": (Loader(value=lambda x: x.permute(0, 2, 3, 1)), {}, "data:layout", "ChannelsLast"),
    "no axis of channels": (Loader(value=lambda x: x[:, 0]), {}, "data:layout", "NoChannels"),
    "not finite": (Loader(value=bad), {}, "data:finite", None),
    "not shuffled": (Loader(order=lambda epoch: torch.arange(COUNT)), {}, "data:order", "SameOrder"),
    "one seed for each epoch": (Loader(order=lambda epoch: of_seed(0)), {}, "data:order", "SameOrder"),
    "set_epoch is forgotten": (forgotten_set_epoch, {"world_size": 2}, "data:order", "SameOrder"),
    "a small buffer": (Loader(order=buffered), {}, "data:order", "LocalShuffle"),
    "batches that stay": (Loader(order=fixed_batches), {}, "data:order", "FixedBatches"),
    "with replacement": (
        Loader(order=lambda epoch: torch.randint(COUNT, (COUNT,))), {}, "data:replacement", "WithReplacement"
    ),
    "a part twice": (
        Loader(order=lambda epoch: torch.cat([torch.randperm(COUNT), torch.randperm(COUNT)[:20]])),
        {}, "data:replacement", "RepeatedImages",
    ),
    "all of a batch": (Loader(flip=whole_batch), {}, "data:flips", "BatchFlips"),
    "upside down": (Loader(flip=upside_down), {}, "data:flips", "VerticalFlips"),
    "rare flips": (Loader(flip=rarely), {}, "data:flips", "FlipRate"),
    "flipped twice": (Loader(flip=twice), {"flip": "half"}, "data:flips", "NoFlips"),
    "flips that are not wanted": (Loader(flip=each), {"flip": "none"}, "data:flips", "UnwantedFlips"),
    "labels from 1": (Loader(labels=lambda indices: LABELS[indices] + 1), {"labels": 5}, "data:labels", None),
    "negative labels": (Loader(labels=lambda indices: LABELS[indices] - 1), {}, "data:labels", None),
    "labels of others": (
        Loader(labels=lambda indices: LABELS[torch.randperm(COUNT)[: len(indices)]]),
        {}, "data:labels_of_images", "DetachedLabels",
    ),
    "no shards": (without_shards, {"world_size": 2}, "data:shards", "SameShards"),
    "shards that overlap": (of_a_rank_alone, {"world_size": 2}, "data:shards", "OverlappingShards"),
    "shards that should be the same": (
        of_a_rank, {"world_size": 2, "shards": "same"}, "data:shards", "OtherShards"
    ),
}  # fmt: skip


# Errors that only known images show.
WITH_IMAGES: dict[str, tuple[Any, str, str | None]] = {
    "blue first": (Loader(value=lambda x: x.flip(1)), "data:layout", "ReversedChannels"),
    "transposed": (Loader(value=lambda x: x.transpose(2, 3)), "data:layout", "TransposedImages"),
    "inverted": (Loader(value=lambda x: -x), "data:range", "InvertedRange"),
    "dequantised": (Loader(value=dequantised), "data:range", "Dequantised"),
    "noisy": (Loader(value=lambda x: x + 0.05 * torch.randn(x.shape)), "data:range", "NoisyImages"),
    "in the order of the file": (Loader(order=lambda epoch: torch.arange(COUNT)), "data:order", "NotShuffled"),
    "the same flips in each epoch": (Loader(flip=once), "data:flips", "FixedFlips"),
    "all mirrored": (Loader(flip=lambda x, indices: x.flip(-1)), "data:flips", "AllMirrored"),
    "labels of others": (Loader(labels=lambda indices: LABELS[indices - 1]), "data:labels_of_images", "DetachedLabels"),
    "a part is never seen": (Loader(order=lambda epoch: torch.randperm(150)), "data:coverage", "NeverSeen"),
    "dropped before shuffling": (
        Loader(order=lambda epoch: torch.randperm(COUNT - COUNT % SIZE)), "data:coverage", "AlwaysDropped"
    ),
    "other images": (Loader(x=torch.from_numpy(OTHERS) / 127.5 - 1), "data:known", None),
}  # fmt: skip


def audited(target: Any, **options: Any) -> list[Result]:
    return list(audit(target, DataOptions(**{"target": "x", **options})))


def failed(target: Any, **options: Any) -> dict[str, str | None]:
    found = graded(audited(target, **options), strict=False)
    return {one.id: one.deviation for one in found if one.status == "fail"}


def skipped(target: Any, **options: Any) -> dict[str, str]:
    return {one.id: one.message for one in audited(target, **options) if one.status == "skipped"}


@pytest.mark.parametrize("what", RIGHT)
def test_right_data_pass(what: str, prepared: str) -> None:
    target, options = RIGHT[what]
    assert failed(target, **options) == {}
    assert failed(target, images=prepared, **options) == {}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_data_have_one_finding(what: str) -> None:
    target, options, name, deviation = WRONG[what]
    results = graded(audited(target, **options), strict=False)
    found = [one for one in findings(results) if one.fails]
    assert [(one.functions, one.deviations) for one in found] == [((name,), (deviation,) if deviation else ())]


# Without known images a batch without channels cannot be compared, so it is not the same error.
@pytest.mark.parametrize("what", [one for one in WRONG if one not in ("no axis of channels", "not shuffled")])
def test_known_images_change_no_finding(what: str, prepared: str) -> None:
    target, options, name, deviation = WRONG[what]
    found = failed(target, images=prepared, **options)
    assert found == {name: deviation}


@pytest.mark.parametrize("what", WITH_IMAGES)
def test_known_images_show_more(what: str, prepared: str) -> None:
    target, name, deviation = WITH_IMAGES[what]
    assert failed(target, images=prepared) == {name: deviation}


def test_right_data_pass_for_many_seeds() -> None:
    assert [seed for seed in range(30) if failed(Loader(flip=each), seed=seed, flip="half")] == []


def test_what_cannot_be_seen_is_not_counted(prepared: str) -> None:
    assert set(skipped(Loader())) == {"data:coverage"}
    assert skipped(Loader(), images=prepared) == {}
    of_bytes = skipped(DataLoader(Bytes(), SIZE, shuffle=True))
    assert set(of_bytes) == {"data:coverage", "data:range"}
    assert "images are uint8, and the range is made later" in of_bytes["data:range"]
    assert set(skipped(Items())) == {"data:order"}


def test_the_length_of_an_epoch_is_found_if_images_are_seen_again_and_again() -> None:
    assert set(skipped(endless, limit=1000)) == {"data:coverage"}
    notes = {one.id: one.message for one in audited(endless, limit=1000) if one.status == "note"}
    assert "200 images" in notes["data:batches"]


def test_images_that_change_at_random_are_not_taken_for_others() -> None:
    found = skipped(Loader(value=dequantised))
    assert set(found) == {"data:flips", "data:order", "data:range", "data:labels_of_images"}
    assert "no image is seen again" in found["data:order"]


def test_notes_describe_the_batches_and_the_flips() -> None:
    notes = {one.id: one.message for one in audited(Loader(flip=each)) if one.status == "note"}
    assert notes["data:batches"].endswith("200 images in 7 batches of 32; the last batch has 8")
    assert notes["data:flips"].endswith("images are mirrored with probability 1/2, each alone")
    notes = {one.id: one.message for one in audited(Loader(drop_last=True)) if one.status == "note"}
    assert notes["data:batches"].endswith("192 images in 6 batches of 32; all are full")
    assert notes["data:flips"].endswith("images are not mirrored")
    notes = {
        one.id: one.message for one in audited(RIGHT["each image and its mirror image"][0]) if one.status == "note"
    }
    assert "once mirrored" in notes["data:replacement"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(lambda x: x.half(), "precision"), (lambda x: x.bfloat16(), "precision"), (lambda x: x.double(), "type")],
)
def test_other_types_are_findings_of_their_own_kind(value: Callable[[Tensor], Tensor], kind: str) -> None:
    found = {one.id: one.kind for one in audited(Loader(value=value)) if one.status == "fail"}
    assert found == {"data:dtype": kind}


def test_the_limit_bounds_what_is_read() -> None:
    read = [0]

    def stream() -> Iterator[Tensor]:
        for batch in endless():
            read[0] += len(batch)
            yield batch

    found = {one.id: one.message for one in audited(stream, size=COUNT, limit=100)}
    assert read[0] < 600
    assert "longer than the 100 images" in found["data:limit"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "expected a dataset, a loader or a function that returns one, got int"),
        (lambda: "text", "expected batches of images"),
        ([], "expected batches of images, got none"),
        ([{"a": 1}], "got a dict with a"),
        (Loader(value=broken), "got ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_read_is_refused(target: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        audited(target)


@pytest.mark.parametrize("images", ["nowhere", "file"])
def test_images_that_cannot_be_read_are_refused(images: str, tmp_path: Path) -> None:
    np.save(tmp_path / "file.npy", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="--images: expected digits, a prepared folder"):
        audited(Loader(), images=str(tmp_path / f"{images}.npy"))


def test_the_audit_keeps_the_state_of_the_generators() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(()), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    audited(Items())
    assert (torch.rand(()), np.random.rand()) == expected


def test_the_command_ends_with_the_status_of_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom sklearn.datasets import load_digits\n"
        "x = torch.from_numpy(load_digits().images).round().float()[:, None]\n"
        "right = torch.utils.data.DataLoader((x * 255 / 16).round() / 127.5 - 1, 64, shuffle=True)\n"
        "wrong = torch.utils.data.DataLoader(x / 16, 64, shuffle=True)\n"
    )
    assert main(["audit", "data", f"{tmp_path}/mine.py:right", "--images", "digits"]) == 0
    assert main(["audit", "data", f"{tmp_path}/mine.py:wrong", "--images", "digits"]) == 1
    text = capsys.readouterr().out
    assert "images are in [0, 1]" in text
    assert "x / 127.5 - 1 for bytes" in text


def test_deviations_of_data_have_effects_and_fixes() -> None:
    named = {one[3] for one in WRONG.values()} | {one[2] for one in WITH_IMAGES.values()}
    of_data = [one for one in known_deviations().values() if one.function == "data"]
    assert {one.name for one in of_data} == named - {None}
    assert all(one.what and one.effect and fix_of(one.name) for one in of_data)


def test_results_of_every_audit_can_be_waived() -> None:
    assert set(AUDITS) <= set(CHECKS)
