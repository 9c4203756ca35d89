"""The distance d(x, y) of a configuration, between the outputs of student and teacher."""

from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Method
from ict_ref.formulas import Distance, pseudo_huber, pseudo_huber_constant, squared_l2
from ict_ref.utils.torchscript import load_torchscript

# Side in pixels to which images are enlarged for LPIPS (CM, Appendix C).
LPIPS_SIZE = 224


def distance_of(method: Method, dim: int) -> Distance:
    """Return the distance d(x, y) between images of `dim` values, one number per image.

    >>> import torch
    >>> distance = distance_of(Method(distance="squared_l2"), dim=64)
    >>> distance(torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
    tensor([64., 64.])

    Raises:
        ValueError: the distance is LPIPS, and its file is missing or cannot be used.
    """
    if method.distance == "squared_l2":
        return squared_l2
    if method.distance == "lpips":
        _load(method.lpips, torch.device("cpu"))  # rejects a bad file before training
        return partial(_lpips, method.lpips)
    c = pseudo_huber_constant(dim) if method.huber_c is None else method.huber_c
    return partial(pseudo_huber, c=c)


def _lpips(
    path: str, x: Float[Tensor, " batch 3 height width"], y: Float[Tensor, " batch 3 height width"]
) -> Float[Tensor, " batch"]:
    """Return the network's output for the enlarged images, one value per example."""
    large = (F.interpolate(image, size=(LPIPS_SIZE, LPIPS_SIZE), mode="bilinear") for image in (x, y))
    value: Tensor = _load(path, x.device)(*large)
    return value.reshape(len(x))


@lru_cache(maxsize=2)
def _load(path: str, device: torch.device) -> Any:
    """Return the module in a TorchScript file, with frozen parameters.

    Raises:
        ValueError: the file is missing, or is not an LPIPS network.
    """
    if not path:
        raise ValueError(
            "--method.lpips: expected a TorchScript file of LPIPS, got nothing. Save a network with the published "
            "weights by torch.jit.save, or choose --method.distance squared_l2."
        )
    network = load_torchscript(path, device)
    if network is None:
        raise ValueError(f"--method.lpips: expected a TorchScript file, got {path}. Save it by torch.jit.save.")
    x = torch.zeros(2, 3, LPIPS_SIZE, LPIPS_SIZE, device=device)
    try:
        with torch.no_grad():
            value = network(x, x)
    except RuntimeError:
        value = None
    if not isinstance(value, Tensor) or value.numel() != len(x) or not bool(value.isfinite().all()):
        call = "a module called as lpips(x, y) that returns one number per image"
        raise ValueError(f"--method.lpips: expected {call}, got {path}")
    return network
