"""iCT's training step and loop in JAX, for `python -m ict_ref.verify audit step` and `audit training`."""

import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from ict_ref.verify.jax import Network, network

Array = Any
State = dict[str, Any]


def levels_and_pmf(n: int) -> tuple[Any, Any]:
    """Return the levels and the probability of each interval, padded to the largest N: they are compiled once."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas = np.minimum(low + np.arange(1281) / (n - 1) * (high - low), high) ** 7
    erf = np.array([math.erf((math.log(sigma) + 1.1) / (math.sqrt(2) * 2)) for sigma in sigmas])
    return sigmas.astype(np.float32), (np.diff(erf) / (erf[-1] - erf[0])).astype(np.float32)


def loss(params: dict[str, Array], net: Network, x: Array, key: Array, levels: Array, pmf: Array) -> Array:
    index_key, noise_key, dropout_key = jax.random.split(key, 3)
    index = jax.random.choice(index_key, len(pmf), (len(x),), p=pmf)
    z = jax.random.normal(noise_key, x.shape)
    low, high = (levels[i].reshape(-1, 1, 1, 1) for i in (index, index + 1))

    def f(x_sigma: Array, sigma: Array) -> Array:
        c_skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
        c_out = 0.5 * (sigma - 0.002) / jnp.sqrt(sigma**2 + 0.25)
        scaled = x_sigma / jnp.sqrt(sigma**2 + 0.25)
        return c_skip * x_sigma + c_out * net.apply(params, scaled, jnp.log(sigma).flatten() / 4, dropout_key)

    student = f(x + high * z, high)
    teacher = jax.lax.stop_gradient(f(x + low * z, low))
    c = 0.00054 * math.sqrt(math.prod(x.shape[1:]))
    squared = ((student - teacher) ** 2).reshape(len(x), -1).sum(1)
    return (squared / (jnp.sqrt(squared + c**2) + c) / (high - low).flatten()).mean()


@partial(jax.jit, static_argnames="net")
def loss_and_gradient(params: dict[str, Array], net: Network, x: Array, key: Array, *grid: Array) -> Any:
    return jax.value_and_grad(loss)(params, net, x, key, *grid)


def levels_at(step: int, total_steps: int) -> int:
    return min(10 << (step // (total_steps // 8)), 1280) + 1


def step(net: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    bridge = network(net)
    grid = levels_and_pmf(levels_at(step, total_steps))
    value, _ = loss_and_gradient(bridge.params, bridge, jnp.asarray(x.float().numpy()), jax.random.key(step), *grid)
    return torch.tensor(float(value))


@partial(jax.jit, static_argnames="net")
def update(state: State, net: Network, x: Array, *grid: Array) -> tuple[State, Array]:
    key, count = jax.random.fold_in(jax.random.key(0), state["count"]), state["count"] + 1
    value, gradient = jax.value_and_grad(loss)(state["params"], net, x, key, *grid)
    m = jax.tree.map(lambda old, g: 0.9 * old + 0.1 * g, state["m"], gradient)
    v = jax.tree.map(lambda old, g: 0.999 * old + 0.001 * g**2, state["v"], gradient)
    power = jnp.exp(count * math.log(0.999))
    rho = 1999.0
    rho_t = rho - 2 * count * power / (1 - power)
    r = jnp.sqrt(jnp.clip((rho_t - 4) * (rho_t - 2) * rho, 0) / ((rho - 4) * (rho - 2) * rho_t))

    def moved(old: Array, mean: Array, square: Array) -> Array:
        mean = mean / (1 - 0.9**count)
        adaptive = r * mean / (jnp.sqrt(square / (1 - power)) + 1e-8)
        return old - 1e-4 * jnp.where(rho_t > 5, adaptive, mean)

    params = jax.tree.map(moved, state["params"], m, v)
    ema = jax.tree.map(lambda old, new: old + (1 - 0.99993) * (new - old), state["ema"], params)
    return {"params": params, "ema": ema, "m": m, "v": v, "count": count}, value


class Loop:
    def __init__(self, net: nn.Module, total_steps: int) -> None:
        self.net, self.total_steps = network(net), total_steps
        zeros = jax.tree.map(jnp.zeros_like, self.net.params)
        self.state: State = {"params": self.net.params, "ema": self.net.params, "m": zeros, "v": zeros, "count": 0}

    @property
    def online(self) -> dict[str, Array]:
        params: dict[str, Array] = self.state["params"]
        return params

    @property
    def ema(self) -> dict[str, Array]:
        ema: dict[str, Array] = self.state["ema"]
        return ema

    def train_step(self, x: Tensor) -> float:
        grid = levels_and_pmf(levels_at(int(self.state["count"]), self.total_steps))
        self.state, value = update(self.state, self.net, jnp.asarray(x.numpy()), *grid)
        return float(value)

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(jax.device_get(self.state)))

    def load(self, path: Path) -> None:
        self.state = pickle.loads(path.read_bytes())  # noqa: S301 - a file of the audit

    def run(self, batches: Any) -> None:
        for _ in range(self.total_steps):
            self.train_step(next(batches))


def make(net: nn.Module, *, total_steps: int) -> Loop:
    return Loop(net, total_steps)
