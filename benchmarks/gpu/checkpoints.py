"""The time for which a checkpoint stops training, and the time in which its thread writes the file."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu.device import peak_bytes, reset_peak, synchronize
from benchmarks.gpu.networks import Case, trainer_of
from benchmarks.gpu.notes import Notes
from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.checkpoint.writer import CheckpointWriter

CASES = (Case("cifar10", "float16", 64), Case("imagenet64", "float16", 64))


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the checkpoint of each preset."""
    for case in CASES:
        measure_case(notes, case, tiny=tiny)


def measure_case(notes: Notes, case: Case, *, tiny: bool) -> None:
    """Note seconds, size, and the memory that the device needs in addition."""
    with trainer_of(case, tiny=tiny) as trainer, TemporaryDirectory(dir=notes.folder) as place:
        trainer.update()
        synchronize()
        reset_peak()
        held, began = peak_bytes(), time.perf_counter()
        checkpoint = trainer.checkpoint()
        checked_s, used = time.perf_counter() - began, peak_bytes()
        reset_peak()
        with CheckpointWriter(Path(place), keep=1) as writer:
            began = time.perf_counter()
            writer.save(checkpoint)
            copied_s, copying = time.perf_counter() - began, peak_bytes()
        written_s = time.perf_counter() - began
        (file,) = checkpoints(Path(place)).values()
        notes.add(
            "checkpoint",
            preset=case.preset,
            gib=file.stat().st_size / 2**30,
            check_s=checked_s,
            copy_s=copied_s,
            write_s=written_s,
            check_mib=None if used is None or held is None else (used - held) / 2**20,
            copy_mib=None if copying is None or held is None else (copying - held) / 2**20,
        )
