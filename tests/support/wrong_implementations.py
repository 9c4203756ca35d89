"""Wrong implementations, one per deviation: WRONG[deviation] returns the values that the vectors give for it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from tests.support import wrong_successors
from torch import Tensor

F64 = torch.float64


def spread(sigma: Tensor, x: Tensor) -> Tensor:
    """One number per example, broadcastable to x."""
    return sigma.reshape(-1, *(1,) * (x.ndim - 1))


def like(sigma: Tensor | float, x: Tensor) -> Tensor:
    """One level for every example."""
    return torch.full((x.shape[0],), float(sigma), dtype=x.dtype)


def grid(n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """The right levels."""
    t = torch.arange(n, dtype=F64) / (n - 1)
    sigmas: Tensor = (sigma_min ** (1 / rho) + t * (sigma_max ** (1 / rho) - sigma_min ** (1 / rho))) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    return sigmas


def float32_grid(n: int, **numbers: float) -> Tensor:
    return grid(n, **numbers).float().double()


def descending_grid(n: int, **numbers: float) -> Tensor:
    return grid(n, **numbers).flip(0)


def exponential(step: int, total_steps: int, s0: int, s1: int, log2: float) -> int:
    return min(s0 << (step // math.floor(total_steps / (log2 + 1))), s1) + 1


def ratio_not_floored(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    return exponential(step, total_steps, s0, s1, math.log2(s1 / s0))


def float_levels(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> float:
    k = math.floor(total_steps / (math.log2(s1 // s0) + 1))
    return min(s0 * math.pow(2, step // k), s1) + 1.0


def float_log2(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    return exponential(step, total_steps, s0, s1, math.log(s1 // s0) / math.log(2))


def ceil_sqrt(numerator: int, denominator: int) -> int:
    root = math.isqrt(numerator // denominator)
    return root if root * root * denominator >= numerator else root + 1


def printed_table1(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    return math.ceil(math.sqrt(step / total_steps) * ((s1 + 1) ** 2 - s0**2) + s0**2 - 1) + 1


def no_plus_one(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    return ceil_sqrt(step * (s1**2 - s0**2) + s0**2 * total_steps, total_steps)


def no_ceil_shift(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    return ceil_sqrt(step * ((s1 + 1) ** 2 - s0**2) + s0**2 * total_steps, total_steps) - 1


def levels_for_cells(sigmas: Tensor) -> Tensor:
    return torch.full_like(sigmas, 1 / len(sigmas))


def masses(sigmas: Tensor, p_mean: float, p_std: float) -> Tensor:
    """Differences of the error function, in the tails those of erfc."""
    z = (sigmas.log() - p_mean) / (math.sqrt(2) * p_std)
    low, high = z[:-1], z[1:]
    upper, lower = torch.erfc(low) - torch.erfc(high), torch.erfc(-high) - torch.erfc(-low)
    return torch.where(low > 0, upper, lower)


def mean_sign(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    p = masses(sigmas, -p_mean, p_std)
    return p / p.sum()


def mirrored_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    p = masses(sigmas, p_mean, p_std)
    return (p / p.sum()).flip(0)


def float32_erf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    p = torch.erf((sigmas.log() - p_mean) / (math.sqrt(2) * p_std)).float().diff().double()
    return p / p.sum()


def untruncated_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    return masses(sigmas, p_mean, p_std) / 2


def right_search(u: Tensor, pmf: Tensor) -> Tensor:
    last = int((pmf > 0).nonzero().max())
    return torch.searchsorted(pmf.cumsum(0), u, right=True).clamp(max=last)


def cells_from_the_top(u: Tensor, pmf: Tensor) -> Tensor:
    return len(pmf) - 1 - right_search(u, pmf)


def left_search(u: Tensor, pmf: Tensor) -> Tensor:
    return torch.searchsorted(pmf.cumsum(0), u).clamp(max=len(pmf) - 1)


def density_mean_sign(log_sigma: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    return torch.exp(-((log_sigma + p_mean) ** 2) / (2 * p_std**2)) / (math.sqrt(2 * math.pi) * p_std)


def edm_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    del sigma_min
    return sigma_data**2 / (sigma**2 + sigma_data**2)


def sigma_in_c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    del sigma_min
    return sigma_data * sigma / (sigma**2 + sigma_data**2).sqrt()


def diffusers_scalings(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    del sigma_min
    return sigma / (sigma**2 + sigma_data**2).sqrt()


def squared_c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Tensor:
    return 1 / (sigma**2 + sigma_data**2)


def raw_sigma_noise(sigma: Tensor) -> Tensor:
    return sigma.clone()


def scaled_noise(sigma: Tensor) -> Tensor:
    return 1000 * sigma.log() / 4


def parameterized(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, boundary: float, sigma_data: float,
    *, scale_input: bool = True, take_log: bool = True,
) -> Tensor:  # fmt: skip
    s = spread(sigma, x)
    skip = sigma_data**2 / ((s - boundary) ** 2 + sigma_data**2)
    out = sigma_data * (s - boundary) / (s**2 + sigma_data**2).sqrt()
    entry = x / (s**2 + sigma_data**2).sqrt() if scale_input else x
    return skip * x + out * network(entry, sigma.log() / 4 if take_log else sigma)


def edm_coefficients(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    del sigma_min
    return parameterized(network, x, sigma, 0.0, sigma_data)


def no_input_scaling(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    return parameterized(network, x, sigma, sigma_min, sigma_data, scale_input=False)


def raw_sigma_embedded(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    return parameterized(network, x, sigma, sigma_min, sigma_data, take_log=False)


def clamped_output(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    return parameterized(network, x, sigma, sigma_min, sigma_data).clamp(-1, 1)


def cosine_first(c_noise: Tensor, frequencies: Tensor) -> Tensor:
    t = 2 * math.pi * c_noise[:, None] * frequencies
    return torch.cat((t.cos(), t.sin()), 1)


def cos_sin_order(c_noise: Tensor, width: int, *, max_period: float = 10000.0) -> Tensor:
    half = width // 2
    t = c_noise[:, None] * max_period ** (-torch.arange(half, dtype=F64) / half)
    return torch.cat((t.sin(), t.cos()), 1)


def half_minus_one(c_noise: Tensor, width: int, *, max_period: float = 10000.0) -> Tensor:
    half = width // 2
    t = c_noise[:, None] * max_period ** (-torch.arange(half, dtype=F64) / (half - 1))
    return torch.cat((t.cos(), t.sin()), 1)


def rows(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], -1)


def elementwise(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    square = (rows(x) - rows(y)) ** 2
    return (square / ((square + c * c).sqrt() + c)).mean(1)  # the same number as root minus c, without cancellation


def elementwise_sum(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    square = (rows(x) - rows(y)) ** 2
    return (square / ((square + c * c).sqrt() + c)).sum(1)


def cancelled_huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    return (((rows(x) - rows(y)) ** 2).sum(1) + c * c).sqrt() - c


def mean_reduction(x: Tensor, y: Tensor) -> Tensor:
    return ((rows(x) - rows(y)) ** 2).mean(1)


def unsquared_norm(x: Tensor, y: Tensor) -> Tensor:
    return ((rows(x) - rows(y)) ** 2).sum(1).sqrt()


def l1_mean_reduction(x: Tensor, y: Tensor) -> Tensor:
    return (rows(x) - rows(y)).abs().mean(1)


def hard_coded_c(dim: int) -> float:
    del dim
    return 0.06


def teacher_at_higher_level(
    student: Callable[..., Tensor], teacher: Callable[..., Tensor], score: Callable[..., Tensor], x_hi: Tensor,
    index: Tensor, sigmas: Tensor, *, distance: Callable[..., Tensor], weights: Tensor,
) -> Tensor:  # fmt: skip
    low, high = sigmas[index], sigmas[index + 1]
    x_lo = x_hi - spread((low - high) * high, x_hi) * score(x_hi, high)
    return weights[index] * distance(student(x_hi, high), teacher(x_lo, high))


def training(
    student: Callable[..., Tensor], teacher: Callable[..., Tensor], x: Tensor, z: Tensor, index: Tensor,
    sigmas: Tensor, *, distance: Callable[..., Tensor], weights: Tensor, deviation: str,
) -> Tensor:  # fmt: skip
    if deviation == "MirroredIndex":
        index = len(weights) - 1 - index
    low, high = sigmas[index], sigmas[index + 1]
    x_lo, x_hi = x + spread(low, x) * z, x + spread(high, x) * z
    if deviation == "SameNoise":
        x_hi = x_lo
    if deviation == "MultiplicativeNoise":
        x_lo, x_hi = x * spread(low, x) * z, x * spread(high, x) * z
    a, b = student(x_hi, high), teacher(x_lo, low)
    if deviation == "SwappedLevels":
        a, b = student(x_lo, low), teacher(x_hi, high)
    at = (index + 1).clamp(max=len(weights) - 1) if deviation == "UpperLevelWeights" else index
    return weights[at] * distance(a, b)


def training_with(deviation: str) -> Callable[..., Tensor]:
    def consistency_training_loss(*arguments: Any, **named: Any) -> Tensor:
        return training(*arguments, **named, deviation=deviation)

    return consistency_training_loss


def tangent(f: Callable[..., Tensor], x: Tensor, sigma: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    parts: Any = torch.func.jvp(f, (x, sigma), (velocity, torch.ones_like(sigma)))
    return parts[0], parts[1]


def minus_sign_continuous(
    student: Callable[..., Tensor],
    x: Tensor,
    z: Tensor,
    sigma: Tensor,
    *,
    weights: Tensor,
    distance: Callable[..., Tensor],
) -> Tensor:
    value, along = tangent(student, x + spread(sigma, x) * z, sigma, -z)

    def total(a: Tensor) -> Tensor:
        return distance(a, value).sum()

    parts: Any = torch.func.jvp(torch.func.grad(total), (value,), (along,))
    curved = parts[1]
    return weights * rows(value * curved).sum(1)


def dropped_hessian(
    student: Callable[..., Tensor],
    x: Tensor,
    z: Tensor,
    sigma: Tensor,
    *,
    weights: Tensor,
    distance: Callable[..., Tensor],
) -> Tensor:
    del distance
    value, along = tangent(student, x + spread(sigma, x) * z, sigma, z)
    return weights * rows(value * along).sum(1)


def swapped_ema(ema: Tensor, value: Tensor, *, decay: float) -> Tensor:
    return decay * value + (1 - decay) * ema


def renoise_not_rooted(x: Tensor, z: Tensor, *, sigma: float, sigma_min: float = 0.002) -> Tensor:
    del sigma_min
    return x + sigma * z


def steps(
    f: Callable[..., Tensor], x: Tensor, noises: Tensor, sigmas: Tensor, sigma_min: float, cut: float = math.inf
) -> Tensor:
    """From x + sigma_1 z_1 through all levels."""
    for k, sigma in enumerate(sigmas):
        size = sigma if k == 0 else (sigma**2 - sigma_min**2).clamp(min=0).sqrt()
        x = f(x + size * noises[k], like(sigma, x)).clamp(-cut, cut)
    return x


def sigma_not_rooted(f: Callable[..., Tensor], noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Tensor:
    del sigma_min
    return steps(f, torch.zeros_like(noises[0]), noises, sigmas, 0.0)


def clamped_samples(f: Callable[..., Tensor], noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Tensor:
    return steps(f, torch.zeros_like(noises[0]), noises, sigmas, sigma_min, cut=1.0)


def stale_ternary(
    objective: Callable[[Tensor], float],
    sigmas: Tensor,
    *,
    before: tuple[float, ...] = (),
    after: tuple[float, ...] = (),
) -> float:
    nodes: list[float] = [s for s in sigmas.tolist() if (not before or s < before[-1]) and (not after or s > after[0])]

    def value(p: int) -> float:
        return objective(torch.tensor([*before, nodes[p], *after], dtype=F64))

    low, high = 0, len(nodes) - 1
    while high - low >= 3:
        m1, m2 = low + (high - low) // 3, high - (high - low) // 3
        if value(m1) < value(m2):
            high = m2
        else:
            low = m1
    middle = (low + high) // 2
    if low < middle < high and value(middle) < min(value(low), value(high)):
        return nodes[middle]
    return nodes[m1] if value(low) < value(high) else nodes[m2]


def edited(
    f: Callable[..., Tensor], reference: Tensor, operator: Any, mask: Tensor, noises: Tensor, sigmas: Tensor,
    sigma_min: float, first: Tensor, *, transform: bool = True,
) -> Tensor:  # fmt: skip
    known, x = operator.forward(reference), first
    for k, sigma in enumerate(sigmas):
        size = sigma if k == 0 else (sigma**2 - sigma_min**2).clamp(min=0).sqrt()
        made = f(x + size * noises[k], like(sigma, x))
        x = operator.inverse(torch.where(mask, operator.forward(made) if transform else made, known))
    return x


def x_not_transformed(
    f: Callable[..., Tensor], reference: Tensor, operator: Any, mask: Tensor, noises: Tensor, sigmas: Tensor,
    *, sigma_min: float = 0.002,
) -> Tensor:  # fmt: skip
    first = operator.inverse(operator.forward(reference).masked_fill(mask, 0.0))
    return edited(f, reference, operator, mask, noises, sigmas, sigma_min, first, transform=False)


def minus_one_fill(
    f: Callable[..., Tensor], reference: Tensor, operator: Any, mask: Tensor, noises: Tensor, sigmas: Tensor,
    *, sigma_min: float = 0.002,
) -> Tensor:  # fmt: skip
    return edited(f, reference, operator, mask, noises, sigmas, sigma_min, reference.masked_fill(mask, -1.0))


def index_for_level(
    f: Callable[..., Tensor], reference: Tensor, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002
) -> Tensor:
    return steps(f, reference, torch.cat((0 * noises[:1], noises[1:])), sigmas, sigma_min)


def stroke_erased(
    f: Callable[..., Tensor], reference: Tensor, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002
) -> Tensor:
    return steps(f, torch.zeros_like(reference), noises, sigmas, sigma_min)


def whole_batch_angle(z1: Tensor, z2: Tensor, alpha: Tensor) -> Tensor:
    psi = torch.acos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    a = spread(alpha, z1)
    return (torch.sin((1 - a) * psi) * z1 + torch.sin(a * psi) * z2) / torch.sin(psi)


def printed_eq13(
    theta: float, xi: float, *, delta_sigma: float, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> float:
    a, b = sigma_min, sigma_max
    share = 1 - a * math.log(b / a) / (b - a)
    return 2 / b * delta_sigma * (theta - xi) * share


WRONG: dict[str, Callable[..., Any]] = {
    "Float32Grid": float32_grid,
    "DescendingGrid": descending_grid,
    "RatioNotFloored": ratio_not_floored,
    "FloatLevels": float_levels,
    "FloatLog2": float_log2,
    "PrintedTable1": printed_table1,
    "NoPlusOne": no_plus_one,
    "NoCeilShift": no_ceil_shift,
    "LevelsForCells": levels_for_cells,
    "MeanSign": mean_sign,
    "MirroredPmf": mirrored_pmf,
    "Float32Erf": float32_erf,
    "UntruncatedPmf": untruncated_pmf,
    "CellsFromTheTop": cells_from_the_top,
    "LeftSearch": left_search,
    "DensityMeanSign": density_mean_sign,
    "EdmSkip": edm_skip,
    "SigmaInCOut": sigma_in_c_out,
    "DiffusersScalings": diffusers_scalings,
    "SquaredCIn": squared_c_in,
    "RawSigmaNoise": raw_sigma_noise,
    "ScaledNoise": scaled_noise,
    "EdmCoefficients": edm_coefficients,
    "NoInputScaling": no_input_scaling,
    "RawSigmaEmbedded": raw_sigma_embedded,
    "ClampedOutput": clamped_output,
    "CosineFirst": cosine_first,
    "CosSinOrder": cos_sin_order,
    "HalfMinusOne": half_minus_one,
    "Elementwise": elementwise,
    "ElementwiseSum": elementwise_sum,
    "CancelledHuber": cancelled_huber,
    "MeanReduction": mean_reduction,
    "UnsquaredNorm": unsquared_norm,
    "L1MeanReduction": l1_mean_reduction,
    "HardCodedC": hard_coded_c,
    "TeacherAtHigherLevel": teacher_at_higher_level,
    "SwappedLevels": training_with("SwappedLevels"),
    "SameNoise": training_with("SameNoise"),
    "MultiplicativeNoise": training_with("MultiplicativeNoise"),
    "UpperLevelWeights": training_with("UpperLevelWeights"),
    "MirroredIndex": training_with("MirroredIndex"),
    "MinusSignContinuous": minus_sign_continuous,
    "DroppedHessian": dropped_hessian,
    "SwappedEma": swapped_ema,
    "RenoiseNotRooted": renoise_not_rooted,
    "SigmaNotRooted": sigma_not_rooted,
    "ClampedSamples": clamped_samples,
    "StaleTernary": stale_ternary,
    "XNotTransformed": x_not_transformed,
    "MinusOneFill": minus_one_fill,
    "IndexForLevel": index_for_level,
    "StrokeErased": stroke_erased,
    "WholeBatchAngle": whole_batch_angle,
    "PrintedEq13": printed_eq13,
    **wrong_successors.WRONG,
}
