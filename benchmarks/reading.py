"""Making images, against what needs them: sampling over a bare forward pass, and the memory map over the step."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.ratio import Ratio, interleaved, of
from benchmarks.steps import BATCH, ours, small
from ict_ref.data.dataset import Images, to_float
from ict_ref.networks.model import build_model
from ict_ref.sample.images import images

SAMPLED, ON_DISK, BATCHES = 32, 20_000, 20


def sampling(pairs: int) -> list[Ratio]:
    """Return one-step sampling, noise and rounding included, over the network's forward pass."""
    model = build_model(small(), event=(3, 32, 32), classes=0).requires_grad_(False)
    x, sigma = 80 * torch.randn(SAMPLED, 3, 32, 32), torch.full((SAMPLED,), 80.0)

    def sample() -> None:
        images(model, None, [80.0], count=SAMPLED, event=(3, 32, 32), seed=0)

    def forward() -> None:
        with torch.no_grad():
            model(x, sigma)

    return [interleaved("one-step sampling / forward", sample, forward, pairs=pairs, target=1.02)]


def reading(pairs: int) -> list[Ratio]:
    """Return images a second from a memory map, shuffled and flipped, over images a second that the step consumes."""
    update = ours(small())
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "images.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(ON_DISK, 3, 32, 32))
        array[:] = np.random.default_rng(0).integers(256, size=array.shape, dtype=np.uint8)
        source = Images(np.load(path, mmap_mode="r"), torch.zeros(ON_DISK, dtype=torch.int64), 0, flip=True)
        ratios = []
        for pair in range(pairs + 1):
            begins = time.perf_counter()
            for batch in range(BATCHES):
                pixels, _ = source.batch(BATCHES * pair + batch, batch_size=512, seed=0)
                to_float(pixels)
            reads = BATCHES * 512 / (time.perf_counter() - begins)
            begins = time.perf_counter()
            update()
            ratios.append(reads / (BATCH / (time.perf_counter() - begins)))
    return [of("images/s: memory map / step", ratios[1:], target=20.0, more=True)]
