"""The command: `python -m ict_ref.edit`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ict_ref.edit.options import Name, Options
from ict_ref.utils.command_line import Parser, guarded, refuse_place

NAME = "ict_ref.edit"
DESCRIPTION = """\
Let a trained model change given images, which it was never trained for (CM, Algorithm 4 and Appendix D).

  inpaint      makes the pixels that --mask marks; keeps all others exactly
  colorize     makes the colours of grey images; keeps each pixel's luma, to rounding
  superres     makes the details within patches of --patch pixels a side; keeps each patch's mean, to rounding. Of an
               image of the model's size the means are taken first, so that the result can be compared with it; an
               image smaller by --patch is taken as the means
  stroke       makes an image of a rough one, by which it is guided: larger --sigmas, less is kept
  denoise      removes noise of the level --sigma, which it adds first unless the image is --noisy
  interpolate  goes from the sample of one --seed to that of another, label by label; takes no IMAGE

IMAGE is an image file, a folder of images, an .npz with arr_0, or digits:held-out, the bundled digits that no model was
trained on. Images have the model's size (python -m ict_ref.prepare --size crops a folder); grey ones are expanded for
a model of colours. A model that was trained with labels needs to know what it looks at: --labels, if the images are not
digits:held-out. Image k's noise depends on --seed and k alone, and is that of sample k.
"""
EPILOG = """\
writes, into a new folder: edit.png, the first ten images as given, as the model sees them, and as they became; the
results in images/ and images.npz; and edit.json, all settings

exit status: 0 written; 2 refused, nothing is written and one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.edit runs/digits-1234abcd digits:held-out --task inpaint --mask bottom
  python -m ict_ref.edit runs/digits-1234abcd digits:held-out --task stroke --sigmas 1.5 0.6
  python -m ict_ref.edit runs/digits-1234abcd three.png seven.png --labels 3 7 --task superres --patch 2
  python -m ict_ref.edit runs/digits-1234abcd --task interpolate --seed 3 4 --labels 0 1 2 --steps 9
  python -m ict_ref.edit cifar10.safetensors photos/ --task colorize --out coloured
"""


def parser() -> Parser:
    """Return the command line."""
    line = Parser(f"python -m {NAME}", DESCRIPTION, EPILOG)
    line.add_argument("model", type=Path, metavar="RUN|FILE", help="a run's folder, or a network file")
    line.add_argument("images", nargs="*", metavar="IMAGE", help="what to change")
    line.add_argument("--task", required=True, choices=get_args(Name), help="what to do")
    line.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: edits/MODEL-TASK)")
    line.add_argument(
        "--labels", nargs="+", type=int, default=(), metavar="C", help="classes: one for all images, or one for each"
    )
    line.add_argument(
        "--seed", dest="seeds", nargs="+", type=int, metavar="S", help="of the noise (default: 0; interpolate: 0 1)"
    )
    line.add_argument(
        "--sigmas",
        "--sigma",
        nargs="+",
        type=float,
        metavar="SIGMA",
        help="noise levels, descending (default: the paper's grid of 40 from sigma_max to sigma_min; stroke: 5.38 "
        "2.24, chosen for 256x256 pixels, and smaller images drown in it; denoise: 0.5)",
    )
    line.add_argument("--count", type=int, metavar="N", help="N of the images, evenly (default: all; of the digits 10)")
    line.add_argument(
        "--mask",
        metavar="WHERE",
        help="inpaint: left, right, top, bottom, center, random, or an image that is white where to make pixels "
        "(default: right)",
    )
    line.add_argument("--patch", type=int, metavar="P", help="superres: pixels a side of a patch (default: 2)")
    line.add_argument("--noisy", action="store_true", default=None, help="denoise: the images have the noise already")
    line.add_argument("--steps", type=int, metavar="N", help="interpolate: images in a row, ends included (default: 9)")
    line.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute (default: cpu)")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    said: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parser().parse_intermixed_args(arguments)).items()
    }
    model: Path = said["model"]
    name = model.stem if model.is_file() else model.resolve().name
    said["out"] = said["out"] or Path("edits") / f"{name}-{said['task']}"
    options = Options(**said)
    refuse_place(options.out)
    # Here, because torch takes seconds, and errors should come at once.
    from ict_ref.edit.work import work

    return work(options)


if __name__ == "__main__":
    sys.exit(main())
