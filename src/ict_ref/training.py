"""The training loop: update after update, and the student's average, until the curriculum ends or somebody stops it."""

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ict_ref.config import Config
from ict_ref.data import Images, to_float
from ict_ref.formulas import ema_update
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.optimizer import RAdam
from ict_ref.run_folder import METRICS, Checkpoint, forget_metrics_after, load_checkpoint, save_checkpoint
from ict_ref.step import discretization, draw, refuse_bad_numbers, teacher_decay, training_loss


class Trainer:
    """Student, its average, its teacher if that is another, and its optimizer, after `step` updates."""

    def __init__(self, config: Config, images: Images) -> None:
        refuse_bad_numbers(config)
        self.config, self.images = config, images
        self.step = 0
        self.event = images.event
        self.model = build_model(config, event=self.event, classes=images.classes)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.teacher = None if config.method.mu0 is None else copy.deepcopy(self.average)
        # iCT, Appendix B: RAdam; betas, eps and the absence of decay, warm-up and clipping are those of CM's code.
        self.optimizer = RAdam(self.model.parameters(), lr=config.train.learning_rate, betas=(0.9, 0.999), eps=1e-8)

    def update(self) -> Float[Tensor, ""]:
        """Make one update and return the loss before it, the mean over the batch.

        Raises FloatingPointError, and leaves the parameters as they are, if loss or gradient is not finite.
        """
        train = self.config.train
        pixels, classes = self.images.batch(self.step, batch_size=train.batch_size, seed=train.seed)
        x = to_float(pixels).to(getattr(torch, train.dtype))
        labels = classes if self.config.data.labels else None
        draws = draw(
            self.step,
            range(train.lanes),
            self.config,
            event=self.event,
            sites=self.model.network.dropout_sites(),
        )
        levels = discretization(self.step, self.config)
        losses = training_loss(self.model, x, labels, draws, levels, self.config.method, teacher=self.teacher)
        loss = losses.mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if not bool((loss.detach() + norm).isfinite()):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())} and the norm of its gradient {float(norm)} at step "
                f"{self.step + 1}, N = {len(levels.sigmas)}"
            )
        self.optimizer.step()
        follow(self.average, self.model, decay=train.ema_decay)
        if self.teacher is not None:
            follow(self.teacher, self.model, decay=teacher_decay(self.step, self.config))
        self.step += 1
        return loss.detach()

    def checkpoint(self) -> Checkpoint:
        """Return everything that later updates depend on; random numbers depend on the step alone.

        The tensors are the trainer's own, not copies. Raises FloatingPointError if one of them is not finite.
        """
        # A state holds Fourier frequencies too, which nothing trains: they are part of the network.
        tensors = self._states()
        for name, value in self.model.named_parameters():
            for key, state in self.optimizer.state[value].items():
                tensors[f"optimizer/{key}/{name}"] = state
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise FloatingPointError(f"{name} is not finite after step {self.step}; it is not saved")
        return Checkpoint(self.step, tensors, self.config.digest())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go to the checkpoint's step.

        Raises ValueError, and changes nothing, if it is of another configuration or another model.
        """
        if checkpoint.config != self.config.digest():
            raise ValueError("the checkpoint is of another configuration; move it away to train from the start")
        here = self._states()
        keys = ("step", "exp_avg", "exp_avg_sq") if checkpoint.step > 0 else ()
        for name, parameter in self.model.named_parameters():
            here |= {f"optimizer/{key}/{name}": torch.tensor(0.0) if key == "step" else parameter for key in keys}
        if here.keys() != checkpoint.tensors.keys():
            odd = sorted(here.keys() ^ checkpoint.tensors.keys())[0]
            raise ValueError(f"the checkpoint is of another model: {odd} is missing or unknown")
        for name, value in here.items():
            there = tuple(checkpoint.tensors[name].shape)
            if there != tuple(value.shape):
                raise ValueError(
                    f"the checkpoint is of another model: {name} is {there} there and {tuple(value.shape)} here"
                )
        for kind, model in self._models().items():
            model.load_state_dict({name: checkpoint.tensors[f"{kind}/{name}"] for name in model.state_dict()})
        state = {
            number: {key: checkpoint.tensors[f"optimizer/{key}/{name}"] for key in keys}
            for number, (name, _) in enumerate(self.model.named_parameters())
            if keys
        }
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.optimizer.updates = self.step = checkpoint.step

    def _models(self) -> dict[str, ConsistencyModel]:
        """Return all models whose state later updates depend on."""
        models = {"student": self.model, "average": self.average}
        return models if self.teacher is None else {**models, "teacher": self.teacher}

    def _states(self) -> dict[str, Tensor]:
        models = self._models().items()
        return {f"{kind}/{name}": value for kind, model in models for name, value in model.state_dict().items()}


def follow(average: ConsistencyModel, model: ConsistencyModel, *, decay: float) -> None:
    """Move an average towards the model it is of, parameter by parameter."""
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.copy_(ema_update(mean, value, decay=decay))


def resume(trainer: Trainer, folder: Path) -> None:
    """Go on where the run in this folder was last saved, if it was. Raises ValueError for a damaged checkpoint."""
    checkpoint = load_checkpoint(folder)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    forget_metrics_after(folder, trainer.step)


def fit(trainer: Trainer, folder: Path, stop_requested: Callable[[], bool]) -> bool:
    """Train to the end, saving on the way, and return True; or, once stop is requested, save and return False.

    Raises FloatingPointError at the first loss or gradient that is not finite; the last checkpoint stays as it is.
    """
    train = trainer.config.train
    bar = tqdm(
        total=train.steps,
        initial=trainer.step,
        unit="step",
        desc="training",
        bar_format="{desc} {n}/{total} |{bar:20}| {postfix}, {remaining} left",
        mininterval=0.5,
    )
    with bar, (folder / METRICS).open("a") as metrics:
        began, first = time.monotonic(), trainer.step
        while trainer.step < train.steps:
            levels = len(discretization(trainer.step, trainer.config).sigmas)
            loss = float(trainer.update())
            speed = (trainer.step - first) * train.batch_size / (time.monotonic() - began)
            line = {"step": trainer.step, "levels": levels, "loss": loss, "images_per_second": round(speed, 1)}
            metrics.write(json.dumps(line) + "\n")
            bar.set_postfix_str(f"N {levels}, loss {loss:.4g}, {speed:.0f} images/s", refresh=False)
            bar.update()
            stopping = stop_requested()
            if stopping or trainer.step == train.steps or trainer.step % train.save_every == 0:
                # On disk before the checkpoint that says they are.
                metrics.flush()
                os.fsync(metrics.fileno())
                save_checkpoint(folder, trainer.checkpoint())
            if stopping and trainer.step < train.steps:
                return False
    return True
