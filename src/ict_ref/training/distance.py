"""The distance d(x, y) of a configuration, between the outputs of student and teacher."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Method
from ict_ref.formulas import Distance, l2, pseudo_huber, pseudo_huber_constant, squared_l2
from ict_ref.training.lpips_file import is_lpips, read_lpips
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
    norms: dict[str, Distance] = {"l2": l2, "squared_l2": squared_l2}
    if method.distance in norms:
        return norms[method.distance]
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
    """Return the distance in a file of import_lpips or TorchScript, with frozen parameters.

    Raises:
        ValueError: the file is missing, or is not an LPIPS network.
    """
    if not path:
        raise ValueError(
            "--method.lpips: expected a file of LPIPS, got nothing. Make it from the published weights with "
            "python -m ict_ref.training.import_lpips, or choose --method.distance squared_l2."
        )
    if is_lpips(Path(path)):
        return read_lpips(Path(path), device)
    network = load_torchscript(path, device)
    if network is None:
        raise ValueError(
            f"--method.lpips: expected a file of import_lpips or TorchScript, got {path}. Make it with "
            "python -m ict_ref.training.import_lpips."
        )
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
