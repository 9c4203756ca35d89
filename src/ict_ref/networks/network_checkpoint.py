"""A network's options and tensors, independent of the run or the file that they came from."""

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Method, Network
from ict_ref.networks.model import ConsistencyModel, FreeForm, TrigFlowModel, build_network
from ict_ref.networks.own import OwnNetwork
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
    sigma_max: float = 80.0
    """Highest noise level, from which one-step samples are made. The defaults of this and the next three fields are
    those of files of format 1, and never change."""
    rho: float = 7.0
    """Curvature of the grid of noise levels."""
    s1: int = 1280
    """Final discretization: the grid at the end of training has s1 + 1 noise levels."""
    clip: bool = True
    """Whether each step's result is clipped to [-1, 1]."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if known."""
    source: str = ""
    """Origin of the training images, in words."""
    is_denoiser: bool = False
    """Whether the network was trained here as a denoiser, with EDM's parameterization."""
    coefficients: Literal["cm", "edm", "trigflow"] = "cm"
    """Coefficients of the consistency model. cm: those of CM, with the boundary at sigma_min. edm: those of EDM, with
    the boundary at noise level 0, as in ECT. trigflow: those of sCM, whose network gets an angle for a noise level."""
    sigma_cut: float = 0.0
    """Noise level from which on the network is trained: the cut of TCM's second stage. 0: at all levels."""

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

    @property
    def method(self) -> Method:
        """Return iCT's method with these noise levels.

        Raises:
            ValueError: a value is out of range.
        """
        return Method(
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            sigma_data=self.sigma_data,
            rho=self.rho,
            s0=min(Method.s0, self.s1),
            s1=self.s1,
        )

    def other_tensor(self) -> str | None:
        """Return the name of a tensor that the network does not have in this shape, or lacks; None if all fit."""
        wanted = {name: value.shape for name, value in self.empty_network().state_dict().items()}
        given = {name: value.shape for name, value in self.state.items()}
        return next((name for name in sorted(wanted | given) if wanted.get(name) != given.get(name)), None)

    def unusable_tensor(self) -> str | None:
        """Return the name of a tensor that is not of floats or not finite, and what it has; None if all are usable."""
        for name, tensor in self.state.items():
            if not tensor.is_floating_point():
                return f"{name} has {str(tensor.dtype).removeprefix('torch.')}"
            if not bool(tensor.isfinite().all()):
                return f"{name} has a NaN or an infinity"
        return None

    def model(self, dtype: torch.dtype = torch.float32) -> ConsistencyModel:
        """Return the consistency model; it shares the state's tensors if they have this dtype."""
        network = self.empty_network()
        network.load_state_dict(dict(self.state), assign=True)
        if self.coefficients == "trigflow":
            return TrigFlowModel(network, sigma_data=self.sigma_data).to(dtype)
        lowest = self.sigma_min if self.coefficients == "cm" else sys.float_info.min
        model = ConsistencyModel(network, sigma_min=lowest, sigma_data=self.sigma_data, sigma_cut=self.sigma_cut)
        return model.to(dtype)


@dataclass(frozen=True, kw_only=True)
class OwnNetworkCheckpoint(NetworkCheckpoint):
    """The state of a network of the user's own, with the network itself; its options have no effect."""

    own: OwnNetwork

    def empty_network(self) -> FreeForm:
        """Return a copy of the network, whose values are replaced: tensors outside its state keep theirs."""
        return copy.deepcopy(self.own)
