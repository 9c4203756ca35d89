"""The process group of a command that scores, on the device of its options."""

import contextlib
import dataclasses
from collections.abc import Iterator

import torch

from ict_ref.config import Machine
from ict_ref.distributed.process_group import ProcessGroup, joined
from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.utils.compiler import refuse_without_compiler
from ict_ref.utils.signals import StopRequest
from ict_ref.utils.system import existing_signals

__all__ = ["ProcessGroup", "joined_by"]
SIGNALS = existing_signals("SIGTERM", "SIGUSR2")
"""Signals after which all processes stop at the next images. Ctrl-C stops each one at once."""


@contextlib.contextmanager
def joined_by(options: SharedOptions) -> Iterator[ProcessGroup]:
    """Join the process group of the command, and leave it when the block ends.

    The group stops at the signals that SLURM sends before it ends a job.

    Raises:
        ValueError: The device does not exist, or the compiler that --compile needs.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    with joined(Machine(device=options.device), option="--device") as group:
        if options.compile:
            refuse_without_compiler(group.device.type, "--compile", "leave --compile out")
        stop = StopRequest(SIGNALS)
        with stop.listening():
            yield dataclasses.replace(group, stop=lambda: stop.signal)
