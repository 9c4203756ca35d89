"""Networks of the user's own, called as the networks of this package are."""

import copy
import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ict_ref.config.network_note import NetworkNote
from ict_ref.networks.dropout import DropoutSite, Masks, draw_masks
from ict_ref.utils.command_line import expect
from ict_ref.utils.named_callable import is_callable_name, named_callable

OPTION = "--network"
OwnNetworkLike: TypeAlias = nn.Module | Callable[[], nn.Module] | str
"""A module, a function or class that builds one without arguments, or the name `module:callable` of such a function."""


class OwnNetwork(nn.Module):
    """F_theta by a module of the user's own, called with as many of (x, c_noise, labels, masks) as it takes.

    x has shape (batch, channels, height, width), and so has the result. c_noise is log(sigma) / 4, and in sCM the angle
    t. Masks are given only to a module with `dropout_sites()`: the module must draw no random numbers of its own,
    because student and teacher share their dropout.

    `name` is the `module:callable` that builds the module, or None.

    Raises:
        ValueError: the module does not take two to four arguments.
    """

    def __init__(self, module: nn.Module, name: str | None = None) -> None:
        super().__init__()
        self.module, self.name = module, name
        self.count = _count_of_arguments(module, self.shown)

    @property
    def shown(self) -> str:
        """Return the name of the network in messages."""
        return self.name or type(self.module).__qualname__

    def forward(
        self,
        x: Float[Tensor, " batch channels height width"],
        c_noise: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch channels height width"]:
        """Return F_theta."""
        value: Tensor = self.module(*(x, c_noise, labels, masks or None)[: self.count])
        return value

    @property
    def takes_labels(self) -> bool:
        """Return whether the module is called with labels."""
        return self.count > 2

    def dropout_sites(self) -> list[DropoutSite]:
        """Return the places where values are dropped, if the module lists them."""
        listed: Any = getattr(self.module, "dropout_sites", list)
        return list(listed()) if self.count == 4 else []

    def note(self) -> NetworkNote:
        """Return what run folders and checkpoints keep of this network."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
        return NetworkNote(self.name, digest.hexdigest())

    def check(self, event: tuple[int, ...], *, labels: bool) -> None:
        """Call the network on noise, on its device, with and without masks; `labels`: with labels.

        Raises:
            ValueError: the call fails, the result has another shape or dtype, or the call changes the network's tensors
                or draws random numbers.
        """
        parameters = list(self.parameters())
        expect(bool(parameters), OPTION, "a module with parameters", self.shown)
        device, dtype = parameters[0].device, parameters[0].dtype
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, *event, generator=generator).to(device, dtype)
        classes = torch.zeros(2, dtype=torch.int64, device=device) if labels else None
        sites = self.dropout_sites()
        masks = draw_masks(sites, 2, key=0, device=device) if sites else None
        before = {name: value.clone() for name, value in self.module.state_dict().items()}
        state = _random_state(device)
        with torch.no_grad():
            for given in (masks, None):
                self._checked_call(x, classes, given)
        expect(torch.equal(state, _random_state(device)), OPTION, NO_DRAWS, f"draws in {self.shown}", ADVICE)
        after = self.module.state_dict()
        changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
        kept = "tensors that a call does not change"
        expect(not changed, OPTION, kept, f"{changed[:1]} in {self.shown}", "Batch norm in training mode does.")

    def check_gradients(self, event: tuple[int, ...], *, labels: bool) -> None:
        """Compute the gradient of a sum of results by each parameter.

        Raises:
            ValueError: the call fails, or a parameter has no effect on the result or requires no gradient.
        """
        for name, parameter in self.module.named_parameters():
            got = f"{name} of {self.shown} without one"
            expect(parameter.requires_grad, OPTION, "parameters that require a gradient", got, "Make it a buffer.")
        like = next(self.parameters())
        x = torch.zeros(2, *event, device=like.device, dtype=like.dtype)
        value = self._checked_call(x, torch.zeros(2, dtype=torch.int64, device=x.device) if labels else None, None)
        names, parameters = zip(*self.module.named_parameters(), strict=True)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
        unused = [name for name, gradient in zip(names, found, strict=True) if gradient is None]
        expected = "parameters on which every result depends"
        expect(not unused, OPTION, expected, f"{', '.join(unused[:3])} of {self.shown}", "Leave it out.")

    def check_forward_mode(self, event: tuple[int, ...], *, labels: bool) -> None:
        """Differentiate a call in forward mode, as objectives in continuous time do.

        Raises:
            ValueError: an operation of the network has no derivative in forward mode.
        """
        like = next(self.parameters())
        x, c_noise = (torch.ones(2, *shape, device=like.device, dtype=like.dtype) for shape in (event, ()))
        classes = torch.zeros(2, dtype=torch.int64, device=like.device) if labels else None
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                torch.func.jvp(lambda *at: self(*at, classes), (x, c_noise), (x, c_noise))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            expected = "operations that torch differentiates in forward mode (CM, Theorem 6; sCM, Eq. (6))"
            raise ValueError(f"{OPTION}: expected {expected}, got {self.shown}: {in_one_line(error)}") from error

    def _checked_call(
        self, x: Float[Tensor, " batch _ _ _"], labels: Int64[Tensor, " batch"] | None, masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        c_noise = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        try:
            value: Any = self.module(*(x, c_noise, labels, masks)[: self.count])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            given = f"images of shape {tuple(x.shape)}"
            raise ValueError(f"{OPTION}: {self.shown} failed on {given}: {in_one_line(error)}") from error
        is_tensor = isinstance(value, Tensor)
        got = f"{value.dtype} {tuple(value.shape)}" if is_tensor else type(value).__name__
        fits = is_tensor and value.shape == x.shape and value.is_floating_point()
        expect(fits, OPTION, f"floats of shape {tuple(x.shape)}, as the input's", f"{got} from {self.shown}")
        result: Tensor = value
        return result


NO_DRAWS = "a network that draws no random numbers"
ADVICE = "Student and teacher share their dropout: take masks from dropout_sites(), or leave dropout out."


def own_network(network: OwnNetworkLike, *, seed: int = 0) -> OwnNetwork:
    """Return the network of the user's own, as a copy of its own on the CPU.

    A function or class is called without arguments, with torch's generator of the CPU seeded by `seed`. The generator's
    state is restored.

    >>> class Plain(nn.Conv2d):
    ...     def forward(self, x, c_noise):
    ...         return super().forward(x)
    >>> network = own_network(Plain(1, 1, kernel_size=3, padding=1))
    >>> network(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])

    Raises:
        ValueError: the name cannot be imported, the function fails or does not return a module, or the module does not
            take two to four arguments.
    """
    if isinstance(network, nn.Module):
        return OwnNetwork(copy.deepcopy(network).cpu())
    if isinstance(network, str):
        name: str | None = network
        build, _ = named_callable(network, OPTION)
    else:
        build, name = network, _name_of(network)
    forms = "a torch module, a function that builds one, or module:callable"
    expect(callable(build), OPTION, forms, type(build).__name__)
    shown = name or str(getattr(build, "__qualname__", type(build).__name__))
    module = copy.deepcopy(build) if isinstance(build, nn.Module) else _built(build, shown, seed)
    expect(isinstance(module, nn.Module), OPTION, f"a torch module from {shown}", type(module).__name__)
    return OwnNetwork(module.cpu(), name)


def _built(build: Callable[[], Any], shown: str, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % (1 << 63))
        try:
            return build()
        except Exception as error:
            raise ValueError(f"{OPTION}: {shown} failed: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """Return the type and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _name_of(build: Any) -> str | None:
    """Return the `module:callable` of a function or class; None if it is not found by that name.

    In a script the module is the file, which can be imported if it begins its work below `if __name__ == "__main__":`.
    """
    module, name = str(getattr(build, "__module__", "")), str(getattr(build, "__qualname__", ""))
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not build:
        return None
    if module == "__main__":
        main = sys.modules[module]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(file or "").stem
    found_again = f"{module}:{name}"
    return found_again if is_callable_name(found_again) else None


def _count_of_arguments(module: nn.Module, shown: str) -> int:
    """Return how many of (x, c_noise, labels, masks) the module takes by position.

    Raises:
        ValueError: these are fewer than two, or another argument has no default.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
        return 4
    taken = [one for one in parameters if one.kind in kinds]
    arguments = "argument" if len(taken) == 1 else "arguments"
    wanted = "a module called with x, c_noise and at most labels and masks"
    expect(len(taken) >= 2, OPTION, wanted, f"{shown} with {len(taken)} {arguments}")
    return min(len(taken), 4)


def _random_state(device: torch.device) -> Tensor:
    """Return the state of torch's generator of a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
