"""The search for the network F inside a consistency model, and the reading of the coefficients around it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.model.call import Call, CallError
from ict_ref.verify.audit.model.coefficients import NAMES, Measured, Reading, Settings, count_right, read, scale, varies
from ict_ref.verify.audit.model.free_form_network import (
    Answered,
    ModuleCall,
    answered,
    is_images,
    is_one_per_example,
    module_calls,
)

OTHER_SEED = 0x9E3779B9
"""Seed of the values in place of F's outputs: another than that of x, so that both are independent."""
TRIED = 16
"""Number of modules to try as F."""
ANSWER = 3.0
"""Standard deviation of the values in place of F's outputs: large, so that clipping shows."""


@dataclass(frozen=True)
class InnerNetwork:
    """The module whose output has the coefficient c_out in f."""

    module: nn.Module
    is_whole: bool
    """Whether it is F: it maps x's shape to itself. Otherwise it is the last layer of F."""

    def answered(self, call: Call, x: Tensor, sigma: Tensor, size: float = ANSWER) -> Answered:
        """Return f with random outputs of F, whose standard deviation is `size`.

        Raises:
            CallError: f raised an exception, or F was not called once for each example.
        """
        generator = torch.Generator().manual_seed(OTHER_SEED)
        answer = size * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return answered(call, self.module, x, sigma, answer.to(x.device))


def find(call: Call, calls: list[ModuleCall], x: Tensor, sigma: Tensor, settings: Settings) -> InnerNetwork | None:
    """Return the network F: the module around which most coefficients are right, the outermost of several.

    A module is F only if f is a sum of multiples of x and of its output. If a module that maps x's shape to itself is
    not found, it may be a last layer, whose output has x's shape.
    """
    giving = [
        one for one in calls if one.module is not call.f and any(is_images(out, call.event) for out in one.outputs)
    ]
    for is_whole in (True, False):
        modules = dict.fromkeys(one.module for one in giving if _takes_images(one, call.event) is is_whole)
        found: list[tuple[int, InnerNetwork]] = []
        for module in list(modules)[:TRIED]:
            inner = InnerNetwork(module, is_whole)
            reading = _reading_or_none(call, inner, x, sigma)
            if reading is not None and not _is_identity(reading):
                found.append((count_right(reading, settings), inner))
                if found[-1][0] == len(NAMES):
                    return inner
        if found:
            return max(found, key=lambda pair: pair[0])[1]
    return None


def _takes_images(one: ModuleCall, event: tuple[int, ...]) -> bool:
    return any(is_images(given, event) for given in one.inputs)


def _reading_or_none(call: Call, inner: InnerNetwork, x: Tensor, sigma: Tensor) -> Reading | None:
    try:
        return reading_of(call, inner, x, sigma)
    except CallError:
        return None


def _is_identity(reading: Reading) -> bool:
    """Return whether f is the module's output, which is then f itself in another module."""
    skip, out = reading.found["c_skip"], reading.found["c_out"]
    return bool((skip.value.abs() <= skip.error + 1e-6).all() and ((out.value - 1).abs() <= out.error + 1e-6).all())


def reading_of(call: Call, inner: InnerNetwork, x: Tensor, sigma: Tensor) -> Reading | None:
    """Return the coefficients around F, or None if f is not a sum of multiples of x and of F.

    Raises:
        CallError: f raised an exception, or F was not called once for each example.
    """
    reading = read(x, sigma, inner.answered(call, x, sigma))
    if reading is None or inner.is_whole:
        return reading
    return _with_inputs(reading, [one for one in module_calls(call, x, sigma) if not _has(one.module, inner.module)], x)


def _has(module: nn.Module, part: nn.Module) -> bool:
    return any(one is part for one in module.modules())


def _with_inputs(reading: Reading, calls: list[ModuleCall], x: Tensor) -> Reading:
    """Return the reading with c_in and c_noise from the first inputs that are images, or one number per example."""
    found = dict(reading.found)
    images = next((given for one in calls for given in one.inputs if is_images(given, tuple(x.shape[1:]))), None)
    scaled = None if images is None or len(images) != len(x) else scale(x, images)
    if scaled is not None:
        found["c_in"] = scaled
    for given in (given for one in calls for given in one.inputs):
        if given.numel() == len(x) and is_one_per_example(given, len(x)) and varies(given):
            found["c_noise"] = Measured(given.reshape(-1).double().cpu(), torch.full((len(x),), 1e-6).double())
            break
    return replace(reading, found=found)


def name_of(module: nn.Module, modules: list[nn.Module]) -> str:
    """Return the name of a module in f and its class."""
    kind = type(module).__name__
    name = next((name for whole in modules for name, part in whole.named_modules() if part is module), "")
    return f"{name} ({kind})" if name else kind
