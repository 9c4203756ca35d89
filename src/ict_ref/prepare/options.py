"""Options of `python -m ict_ref.prepare`, without an import of torch, so that help and errors appear at once."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.command_line import MOST_PROCESSES, expect, expect_count
from ict_ref.utils.option_parser import Flag, metavar
from ict_ref.utils.regular_file import real_path

MOST_SIDE = 65_536
"""Largest side of an image in pixels."""
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

    A folder of images may have links to folders, which are followed. Other files are left out and counted. Images of
    more than 8 bits per channel and files of several images are rejected. Alpha channels are dropped, and the images
    that had transparent pixels are counted. The classes of the downsampled ImageNet are in the publishers' order, not
    in that of sorted synsets, unless map_clsloc.txt is beside them.

    Images are made RGB (--grey: one channel). With --size S, an image is halved (BOX) while its short side is at least
    2 S, resized (BICUBIC) so that its short side is S, and cropped to the middle square, as the authors of consistency
    models did to ImageNet. Images are used as they are stored, without EXIF orientation.

    Without --out the command describes the data set and writes nothing. With it, FOLDER gets images.npy (uint8, count x
    channels x S x S), labels.npy (int64; if there are classes) and data.json. You can stop it at any time. The same
    command resumes and writes the same bytes. A FOLDER with other files is rejected and left unchanged.

    CIFAR-10's archives and python batches are compared with their published MD5s, and other files are rejected without
    --unknown-files. Other sets are recognised by their numbers of images and classes. The presets of the paper train on
    other data only with --data.partial.
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
    unknown_files: Flag = False
    """Use files in CIFAR-10's format whose MD5s are not the published ones, such as your own; data.json records it."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that decode images, by default one per core; the result does not depend on their number."""
    check: Annotated[Path | None, metavar("FOLDER")] = None
    """Compare a prepared folder with its checksums."""

    def __post_init__(self) -> None:
        for name in ("size", "workers"):
            expect_count(getattr(self, name), f"--{name}", most=MOST_SIDE if name == "size" else MOST_PROCESSES)
        if (self.source is None) == (self.check is None):
            got = "nothing" if self.source is None else "both"
            raise ValueError(
                f"SOURCE: expected either SOURCE or --check, got {got}; see python -m ict_ref.prepare --help"
            )
        if self.check is not None:
            self._refuse_beside_check()
        if self.source and self.out and real_path(self.source) in (real_path(self.out) / "data.json").parents:
            raise ValueError(
                f"--out: expected a folder outside SOURCE, got {self.out} in {self.source}. Choose another --out."
            )

    def _refuse_beside_check(self) -> None:
        """Reject the options that --check would ignore; the number of workers is the default of the machine.

        Raises:
            ValueError: Such an option is given.
        """
        for name in ("out", "split", "size", "grey", "class_map", "unknown_files"):
            option = f"--{name.replace('_', '-')}"
            is_default = getattr(self, name) == getattr(PrepareOptions, name)
            expect(is_default, option, "--check alone", f"{option} too", f"Leave {option} out.")
