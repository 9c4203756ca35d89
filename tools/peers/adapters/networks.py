"""Networks for adapters: a free-form F, and the wrappers of code that descends from EDM around any F."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


def free_form(x: Tensor, noise: Tensor) -> Tensor:
    """Return sin(3 x) + noise / 10."""
    return torch.sin(3 * x) + noise.reshape(-1, 1, 1, 1) / 10


class GivenNetwork(nn.Module):
    """A network that calls a given function of x and of one number per example."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        # In a list: a module would become a part of this one.
        self.given: list[Any] = [free_form]

    def forward(self, x: Tensor, noise: Tensor, class_labels: Any = None, **_: Any) -> Any:
        return self.given[0](x, noise)


free_network = GivenNetwork()
"""A free-form network F(x, noise), for an audit of the wrapper around it."""


def wrapped(networks: Any, name: str, network: Any = None, **options: float) -> Any:
    """Return a wrapper of a module of networks around a network, in evaluation mode."""
    with patch.dict(vars(networks), {"GivenNetwork": GivenNetwork}):
        wrapper = getattr(networks, name)(32, 3, model_type="GivenNetwork", **options)
    if network is not None:
        wrapper.model.given[0] = network
    return wrapper.eval()


def f_of_images(networks: Any, name: str, network: Any, x: Tensor, sigma: Tensor, **options: float) -> Any:
    """Return f(x, sigma) of a wrapper that takes images, for examples of any shape."""

    def of_images(scaled: Tensor, noise: Tensor) -> Any:
        return network(scaled.reshape(x.shape), noise).reshape(scaled.shape)

    wrapper = wrapped(networks, name, of_images, **options)
    return wrapper(x.reshape(len(x), -1, 1, 1), sigma).reshape(x.shape)


def inputs(wrapper: Any, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return c_in and c_noise: the inner network's inputs for x = 1."""
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, noise: Tensor) -> Tensor:
        seen.append((x, noise))
        return x

    wrapper.model.given[0] = network
    wrapper(torch.ones(sigma.numel(), 1, 1, 1), sigma.flatten())
    return seen[0][0].reshape(sigma.shape), seen[0][1].reshape(sigma.shape)
