"""What is trained, and one update of it: by one process or by several, whole batches or parts, to the same end."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ict_ref.checkpoint.training_state import Checkpoint
from ict_ref.config import Config
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.model import ConsistencyModel, Model, build_model, recompute
from ict_ref.training.distillation import load_score
from ict_ref.training.ema import update_ema
from ict_ref.training.loss import (
    discretization,
    draw_levels_and_noise,
    refuse_bad_numbers,
    teacher_decay,
    training_loss,
)
from ict_ref.training.microbatches import Batches, Examples
from ict_ref.training.radam import RAdam


class Trainer:
    """Student, its average, its teacher if that is another, and its optimizer, after `step` updates."""

    def __init__(self, config: Config, examples: Examples, world: ProcessGroup | None = None) -> None:
        refuse_bad_numbers(config)
        self.config, self.world = config, world or ProcessGroup()
        self.step = self.skipped = 0
        self.event, self.classes, self.device = examples.event, examples.classes, self.world.device
        self.parts = self.world.parts(config.train.lanes, config.machine.accumulate)
        self.model = self._built(examples)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.average.autocast = None  # it samples, in full precision
        self.teacher = None if config.method.mu0 is None else copy.deepcopy(self.model).requires_grad_(False)
        self.student = self._prepared()
        self.score = None
        if config.method.objective == "distillation":
            dtype = getattr(torch, config.train.dtype)
            self.score = load_score(
                config.method, self.event, labels=config.data.labels, dtype=dtype, device=self.device
            )
        # iCT, Appendix B: RAdam; betas, eps and the absence of decay, warm-up and clipping are those of CM's code.
        self.optimizer = RAdam(self.model.parameters(), lr=config.train.learning_rate, betas=(0.9, 0.999), eps=1e-8)
        on_gpu = self.device.type == "cuda"
        self.batches = Batches(examples, config, self.model.network.dropout_sites(), self.device, ahead=on_gpu)
        self.waits = not on_gpu
        """Whether each step's loss and gradient are looked at; else it is done by `refuse_nonfinite`, now and then."""
        self.loss = self.norm = torch.zeros((), device=self.device)
        """Of the last step, all processes together: its loss, and the norm of its gradient before clipping."""
        self._halted = torch.zeros(3, dtype=torch.float64, device=self.device)

    def update(self) -> None:
        """Make one update. Nothing is read from the device, unless the trainer waits for it.

        Raises FloatingPointError, and leaves everything as it is, if loss or gradient is not finite. A trainer that
        does not wait leaves its parameters as they are from then on, and `refuse_nonfinite` raises the error.
        """
        train = self.config.train
        self.optimizer.zero_grad()
        self.loss = self._backward()
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        finite = (self.loss + self.norm).isfinite()
        if (self.waits or train.skip_nonfinite > 0) and not bool(finite):
            self._skip()
            return
        if not self.waits:
            self._halt_unless(finite)
        if train.clip_gradient is not None:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), train.clip_gradient, self.norm)
        self.optimizer.step()
        update_ema(self.average, self.model, decay=train.ema_decay)
        if self.teacher is not None:
            update_ema(self.teacher, self.model, decay=teacher_decay(self.step, self.config))
        self.step += 1

    def refuse_nonfinite(self) -> None:
        """Raise the FloatingPointError of the first update whose loss or gradient was not finite."""
        step, loss, norm = self._halted.tolist()
        if step > 0:
            raise FloatingPointError(self._not_finite(int(step), loss, norm))

    def checkpoint(self) -> Checkpoint:
        """Return everything that later updates depend on; random numbers depend on the step alone.

        The tensors are the trainer's own, not copies. Raises FloatingPointError if one of them is not finite.
        """
        tensors = self._tensors()
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise FloatingPointError(f"{name} is not finite after step {self.step}; it is not saved")
        return Checkpoint(self.step, tensors, self.config.digest(), self.skipped)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go to the checkpoint's step.

        Raises ValueError, and changes nothing, if it is of another configuration or another model.
        """
        if checkpoint.config != self.config.digest():
            raise ValueError("the checkpoint is of another configuration; move it away to train from the start")
        updates = checkpoint.step - checkpoint.skipped
        shapes = {name: tuple(value.shape) for name, value in self._states().items()}
        for name, parameter in self.model.named_parameters() if updates > 0 else ():
            for key in MOMENTS:
                shapes[f"optimizer/{key}/{name}"] = () if key == "step" else tuple(parameter.shape)
        if shapes.keys() != checkpoint.tensors.keys():
            odd = sorted(shapes.keys() ^ checkpoint.tensors.keys())[0]
            raise ValueError(f"the checkpoint is of another model: {odd} is missing or unknown")
        for name, here in shapes.items():
            there = tuple(checkpoint.tensors[name].shape)
            if there != here:
                raise ValueError(f"the checkpoint is of another model: {name} is {there} there and {here} here")
        self._go_to(checkpoint.step, checkpoint.skipped)
        for name, value in self._tensors().items():
            value.copy_(checkpoint.tensors[name])

    def share(self) -> None:
        """Give the trainers of all processes the state of the first one."""
        numbers = torch.tensor([self.step, self.skipped])
        self.world.share_([numbers])
        if not self.world.first:
            self._go_to(*numbers.tolist())
        self.world.share_(self._tensors().values())

    def _built(self, examples: Examples) -> ConsistencyModel:
        train, machine = self.config.train, self.config.machine
        model = build_model(self.config, event=examples.event, classes=examples.classes).to(self.device)
        if machine.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.autocast = None if train.autocast == "none" else getattr(torch, train.autocast)
        return model

    def _prepared(self) -> Model:
        """Return the student as a step calls it; the teacher needs nothing of what is done here but compiling."""
        machine = self.config.machine
        if machine.recompute:
            recompute(self.model)
        if machine.compile:
            # Not the average, which makes a few samples: compiling would take longer.
            for model in (self.model, self.teacher):
                if model is not None:
                    model.network.compile()
        # The wrapper cannot be called in forward mode.
        if self.world.size == 1 or self.config.method.objective == "continuous":
            return self.model
        devices = [self.device] if self.device.type == "cuda" else None
        # Buffers are constants, and `share` gives them to all.
        buffers = [name for name, _ in self.model.named_buffers()]
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self.model, buffers)
        return DistributedDataParallel(self.model, device_ids=devices, gradient_as_bucket_view=True)

    def _backward(self) -> Float[Tensor, ""]:
        """Leave the gradient of the loss at the parameters, and return the loss: means over the whole batch."""
        levels = discretization(self.step, self.config, self.device)
        loss = torch.zeros((), dtype=getattr(torch, self.config.train.dtype), device=self.device)
        for number, part in enumerate(self.parts):
            last = number == len(self.parts) - 1
            after = (self.step + 1, self.parts[0]) if last else (self.step, self.parts[number + 1])
            then = after if after[0] < self.config.train.steps else None
            batch = self.batches.get((self.step, part), then)
            with self._gradients_exchanged(last):
                losses = training_loss(
                    self.student,
                    batch.x,
                    batch.labels,
                    batch.draws,
                    levels,
                    self.config.method,
                    # Not the wrapped student, which would count this call as one more of its own.
                    teacher=self.teacher or self.model,
                    score=self.score,
                )
                # Parts are equal, and so are processes, whose gradients are averaged.
                of_part = losses.mean() / len(self.parts)
                torch.autograd.backward(of_part)
            loss += of_part.detach()
        if self.student is self.model:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    self.world.mean_(parameter.grad)
        return self.world.mean_(loss)

    @contextlib.contextmanager
    def _gradients_exchanged(self, now: bool) -> Iterator[None]:
        if isinstance(self.student, DistributedDataParallel) and not now:
            with self.student.no_sync():
                yield
        else:
            yield

    def _skip(self) -> None:
        """Leave this step out, or raise FloatingPointError if no more may be."""
        if self.skipped >= self.config.train.skip_nonfinite:
            raise FloatingPointError(self._not_finite(self.step + 1, float(self.loss), float(self.norm)))
        self.skipped += 1
        self.step += 1

    def _halt_unless(self, finite: Bool[Tensor, ""]) -> None:
        """From the first step on that is not finite, let no update change anything; note it, and read nothing."""
        now = torch.stack([self.loss.new_full((), self.step + 1), self.loss, self.norm]).double()
        begins = (self._halted[0] == 0) & ~finite
        self._halted = torch.where(begins, now, self._halted)
        self.optimizer.found_inf = (self._halted[0] > 0).float()

    def _not_finite(self, step: int, loss: float, norm: float) -> str:
        index, _ = draw_levels_and_noise(step - 1, range(self.config.train.lanes), self.config, event=())
        sigmas = discretization(step - 1, self.config).sigmas
        low, high = float(sigmas[index.min()]), float(sigmas[index.max() + 1])
        what = f"the loss is {loss} and the norm of its gradient {norm}"
        return f"{what} at step {step}, N = {len(sigmas)}, noise levels {low:.4g} to {high:.4g}"

    def _go_to(self, step: int, skipped: int) -> None:
        """Stand after this step, with room for its moments."""
        self.step, self.skipped = step, skipped
        self.optimizer.updates = step - skipped
        self.optimizer.state.clear()
        if self.optimizer.updates > 0:
            for parameter in self.model.parameters():
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=self.device),
                    "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                    "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                }

    def _models(self) -> dict[str, ConsistencyModel]:
        """Return all models whose state later updates depend on."""
        models = {"student": self.model, "average": self.average}
        return models if self.teacher is None else {**models, "teacher": self.teacher}

    def _states(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return their tensors: parameters, and Fourier frequencies, which nothing trains."""
        models = self._models().items()
        return {f"{kind}/{name}": value for kind, model in models for name, value in model.state_dict().items()}

    def _tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return every tensor that later updates depend on."""
        tensors = self._states()
        for name, parameter in self.model.named_parameters():
            for key, state in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{key}/{name}"] = state
        return tensors


MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What the optimizer remembers of each parameter."""
