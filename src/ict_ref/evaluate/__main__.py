"""The command: `python -m ict_ref.evaluate SAMPLES --reference REFERENCE`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.utils.command_line import Parser, guarded, refuse_place

# torch is imported once the arguments are known to be good: help and errors come at once.
if TYPE_CHECKING:
    from ict_ref.evaluate.sets import ImageSet

NAME = "ict_ref.evaluate"
DESCRIPTION = """\
Judge samples by real images: Frechet distance (FID), kernel distance (KID), inception score, precision and recall, with
the protocol by which they were computed.

SAMPLES is a run's folder or a network file (.safetensors), of which samples are made; or a folder of images or an .npz
(arr_0, uint8). REFERENCE is a folder of images, an .npz, a prepared folder, digits:train or digits:held-out; or an .npz
of statistics (mu, sigma). Images are read into memory, prepared ones a batch at a time.

FID, KID and IS are these scores by the features of Inception, which are yours to bring: --features FILE takes any
TorchScript, and calls NVIDIA's translation of Inception as public FID code does. Nothing is downloaded. A module of
your own is called with float32 images [n, channels, height, width] from -1 to 1, of the images' own size, grey ones in
one channel unless the other set is in colour; it returns features [n, d], or features and probabilities [n, classes].
"""
EPILOG = """\
exit status: 0 scored; 2 refused, one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.evaluate runs/digits-1234abcd --reference digits:held-out --features digits
  python -m ict_ref.evaluate samples.npz --reference data/cifar10 --features inception-2015-12-05.pt --json scores.json
  python -m ict_ref.evaluate --reference data/cifar10 --features inception-2015-12-05.pt --save-stats cifar10.npz
  python -m ict_ref.evaluate runs/cifar10-1234abcd --sigmas 80 0.821 --reference cifar10.npz \\
      --features inception-2015-12-05.pt --table
"""
INCEPTION = (
    "--features inception needs its file, which is NVIDIA's and not downloaded: fetch "
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt and give "
    "--features inception-2015-12-05.pt; the protocol will have its SHA-256 (StyleGAN3's .pkl is a pickle, and not "
    "opened)"
)
COUNT = 50_000
CLIP = {"as-trained": None, "yes": True, "no": False}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = Parser(f"python -m {NAME}", DESCRIPTION, EPILOG)
    line.add_argument("samples", nargs="?", metavar="SAMPLES", help="may be left out with --save-stats")
    line.add_argument("--reference", required=True, metavar="REFERENCE", help="what real images look like")
    line.add_argument(
        "--features", default="pixels", metavar="NAME|FILE", help="pixels (default), digits, or a TorchScript file"
    )
    line.add_argument("--k", type=int, default=3, help="nearest neighbour of precision and recall (default: 3)")
    line.add_argument("--json", type=Path, metavar="FILE", help="write scores and protocol to this new file, too")
    line.add_argument(
        "--save-stats", type=Path, metavar="FILE.npz", help="write the reference's statistics, to be given next time"
    )
    line.add_argument("--table", action="store_true", help="print the scores beside Tables 2 and 3")
    made = line.add_argument_group("samples of a run or a network")
    made.add_argument("--count", type=int, help="how many (default: 50000, or as the reference if that has fewer)")
    made.add_argument("--sigmas", type=float, nargs="+", default=(), help="descending noise levels (default: one step)")
    made.add_argument("--labels", type=int, nargs="+", default=(), help="classes, in turn (default: all)")
    made.add_argument("--seed", type=int, help="of the noise (default: 0)")
    made.add_argument("--clip", choices=list(CLIP), help="cut each step's result to [-1, 1] (default: as-trained)")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: evaluate(_checked(parser().parse_args(arguments))))


def evaluate(options: argparse.Namespace) -> int:
    """Score the samples; return the exit status. Raises ValueError for what the user must mend."""
    from ict_ref.evaluate.features import find_features
    from ict_ref.evaluate.measured import Measured, channels_and_number, measure
    from ict_ref.evaluate.report import report
    from ict_ref.evaluate.scores import score
    from ict_ref.evaluate.sets import stored
    from ict_ref.evaluate.statistics_file import is_statistics, load, save
    from ict_ref.utils.atomic import write_atomically

    features = find_features(options.features)
    known = load(options.reference, features) if is_statistics(options.reference) else None
    real = known or stored(options.reference)
    if known and options.save_stats:
        raise ValueError(f"--save-stats needs a reference of images; {options.reference} has statistics already")
    fake = None if options.samples is None else _samples(options, real.count)
    images = {"samples": fake} if isinstance(real, Measured) else {"samples": fake, "reference": real}
    channels, number = channels_and_number(features, images, least=max(2, options.k + 1))
    if isinstance(real, Measured):
        if len(real.mean) != number:
            raise ValueError(f"{real.about['name']} is of {len(real.mean)} features; {features.name} has {number} here")
        reference = real
    else:
        reference = measure(real, features, channels=channels, classify=False, what="reference")
    if options.save_stats:
        options.save_stats.parent.mkdir(parents=True, exist_ok=True)
        save(reference, features, options.save_stats)
        print(f"statistics of {reference.count} images of {options.reference} are written to {options.save_stats}")
    if fake is None:
        return 0
    samples = measure(fake, features, channels=channels, classify=True, what="samples")
    found = report(score(samples, reference, k=options.k), samples, reference, features, k=options.k)
    print(found.text())
    if options.table:
        print(f"\n{found.beside_paper()}")
    if options.json:
        refuse_place(options.json, "--json")  # somebody may have written there meanwhile
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, found.to_json())
    return 0


def _samples(options: argparse.Namespace, reference: int | None) -> "ImageSet":
    """Return the samples of a model, as many as asked for or as the reference has, or those that are stored."""
    from ict_ref.checkpoint.load import load_pretrained
    from ict_ref.evaluate.sets import sampled, stored
    from ict_ref.sample.recipe import Recipe

    place = Path(options.samples)
    if not (place / "config.json").is_file() and place.suffix != ".safetensors":
        for option in ("count", "sigmas", "labels", "seed", "clip"):
            if getattr(options, option) not in (None, ()):
                raise ValueError(f"--{option} is for samples of a run or a network; {place} is neither")
        return stored(options.samples)
    count = min(COUNT, reference or COUNT) if options.count is None else options.count
    clip = CLIP[options.clip or "as-trained"]
    trained = load_pretrained(place)
    return sampled(Recipe(trained, count, options.sigmas, tuple(options.labels), options.seed or 0, clip))


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options. Raises ValueError for those that cannot be, before anything takes time."""
    if options.samples is None and options.save_stats is None:
        raise ValueError("needs SAMPLES, or --save-stats for the statistics of the reference alone")
    if options.features == "inception":
        raise ValueError(INCEPTION)
    if options.k < 1:
        raise ValueError(f"--k needs 1 or more; got {options.k}")
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed needs 0 or more; got {options.seed}")
    if options.save_stats and options.save_stats.suffix != ".npz":
        raise ValueError(f"--save-stats needs a name that ends in .npz; got {options.save_stats}")
    for option in ("json", "save_stats"):
        if getattr(options, option):
            refuse_place(getattr(options, option), f"--{option.replace('_', '-')}")
    return options


if __name__ == "__main__":
    sys.exit(main())
