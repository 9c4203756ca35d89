"""A network's options and tensors, independent of the run or the file that they came from."""

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
    """The options, image shape and state from which a consistency model is built."""

    options: Network
    channels: int
    size: int
    """Side of the images in pixels."""
    classes: int
    """Number of classes; 0 without labels."""
    state: Mapping[str, Float[Tensor, "..."]]
    """Parameters and Fourier frequencies, by their names in the network."""
    sigma_min: float = 0.002
    """Lowest noise level, of the boundary condition (iCT, Section 2)."""
    sigma_data: float = 0.5
    """Standard deviation of the data, of the preconditioning (CM, Appendix C)."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if known."""
    source: str = ""
    """Origin of the training images, in words."""

    def empty_network(self) -> FreeForm:
        """Return the network on the meta device, which has names and shapes but no values."""
        with torch.device("meta"):
            return build_network(
                self.options,
                channels=self.channels,
                size=self.size,
                classes=self.classes,
                generator=stream(0, "parameters"),
            )

    def model(self, dtype: torch.dtype = torch.float32) -> ConsistencyModel:
        """Return the consistency model; it shares the state's tensors if they have this dtype."""
        network = self.empty_network()
        network.load_state_dict(dict(self.state), assign=True)
        return ConsistencyModel(network, sigma_min=self.sigma_min, sigma_data=self.sigma_data).to(dtype)
