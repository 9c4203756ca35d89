"""Everything that later updates depend on, as named tensors: what a checkpoint holds."""

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.radam import RAdam

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What the optimizer keeps of each parameter."""


class TrainingState:
    """The tensors of student, EMA weights, teacher and optimizer, under the names that checkpoints have."""

    def __init__(
        self, student: ConsistencyModel, ema: ConsistencyModel, teacher: ConsistencyModel | None, optimizer: RAdam
    ) -> None:
        self.student, self.optimizer = student, optimizer
        self.models = {"student": student, "average": ema}  # the name that files have
        if teacher is not None:
            self.models["teacher"] = teacher

    def tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Return every tensor, not a copy: parameters, Fourier frequencies, and the optimizer's moments."""
        found = self._model_tensors()
        for name, parameter in self.student.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                found[f"optimizer/{key}/{name}"] = value
        return found

    def load(self, tensors: Mapping[str, Shaped[Tensor, "..."]], *, updates: int) -> None:
        """Copy tensors saved after this many updates. Raises ValueError, and changes nothing, if they do not fit."""
        expected = {name: tuple(value.shape) for name, value in self._model_tensors().items()}
        for name, parameter in self.student.named_parameters() if updates > 0 else ():
            for key in MOMENTS:
                expected[f"optimizer/{key}/{name}"] = () if key == "step" else tuple(parameter.shape)
        if expected.keys() != tensors.keys():
            odd = sorted(expected.keys() ^ tensors.keys())[0]
            raise ValueError(f"the checkpoint is of another model: {odd} is missing or unknown")
        for name, here in expected.items():
            there = tuple(tensors[name].shape)
            if there != here:
                raise ValueError(f"the checkpoint is of another model: {name} is {there} there and {here} here")
        self.allocate(updates)
        for name, value in self.tensors().items():
            value.copy_(tensors[name])

    def allocate(self, updates: int) -> None:
        """Set the optimizer's count of updates, and make room for its moments if it has made any."""
        self.optimizer.updates = updates
        self.optimizer.state.clear()
        for parameter in self.student.parameters() if updates > 0 else ():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }

    def _model_tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        models = self.models.items()
        return {f"{kind}/{name}": value for kind, model in models for name, value in model.state_dict().items()}
