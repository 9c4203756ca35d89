"""The tables of docs/plan.md, in Markdown: memory and time of the paper's presets on A100 GPUs."""

from collections.abc import Callable, Sequence

from ict_ref.config import PRESETS
from ict_ref.plan.fit import fits
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.hardware import GPUS
from ict_ref.plan.memory import state_sizes
from ict_ref.plan.meta_step import meta_model
from ict_ref.plan.report import DAY_S, GIB, MIB, SHARES, activations

PAPER = ("cifar10", "cifar10_deep", "imagenet64", "imagenet64_deep")
"""The presets of the paper's Tables 2 and 3."""
GPU, COUNT = GPUS["a100-80gb"], 8
MEMORY_HEAD = (
    "preset", "parameters", "states, GiB", "checkpoint, GiB", "MiB per image, float32", "recomputed",
    "float16", "recomputed", "precision", "fits 8 A100 of 80 GB",
)  # fmt: skip
TIME_HEAD = (
    "preset", "GFLOP per image", "recomputed", "FLOP of the run",
    *(f"{kind}, {share:.0%}" for kind in ("TF32", "float16") for share in reversed(SHARES)),
)  # fmt: skip


def table() -> str:
    """Return both tables."""
    return f"{_head(MEMORY_HEAD)}\n{_lines(memory_row)}\n\n{_head(TIME_HEAD)}\n{_lines(time_row)}"


def memory_row(preset: str) -> str:
    """Return a preset's states and checkpoint, activations of an image in each precision, and setting that fits."""
    config = PRESETS[preset]()
    states, fit = state_sizes(config), fits(config, processes=COUNT, bytes_free=GPU.memory_bytes)
    kept = 2 * states.parameters + states.moments + states.ema + states.teacher
    parameters = sum(parameter.numel() for parameter in meta_model(config).parameters())
    sizes = [f"{size / GIB:.1f}" for size in (kept, states.checkpoint)]
    per_image = [f"{one.bytes_per_image / MIB:.0f}" for one in activations(config)]
    setting = f"`--machine.accumulate {fit.accumulate}{' --machine.recompute' if fit.recompute else ''}`"
    precision = f"`{config.train.precision}`"
    return _row([f"`{preset}`", _spaced(parameters), *sizes, *per_image, precision, setting])


def time_row(preset: str) -> str:
    """Return a preset's FLOP, and its GPU-days at each precision's peak and each share of it."""
    config = PRESETS[preset]()
    flop = flop_per_image(config)
    run = flop * config.train.batch_size * config.train.steps
    days = [run / (share * rate) / DAY_S for rate in (GPU.tf32, GPU.float16) for share in reversed(SHARES)]
    counts = [f"{flop / 1e9:.1f}", f"{flop_per_image(config, recompute=True) / 1e9:.1f}", f"{run:.1e}"]
    return _row(
        [f"`{preset}`", *counts, *(_spaced(round(value)) if value >= 100 else f"{value:.1f}" for value in days)]
    )


def _lines(row: Callable[[str], str]) -> str:
    return "\n".join(map(row, PAPER))


def _head(cells: Sequence[str]) -> str:
    return f"{_row(cells)}\n{'|---' * len(cells)}|"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
