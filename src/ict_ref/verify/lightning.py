"""An adapter by which `training_step` of a Lightning module can be audited; Lightning is not imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class _Ignored:
    """An optimizer, scheduler or logger whose calls have no effect: an audit does not change the network."""

    def __getattr__(self, name: str) -> "_Ignored":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> "_Ignored":
        return self


@dataclass
class _Trainer:
    """What a module reads from its trainer, at one step of a run in one process without accumulation."""

    global_step: int
    max_steps: int
    current_epoch: int = 0
    max_epochs: int = 1
    accumulate_grad_batches: int = 1
    world_size: int = 1
    global_rank: int = 0
    local_rank: int = 0
    is_global_zero: bool = True
    training: bool = True
    sanity_checking: bool = False
    datamodule: None = None

    def __post_init__(self) -> None:
        self.logger, self.loggers, self.callback_metrics = _Ignored(), list[object](), dict[str, object]()

    @property
    def estimated_stepping_batches(self) -> int:
        """Return the number of updates of the whole run."""
        return self.max_steps

    @property
    def num_training_batches(self) -> int:
        """Return the number of batches of the only epoch."""
        return self.max_steps


def step(make: Callable[[nn.Module], Any], *, batch: Callable[[Tensor], object] = lambda x: x) -> Callable[..., object]:
    """Return `training_step` of a Lightning module as a step for `python -m ict_ref.verify audit step`.

    `make(network)` returns the module that trains this network, F(c_in x, c_noise). `batch(x)` returns what the module
    gets as a batch: by default the images x alone. The module's `log` and `log_dict` are without effect. Its trainer
    has `global_step` and `estimated_stepping_batches`. With manual optimization the loss is that of `manual_backward`.

    >>> audited = step(lambda network: MyModule(network), batch=lambda x: (x, None))
    """

    def run(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> object:
        module, losses = make(network), list[Tensor]()
        trainer = _Trainer(step, total_steps)
        module.trainer = trainer  # Lightning keeps a weak reference
        _replace_methods(module, losses)
        returned = module.training_step(batch(x), step)
        loss = returned["loss"] if isinstance(returned, dict) else returned
        # After manual_backward the loss has no graph any more.
        return loss if not losses else losses[-1].detach()

    return run


def _replace_methods(module: Any, losses: list[Tensor]) -> None:
    """Replace the methods of a module that need a real trainer; those for losses fill `losses`."""

    def manual_backward(loss: Tensor, *_: object, **__: object) -> None:
        losses.append(loss)
        loss.backward()  # type: ignore[no-untyped-call]

    ignored = _Ignored()
    for name in ("log", "log_dict", "optimizers", "lr_schedulers", "clip_gradients", "print"):
        setattr(module, name, ignored)
    module.toggle_optimizer = module.untoggle_optimizer = ignored
    module.manual_backward = manual_backward
