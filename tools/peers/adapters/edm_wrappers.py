"""Wrappers of a network in code that descends from EDM, around any network: for adapters of such code."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


class GivenNetwork(nn.Module):
    """The inner network of a wrapper, which calls a given function."""

    function: Any = None

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor, noise: Tensor, class_labels: Any = None, **_: Any) -> Any:
        return self.function(x, noise)


def wrapped(networks: Any, name: str, network: Any, **options: float) -> Any:
    """Return a wrapper of a module of networks around a network, in evaluation mode."""
    with patch.dict(vars(networks), {"GivenNetwork": GivenNetwork}):
        wrapper = getattr(networks, name)(32, 3, model_type="GivenNetwork", **options)
    wrapper.model.function = network
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

    wrapper.model.function = network
    wrapper(torch.ones(sigma.numel(), 1, 1, 1), sigma.flatten())
    return seen[0][0].reshape(sigma.shape), seen[0][1].reshape(sigma.shape)
