"""A bridge by which a training step or loop in JAX calls the torch network of an audit.

JAX is imported here and nowhere else in the package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import jax
import numpy as np
import torch
from torch import Tensor, nn

Array: TypeAlias = Any
"""An array of JAX."""
Params: TypeAlias = dict[str, Array]
MASK_SIZE = 4096


@dataclass
class _Current:
    """The network that is under audit now, and its outputs by the number of their call."""

    network: nn.Module | None = None
    outputs: list[Tensor] = field(default_factory=list)


_CURRENT = _Current()


@dataclass(frozen=True)
class Network:
    """F(x, c) as a function of JAX. All networks are equal, so `jax.jit` compiles a step once for all of them.

    `params` are the parameters as a dictionary of arrays. Use a network before the next one is made.
    """

    params: Params = field(compare=False)

    def apply(self, params: Params, x: Array, noise: Array, dropout_key: Array | None = None) -> Array:
        """Return F(x, c) for images x and c_noise of shape [batch].

        It can be differentiated with respect to `params` and be compiled; it does not have a gradient with respect to
        `x`. The dropout mask is a function of `dropout_key`, so two calls with one key share their mask.
        """
        masks = () if dropout_key is None else (jax.random.bernoulli(dropout_key, 0.5, (MASK_SIZE,)),)
        output: Array = _call()(params, jax.lax.stop_gradient(x), jax.lax.stop_gradient(noise), masks)
        return output


def network(of: nn.Module) -> Network:
    """Return a network that an audit has passed to a step or loop, as a function of JAX.

    F = ict_ref.verify.jax.network(network)
    loss, gradient = jax.value_and_grad(my_loss)(F.params, F.apply, x.numpy(), jax.random.key(step))
    """
    _CURRENT.network, _CURRENT.outputs = of, []
    return Network({name: np.asarray(value.detach().cpu().float()) for name, value in of.named_parameters()})


@cache
def _call() -> Callable[..., Array]:
    """Return the call of the current network, with its gradient."""

    def call(params: Params, x: Array, noise: Array, masks: tuple[Array, ...]) -> Array:
        return forward(params, x, noise, masks)[0]

    def forward(params: Params, x: Array, noise: Array, masks: tuple[Array, ...]) -> tuple[Array, Any]:
        shapes = (jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((), np.int32))
        output, number = jax.pure_callback(_forward, shapes, params, x, noise, masks)
        return output, (number, params)

    def backward(saved: Any, gradient: Array) -> tuple[Any, ...]:
        number, params = saved
        shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in params.items()}
        return jax.pure_callback(_backward, shapes, number, gradient), None, None, None

    differentiable: Any = jax.custom_vjp(call)
    differentiable.defvjp(forward, backward)
    return differentiable  # type: ignore[no-any-return] # JAX is not there for the type checker


def _forward(params: Params, x: Array, noise: Array, masks: tuple[Array, ...]) -> tuple[Array, Array]:
    """Call the torch network with the parameters of JAX."""
    of = _CURRENT.network
    assert of is not None  # noqa: S101 - Network.apply needs one
    with torch.no_grad():
        for name, parameter in of.named_parameters():
            if not torch.equal(value := _tensor(params[name]).to(parameter), parameter):
                parameter.copy_(value)
    with torch.enable_grad():
        output = of(_tensor(x), _tensor(noise), *map(_tensor, masks))
    _CURRENT.outputs.append(output)
    return np.asarray(output.detach()), np.asarray(len(_CURRENT.outputs) - 1, np.int32)


def _backward(number: Array, gradient: Array) -> Params:
    """Return the gradient of the parameters, and leave that of the output in its record."""
    of = _CURRENT.network
    assert of is not None  # noqa: S101 - it has been called
    before = {name: _gradient(parameter) for name, parameter in of.named_parameters()}
    torch.autograd.backward(_CURRENT.outputs[int(number)], _tensor(gradient), retain_graph=True)
    return {
        name: np.asarray((_gradient(parameter) - before[name]).float()) for name, parameter in of.named_parameters()
    }


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array))
