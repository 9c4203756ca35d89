"""Options of `python -m ict_ref.edit`. Nothing here imports torch: help and errors come at once."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.option_parser import Flag, Model, Several, expect, metavar

Name = Literal["inpaint", "colorize", "superres", "stroke", "denoise", "interpolate"]
# CM, Appendix D: the levels of stroke-guided generation, and the number of levels of everything else.
STROKE, LEVELS = (5.38, 2.24), 40
DENOISE = 0.5
# An option, and the one task that it is for.
ONLY_FOR = {"mask": "inpaint", "patch": "superres", "noisy": "denoise", "steps": "interpolate"}
EPILOG = """
The command writes a new folder: edit.png, the first ten images as given, as the model sees them, and as they became;
the results in images/ and images.npz; and edit.json, all settings.

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
    """Change given images by a trained model, which was not trained to do so (CM, Algorithm 4 and Appendix D).

      inpaint      makes the pixels that --mask marks; keeps all others exactly
      colorize     makes the colours of grey images; keeps each pixel's luma, to rounding
      superres     makes the details within patches of --patch pixels a side; keeps each patch's mean, to rounding. The
                   means of an image of the model's size are taken first, so that the result can be compared with it;
                   an image smaller by --patch is taken as the means
      stroke       makes an image guided by a rough one: larger --sigmas keep less of it
      denoise      removes noise of the level --sigma, which it adds first unless the image is --noisy
      interpolate  goes from the sample of one --seed to that of another, label by label; takes no IMAGE

    IMAGE is an image file, a folder of images, an .npz with arr_0, or digits:held-out, the bundled digits that no model
    was trained on. Images have the model's size (python -m ict_ref.prepare --size crops a folder); grey ones are
    expanded for a model of colours. A model that was trained with labels needs --labels, unless the images are
    digits:held-out. Image k's noise depends on --seed and k alone, and is that of sample k.
    """

    model: Model
    """A run's folder, or a network file."""
    task: Name
    """Change to make."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], metavar("[IMAGE ...]")] = ()
    """Images to change, for all tasks but interpolate."""
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """New folder for the results; by default edits/MODEL-TASK."""
    sigmas: Annotated[
        Several[float], tyro.conf.arg(metavar="SIGMA ...", aliases=["--sigma"], help_behavior_hint="")
    ] = ()
    """Noise levels, descending; by default the paper's grid of 40 from sigma_max to sigma_min; stroke: 5.38 2.24, which
    were chosen for 256x256 pixels, and smaller images drown in it; denoise: 0.5."""
    labels: Annotated[Several[int], metavar("CLASS ...")] = ()
    """Classes: one for all images, or one for each."""
    seeds: Annotated[Several[int], tyro.conf.arg(name="seed", metavar="S ...", help_behavior_hint="")] = ()
    """Seed of the noise; by default 0; interpolate: 0 1."""
    count: Annotated[int | None, metavar("N")] = None
    """Number of images, evenly chosen; by default all, and 10 of the digits."""
    mask: Annotated[str | None, metavar("WHERE")] = None
    """inpaint: left, right (the default), top, bottom, center, random, or an image, white where to make pixels."""
    patch: Annotated[int | None, metavar("P")] = None
    """superres: pixels a side of a patch; by default 2."""
    noisy: Flag = False
    """denoise: the images have the noise already."""
    steps: Annotated[int | None, metavar("N")] = None
    """interpolate: images in a row, ends included; by default 9."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""

    def __post_init__(self) -> None:
        for option, task in ONLY_FOR.items():
            if getattr(self, option) not in (None, False) and self.task != task:
                raise ValueError(f"--{option} is for --task {task}; got --task {self.task}")
        for option, least in (("count", 1), ("patch", 2), ("steps", 2)):
            value = getattr(self, option)
            expect(value is None or value >= least, f"--{option}", f"an integer >= {least}", value)
        if self.task == "interpolate":
            if self.images:
                raise ValueError(f"--task interpolate makes images of noise, and needs none; got {self.images[0]}")
            if self.sigmas:
                raise ValueError("--task interpolate makes images in one step, from sigma_max; it takes no --sigmas")
        elif not self.images:
            raise ValueError(f"--task {self.task} needs an IMAGE: files, folders, .npz or digits:held-out; got none")
        number, wanted = len(self.chosen_seeds), 2 if self.task == "interpolate" else 1
        expect(number == wanted, "--seed", f"{wanted} for --task {self.task}", number)
        for seed in self.chosen_seeds:
            expect(0 <= seed < 2**128, "--seed", "integers from 0 to 2^128 - 1", seed)
        self._check_levels()

    @property
    def folder(self) -> Path:
        """Return the folder for the results."""
        name = self.model.stem if self.model.is_file() else self.model.resolve().name
        return self.out or Path("edits") / f"{name}-{self.task}"

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """Return the seeds, or the defaults."""
        return self.seeds or ((0, 1) if self.task == "interpolate" else (0,))

    def _check_levels(self) -> None:
        levels = shown(self.sigmas)
        expect(all(0 < sigma < math.inf for sigma in self.sigmas), "--sigmas", "levels above 0", levels)
        expect(all(high > low for high, low in pairwise(self.sigmas)), "--sigmas", "levels that descend", levels)
        one = self.task != "denoise" or len(self.sigmas) <= 1
        expect(one, "--sigmas", "the one level of the noise for --task denoise", levels)


def shown(sigmas: tuple[float, ...]) -> str:
    """Return the levels as one would type them."""
    return " ".join(f"{sigma:g}" for sigma in sigmas)
