"""The blocks of a U-Net in the order of the forward pass, for the networks and for readers of published ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from ict_ref.config import Network
from ict_ref.networks.blocks import Resampling


@dataclass(frozen=True)
class BlockSpec:
    """The place of a block in a U-Net, and its output."""

    half: Literal["encoder", "middle", "decoder"]
    index: int
    """Number of the block in its half."""
    stage: int
    """Resolution stage of the output, whose side is the image's divided by 2^stage."""
    number: int | None
    """Number of the block in its stage; None: the block between two stages, which resamples."""
    channels: int
    """Channels of the output."""
    attends: bool

    @property
    def name(self) -> str:
        """Return the name of the block's module in our networks."""
        return f"{self.half}.{self.index}"

    @property
    def way(self) -> Resampling:
        """Return the resampling before the block's first convolution."""
        if self.number is not None:
            return "none"
        return "down" if self.half == "encoder" else "up"


def unet_blocks(options: Network, size: int) -> Iterator[BlockSpec]:
    """Yield all blocks of the network for images of `size` pixels a side."""
    yield from encoder_blocks(options, size)
    yield from middle_blocks(options)
    yield from decoder_blocks(options, size)


def encoder_blocks(options: Network, size: int) -> Iterator[BlockSpec]:
    """Yield the blocks of each stage, and after each stage but the last the block that halves the resolution."""
    index, last = count(), len(options.multipliers) - 1
    for stage, multiplier in enumerate(options.multipliers):
        channels, attends = options.width * multiplier, has_attention(options, size, stage)
        for number in range(options.blocks):
            yield BlockSpec("encoder", next(index), stage, number, channels, attends)
        if stage < last:
            yield BlockSpec("encoder", next(index), stage + 1, None, channels, attends=False)


def middle_blocks(options: Network) -> Iterator[BlockSpec]:
    """Yield the two blocks of the lowest resolution, of which the first has attention."""
    stage, channels = len(options.multipliers) - 1, options.width * options.multipliers[-1]
    for number in range(2):
        yield BlockSpec("middle", number, stage, number, channels, attends=number == 0)


def decoder_blocks(options: Network, size: int) -> Iterator[BlockSpec]:
    """Yield the blocks of each stage from the last, and after each but the first the block that doubles the resolution.

    In NCSN++ and DDPM++ only the last block of a stage has attention.
    """
    index, every = count(), options.architecture == "adm"
    for stage, multiplier in reversed(list(enumerate(options.multipliers))):
        channels, attends = options.width * multiplier, has_attention(options, size, stage)
        for number in range(options.blocks + 1):
            attended = attends and (every or number == options.blocks)
            yield BlockSpec("decoder", next(index), stage, number, channels, attended)
        if stage > 0:
            yield BlockSpec("decoder", next(index), stage - 1, None, channels, attends=False)


def has_attention(options: Network, size: int, stage: int) -> bool:
    """Return whether a stage of the encoder has attention, for images of `size` pixels a side."""
    return size >> stage in options.attention_resolutions
