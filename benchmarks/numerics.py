"""Rounding errors of each precision beside the difference that the loss measures: `nox -s numerics`.

At N = 1281 the loss measures d(f(x + sigma_{i+1} z, sigma_{i+1}), f(x + sigma_i z, sigma_i)), where d is linear above
its constant c and flat below. Rounding matters where the error of the difference is not small beside c.

The networks are those of the paper with random weights, scaled so that F has unit variance. On a CPU, TF32, bfloat16
and float16 are emulated.
"""

import copy
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.emulation import DTYPES, OPERANDS, emulation
from ict_ref.config import PRESETS, Config
from ict_ref.experiments.runs import Table
from ict_ref.formulas import lognormal_pmf, pseudo_huber_constant, sigma_grid
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.networks.precision import use_precision
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.option_parser import Several, parse_options
from ict_ref.utils.progress import bar
from ict_ref.utils.rng import stream
from ict_ref.utils.tf32 import without_tf32

NAME = "benchmarks.numerics"
EPILOG = "\nexit status: 0 done; 2 rejected, one line gives the reason\n"
EVENTS = {"cifar10": (3, 32, 32), "imagenet64": (3, 64, 64)}
CLASSES = 1000
LEVELS = 1281
QUANTILES = (0.001, 0.1, 0.5, 0.9, 0.999)
"""Quantiles of the distribution p(i) of sampled intervals, at which errors are measured: its central 99.8 %."""
POLICIES = ("float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True)
class NumericsOptions:
    """Print the rounding error of each precision beside the true difference of f at neighbouring noise levels.

    Errors are norms over all values of an image, as multiples of c = 0.00054 sqrt(d).
    """

    only: Several[Literal["cifar10", "imagenet64"]] = ("cifar10", "imagenet64")
    """Networks."""
    width: int = 0
    """Base number of channels; 0: the paper's."""
    blocks: int = 0
    """Residual blocks per resolution stage; 0: the paper's."""
    images: int = 4
    """Images per noise level, over which errors are root mean squares."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device. auto: a GPU if one is visible, otherwise the CPU, on which the policies of GPUs are emulated."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        for name in ("width", "blocks"):
            value = getattr(self, name)
            expect(value >= 0, f"--{name}", "an integer >= 0", value)
        for name in ("images", "threads"):
            value = getattr(self, name)
            expect(value >= 1, f"--{name}", "an integer >= 1", value)


@dataclass(frozen=True)
class Errors:
    """The errors of one network, per noise level in ascending order."""

    c: float
    sigmas: tuple[float, ...]
    true: tuple[float, ...]
    """Norms of f(x_hi, sigma_hi) - f(x_lo, sigma_lo) in float64, root mean squares over images."""
    errors: Mapping[str, tuple[float, ...]]
    """Norms of the error of that difference, by policy."""

    def worst(self, policy: str) -> float:
        """Return the largest error of a policy, as a multiple of c."""
        return max(self.errors[policy]) / self.c

    def table(self, title: str) -> Table:
        """Return a row per noise level, with the true difference and the errors over c."""
        rows = [
            (sigma, true, true / self.c, *(self.errors[policy][k] / self.c for policy in self.errors))
            for k, (sigma, true) in enumerate(zip(self.sigmas, self.true, strict=True))
        ]
        note = "difference: |f(x_hi) - f(x_lo)| in float64; all columns after it are multiples of c"
        return Table(title, ("sigma", "difference", "over c", *self.errors), tuple(rows), note)


def errors(
    config: Config, event: tuple[int, int, int], device: torch.device, tick: Callable[[], Any], images: int = 1
) -> Errors:
    """Return the errors of each policy on a network with random weights, for images of shape `event`."""
    sigmas = sigma_grid(LEVELS)
    cumulative = lognormal_pmf(sigmas).cumsum(0)
    indices = [int((cumulative < quantile).sum()) for quantile in QUANTILES]
    model = random_model(config, event, device)
    inputs = [_input(k, index, sigmas, (images, *event), device) for k, index in enumerate(indices)]
    exact = copy.deepcopy(model).double()
    _give_unit_variance(exact, model, inputs)

    def differences(policy: str) -> list[Float[Tensor, " batch *event"]]:
        found = []
        for each in inputs:
            found.append(difference(exact if policy in OPERANDS or policy == "float64" else model, each, policy))
            tick()
        return found

    true = differences("float64")
    found = {
        policy: tuple(rms_norm(a - b) for a, b in zip(differences(policy), true, strict=True))
        for policy in (*POLICIES, *OPERANDS)
    }
    levels = tuple(float(sigmas[index]) for index in indices)
    return Errors(pseudo_huber_constant(math.prod(event)), levels, tuple(map(rms_norm, true)), found)


def rms_norm(x: Float[Tensor, " batch *event"]) -> float:
    """Return the root mean square of the norms of a batch."""
    return float(x.flatten(1).square().sum(1).mean().sqrt())


@dataclass(frozen=True)
class _Input:
    """Images, their noise, two neighbouring noise levels and labels."""

    x: Float[Tensor, " batch channels height width"]
    z: Float[Tensor, " batch channels height width"]
    sigmas: tuple[float, float]
    labels: Tensor | None


def _input(
    k: int, index: int, sigmas: Float[Tensor, " n"], shape: tuple[int, int, int, int], device: torch.device
) -> _Input:
    generator = stream(0, "noise", step=k)
    x = torch.from_numpy(generator.uniform(-1, 1, shape))
    z = torch.from_numpy(generator.standard_normal(shape))
    label = torch.full(shape[:1], k, device=device)
    return _Input(x.to(device), z.to(device), (float(sigmas[index]), float(sigmas[index + 1])), label)


@torch.no_grad()
def difference(model: ConsistencyModel, given: _Input, policy: str) -> Float[Tensor, " batch *event"]:
    """Return f(x + sigma_hi z, sigma_hi) - f(x + sigma_lo z, sigma_lo) as a policy computes f, in float64."""
    dtype = next(model.parameters()).dtype
    x, z = given.x.to(dtype), given.z.to(dtype)
    labels = given.labels if model.network.embedding.classes else None
    low, high = (torch.full(x.shape[:1], sigma, dtype=dtype, device=x.device) for sigma in given.sigmas)
    model.autocast = DTYPES.get(policy)
    with without_tf32(), emulation(policy, x.device):
        use_precision(policy)
        f_high, f_low = (model(x + sigma[:, None, None, None] * z, sigma, labels) for sigma in (high, low))
    found: Tensor = f_high.double() - f_low.double()
    return found


def random_model(config: Config, event: tuple[int, int, int], device: torch.device) -> ConsistencyModel:
    """Return the model with the last maps of all branches at random, which begin at or near 0."""
    model = build_model(config, event=event, classes=CLASSES).requires_grad_(False)
    generator = stream(0, "parameters", step=1)
    for module in model.network.last_maps():
        weight: Tensor = module.weight  # type: ignore[assignment]
        values = generator.standard_normal(tuple(weight.shape)) / math.sqrt(math.prod(weight.shape[1:]))
        weight.copy_(torch.from_numpy(values))
    return model.to(device)


@torch.no_grad()
def _give_unit_variance(exact: ConsistencyModel, model: ConsistencyModel, inputs: Sequence[_Input]) -> None:
    """Scale the head of both models so that F has unit variance over these inputs."""
    values = []
    for each in inputs:
        noisy, sigma = (
            each.x + each.sigmas[1] * each.z,
            torch.full(each.x.shape[:1], each.sigmas[1]).double().to(each.x.device),
        )
        scaled = noisy / math.sqrt(each.sigmas[1] ** 2 + exact.sigma_data**2)
        labels = each.labels if exact.network.embedding.classes else None
        values.append(exact.network(scaled, sigma.log() / 4, labels))
    scale = 1 / torch.cat(values).std()
    for one in (model, exact):
        weight: Tensor = one.network.last_maps()[0].weight  # type: ignore[assignment]
        weight.mul_(scale.float())
    exact.network.load_state_dict(model.network.state_dict())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: measure(parse_options(NumericsOptions, arguments, NAME, EPILOG)))


def measure(options: NumericsOptions) -> int:
    """Measure and print a table per network; return the exit status."""
    torch.set_num_threads(options.threads)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    for name in options.only:
        preset = PRESETS[name]()
        network = dataclasses.replace(
            preset.network, width=options.width or preset.network.width, blocks=options.blocks or preset.network.blocks
        )
        updates = len(QUANTILES) * (1 + len(POLICIES) + len(OPERANDS))
        with bar(updates, name, "differences") as progress:
            config = dataclasses.replace(preset, network=network)
            found = errors(config, EVENTS[name], torch.device(kind), progress.update, options.images)
        size = f"width {network.width}, {network.blocks} blocks"
        title = f"{name}, {size}, N = {LEVELS}, c = {found.c:.4f}, {options.images} images per noise level, on {kind}"
        print(found.table(title).text(), end="\n\n", flush=True)
        worst = {policy: f"{found.worst(policy):.3g} c" for policy in found.errors}
        print(f"largest errors: {', '.join(f'{policy} {value}' for policy, value in worst.items())}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
