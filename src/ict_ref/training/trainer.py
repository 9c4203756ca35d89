"""Model state and a single optimizer update, with gradient accumulation and data parallelism."""

import contextlib
import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.ema_profiles import power_decay, power_exponent
from ict_ref.checkpoint.run_dir import run_identity
from ict_ref.checkpoint.safetensors_io import UnusableFileError
from ict_ref.checkpoint.training_state import Checkpoint, ForeignCheckpointError
from ict_ref.config import Config
from ict_ref.config.ema_names import decay_names, profile_names
from ict_ref.config.images import ImageDescription
from ict_ref.data.dataset import Images
from ict_ref.distributed.gradients import Gradients
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.model import ConsistencyModel, build_model, consistency_model, recompute
from ict_ref.networks.own import OwnNetwork
from ict_ref.networks.precision import use_precision
from ict_ref.training.discretization import discretization, teacher_decay
from ict_ref.training.distillation import load_score
from ict_ref.training.ema import update_ema
from ict_ref.training.initial_weights import refuse_missing_weights, start_from_weights
from ict_ref.training.loss import check_objective, training_loss
from ict_ref.training.loss_scale import LossScale
from ict_ref.training.microbatches import Examples, Microbatches
from ict_ref.training.nonfinite import NonFiniteGuard, describe_nonfinite
from ict_ref.training.radam import RAdam
from ict_ref.training.state import ADVICE, TrainingState
from ict_ref.utils.dtypes import torch_dtype


class Trainer:
    """The state of a training run after `step` updates.

    `student` is trained. `averages` holds the EMA weights of each decay. `ema` is the first of them, from which samples
    are made. `profiles` holds the power-function averages of each relative width, for post-hoc EMA. `teacher` is CT's
    averaged teacher, or None if the student is its own teacher. `loss` and `norm` are scalars of the last update, over
    all processes: the loss, and the norm of its gradient before clipping.

    `identities` are the digests that checkpoints of this run may carry; new ones carry the first.

    `examples` are the training images or any other `Examples`. Without `group` the trainer runs alone on the CPU. With
    `resumes` the weights of --train.init are not read, because a checkpoint will replace them. `network` is a network
    of the user's own, of which a copy is trained instead of the network of the configuration.

    >>> from ict_ref.config import minimal
    >>> from ict_ref.data.dataset import load
    >>> trainer = Trainer(minimal(), load(minimal().data).train)
    >>> trainer.update()
    >>> trainer.step, bool(trainer.loss.isfinite())
    (1, True)

    Raises:
        ValueError: a file of --method or --train.init cannot be used, noise shards cannot be divided among the
            processes, or `network` cannot be trained.
    """

    def __init__(
        self,
        config: Config,
        examples: Examples,
        group: ProcessGroup | None = None,
        *,
        resumes: bool = False,
        network: OwnNetwork | None = None,
    ) -> None:
        check_objective(config)
        if network is None:  # one of the user's own may have its weights already
            refuse_missing_weights(config)
        use_precision(config.train.precision)  # of the whole process
        self.config, self.group, self.step = config, group or ProcessGroup(), 0
        self.own_network = None if network is None else network.note()
        self.identities: tuple[str, ...] = (run_identity(config, self.own_network),)
        self.event, self.classes, self.device = examples.event, examples.classes, self.group.device
        self.images = _image_description(config, examples)
        self.student = _built(config, examples, self.device, network)
        if config.train.init and not resumes:
            start_from_weights(self.student, config)
        self.averages = {decay: _averaged(self.student) for decay in config.train.ema_decays}
        self.profiles = {sigma: _averaged(self.student) for sigma in config.train.ema_sigmas}
        self.ema = self.averages[config.train.ema_decays[0]]
        self.teacher = None if not config.method.has_teacher else copy.deepcopy(self.student).requires_grad_(False)
        self.score = _score(config, self.event, self.device)
        self._prepare()
        self.gradients = Gradients(self.student.parameters(), self.group)
        # iCT, Appendix B: RAdam; betas and eps, without decay, warm-up and clipping, are those of CM's code.
        self.optimizer = RAdam(
            self.student.parameters(), lr=config.train.learning_rate, betas=(0.9, config.train.beta2), eps=1e-8
        )
        self.loss_scale = LossScale(self.device) if config.train.precision == "float16" else None
        self.state = TrainingState(self.student, self._named_averages(), self.teacher, self.optimizer, self.loss_scale)
        shards = self.group.microbatches(config.train.noise_shards, config.machine.microbatches)
        sites, ahead = self.student.network.dropout_sites(), self.device.type == "cuda"
        self.microbatches = Microbatches(examples, config, sites, self.device, shards, ahead=ahead)
        describe = partial(describe_nonfinite, config)
        self.guard = NonFiniteGuard(
            self.device, allowed=config.train.skip_nonfinite, describe=describe, loss_scale=self.loss_scale
        )
        self.loss = self.norm = torch.zeros((), device=self.device)

    @property
    def skipped(self) -> int:
        """Return the number of updates that were skipped because they were not finite."""
        return self.guard.skipped

    def update(self) -> None:
        """Make one update. On a GPU the host waits for no number.

        Raises:
            FloatingPointError: the loss or the gradient is not finite, and nothing has changed. On a GPU later updates
                are no-ops instead, and `guard.raise_recorded` raises the error.
        """
        self.gradients.clear()
        self.loss = self._backward()
        gradients = [parameter.grad for parameter in self.student.parameters() if parameter.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        if self.loss_scale is not None:
            self.norm = self.norm / self.loss_scale.value
            self.optimizer.grad_scale = self.loss_scale.value
        self.optimizer.updates = self.step - self.skipped  # before this update's verdict, for which a GPU would wait
        verdict = self.guard.verdict(self.step + 1, self.loss, self.norm)
        if not (self.guard.immediate and bool(verdict.no_op)):
            self._apply_gradients(None if self.guard.immediate else verdict.no_op.float())
        if self.loss_scale is not None:
            self.loss_scale.update(applied=~verdict.no_op, overflows=verdict.overflows)
        self.step += 1

    def _apply_gradients(self, found_inf: Float[Tensor, ""] | None) -> None:
        """Update student, EMA weights and teacher; where `found_inf` holds 1, nothing changes."""
        train = self.config.train
        if train.clip_gradient is not None:
            torch.nn.utils.clip_grads_with_norm_(self.student.parameters(), train.clip_gradient, self.norm)
        self.optimizer.found_inf = found_inf
        self.optimizer.step()
        for decay, average in self.averages.items():
            update_ema(average, self.student, decay=decay, found_inf=found_inf)
        for sigma, average in self.profiles.items():
            decay = power_decay(self.optimizer.updates, power_exponent(sigma))  # which skipped updates do not increase
            update_ema(average, self.student, decay=decay, found_inf=found_inf)
        if self.teacher is not None and self.config.method.mu0 is not None:
            decay = teacher_decay(self.step, self.config)
            update_ema(self.teacher, self.student, decay=decay, found_inf=found_inf)

    def _backward(self) -> Float[Tensor, ""]:
        """Compute the gradients of the loss, and return the loss: means over the whole batch."""
        levels = discretization(self.step, self.config, self.device)
        teacher = self.student if self.teacher is None else self.teacher
        total = torch.zeros((), dtype=torch_dtype(self.config.train.dtype), device=self.device)
        for microbatch, is_last in self.microbatches.of_step(self.step):
            if self.config.machine.cuda_graphs:  # their outputs before may be overwritten
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            with self.gradients.averaged() if is_last else contextlib.nullcontext():
                losses = training_loss(
                    self.student, microbatch.x, microbatch.labels, microbatch.noise, levels,
                    self.config.method, teacher=teacher, score=self.score,
                    tuning=self.config.tuning, scm=self.config.scm, step=self.step,
                )  # fmt: skip
                # All microbatches are of one size.
                loss = losses.mean() / len(self.microbatches.shards)
                torch.autograd.backward(loss if self.loss_scale is None else loss * self.loss_scale.value)
            total += loss.detach()
        return self.group.mean_(total)

    def _prepare(self) -> None:
        """Let the networks recompute activations and be compiled, as configured."""
        machine = self.config.machine
        if machine.recomputes:
            recompute(self.student)
        if not machine.compiles(self.device.type, self.config.train.steps):
            return
        mode = "reduce-overhead" if machine.cuda_graphs else None
        for model in (self.student, self.teacher):  # not ema, which makes few samples
            if model is not None:
                model.network.compile(dynamic=False, mode=mode)  # all microbatches are of one size

    def _named_averages(self) -> dict[str, ConsistencyModel]:
        """Return all EMA weights under their names in checkpoints."""
        decays, profiles = decay_names(self.config.train), profile_names(self.config.train)
        named = {decays[decay]: model for decay, model in self.averages.items()}
        return named | {profiles[sigma]: model for sigma, model in self.profiles.items()}

    def checkpoint(self) -> Checkpoint:
        """Return all state on which later updates depend; random numbers depend on the step only.

        The tensors are the trainer's own, not copies.

        Raises:
            FloatingPointError: a tensor is not finite.
        """
        self.optimizer.updates = self.step - self.skipped
        tensors = self.state.tensors()
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise FloatingPointError(f"{name} is not finite after step {self.step}. The checkpoint is not saved.")
        options, images = self.config.model_options(), self.images
        return Checkpoint(
            self.step, tensors, self.identities[0], self.skipped, options, images, own_network=self.own_network
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint.

        Raises:
            ForeignCheckpointError: the checkpoint is of another configuration. Nothing has changed.
            UnusableFileError: the checkpoint is of another model, or cannot be of a run. Nothing has changed.
        """
        if checkpoint.config not in self.identities:
            advice = "Move it away, and the same command resumes from the checkpoint before it."
            raise ForeignCheckpointError(f"the checkpoint is of another configuration. {advice}")
        steps = self.config.train.steps
        if checkpoint.step > steps:
            raise UnusableFileError(f"the checkpoint is of step {checkpoint.step}, after the last, {steps}", ADVICE)
        self.state.load(checkpoint.tensors, updates=checkpoint.step - checkpoint.skipped)
        self.step, self.guard.skipped = checkpoint.step, checkpoint.skipped

    def share(self) -> None:
        """Copy the state of the first process to the trainers of all others."""
        numbers = torch.tensor([self.step, self.skipped])
        self.group.share_([numbers])
        if not self.group.first:
            self.step, self.guard.skipped = numbers.tolist()
            self.state.allocate(self.step - self.skipped)
        self.group.share_(self.state.tensors().values())


def _built(
    config: Config, examples: Examples, device: torch.device, network: OwnNetwork | None = None
) -> ConsistencyModel:
    if network is None:
        model = build_model(config, event=examples.event, classes=examples.classes).to(device)
    else:
        own = copy.deepcopy(network)
        model = consistency_model(own, config).to(device)
        own.check(examples.event, labels=config.data.labels)
        own.check_gradients(examples.event, labels=config.data.labels)
        if config.method.objective in ("continuous", "scm"):
            own.check_forward_mode(examples.event, labels=config.data.labels)
    if config.machine.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    low = config.train.low_precision
    model.autocast = None if low is None else torch_dtype(low)
    return model


def _averaged(student: ConsistencyModel) -> ConsistencyModel:
    """Return a copy of the student for EMA weights. Samples are made from it in full precision."""
    average = copy.deepcopy(student).requires_grad_(False)
    average.autocast = None
    return average


def _image_description(config: Config, examples: Examples) -> ImageDescription:
    channels, size = examples.event[0], examples.event[-1]
    images = examples if isinstance(examples, Images) else None
    return ImageDescription(
        channels=channels,
        size=size,
        classes=examples.classes if config.data.labels else 0,
        class_names=images.names if images and config.data.labels else None,
        source=images.source if images else "",
    )


def _score(config: Config, event: tuple[int, ...], device: torch.device) -> Any:
    if not config.method.distils:
        return None
    dtype = torch_dtype(config.train.dtype)
    return load_score(config.method, event, labels=config.data.labels, dtype=dtype, device=device)
