"""Train, sample and score: `python -m ict_ref.launch --config digits`.

Started again with the same configuration, it goes on where it was stopped.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ict_ref.options import Launch, parse
from ict_ref.run import REFUSED, guarded, run, say
from ict_ref.supervisor import supervise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _dispatched(given))


def _dispatched(given: Sequence[str]) -> int:
    """Do what the arguments say, here, in several processes, or by submitting it."""
    if "--list" in given:
        from ict_ref.listing import table

        print(table())
        return 0
    try:
        launch = parse(given)
    except (ValueError, OverflowError) as error:
        return say(REFUSED, str(error))
    if launch.slurm:
        from ict_ref.submission import submit

        return submit(launch)
    if launch.dry_run:
        print(launch.config.to_json())
        return 0
    if "WORLD_SIZE" not in os.environ and (count := launch.processes or visible_gpus(launch)) > 1:
        return supervise([sys.executable, "-m", "ict_ref.launch", *given], count)
    return run(launch)


def visible_gpus(launch: Launch) -> int:
    """Return how many GPUs there are to run on."""
    if launch.config.machine.device == "cpu" or not Path("/proc/driver/nvidia").exists():
        return 0  # without importing torch, which takes seconds
    import torch

    return torch.cuda.device_count()


if __name__ == "__main__":
    sys.exit(main())
