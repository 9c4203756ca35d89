"""Finished batches of samples in files that are written atomically, so that sampling can be resumed.

A file is a .npy with its SHA-256 at the end. A damaged one is made again.
"""

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.sample.recipe import FORMAT
from ict_ref.utils.atomic import refuse_link, remove_leftovers, write_atomically
from ict_ref.utils.file_format import first_difference, format_of
from ict_ref.utils.json_file import read_json, shown
from ict_ref.utils.regular_file import read_regular

ABOUT = "about.json"
FILE = re.compile(r"about\.json|batch-\d{6,}\.npy")
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Parts:
    """A folder with one file per finished batch, from any process, and a file that describes them."""

    folder: Path
    batches: Sequence[range]
    event: tuple[int, ...] | None = None
    """Shape of a sample; None if batches are only counted."""

    def begin(self, about: dict[str, Any]) -> None:
        """Create the folder, or check that an existing one has the same description.

        The caller holds a lock on the samples.

        Raises:
            ValueError: The folder holds other samples or other files.
            OSError: The folder cannot be written.
        """
        file = self.folder / ABOUT
        refuse_link(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder, FILE.fullmatch)
        if not any(self.folder.iterdir()):  # also where a process was killed before it wrote the file
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

    def missing(self, rank: int = 0, size: int = 1) -> list[int]:
        """Return the numbers of the batches that rank `rank` of `size` ranks still has to make."""
        return [number for number in range(rank, len(self.batches), size) if self._read(number) is None]

    def made(self) -> int:
        """Return the number of finished samples, without reading them."""
        return sum(len(batch) for number, batch in enumerate(self.batches) if self._file(number).exists())

    def keep(self, number: int, pixels: UInt8[Tensor, " some *event"]) -> None:
        """Write a batch.

        Raises:
            OSError: The file cannot be written.
        """
        file = io.BytesIO()
        np.save(file, pixels.numpy())
        content = file.getvalue()
        write_atomically(self._file(number), content + hashlib.sha256(content).digest())

    def gathered(self) -> UInt8[Tensor, " n *event"]:
        """Return all samples, in order.

        Raises:
            ValueError: A file is missing or has been damaged since it was written.
            OSError: A file cannot be read.
        """
        arrays = []
        for number in range(len(self.batches)):
            array = self._read(number)
            if array is None:
                raise ValueError(f"{self._file(number)} is missing or damaged. The same command makes it again.")
            arrays.append(array)
        return torch.from_numpy(np.concatenate(arrays))

    def remove(self) -> None:
        """Delete the files and, if it is empty then, the folder."""
        for number in range(len(self.batches)):
            self._file(number).unlink(missing_ok=True)
        for name in ("lock", ABOUT):  # the first is of earlier versions
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # files of others stay, and the folder with them
            self.folder.rmdir()

    def _read(self, number: int) -> UInt8[np.ndarray, " some *event"] | None:
        """Return a batch, or None if its file is missing or damaged.

        Raises:
            OSError: The file cannot be read.
        """
        if not self._file(number).is_file():
            return None
        whole = read_regular(self._file(number))
        content = whole[:-DIGEST_BYTES]
        if hashlib.sha256(content).digest() != whole[-DIGEST_BYTES:]:
            return None
        array = np.load(io.BytesIO(content), allow_pickle=False)
        shape = array.shape[1:] if self.event is None else self.event
        return array if array.shape == (len(self.batches[number]), *shape) and array.dtype == np.uint8 else None

    def _file(self, number: int) -> Path:
        return self.folder / f"batch-{number:06d}.npy"
