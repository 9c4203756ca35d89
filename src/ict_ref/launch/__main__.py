"""Train, sample and score: `python -m ict_ref.launch --config digits`.

The same command resumes a run that was stopped.
"""

import sys
from collections.abc import Sequence

from ict_ref.distributed.local_launcher import processes_to_start, supervise
from ict_ref.launch.options import parse
from ict_ref.launch.run import guarded, run, say
from ict_ref.utils.command_line import REFUSED, leave
from ict_ref.utils.printable import printable_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _dispatched(given))


def _dispatched(given: Sequence[str]) -> int:
    """Run in this process, in several processes or as a SLURM job, as the arguments require."""
    if "--list" in given:
        return _print_presets(given)
    try:
        launch = parse(given)
    except (ValueError, OverflowError) as error:
        return say(REFUSED, str(error))
    if launch.dry_run:
        from ict_ref.launch.dry_run import report

        print(printable_lines(report(launch, given)))
        return 0
    if launch.slurm:
        from ict_ref.launch.submit import submit_run

        return submit_run(launch)
    try:
        count = processes_to_start(launch.processes, launch.config.machine.device)
    except ValueError as error:
        return say(REFUSED, str(error))
    if count > 1:
        return supervise([sys.executable, "-m", "ict_ref.launch", *given], count)
    return run(launch)


def _print_presets(given: Sequence[str]) -> int:
    """Print the table of presets and return the exit status; other arguments are rejected, as they have no effect."""
    if others := [word for word in given if word != "--list"]:
        return say(REFUSED, f"--list: expected no other arguments, got {others[0]}. Leave it out.")
    from ict_ref.launch.presets_table import table

    print(table())
    return 0


if __name__ == "__main__":
    leave(main())
