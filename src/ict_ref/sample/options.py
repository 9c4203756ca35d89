"""Options of `python -m ict_ref.sample`. Nothing here imports torch: help and errors come at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from ict_ref.slurm.options import Job, load_profile, refuse_processes, refuse_without_slurm
from ict_ref.utils.command_line import refuse_place
from ict_ref.utils.option_parser import Flag, Given, Model, expect, metavar, parse_options

EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason; 3 another process was lost; 130 stopped by Ctrl-C,
143 by SIGTERM, 140 by SIGUSR2

examples:
  python -m ict_ref.sample runs/digits-c86323d6
  python -m ict_ref.sample RUN --sigmas 80 0.821 --count 50000 --out samples.npz
  python -m ict_ref.sample net.safetensors --labels 207 88 --out dogs-and-macaws --processes 4
"""
# Files that are not written; a folder is not called so.
OTHER_FILES = ".bmp .gif .jpeg .jpg .json .npy .pt .safetensors .tif .tiff .webp .zip"
# More than this in a grid nobody looks at.
MOST_IN_A_GRID = 10_000


@dataclass(frozen=True)
class Sampling:
    """Make images from the averaged weights of a run, or from a network file, in one step or in several.

    Sample k depends on the seed and on k alone: not on how many are made, at once or by how many processes, and its
    noise is the same for any number of steps. Pixels are rounded to the nearest of 256. Beside the images a .json says
    how they were made. Stopped, the same command goes on.
    """

    model: Model
    """A run's folder, whose average is taken as it was last saved, or a network that import_checkpoint or
    export_checkpoint wrote."""
    out: Annotated[Path | None, metavar("FOLDER|FILE")] = None
    """FOLDER of PNGs, named by their number; FILE.npz, arr_0 [n, height, width, 3] of bytes (arr_1 classes), as public
    FID tools read it; or FILE.png, all in one grid. Nothing is overwritten. Default: MODEL-samples.png."""
    sigmas: Annotated[tuple[float, ...], metavar("SIGMA ...")] = ()
    """Noise levels, descending, one for each step; the first is sigma_max. Default: one step from the model's (80)."""
    count: int = 64
    """How many."""
    labels: Annotated[tuple[int, ...], metavar("CLASS ...")] = ()
    """Classes, in turn: sample k is of the (k mod their number)th. Default: all of the model's."""
    seed: int = 0
    """Of the noise."""
    clip: Literal["as-trained", "yes", "no"] = "as-trained"
    """Clip to [-1, 1] after each step, as the authors' CM code does and the formula does not; as-trained: by the run's
    sample.clip, which is yes unless changed."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: every visible GPU, else the CPU."""
    threads: int = 0
    """CPU threads of one process; 0 leaves the number to torch."""
    processes: int = 0
    """Processes of this machine that share the work; 0: one for each visible GPU, one where there is none."""
    slurm: Flag = False
    """Submit it as a SLURM job, described by the options of job, say where to look, and return."""
    profile: Annotated[Path | None, metavar("FILE")] = None
    """TOML file with fields of job, for a cluster (--slurm); options take precedence over it."""
    wait: Flag = False
    """Follow the job to its end and return its status (--slurm)."""
    dry_run: Flag = False
    """Print what would be submitted, and submit nothing (--slurm: the sbatch file)."""
    job: Job = field(default_factory=Job)

    @property
    def place(self) -> Path:
        """Return where the samples go."""
        return self.out or Path(f"{self.model.resolve().name.removesuffix('.safetensors')}-samples.png")

    @property
    def parts(self) -> Path:
        """Return where samples wait until all are made."""
        return self.place.with_name(f"{self.place.name}.parts")

    @property
    def about(self) -> Path:
        """Return the file that says how they were made."""
        one_file = self.place.suffix in (".npz", ".png")
        return self.place.with_name(f"{self.place.name}.json") if one_file else self.place / "about.json"


def parse(arguments: Sequence[str]) -> Sampling:
    """Return the options. Raises ValueError with one line, or exits 0 after --help."""
    sampling = parse_options(Sampling, arguments, "ict_ref.sample", EPILOG, default=_default)
    _refuse(sampling)
    return sampling


def _default(given: Given) -> Sampling:
    """Return the options with the job of the given profile, which the other options change."""
    profile = given.get(("profile",))
    return Sampling(given.get(("model",), Path()), job=Job() if profile is None else load_profile(profile))


def _refuse(sampling: Sampling) -> None:
    """Raise ValueError for what cannot be made, or would be written over something."""
    for name, value, least in (
        ("count", sampling.count, 1),
        ("seed", sampling.seed, 0),
        ("threads", sampling.threads, 0),
    ):
        expect(value >= least, f"--{name}", f"an integer >= {least}", value)
    if sampling.place.suffix == ".png" and sampling.count > MOST_IN_A_GRID:
        raise ValueError(f"a grid needs --count <= {MOST_IN_A_GRID}; got {sampling.count}; name a folder or an .npz")
    if sampling.place.suffix.lower() in OTHER_FILES.split():
        raise ValueError(f"--out needs FILE.npz, FILE.png or a folder; got {sampling.place}")
    refuse_processes(sampling.processes, sampling.slurm)
    of_job = {"wait": sampling.wait, "profile": sampling.profile is not None, "dry-run": sampling.dry_run}
    refuse_without_slurm(sampling.slurm, **of_job, job=sampling.job != Job())
    for place in (sampling.place, sampling.about):
        if place.parent != sampling.place:
            refuse_place(place)
