"""The command: `python -m ict_ref.evaluate SAMPLES --reference REFERENCE`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.evaluate.options import EPILOG, EvaluateOptions
from ict_ref.utils.command_line import guarded, refuse_place
from ict_ref.utils.option_parser import parse_options

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.evaluate.sets import ImageSet

NAME = "ict_ref.evaluate"
COUNT = 50_000
CLIP = {"as-trained": None, "yes": True, "no": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: evaluate(parse_options(EvaluateOptions, arguments, NAME, EPILOG)))


def evaluate(options: EvaluateOptions) -> int:
    """Score the samples and return the exit status.

    Raises:
        ValueError: The images, the features or an output path cannot be used.
        OSError: A file cannot be read or written.
    """
    for path, option in ((options.json, "--json"), (options.save_stats, "--save-stats")):
        if path is not None:
            refuse_place(path, option)
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
        raise ValueError(f"--save-stats: expected images as --reference, got the statistics {options.reference}")
    fake = None if options.samples is None else _samples(options, options.samples, real.count)
    images = {"samples": fake} if isinstance(real, Measured) else {"samples": fake, "reference": real}
    channels, number = channels_and_number(features, images, least=max(2, options.k + 1))
    if isinstance(real, Measured):
        if len(real.mean) != number:
            raise ValueError(
                f"--reference: expected statistics of {number} features ({features.name}), got {len(real.mean)} in "
                f"{real.about['name']}. Give images, or statistics of these features."
            )
        reference = real
    else:
        reference = measure(real, features, channels=channels, classify=False, what="reference")
    if options.save_stats:
        options.save_stats.parent.mkdir(parents=True, exist_ok=True)
        save(reference, features, options.save_stats)
        print(f"wrote statistics of {reference.count} images of {options.reference} to {options.save_stats}")
    if fake is None:
        return 0
    samples = measure(fake, features, channels=channels, classify=True, what="samples")
    found = report(score(samples, reference, k=options.k), samples, reference, features, k=options.k)
    print(found.text())
    if options.table:
        print(f"\n{found.beside_paper()}")
    if options.json:
        refuse_place(options.json, "--json")  # another process may have written this file in the meantime
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.json, found.to_json())
    return 0


def _samples(options: EvaluateOptions, samples: str, reference: int | None) -> "ImageSet":
    """Return stored samples, or samples of a model: --count of them, by default as many as the reference has."""
    from ict_ref.checkpoint.load import load_pretrained
    from ict_ref.evaluate.sets import sampled, stored
    from ict_ref.sample.recipe import Recipe

    place = Path(samples)
    if not (place / "config.json").is_file() and place.suffix != ".safetensors":
        for option in ("count", "sigmas", "labels", "seed", "clip"):
            if getattr(options, option) not in (None, ()):
                raise ValueError(f"--{option}: expected a run or a network as SAMPLES, got {place}. Leave it out.")
        return stored(samples)
    count = min(COUNT, reference or COUNT) if options.count is None else options.count
    clip = CLIP[options.clip or "as-trained"]
    trained = load_pretrained(place)
    return sampled(Recipe(trained, count, options.sigmas, options.labels, options.seed or 0, clip))


if __name__ == "__main__":
    sys.exit(main())
