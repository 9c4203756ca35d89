import dataclasses

import pytest
import torch
from tests.support.draws import draw
from tests.support.runs import config, images

from ict_ref.config import Config
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.model import build_model
from ict_ref.training.microbatches import Batch, Microbatches

CPU = torch.device("cpu")


def batches(chosen: Config, *, ahead: bool = False) -> Microbatches:
    """Return what makes the batches of a run."""
    sites = build_model(chosen, event=(1, 8, 8), classes=10).network.dropout_sites()
    return Microbatches(images(), chosen, sites, CPU, [range(chosen.train.lanes)], ahead=ahead)


def joined(parts: list[Batch]) -> Batch:
    """Return the batch that these parts make."""
    labels = [part.labels for part in parts if part.labels is not None]
    draws = dataclasses.replace(
        parts[0].draws,
        index=torch.cat([part.draws.index for part in parts]),
        z=torch.cat([part.draws.z for part in parts]),
        masks=tuple(torch.cat(masks) for masks in zip(*(part.draws.masks for part in parts), strict=True)),
    )
    return Batch(torch.cat([part.x for part in parts]), torch.cat(labels), draws)


def same(a: Batch, b: Batch) -> bool:
    """Return whether two batches are the same, bit for bit."""
    pairs = [(a.x, b.x), (a.draws.index, b.draws.index), (a.draws.z, b.draws.z)]
    pairs += list(zip(a.draws.masks, b.draws.masks, strict=True))
    assert a.labels is not None
    assert b.labels is not None
    return all(torch.equal(x, y) for x, y in [*pairs, (a.labels, b.labels)])


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_processes_and_parts_see_together_what_one_process_sees(size: int, accumulate: int) -> None:
    chosen = config(steps=100)
    made = batches(chosen)
    for step in (0, 7, 80):  # the last is in the second epoch of 1 198 images
        whole = made.get((step, range(4)), None)
        parts = [part for rank in range(size) for part in ProcessGroup(rank, size).parts(4, accumulate)]
        assert len(parts) == size * accumulate
        assert same(joined([made.get((step, part), None) for part in parts]), whole)


def test_a_batch_is_the_images_and_the_draws_of_its_step() -> None:
    chosen = config()
    made = batches(chosen)
    batch = made.get((3, range(4)), None)
    pixels, labels = images().batch(3, batch_size=16, seed=0)
    assert torch.equal(batch.x, pixels.float() / 127.5 - 1)
    assert batch.labels is not None
    assert torch.equal(batch.labels, labels)
    draws = draw(3, range(4), chosen, event=(1, 8, 8), sites=made.sites)
    assert torch.equal(batch.draws.z, draws.z)
    assert torch.equal(batch.draws.index, draws.index)


def test_what_is_made_beforehand_is_the_same_also_where_something_else_is_asked_for() -> None:
    plain, ahead = batches(config()), batches(config(), ahead=True)
    order = [(0, range(2)), (0, range(2, 4)), (1, range(2)), (5, range(4)), (5, range(4))]
    for part, then in zip(order, [*order[1:3], (9, range(4)), None, None], strict=True):
        assert same(ahead.get(part, then), plain.get(part, None))
    ahead.close()
    ahead.close()


def test_examples_that_are_no_pixels_are_taken_as_they_are() -> None:
    class Ones:
        event, classes = (1, 2, 2), 0

        def batch(self, step: int, *, batch_size: int, seed: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
            values = torch.arange(batch_size, dtype=torch.float64)[rows]
            return values.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), torch.zeros(len(values), dtype=torch.int64)

    without = dataclasses.replace(config(), data=dataclasses.replace(config().data, labels=False))
    batch = Microbatches(Ones(), without, [], CPU, [range(4)], ahead=False).get((0, range(2, 4)), None)
    assert batch.x[:, 0, 0, 0].tolist() == list(range(8, 16))
    assert batch.x.dtype == torch.float32
    assert batch.labels is None


def test_lanes_that_processes_and_parts_cannot_share_are_refused() -> None:
    says = r"train\.lanes needs a multiple of 6 \(3 processes, each with 2 parts by machine\.accumulate\); got 4"
    with pytest.raises(ValueError, match=says):
        ProcessGroup(0, 3).parts(4, 2)
    assert ProcessGroup(1, 2).parts(8, 2) == [range(4, 6), range(6, 8)]
