"""Options of `python -m ict_ref.plan`, without an import of torch, so that help and errors appear at once."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ict_ref.config import PRESETS, Config
from ict_ref.config.old_names import with_current_options
from ict_ref.plan.hardware import GPUS
from ict_ref.slurm.preset_jobs import preset_job
from ict_ref.utils.command_line import expect, expect_count
from ict_ref.utils.option_parser import Flag, Given, Several, metavar, parse_options

if TYPE_CHECKING:
    Preset = str
    GpuName = str
else:
    Preset = Literal[*PRESETS]
    GpuName = Literal[*GPUS]

NAME = "ict_ref.plan"
EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason

examples:
  python -m ict_ref.plan --config imagenet64 --gpus 32 --train.precision float16
  python -m ict_ref.plan --config cifar10 --gpu rtx4090-24gb --gpus 1 --share 0.38
  python -m ict_ref.plan --config imagenet64 --train.batch-size 2048 --network.width 128 --json
  python -m ict_ref.plan --all   the table of docs/plan.md
"""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Predict memory, time and scaling of a training run, without data or a GPU.

    Memory and floating-point operations are counted operation by operation, for any configuration. Times follow from
    them and from a share of the GPU's peak, which you choose or measure. The plan also has the smallest number of
    microbatches with which an update fits the GPU. --machine.accumulate and --machine.recompute are chosen unless you
    give them.
    """

    preset: Annotated[Preset | None, tyro.conf.arg(name="config", help_behavior_hint="(required)")] = None
    """Preset to start from; every option of a group below changes one of its fields."""
    gpus: Annotated[int, metavar("N")] = 8
    """Number of GPUs, one process each. Default: those of the preset's job, 1 for a preset without GPUs."""
    gpu: GpuName = "a100-80gb"
    """Model of the GPUs."""
    share: Annotated[Several[float], metavar("FRACTION ...")] = ()
    """Fractions of the GPU's peak that a run reaches; by default 0.3 and 0.45, or the measured one."""
    measured: Annotated[Path | None, metavar("FILE")] = None
    """Measured speeds: the file gpu.json that python -m benchmarks.gpu writes on a GPU."""
    gpus_per_node: int = 8
    """GPUs of one node."""
    network_rate: float = 25.0
    """GB per second between nodes, for each GPU in one direction. 25: a link of 200 Gbit/s for each GPU."""
    disk_rate: float = 1.0
    """GB per second at which a checkpoint is written."""
    all: Flag = False
    """Print the table of the paper's four presets instead."""
    json: Flag = False
    """Print JSON."""
    config: Annotated[Config, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        for name, value in (("--gpus", self.gpus), ("--gpus-per-node", self.gpus_per_node)):
            expect_count(value, name)
        alone = self.preset is None and not self.json
        expect(alone or not self.all, "--all", "--all alone, which prints a table as Markdown", "other options too")
        for name, rate in (("--network-rate", self.network_rate), ("--disk-rate", self.disk_rate)):
            expect(0 < rate < math.inf, name, "a positive number", rate)
        for share in self.share:
            expect(0 < share <= 1, "--share", "fractions between 0 and 1", share)
        expect(not (self.share and self.measured), "--share", "nothing beside --measured", self.share)


@dataclass(frozen=True)
class Request:
    """A parsed command line: the options, and the settings that it fixes."""

    options: PlanOptions
    accumulate: int | None = None
    """Number of microbatches, or None to choose it."""
    recompute: bool | None = None
    """Whether activations are recomputed, or None to choose it."""


def parse(arguments: Sequence[str] | None) -> Request:
    """Return the request of a command line, or print the help and exit 0.

    Raises:
        ValueError: An option is unknown, its value is not allowed, or neither --config nor --all is given.
    """
    fixed: dict[str, object] = {}

    def default(given: Given) -> PlanOptions:
        fixed.update({name: given.get(("config", "machine", name)) for name in ("accumulate", "recompute")})
        preset = given.get(("preset",))
        job = preset_job(preset or "digits")
        gpus = max(1, job.nodes * job.gpus_per_node)
        return PlanOptions(preset=preset, gpus=gpus, config=PRESETS[preset or "digits"]())

    given = with_current_options(sys.argv[1:] if arguments is None else arguments)
    options = parse_options(PlanOptions, given, NAME, EPILOG, default=default)
    advice = "python -m ict_ref.launch --list prints the presets."
    expect(options.preset is not None or options.all, "--config", "a preset", "nothing", advice)
    accumulate, recompute = fixed.get("accumulate"), fixed.get("recompute")
    return Request(
        options,
        accumulate if isinstance(accumulate, int) else None,
        recompute if isinstance(recompute, bool) else None,
    )
