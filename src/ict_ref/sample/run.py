"""Trained models in Python: `ict_ref.Run`."""

import operator
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.checkpoint.network_file import export, load_exported
from ict_ref.checkpoint.training_state import checkpoints, is_checkpoint
from ict_ref.config import Config
from ict_ref.networks.model import ConsistencyModel
from ict_ref.networks.own import OwnNetworkLike
from ict_ref.sample.recipe import Recipe
from ict_ref.utils.atomic import new_files, refuse_outputs
from ict_ref.utils.command_line import expect


@dataclass(frozen=True)
class Run:
    """A trained run, or the model in one of its checkpoints or in a network file.

    `path` is the run folder or the file. `network` is that of a run with a network of the user's own. `step` chooses a
    checkpoint, by default the newest; `ema` and `ema_sigma` choose EMA weights as the options of the commands do.

    The model is loaded when it is first used; `Run.load` loads it at once.
    """

    path: Path
    network: OwnNetworkLike | None = None
    step: int | None = None
    ema: float | None = None
    ema_sigma: float | None = None
    device: torch.device | str = "cpu"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: OwnNetworkLike | None = None,
        *,
        step: int | None = None,
        ema: float | None = None,
        ema_sigma: float | None = None,
        device: torch.device | str = "cpu",
    ) -> "Run":
        """Load a run folder, a checkpoint, or a network file of export_checkpoint or import_checkpoint.

        A run with a network of the user's own needs `network`: the module, a function that builds it, or its name
        `module:callable`, which is imported. The training data are not needed.

        Raises:
            LaterFormatError: a later version of ict_ref wrote the file.
            ValueError: the path holds neither of them, a file is damaged, the run does not have such a checkpoint or
                such EMA weights, or `network` fails, is missing or is not the run's. The message is one line.
            OSError: a file cannot be read.
        """
        run = cls(Path(path), network, step, ema, ema_sigma, device)
        _ = run.pretrained
        return run

    @cached_property
    def pretrained(self) -> PretrainedModel:
        """The loaded model, with the settings for sampling from it."""
        return load_pretrained(
            self.path, self.device, step=self.step, ema=self.ema, ema_sigma=self.ema_sigma, network=self.network
        )

    @property
    def model(self) -> ConsistencyModel:
        """The consistency function f(x, sigma, labels), with the EMA weights, in evaluation mode."""
        return self.pretrained.model

    @property
    def config(self) -> Config | None:
        """The configuration of the run; None for a network file."""
        return self.pretrained.config

    def sample(
        self,
        n: int,
        sigmas: Iterable[float] | None = None,
        labels: Iterable[int] | int | None = None,
        seed: int = 0,
    ) -> UInt8[Tensor, "n channels side side"]:
        """Return n images, made in one step, or in one step for each of the descending noise levels `sigmas`.

        Images are uint8 on the CPU, from 0 to 255: byte for byte those that `python -m ict_ref.sample` makes with the
        same `--sigmas`, `--labels` and `--seed`. Image k depends on the seed and k only. `labels` are classes that the
        images take in turn, by default all. `images / 127.5 - 1` has the range of training.

        Raises:
            ValueError: n is not positive, the noise levels do not descend to sigma_min, or a class does not exist.
        """
        wanted = () if labels is None else _integers("labels", labels)
        levels = () if sigmas is None else tuple(float(sigma) for sigma in sigmas)
        (count,), (number,) = _integers("n", n), _integers("seed", seed)
        expect(count >= 1, "n", "an integer >= 1", count)
        recipe = Recipe(self.pretrained, count, levels, wanted, number)
        return torch.cat([recipe.make(batch) for batch in recipe.batches])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a new folder, or its EMA weights to a new network file, FILE.safetensors.

        The folder has the configuration, the metrics and the checkpoints: commands use it as they use the first one,
        and training can be resumed there. A network file needs a network that the configuration describes.

        Raises:
            ValueError: the path exists, or the run has no folder or no network that a file describes.
            OSError: a file cannot be read or written.
        """
        place = Path(path)
        refuse_outputs(place, options={place: "path"})
        if place.suffix == ".safetensors":
            self._export(place)
            return
        expect(self.path.is_dir(), "path", f"FILE.safetensors for the file {self.path}", place)
        with new_files(place, options={place: "path"}) as new:
            aside = new.folder(place)
            for file in (self.path / "config.json", self.path / "metrics.jsonl", *checkpoints(self.path).values()):
                shutil.copy2(file, aside)

    def _export(self, place: Path) -> None:
        if self.path.is_dir() or is_checkpoint(self.path):
            weights = load_ema(self.path, self.step, decay=self.ema, sigma=self.ema_sigma, network=self.network)
            export(weights.network, place)
        else:
            export(load_exported(self.path), place)


def _integers(name: str, values: Any) -> tuple[int, ...]:
    """Return an integer or several ones, also those of NumPy and torch, as Python's.

    Raises:
        ValueError: a value is not an integer.
    """
    listed = values if isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0 else [values]
    found = []
    for value in listed:
        try:
            found.append(operator.index(value))
        except TypeError:
            raise ValueError(f"{name}: expected integers, got {value!r}") from None
    return tuple(found)
