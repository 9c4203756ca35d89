"""LPIPS, the learned perceptual distance of CT and CD: VGG16's features and one weight per channel.

LPIPS is Zhang et al. 2018, arXiv:1801.03924; VGG16 is Simonyan & Zisserman 2015, arXiv:1409.1556. The weights are those
of the published files, whose names of tensors this module keeps.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Pooling = Literal["max", "average"]
BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
"""Channels of VGG16's blocks: those of the input, and after each convolution. Pooling is between blocks."""
# Mean and standard deviation of ImageNet's channels, for values from 0 to 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Constant of the published code, which keeps features of length 0 finite.
EPSILON = 1e-10


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors by their published names.

    Convolutions have the names of torchvision's VGG16, where ReLU and pooling count as layers. The weights of channels
    have those of the file lpips/weights/v0.1/vgg.pth.
    """
    found: dict[str, tuple[int, ...]] = {}
    layer = 0
    for block in BLOCKS:
        for before, after in pairwise(block):
            found[f"features.{layer}.weight"] = (after, before, 3, 3)
            found[f"features.{layer}.bias"] = (after,)
            layer += 2
        layer += 1
    return found | {f"lin{k}.model.1.weight": (1, block[-1], 1, 1) for k, block in enumerate(BLOCKS)}


class Lpips(nn.Module):
    """LPIPS of pairs of images, with frozen weights.

    `pooling` is that between VGG16's blocks: max as published and in CM's JAX code, or average as in CM's PyTorch code.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, state: Mapping[str, Float[Tensor, "..."]], pooling: Pooling) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        for name in shapes():
            self.register_buffer(name.replace(".", "_"), state[name].detach().clone())
        self.register_buffer("mean", torch.tensor(MEAN).reshape(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(-1, 1, 1))

    def forward(
        self, x: Float[Tensor, " batch 3 height width"], y: Float[Tensor, " batch 3 height width"]
    ) -> Float[Tensor, " batch"]:
        """Return the sum over blocks of the mean over pixels of sum_c w_c (u_c(x) - u_c(y))^2.

        u are the features of a pixel, divided by their Euclidean norm. Images have values from -1 to 1, and sides of 16
        pixels or more.

        Source: LPIPS, Eq. (1).
        """
        total = x.new_zeros(len(x))
        for k, (a, b) in enumerate(zip(self._features(x), self._features(y), strict=True)):
            weights: Tensor = getattr(self, f"lin{k}_model_1_weight").to(a.dtype)
            total = total + (weights * (a - b) ** 2).sum(1).mean((1, 2))
        return total

    def _features(self, images: Float[Tensor, " batch 3 height width"]) -> Iterator[Float[Tensor, " batch c h w"]]:
        """Yield the unit features after each block."""
        h = ((images + 1) / 2 - self.mean) / self.deviation
        layer = 0
        for block in BLOCKS:
            if layer > 0:
                h = F.max_pool2d(h, 2) if self.pooling == "max" else F.avg_pool2d(h, 2)
                layer += 1
            for _ in block[1:]:
                weight, bias = (getattr(self, f"features_{layer}_{name}").to(h.dtype) for name in ("weight", "bias"))
                h = F.conv2d(h, weight, bias, padding=1).relu()
                layer += 2
            yield h / (torch.linalg.vector_norm(h, dim=1, keepdim=True) + EPSILON)
