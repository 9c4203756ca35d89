"""Starts three processes of the launcher's command, of which process 1 has an error while the others are busy.

Its exchange with them has begun, and they would not take part in it for a long time. The options end with
`--out FOLDER`; the time of the error is in the file `failed` beside the folder.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from ict_ref.distributed.local_launcher import supervise
from ict_ref.launch.__main__ import main
from ict_ref.training.trainer import Trainer
from ict_ref.utils.command_line import leave

update = Trainer.update


def failing_update(trainer: Trainer) -> None:
    """Make two updates, then fail or be busy."""
    if trainer.step < 2:
        update(trainer)
    elif trainer.group.rank == 1:
        dist.all_reduce(torch.zeros(1), async_op=True)
        (Path(sys.argv[-1]).parent / "failed").write_text(str(time.monotonic()))
        raise RuntimeError("a defect of rank 1")
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(600)


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit(supervise([sys.executable, "-m", "tests.support.failing", *sys.argv[1:]], 3))
    Trainer.update = failing_update  # type: ignore[method-assign, assignment]
    leave(main())
