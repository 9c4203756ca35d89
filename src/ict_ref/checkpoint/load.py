"""Loading of a trained model, from a run folder, a checkpoint or a network file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.training_state import is_checkpoint
from ict_ref.config import Config, Method, Sample
from ict_ref.networks.model import ConsistencyModel, refuse_below_the_cut
from ict_ref.networks.own import OwnNetwork, OwnNetworkLike
from ict_ref.utils.command_line import expect


@dataclass(frozen=True)
class PretrainedModel:
    """A consistency model with the settings for sampling from it."""

    name: str
    """Path of the run or of the file; for a run also the step, and the EMA weights if they are not the default."""
    model: ConsistencyModel
    """Model with the EMA weights, in evaluation mode, without gradients."""
    event: tuple[int, int, int]
    """Channels, height and width of an image."""
    classes: int
    """Number of classes; 0 for a model without labels."""
    class_names: tuple[str, ...] | None
    """Names of the classes, if known."""
    method: Method
    """Method of the run. For a network file: iCT's, with the noise levels and sigma_data of the file."""
    sample: Sample
    """Sampling settings of the run; for a network file the defaults, with the cut of TCM's second stage if it
    is higher than the second level."""
    config: Config | None
    """Configuration of the run; None for a network file."""

    @property
    def lowest_sigma(self) -> float:
        """Return the lowest noise level of training: sigma_min, or the cut of TCM's second stage."""
        return self.model.sigma_cut or self.method.sigma_min

    def refuse_untrained(self, option: str, sigmas: Sequence[float]) -> None:
        """Reject noise levels below the cut of TCM's second stage, given by the name of their option.

        Raises:
            ValueError: a level is below the cut.
        """
        cut = self.model.sigma_cut
        refuse_below_the_cut(option, [sigma for sigma in sigmas if sigma < cut], cut)

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


def load_pretrained(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    step: int | None = None,
    ema: float | None = None,
    ema_sigma: float | None = None,
    network: OwnNetworkLike | None = None,
) -> PretrainedModel:
    """Load the model in a run folder, a checkpoint or a network file; the training data are not needed.

    `step` chooses a checkpoint of a run folder; by default the newest good one. `ema` chooses EMA weights by their
    decay; by default those of the first decay. `ema_sigma` is the relative width of EMA weights to reconstruct.
    `network` is a network of the user's own, for a run with one: a module, a function that builds it, or its name
    `module:callable`.

    >>> from ict_ref.checkpoint.network_file import export
    >>> from ict_ref.config import minimal
    >>> from ict_ref.networks.model import build_model
    >>> from ict_ref.networks.network_checkpoint import NetworkCheckpoint
    >>> options = minimal().network
    >>> state = build_model(minimal(), event=(1, 8, 8), classes=10).network.state_dict()
    >>> export(NetworkCheckpoint(options=options, channels=1, size=8, classes=10, state=state), Path("network"))
    >>> pretrained = load_pretrained(Path("network"))  # or the folder of a run
    >>> noise = 80 * torch.randn(4, *pretrained.event)
    >>> pretrained.model(noise, torch.full((4,), 80.0), pretrained.labels(4)).shape
    torch.Size([4, 1, 8, 8])

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the path holds neither a run with such a checkpoint nor a checkpoint or network file, it does not
            have such EMA weights, it holds a denoiser, a file is damaged, torch cannot use the device, or `network`
            fails, is missing or is not the run's.
        OSError: the file cannot be read.
    """
    is_usable = torch.device(device).type != "cuda" or torch.cuda.is_available()
    expect(is_usable, "--device", "a GPU that torch can use for cuda", "a CPU only", "Leave the option out.")
    if path.is_dir() or is_checkpoint(path):
        weights = load_ema(path, step, decay=ema, sigma=ema_sigma, network=network)
        loaded, config = weights.network, weights.config
        name = f"{path} after step {weights.step}" if path.is_dir() else str(path)
        name = f"{name}, {weights.chosen}" if weights.chosen else name
        method, sample = config.method, config.sample
    else:
        given = (("--step", step), ("--ema", ema), ("--ema-sigma", ema_sigma), ("--network", network))
        for option, value in given:
            expected = "a run folder or a checkpoint" if option in ("--ema", "--network") else "a run folder"
            expect(value is None, option, expected, path, f"Leave {option} out.")
        loaded, config, name = load_exported(path), None, str(path)
        middle = max(Sample.two_step_sigma, loaded.sigma_cut)
        method, sample = loaded.method, Sample(clip=loaded.clip, two_step_sigma=middle)
    distil = "Distil it with --method.objective distillation --method.denoiser and an exported file."
    expect(not loaded.is_denoiser, "RUN|FILE", "a consistency model", f"the denoiser {name}", distil)
    model = loaded.model().eval().requires_grad_(False).to(device)
    event = (loaded.channels, loaded.size, loaded.size)
    if isinstance(model.network, OwnNetwork):
        model.network.check(event, labels=loaded.classes > 0)
    return PretrainedModel(
        name=name,
        model=model,
        event=event,
        classes=loaded.classes,
        class_names=loaded.class_names,
        method=method,
        sample=sample,
        config=config,
    )
