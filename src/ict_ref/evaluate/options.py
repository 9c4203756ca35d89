"""Options of `python -m ict_ref.evaluate`, without an import of torch, so that help and errors appear at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.utils.command_line import LARGEST_SEED, expect, expect_count
from ict_ref.utils.option_parser import Decay, Flag, Several, Step, Width, metavar

EPILOG = """
exit status: 0 scored; 1 a checkpoint of --every-milestone cannot be read; 2 rejected, one line gives the reason;
3 another process was lost; 130 stopped by Ctrl-C, 143 by SIGTERM, 140 by SIGUSR2,
129 by the end of its terminal

examples:
  python -m ict_ref.evaluate runs/digits-1234abcd --reference digits:held-out --features digits
  python -m ict_ref.evaluate samples.npz --reference data/cifar10 --features inception-2015-12-05.pt --json scores.json
  python -m ict_ref.evaluate --reference data/cifar10 --features inception-2015-12-05.pt --save-stats cifar10.npz
  python -m ict_ref.evaluate runs/digits-1234abcd --reference digits:held-out --every-milestone
  python -m ict_ref.evaluate runs/cifar10-1234abcd --sigmas 80 0.821 --reference cifar10.npz \\
      --features inception-2015-12-05.pt --table
  python -m ict_ref.evaluate runs/cifar10-1234abcd --reference cifar10.npz --features inception-2015-12-05.pt \\
      --json scores.json --slurm --job.gpus-per-node 8
"""
INCEPTION = (
    "--features: expected a TorchScript file for Inception, got inception. Download NVIDIA's file "
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt and give "
    "--features inception-2015-12-05.pt; the protocol records its SHA-256 (StyleGAN3's .pkl is a pickle, which is "
    "not opened)."
)


@dataclass(frozen=True)
class EvaluateOptions(SharedOptions):
    """Compare samples with real images: Frechet distance (FID), kernel distance (KID), inception score, precision and
    recall, with their protocol.

    SAMPLES is a run folder, a checkpoint or a network file (.safetensors) to sample from, a folder of images, or an
    .npz (arr_0, uint8). REFERENCE is a folder of images, an .npz, a prepared folder, digits:train or digits:held-out,
    or an .npz of statistics (mu, sigma). An .npz with images and statistics gives both: the Frechet distance is to its
    statistics, and the other scores are to its images. Images are read into memory, but prepared data in batches.

    These scores are FID, KID and IS only with the features of Inception, whose file you supply; nothing is downloaded.
    --features takes a Python callable as module:callable, a program written by torch.export.save, or a TorchScript file
    (torch has deprecated TorchScript). NVIDIA's translation of Inception is called like public FID code. Others are
    called with float32 images [n, channels, height, width] from -1 to 1, in the images' own size. Grey images have one
    channel unless the other set is in colour. They return features [n, d], or features and probabilities [n, classes].

    Each of these three is a program that runs with your rights. Operations of files that do more than compute, such as
    writing or printing, are rejected, unless --trust names the file's SHA-256. A module is not checked.

    --step, --ema, --ema-sigma, --count, --sigmas, --labels, --label-order, --seed, --clip, --truncate, --precision and
    --compile apply to samples of a run or a network. Any number of CPU processes finds the same bits.

    With --slurm the command is submitted as a job, whose processes all sample and extract features. Without
    --every-milestone it needs --json FILE, where the scores go, and enough --job.minutes: it does not resume.
    """

    reference: Annotated[str, tyro.conf.arg(metavar="REFERENCE")]
    """Real images or their statistics."""
    samples: Annotated[tyro.conf.Positional[str | None], metavar("SAMPLES")] = None
    """Samples to score; not needed with --save-stats."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""
    every_milestone: Flag = False
    """Score every checkpoint of the run, and write the scores to --json after each; by default RUN/curve.json. The same
    command resumes. python -m ict_ref.figures --from RUN draws the curve. Other EMA weights need another --json."""
    features: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "pixels"
    """pixels, digits, module:callable, a torch.export program, or a TorchScript file; the last three are programs."""
    k: int = 3
    """Number of nearest neighbours for precision and recall."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """New file for scores and protocol; with --every-milestone a file that the same command began may exist."""
    save_stats: Annotated[Path | None, metavar("FILE.npz")] = None
    """New file for the reference's statistics, for use as a later --reference."""
    table: Flag = False
    """Print the scores beside Tables 2 and 3."""
    count: Annotated[int | None, metavar("N")] = None
    """Number of samples; by default 50000, or the size of a smaller reference."""
    sigmas: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Descending noise levels; by default one step."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes of the samples; by default all."""
    seed: Annotated[int | None, metavar("S")] = None
    """Seed of the noise; by default 0."""
    clip: Annotated[Literal["as-trained", "yes", "no"] | None, metavar("{as-trained,yes,no}")] = None
    """Whether each step's result is clipped to [-1, 1]; by default as-trained."""

    def __post_init__(self) -> None:
        if self.samples is None and self.save_stats is None:
            raise ValueError("SAMPLES: expected SAMPLES or --save-stats, got neither")
        for name in ("step", "save_stats", "table") if self.every_milestone else ():
            missing = getattr(self, name) in (None, False)
            option = f"--{name.replace('_', '-')}"
            expect(missing, option, "only without --every-milestone", "both", "Leave one of them out.")
        if self.features == "inception":
            raise ValueError(INCEPTION)
        expect_count(self.k, "--k")
        expect_count(self.seed, "--seed", 0, LARGEST_SEED)
        expect_count(self.count, "--count")
        if self.save_stats is not None:
            expect(self.save_stats.suffix == ".npz", "--save-stats", "a name that ends in .npz", self.save_stats)
            expect(self.save_stats != self.json, "--json", "another file than --save-stats", self.json)

    @property
    def new_files(self) -> dict[Path, str]:
        """Return the options of the files that the command creates, by path, the last one last."""
        given = {self.save_stats: "--save-stats", self.json: "--json"}
        return {path: option for path, option in given.items() if path is not None}
