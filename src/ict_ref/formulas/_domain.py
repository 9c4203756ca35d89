"""Checks of a formula's domain, each with an error message: the requirement, the value and the remedy.

Reading a tensor's values blocks the host until an accelerator has computed them, and a compiler cannot trace it.
Therefore values are checked on the CPU only, where schedules and all tests run. Python numbers are always checked.
"""

import math
from typing import NoReturn

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def refuse(expected: str, got: object, advice: str) -> NoReturn:
    """Reject a value.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"expected {expected}, got {got}. {advice[0].upper()}{advice[1:]}.")


def looks_at(*tensors: Shaped[Tensor, "..."]) -> bool:
    """Return whether the values of these tensors can be checked (see the module's docstring)."""
    return not torch.compiler.is_compiling() and all(
        tensor.device.type == "cpu" and not torch._C._functorch.is_batchedtensor(tensor) for tensor in tensors
    )


def positive(symbol: str, value: float, source: str) -> None:
    """Reject a number that is not positive and finite."""
    if not (math.isfinite(value) and value > 0):
        refuse(f"0 < {symbol} < infinity ({source})", f"{symbol} = {value}", f"give a positive, finite {symbol}")


def at_least(symbol: str, value: int, least: int, source: str) -> None:
    """Reject a number below `least`, or NaN."""
    if not value >= least:
        refuse(f"{symbol} >= {least} ({source})", f"{symbol} = {value}", f"give {least} or more")


def noise_range(sigma_min: float, sigma_max: float, source: str) -> None:
    """Reject noise levels that do not satisfy 0 < sigma_min < sigma_max < infinity."""
    if not (math.isfinite(sigma_max) and 0 < sigma_min < sigma_max):
        refuse(
            f"0 < sigma_min < sigma_max < infinity ({source})",
            f"sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            "give finite noise levels in this order",
        )


def levels(sigma: Float[Tensor, "..."], source: str, symbol: str = "sigma") -> None:
    """Reject noise levels that are not all positive and finite."""
    all_positive(symbol, sigma, source, "give positive, finite noise levels")


def all_positive(symbol: str, tensor: Float[Tensor, "..."], source: str, do: str) -> None:
    """Reject a tensor with a value that is not positive and finite."""
    if looks_at(tensor) and not bool(((tensor > 0) & tensor.isfinite()).all()):
        worst = tensor[~((tensor > 0) & tensor.isfinite())].flatten()[0]
        refuse(f"0 < {symbol} < infinity ({source})", f"{symbol} = {float(worst)}", do)


def ascending(sigmas: Float[Tensor, " n"], source: str, symbol: str = "sigmas") -> None:
    """Reject a grid with fewer than two noise levels or one that does not ascend strictly."""
    if len(sigmas) < 2:
        refuse(f"{symbol} with at least two levels ({source})", f"{len(sigmas)}", "give a grid such as sigma_grid(11)")
    levels(sigmas, source, symbol)
    if looks_at(sigmas) and not bool((sigmas[1:] > sigmas[:-1]).all()):
        index = int((sigmas[1:] <= sigmas[:-1]).nonzero()[0])
        refuse(
            f"{symbol} ascending strictly ({source})",
            f"{symbol}[{index}] = {float(sigmas[index])} and {symbol}[{index + 1}] = {float(sigmas[index + 1])}",
            "sort them, lowest noise level first",
        )


def descending(sigmas: Float[Tensor, " levels"], sigma_min: float, source: str) -> None:
    """Reject a sampler's noise levels that do not descend strictly or that leave [sigma_min, infinity)."""
    if len(sigmas) < 1:
        refuse(f"at least one level in sigmas ({source})", "an empty sigmas", "give sigma_max")
    positive("sigma_min", sigma_min, "iCT Section 2")
    levels(sigmas, source, "sigmas")
    if looks_at(sigmas) and not (bool((sigmas[1:] < sigmas[:-1]).all()) and float(sigmas[-1]) >= sigma_min):
        refuse(
            f"sigmas that descend and stay at or above sigma_min = {sigma_min} ({source})",
            f"sigmas = {sigmas.tolist()}",
            "list the levels from sigma_max downwards",
        )


def one_per_level(source: str, noises: Float[Tensor, "..."], sigmas: Float[Tensor, " levels"]) -> None:
    """Reject noises that are not one batch for each of a sampler's noise levels."""
    if noises.ndim < 2 or len(noises) != len(sigmas):
        refuse(
            f"noises [levels, batch, ...], one batch for each of sigmas ({source})",
            f"noises {list(noises.shape)} for {len(sigmas)} levels",
            "give one unit normal for each level",
        )


def finite(symbol: str, value: Float[Tensor, "..."] | float, source: str) -> None:
    """Reject a number or a tensor that contains a NaN or an infinity."""
    if isinstance(value, float | int):
        if not math.isfinite(value):
            refuse(f"finite {symbol} ({source})", f"{symbol} = {value}", "check how it was computed")
    elif looks_at(value) and not bool(value.isfinite().all()):
        worst = float(value[~value.isfinite()].flatten()[0])
        refuse(f"finite {symbol} ({source})", f"{symbol} with {worst} in it", "check how it was computed")


def probabilities(symbol: str, p: Float[Tensor, "*rows entries"], source: str) -> None:
    """Reject values that are negative or do not sum to 1 along the last axis."""
    if p.shape[-1] < 1:
        refuse(f"{symbol} with at least one entry ({source})", f"an empty {symbol}", "give probabilities")
    # A sum of thousands of terms is rounded in the dtype of p.
    slack = max(1e-9, 100 * torch.finfo(p.dtype).eps)
    if looks_at(p) and not (bool((p >= 0).all()) and bool(((p.double().sum(-1) - 1).abs() <= slack).all())):
        total = p.double().sum(-1).flatten()
        worst = float(total[(total - 1).abs().argmax()])
        refuse(f"{symbol} >= 0 with sum 1 ({source})", f"sum {worst}, smallest {float(p.min())}", "give probabilities")


def same_shape(source: str, **tensors: Shaped[Tensor, "..."]) -> None:
    """Reject tensors of different shapes or without a batch axis; shapes are not broadcast."""
    shapes = {symbol: list(tensor.shape) for symbol, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if first == [] or any(shape != first for shape in shapes.values()):
        got = ", ".join(f"{symbol} {shape}" for symbol, shape in shapes.items())
        of_one = "of one shape, " if len(shapes) > 1 else ""
        refuse(f"{' and '.join(shapes)} {of_one}[batch, ...] ({source})", got, "shapes are not broadcast")


def one_per_example(source: str, **tensors: Shaped[Tensor, "..."]) -> None:
    """Reject tensors that do not have one value for each example of the first one."""
    (of, x), *others = tensors.items()
    for symbol, tensor in others:
        if x.ndim < 1 or tensor.shape != x.shape[:1]:
            refuse(
                f"{symbol} with one value per example of {of} ({source})",
                f"{symbol} {list(tensor.shape)} for {of} {list(x.shape)}",
                f"give one number of {symbol} for each",
            )
