"""The embedding of the noise level and the label, which all blocks of a network get."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.formulas import fourier_embedding, positional_embedding
from ict_ref.networks.precision import in_full_precision

PERIOD = 10_000.0
"""Inverse of the positional embedding's lowest frequency, which ADM's stays one step above and DDPM++'s has."""


class NoiseFeatures(nn.Module):
    """Fixed features of the noise level, in float32 or better whatever the dtype of the network.

    Positional embeddings have `width` values. Fourier embeddings have twice as many, of `width` frequencies that are
    sampled once and never trained. The frequencies belong to the network's state and its checkpoints.
    """

    frequencies: Tensor

    def __init__(self, options: Network) -> None:
        super().__init__()
        self.width, self.time_scale = options.width, options.time_scale
        self.fourier = options.embedding == "fourier"
        self.has_end = options.architecture == "ddpmpp"
        self.count = 2 * options.width if self.fourier else options.width
        if self.fourier:
            self.register_buffer("frequencies", torch.zeros(options.width))

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, " batch features"]:
        """Return the embedding of time_scale * c_noise."""
        c = self.time_scale * at_least_float32(c_noise)
        if self.fourier:
            return fourier_embedding(c, self.frequencies)
        half = self.width // 2
        # With this period the last of the `half` frequencies is 1 / PERIOD.
        period = PERIOD ** (half / (half - 1)) if self.has_end and half > 1 else PERIOD
        return positional_embedding(c, self.width, max_period=period)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NoiseFeatures":
        # A network in bfloat16 keeps exact frequencies: with 8 bits, the phases 2 pi c w would be off by radians.
        exact = self.frequencies if self.fourier else None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if exact is not None and self.frequencies.dtype.itemsize < 4:
            self.frequencies = exact.to(self.frequencies.device)
        return self


class Embedding(nn.Module):
    """silu(MLP(noise level)) for all blocks, with classes also of the label.

    ADM adds a vector per class to the MLP's output (Dhariwal & Nichol 2021; CM, public ImageNet code). NCSN++ and
    DDPM++ add a bias-free linear map of sqrt(classes) times the one-hot label to the MLP's input (EDM, public code).
    """

    def __init__(self, options: Network, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.features = NoiseFeatures(options)
        out = 4 * options.width
        self.linear0, self.linear1 = nn.Linear(self.features.count, out), nn.Linear(out, out)
        self.label: nn.Embedding | nn.Linear | None = None
        if classes > 0:
            first = options.architecture != "adm"
            self.label = nn.Linear(classes, self.features.count, bias=False) if first else nn.Embedding(classes, out)

    def forward(
        self, c_noise: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, " batch out"]:
        """Return the embedding.

        Raises:
            ValueError: there are labels without classes, or classes without labels.
        """
        if (labels is None) != (self.label is None):
            expected, got = ("None", "labels") if self.label is None else ("labels", "None")
            advice = "Whether a network needs labels is fixed by --data.labels."
            raise ValueError(f"labels: expected {expected}, got {got}. {advice}")
        with in_full_precision(c_noise.device):
            e = self.features(c_noise).to(self.linear0.weight.dtype)
            if isinstance(self.label, nn.Linear) and labels is not None:
                # F.one_hot would read the labels' values on the host.
                one_hot = (labels[:, None] == torch.arange(self.classes, device=labels.device)).to(e.dtype)
                e = e + self.label(math.sqrt(self.classes) * one_hot)
            e = self.linear1(F.silu(self.linear0(e)))
            if isinstance(self.label, nn.Embedding):
                e = e + self.label(labels)
            return F.silu(e)


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x, in float32 if its dtype has fewer bytes."""
    return x.float() if x.dtype.itemsize < 4 else x
