"""A model under audit: f with the form of its call, its modules, images and levels, and the network inside it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.model import coefficients
from ict_ref.verify.audit.model.call import Call, CallError, batch_size, found_call
from ict_ref.verify.audit.model.coefficients import Reading, Settings
from ict_ref.verify.audit.model.free_form_network import mode, module_calls, outermost
from ict_ref.verify.audit.model.inner_network import InnerNetwork, find, reading_of
from ict_ref.verify.audit.options import ModelOptions
from ict_ref.verify.target.load import TargetError


@dataclass(frozen=True)
class Subject:
    """A model with everything that its checks need."""

    call: Call
    modules: list[nn.Module]
    """The modules that f consists of, without those inside another."""
    settings: Settings
    x: Tensor
    sigma: Tensor
    seed: int
    inner: InnerNetwork | None = None
    """The network F inside f, if it was found."""

    @property
    def modes(self) -> dict[str, bool]:
        """The modes to check, and whether each is training; only one if f does not have modules."""
        return {"eval": False, "train": True} if self.modules else {"eval": False}

    def in_mode(self, train: bool) -> AbstractContextManager[None]:
        """Return the context in which all modules are in training or in evaluation mode."""
        return mode(self.modules, train)

    def at(self, sigma: float) -> Tensor:
        """Return one noise level for all examples."""
        return torch.full_like(self.sigma, sigma)

    def reading(self, train: bool = False) -> Reading | None:
        """Return the coefficients in a mode, or None if they cannot be measured."""
        if self.inner is None:
            return None
        with self.in_mode(train):
            try:
                return reading_of(self.call, self.inner, self.x, self.sigma)
            except CallError:
                return None


def subject_of(f: Callable[..., object], options: ModelOptions) -> Subject:
    """Return the model with images and levels, and with the network that was found inside it.

    Raises:
        TargetError: f cannot be called.
    """
    settings = Settings(options.sigma_min, options.sigma_max, options.sigma_data)
    count = batch_size(options.event)
    dtype = getattr(torch, options.dtype)
    sigma = coefficients.levels(settings, count).to(torch.float64 if dtype == torch.float64 else torch.float32)
    data, z = (torch.randn(count, *options.event, dtype=torch.float64) for _ in range(2))
    x = settings.sigma_data * data + sigma.double().reshape(-1, *[1] * len(options.event)) * z
    x, sigma = x.to(options.device, dtype), sigma.to(options.device)
    with mode(outermost([], f), train=False):
        call = found_call(f, options.event, x, sigma, options.labels)
        try:
            calls = module_calls(call, x, sigma)
        except CallError as error:
            raise TargetError(f"TARGET: expected f(x, sigma), got {error} in its second call") from error
    modules = outermost(calls, f)
    with mode(modules, train=False):
        inner = find(call, calls, x, sigma, settings)
    return Subject(call, modules, settings, x, sigma, options.seed, inner)
