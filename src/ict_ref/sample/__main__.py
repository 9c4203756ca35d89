"""The command: `python -m ict_ref.sample`."""

import sys
from collections.abc import Sequence

from ict_ref.sample.options import Sampling, parse
from ict_ref.sample.placement import dispatched
from ict_ref.utils.command_line import guarded, leave

NAME = "ict_ref.sample"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(NAME, lambda: _run(parse(given), given))


def _run(sampling: Sampling, given: Sequence[str]) -> int:
    # These imports load torch, so they follow the checks of the options.
    def here() -> int:
        from ict_ref.sample.make import execute

        return execute(sampling)

    def submit() -> int:
        from ict_ref.sample.submit import submit_sampling

        return submit_sampling(sampling)

    return dispatched(NAME, given, sampling, here, submit)


if __name__ == "__main__":
    leave(main())
