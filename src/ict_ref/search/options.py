"""Options of `python -m ict_ref.search`. Nothing here imports torch: help and errors come at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.option_parser import Model, Several, expect, metavar

EPILOG = """
exit status: 0 found; 2 rejected, one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.search runs/digits-c86323d6 --reference digits:held-out --count 2000
  python -m ict_ref.search RUN --reference cifar10.npz --features inception-2015-12-05.pt --device cuda
  python -m ict_ref.search RUN --reference REF --before 80 0.821   the third step, once the second is known
"""


@dataclass(frozen=True)
class SearchOptions:
    """Find the noise level of the second step: the node of the training grid at which two-step samples have the
    smallest Frechet distance to a reference, by the ternary search of the consistency models paper (Section 3), with
    the same noise for every level. The paper's levels were found so (iCT, Appendix B: 0.821 on CIFAR-10, 1.526 on
    ImageNet 64x64).

    The search finds the best node if the score falls, then rises along the grid; of another curve its result is a
    guess. Its folder has every score (scores.csv), their curve (curve.png, curve.svg) and the result (search.json).
    After a stop, the same command continues; no level is scored twice.
    """

    model: Model
    """A run's folder or a network file."""
    reference: Annotated[str, tyro.conf.arg(metavar="REFERENCE")]
    """Real images, or their statistics, as python -m ict_ref.evaluate takes them."""
    features: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "pixels"
    """pixels, digits, or a TorchScript file."""
    count: int = 10_000
    """Number of samples at each level."""
    before: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Noise levels before the one that is searched; by default sigma_max."""
    after: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Noise levels after it; by default none."""
    nodes: Annotated[int | None, metavar("N")] = None
    """Number of nodes of the grid; by default that at the end of training, s1 + 1."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes, in turn; by default all."""
    seed: int = 0
    """Seed of the noise."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """New folder, or that of the same search; by default MODEL-search."""

    def __post_init__(self) -> None:
        expect(self.count >= 1, "--count", "an integer >= 1", self.count)
        expect(self.seed >= 0, "--seed", "an integer >= 0", self.seed)
        expect(self.nodes is None or self.nodes >= 3, "--nodes", "an integer >= 3", self.nodes)

    @property
    def folder(self) -> Path:
        """Return the folder of the search."""
        return self.out or Path(f"{self.model.resolve().name.removesuffix('.safetensors')}-search")
