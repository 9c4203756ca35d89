"""Finished batches of samples in files that are written atomically, so that sampling can be resumed."""

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

from ict_ref.sample.recipe import FORMAT
from ict_ref.utils.atomic import locked, remove_leftovers, write_atomically
from ict_ref.utils.file_format import first_difference, format_of
from ict_ref.utils.json_file import read_json, shown


@dataclass(frozen=True)
class Parts:
    """A folder with one file per finished batch, from any process, and a file that describes them."""

    folder: Path
    batches: Sequence[range]

    def begin(self, about: dict[str, Any]) -> None:
        """Create the folder, or check that an existing one has the same description.

        Raises:
            ValueError: The folder holds other samples or other files.
        """
        file = self.folder / "about.json"
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            write_atomically(file, json.dumps(about, indent=2).encode() + b"\n")
            return
        try:
            there = read_json(file, "Remove the folder, or choose another --out.")
        except OSError:
            raise ValueError(
                f"--out: expected a folder of samples at {self.folder}, got other files. Move it, or choose another "
                "--out."
            ) from None
        format_of(file, there, FORMAT)
        if differs := first_difference(there, about):
            name, got, expected = differs
            raise ValueError(
                f"--out: {self.folder} has samples of a stopped command with another {name}: "
                f"expected {expected}, got {shown(got)}. Remove it, or choose another --out."
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder while the block runs.

        Raises:
            ValueError: Another process has locked it.
        """
        with locked(self.folder, "lock"):
            remove_leftovers(self.folder, lambda name: name != "about.json")  # which is written without the lock
            yield

    def missing(self, rank: int = 0, size: int = 1) -> list[int]:
        """Return the numbers of the batches that rank `rank` of `size` ranks still has to make."""
        return [number for number in range(rank, len(self.batches), size) if not self._file(number).exists()]

    def made(self) -> int:
        """Return the number of finished samples."""
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
