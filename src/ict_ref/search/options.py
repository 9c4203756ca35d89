"""Options of `python -m ict_ref.search`, without an import of torch, so that help and errors appear at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.utils.command_line import LARGEST_SEED, expect_count, model_name
from ict_ref.utils.option_parser import Decay, Model, Several, Step, Width, metavar

MOST_NODES = 1_000_000
EPILOG = """
exit status: 0 found; 2 rejected, one line gives the reason; 3 another process was lost; 130 stopped by Ctrl-C,
143 by SIGTERM, 140 by SIGUSR2, 129 by the end of its terminal

examples:
  python -m ict_ref.search runs/digits-c86323d6 --reference digits:held-out --count 2000
  python -m ict_ref.search RUN --reference cifar10.npz --features inception-2015-12-05.pt --device cuda
  python -m ict_ref.search RUN --reference REF --before 80 0.821   the third step after the second
  python -m ict_ref.search RUN --reference REF --features inception-2015-12-05.pt --slurm --job.gpus-per-node 8
"""


@dataclass(frozen=True)
class SearchOptions(SharedOptions):
    """Find the noise level of the second sampling step.

    The result is the node of the training grid at which two-step samples have the smallest Frechet distance to a
    reference. The method is the ternary search of the consistency models paper (Section 3), with the same noise for
    every level. iCT found its levels in this way (Appendix B: 0.821 on CIFAR-10, 1.526 on ImageNet 64x64).

    The search finds the best node if the score first falls and then rises along the grid; otherwise its result may not
    be the best. Its folder has every score (scores.csv), their curve (curve.png, curve.svg) and the result
    (search.json). The same command resumes after a stop and scores each level once. With --slurm it is submitted as a
    job, whose processes all sample and extract features.
    """

    model: Model
    """Run folder, checkpoint or network file."""
    reference: Annotated[str, tyro.conf.arg(metavar="REFERENCE")]
    """Real images or their statistics, as for python -m ict_ref.evaluate."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""
    features: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "pixels"
    """pixels, digits, module:callable, a torch.export program, or a TorchScript file; the last three are programs."""
    count: int = 10_000
    """Number of samples at each level."""
    before: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Noise levels of the steps before the searched one; by default sigma_max."""
    after: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Noise levels of the steps after the searched one; by default empty."""
    nodes: Annotated[int | None, metavar("N")] = None
    """Number of nodes of the grid; by default s1 + 1, the number at the end of training."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes of the samples; by default all."""
    seed: int = 0
    """Seed of the noise."""
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """New folder, or the folder of the same search; by default MODEL-search."""

    def __post_init__(self) -> None:
        expect_count(self.count, "--count")
        expect_count(self.seed, "--seed", 0, LARGEST_SEED)
        expect_count(self.nodes, "--nodes", 3, MOST_NODES)

    @property
    def folder(self) -> Path:
        """Return the folder of the search."""
        return self.out or Path(f"{model_name(self.model, self.step, self.ema, self.ema_sigma)}-search")
