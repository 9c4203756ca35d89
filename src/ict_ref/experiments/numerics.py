"""Rounding errors of each precision beside the difference that the loss measures: `nox -s numerics`.

At N = 1281 the loss measures d(f(x + sigma_{i+1} z, sigma_{i+1}), f(x + sigma_i z, sigma_i)), where d is linear above
its constant c and flat below. Rounding matters where the error of the difference is not small beside c.

The networks are those of the paper with random weights, scaled so that F has unit variance. On a CPU, TF32, bfloat16
and float16 are emulated: operands and results of convolutions and products are rounded, and sums are in float32.
"""

import copy
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ict_ref.config import PRESETS, Config
from ict_ref.experiments.runs import Table
from ict_ref.formulas import lognormal_pmf, pseudo_huber_constant, sigma_grid
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.networks.precision import use_precision, without_tf32
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.option_parser import Several, parse_options
from ict_ref.utils.progress import bar
from ict_ref.utils.rng import stream

NAME = "ict_ref.experiments.numerics"
EPILOG = "\nexit status: 0 done; 2 rejected, one line gives the reason\n"
EVENTS = {"cifar10": (3, 32, 32), "imagenet64": (3, 64, 64)}
CLASSES = 1000
LEVELS = 1281
QUANTILES = (0.001, 0.1, 0.5, 0.9, 0.999)
"""Quantiles of the distribution p(i) of sampled intervals, at which errors are measured: its central 99.8 %."""
OPERANDS: Mapping[str, int] = {"operands of 11 bits": 11, "operands of 8 bits": 8}
"""Bounds of what a policy can reach: only operands are rounded, to these significant bits; all else is in float64."""
POLICIES = ("float32", "tf32", "float16", "bfloat16")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
PRODUCTS = (F.conv2d, F.conv_transpose2d, F.linear, F.scaled_dot_product_attention)
Rounding = Callable[[Tensor], Tensor]


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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device. auto: a GPU if one is visible, otherwise the CPU, on which the policies of GPUs are emulated."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        for name in ("width", "blocks"):
            value = getattr(self, name)
            expect(value >= 0, f"--{name}", "an integer >= 0", value)
        expect(self.threads >= 1, "--threads", "an integer >= 1", self.threads)


@dataclass(frozen=True)
class Errors:
    """The errors of one network, per noise level in ascending order."""

    c: float
    sigmas: tuple[float, ...]
    true: tuple[float, ...]
    """Norms of f(x_hi, sigma_hi) - f(x_lo, sigma_lo) in float64."""
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


class Emulated(TorchFunctionMode):
    """A context in which convolutions and products round their operands and results.

    With `everywhere` all of them do, as under TF32; without it those that run under autocast do.
    """

    def __init__(self, operand: Rounding, result: Rounding, *, everywhere: bool) -> None:
        super().__init__()
        self.operand, self.result, self.everywhere = operand, result, everywhere

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Round around the operations of PRODUCTS."""
        if func not in PRODUCTS or not (self.everywhere or torch.is_autocast_enabled("cpu")):
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            if func is F.scaled_dot_product_attention:
                q, k, v = (self.operand(value) for value in args)
                shares = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
                return self.result(self.operand(shares) @ v)
            rounded = [self.operand(value) if isinstance(value, Tensor) else value for value in args]
            return self.result(func(*rounded, **(kwargs or {})))


def significant(bits: int) -> Rounding:
    """Return a function that rounds float32 or float64 to this number of significant bits, to nearest (Veltkamp)."""

    def rounded(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        dropped = (53 if x.dtype == torch.float64 else 24) - bits
        large: Tensor = x * (2.0**dropped + 1)
        return large - (large - x)

    return rounded


def unchanged(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x."""
    return x


def rounds_to(dtype: torch.dtype) -> Rounding:
    """Return a function that rounds to a 16-bit dtype, as float32."""
    return lambda x: x.to(dtype).float()


def errors(config: Config, event: tuple[int, int, int], device: torch.device, tick: Callable[[], Any]) -> Errors:
    """Return the errors of each policy on a network with random weights, for images of shape `event`."""
    sigmas = sigma_grid(LEVELS)
    cumulative = lognormal_pmf(sigmas).cumsum(0)
    indices = [int((cumulative < quantile).sum()) for quantile in QUANTILES]
    model = random_model(config, event, device)
    inputs = [_input(k, index, sigmas, event, device) for k, index in enumerate(indices)]
    exact = copy.deepcopy(model).double()
    _give_unit_variance(exact, model, inputs)

    def differences(policy: str) -> list[Float[Tensor, " *event"]]:
        found = []
        for each in inputs:
            found.append(difference(exact if policy in OPERANDS or policy == "float64" else model, each, policy))
            tick()
        return found

    true = differences("float64")
    found = {
        policy: tuple(float((a - b).norm()) for a, b in zip(differences(policy), true, strict=True))
        for policy in (*POLICIES, *OPERANDS)
    }
    levels = tuple(float(sigmas[index]) for index in indices)
    return Errors(pseudo_huber_constant(math.prod(event)), levels, tuple(float(one.norm()) for one in true), found)


@dataclass(frozen=True)
class _Input:
    """An image, its noise, two neighbouring noise levels and a label."""

    x: Float[Tensor, " 1 channels height width"]
    z: Float[Tensor, " 1 channels height width"]
    sigmas: tuple[float, float]
    labels: Tensor | None


def _input(
    k: int, index: int, sigmas: Float[Tensor, " n"], event: tuple[int, int, int], device: torch.device
) -> _Input:
    generator = stream(0, "noise", step=k)
    x = torch.from_numpy(generator.uniform(-1, 1, (1, *event)))
    z = torch.from_numpy(generator.standard_normal((1, *event)))
    label = torch.tensor([k], device=device)
    return _Input(x.to(device), z.to(device), (float(sigmas[index]), float(sigmas[index + 1])), label)


@torch.no_grad()
def difference(model: ConsistencyModel, given: _Input, policy: str) -> Float[Tensor, " *event"]:
    """Return f(x + sigma_hi z, sigma_hi) - f(x + sigma_lo z, sigma_lo) as a policy computes f, in float64."""
    dtype = next(model.parameters()).dtype
    x, z = given.x.to(dtype), given.z.to(dtype)
    labels = given.labels if model.network.embedding.classes else None
    low, high = (torch.full((1,), sigma, dtype=dtype, device=x.device) for sigma in given.sigmas)
    model.autocast = DTYPES.get(policy)
    with without_tf32(), emulation(policy, x.device):
        use_precision(policy)
        f_high, f_low = (model(x + sigma[:, None, None, None] * z, sigma, labels) for sigma in (high, low))
    found: Tensor = f_high.double() - f_low.double()
    return found[0]


def emulation(policy: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context that emulates what a device does not compute itself."""
    if policy in OPERANDS:
        return Emulated(significant(OPERANDS[policy]), unchanged, everywhere=True)
    if device.type == "cuda" or policy not in ("tf32", *DTYPES):
        return nullcontext()
    if policy == "tf32":
        return Emulated(significant(11), unchanged, everywhere=True)
    dtype = DTYPES[policy]
    return Emulated(rounds_to(dtype), lambda x: x.to(dtype), everywhere=False)


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
        noisy, sigma = each.x + each.sigmas[1] * each.z, torch.full((1,), each.sigmas[1]).double().to(each.x.device)
        scaled = noisy / (sigma**2 + exact.sigma_data**2).sqrt()
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
            found = errors(config, EVENTS[name], torch.device(kind), progress.update)
        size = f"width {network.width}, {network.blocks} blocks"
        title = f"{name}, {size}, N = {LEVELS}, c = {found.c:.4f}, on {kind}"
        print(found.table(title).text(), end="\n\n", flush=True)
        worst = {policy: f"{found.worst(policy):.3g} c" for policy in found.errors}
        print(f"largest errors: {', '.join(f'{policy} {value}' for policy, value in worst.items())}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
