"""The U-Net common to ADM, NCSN++ and DDPM++: encoder, middle, decoder and head, with dropout by given masks."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.networks.blocks import ArchitectureVariant, Block, Fir, ResidualBlock, SelfAttention, joined
from ict_ref.networks.dropout import DropoutSite, Masks
from ict_ref.networks.embedding import Embedding
from ict_ref.networks.layout import BlockSpec, decoder_blocks, encoder_blocks, middle_blocks
from ict_ref.networks.norm import norm_silu_drop
from ict_ref.networks.precision import in_full_precision


class UNet(nn.Module):
    """F_theta(c_in x, c_noise, label): a U-Net of residual blocks, with attention at low resolutions.

    Dropout acts only in calls with masks, at the places that `dropout_sites()` lists. There is no training mode. A
    subclass defines its `variant`, its initial parameters, and `has_pyramid`: whether the encoder gets the input at
    each resolution.
    """

    variant: ClassVar[ArchitectureVariant]
    has_pyramid: ClassVar[bool]

    def __init__(
        self, options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator
    ) -> None:
        super().__init__()
        self.options = options
        self._sites: list[DropoutSite] = []
        _refuse_odd_halvings(size, options)
        self.embedding = Embedding(options, classes)
        h = options.width * (options.multipliers[0] if options.architecture == "adm" else 1)
        self.stem = nn.Conv2d(channels, h, 3, padding=1)

        encoder, skips = list(encoder_blocks(options, size)), [h]
        self.encoder = nn.ModuleList()
        for spec in encoder:
            self.encoder.append(self._block(h, spec, size))
            h = spec.channels
            skips.append(h)
        self.pyramid = nn.ModuleList()
        if self.has_pyramid:
            self.pyramid.extend(_projections(channels, encoder))
            self.smooth = Fir("smooth")
        self.middle = nn.ModuleList(self._block(h, spec, size) for spec in middle_blocks(options))
        self.decoder = nn.ModuleList()
        for spec in decoder_blocks(options, size):
            before = h if spec.way == "up" else h + skips.pop()
            self.decoder.append(self._block(before, spec, size))
            h = spec.channels
        # Applied part by part; its names are those of the state.
        norm = nn.GroupNorm(options.groups_of(h), h, self.variant.eps)
        self.head = nn.Sequential(norm, nn.SiLU(), nn.Conv2d(h, channels, 3, padding=1))
        if not self.stem.weight.is_meta:
            self.initialise(generator)

    def forward(
        self,
        x: Float[Tensor, " batch channels height width"],
        c_noise: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch channels height width"]:
        """Return F_theta, with dropout if there are masks, one for each of `dropout_sites()`.

        Raises:
            ValueError: the number of masks is wrong, or labels do not go with the network.
        """
        if masks is not None and len(masks) != len(self._sites):
            raise ValueError(f"masks: expected {len(self._sites)} dropout masks, got {len(masks)}")
        e: Tensor = self.embedding(c_noise, labels)
        shown = x.to(self.stem.weight.dtype)
        with in_full_precision(x.device):
            h: Tensor = self.stem(shown)
        skips, projections = [h], iter(self.pyramid)
        for block in self.encoder:
            h = block(h, e, masks)
            if self.has_pyramid and block.way == "down":
                with in_full_precision(x.device):
                    shown = next(projections)(self.smooth(shown))
                h = shown = joined(shown, h, self.variant.gain)
            skips.append(h)
        for block in self.middle:
            h = block(h, e, masks)
        for block in self.decoder:
            h = block(h if block.way == "up" else torch.cat([h, skips.pop()], 1), e, masks)
        with in_full_precision(h.device):
            norm: Any = self.head[0]
            out: Tensor = self.head[-1](norm_silu_drop(norm, h))
        return out

    @abstractmethod
    def initialise(self, generator: np.random.Generator) -> None:
        """Set all parameters from the generator."""

    def dropout_sites(self) -> list[DropoutSite]:
        """Return the places where values are dropped, in the order of the forward pass."""
        return list(self._sites)

    def last_maps(self) -> list[nn.Module]:
        """Return the head's convolution and the last map of each residual branch, which begin at or near 0."""
        last: list[nn.Module] = [self.head[-1]]
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                last.append(module.conv1)
            elif isinstance(module, SelfAttention):
                last.append(module.projection)
        return last

    def frequencies(self, generator: np.random.Generator) -> "Float[np.ndarray, ' _']":
        """Sample the Fourier frequencies from N(0, fourier_scale^2)."""
        return self.options.fourier_scale * generator.standard_normal(self.options.width)

    def _block(self, before: int, spec: BlockSpec, size: int) -> Block:
        """Return the next block, of `before` input channels and for images of this size, and list its dropout site."""
        options, after, side, site = self.options, spec.channels, size >> spec.stage, None
        # iCT Section 3.1: "layers with resolution less than or equal to 16x16", the map on which the dropout acts.
        if options.dropout > 0 and side <= options.dropout_max_resolution:
            site = len(self._sites)
            self._sites.append(DropoutSite(after, side, side, options.dropout))
        residual = ResidualBlock(before, after, options, self.variant, spec.way, site)
        return Block(residual, SelfAttention(after, options, self.variant) if spec.attends else None)


def _projections(channels: int, encoder: list[BlockSpec]) -> Iterator[nn.Conv2d]:
    """Yield the maps of the input pyramid, from each of its resolutions to the next."""
    widths = [channels, *(spec.channels for spec in encoder if spec.way == "down")]
    for before, after in pairwise(widths):
        yield nn.Conv2d(before, after, 3, stride=2)


def _refuse_odd_halvings(size: int, options: Network) -> None:
    """Reject images that the resolution stages cannot halve.

    Raises:
        ValueError: the size is not a multiple of a high enough power of 2.
    """
    halvings = len(options.multipliers) - 1
    if size % 2**halvings:
        raise ValueError(
            f"--network.multipliers: expected stages for images of size {size}, got {options.multipliers}: the size "
            f"cannot be halved {halvings} times. Give fewer multipliers."
        )
