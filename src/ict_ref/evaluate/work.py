"""One run of the command: reading images, scoring samples and writing the report."""

import dataclasses
from pathlib import Path

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.evaluate.curve import NAME, Scorer, refuse_other_than_file, score_checkpoints
from ict_ref.evaluate.features import Features, find_features
from ict_ref.evaluate.group import ProcessGroup, joined_by
from ict_ref.evaluate.measured import Measured, measure_together
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.evaluate.reference import Reference, count_of, find_reference, measured_reference
from ict_ref.evaluate.report import report
from ict_ref.evaluate.scores import score
from ict_ref.evaluate.sets import ImageSet, print_remarks, recipe_of, sampled, stored
from ict_ref.evaluate.statistics_file import save
from ict_ref.sample.recipe import Recipe
from ict_ref.utils.atomic import NewFiles, new_files, refuse_link
from ict_ref.utils.command_line import FAILED, expect, say
from ict_ref.utils.printable import printable, printable_lines
from ict_ref.utils.torchscript import trust

COUNT = 50_000
CLIP = {"as-trained": None, "yes": True, "no": False}
# Options of samples that are made, which stored samples do not have.
OF_MODELS = (
    "step", "ema", "ema_sigma", "network", "count", "sigmas", "labels", "label_order", "seed", "clip", "truncate",
    "precision", "compile",
)  # fmt: skip


def work(options: EvaluateOptions) -> int:
    """Score the samples as one process of the command, and return the exit status.

    Raises:
        ValueError: The images, the features, the device or an output path cannot be used.
        OSError: A file cannot be read or written.
    """
    with joined_by(options) as group:
        return (score_every_milestone if options.every_milestone else score_samples)(options, group)


def score_samples(options: EvaluateOptions, group: ProcessGroup) -> int:
    """Score the samples, print and write the results in the first process, and return the exit status.

    Raises:
        ValueError: The images, the features or an output path cannot be used.
        OSError: A file cannot be read or written.
    """
    files = options.new_files if group.first else {}
    with new_files(*files, options=files) as new:
        reference = _score_samples(options, group, new)
    if options.save_stats and reference is not None and group.first:
        print(printable(f"wrote statistics of {reference.count} images of {options.reference} to {options.save_stats}"))
    return 0


def _score_samples(options: EvaluateOptions, group: ProcessGroup, new: NewFiles) -> Measured | None:
    """Print the scores, write the results, and return the statistics of the reference where they are computed."""
    features, real, fake = inputs(options, group)
    reference, channels = measured_reference(real, fake, features, group, least=max(2, options.k + 1))
    if options.save_stats and reference is not None and group.first:
        save(reference, features, new.file(options.save_stats))
    if fake is None:
        return reference
    samples = measure_together(fake, features, group, channels=channels, classify=True, what="samples")
    if samples is None or reference is None:
        return None  # the first process has the results
    scores = score(samples, reference, k=options.k)
    found = report(scores, samples, reference, features, k=options.k, device=group.device.type)
    print(printable_lines(found.text()))
    if options.table:
        print(f"\n{found.beside_paper()}")
    if options.json:
        new.write(options.json, found.to_json())
    return reference


def inputs(options: EvaluateOptions, group: ProcessGroup) -> tuple[Features, Reference, ImageSet | None]:
    """Return the features, the reference and the samples, which are made later; None without SAMPLES.

    Raises:
        ValueError: The features, the reference, the samples or their model cannot be used.
        OSError: A file cannot be read.
    """
    trust(options.trust)
    features = find_features(options.features, group.device)
    real = find_reference(options.reference, features, group)
    if not isinstance(real, ImageSet):
        got = f"the statistics {options.reference}"
        expect(options.save_stats is None, "--save-stats", "images as --reference", got)
    return (
        features,
        real,
        None if options.samples is None else _samples(options, options.samples, count_of(real), group),
    )


def _samples(options: EvaluateOptions, samples: str, reference: int | None, group: ProcessGroup) -> ImageSet:
    """Return stored samples, or samples of a model: --count of them, by default as many as the reference has."""
    place = Path(samples)
    if not (place / "config.json").is_file() and place.suffix != ".safetensors":
        defaults = {field.name: field.default for field in dataclasses.fields(EvaluateOptions)}
        for name in OF_MODELS:
            missing = getattr(options, name) == defaults[name]
            option = f"--{name.replace('_', '-')}"
            expect(missing, option, "a run or a network as SAMPLES", place, "Leave it out.")
        images = stored(samples, "SAMPLES")
        print_remarks(images, group)
        return images
    trained = load_pretrained(
        place, group.device, step=options.step, ema=options.ema, ema_sigma=options.ema_sigma, network=options.network
    )
    images = sampled(
        recipe_of(
            trained,
            options,
            count=_count(options, reference),
            sigmas=options.sigmas,
            labels=options.labels,
            seed=options.seed or 0,
            clip=CLIP[options.clip or "as-trained"],
        )
    )
    print_remarks(images, group)
    return images


def _count(options: EvaluateOptions, reference: int | None) -> int:
    """Return the number of samples: --count, by default as many as the reference has."""
    return min(COUNT, reference or COUNT) if options.count is None else options.count


def run_and_curve(options: EvaluateOptions) -> tuple[Path, Path]:
    """Return the folder of the run whose checkpoints are scored, and the file of the scores.

    Raises:
        ValueError: SAMPLES is not a run folder, or the file is a link, a folder or a device.
    """
    run = Path(options.samples or "")
    expect((run / "config.json").is_file(), "SAMPLES", "a run folder for --every-milestone", run)
    path = options.json or run / NAME
    refuse_link(path)
    refuse_other_than_file(path)
    return run, path


def score_every_milestone(options: EvaluateOptions, group: ProcessGroup) -> int:
    """Score every checkpoint of a run, print the table and return the exit status: 1 if one cannot be read.

    Raises:
        ValueError: SAMPLES is not a run folder with checkpoints, or the file has other scores.
        OSError: A file cannot be read or written.
    """
    run, path = run_and_curve(options)
    trust(options.trust)
    features = find_features(options.features, group.device)
    real = find_reference(options.reference, features, group)
    newest = load_pretrained(run, ema=options.ema, ema_sigma=options.ema_sigma, network=options.network)
    first = sampled(Recipe(newest, 2))
    reference, channels = measured_reference(real, first, features, group, least=2)
    scorer = Scorer(
        options=options,
        features=features,
        reference=reference,
        channels=channels,
        k=options.k,
        count=_count(options, count_of(real)),
        sigmas=options.sigmas,
        labels=options.labels,
        seed=options.seed or 0,
        clip=CLIP[options.clip or "as-trained"],
        ema=options.ema,
        ema_sigma=options.ema_sigma,
        group=group,
    )
    curve, unusable = score_checkpoints(run, scorer, path)
    if curve is None:
        return 0  # the first process has the results
    print(printable_lines(f"{curve.table()}\n\n{path}"))
    for line in unusable:
        say("ict_ref.evaluate", FAILED, line)
    return FAILED if unusable else 0
