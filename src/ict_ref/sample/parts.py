"""Samples that wait, in files that are never half-written, until all are made: what is stopped goes on."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.utils.atomic import locked, write_atomically


@dataclass(frozen=True)
class Parts:
    """A folder with a file for each batch, whoever has made it, and one that says what they are."""

    folder: Path
    batches: Sequence[range]

    def begin(self, about: dict[str, Any]) -> None:
        """Make the folder, or go on with what is there. Raises ValueError if that is something else."""
        file = self.folder / "about.json"
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            write_atomically(file, json.dumps(about, indent=2).encode() + b"\n")
            return
        try:
            there = json.loads(file.read_text())
        except (OSError, ValueError):
            raise ValueError(
                f"{self.folder} is in the way, and holds no samples; move it, or choose another --out"
            ) from None
        for name in about:
            if there.get(name) != about[name]:
                raise ValueError(
                    f"{self.folder} has samples of a run that was stopped; {name} is {there.get(name)} there and "
                    f"{about[name]} here; remove it, or choose another --out"
                )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while the block runs. Raises ValueError if somebody else does."""
        with locked(self.folder, "lock"):
            yield

    def missing(self, rank: int = 0, size: int = 1) -> list[int]:
        """Return which batches this one of so many processes still has to make."""
        return [number for number in range(rank, len(self.batches), size) if not self._file(number).exists()]

    def made(self) -> int:
        """Return how many samples there are."""
        lacking = set(self.missing())
        return sum(len(batch) for number, batch in enumerate(self.batches) if number not in lacking)

    def keep(self, number: int, pixels: UInt8[Tensor, " some *event"]) -> None:
        """Write a batch."""
        aside = self._file(number).with_suffix(".tmp")
        with aside.open("wb") as file:
            np.save(file, pixels.numpy())
        aside.replace(self._file(number))

    def gathered(self) -> UInt8[Tensor, " n *event"]:
        """Return all samples, in order."""
        arrays = [np.load(self._file(number), allow_pickle=False) for number in range(len(self.batches))]
        return torch.from_numpy(np.concatenate(arrays))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _file(self, number: int) -> Path:
        return self.folder / f"batch-{number:06d}.npy"
