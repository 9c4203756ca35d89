"""The presets as a table: `python -m ict_ref.launch --list`."""

import torch

from ict_ref.config import PRESETS, Config
from ict_ref.data.dataset import PUBLISHED
from ict_ref.evaluate.paper import printed_fid
from ict_ref.networks.model import build_network
from ict_ref.slurm.preset_jobs import is_of_the_paper, preset_job
from ict_ref.utils.rng import stream


def table() -> str:
    """Return one line per preset: data, sizes, GPUs, whether it was ever trained here, and the FID of the paper."""
    head = (
        "preset",
        "data",
        "batch",
        "iterations",
        "parameters",
        "GPUs",
        "trained here",
        "the paper's FID, 1; 2 steps",
    )
    rows = [head, *(_row(name, preset()) for name, preset in PRESETS.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def parameters(config: Config) -> int:
    """Return the number of parameters of the configured network."""
    (channels, size, _), classes = PUBLISHED.get(config.data.name, ((1, 8, 8), 10))
    with torch.device("meta"):
        network = build_network(
            config.network,
            channels=channels,
            size=size,
            classes=classes if config.data.labels else 0,
            generator=stream(0, "parameters"),
        )
    return sum(parameter.numel() for parameter in network.parameters())


def _row(name: str, config: Config) -> tuple[str, ...]:
    numbers = (config.train.batch_size, config.train.steps, parameters(config))
    job, trained = preset_job(name), "no" if is_of_the_paper(name) else "yes"
    gpus = f"{job.nodes} x {job.gpus_per_node}" if job.gpus_per_node else "none"
    return (name, config.data.name, *(f"{number:,}" for number in numbers), gpus, trained, "; ".join(printed_fid(name)))
