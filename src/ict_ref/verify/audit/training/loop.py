"""A training loop under audit: its update, its weights, and what else it offers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ict_ref.verify.audit.training.network import BUFFERS, WEIGHTS, TooManyUpdatesError, plain

State = dict[str, Shaped[Tensor, "..."]]
"""The tensors of a network by name: `weight`, `bias` and those buffers that are kept."""


class LoopError(Exception):
    """The loop cannot be audited; the message is one line for the user."""


@dataclass(frozen=True)
class Loop:
    """What `make(network, total_steps=K)` returned, with one name for each part."""

    train_step: Callable[[Tensor], object]
    online: object
    ema: object = None
    save: Callable[[Path], object] | None = None
    load: Callable[[Path], object] | None = None
    run: Callable[..., object] | None = None

    def weights(self) -> State:
        """Return copies of the trained tensors."""
        return state_of(self.online)

    def ema_weights(self) -> State:
        """Return copies of the EMA tensors; none if the loop does not have any, or not yet."""
        return state_of(self.ema)

    def run_on(self, batches: Iterator[Shaped[Tensor, "..."]]) -> None:
        """Train to the end; `run` may take the batches."""
        assert self.run is not None  # noqa: S101 - the caller checks it
        if signature(self.run).parameters:
            self.run(batches)
        else:
            self.run()


def loop_of(make: Callable[..., object], network: nn.Module, total_steps: int) -> Loop:
    """Return the loop that the code under test makes for a network.

    Raises:
        LoopError: It fails, or does not return a loop.
    """
    made = guarded_call("make", lambda: make(network, total_steps=total_steps))
    parts = _parts(made, network)
    if not callable(parts["train_step"]):
        raise LoopError(
            "make: expected an object with train_step(x), or (train_step, online, ema), "
            f"got {type(made).__name__}. Return one of these."
        )
    loop = Loop(**parts)  # type: ignore[arg-type] # parts of code under test
    if missing := [name for name in WEIGHTS if name not in loop.weights()]:
        raise LoopError(f"online: expected the network, or a mapping with its {missing[0]}, got neither")
    return loop


def _parts(made: object, network: nn.Module) -> dict[str, object]:
    """Return the parts of a loop by their names."""
    if isinstance(made, tuple):
        train_step, online, ema = (*made, None, None, None)[:3]
        return {"train_step": train_step, "online": network if online is None else online, "ema": ema}
    step = getattr(made, "train_step", None) or getattr(made, "update", None)
    # Each update may bind other objects to these names.
    states = {
        "online": lambda: network if (online := getattr(made, "online", None)) is None else online,
        "ema": lambda: getattr(made, "ema", None),
    }
    return {"train_step": step, **states} | {name: getattr(made, name, None) for name in ("save", "load", "run")}


def guarded_call(what: str, call: Callable[[], object]) -> object:
    """Return the value of a call of the code under test.

    Raises:
        LoopError: It raises an exception, or ends the process.
    """
    try:
        return call()
    except TooManyUpdatesError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200]
        raise LoopError(f"{what} raised {type(error).__name__}: {text}") from error


def state_of(value: object) -> State:
    """Return copies of the network's tensors in a module, a mapping, a list of parameters or a function of these."""
    if isinstance(value, nn.Module):
        return _named({**dict(value.named_parameters()), **dict(value.named_buffers())})
    if callable(value) and not isinstance(value, Mapping):
        return state_of(value())
    if isinstance(value, Mapping):
        return _named(value)
    listed = getattr(value, "shadow_params", value)  # as diffusers' EMAModel has them
    if not isinstance(listed, list | tuple):
        return {}
    return _named(dict(zip(WEIGHTS, listed, strict=False)))


def _named(tensors: Mapping[str, object]) -> State:
    """Return the tensors under the names of the network, without the prefixes of wrappers such as `module.`."""
    found: State = {}
    for key, value in tensors.items():
        name = str(key).rpartition(".")[2]
        if name in WEIGHTS + BUFFERS:
            found[name] = plain(value if isinstance(value, Tensor) else torch.as_tensor(np.array(value)))
    return found
