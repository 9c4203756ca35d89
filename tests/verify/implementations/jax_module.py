"""An implementation of some of the formulas in JAX, to be checked with `--arrays numpy`."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc

jax.config.update("jax_enable_x64", True)

Array = Any


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Array:
    if n < 2 or not (0 < sigma_min < sigma_max < math.inf) or not 0 < rho < math.inf:
        raise ValueError("domain")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (low + jnp.arange(n) / (n - 1) * (high - low)) ** rho
    return sigmas.at[0].set(sigma_min).at[-1].set(sigma_max)


def lognormal_pmf(sigmas: Array, *, p_mean: float = -1.1, p_std: float = 2.0) -> Array:
    sigmas = jnp.asarray(sigmas)
    if (
        len(sigmas) < 2
        or not bool((jnp.isfinite(sigmas) & (sigmas > 0)).all())
        or not bool((jnp.diff(sigmas) > 0).all())
    ):
        raise ValueError("levels")
    if not (0 < p_std < math.inf and math.isfinite(p_mean)):
        raise ValueError("lognormal")
    t = (jnp.log(sigmas) - p_mean) / (math.sqrt(2) * p_std)
    low, high = t[:-1], t[1:]
    mass = jnp.where(low + high > 0, erfc(low) - erfc(high), erfc(-high) - erfc(-low))
    if not bool(mass.sum() > 0):
        raise ValueError("no mass")
    return mass / mass.sum()


def pseudo_huber(x: Array, y: Array, *, c: float) -> Array:
    if x.shape != y.shape or not 0 < c < math.inf:
        raise ValueError("domain")
    squared = ((jnp.asarray(x) - y) ** 2).reshape(len(x), -1).sum(axis=1)
    return squared / (jnp.sqrt(squared + c * c) + c)


def one_step_sample(f: Callable[[Array, Array], Array], z: Array, *, sigma_max: float = 80.0) -> Array:
    if not 0 < sigma_max < math.inf:
        raise ValueError("sigma_max")
    return f(sigma_max * jnp.asarray(z), jnp.full(len(z), sigma_max))
