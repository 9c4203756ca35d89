import numpy as np
import torch
from sklearn.datasets import load_digits

from ict_ref.config import Data
from ict_ref.data import load, positions, to_float, to_uint8


def test_the_digits_are_all_there_and_every_third_is_held_out() -> None:
    dataset = load(Data())
    assert (len(dataset.train), len(dataset.held_out)) == (1198, 599)
    bunch = load_digits()
    grey = np.round(bunch.images * 255 / 16)
    assert np.array_equal(dataset.held_out.pixels[:, 0].numpy(), grey[2::3])
    assert np.array_equal(dataset.held_out.labels.numpy(), bunch.target[2::3])
    assert np.array_equal(dataset.train.pixels[:2, 0].numpy(), grey[:2])
    assert np.array_equal(dataset.train.labels[::2].numpy(), bunch.target[::3])


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    x = to_float(every)
    assert (float(x[0]), float(x[-1])) == (-1.0, 1.0)
    assert torch.equal(to_uint8(x), every)


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
