"""Wrong training steps: variations of the right one, each with the findings that it should have."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tests.support import training_steps as right
from tests.support.training_steps import DATA, RIGHT, TrainingStep, doubling, grid, huber, lognormal, out, root, skip
from torch import Tensor

Findings = dict[str, str | None]
"""The deviation of each finding, by its name."""


def k_prime(how: Any) -> Any:
    return lambda step, total: min(10 * 2 ** math.floor(step / how(total / 8)), 1280) + 1


def ceiling(how: Any) -> Any:
    return lambda step, total: min(10 * 2 ** math.ceil(step / how(total / 8)), 1280) + 1


def shifted(by: int) -> Any:
    return lambda step, total: doubling(max(0, min(step + by, total - 1)), total)


def in_float32_only_from(n: int) -> Any:
    return lambda sigmas, batch: (right.uniform if len(sigmas) >= n else lognormal)(sigmas, batch)


CURRICULA: dict[str, tuple[TrainingStep, Findings]] = {
    "K' rounded up": (replace(RIGHT, levels=k_prime(math.ceil)), {"curriculum": None}),
    "K' rounded": (replace(RIGHT, levels=k_prime(round)), {"curriculum": None}),
    "k / K' rounded up": (replace(RIGHT, levels=ceiling(math.floor)), {"curriculum": None}),
    "k / K' and K' rounded up": (replace(RIGHT, levels=ceiling(math.ceil)), {"curriculum": None}),
    "K' not rounded": (replace(RIGHT, levels=k_prime(float)), {"curriculum": None}),
    "one stage early": (replace(RIGHT, levels=shifted(1000)), {"curriculum": None}),
    "one stage late": (replace(RIGHT, levels=shifted(-1000)), {"curriculum": None}),
    "steps from 1": (replace(RIGHT, levels=shifted(1)), {"curriculum": None}),
    "no + 1": (replace(RIGHT, levels=lambda k, total: doubling(k, total) - 1), {"curriculum": None}),
    "one more": (replace(RIGHT, levels=lambda k, total: doubling(k, total) + 1), {"curriculum": None}),
    "skips 641": (
        replace(RIGHT, levels=lambda k, total: {641: 1281}.get(doubling(k, total), doubling(k, total))),
        {"curriculum": None},
    ),
    "the sqrt curriculum of CT": (replace(RIGHT, levels=root), {"curriculum": None}),
    "the sqrt curriculum without + 1": (
        replace(RIGHT, levels=lambda k, total: root(k, total, 2, 150)),
        {"curriculum": "NoPlusOne"},
    ),
    "constant": (replace(RIGHT, levels=lambda k, total: 1281), {"curriculum": None}),
    "capped": (replace(RIGHT, levels=lambda k, total: min(doubling(k, total), 161)), {"curriculum": None}),
    "examples": (
        replace(RIGHT, levels=lambda k, total: doubling(min(64 * k, total - 1), total)),
        {"curriculum": None},
    ),
    "unknown": (replace(RIGHT, levels=lambda k, total: 20 + k // 100), {"curriculum": None}),
    "rho = 5": (replace(RIGHT, grid=lambda n: grid(n, rho=5.0)), {"grid": None}),
    "sigma_max = 50": (replace(RIGHT, grid=lambda n: grid(n, most=50.0)), {"grid": None}),
    "continuous levels": (
        replace(RIGHT, grid=lambda n: grid(n) * (1 + 0.01 * math.pi * float(torch.rand(())))),
        {"grid": None},
    ),
    "two intervals apart": (replace(RIGHT, apart=2), {"neighbours": None}),
}


def shared_with(other: int) -> Any:
    def normal(x: Tensor) -> Tensor:
        z = torch.randn_like(x)
        z[other] = z[0]
        return z

    return normal


def halves(x: Tensor) -> Tensor:
    z = torch.randn_like(x[: len(x) // 2])
    return torch.cat([z, -z])


def smooth(x: Tensor) -> Tensor:
    z = torch.randn_like(x)
    return (z + 0.3 * z.roll(1, -1)) / math.sqrt(1.09)


def partly_common(x: Tensor) -> Tensor:
    return math.sqrt(0.99) * torch.randn_like(x) + 0.1 * torch.randn_like(x[:1])


class Slow:
    """Noise that depends on that of the step before."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        z = torch.randn_like(x)
        z = z if self.last is None else math.sqrt(0.96) * z + 0.2 * self.last
        self.last = z
        return z


class Repeated:
    """Noise that comes back after 25 steps."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []
        self.count = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.count += 1
        if len(self.kept) < 25:
            self.kept.append(torch.randn_like(x))
        return self.kept[self.count % len(self.kept)]


def one_interval(sigmas: Tensor, batch: int) -> Tensor:
    return lognormal(sigmas, 1).expand(batch)


def in_pairs(sigmas: Tensor, batch: int) -> Tensor:
    return lognormal(sigmas, batch // 2).repeat(2)


def in_order(sigmas: Tensor, batch: int) -> Tensor:
    return lognormal(sigmas, batch).sort().values


def seeded(sigmas: Tensor, batch: int) -> Tensor:
    pmf = torch.special.ndtr((sigmas.log() + 1.1) / 2).diff()
    return torch.multinomial(pmf, batch, replacement=True, generator=torch.Generator().manual_seed(1))


DRAWS: dict[str, tuple[TrainingStep, Findings]] = {
    "uniform": (replace(RIGHT, draw=right.uniform), {"p(i)": None}),
    "uniform from N = 641": (replace(RIGHT, draw=in_float32_only_from(641)), {"p(i)": None}),
    "the sign of P_mean": (replace(RIGHT, draw=lambda s, b: lognormal(s, b, mean=1.1)), {"p(i)": "MeanSign"}),
    "P_mean = -1.2": (replace(RIGHT, draw=lambda s, b: lognormal(s, b, mean=-1.2)), {"p(i)": None}),
    "P_std = 1.9": (replace(RIGHT, draw=lambda s, b: lognormal(s, b, std=1.9)), {"p(i)": None}),
    "p(i) in reverse": (
        replace(RIGHT, draw=lambda s, b: len(s) - 2 - lognormal(s, b)),
        {"p(i)": "MirroredPmf"},
    ),
    "the last interval is never drawn": (
        replace(RIGHT, draw=lambda s, b: lognormal(s, b).clamp_max(len(s) - 3)),
        {"p(i)": None},
    ),
    "one interval for the batch": (replace(RIGHT, draw=one_interval), {"independent_intervals": None}),
    "intervals in pairs": (replace(RIGHT, draw=in_pairs), {"independent_intervals": None}),
    "intervals in order": (replace(RIGHT, draw=in_order), {"independent_intervals": None}),
    "the same intervals at each step": (replace(RIGHT, draw=seeded), {"independent_intervals": None}),
    "noise of two examples": (replace(RIGHT, normal=shared_with(37)), {"independent_noise": None}),
    "opposite noise of halves": (replace(RIGHT, normal=halves), {"independent_noise": None}),
    "noise of neighbouring pixels": (replace(RIGHT, normal=smooth), {"independent_noise": None}),
    "a part of the noise common to a batch": (replace(RIGHT, normal=partly_common), {"independent_noise": None}),
    "noise of neighbouring steps": (replace(RIGHT, normal=Slow()), {"independent_noise": None}),
    "noise that comes back": (replace(RIGHT, normal=Repeated()), {"independent_noise": None}),
    "one noise for all channels": (
        replace(RIGHT, normal=lambda x: torch.randn_like(x[:, :1]).expand_as(x)),
        {"independent_noise": None},
    ),
    "one noise for all steps": (
        replace(RIGHT, normal=lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()),
        {"independent_noise": None},
    ),
    "uniform noise": (
        replace(RIGHT, normal=lambda x: (torch.rand_like(x) - 0.5) * math.sqrt(12)),
        {"normal_noise": None},
    ),
    "noise of mean 0.01": (replace(RIGHT, normal=lambda x: torch.randn_like(x) + 0.01), {"normal_noise": None}),
}

POINTS: dict[str, tuple[TrainingStep, Findings]] = {
    "raw sigma": (replace(RIGHT, c_noise=lambda sigma: sigma), {"c_noise": "RawSigmaNoise"}),
    "1000 log(sigma) / 4": (replace(RIGHT, c_noise=lambda sigma: 250 * sigma.log()), {"c_noise": "ScaledNoise"}),
    "log(sigma)": (replace(RIGHT, c_noise=lambda sigma: sigma.log()), {"c_noise": None}),
    "an index for c_noise": (
        replace(RIGHT, c_noise=lambda sigma: (sigma.log() * 7 + 44).round()),
        {"c_noise": None},
    ),
    "no c_in": (replace(RIGHT, c_in=torch.ones_like), {"c_in": "NoInputScaling"}),
    "the square of c_in": (replace(RIGHT, c_in=lambda sigma: 1 / (sigma**2 + DATA**2)), {"c_in": "SquaredCIn"}),
    "c_in with sigma_data = 1": (replace(RIGHT, c_in=lambda sigma: (sigma**2 + 1).rsqrt()), {"c_in": None}),
    "an unknown c_in": (replace(RIGHT, c_in=lambda sigma: 1 / (1 + sigma.sqrt())), {"c_in": None}),
    "different noise": (
        replace(RIGHT, other_normal=lambda z, x: torch.randn_like(x)),
        {"one_path": None},
    ),
    "the same noisy point": (
        replace(RIGHT, points=lambda x, z, other, low, high: (x + low * z, x + low * z)),
        {"one_path": "SameNoise"},
    ),
    "the student's point for both": (
        replace(RIGHT, points=lambda x, z, other, low, high: (x + high * z, x + high * z)),
        {"one_path": None},
    ),
    "x sigma z": (
        replace(RIGHT, points=lambda x, z, other, low, high: (x * high * z, x * low * z)),
        {"one_path": "MultiplicativeNoise"},
    ),
    "noise twice as strong": (replace(RIGHT, normal=lambda x: 2 * torch.randn_like(x)), {"unit_noise": None}),
    "noise 2 % too weak": (replace(RIGHT, normal=lambda x: 0.98 * torch.randn_like(x)), {"unit_noise": None}),
    "images in [0, 1]": (replace(RIGHT, images=lambda x: (x + 1) / 2), {"one_path": None}),
    "masks not shared": (replace(RIGHT, share_dropout=False), {"shared_dropout": None}),
    "the teacher in evaluation mode": (replace(RIGHT, evaluates="teacher"), {"shared_dropout": None}),
    "both in evaluation mode": (replace(RIGHT, evaluates="student teacher"), {"shared_dropout": None}),
    "gradient through the teacher": (replace(RIGHT, gradient="student teacher"), {"stop_gradient": None}),
    "the student at the lower level": (replace(RIGHT, swapped=True), {"stop_gradient": "SwappedLevels"}),
    "no gradient": (replace(RIGHT, gradient=""), {"stop_gradient": None}),
}


def above(low: Tensor, high: Tensor, sigmas: Tensor) -> Tensor:
    index = torch.searchsorted(sigmas, high.flatten()).clamp_max(len(sigmas) - 2)
    return 1 / (sigmas[index + 1] - sigmas[index]).reshape(low.shape)


def small_at_the_end(sigma: Tensor) -> Tensor:
    return out(sigma) + 2e-5 * (sigma < 0.0021)


def mirroring(x: Tensor, step: int) -> None:
    x.copy_(x.flip(-1))


LOSSES: dict[str, tuple[TrainingStep, Findings]] = {
    "EDM's c_skip": (replace(RIGHT, c_skip=lambda s: skip(s, least=0)), {"coefficients": "EdmSkip"}),
    "EDM's c_out": (replace(RIGHT, c_out=lambda s: out(s, least=0)), {"coefficients": "SigmaInCOut"}),
    "EDM's coefficients": (
        replace(RIGHT, c_skip=lambda s: skip(s, least=0), c_out=lambda s: out(s, least=0)),
        {"coefficients": "EdmCoefficients"},
    ),
    "diffusers' coefficients": (
        replace(RIGHT, c_skip=lambda s: skip(s, least=0), c_out=lambda s: out(s, least=0) / DATA),
        {"coefficients": "DiffusersScalings"},
    ),
    "half of c_out": (replace(RIGHT, c_out=lambda s: out(s) / 2), {"coefficients": None}),
    "sigma_data = 1 in c_skip": (replace(RIGHT, c_skip=lambda s: skip(s, data=1)), {"coefficients": None}),
    "sigma_data = 1 in c_out": (replace(RIGHT, c_out=lambda s: out(s, data=1)), {"coefficients": None}),
    "no skip": (replace(RIGHT, c_skip=torch.zeros_like, c_out=torch.ones_like), {"coefficients": None}),
    "an unknown c_skip": (replace(RIGHT, c_skip=lambda s: 1 / (1 + s)), {"coefficients": None}),
    "f cut to [-1, 1]": (replace(RIGHT, output=lambda f: f.clamp(-1, 1)), {"coefficients": "ClampedOutput"}),
    "an effect at sigma_min": (replace(RIGHT, c_out=small_at_the_end), {"boundary": None}),
    "elementwise": (replace(RIGHT, distance=right.elementwise), {"distance": "Elementwise"}),
    "elementwise, summed": (
        replace(RIGHT, distance=lambda d: d[0].numel() * right.elementwise(d)),
        {"distance": "ElementwiseSum"},
    ),
    "squared": (replace(RIGHT, distance=lambda d: d.flatten(1).square().sum(1)), {"distance": None}),
    "mean of squares": (
        replace(RIGHT, distance=lambda d: d.flatten(1).square().mean(1)),
        {"distance": "MeanReduction"},
    ),
    "the norm": (replace(RIGHT, distance=lambda d: huber(d, 1e-9)), {"distance": None}),
    "mean of absolute values": (
        replace(RIGHT, distance=lambda d: d.flatten(1).abs().mean(1)),
        {"distance": "L1MeanReduction"},
    ),
    "Cauchy": (
        replace(RIGHT, distance=lambda d: torch.log1p(d.flatten(1).square().sum(1) / 2 / 0.01**2)),
        {"distance": None},
    ),
    "c = 0.06": (replace(RIGHT, distance=lambda d: huber(d, 0.06)), {"huber_constant": "HardCodedC"}),
    "c = 1": (replace(RIGHT, distance=lambda d: huber(d, 1.0)), {"huber_constant": None}),
    "c of another size": (
        replace(RIGHT, distance=lambda d: huber(d, 0.00054 * math.sqrt(3072))),
        {"huber_constant": None},
    ),
    "c a third": (replace(RIGHT, distance=lambda d: huber(d, 0.00018 * math.sqrt(48))), {"huber_constant": None}),
    "no weight": (replace(RIGHT, weight=lambda low, high, _: torch.ones_like(low)), {"weight": None}),
    "the weight of the interval above": (replace(RIGHT, weight=above), {"weight": None}),
    "the weight 1 / sigma": (replace(RIGHT, weight=lambda low, high, _: 1 / high), {"weight": None}),
    "a capped weight": (
        replace(RIGHT, weight=lambda low, high, _: (1 / (high - low)).clamp_max(1000)),
        {"weight": None},
    ),
    "an unknown weight": (replace(RIGHT, weight=lambda low, high, _: 1 / (high - low + low) ** 0.7), {"weight": None}),
    "divided by sqrt(d)": (replace(RIGHT, distance=lambda d: huber(d) / math.sqrt(48)), {"loss": None}),
    "summed over the batch": (replace(RIGHT, reduce=torch.sum), {"loss": None}),
    "rounded to bfloat16": (
        replace(RIGHT, reduce=lambda losses: losses.mean().bfloat16().double()),
        {"loss": None},
    ),
    "NaN hidden": (replace(RIGHT, reduce=lambda losses: losses.nanmean()), {"nan": None}),
    "ten times too small a gradient": (
        replace(RIGHT, reduce=lambda losses: 0.1 * losses.mean() + 0.9 * losses.mean().detach()),
        {"gradient": None},
    ),
    "the gradient points the other way": (
        replace(RIGHT, reduce=lambda losses: 2 * losses.mean().detach() - losses.mean()),
        {"gradient": None},
    ),
    "the images are changed": (replace(RIGHT, before=mirroring), {"side_effects": None}),
}

SEVERAL: dict[str, tuple[TrainingStep, Findings]] = {
    "Kinyugo": (
        replace(
            RIGHT,
            c_noise=lambda s: s,
            c_in=torch.ones_like,
            share_dropout=False,
            distance=right.elementwise,
        ),
        {"c_noise": "RawSigmaNoise", "c_in": "NoInputScaling", "shared_dropout": None, "distance": "Elementwise"},
    ),
    "BCM": (
        replace(RIGHT, c_noise=lambda s: 250 * s.log(), distance=lambda d: huber(d, 0.06) / math.sqrt(48)),
        {"c_noise": "ScaledNoise", "huber_constant": "HardCodedC", "loss": None},
    ),
    "diffusers": (
        replace(
            RIGHT,
            c_noise=lambda s: 250 * s.log(),
            c_in=lambda s: 1 / (s**2 + DATA**2),
            c_skip=lambda s: skip(s, least=0),
            c_out=lambda s: out(s, least=0) / DATA,
            distance=right.elementwise,
        ),
        {
            "c_noise": "ScaledNoise",
            "c_in": "SquaredCIn",
            "coefficients": "DiffusersScalings",
            "distance": "Elementwise",
        },
    ),
    "CT of junhsss": (
        replace(
            RIGHT,
            c_noise=lambda s: s,
            c_in=torch.ones_like,
            levels=lambda k, total: root(k, total, 2, 150),
            draw=right.uniform,
            weight=lambda low, high, _: torch.ones_like(low),
            c_out=lambda s: out(s, least=0),
            output=lambda f: f.clamp(-1, 1),
            distance=lambda d: d.flatten(1).square().mean(1),
        ),
        {
            "c_noise": "RawSigmaNoise",
            "c_in": "NoInputScaling",
            "curriculum": "NoPlusOne",
            "p(i)": None,
            "weight": None,
            "coefficients": "SigmaInCOut and ClampedOutput",
            "distance": "MeanReduction",
        },
    ),
    "everything else": (
        replace(
            RIGHT,
            levels=shifted(1000),
            draw=right.uniform,
            normal=halves,
            gradient="student teacher",
            weight=lambda low, high, _: torch.ones_like(low),
            reduce=torch.sum,
        ),
        {
            "curriculum": None,
            "p(i)": None,
            "independent_noise": None,
            "stop_gradient": None,
            "weight": None,
            "loss": None,
        },
    ),
}


def reseeding(x: Tensor, step: int) -> None:
    torch.manual_seed(step)


def reseeding_numpy(x: Tensor, step: int) -> None:
    np.random.seed(0)


def reseeding_python(x: Tensor, step: int) -> None:
    random.seed(0)


NOTES: dict[str, tuple[TrainingStep, Findings]] = {
    "torch is seeded by the step": (replace(RIGHT, before=reseeding), {"side_effects": None}),
    "NumPy is reseeded": (replace(RIGHT, before=reseeding_numpy), {"side_effects": None}),
    "Python is reseeded": (replace(RIGHT, before=reseeding_python), {"side_effects": None}),
}

WRONG = CURRICULA | DRAWS | POINTS | LOSSES | SEVERAL
