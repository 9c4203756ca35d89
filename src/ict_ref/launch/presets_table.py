"""The presets as a table: `python -m ict_ref.launch --list`.

Building 30 networks takes seconds, so their numbers of parameters are read from parameters.json. `nox -s plan` writes
it, and tests/launch/test_presets_table.py builds the networks and compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from ict_ref.config import PRESETS, Config
from ict_ref.evaluate.paper import printed_fid
from ict_ref.slurm.preset_jobs import is_of_the_paper, preset_job

NOT_PRINTED: Mapping[str, str] = {
    "cifar10_ect": "needs --train.init; values of ECT's public code, which does not state the precision",
    "cifar10_tcm_first": "needs --train.init; iterations, EMA, two-step level, flips and precision are ours",
    "cifar10_tcm": "needs --train.init of cifar10_tcm_first; as there, and the number of the first stage is ours",
    "cifar10_scm": "needs --train.init of a denoiser with --method.trigflow; iterations, flips, precision and w(t) are "
    "ours; the norms are DDPM++'s, not sCM's adaptive double normalization",
}
"""Notes on presets with values that no source prints."""
PARAMETERS = Path(__file__).parent / "parameters.json"


def table() -> str:
    """Return one line per preset: data, sizes, GPUs, whether it was ever trained here, and the FID of the paper.

    The last cell says what no source prints.
    """
    head = (
        "preset",
        "data",
        "batch",
        "iterations",
        "parameters",
        "GPUs",
        "trained here",
        "the paper's FID, 1; 2 steps",
        "note",
    )
    parameters = json.loads(PARAMETERS.read_text())
    rows = [head, *(_row(name, preset(), parameters[name]) for name, preset in PRESETS.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        last = len(row) - 1
        cells = [
            cell.ljust(w) if k < 2 or k == last else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(name: str, config: Config, parameters: int) -> tuple[str, ...]:
    numbers = (config.train.batch_size, config.train.steps, parameters)
    job, trained = preset_job(name), "no" if is_of_the_paper(name) else "yes"
    gpus = f"{job.nodes} x {job.gpus_per_node}" if job.gpus_per_node else "none"
    return (
        name,
        config.data.name,
        *(f"{number:,}" for number in numbers),
        gpus,
        trained,
        "; ".join(printed_fid(name)),
        NOT_PRINTED.get(name, ""),
    )
