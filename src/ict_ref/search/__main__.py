"""The command: `python -m ict_ref.search RUN --reference REFERENCE`."""

import sys
from collections.abc import Sequence

from ict_ref.evaluate.shared_options import parse_scoring
from ict_ref.sample.placement import dispatched
from ict_ref.search.options import EPILOG, SearchOptions
from ict_ref.utils.command_line import guarded, leave

NAME = "ict_ref.search"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(
        NAME,
        lambda: _run(parse_scoring(SearchOptions, given, NAME, EPILOG), given),
        stopped="stopped; the same command resumes",
    )


def _run(options: SearchOptions, given: Sequence[str]) -> int:
    # These imports load torch, so they follow the checks of the options.
    def here() -> int:
        from ict_ref.search.work import search

        return search(options)

    def submit() -> int:
        from ict_ref.search.submit import submit_search

        return submit_search(options)

    return dispatched(NAME, given, options, here, submit)


if __name__ == "__main__":
    leave(main())
