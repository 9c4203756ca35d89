"""The command: `python -m ict_ref.plan --config imagenet64 --gpus 32`."""

import json
import sys
from collections.abc import Sequence

from ict_ref.plan.options import NAME, parse
from ict_ref.utils.command_line import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: run(arguments))


def run(arguments: Sequence[str] | None) -> int:
    """Print the plan and return the exit status.

    Raises:
        ValueError: An option cannot be used, or an update does not fit.
        OSError: A file cannot be read.
    """
    request = parse(arguments)
    # torch is imported after the arguments are checked, so that help and errors appear at once.
    from ict_ref.plan.preset_table import table
    from ict_ref.plan.report import plan, text

    if request.options.all:
        print(table())
    elif request.options.json:
        print(json.dumps(plan(request).as_dict(), indent=2))
    else:
        print(text(plan(request)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
