"""Loading of a trained model, from a run folder or from a network file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.run_dir import load_config, stored_digests
from ict_ref.checkpoint.safetensors_io import UnusableFileError
from ict_ref.checkpoint.training_state import Checkpoint, newest_checkpoint
from ict_ref.config import Config, Method, Sample
from ict_ref.data.dataset import load
from ict_ref.networks.model import ConsistencyModel
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.utils.command_line import expect, say

EMA_PREFIX = "average/network."
"""Start of the names under which checkpoints store the EMA weights."""


@dataclass(frozen=True)
class PretrainedModel:
    """A consistency model with the settings for sampling from it."""

    name: str
    """Path of the run or of the file; for a run also the step."""
    model: ConsistencyModel
    """Model with the EMA weights, in evaluation mode, without gradients."""
    event: tuple[int, int, int]
    """Channels, height and width of an image."""
    classes: int
    """Number of classes; 0 for a model without labels."""
    method: Method
    """Method of the run. For a network file: iCT's, with the sigma_min and sigma_data of the file."""
    sample: Sample
    """Sampling settings of the run; for a network file the defaults."""
    config: Config | None
    """Configuration of the run; None for a network file."""

    def labels(self, count: int, wanted: tuple[int, ...] = ()) -> Int64[Tensor, " {count}"] | None:
        """Return the labels of `count` samples: the wanted classes, by default all, repeated in their order.

        Returns None for a model without labels.

        Raises:
            ValueError: a wanted class does not exist.
        """
        if self.classes == 0:
            if wanted:
                raise ValueError(f"--labels: expected a model with labels, got {self.name}. Omit --labels.")
            return None
        for label in wanted:
            if not 0 <= label < self.classes:
                raise ValueError(f"--labels: expected classes from 0 to {self.classes - 1}, got {label}")
        cycle = torch.tensor(wanted or range(self.classes))
        return cycle[torch.arange(count) % len(cycle)]


def load_pretrained(path: Path, device: torch.device | str = "cpu") -> PretrainedModel:
    """Load the model in a run folder (its newest EMA weights) or in a network file.

    >>> from ict_ref.checkpoint.network_file import export
    >>> from ict_ref.config import minimal
    >>> from ict_ref.networks.model import build_model
    >>> options = minimal().network
    >>> state = build_model(minimal(), event=(1, 8, 8), classes=10).network.state_dict()
    >>> export(NetworkCheckpoint(options=options, channels=1, size=8, classes=10, state=state), Path("network"))
    >>> pretrained = load_pretrained(Path("network"))  # or the folder of a run
    >>> noise = 80 * torch.randn(4, *pretrained.event)
    >>> pretrained.model(noise, torch.full((4,), 80.0), pretrained.labels(4)).shape
    torch.Size([4, 1, 8, 8])

    Raises:
        ValueError: the path holds neither a run with a checkpoint nor a network file, the file is damaged, or torch
            cannot use the device.
        OSError: the file cannot be read.
    """
    is_usable = torch.device(device).type != "cuda" or torch.cuda.is_available()
    expect(is_usable, "--device", "a GPU that torch can use for cuda", "a CPU only", "Leave the option out.")
    config: Config | None = None
    if path.is_dir():
        config = load_config(path)
        checkpoint, step = load_ema(path)
        name = f"{path} after step {step}"
    else:
        checkpoint, name = load_exported(path), str(path)
    model = checkpoint.model().eval().requires_grad_(False).to(device)
    return PretrainedModel(
        name=name,
        model=model,
        event=(checkpoint.channels, checkpoint.size, checkpoint.size),
        classes=checkpoint.classes,
        method=config.method if config else Method(sigma_min=checkpoint.sigma_min, sigma_data=checkpoint.sigma_data),
        sample=config.sample if config else Sample(),
        config=config,
    )


def load_ema(run: Path) -> tuple[NetworkCheckpoint, int]:
    """Return the EMA weights in the newest good checkpoint of a run, and the step after which it was saved.

    Raises:
        ValueError: the run does not have a good checkpoint, or its configuration or data cannot be read.
    """
    config, digests = load_config(run), stored_digests(run)

    def refuse_other(checkpoint: Checkpoint) -> None:
        if checkpoint.config not in digests:
            reason = f"{run} has a checkpoint of another configuration than that of its config.json"
            raise UnusableFileError(reason, "Restore one of them.")

    checkpoint, rejected = newest_checkpoint(run, refuse_other)
    if checkpoint is None:
        raise ValueError(f"{run} has no checkpoint yet. A run writes one every --record.save-every steps.")
    for file in rejected:
        problem = "is damaged or belongs to another run"
        say("ict_ref", 0, f"warning: {file} {problem}; using the EMA weights of step {checkpoint.step}")
    images = load(config.data).train
    stored = checkpoint.tensors.items()
    ema = NetworkCheckpoint(
        options=config.network,
        channels=images.event[0],
        size=images.event[1],
        classes=images.classes if config.data.labels else 0,
        state={name.removeprefix(EMA_PREFIX): tensor for name, tensor in stored if name.startswith(EMA_PREFIX)},
        sigma_min=config.method.sigma_min,
        sigma_data=config.method.sigma_data,
    )
    return ema, checkpoint.step
