"""Small networks that several tests need."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.config import Acceptance, Config, Network, minimal
from ict_ref.networks.model import ConsistencyModel, FreeForm, build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint

VARIANTS: dict[str, dict[str, Any]] = {
    "ADM": {},
    "ADM with AdaGN": {"adaptive_norm": True},
    "ADM with Fourier features": {"embedding": "fourier", "fourier_scale": 0.5},
    "NCSN++": {"architecture": "ncsnpp", "embedding": "fourier", "fourier_scale": 0.5, "head_channels": 0},
    "NCSN++ with positional embedding": {"architecture": "ncsnpp"},
    "DDPM++": {"architecture": "ddpmpp", "head_channels": 0},
}
"""The options in which each kind of network differs from the minimal preset."""

PAPER: dict[str, Network] = {
    "NCSN++": Network(
        architecture="ncsnpp", embedding="fourier", width=128, multipliers=(2, 2, 2), blocks=4,
        attention_resolutions=(16,), head_channels=0, dropout=0.3, dropout_max_resolution=32,
    ),
    "DDPM++": Network(
        architecture="ddpmpp", width=128, multipliers=(2, 2, 2), blocks=4, attention_resolutions=(16,),
        head_channels=0, dropout=0.2, dropout_max_resolution=32,
    ),
    "ADM": Network(),
}  # fmt: skip
"""iCT's and ECT's networks for CIFAR-10, and iCT's for ImageNet 64x64 (Appendix B; the authors' CM code; EDM)."""


def configured(precision: str = "float64", **options: object) -> Config:
    """Return the minimal preset with these options of the network."""
    network = dataclasses.replace(minimal().network, **options)  # type: ignore[arg-type]
    return dataclasses.replace(
        minimal(), network=network, train=dataclasses.replace(minimal().train, precision=precision)  # type: ignore[arg-type]
    )  # fmt: skip


def filled(model: ConsistencyModel) -> ConsistencyModel:
    """Return the model with random parameters everywhere, so that no part is silent as at the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def small(precision: str = "float64", **options: object) -> ConsistencyModel:
    """Return such a model of 10 classes for images of 8x8 pixels."""
    return filled(build_model(configured(precision, **options), event=(1, 8, 8), classes=10))


def small_weights(*, channels: int, classes: int) -> NetworkCheckpoint:
    """Return the weights of such a model in float32, for images of 8x8 pixels."""
    config = dataclasses.replace(
        configured("float32"), data=dataclasses.replace(minimal().data, labels=classes > 0), acceptance=Acceptance()
    )
    state = dict(filled(build_model(config, event=(channels, 8, 8), classes=classes)).network.state_dict())
    return NetworkCheckpoint(options=configured().network, channels=channels, size=8, classes=classes, state=state)


def inputs(batch: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, noise levels of which the first is sigma_min, and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 1, 8, 8, generator=generator, dtype=dtype)
    return x, torch.tensor([0.002, 0.7, 80.0], dtype=dtype)[:batch], torch.arange(batch)


def stored_nowhere(options: Network, *, size: int, classes: int) -> FreeForm:
    """Return the network on the meta device, where nothing is stored and nothing computed."""
    weights = NetworkCheckpoint(options=options, channels=3, size=size, classes=classes, state={})
    return weights.empty_network().to("meta")


def count(network: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
