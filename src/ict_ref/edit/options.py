"""Options of `python -m ict_ref.edit`, without an import of torch, so that help and errors appear at once."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.command_line import expect, expect_count, model_name
from ict_ref.utils.option_parser import Decay, Flag, Model, NetworkName, Several, Step, Width, metavar

Name = Literal["inpaint", "colorize", "superres", "stroke", "denoise", "interpolate"]
# CM, Appendix D: the noise levels of stroke-guided generation, and the number of levels of the other tasks.
STROKE, LEVELS = (5.38, 2.24), 40
DENOISE = 0.5
# The task of each option that belongs to one task.
ONLY_FOR = {"mask": "inpaint", "patch": "superres", "noisy": "denoise", "steps": "interpolate"}
EPILOG = """
The command writes a new folder. edit.png shows the first ten images: the input, the model's view of it and the result.
images/ and images.npz hold the results, and edit.json holds all settings.

exit status: 0 written; 2 rejected, nothing is written and one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.edit runs/digits-1234abcd digits:held-out --task inpaint --mask bottom
  python -m ict_ref.edit runs/digits-1234abcd digits:held-out --task stroke --sigmas 1.5 0.6
  python -m ict_ref.edit runs/digits-1234abcd three.png seven.png --labels 3 7 --task superres --patch 2
  python -m ict_ref.edit runs/digits-1234abcd --task interpolate --seed 3 4 --labels 0 1 2 --steps 9
  python -m ict_ref.edit cifar10.safetensors photos/ --task colorize --out coloured
"""


@dataclass(frozen=True)
class Options:
    """Edit images with a trained model that was not trained for this task (CM, Algorithm 4).

      inpaint      makes the pixels that --mask marks, and keeps all others exactly
      colorize     makes the colours of grey images, and keeps each pixel's luma up to rounding
      superres     makes the details within patches of --patch pixels a side, and keeps each patch's mean up to
                   rounding; images of the model's size are averaged first, and smaller images are used as the means
      stroke       makes an image guided by a rough one; larger --sigmas keep less of it
      denoise      removes noise of level --sigma, which is added first unless the image is --noisy
      interpolate  interpolates between the samples of two values of --seed for each label, without an IMAGE

    IMAGE is an image file, a folder of images, a prepared folder, an .npz with arr_0, digits:train, or digits:held-out,
    the bundled digits outside the training set. Images must have the model's size (crop a folder with python -m
    ict_ref.prepare --size). Grey images are expanded for a colour model. A model with labels needs --labels, unless the
    images are bundled digits. The noise of image k depends only on --seed and k, and equals that of sample k.
    """

    model: Model
    """Run folder, checkpoint or network file."""
    task: Name
    """Task to run."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""
    network: NetworkName = None
    """Function or class that builds the network of the user's own that the run has. The module is imported."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], metavar("[IMAGE ...]")] = ()
    """Images to edit, for all tasks except interpolate."""
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """New folder for the results; by default edits/MODEL-TASK."""
    sigmas: Annotated[
        Several[float], tyro.conf.arg(metavar="SIGMA ...", aliases=["--sigma"], help_behavior_hint="")
    ] = ()
    """Descending noise levels; by default the paper's grid of 40 from sigma_max to sigma_min. Default for stroke: 5.38
    2.24, chosen for 256x256 pixels and too large for smaller images. Default for denoise: 0.5."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes: one for all images, or one per image."""
    seeds: Annotated[Several[int], tyro.conf.arg(name="seed", metavar="S ...", help_behavior_hint="")] = ()
    """Seed of the noise; by default 0; interpolate: 0 1."""
    count: Annotated[int | None, metavar("N")] = None
    """Number of images, evenly chosen; by default all images, or 10 of bundled digits."""
    mask: Annotated[str | None, metavar("WHERE")] = None
    """inpaint: left, right (the default), top, bottom, center, random, or an image whose white pixels are made."""
    patch: Annotated[int | None, metavar("P")] = None
    """superres: side of a patch in pixels; by default 2."""
    noisy: Flag = False
    """denoise: the images already have the noise."""
    steps: Annotated[int | None, metavar("N")] = None
    """interpolate: images in a row with both ends; by default 9."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device."""

    def __post_init__(self) -> None:
        self._check_options_of_tasks()
        self._check_inputs()
        self._check_seeds()
        self._check_levels()

    @property
    def folder(self) -> Path:
        """Return the folder for the results."""
        return self.out or Path("edits") / f"{model_name(self.model, self.step, self.ema, self.ema_sigma)}-{self.task}"

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """Return the seeds, or the defaults."""
        return self.seeds or ((0, 1) if self.task == "interpolate" else (0,))

    @property
    def chosen_patch(self) -> int:
        """Return the side of a patch in pixels, or 1 for all tasks except superres."""
        return (self.patch or 2) if self.task == "superres" else 1

    def _check_options_of_tasks(self) -> None:
        for option, task in ONLY_FOR.items():
            fits = self.task == task or getattr(self, option) in (None, False)
            expect(fits, f"--{option}", f"--task {task}", f"--task {self.task}", f"Leave --{option} out.")
        for option, least in (("count", 1), ("patch", 2), ("steps", 2)):
            value = getattr(self, option)
            expect_count(value, f"--{option}", least)

    def _check_inputs(self) -> None:
        if self.task == "interpolate":
            if self.images:
                raise ValueError(f"IMAGE: expected nothing for --task interpolate, got {self.images[0]}. Leave it out.")
            advice = "It samples in one step from sigma_max."
            expect(not self.sigmas, "--sigmas", "nothing for --task interpolate", shown(self.sigmas), advice)
        else:
            expected = f"files, folders, .npz or digits:held-out for --task {self.task}"
            expect(bool(self.images), "IMAGE", expected, "nothing")

    def _check_seeds(self) -> None:
        number, wanted = len(self.chosen_seeds), 2 if self.task == "interpolate" else 1
        expect(number == wanted, "--seed", f"{wanted} for --task {self.task}", number)
        for seed in self.chosen_seeds:
            expect(0 <= seed < 2**128, "--seed", "integers from 0 to 2^128 - 1", seed)

    def _check_levels(self) -> None:
        levels = shown(self.sigmas)
        expect(all(0 < sigma < math.inf for sigma in self.sigmas), "--sigmas", "levels above 0", levels)
        expect(all(high > low for high, low in pairwise(self.sigmas)), "--sigmas", "levels that descend", levels)
        one = self.task != "denoise" or len(self.sigmas) <= 1
        expect(one, "--sigmas", "the one level of the noise for --task denoise", levels)


def shown(sigmas: tuple[float, ...]) -> str:
    """Return the levels in the format of the command line."""
    return " ".join(f"{sigma:g}" for sigma in sigmas)
