"""A trained model, to make samples of: from a run's folder, its average as last saved, or from a network file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ict_ref.config import Config, Method, Sample
from ict_ref.export_checkpoint import averaged_student
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.networks.model import ConsistencyModel
from ict_ref.checkpoint.run_dir import load_config


@dataclass(frozen=True)
class Trained:
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


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Return the model in a run's folder or a network file. Raises ValueError if there is none, or it is damaged."""
    config: Config | None = None
    if path.is_dir():
        config = load_config(path)
        weights, step = averaged_student(path)
        name = f"{path} after step {step}"
    else:
        weights, name = load_exported(path), str(path)
    model = weights.model().eval().requires_grad_(False).to(device)
    return Trained(
        name=name,
        model=model,
        event=(weights.channels, weights.size, weights.size),
        classes=weights.classes,
        method=config.method if config else Method(sigma_min=weights.sigma_min, sigma_data=weights.sigma_data),
        sample=config.sample if config else Sample(),
        config=config,
    )
