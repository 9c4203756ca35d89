"""A trained model, to make samples of: from a run's folder, its average as last saved, or from a network file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.run_dir import load_config, stored_digests
from ict_ref.checkpoint.training_state import Checkpoint, newest_checkpoint
from ict_ref.config import Config, Method, Sample
from ict_ref.data.dataset import load
from ict_ref.networks.model import ConsistencyModel
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.utils.command_line import say


@dataclass(frozen=True)
class PretrainedModel:
    """A consistency model and what is known of it."""

    name: str
    """Where it came from, and after which step it was saved."""
    model: ConsistencyModel
    event: tuple[int, int, int]
    """Channels, height and width of an image."""
    classes: int
    """0: it has no labels."""
    method: Method
    """Of a run, its own; of a network file, iCT's with the file's sigma_min and sigma_data."""
    sample: Sample
    """How the run makes samples; of a network file, the defaults."""
    config: Config | None
    """The run's, None for a network file."""

    def labels(self, count: int, wanted: tuple[int, ...] = ()) -> Int64[Tensor, " {count}"] | None:
        """Return the classes of so many samples: those wanted, or else all, one after the other, over and over.

        None for a model without labels. Raises ValueError for labels that it has not.
        """
        if self.classes == 0:
            if wanted:
                raise ValueError(f"--labels needs a model with labels; {self.name} has none")
            return None
        for label in wanted:
            if not 0 <= label < self.classes:
                raise ValueError(f"--labels needs classes from 0 to {self.classes - 1}; got {label}")
        cycle = torch.tensor(wanted or range(self.classes))
        return cycle[torch.arange(count) % len(cycle)]


def load_pretrained(path: Path, device: torch.device | str = "cpu") -> PretrainedModel:
    """Return the model in a run's folder or a network file. Raises ValueError if there is none, or it is damaged."""
    config: Config | None = None
    if path.is_dir():
        config = load_config(path)
        weights, step = load_ema(path)
        name = f"{path} after step {step}"
    else:
        weights, name = load_exported(path), str(path)
    model = weights.model().eval().requires_grad_(False).to(device)
    return PretrainedModel(
        name=name,
        model=model,
        event=(weights.channels, weights.size, weights.size),
        classes=weights.classes,
        method=config.method if config else Method(sigma_min=weights.sigma_min, sigma_data=weights.sigma_data),
        sample=config.sample if config else Sample(),
        config=config,
    )


def load_ema(run: Path) -> tuple[NetworkCheckpoint, int]:
    """Return the average in a run's checkpoint, and after how many steps. Raises ValueError if there is none."""
    config, digests = load_config(run), stored_digests(run)

    def of_this_run(checkpoint: Checkpoint) -> None:
        if checkpoint.config not in digests:
            raise ValueError(
                f"{run} has a checkpoint of another configuration than its config.json's; restore one of them"
            )

    checkpoint, refused = newest_checkpoint(run, of_this_run)
    if checkpoint is None:
        raise ValueError(f"{run} has no checkpoint yet; a run writes one every record.save_every steps")
    for file in refused:
        say(
            "ict_ref",
            0,
            f"warning: {file} is damaged, or another run's; the average after step {checkpoint.step} is taken",
        )
    images = load(config.data).train
    prefix = "average/network."
    weights = NetworkCheckpoint(
        options=config.network,
        channels=images.event[0],
        size=images.event[1],
        classes=images.classes if config.data.labels else 0,
        state={
            name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
        },
        sigma_min=config.method.sigma_min,
        sigma_data=config.method.sigma_data,
    )
    return weights, checkpoint.step
