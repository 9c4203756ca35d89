"""One run of the command: reading images, scoring samples and writing the report."""

from pathlib import Path

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.evaluate.curve import NAME, Scorer, refuse_other_than_file, score_checkpoints
from ict_ref.evaluate.features import find_features
from ict_ref.evaluate.measured import Measured, measure
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.evaluate.reference import find_reference, measured_reference
from ict_ref.evaluate.report import report
from ict_ref.evaluate.scores import score
from ict_ref.evaluate.sets import ImageSet, sampled, stored
from ict_ref.evaluate.statistics_file import save
from ict_ref.sample.recipe import Recipe
from ict_ref.utils.atomic import refuse_link, write_atomically
from ict_ref.utils.command_line import FAILED, expect, refuse_place, say

COUNT = 50_000
CLIP = {"as-trained": None, "yes": True, "no": False}


def work(options: EvaluateOptions) -> int:
    """Score the samples, print and write the results, and return the exit status.

    Raises:
        ValueError: The images, the features or an output path cannot be used.
        OSError: A file cannot be read or written.
    """
    if options.every_milestone:
        return score_every_milestone(options)
    features = find_features(options.features)
    real = find_reference(options.reference, features)
    if isinstance(real, Measured):
        got = f"the statistics {options.reference}"
        expect(options.save_stats is None, "--save-stats", "images as --reference", got)
    fake = None if options.samples is None else _samples(options, options.samples, real.count)
    reference, channels = measured_reference(real, fake, features, least=max(2, options.k + 1))
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


def _samples(options: EvaluateOptions, samples: str, reference: int | None) -> ImageSet:
    """Return stored samples, or samples of a model: --count of them, by default as many as the reference has."""
    place = Path(samples)
    if not (place / "config.json").is_file() and place.suffix != ".safetensors":
        for option in ("step", "ema", "ema_sigma", "count", "sigmas", "labels", "seed", "clip"):
            missing = getattr(options, option) in (None, ())
            name = f"--{option.replace('_', '-')}"
            expect(missing, name, "a run or a network as SAMPLES", place, "Leave it out.")
        return stored(samples)
    trained = load_pretrained(place, step=options.step, ema=options.ema, ema_sigma=options.ema_sigma)
    clip = CLIP[options.clip or "as-trained"]
    return sampled(Recipe(trained, _count(options, reference), options.sigmas, options.labels, options.seed or 0, clip))


def _count(options: EvaluateOptions, reference: int | None) -> int:
    """Return the number of samples: --count, by default as many as the reference has."""
    return min(COUNT, reference or COUNT) if options.count is None else options.count


def score_every_milestone(options: EvaluateOptions) -> int:
    """Score every checkpoint of a run, print the table and return the exit status: 1 if one cannot be read.

    Raises:
        ValueError: SAMPLES is not a run folder with checkpoints, or the file has other scores.
        OSError: A file cannot be read or written.
    """
    run = Path(options.samples or "")
    expect((run / "config.json").is_file(), "SAMPLES", "a run folder for --every-milestone", run)
    path = options.json or run / NAME
    refuse_link(path)
    refuse_other_than_file(path)
    features = find_features(options.features)
    real = find_reference(options.reference, features)
    first = sampled(Recipe(load_pretrained(run), 2))
    reference, channels = measured_reference(real, first, features, least=2)
    scorer = Scorer(
        features=features,
        reference=reference,
        channels=channels,
        k=options.k,
        count=_count(options, reference.count),
        sigmas=options.sigmas,
        labels=options.labels,
        seed=options.seed or 0,
        clip=CLIP[options.clip or "as-trained"],
    )
    curve, unusable = score_checkpoints(run, scorer, path)
    print(f"{curve.table()}\n\n{path}")
    for line in unusable:
        say("ict_ref.evaluate", FAILED, line)
    return FAILED if unusable else 0
