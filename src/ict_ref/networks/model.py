"""The consistency model: any network F, made to satisfy the boundary condition."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Config
from ict_ref.formulas import boundary_parameterization
from ict_ref.networks.adm import ADM
from ict_ref.networks.layers import Masks
from ict_ref.randomness import stream


class ConsistencyModel(nn.Module):
    """f(x, sigma, label) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma), label).

    At sigma_min it returns x, bit for bit, whatever F is.
    """

    def __init__(self, network: ADM, *, sigma_min: float, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.sigma_min, self.sigma_data = sigma_min, sigma_data

    def forward(
        self,
        x: Float[Tensor, " batch *event"],
        sigma: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch *event"]:
        """Return f; without masks nothing is dropped, as in sampling."""
        return boundary_parameterization(
            lambda scaled, noise: self.network(scaled, noise, labels, masks),
            x,
            sigma,
            sigma_min=self.sigma_min,
            sigma_data=self.sigma_data,
        )


def build_model(config: Config, *, event: tuple[int, ...], classes: int) -> ConsistencyModel:
    """Return the model for images of this shape, its parameters a pure function of `train.seed`."""
    channels, size, _ = event
    network = ADM(
        config.network,
        channels=channels,
        size=size,
        classes=classes if config.data.labels else 0,
        generator=stream(config.train.seed, "parameters"),
    )
    model = ConsistencyModel(network, sigma_min=config.method.sigma_min, sigma_data=config.method.sigma_data)
    return model.to(getattr(torch, config.train.dtype))
