"""The consistency model: a network F, made to satisfy the boundary condition."""

from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Config, Network
from ict_ref.formulas import boundary_parameterization
from ict_ref.networks.adm import ADM
from ict_ref.networks.blocks import Block
from ict_ref.networks.dropout import Masks
from ict_ref.networks.ncsnpp import NCSNpp
from ict_ref.networks.unet import UNet
from ict_ref.utils.dtypes import torch_dtype
from ict_ref.utils.rng import stream

FreeForm: TypeAlias = UNet
"""F_theta: a module called as network(x, c_noise, labels, masks) that has dropout_sites()."""


@runtime_checkable
class Model(Protocol):
    """A consistency function of an optional label, with dropout by masks."""

    def __call__(
        self,
        x: Float[Tensor, " batch *event"],
        sigma: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch *event"]:
        """Return f(x, sigma, label)."""


class ConsistencyModel(nn.Module):
    """f(x, sigma, label) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma), label).

    At sigma_min it returns x, bit for bit, for any F. `autocast` and the dtype of the parameters affect F only;
    everything else is computed in the dtype of sigma or better, and so is the result.
    """

    def __init__(
        self, network: FreeForm, *, sigma_min: float, sigma_data: float, autocast: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.sigma_min, self.sigma_data, self.autocast = sigma_min, sigma_data, autocast

    def forward(
        self,
        x: Float[Tensor, " batch *event"],
        sigma: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch *event"]:
        """Return f(x, sigma, label); without masks there is no dropout, as in sampling.

        `x` has shape (batch, channels, height, width), `sigma` and `labels` have shape (batch,).

        Raises:
            ValueError: sigma is not in float32 or better, or labels do not go with the network.
        """
        if sigma.dtype.itemsize < 4:
            # With 8 bits, 0.002 would be another noise level, and the boundary condition would not hold.
            raise ValueError(f"sigma: expected float32 or better, got {sigma.dtype}. Do not convert noise levels.")
        return boundary_parameterization(
            lambda scaled, noise: self._free_form(scaled, noise, labels, masks),
            x,
            sigma,
            sigma_min=self.sigma_min,
            sigma_data=self.sigma_data,
        )

    def _free_form(
        self,
        x: Float[Tensor, " batch *event"],
        c_noise: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None,
        masks: Masks | None,
    ) -> Float[Tensor, " batch *event"]:
        if self.autocast is None:
            value: Tensor = self.network(x, c_noise, labels, masks)
            return value
        with torch.autocast(x.device.type, self.autocast):
            value = self.network(x, c_noise, labels, masks)
        return value


def recompute(model: ConsistencyModel) -> None:
    """Make the backward pass compute each block's activations again, so that they need no memory."""
    for module in model.modules():
        if isinstance(module, Block):
            module.recompute = True


def build_network(
    options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator
) -> FreeForm:
    """Return a network for square images of `size` pixels a side, with parameters from the generator.

    Raises:
        ValueError: the resolution stages cannot halve images of this size.
    """
    architecture = ADM if options.architecture == "adm" else NCSNpp
    return architecture(options, channels=channels, size=size, classes=classes, generator=generator)


def build_model(config: Config, *, event: tuple[int, ...], classes: int) -> ConsistencyModel:
    """Return a model for images of shape `event`, with parameters that are a pure function of `train.seed`.

    `event` is (channels, height, width). `classes` is ignored without --data.labels.

    >>> from ict_ref.config import minimal
    >>> model = build_model(minimal(), event=(1, 8, 8), classes=10)
    >>> x, sigma = torch.zeros(2, 1, 8, 8), torch.full((2,), 80.0)
    >>> model(x, sigma, torch.tensor([3, 7])).shape
    torch.Size([2, 1, 8, 8])

    Raises:
        ValueError: the resolution stages cannot halve images of this size.
    """
    channels, size, _ = event
    network = build_network(
        config.network,
        channels=channels,
        size=size,
        classes=classes if config.data.labels else 0,
        generator=stream(config.train.seed, "parameters"),
    )
    model = ConsistencyModel(network, sigma_min=config.method.identity_sigma, sigma_data=config.method.sigma_data)
    return model.to(torch_dtype(config.train.dtype))
