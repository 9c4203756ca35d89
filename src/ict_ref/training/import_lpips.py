"""Import of the published LPIPS: `python -m ict_ref.training.import_lpips FILE ... --out FILE`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.atomic import refuse_outputs
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.option_parser import Several, parse_options
from ict_ref.utils.printable import printable

NAME = "ict_ref.training.import_lpips"
EPILOG = """
exit status: 0 written; 2 rejected, nothing is written and one line gives the reason

examples:
  python -m ict_ref.training.import_lpips vgg16-397923af.pth lpips/weights/v0.1/vgg.pth --out lpips.safetensors
  python -m ict_ref.training.import_lpips lpips.pt --pooling average --out lpips-average.safetensors
and then:
  python -m ict_ref.launch --config cifar10_ct --method.lpips lpips.safetensors
"""


@dataclass(frozen=True)
class Options:
    """Make the file of --method.lpips from the published weights of LPIPS, which you supply: nothing is downloaded.

    FILE ... are two files, or one:
      vgg16-397923af.pth    VGG16 of torchvision, or any state dict with its names
      weights/v0.1/vgg.pth  the weights of its channels, in the package lpips
      lpips.pt              both, where lpips is installed: torch.save(lpips.LPIPS(net="vgg").state_dict(), "lpips.pt")
    Pickles are not executed. The package lpips and torchvision are not needed.

    The authors' two codes differ. The JAX code, of CIFAR-10, has VGG16's max pooling, as in the package lpips. The
    PyTorch code, of ImageNet, has average pooling in its place (piq's replace_pooling). Their inputs are the same: both
    map images from [-1, 1] to [0, 1] and standardize by ImageNet's mean and deviation.
    """

    files: Annotated[tyro.conf.Positional[Several[Path]], tyro.conf.arg(metavar="FILE")]
    """Published weights."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.safetensors")]
    """New file for --method.lpips."""
    pooling: Literal["max", "average"] = "max"
    """Pooling between VGG16's blocks: max for cifar10_ct, average for imagenet64_ct."""

    def __post_init__(self) -> None:
        expect(self.out.suffix == ".safetensors", "--out", "a name that ends in .safetensors", self.out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: import_lpips(parse_options(Options, arguments, NAME, EPILOG)))


def import_lpips(options: Options) -> int:
    """Write the distance and return the exit status.

    Raises:
        ValueError: The output exists, or the files do not have the weights.
        OSError: A file cannot be read or written.
    """
    refuse_outputs(options.out)
    # This import loads torch, so it follows the checks of the options.
    from ict_ref.training.lpips_file import published_weights, write_lpips

    state = published_weights(options.files)
    write_lpips(state, options.pooling, options.out)
    print(printable(f"wrote LPIPS by VGG16 with {options.pooling} pooling to {options.out}; give it as --method.lpips"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
