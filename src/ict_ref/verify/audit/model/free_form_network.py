"""The network F inside a consistency model: it is found by hooks, and its output is replaced by known numbers."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ict_ref.verify.audit.model.call import Call, CallError


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module while f was computed, in the order in which the calls began."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Answered:
    """f and what its network F got, where F's outputs were replaced."""

    f: Tensor
    answer: Tensor
    """Values in place of F's outputs, in the dtype of the outputs."""
    input: Tensor | None
    """F's input of x's shape, if it has one."""
    others: tuple[Tensor, ...]
    """F's other arguments that are one number per example."""


def module_calls(call: Call, x: Tensor, sigma: Tensor) -> list[ModuleCall]:
    """Return the calls of all modules, wherever they are, while f(x, sigma) is computed.

    Raises:
        CallError: f raised an exception.
    """
    finished: dict[int, ModuleCall] = {}
    begun: list[int] = []
    count = 0

    def before(_module: nn.Module, _inputs: object) -> None:
        nonlocal count
        begun.append(count)
        count += 1

    def after(module: nn.Module, inputs: tuple[object, ...], named: dict[str, object], output: object) -> None:
        inputs_found = tuple(tensors((inputs, named)))
        finished[begun.pop()] = ModuleCall(module, inputs_found, tuple(tensors(output)))

    hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(after, with_kwargs=True)]
    try:
        call(x.clone(), sigma.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return [finished[number] for number in sorted(finished)]


def tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in the arguments or the output of a module; numbers are tensors without axes."""
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, float):
        yield torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif isinstance(sample := getattr(value, "sample", None), Tensor):
        yield sample.detach()


def is_images(tensor: Tensor, event: tuple[int, ...]) -> bool:
    """Return whether a tensor is a batch of events."""
    return tensor.ndim == len(event) + 1 and tuple(tensor.shape[1:]) == event and tensor.is_floating_point()


@dataclass
class _Probe:
    """Hooks of one module, which record its inputs and replace its outputs."""

    event: tuple[int, ...]
    answer: Tensor
    inputs: list[Tensor] = field(default_factory=list)
    others: list[list[Tensor]] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)

    def before(self, _module: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
        """Record the arguments before the module can change them."""
        found = list(tensors((inputs, named)))
        images = [tensor for tensor in found if is_images(tensor, self.event)]
        self.inputs += [one.clone() for one in images[:1]]
        batch = len(images[0]) if images else None
        self.others.append(
            [
                one.clone()
                for one in found
                if all(one is not image for image in images) and is_one_per_example(one, batch)
            ]
        )

    def after(self, _module: nn.Module, _inputs: object, _named: object, output: object) -> object:
        """Return the output with the next known values."""
        found = next((tensor for tensor in tensors(output) if is_images(tensor, self.event)), None)
        done = sum(map(len, self.given))
        if found is None or done + len(found) > len(self.answer):
            raise CallError("F is not called once for each example")
        self.given.append(self.answer[done : done + len(found)].to(found))
        return replaced(output, found, self.given[-1])


def is_one_per_example(tensor: Tensor, batch: int | None) -> bool:
    """Return whether a tensor has one number for each example of a batch, or one for all."""
    return tensor.numel() in (1, batch) or (batch is None and tensor.ndim == 1)


def replaced(output: object, old: Tensor, new: Tensor) -> object:
    """Return a module's output with one tensor replaced by another of the same shape."""
    if isinstance(output, Tensor):
        return new if output.data_ptr() == old.data_ptr() else output
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        named: Any = type(output)
        return named(*(replaced(part, old, new) for part in output))
    if isinstance(output, list | tuple):
        return type(output)([replaced(part, old, new) for part in output])
    if isinstance(output, dict) and type(output) is dict:
        return {key: replaced(part, old, new) for key, part in output.items()}
    if isinstance(getattr(output, "sample", None), Tensor):
        made: Any = copy.copy(output)
        made.sample = new
        return made
    return output


def answered(call: Call, module: nn.Module, x: Tensor, sigma: Tensor, answer: Tensor) -> Answered:
    """Return f(x, sigma) with known values in place of the module's outputs.

    Raises:
        CallError: The module was not called once for each example, or f raised an exception.
    """
    probe = _Probe(call.event, answer)
    with ExitStack() as stack:
        for hook in (
            module.register_forward_pre_hook(probe.before, with_kwargs=True),
            module.register_forward_hook(probe.after, with_kwargs=True),
        ):
            stack.callback(hook.remove)
        value = call(x.clone(), sigma.clone())
    if sum(map(len, probe.given)) != len(x):
        raise CallError("F is not called once for each example")
    images = torch.cat(probe.inputs) if sum(map(len, probe.inputs)) == len(x) else None
    return Answered(value, torch.cat(probe.given), images, tuple(_columns(probe, len(x))))


def _columns(probe: _Probe, batch: int) -> Iterator[Tensor]:
    """Yield each argument that is one number per example, over all calls of the module."""
    for of_calls in zip(*probe.others, strict=False):
        whole = torch.cat([one.reshape(-1).expand(len(part)) for one, part in zip(of_calls, probe.given, strict=False)])
        if len(whole) == batch:
            yield whole


@contextmanager
def without_zeros(modules: list[nn.Module], seed: int) -> Iterator[None]:
    """Give small random values to parameters that are all zero, so that a fresh network depends on its input."""
    generator = torch.Generator().manual_seed(seed)
    zeros = [
        parameter
        for module in modules
        for parameter in module.parameters()
        if parameter.is_floating_point() and not bool(parameter.any())
    ]
    try:
        with torch.no_grad():
            for parameter in zeros:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        yield
    finally:
        with torch.no_grad():
            for parameter in zeros:
                parameter.zero_()


@contextmanager
def mode(modules: list[nn.Module], train: bool) -> Iterator[None]:
    """Put modules into training or evaluation mode; afterwards restore the mode and the buffers of each."""
    before = {part: part.training for module in modules for part in module.modules()}
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        for module in modules:
            module.train(train)
        yield
    finally:
        for part, was in before.items():
            part.training = was
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)


def outermost(calls: list[ModuleCall], f: object) -> list[nn.Module]:
    """Return the modules that f consists of, without those inside another."""
    owner = getattr(f, "__self__", None)
    whole = [one for one in (f, owner) if isinstance(one, nn.Module)]
    found = list(dict.fromkeys([*whole, *(one.module for one in calls)]))
    inner = {part for module in found for part in module.modules() if part is not module}
    return [module for module in found if module not in inner]
