"""The command: `python -m ict_ref.sample`."""

import os
import sys
from collections.abc import Sequence

from ict_ref.distributed.local_launcher import supervise, visible_gpus
from ict_ref.sample.options import parse
from ict_ref.utils.command_line import guarded, leave

NAME = "ict_ref.sample"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(NAME, lambda: _dispatched(given))


def _dispatched(given: Sequence[str]) -> int:
    """Sample in this process, in several processes or as a SLURM job, as the arguments require."""
    sampling = parse(given)
    if sampling.slurm:
        from ict_ref.sample.submit import submit_sampling

        return submit_sampling(sampling)
    if "WORLD_SIZE" not in os.environ and (count := sampling.processes or visible_gpus(sampling.device)) > 1:
        return supervise([sys.executable, "-m", "ict_ref.sample", *given], count, name=NAME)
    from ict_ref.sample.make import execute

    return execute(sampling)


if __name__ == "__main__":
    leave(main())
