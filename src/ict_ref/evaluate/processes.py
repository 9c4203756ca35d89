"""The processes of a command: one for each GPU, or as many as its options say."""

import os
import sys
from collections.abc import Callable, Sequence

from ict_ref.distributed.local_launcher import supervise, visible_gpus
from ict_ref.evaluate.shared_options import SharedOptions


def in_processes(name: str, given: Sequence[str], options: SharedOptions, action: Callable[[], int]) -> int:
    """Run `action` here, or the command `name` with its arguments in several processes; return the exit status."""
    if "WORLD_SIZE" not in os.environ and (count := options.processes or visible_gpus(options.device)) > 1:
        return supervise([sys.executable, "-m", name, *given], count, name=name)
    return action()
