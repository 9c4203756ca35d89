"""The memory of one process at the peak of an update.

Gradients are present in the whole pass, as with several microbatches or processes. With one microbatch they appear in
the course of the backward pass, so the figure is then up to their size too high.

Counted are the storages of all tensors (`plan.count`). Attention is a fused kernel, which saves no attention matrix.
Under autocast the rules are those of CUDA (`plan.meta_step`). With torch.compile or channels_last the peak may differ.
"""

from dataclasses import dataclass
from functools import lru_cache

from ict_ref.config import Config
from ict_ref.config.ema_names import decay_names, profile_names
from ict_ref.plan.count import count
from ict_ref.plan.meta_step import counted_config, meta_model
from ict_ref.training.radam import RAdam
from ict_ref.training.state import TrainingState


@dataclass(frozen=True)
class Memory:
    """The memory of one process at the peak of an update, in bytes.

    Not included: the CUDA context (about 0.5 GB), workspaces of cuDNN, buffers of nccl, and fragmentation.
    """

    parameters: int
    gradients: int
    """Gradients, in the buckets of their exchange if there are several processes."""
    moments: int
    """Optimizer moments."""
    ema: int
    """EMA weights of all decays, and averages for post-hoc EMA."""
    teacher: int
    """CT's averaged teacher or TCM's frozen function; 0 if the student is its own teacher."""
    activations_per_image: int
    """Part of the peak that grows with the images: saved activations, inputs, dropout masks, temporary maps."""
    activations: int
    """The same for all images of a microbatch."""
    buffers: int
    """Part of the peak that does not: a gradient before it is added, converted parameters, Fourier frequencies."""

    @property
    def total(self) -> int:
        """Return the predicted peak."""
        states = self.parameters + self.gradients + self.moments + self.ema + self.teacher
        return states + self.activations + self.buffers


@dataclass(frozen=True)
class States:
    """The tensors that exist between updates, in bytes."""

    parameters: int
    moments: int
    ema: int
    teacher: int
    checkpoint: int
    """All tensors of a checkpoint."""


def memory(config: Config, *, accumulate: int, recompute: bool, processes: int = 1) -> Memory:
    """Return the memory of one process, for its part of the batch in `accumulate` microbatches.

    >>> from ict_ref.config import minimal
    >>> found = memory(minimal(), accumulate=2, recompute=False)
    >>> found.parameters == found.gradients == found.ema
    True

    Raises:
        ValueError: `data.name` is folder, and `data.path` is not a prepared folder.
    """
    images = -(-config.train.batch_size // (processes * accumulate))
    states = state_sizes(config)
    constant, per_image = count(config, recompute=recompute).peak(images)
    return Memory(
        parameters=states.parameters,
        gradients=states.parameters,
        moments=states.moments,
        ema=states.ema,
        teacher=states.teacher,
        activations_per_image=per_image,
        activations=per_image * images,
        buffers=constant,
    )


def state_sizes(config: Config) -> States:
    """Return the sizes of the tensors that exist between updates."""
    return _state_sizes(counted_config(config))


@lru_cache(maxsize=32)
def _state_sizes(config: Config) -> States:
    model = meta_model(config)
    teacher = model if config.method.has_teacher else None
    names = [*decay_names(config.train).values(), *profile_names(config.train).values()]
    state = TrainingState(model, dict.fromkeys(names, model), teacher, RAdam(model.parameters(), lr=1.0))
    state.allocate(1)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    optimizer = sum(value.nbytes for values in state.optimizer.state.values() for value in values.values())
    return States(
        parameters=parameters,
        moments=optimizer,
        ema=len(names) * parameters,
        teacher=0 if teacher is None else parameters,
        checkpoint=sum(tensor.nbytes for tensor in state.tensors().values()),
    )
