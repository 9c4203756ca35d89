"""Scoring as a SLURM job: `python -m ict_ref.evaluate --slurm`."""

import signal
from functools import partial
from pathlib import Path

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.evaluate.curve import read_curve
from ict_ref.evaluate.features import find_features
from ict_ref.evaluate.group import ProcessGroup
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.evaluate.reference import find_reference
from ict_ref.evaluate.sets import recipe_of
from ict_ref.evaluate.work import inputs, run_and_curve, work
from ict_ref.sample.job import on_gpus_of_job, submit_command
from ict_ref.utils.command_line import FAILED, guarded, say

NAME = "ict_ref.evaluate"


def submit_scoring(options: EvaluateOptions) -> int:
    """Submit the job and return the exit status of the submission, or with --wait that of the job.

    Raises:
        ValueError: The job would reject its options later, or SLURM rejects the job.
        OSError: A file cannot be read or written.
    """
    options = on_gpus_of_job(options)
    submitted = partial(submit_command, NAME, options, partial(execute, options))
    if options.every_milestone:
        run, place = run_and_curve(options)
        trained = load_pretrained(run, ema=options.ema, ema_sigma=options.ema_sigma, network=options.network)
        count, seed = options.count or 2, options.seed or 0
        recipe_of(trained, options, count=count, sigmas=options.sigmas, labels=options.labels, seed=seed)
        find_reference(options.reference, find_features(options.features), ProcessGroup())
        steps = len(checkpoints(run))
        finished = partial(scored_checkpoints, place)
        return submitted(place=place, option="--json", total=steps, unit="checkpoints", progress=finished)
    found = options.json or options.save_stats
    if found is None:
        raise ValueError("--slurm: expected --json, the file for the scores of the job, got nothing. Give --json FILE.")
    inputs(options, ProcessGroup())
    option = "--json" if options.json else "--save-stats"
    return submitted(place=found, option=option, total=1, unit="scores", progress=lambda: int(found.exists()))


def execute(options: EvaluateOptions) -> int:
    """Score in a process of the job, and return the exit status.

    A job of one score cannot resume, so at its time limit it fails instead of starting again.
    """
    status = guarded(NAME, lambda: work(options), stopped="stopped; the job resumes when SLURM starts it again")
    if status != 128 + signal.SIGUSR2 or options.every_milestone:
        return status
    limit = f"{options.job.minutes} minutes"
    return say(NAME, FAILED, f"--job.minutes: expected enough for the scores, got {limit}. Give more minutes or nodes.")


def scored_checkpoints(path: Path) -> int:
    """Return the number of checkpoints whose scores are in the file."""
    return len(read_curve(path).points) if path.exists() else 0
