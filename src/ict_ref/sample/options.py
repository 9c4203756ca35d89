"""Options of `python -m ict_ref.sample`, without an import of torch, so that help and errors appear at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ict_ref.sample.placement import ModelPlacement, job_of_command
from ict_ref.utils.atomic import refuse_outputs
from ict_ref.utils.command_line import LARGEST_SEED, expect, expect_count, model_name
from ict_ref.utils.option_parser import (
    Decay,
    Flag,
    Given,
    Model,
    NetworkName,
    Several,
    Step,
    Width,
    metavar,
    parse_options,
)

EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason; 3 another process was lost; 130 stopped by Ctrl-C,
143 by SIGTERM, 140 by SIGUSR2, 129 by the end of its terminal

examples:
  python -m ict_ref.sample runs/digits-c86323d6
  python -m ict_ref.sample RUN --sigmas 80 0.821 --count 50000 --out samples.npz
  python -m ict_ref.sample net.safetensors --labels 207 88 --out dogs-and-macaws --processes 4
"""
# Suffixes of unsupported file formats, which are also rejected as names of folders.
OTHER_FILES = ".bmp .gif .jpeg .jpg .json .npy .pt .safetensors .tif .tiff .webp .zip"
# Suffixes of samples in one file.
ONE_FILE = (".npz", ".png")
# Largest number of samples in a grid.
MOST_IN_A_GRID = 10_000


@dataclass(frozen=True)
class Sampling(ModelPlacement):
    """Make images from the EMA weights of a run, or from a network file, in one or more steps.

    Sample k depends only on the seed and k, not on the number of samples, processes or batches. Its noise is the same
    for any number of steps. Pixels are rounded to 8 bits. A .json file beside the images describes how they were made.
    The same command resumes after a stop.
    """

    model: Model
    """Folder of a run, a checkpoint, or a network file of import_checkpoint or export_checkpoint. The training data are
    not needed."""
    out: Annotated[Path | None, metavar("FOLDER|FILE")] = None
    """FOLDER for numbered PNGs; FILE.npz with arr_0 [n, height, width, 3] of uint8 (arr_1: classes), the format of
    public FID tools; or FILE.png for one grid. Existing files are not overwritten. Default: MODEL-samples.png."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""
    network: NetworkName = None
    """Function or class that builds the network of the user's own that the run has. The module is imported."""
    sigmas: Annotated[Several[float], metavar("SIGMA ...")] = ()
    """Descending noise levels, one per step, starting at sigma_max. Default: one step at the model's sigma_max (80)."""
    count: int = 64
    """Number of samples."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes; in turn sample k has class number k mod n of these n. Default: all classes of the model."""
    label_order: Literal["turn", "random"] = "turn"
    """Whether samples take the classes in turn, or each draws its class at random, as in the authors' code."""
    seed: int = 0
    """Seed of the noise."""
    clip: Literal["as-trained", "yes", "no"] = "as-trained"
    """Clip to [-1, 1] after each step, as in the authors' CM code but not in the formula; as-trained: as set by the
    run's sample.clip, by default yes."""
    truncate: Flag = False
    """Truncate pixels to 8 bits, as in the authors' code, instead of rounding them."""
    precision: Literal["float32", "run"] = "float32"
    """Precision of the network: float32 without TF32, or that of the run's training, which is faster on a GPU."""
    compile: Flag = False
    """Compile the network with torch.compile, which takes a minute and pays for many samples on a GPU."""

    @property
    def place(self) -> Path:
        """Return the path of the samples."""
        return self.out or Path(f"{model_name(self.model, self.step, self.ema, self.ema_sigma)}-samples.png")

    @property
    def ending(self) -> str:
        """Return the ending of that path in lower case, which says what is written."""
        return self.place.suffix.lower()

    @property
    def parts(self) -> Path:
        """Return the folder of finished batches, which exists until all samples are made."""
        return self.place.with_name(f"{self.place.name}.parts")

    @property
    def about(self) -> Path:
        """Return the path of the file that describes how the samples were made."""
        one_file = self.ending in ONE_FILE
        return self.place.with_name(f"{self.place.name}.json") if one_file else self.place / "about.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the paths that the command creates: the folder, or the description and the samples."""
        return (self.about, self.place) if self.ending in ONE_FILE else (self.place,)


def parse(arguments: Sequence[str]) -> Sampling:
    """Return the options, or exit 0 after --help.

    Raises:
        ValueError: An option is unknown or its value is not allowed; the message is one line.
        OSError: The cluster file cannot be read.
    """
    sampling = parse_options(Sampling, arguments, "ict_ref.sample", EPILOG, default=_default)
    _refuse(sampling)
    return sampling


def _default(given: Given) -> Sampling:
    """Return the options with the job of the cluster file, before the other options."""
    return Sampling(given.get(("model",), Path()), job=job_of_command(given))


def _refuse(sampling: Sampling) -> None:
    """Raise ValueError for a value that is not allowed, or an output path that exists."""
    expect_count(sampling.count, "--count")
    expect_count(sampling.seed, "--seed", 0, LARGEST_SEED)
    if sampling.ending == ".png" and sampling.count > MOST_IN_A_GRID:
        raise ValueError(
            f"--count: expected at most {MOST_IN_A_GRID} samples in a grid, got {sampling.count}. "
            "Choose a folder or an .npz file as --out."
        )
    expect(
        sampling.ending not in OTHER_FILES.split(),
        "--out",
        "FILE.npz, FILE.png or a folder",
        sampling.place,
    )
    sampling.refuse_placement()
    refuse_outputs(*reversed(sampling.files))
