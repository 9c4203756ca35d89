"""The tensors of a training run on which later updates depend: the content of a checkpoint."""

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.checkpoint.safetensors_io import UnusableFileError
from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.loss_scale import LossScale
from ict_ref.training.radam import RAdam

ADVICE = "Move it away to train from the start."

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""The tensors that the optimizer stores for each parameter."""


class TrainingState:
    """The tensors of student, EMA weights, teacher, optimizer and loss scale, under their names in checkpoints.

    `averages` holds the EMA weights by their names in checkpoints (`ict_ref.config.ema_names`).
    """

    def __init__(
        self,
        student: ConsistencyModel,
        averages: Mapping[str, ConsistencyModel],
        teacher: ConsistencyModel | None,
        optimizer: RAdam,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.student, self.optimizer, self.loss_scale = student, optimizer, loss_scale
        self.models = {"student": student, **averages}
        if teacher is not None:
            self.models["teacher"] = teacher

    def tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return all tensors, without copying: parameters, Fourier frequencies, loss scale and moments."""
        found = self._fixed_tensors()
        for name, parameter in self.student.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                found[f"optimizer/{key}/{name}"] = value
        return found

    def load(self, tensors: Mapping[str, Shaped[Tensor, "..."]], *, updates: int) -> None:
        """Copy tensors that were saved after `updates` updates.

        Raises:
            UnusableFileError: names, shapes or types differ from those of this model, or a value is impossible.
                Nothing has changed.
        """
        expected = {name: (tuple(value.shape), value.dtype) for name, value in self._fixed_tensors().items()}
        for name, parameter in self.student.named_parameters() if updates > 0 else ():
            for key in MOMENTS:
                of_step = ((), torch.float32)
                expected[f"optimizer/{key}/{name}"] = (
                    of_step if key == "step" else (tuple(parameter.shape), parameter.dtype)
                )
        if expected.keys() != tensors.keys():
            odd = sorted(expected.keys() ^ tensors.keys())[0]
            raise UnusableFileError(f"the checkpoint is of another model: {odd} is missing or unknown", ADVICE)
        for name, here in expected.items():
            there = (tuple(tensors[name].shape), tensors[name].dtype)
            if there != here:
                differ = f"expected {name} of {_words(*here)}, got {_words(*there)}"
                raise UnusableFileError(f"the checkpoint is of another model: {differ}", ADVICE)
            if not _is_possible(name, tensors[name]):
                raise UnusableFileError(f"the checkpoint cannot be of a run: {name} has impossible values", ADVICE)
        self.allocate(updates)
        for name, value in self.tensors().items():
            value.copy_(tensors[name])

    def allocate(self, updates: int) -> None:
        """Set the optimizer's count of updates, and allocate its moments if the count is not 0."""
        self.optimizer.state.clear()
        for parameter in self.student.parameters() if updates > 0 else ():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(updates)),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }

    def _fixed_tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return the tensors that exist before the first update."""
        models = self.models.items()
        found = {f"{kind}/{name}": value for kind, model in models for name, value in model.state_dict().items()}
        scale = {} if self.loss_scale is None else self.loss_scale.tensors()
        return found | {f"loss_scale/{name}": value for name, value in scale.items()}


def _words(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"shape {shape} and type {str(dtype).removeprefix('torch.')}"


def _is_possible(name: str, tensor: Shaped[Tensor, "..."]) -> bool:
    """Return whether a run may have these values: finite ones, and second moments that are not negative."""
    finite = bool(tensor.isfinite().all())
    return finite and not (name.startswith("optimizer/exp_avg_sq/") and bool((tensor < 0).any()))
