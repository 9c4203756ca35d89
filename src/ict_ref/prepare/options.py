"""Options of `python -m ict_ref.prepare`, without an import of torch, so that help and errors appear at once."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.command_line import expect
from ict_ref.utils.option_parser import Flag, metavar

EPILOG = """
exit status: 0 done; 2 rejected, one line gives the reason; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.prepare cifar-10-python.tar.gz --out data/cifar10
  python -m ict_ref.prepare cifar-10-python.tar.gz --split test --out data/cifar10-test
  python -m ict_ref.prepare ILSVRC2012/train --size 64 --out data/imagenet64
  python -m ict_ref.prepare photographs --size 32
  python -m ict_ref.prepare --check data/imagenet64
  python -m ict_ref.launch --config digits --data.name folder --data.path data/mine
"""


@dataclass(frozen=True)
class PrepareOptions:
    """Convert a data set to one memory-mapped array for training, with labels, checksums and the recipe.

    The kind of SOURCE follows from its files:
      cifar-10-python.tar.gz, cifar-10-binary.tar.gz    CIFAR-10 as published, or the folder unpacked from it
      train-00000-of-00001.parquet                      CIFAR-10 from Hugging Face, or the folder of such files (by
                                                        pyarrow)
      train_data_batch_1.npz                            ImageNet downsampled, a batch, or the folder of all ten
      a folder of images, or of one folder per class    ImageNet ILSVRC2012, or your own; the class is the index of the
                                                        folder's name, sorted

    Images are made RGB (--grey: one channel). With --size S, an image is halved (BOX) while its short side is at least
    2 S, resized (BICUBIC) so that its short side is S, and cropped to the middle square, as the authors of consistency
    models did to ImageNet. Images are used as they are stored, without EXIF orientation.

    Without --out the command describes the data set and writes nothing. With it, FOLDER gets images.npy (uint8, count x
    channels x S x S), labels.npy (int64; if there are classes) and data.json. You can stop it at any time. The same
    command resumes and writes the same bytes. A FOLDER with other files is rejected and left unchanged.

    CIFAR-10 and ImageNet are recognised by their numbers of images and classes, and the archives of CIFAR-10 by their
    MD5. The presets of the paper train on other data only with --data.partial.
    """

    source: Annotated[tyro.conf.Positional[Path | None], metavar("SOURCE")] = None
    """Archive, file or folder of the data set; not needed with --check."""
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """Folder for the prepared data; without it, nothing is written."""
    split: Literal["train", "test"] = "train"
    """Split of a published set."""
    size: Annotated[int | None, metavar("S")] = None
    """Side of the images in pixels; without it, all images must have one size."""
    grey: Flag = False
    """One channel instead of three."""
    class_map: Annotated[Path | None, metavar("FILE")] = None
    """map_clsloc.txt of the downsampled ImageNet, with lines such as `n02119789 1 kit_fox`: labels are translated to
    sorted synsets. By default the file of this name beside the batches; without it, the publishers' order is kept."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that decode images, by default one per core; the result does not depend on their number."""
    check: Annotated[Path | None, metavar("FOLDER")] = None
    """Compare a prepared folder with its checksums."""

    def __post_init__(self) -> None:
        for name in ("size", "workers"):
            value = getattr(self, name)
            expect(value is None or value >= 1, f"--{name}", "an integer >= 1", value)
        if (self.source is None) == (self.check is None):
            got = "nothing" if self.source is None else "both"
            raise ValueError(
                f"SOURCE: expected either SOURCE or --check, got {got}; see python -m ict_ref.prepare --help"
            )
        if self.source and self.out and self.source.resolve() in (self.out.resolve() / "data.json").parents:
            raise ValueError(
                f"--out: expected a folder outside SOURCE, got {self.out} in {self.source}. Choose another --out."
            )
