"""The plan of a run as data, and as the tables that the command prints."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ict_ref.config import Config
from ict_ref.plan.count import count
from ict_ref.plan.fit import USABLE, Fit, fits
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.hardware import GB, GPUS, Gpu, peak
from ict_ref.plan.measured import measured_share
from ict_ref.plan.memory import States, state_sizes
from ict_ref.plan.meta_step import left_out, meta_model
from ict_ref.plan.options import PlanOptions, Request
from ict_ref.plan.scaling import Links, ScaledStep, scaled_step, stops_paying

SHARES = (0.3, 0.45)
"""Fractions of the peak that are assumed unless one is given or measured."""
LARGEST = 1024
"""Largest number of GPUs in the table of scaling."""
DAY_S = 86_400
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Activations:
    """The part of the peak that grows with the images, in one precision."""

    precision: str
    recompute: bool
    bytes_per_image: int


@dataclass(frozen=True)
class Speed:
    """The time of a run at a share of the GPU's peak."""

    share: float
    step: ScaledStep
    images_per_second: float
    days: float
    gpu_days: float


@dataclass(frozen=True)
class Plan:
    """The plan of a run."""

    preset: str
    gpu: Gpu
    gpus: int
    batch_size: int
    noise_shards: int
    steps: int
    precision: str
    parameters: int
    states: States
    checkpoint_s: float
    activations: tuple[Activations, ...]
    fit: Fit
    flop_per_image: int
    flop_per_image_recomputed: int
    peak: float
    """FLOP/s of the precision of training."""
    links: Links
    speeds: tuple[Speed, ...]
    scaling: tuple[ScaledStep, ...]
    """Steps at the largest share, on more and more GPUs."""
    stops: ScaledStep | None
    """The step on the smallest power of 2 of GPUs that do not pay."""
    not_counted: tuple[str, ...]
    """Networks of a step that are files."""

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON stores it, with the totals and efficiencies that its classes compute."""
        tree = dataclasses.asdict(self)
        tree["fit"]["memory"]["total"] = self.fit.memory.total
        for stored, speed in zip(tree["speeds"], self.speeds, strict=True):
            stored["step"] |= _computed(speed.step)
        for stored, step in zip(tree["scaling"], self.scaling, strict=True):
            stored |= _computed(step)
        if self.stops is not None:
            tree["stops"] |= _computed(self.stops)
        return tree


def _computed(step: ScaledStep) -> dict[str, Any]:
    return {"efficiency": step.efficiency, "pays": step.pays}


def plan(request: Request) -> Plan:
    """Return the plan that a command line asks for.

    Raises:
        ValueError: an update does not fit the GPUs, or a file cannot be used.
        OSError: a file cannot be read.
    """
    options, config = request.options, request.options.config
    gpu = GPUS[options.gpu]
    fit = fits(
        config, processes=options.gpus, bytes_free=gpu.memory_bytes, accumulate=request.accumulate,
        recompute=request.recompute,
    )  # fmt: skip
    model, states = meta_model(config), state_sizes(config)
    links = Links(options.gpus_per_node, gpu.interconnect, options.network_rate * GB)
    repeated = flop_per_image(config, recompute=True)
    flop = repeated if fit.recompute else flop_per_image(config)

    def at(gpus: int, share: float) -> ScaledStep:
        return scaled_step(
            gpus,
            work_s=config.train.batch_size * flop / (share * peak(gpu, config)),
            batch_size=config.train.batch_size,
            noise_shards=config.train.noise_shards,
            largest_microbatch=fit.images,
            gradient=states.parameters,
            links=links,
        )

    shares = _shares(options)
    return Plan(
        preset=options.preset or "",
        gpu=gpu,
        gpus=options.gpus,
        batch_size=config.train.batch_size,
        noise_shards=config.train.noise_shards,
        steps=config.train.steps,
        precision=config.train.precision,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        states=states,
        checkpoint_s=states.checkpoint / (options.disk_rate * GB),
        activations=tuple(activations(config)),
        fit=fit,
        flop_per_image=flop_per_image(config),
        flop_per_image_recomputed=repeated,
        peak=peak(gpu, config),
        links=links,
        speeds=tuple(_speed(at(options.gpus, share), share, config) for share in shares),
        scaling=tuple(at(8 << power, max(shares)) for power in range((LARGEST // 8).bit_length())),
        stops=stops_paying(lambda gpus: at(gpus, max(shares))),
        not_counted=left_out(config),
    )


def _shares(options: PlanOptions) -> tuple[float, ...]:
    if options.measured is None:
        return options.share or SHARES
    config = options.config
    compiled = config.machine.compiles("cuda", config.train.steps)
    return (measured_share(options.measured, config.network.architecture, compiled=compiled),)


def _speed(step: ScaledStep, share: float, config: Config) -> Speed:
    days = config.train.steps * step.step_s / DAY_S
    return Speed(share, step, config.train.batch_size / step.step_s, days, days * step.gpus)


def activations(config: Config) -> Iterable[Activations]:
    """Yield the activations of one image in float32 and in 16 bits, or in float64 for a run in float64.

    TF32 needs as much as float32, and bfloat16 as much as float16.
    """
    policies: tuple[Literal["float64", "float32", "float16"], ...] = ("float32", "float16")
    for precision in ("float64",) if config.train.precision == "float64" else policies:
        chosen = dataclasses.replace(config, train=dataclasses.replace(config.train, precision=precision))
        for recompute in (False, True):
            _, per_image = count(chosen, recompute=recompute).peak(config.train.batch_size)
            yield Activations(precision, recompute, per_image)


def text(planned: Plan) -> str:
    """Return the plan as tables."""
    return "\n\n".join(
        part for part in (_head(planned), _memory(planned), _time(planned), _scaling(planned), _notes(planned)) if part
    )


def _head(planned: Plan) -> str:
    gpus = f"{planned.gpus} x {planned.gpu.name}"
    size = f"batch {planned.batch_size:,}, {planned.steps:,} steps"
    return f"{planned.preset} on {gpus}: {size}, {planned.precision}"


def _memory(planned: Plan) -> str:
    fit, memory = planned.fit, planned.fit.memory
    fields = ("parameters", "gradients", "moments", "ema", "teacher", "activations", "buffers", "total")
    rows: list[tuple[str, ...]] = [("memory of one process at its peak", "GiB")]
    rows += [(f"  {name}", f"{getattr(memory, name) / GIB:.2f}") for name in fields if getattr(memory, name)]
    rows += [("activations of one image", "MiB")]
    for one in planned.activations:
        kind = f"  {one.precision}{', recomputed' if one.recompute else ''}"
        rows.append((kind, f"{one.bytes_per_image / MIB:.0f}"))
    free = planned.gpu.memory_bytes / GIB
    setting = f"--machine.accumulate {fit.accumulate}{' --machine.recompute' if fit.recompute else ''}"
    size = planned.states.checkpoint
    return "\n".join(
        [
            f"parameters {planned.parameters:,}",
            _table(rows),
            f"fits {USABLE:.0%} of {free:.0f} GiB with {setting}: {fit.images} images per microbatch",
            f"checkpoint {size / GIB:.2f} GiB, {planned.checkpoint_s:.1f} s to write",
        ]
    )


def _time(planned: Plan) -> str:
    rows: list[tuple[str, ...]] = [("share of peak", "step, s", "images/s", "days", "GPU-days")]
    for speed in planned.speeds:
        numbers = (speed.step.step_s, speed.images_per_second, speed.days, speed.gpu_days)
        rows.append((f"  {speed.share:.0%}", *(f"{number:,.4g}" for number in numbers)))
    repeated = f", {planned.flop_per_image_recomputed / 1e9:.1f} with recomputation"
    counted = f"{planned.flop_per_image / 1e9:.1f} GFLOP per image{repeated}; peak {planned.peak / 1e12:.0f} TFLOP/s"
    return f"{counted}\n{_table(rows)}"


def _scaling(planned: Plan) -> str:
    share = max(speed.share for speed in planned.speeds)
    rows: list[tuple[str, ...]] = [
        (f"GPUs, at {share:.0%} of peak", "microbatches", "step, s", "all-reduce, s", "efficiency", "")
    ]
    for step in planned.scaling:
        numbers = (f"{step.step_s:.4g}", f"{step.exchange_s:.2g}", f"{step.efficiency:.0%}")
        mark = "" if step.is_allowed else f"does not divide {planned.noise_shards} noise shards"
        rows.append((f"  {step.gpus}", str(step.microbatches), *numbers, mark))
    definition = "they do not divide the noise shards, or compute in less than half of a step"
    limit = "more than 1,000,000" if planned.stops is None else str(planned.stops.gpus)
    return f"{_table(rows)}\nmore GPUs stop paying at {limit} (the smallest power of 2 at which {definition})"


def _notes(planned: Plan) -> str:
    links = planned.links
    within, between = (f"{rate / GB:.0f} GB/s" for rate in (links.within_node, links.between_nodes))
    notes = [
        f"Links of each GPU: {within} in a node of {links.gpus_per_node}, {between} between nodes.",
        "Small microbatches reach a smaller share of the peak; the table assumes the same.",
        "Memory excludes the CUDA context, cuDNN's workspaces and nccl's buffers.",
    ]
    if planned.not_counted:
        notes.append(f"Not counted: {' and '.join(planned.not_counted)}, which --config {planned.preset} needs.")
    return "\n".join(notes)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        last = len(row) - 1
        cells = [
            cell.ljust(width) if k == 0 or (k == last and k > 4) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
