"""Microbatches on their device: images, labels, sampled noise and dropout masks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_float
from ict_ref.networks.dropout import DropoutSite, draw_shard_masks
from ict_ref.training.level_pairs import lower_sigmas
from ict_ref.training.sampled_noise import (
    SampledNoise,
    sample_intervals_and_noise,
    sample_mask_keys,
    sample_sigmas,
)
from ict_ref.utils.dtypes import torch_dtype


@runtime_checkable
class Examples(Protocol):
    """Training examples: images, or any other data with a batch for each step."""

    @property
    def event(self) -> tuple[int, ...]:
        """Return the shape of an example."""

    @property
    def classes(self) -> int:
        """Return the number of classes; 0 without labels."""

    def batch(
        self, step: int, *, batch_size: int, seed: int, rows: slice
    ) -> tuple[Shaped[Tensor, " rows *event"], Int64[Tensor, " rows"]]:
        """Return the examples in these rows of a step's batch, and their labels, as a pure function of the arguments.

        Examples in uint8 are pixels, which are scaled to [-1, 1]; any others are used unchanged.
        """


@dataclass(frozen=True)
class Microbatch:
    """A slice of a step's batch, on the device that computes it."""

    x: Float[Tensor, " batch *event"]
    """Clean examples."""
    labels: Int64[Tensor, " batch"] | None
    noise: SampledNoise


@dataclass(frozen=True)
class _HostTensors:
    """The tensors of a microbatch that the CPU makes."""

    x: Shaped[Tensor, " batch *event"]
    labels: Int64[Tensor, " batch"]
    index: Int64[Tensor, " batch"]
    z: Float[Tensor, " batch *event"]
    keys: Int64[Tensor, " shards"]
    """Keys of the dropout masks."""
    sigma: Float64[Tensor, " batch"] | None
    """Noise levels, only for objectives without a grid."""
    sigma_low: Float64[Tensor, " batch"] | None
    """Lower noise levels, only for objectives with pairs of levels."""


StepShards = tuple[int, range]
"""A step, and the noise shards of one of its microbatches."""


class Microbatches:
    """The microbatches of each step; with `ahead` a thread prepares the next one while the device computes."""

    def __init__(
        self,
        examples: Examples,
        config: Config,
        sites: Sequence[DropoutSite],
        device: torch.device,
        shards: Sequence[range],
        *,
        ahead: bool,
    ) -> None:
        self.examples, self.config, self.sites, self.device, self.shards = examples, config, sites, device, shards
        # Pinned memory belongs to the GPU that is current in the thread.
        start = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self._worker = ThreadPoolExecutor(max_workers=1, initializer=start) if ahead else None
        self._prepared: tuple[StepShards, Future[_HostTensors]] | None = None

    def of_step(self, step: int) -> Iterator[tuple[Microbatch, bool]]:
        """Yield the microbatches of this step, and whether each is the last one."""
        for number, shards in enumerate(self.shards):
            is_last = number == len(self.shards) - 1
            following = (step + 1, self.shards[0]) if is_last else (step, self.shards[number + 1])
            yield self.get((step, shards), following if following[0] < self.config.train.steps else None), is_last

    def get(self, wanted: StepShards, following: StepShards | None) -> Microbatch:
        """Return a microbatch, and start to prepare the following one."""
        host = self._host_tensors(wanted)
        if self._worker is not None and following is not None:
            self._prepared = following, self._worker.submit(self._make, following)
        pixels, labels, index, z, keys = (
            tensor.to(self.device, non_blocking=True) for tensor in (host.x, host.labels, host.index, host.z, host.keys)
        )
        sigma, sigma_low = (
            None if levels is None else levels.to(self.device, non_blocking=True)
            for levels in (host.sigma, host.sigma_low)
        )
        masks = draw_shard_masks(self.sites, len(z) // len(keys), keys)
        x = (to_float(pixels) if pixels.dtype == torch.uint8 else pixels).to(torch_dtype(self.config.train.dtype))
        return Microbatch(
            x, labels if self.config.data.labels else None, SampledNoise(index, z, masks, sigma, sigma_low)
        )

    def close(self) -> None:
        """Stop the thread."""
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)

    def _host_tensors(self, wanted: StepShards) -> _HostTensors:
        if self._prepared is not None:
            (announced, future), self._prepared = self._prepared, None
            if announced == wanted:
                return future.result()
        return self._make(wanted)

    def _make(self, wanted: StepShards) -> _HostTensors:
        step, shards = wanted
        train = self.config.train
        size = train.batch_size // train.noise_shards
        rows = slice(shards.start * size, shards.stop * size)
        x, labels = self.examples.batch(step, batch_size=train.batch_size, seed=train.seed, rows=rows)
        index, z = sample_intervals_and_noise(step, shards, self.config, event=self.examples.event)
        keys, sigma = sample_mask_keys(step, shards, self.config), sample_sigmas(step, shards, self.config)
        sigma_low = lower_sigmas(sigma, step, self.config)
        if self.device.type != "cuda":
            return _HostTensors(x, labels, index, z, keys, sigma, sigma_low)
        # The host does not wait for copies from pinned memory.
        x, labels, index, z, keys = (tensor.pin_memory() for tensor in (x, labels, index, z, keys))
        sigma, sigma_low = (None if levels is None else levels.pin_memory() for levels in (sigma, sigma_low))
        return _HostTensors(x, labels, index, z, keys, sigma, sigma_low)
