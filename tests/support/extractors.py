"""TorchScript feature extractors, called as NVIDIA's translation of Inception is, and otherwise."""

from pathlib import Path

import torch
from torch import Tensor, nn


class Public(nn.Module):
    """Takes and returns what public FID code does of inception-2015-12-05.pt: 5 features, 4 classes with a bias."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = nn.Parameter(torch.randn(12, 5, generator=generator) / 64)
        self.classes = nn.Parameter(torch.randn(5, 4, generator=generator))
        self.bias = nn.Parameter(torch.tensor([5.0, 0.0, 0.0, 0.0]))

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        """Return features, or probabilities."""
        assert img.dtype == torch.uint8
        assert img.shape[1] == 3
        x = torch.nn.functional.adaptive_avg_pool2d(img.float(), 2).flatten(1)
        features = (x @ self.features).abs()
        if return_features:
            return features
        logits = features @ self.classes
        return (logits if no_output_bias else logits + self.bias).softmax(1)


class FeaturesAlone(nn.Module):
    """Has return_features, as NVIDIA's VGG-16 does, and no classes."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        """Return the means of rows."""
        assert return_features
        return img.float().mean(3).flatten(1)


class OfFloats(nn.Module):
    """Any other: takes float images and returns features [n, d, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of rows."""
        assert x.dtype == torch.float32
        return x.mean(3).reshape(x.shape[0], -1, 1, 1)


class Pair(nn.Module):
    """Returns features and probabilities at once."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return them."""
        features = x.mean(3).flatten(1)
        return features, features.softmax(1)


class Logits(nn.Module):
    """An extractor whose output is not a probability distribution."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features twice."""
        features = x.mean(3).flatten(1)
        return features, features


class NotFinite(nn.Module):
    """Returns an infinity."""

    def forward(self, x: Tensor) -> Tensor:
        """Return it."""
        return x.mean(3).flatten(1) / 0


class OneNumber(nn.Module):
    """Returns one number for all images."""

    def forward(self, x: Tensor) -> Tensor:
        """Return their mean."""
        return x.mean()


class Picky(nn.Module):
    """Fails on any image."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply shapes that do not fit."""
        return x.flatten(1) @ torch.ones(7, 7)


def saved(module: nn.Module, folder: Path) -> Path:
    """Return the file of the module."""
    path = folder / f"{type(module).__name__}.pt"
    torch.jit.script(module).save(str(path))  # type: ignore[no-untyped-call]
    return path
