"""The command: `python -m ict_ref.evaluate SAMPLES --reference REFERENCE`."""

import sys
from collections.abc import Sequence

from ict_ref.evaluate.options import EPILOG, EvaluateOptions
from ict_ref.evaluate.processes import in_processes
from ict_ref.utils.command_line import guarded, leave, refuse_place
from ict_ref.utils.option_parser import parse_options

NAME = "ict_ref.evaluate"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(
        NAME,
        lambda: _run(parse_options(EvaluateOptions, given, NAME, EPILOG), given),
        stopped="stopped; with --every-milestone the same command resumes",
    )


def _run(options: EvaluateOptions, given: Sequence[str]) -> int:
    for path, option in ((options.json, "--json"), (options.save_stats, "--save-stats")):
        if path is not None and not options.every_milestone:
            refuse_place(path, option)

    def work_here() -> int:
        # This import loads torch, so it follows the checks of the options.
        from ict_ref.evaluate.work import work

        return work(options)

    return in_processes(NAME, given, options, work_here)


if __name__ == "__main__":
    leave(main())
