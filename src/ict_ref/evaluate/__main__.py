"""The command: `python -m ict_ref.evaluate SAMPLES --reference REFERENCE`."""

import sys
from collections.abc import Sequence

from ict_ref.evaluate.options import EPILOG, EvaluateOptions
from ict_ref.evaluate.shared_options import parse_scoring
from ict_ref.sample.placement import dispatched
from ict_ref.utils.atomic import refuse_outputs
from ict_ref.utils.command_line import guarded, leave

NAME = "ict_ref.evaluate"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(
        NAME,
        lambda: _run(parse_scoring(EvaluateOptions, given, NAME, EPILOG), given),
        stopped="stopped; with --every-milestone the same command resumes",
    )


def _run(options: EvaluateOptions, given: Sequence[str]) -> int:
    if not options.every_milestone:
        refuse_outputs(*options.new_files, options=options.new_files)

    # These imports load torch, so they follow the checks of the options.
    def here() -> int:
        from ict_ref.evaluate.work import work

        return work(options)

    def submit() -> int:
        from ict_ref.evaluate.submit import submit_scoring

        return submit_scoring(options)

    return dispatched(NAME, given, options, here, submit)


if __name__ == "__main__":
    leave(main())
