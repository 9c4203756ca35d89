"""The network of a consistency model as a module of diffusers. It needs the packages ict_ref and diffusers.

`python -m ict_ref.export_checkpoint --format diffusers` writes a copy of this file beside the weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from ict_ref.config import Network, stored_group
from ict_ref.networks.network_checkpoint import NetworkCheckpoint


class ConsistencyUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """F_theta(c_in x, c_noise, label), called with the timestep 1000 c_noise of CMStochasticIterativeScheduler."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        network: dict[str, Any],
        sample_size: int,
        in_channels: int,
        out_channels: int,
        num_class_embeds: int | None = None,
        class_names: Sequence[str] | None = None,
        source: str = "",
        sigma_min: float | None = None,
    ) -> None:
        super().__init__()
        del class_names, source, sigma_min  # they are kept in `config`
        if out_channels != in_channels:
            raise ValueError(f"out_channels: expected {in_channels} as in_channels, got {out_channels}")
        described = NetworkCheckpoint(
            options=stored_group(Network, network, "network"),
            channels=in_channels,
            size=sample_size,
            classes=num_class_embeds or 0,
            state={},
        )
        # The values come from the file of weights; constants such as filters are there already.
        self.free_form = described.empty_network()
        state = {name: torch.empty(value.shape) for name, value in self.free_form.state_dict().items()}
        self.free_form.load_state_dict(state, assign=True)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> "UNet2DOutput | tuple[Tensor]":
        """Return F of scaled images [batch, channels, height, width], for one timestep or one of each image."""
        noise = torch.as_tensor(timestep, dtype=torch.float64, device="cpu") / 1000
        c_noise = noise.to(sample.device, torch.float32).expand(len(sample))
        labels = None if class_labels is None else class_labels.to(torch.int64)
        value: Tensor = self.free_form(sample, c_noise, labels, None)
        return UNet2DOutput(sample=value) if return_dict else (value,)
