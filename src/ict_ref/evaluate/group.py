"""The process group of a command that scores, on the device of its options."""

import contextlib
from collections.abc import Iterator

import torch

from ict_ref.config import Machine
from ict_ref.distributed.process_group import ProcessGroup, joined
from ict_ref.evaluate.shared_options import SharedOptions

__all__ = ["ProcessGroup", "joined_by"]


@contextlib.contextmanager
def joined_by(options: SharedOptions) -> Iterator[ProcessGroup]:
    """Join the process group of the command, and leave it when the block ends.

    Raises:
        ValueError: The device does not exist.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    with joined(Machine(device=options.device), option="--device") as group:
        yield group
