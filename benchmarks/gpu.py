"""The paper's networks on a CUDA device: images a second, and what share of the device's matmul rate that is."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ict_ref.config import PRESETS, Data, Machine
from ict_ref.data.dataset import Images
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.training.trainer import Trainer

# Forward pass of one image, counted by fvcore (see the README's table of networks).
GFLOP = {"cifar10": 42.5, "imagenet64": 219.3}
BATCHES = {"cifar10": (64, 128, 256, 512), "imagenet64": (16, 32, 64, 128)}
# Student forward, its backward twice, teacher forward.
FORWARDS = 4
TARGET = 0.45


@dataclass(frozen=True)
class Speed:
    """How fast a preset trains at a batch size, in bfloat16."""

    preset: str
    compiled: bool
    batch: int
    images_per_second: float
    tflops: float
    share: float
    """Fraction of the matmul rate that was measured on this device."""
    peak_gib: float


def matmul_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Return how many bfloat16 operations a second the device makes in one large matrix product."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    torch.mm(a, b)
    torch.cuda.synchronize()
    begins = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b)
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - begins)


def measure(steps: int = 10) -> Iterator[Speed]:
    """Yield the speed of each preset, eager and compiled, at each batch size that fits."""
    device = torch.device("cuda")
    rate = matmul_rate(device)
    for preset, batches in BATCHES.items():
        for compiled in (False, True):
            for batch in batches:
                try:
                    yield _speed(preset, compiled, batch, device, rate, steps)
                except torch.cuda.OutOfMemoryError:
                    break
                finally:
                    torch.cuda.empty_cache()


def _speed(preset: str, compiled: bool, batch: int, device: torch.device, rate: float, steps: int) -> Speed:
    full = PRESETS[preset]()
    labels, event = full.data.labels, (3, 32, 32) if preset == "cifar10" else (3, 64, 64)
    config = dataclasses.replace(
        full,
        data=Data(name="folder", labels=labels, flip=True),
        train=dataclasses.replace(full.train, batch_size=batch, noise_shards=1, precision="bfloat16"),
        machine=Machine(device="cuda", channels_last=True, compile=compiled),
    )
    pixels = np.random.default_rng(0).integers(256, size=(1024, *event), dtype=np.uint8)
    source = Images(pixels, torch.zeros(1024, dtype=torch.int64), 1000 if labels else 0, flip=True)
    trainer = Trainer(config, source, ProcessGroup(device=device))
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        trainer.update()
    torch.cuda.synchronize()
    begins = time.perf_counter()
    for _ in range(steps):
        trainer.update()
    torch.cuda.synchronize()
    speed = batch * steps / (time.perf_counter() - begins)
    trainer.guard.raise_recorded()
    trainer.microbatches.close()
    tflops = speed * GFLOP[preset] * FORWARDS / 1000
    return Speed(
        preset, compiled, batch, speed, tflops, tflops * 1e12 / rate, torch.cuda.max_memory_allocated() / 2**30
    )
