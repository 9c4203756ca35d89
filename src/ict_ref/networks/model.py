"""The consistency model: a network F, made to satisfy the boundary condition."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Config, Method, Network
from ict_ref.formulas import boundary_parameterization, trigflow_parameterization, trigflow_time
from ict_ref.formulas.trigflow import Network as Function
from ict_ref.networks.adm import ADM
from ict_ref.networks.blocks import Block
from ict_ref.networks.dropout import Masks
from ict_ref.networks.ncsnpp import DDPMpp, NCSNpp
from ict_ref.networks.own import OwnNetwork
from ict_ref.networks.unet import UNet
from ict_ref.networks.weighting import WeightingNetwork
from ict_ref.utils.command_line import expect
from ict_ref.utils.dtypes import torch_dtype
from ict_ref.utils.rng import stream

FreeForm: TypeAlias = UNet | OwnNetwork
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
    everything else is computed in the dtype of sigma or better, and so is the result. A trained model of TCM's second
    stage has a cut `sigma_cut`: levels below it are rejected, on the CPU, whose numbers can be read at once.
    """

    def __init__(
        self,
        network: FreeForm,
        *,
        sigma_min: float,
        sigma_data: float,
        autocast: torch.dtype | None = None,
        sigma_cut: float = 0.0,
    ) -> None:
        super().__init__()
        # A network of the user's own has `forward` and `dropout_sites` only.
        self.network = cast(UNet, network)
        self.sigma_min, self.sigma_data, self.autocast = sigma_min, sigma_data, autocast
        self.sigma_cut = sigma_cut

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
            ValueError: sigma is not in float32 or better, labels do not go with the network, or a level is below the
                cut.
        """
        _refuse_few_digits(sigma)
        if self.sigma_cut and sigma.device.type == "cpu":
            # The comparison is in the dtype of sigma, in which the cut itself may be rounded down.
            refuse_below_the_cut("sigma", sigma[sigma < self.sigma_cut].tolist(), self.sigma_cut)
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


class TrigFlowModel(ConsistencyModel):
    """f(x, sigma, label) = cos(t) x_t - sin(t) sigma_data F(x_t / sigma_data, t, label) (sCM, Eq. (5)).

    It is called with the noisy x at level sigma, as every consistency model; x_t = cos(t) x, and sigma = sigma_data
    tan(t). So it is EDM's parameterization with -F for F, and t in place of log(sigma) / 4. `weighting` is w_phi(t), a
    part of the model in training alone.
    """

    def __init__(
        self,
        network: FreeForm,
        *,
        sigma_data: float,
        autocast: torch.dtype | None = None,
        weighting: nn.Module | None = None,
    ) -> None:
        super().__init__(network, sigma_min=sys.float_info.min, sigma_data=sigma_data, autocast=autocast)
        self.weighting = weighting

    def forward(
        self,
        x: Float[Tensor, " batch *event"],
        sigma: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch *event"]:
        """Return f(x, sigma, label), as `ConsistencyModel` does.

        Raises:
            ValueError: sigma is not in float32 or better, or labels do not go with the network.
        """
        _refuse_few_digits(sigma)
        t = trigflow_time(sigma, sigma_data=self.sigma_data)
        # Near pi/2 the cosine of a rounded t has few digits.
        cos = self.sigma_data / sigma.new_full((), self.sigma_data).hypot(sigma)
        x_t = cos.reshape(-1, *[1] * (x.ndim - 1)) * x
        return trigflow_parameterization(self.free_form(labels, masks), x_t, t, sigma_data=self.sigma_data)

    def free_form(self, labels: Int64[Tensor, " batch"] | None, masks: Masks | None) -> Function:
        """Return F as a function of (x_t / sigma_data, t)."""
        return partial(self._free_form, labels=labels, masks=masks)

    def log_weight(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return w_phi(t); 0 without a weighting network."""
        if self.weighting is None:
            return torch.zeros_like(t)
        w: Tensor = self.weighting(t)
        return w


def _refuse_few_digits(sigma: Float[Tensor, " batch"]) -> None:
    """Reject noise levels in 16 bits.

    Raises:
        ValueError: sigma is not in float32 or better.
    """
    if sigma.dtype.itemsize < 4:
        # With 8 bits, 0.002 would be another noise level, and the boundary condition would not hold.
        raise ValueError(f"sigma: expected float32 or better, got {sigma.dtype}. Do not convert noise levels.")


def refuse_below_the_cut(option: str, below: Sequence[float], sigma_cut: float) -> None:
    """Reject the levels `below` the cut, which the option named `option` has given.

    Raises:
        ValueError: there are some.
    """
    levels = f"levels from {sigma_cut:g} on, the cut of this model of TCM's second stage, which is not trained below"
    advice = "Leave out levels below the cut, or use the model of the first stage."
    expect(not below, option, levels, " ".join(f"{sigma:g}" for sigma in below[:3]), advice)


def recompute(model: ConsistencyModel) -> None:
    """Make the backward pass compute each block's activations again, so that they need no memory."""
    for module in model.modules():
        if isinstance(module, Block):
            module.recompute = True


def build_network(options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator) -> UNet:
    """Return a network for square images of `size` pixels a side, with parameters from the generator.

    Raises:
        ValueError: the resolution stages cannot halve images of this size.
    """
    architectures: dict[str, type[UNet]] = {"adm": ADM, "ncsnpp": NCSNpp, "ddpmpp": DDPMpp}
    return architectures[options.architecture](
        options, channels=channels, size=size, classes=classes, generator=generator
    )


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
    return consistency_model(network, config)


def consistency_model(network: FreeForm, config: Config) -> ConsistencyModel:
    """Return the model of a network, with the coefficients, the weighting network and the dtype of a configuration."""
    weighting = None
    if config.method.objective == "scm" and config.scm.adaptive_weighting:
        weighting = WeightingNetwork(stream(config.train.seed, "weighting network"))
    return parameterized(network, config.method, weighting).to(torch_dtype(config.train.dtype))


def parameterized(network: FreeForm, method: Method, weighting: WeightingNetwork | None = None) -> ConsistencyModel:
    """Return the model of a network, which stays as it is, with the coefficients of a method."""
    if method.coefficients == "trigflow":
        return TrigFlowModel(network, sigma_data=method.sigma_data, weighting=weighting)
    return ConsistencyModel(network, sigma_min=method.identity_sigma, sigma_data=method.sigma_data)
