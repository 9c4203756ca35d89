"""A search as a SLURM job: `python -m ict_ref.search --slurm`."""

from functools import partial

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.evaluate.features import find_features
from ict_ref.evaluate.group import ProcessGroup
from ict_ref.evaluate.reference import find_reference
from ict_ref.sample.job import on_gpus_of_job, submit_command
from ict_ref.search.find import most_scores, plan_of
from ict_ref.search.options import SearchOptions
from ict_ref.search.scored import Scored
from ict_ref.search.work import search
from ict_ref.utils.command_line import guarded

NAME = "ict_ref.search"


def submit_search(options: SearchOptions) -> int:
    """Submit the job and return the exit status of the submission, or with --wait that of the job.

    Raises:
        ValueError: The job would reject its options later, or SLURM rejects the job.
        OSError: A file cannot be read or written.
    """
    options = on_gpus_of_job(options)
    trained = load_pretrained(
        options.model, step=options.step, ema=options.ema, ema_sigma=options.ema_sigma, network=options.network
    )
    plan = plan_of(options, trained)
    find_reference(options.reference, find_features(options.features), ProcessGroup())
    return submit_command(
        NAME,
        options,
        partial(execute, options),
        place=options.folder,
        option="--out",
        total=most_scores(plan.nodes),
        unit="levels",
        progress=Scored(options.folder).count,
    )


def execute(options: SearchOptions) -> int:
    """Search in a process of the job, and return the exit status."""
    return guarded(NAME, lambda: search(options), stopped="stopped; the job resumes when SLURM starts it again")
