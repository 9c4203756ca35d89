"""A thread that writes the checkpoints of a run while training continues."""

import dataclasses
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from jaxtyping import Shaped
from torch import Tensor

from ict_ref.checkpoint.training_state import Checkpoint, save_checkpoint
from ict_ref.utils.command_line import say


class CheckpointWriter:
    """A writer of checkpoints with at most one write in flight; as a context, it waits for that write when it ends.

    `save` copies each tensor to the host once. A thread computes the checksum and writes the file from this copy, by
    the rules of `save_checkpoint`, which gets `keep` and `milestones`. The copy is freed when the file is written.

    >>> import torch
    >>> with CheckpointWriter(Path("."), keep=1) as writer:
    ...     writer.save(Checkpoint(step=3, tensors={"w": torch.ones(2)}, config="abc"))
    >>> [path.name for path in Path(".").iterdir()]
    ['checkpoint-00000003.safetensors']
    """

    def __init__(self, folder: Path, *, keep: int, milestones: Collection[int] = ()) -> None:
        self.milestones = milestones
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the write in flight. Its error is raised, or printed beside an error of the block.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            file = getattr(failure, "filename", None) or f"the checkpoint in {self._folder}"
            reason = getattr(failure, "strerror", None) or f"{type(failure).__name__}: {failure}"
            say("ict_ref", 0, f"warning: {file} was not written: {reason}")

    def save(self, checkpoint: Checkpoint) -> None:
        """Wait for the write before, copy the tensors to the host, and begin to write them.

        Raises:
            OSError: the file before cannot be written. Nothing is written now.
        """
        self.wait()
        tensors = {name: host_copy(tensor) for name, tensor in checkpoint.tensors.items()}
        copied = dataclasses.replace(checkpoint, tensors=tensors)
        # Not a daemon: the interpreter would end it in the middle of a file.
        self._thread = threading.Thread(target=self._write, args=(copied,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the write in flight.

        Raises:
            OSError: the file cannot be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(self._folder, checkpoint, keep=self._keep, milestones=self.milestones)
        except Exception as error:  # raised by `wait`, in the thread of the run
            self._error = error


def host_copy(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Return a copy on the host with the same strides, so that a device needs no memory for it."""
    return tensor.detach().to("cpu", copy=True)
