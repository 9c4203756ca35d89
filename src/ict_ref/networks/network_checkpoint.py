"""A network apart from the run or the file that it came from."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.model import ConsistencyModel, FreeForm, build_network
from ict_ref.utils.rng import stream


@dataclass(frozen=True, kw_only=True)
class NetworkCheckpoint:
    """What a consistency model is made of: the network's options, the images it is for, and its state."""

    options: Network
    channels: int
    size: int
    """Pixels a side."""
    classes: int
    """0: without labels."""
    state: Mapping[str, Float[Tensor, "..."]]
    """Parameters and Fourier frequencies by their names in the network."""
    sigma_min: float = 0.002
    """Of the boundary condition (iCT, Section 2)."""
    sigma_data: float = 0.5
    """Of the preconditioning (CM, Appendix C)."""

    def empty_network(self) -> FreeForm:
        """Return the network on the meta device: names and shapes, and nothing stored."""
        with torch.device("meta"):
            return build_network(
                self.options,
                channels=self.channels,
                size=self.size,
                classes=self.classes,
                generator=stream(0, "parameters"),
            )

    def model(self, dtype: torch.dtype = torch.float32) -> ConsistencyModel:
        """Return the consistency model; its parameters are the state's tensors where these are of the dtype."""
        network = self.empty_network()
        network.load_state_dict(dict(self.state), assign=True)
        return ConsistencyModel(network, sigma_min=self.sigma_min, sigma_data=self.sigma_data).to(dtype)
