"""Updates of the paper's networks: images a second, and the share of the measured rate of matrix products."""

import dataclasses
import time

import torch

from benchmarks.gpu.device import peak_bytes, step_seconds, synchronize
from benchmarks.gpu.networks import POLICIES, Case, Preset, trainer_of
from benchmarks.gpu.notes import Notes, first_line, read_rows
from ict_ref.plan.flop import flop_per_image

STEPS, TINY_STEPS = 20, 2
TARGETS = (Case("cifar10", "float16", 512, compiled=True), Case("imagenet64", "float16", 128, compiled=True))
"""The cases with a target, which are measured first."""


def cases() -> list[Case]:
    """Return all cases, the most important first: a stage that is stopped has measured those.

    These are the targets, the same uncompiled, what else the presets use, and then those that need no compilation.
    """
    batches: list[tuple[Preset, int]] = [(case.preset, case.batch) for case in TARGETS]
    batches += [("cifar10", 256), ("imagenet64", 64), ("cifar10", 128)]
    first = [*TARGETS, *(dataclasses.replace(case, compiled=False) for case in TARGETS)]
    first += [Case("cifar10", "tf32", 512, compiled) for compiled in (False, True)]
    others = [
        Case(preset, precision, batch, compiled)
        for compiled in (False, True)
        for preset, batch in batches
        for precision in POLICIES[::-1]
    ]
    return [*dict.fromkeys(first + others)]


def tiny_cases() -> list[Case]:
    """Return a case of each kind."""
    return [Case("cifar10", "bfloat16", 512), Case("imagenet64", "tf32", 128, compiled=True)]


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the speed of each case."""
    rates = {row["precision"]: row["tflops"] for row in read_rows(notes.folder / "device.json") if "precision" in row}
    for case in tiny_cases() if tiny else cases():
        measure_case(notes, case, rates.get(case.precision), tiny=tiny)


def compile_ahead(notes: Notes, *, tiny: bool) -> None:
    """Fill the compiler's cache, so that the measured cases compile in seconds."""
    for case in tiny_cases() if tiny else cases():
        if case.compiled:
            notes.add("compiled", **described(case), seconds=first_update_s(case, tiny=tiny))


def first_update_s(case: Case, *, tiny: bool) -> float:
    """Return the time of the first update, which compiles."""
    with trainer_of(case, tiny=tiny) as trainer:
        began = time.perf_counter()
        trainer.update()
        synchronize()
        return time.perf_counter() - began


def measure_case(notes: Notes, case: Case, rate: float | None, *, tiny: bool) -> None:
    """Note images a second, TFLOP/s, their share of `rate` in TFLOP/s, and the peak of memory; or why not."""
    try:
        with trainer_of(case, tiny=tiny) as trainer:
            began = time.perf_counter()
            trainer.update()
            synchronize()
            first_s = time.perf_counter() - began
            for _ in range(TINY_STEPS if tiny else 5):
                trainer.update()
            seconds = step_seconds(trainer.update, TINY_STEPS if tiny else STEPS)
            trainer.guard.raise_recorded()
            memory, config = peak_bytes(), trainer.config
            batch = config.train.batch_size
            tflops = batch * flop_per_image(config) / seconds / 1e12
            notes.add(
                "speed",
                **described(case) | {"batch": batch},
                noise_shards=config.train.noise_shards,
                images_per_second=batch / seconds,
                milliseconds=1000 * seconds,
                tflops=tflops,
                share=None if rate is None else tflops / rate,
                peak_gib=None if memory is None else memory / 2**30,
                first_s=first_s,
                skipped=trainer.skipped,
            )
    except (torch.OutOfMemoryError, FloatingPointError) as error:
        notes.add("speed", **described(case), failed=first_line(error))


def described(case: Case) -> dict[str, object]:
    """Return the fields by which a row names its case."""
    return {"preset": case.preset, "precision": case.precision, "compiled": case.compiled, "batch": case.batch}
