"""The score to distil, from a denoiser D in a TorchScript file or a network file (iCT, Eq. (3); CM)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.config import Method
from ict_ref.formulas import boundary_parameterization, trigflow_level
from ict_ref.utils.torchscript import load_torchscript

LabelledScore: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"], Int64[Tensor, " batch"] | None],
    Float[Tensor, " batch *event"],
]
"""The score at (x, sigma), given the label if there are labels."""


def load_score(
    method: Method, event: tuple[int, ...], *, labels: bool, dtype: torch.dtype, device: torch.device
) -> LabelledScore:
    """Return the score (D(x, sigma) - x) / sigma^2 of the configured denoiser.

    `event` is the shape of an image. The denoiser gets no gradient.

    Raises:
        ValueError: --method.denoiser is empty, cannot be read, or does not denoise images of this shape.
    """
    path, denoiser = Path(method.denoiser), _loaded(method.denoiser)
    denoiser.to(device=device, dtype=dtype)
    for parameter in denoiser.parameters():
        parameter.requires_grad = False

    def score(
        x: Float[Tensor, " batch *event"],
        sigma: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch *event"]:
        arguments = (x, sigma) if labels is None else (x, sigma, labels)
        clean: Tensor = denoiser(*arguments)
        return (clean - x) / sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2

    _try(score, path, event, labels=labels, dtype=dtype, device=device)
    return score


@torch.no_grad()
def trigflow_drift(
    score: Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]],
    x_t: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    *,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch *event"]:
    """Return dx_t/dt = -sin(t) x - sigma_data sigma score(x, sigma) / cos(t) with x = x_t / cos(t).

    Source: sCM, Eq. (3), in the levels sigma = sigma_data tan(t) of the score (Eqs. (29) and (30)). It is
    `trigflow_velocity` in the mean, given x_t.
    """
    column = (len(t), *[1] * (x_t.ndim - 1))
    cos, sin = t.cos().reshape(column), t.sin().reshape(column)
    x, sigma = x_t / cos, trigflow_level(t, sigma_data=sigma_data)
    return -sin * x - sigma_data * sigma.reshape(column) * score(x, sigma) / cos


class Denoiser(torch.nn.Module):
    """D(x, sigma) of a network trained to denoise, with EDM's coefficients: those of f for sigma_min to 0."""

    def __init__(self, network: torch.nn.Module, sigma_data: float) -> None:
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(
        self, x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"], labels: Tensor | None = None
    ) -> Float[Tensor, " batch *event"]:
        """Return the expected clean images, given noisy ones."""
        return boundary_parameterization(
            lambda scaled, noise: self.network(scaled, noise, labels, None),
            x,
            sigma,
            sigma_min=sys.float_info.min,
            sigma_data=self.sigma_data,
        )


def _loaded(name: str) -> torch.nn.Module:
    """Return the denoiser in a TorchScript file or a network file.

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    if not name:
        raise ValueError(
            "--method.denoiser: expected a denoiser to distil, got nothing. Give a TorchScript file, or a network file "
            "written by python -m ict_ref.import_checkpoint."
        )
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"--method.denoiser: expected a file, got {path}, which is not a file")
    module = load_torchscript(path)
    return _imported(path) if module is None else module


def _imported(path: Path) -> torch.nn.Module:
    try:
        checkpoint = load_exported(path)
    except ValueError as error:
        raise ValueError(f"--method.denoiser: expected TorchScript or a network file. {error}") from None
    model = checkpoint.model()
    return model if checkpoint.coefficients == "trigflow" else Denoiser(model.network, checkpoint.sigma_data)


def _try(
    score: LabelledScore, path: Path, event: tuple[int, ...], *, labels: bool, dtype: torch.dtype, device: torch.device
) -> None:
    """Evaluate the score at two images.

    Raises:
        ValueError: the denoiser fails, or returns another shape or a number that is not finite.
    """
    x = torch.zeros(2, *event, dtype=dtype, device=device)
    sigma, of_class = x.new_ones(2), torch.zeros(2, dtype=torch.int64, device=device) if labels else None
    try:
        with torch.no_grad():
            value = score(x, sigma, of_class)
    except (RuntimeError, ValueError, TypeError):
        value = None
    if not isinstance(value, Tensor) or value.shape != x.shape or not bool(value.isfinite().all()):
        called = "D(x, sigma, labels)" if labels else "D(x, sigma)"
        raise ValueError(f"--method.denoiser: expected {called} for images of shape {event}, got {path}, which fails")
