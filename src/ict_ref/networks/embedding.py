"""What the blocks of a network are told: the noise level, and the label."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.formulas import fourier_embedding, positional_embedding


class NoiseFeatures(nn.Module):
    """Fixed features of the noise level, in float32 or better whatever the network computes in.

    Positional: `width` values. Fourier: twice as many, of `width` frequencies that are drawn once and never trained.
    They are part of the network as its parameters are, in its state and its checkpoints.
    """

    frequencies: Tensor

    def __init__(self, options: Network) -> None:
        super().__init__()
        self.width, self.time_scale = options.width, options.time_scale
        self.fourier = options.embedding == "fourier"
        self.count = 2 * options.width if self.fourier else options.width
        if self.fourier:
            self.register_buffer("frequencies", torch.zeros(options.width))

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, " batch features"]:
        """Return the embedding of time_scale * c_noise."""
        c = self.time_scale * at_least_float32(c_noise)
        return fourier_embedding(c, self.frequencies) if self.fourier else positional_embedding(c, self.width)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NoiseFeatures":
        # A network in bfloat16 keeps its frequencies: rounded to 8 bits, phases of 2 pi c w would be off by radians.
        exact = self.frequencies if self.fourier else None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if exact is not None and self.frequencies.dtype.itemsize < 4:
            self.frequencies = exact.to(self.frequencies.device)
        return self


class Embedding(nn.Module):
    """silu(MLP(noise level)), what every block is told; with classes, of the label too.

    ADM adds a vector per class to what the MLP returns (Dhariwal & Nichol 2021; CM, public ImageNet code); NCSN++ a
    bias-free linear map of sqrt(classes) times the one-hot label to what it is given (EDM, public code).
    """

    def __init__(self, options: Network, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.features = NoiseFeatures(options)
        out = 4 * options.width
        self.linear0, self.linear1 = nn.Linear(self.features.count, out), nn.Linear(out, out)
        self.label: nn.Embedding | nn.Linear | None = None
        if classes > 0:
            first = options.architecture == "ncsnpp"
            self.label = nn.Linear(classes, self.features.count, bias=False) if first else nn.Embedding(classes, out)

    def forward(
        self, c_noise: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, " batch out"]:
        """Return the embedding; labels are needed if, and only if, the network has classes."""
        if (labels is None) != (self.label is None):
            needs, got = ("no labels", "labels") if self.label is None else ("labels", "none")
            raise ValueError(f"needs {needs}; got {got}; a network learns with labels or without (data.labels)")
        with in_full_precision(c_noise.device):
            e = self.features(c_noise).to(self.linear0.weight.dtype)
            if isinstance(self.label, nn.Linear) and labels is not None:
                # Not F.one_hot, which looks at the labels' values.
                one_hot = (labels[:, None] == torch.arange(self.classes, device=labels.device)).to(e.dtype)
                e = e + self.label(math.sqrt(self.classes) * one_hot)
            e = self.linear1(F.silu(self.linear0(e)))
            if isinstance(self.label, nn.Embedding):
                e = e + self.label(labels)
            return F.silu(e)


def in_full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a block in which autocast is off: 8 bits do not tell neighbouring noise levels apart."""
    kind = device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x, in float32 if its dtype is narrower."""
    return x.float() if x.dtype.itemsize < 4 else x
