"""The metric d of a configuration, which says how far student and teacher are apart."""

from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Method
from ict_ref.formulas import Distance, pseudo_huber, pseudo_huber_constant, squared_l2
from ict_ref.utils.torchscript import load_torchscript

# CM, Appendix C: images are enlarged to this size for LPIPS.
LPIPS_SIZE = 224


def metric(method: Method, dim: int) -> Distance:
    """Return the metric of images that have `dim` values.

    Raises ValueError if it needs a file that is not there or is none.
    """
    if method.distance == "squared_l2":
        return squared_l2
    if method.distance == "lpips":
        _load(method.lpips, torch.device("cpu"))  # to refuse what is none before it is needed
        return partial(_lpips, method.lpips)
    c = pseudo_huber_constant(dim) if method.huber_c is None else method.huber_c
    return partial(pseudo_huber, c=c)


def _lpips(
    path: str, x: Float[Tensor, " batch 3 height width"], y: Float[Tensor, " batch 3 height width"]
) -> Float[Tensor, " batch"]:
    """Return what the network says of the enlarged images, one value per example."""
    large = (F.interpolate(image, size=(LPIPS_SIZE, LPIPS_SIZE), mode="bilinear") for image in (x, y))
    value: Tensor = _load(path, x.device)(*large)
    return value.reshape(len(x))


@lru_cache(maxsize=2)
def _load(path: str, device: torch.device) -> Any:
    """Return the module in a TorchScript file, which is not trained."""
    if not path:
        raise ValueError(
            "method.lpips needs a TorchScript file of LPIPS; got none; make one of the published weights with "
            "torch.jit.save, or choose --method.distance squared_l2"
        )
    network = load_torchscript(path, device)
    if network is None:
        raise ValueError(f"method.lpips needs a TorchScript file of LPIPS; {path} is no TorchScript")
    x = torch.zeros(2, 3, LPIPS_SIZE, LPIPS_SIZE, device=device)
    try:
        with torch.no_grad():
            value = network(x, x)
    except RuntimeError:
        value = None
    if not isinstance(value, Tensor) or value.numel() != len(x) or not bool(value.isfinite().all()):
        raise ValueError(
            f"method.lpips needs a module called as lpips(x, y), which returns a number for each image; {path} does not"
        )
    return network
