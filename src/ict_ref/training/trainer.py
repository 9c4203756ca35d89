"""Student, EMA weights, teacher and optimizer, and one update of them, in one process or in several."""

import contextlib
import copy
from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ict_ref.checkpoint.training_state import Checkpoint
from ict_ref.config import Config
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.model import ConsistencyModel, build_model, recompute
from ict_ref.training.distillation import load_score
from ict_ref.training.ema import update_ema
from ict_ref.training.loss import discretization, refuse_bad_numbers, teacher_decay, training_loss
from ict_ref.training.microbatches import Examples, Microbatches
from ict_ref.training.nonfinite import NonFiniteGuard, describe_nonfinite
from ict_ref.training.radam import RAdam
from ict_ref.training.state import TrainingState


class Trainer:
    """The state of a training run after `step` updates, and the next update.

    `student` is trained, `student_ddp` is the student as a step calls it, `ema` holds the EMA weights that make
    samples, `teacher` is CT's averaged teacher or None where the student is its own teacher.
    """

    def __init__(self, config: Config, examples: Examples, group: ProcessGroup | None = None) -> None:
        refuse_bad_numbers(config)
        self.config, self.group, self.step = config, group or ProcessGroup(), 0
        self.event, self.classes, self.device = examples.event, examples.classes, self.group.device
        self.student = _built(config, examples, self.device)
        self.ema = copy.deepcopy(self.student).requires_grad_(False)
        self.ema.autocast = None  # it samples, in full precision
        self.teacher = None if config.method.mu0 is None else copy.deepcopy(self.student).requires_grad_(False)
        self.score = _score(config, self.event, self.device)
        self.student_ddp = self._prepared()
        # iCT, Appendix B: RAdam; betas, eps and the absence of decay, warm-up and clipping are those of CM's code.
        self.optimizer = RAdam(self.student.parameters(), lr=config.train.learning_rate, betas=(0.9, 0.999), eps=1e-8)
        self.state = TrainingState(self.student, self.ema, self.teacher, self.optimizer)
        parts = self.group.parts(config.train.lanes, config.machine.accumulate)
        self.microbatches = Microbatches(
            examples, config, self.student.network.dropout_sites(), self.device, parts, ahead=self.device.type == "cuda"
        )
        allowed = config.train.skip_nonfinite
        self.guard = NonFiniteGuard(self.device, allowed=allowed, describe=partial(describe_nonfinite, config))
        self.loss = self.norm = torch.zeros((), device=self.device)
        """Of the last step, over all processes: its loss, and the norm of its gradient before clipping."""

    @property
    def skipped(self) -> int:
        """Return how many updates were skipped because something was not finite."""
        return self.guard.skipped

    def update(self) -> None:
        """Make one update. On a GPU nothing is read from the device, unless updates may be skipped.

        Raises FloatingPointError, and changes nothing, if loss or gradient is not finite. On a GPU all later updates
        change nothing instead, and `guard.raise_recorded` raises the error.
        """
        train, step = self.config.train, self.step + 1
        self.optimizer.zero_grad()
        self.loss = self._backward()
        gradients = [parameter.grad for parameter in self.student.parameters() if parameter.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        if not self.guard.skips(step, self.loss, self.norm):
            self.optimizer.found_inf = self.guard.found_inf(step, self.loss, self.norm)
            if train.clip_gradient is not None:
                torch.nn.utils.clip_grads_with_norm_(self.student.parameters(), train.clip_gradient, self.norm)
            self.optimizer.step()
            update_ema(self.ema, self.student, decay=train.ema_decay)
            if self.teacher is not None:
                update_ema(self.teacher, self.student, decay=teacher_decay(self.step, self.config))
        self.step = step

    def _backward(self) -> Float[Tensor, ""]:
        """Set the gradient of the loss at the parameters, and return the loss: means over the whole batch."""
        levels = discretization(self.step, self.config, self.device)
        teacher = self.student if self.teacher is None else self.teacher  # unwrapped: DDP counts calls
        total = torch.zeros((), dtype=getattr(torch, self.config.train.dtype), device=self.device)
        for batch, is_last in self.microbatches.of_step(self.step):
            with self._without_exchange(is_last):
                losses = training_loss(
                    self.student_ddp, batch.x, batch.labels, batch.draws, levels, self.config.method,
                    teacher=teacher, score=self.score,
                )  # fmt: skip
                # Microbatches are equal, and so are processes, whose gradients are averaged.
                loss = losses.mean() / len(self.microbatches.parts)
                torch.autograd.backward(loss)
            total += loss.detach()
        if self.student_ddp is self.student:
            for parameter in self.student.parameters():
                if parameter.grad is not None:
                    self.group.mean_(parameter.grad)
        return self.group.mean_(total)

    def _without_exchange(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which DDP keeps gradients to itself, but for the last microbatch."""
        if isinstance(self.student_ddp, DistributedDataParallel) and not is_last:
            return self.student_ddp.no_sync()
        return contextlib.nullcontext()

    def _prepared(self) -> "ConsistencyModel | DistributedDataParallel":
        """Return the student as a step calls it: recomputing, compiled and wrapped as the configuration has it."""
        machine = self.config.machine
        if machine.recompute:
            recompute(self.student)
        for model in (self.student, self.teacher) if machine.compile else ():  # not ema, which makes few samples
            if model is not None:
                model.network.compile()
        # The wrapper cannot be called in forward mode.
        if self.group.size == 1 or self.config.method.objective == "continuous":
            return self.student
        devices = [self.device] if self.device.type == "cuda" else None
        # Buffers are constants, and `share` gives them to all.
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self.student, [name for name, _ in self.student.named_buffers()])
        return DistributedDataParallel(self.student, device_ids=devices, gradient_as_bucket_view=True)

    def checkpoint(self) -> Checkpoint:
        """Return everything that later updates depend on; random numbers depend on the step alone.

        The tensors are the trainer's own, not copies. Raises FloatingPointError if one of them is not finite.
        """
        tensors = self.state.tensors()
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise FloatingPointError(f"{name} is not finite after step {self.step}; it is not saved")
        return Checkpoint(self.step, tensors, self.config.digest(), self.skipped)

    def restore(self, checkpoint: Checkpoint, digests: Collection[str] = ()) -> None:
        """Go to the checkpoint's step. `digests` are what names this run in old files, beside its own digest.

        Raises ValueError, and changes nothing, if it is of another configuration or another model.
        """
        if checkpoint.config not in (self.config.digest(), *digests):
            raise ValueError("the checkpoint is of another configuration; move it away to train from the start")
        self.state.load(checkpoint.tensors, updates=checkpoint.step - checkpoint.skipped)
        self.step, self.guard.skipped = checkpoint.step, checkpoint.skipped

    def share(self) -> None:
        """Give the trainers of all processes the state of the first one."""
        numbers = torch.tensor([self.step, self.skipped])
        self.group.share_([numbers])
        if not self.group.first:
            self.step, self.guard.skipped = numbers.tolist()
            self.state.allocate(self.step - self.skipped)
        self.group.share_(self.state.tensors().values())


def _built(config: Config, examples: Examples, device: torch.device) -> ConsistencyModel:
    model = build_model(config, event=examples.event, classes=examples.classes).to(device)
    if config.machine.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.autocast = None if config.train.autocast == "none" else getattr(torch, config.train.autocast)
    return model


def _score(config: Config, event: tuple[int, ...], device: torch.device) -> Any:
    if config.method.objective != "distillation":
        return None
    dtype = getattr(torch, config.train.dtype)
    return load_score(config.method, event, labels=config.data.labels, dtype=dtype, device=device)
