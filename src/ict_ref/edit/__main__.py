"""The command: `python -m ict_ref.edit`."""

import sys
from collections.abc import Sequence

from ict_ref.edit.options import EPILOG, Options
from ict_ref.utils.atomic import refuse_outputs
from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import parse_options

NAME = "ict_ref.edit"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: _run(parse_options(Options, arguments, NAME, EPILOG)))


def _run(options: Options) -> int:
    refuse_outputs(options.folder)
    # This import loads torch, so it follows the checks of the options.
    from ict_ref.edit.work import work

    return work(options)


if __name__ == "__main__":
    sys.exit(main())
