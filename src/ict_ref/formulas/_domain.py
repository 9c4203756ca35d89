"""How a formula refuses what lies outside its domain: what it needs, what it got, what to do.

Looking at a tensor's values makes the host wait for an accelerator and cannot be traced by a compiler, so values are
looked at on the CPU only: that is where schedules live and where every test runs. Numbers are always looked at.
"""

import math
from typing import NoReturn

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def refuse(needs: str, got: object, do: str) -> NoReturn:
    """Raise the ValueError of a broken invariant."""
    raise ValueError(f"needs {needs}; got {got}; {do}")


def looks_at(*tensors: Shaped[Tensor, "..."]) -> bool:
    """Return whether the values of these tensors may be looked at (see the module's docstring)."""
    return not torch.compiler.is_compiling() and all(
        tensor.device.type == "cpu" and not torch._C._functorch.is_batchedtensor(tensor) for tensor in tensors
    )


def positive(symbol: str, value: float, source: str) -> None:
    """Refuse a number that is not positive and finite."""
    if not (math.isfinite(value) and value > 0):
        refuse(f"{symbol} > 0 ({source})", f"{symbol} = {value}", f"give a positive, finite {symbol}")


def noise_range(sigma_min: float, sigma_max: float, source: str) -> None:
    """Refuse noise levels that do not satisfy 0 < sigma_min < sigma_max < infinity."""
    if not (math.isfinite(sigma_max) and 0 < sigma_min < sigma_max):
        refuse(
            f"0 < sigma_min < sigma_max ({source})",
            f"sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            "give finite noise levels in this order",
        )


def levels(sigma: Float[Tensor, "..."], source: str) -> None:
    """Refuse noise levels that are not all positive and finite."""
    if looks_at(sigma) and not bool(((sigma > 0) & sigma.isfinite()).all()):
        worst = sigma[~((sigma > 0) & sigma.isfinite())].flatten()[0]
        refuse(f"sigma > 0 ({source})", f"sigma = {float(worst)}", "give positive, finite noise levels")


def ascending(sigmas: Float[Tensor, " n"], source: str) -> None:
    """Refuse a grid of noise levels that has fewer than two levels or does not ascend strictly."""
    if len(sigmas) < 2:
        refuse(f"sigmas with at least two levels ({source})", f"{len(sigmas)}", "give a grid such as sigma_grid(11)")
    levels(sigmas, source)
    if looks_at(sigmas) and not bool((sigmas[1:] > sigmas[:-1]).all()):
        cell = int((sigmas[1:] <= sigmas[:-1]).nonzero()[0])
        refuse(
            f"sigmas that ascend strictly ({source})",
            f"sigmas[{cell}] = {float(sigmas[cell])} and sigmas[{cell + 1}] = {float(sigmas[cell + 1])}",
            "sort them, lowest noise level first",
        )


def same_batch(source: str, **tensors: Shaped[Tensor, "..."]) -> None:
    """Refuse tensors whose first axes, the examples, differ in length."""
    sizes = {symbol: len(tensor) for symbol, tensor in tensors.items()}
    if len(set(sizes.values())) > 1:
        refuse(f"the same number of examples in {', '.join(sizes)} ({source})", sizes, "give one entry per example")
