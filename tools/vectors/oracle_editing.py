"""Editing (CM, Algorithm 4 and Appendix D) in 50 digits, images as [batch, channels, height, width]."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from tools.vectors.arrays import Array, Real, mp, mpf, per_example
from tools.vectors.oracle_model import Function, levels_like, renoise

Matrix: TypeAlias = list[list[Real]]  # rows
LUMA = (mpf("0.2989"), mpf("0.5870"), mpf("0.1140"))


@dataclass(frozen=True)
class Operator:
    """An invertible linear map of images, and its inverse."""

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]


def orthogonal(first_column: tuple[Real, ...]) -> Matrix:
    """An orthogonal matrix with this first column (scaled to length 1): Gram and Schmidt's, of the unit vectors."""
    size = len(first_column)
    columns: list[list[Real]] = []
    for k in range(size):
        vector = list(first_column) if k == 0 else [mpf(int(m == k)) for m in range(size)]
        for column in columns:
            along = mp.fsum(a * b for a, b in zip(vector, column, strict=True))
            vector = [a - along * b for a, b in zip(vector, column, strict=True)]
        length = mp.sqrt(mp.fsum(a * a for a in vector))
        columns.append([a / length for a in vector])
    return [[columns[k][m] for k in range(size)] for m in range(size)]


def transpose(q: Matrix) -> Matrix:
    """Rows for columns."""
    return [list(row) for row in zip(*q, strict=True)]


def value_at(x: Array, *position: int) -> Real:
    """x[position]."""
    flat = 0
    for size, i in zip(x.shape, position, strict=True):
        flat = flat * size + i
    return x.values[flat]


def image(shape: tuple[int, ...], value: Callable[[int, int, int, int], Real]) -> Array:
    """The image with value(b, c, i, j) at each place."""
    return Array(shape, tuple(value(*place) for place in product(*(range(size) for size in shape))))


def inpainting_operator() -> Operator:
    """A x = x."""
    return Operator(lambda x: x, lambda x: x)


def colorization_operator() -> Operator:
    """(A x)[k] = sum over colours l of x[l] Q[l, k], Q orthogonal with first column ~ (.2989, .5870, .1140)."""
    q = orthogonal(LUMA)

    def mix(x: Array, matrix: Matrix) -> Array:
        return image(
            x.shape, lambda b, k, i, j: mp.fsum(value_at(x, b, m, i, j) * matrix[m][k] for m in range(3))
        )  # fmt: skip

    return Operator(lambda x: mix(x, q), lambda x: mix(x, transpose(q)))


def super_resolution_operator(patch: int) -> Operator:
    """(A x)[k] = sum over pixels m of a patch of x[m] Q[m, k], Q orthogonal with first column (1/p, ..., 1/p)."""
    pixels = patch * patch
    q = orthogonal((mpf(1) / patch,) * pixels)

    def forward(x: Array) -> Array:
        batch, channels, height, width = x.shape

        def coordinate(b: int, ck: int, i: int, j: int) -> Real:
            c, k = divmod(ck, pixels)
            return mp.fsum(
                value_at(x, b, c, i * patch + m // patch, j * patch + m % patch) * q[m][k] for m in range(pixels)
            )

        return image((batch, channels * pixels, height // patch, width // patch), coordinate)

    def inverse(y: Array) -> Array:
        batch, coordinates, height, width = y.shape

        def pixel(b: int, c: int, i: int, j: int) -> Real:
            m = i % patch * patch + j % patch
            return mp.fsum(value_at(y, b, c * pixels + k, i // patch, j // patch) * q[m][k] for k in range(pixels))

        return image((batch, coordinates // pixels, height * patch, width * patch), pixel)

    return Operator(forward, inverse)


def apply_forward(operator: Operator, x: Array) -> Array:
    """A x: what an operator's vector compares."""
    return operator.forward(x)


def colorization_mask() -> Array:
    """Omega[k] = 1 for k = 1, 2."""
    return Array((1, 3, 1, 1), (False, True, True), "bool")


def super_resolution_mask(channels: int, patch: int) -> Array:
    """Omega[k] = 1 for k = 1, ..., p^2 - 1 of each channel."""
    one = (False, *(True,) * (patch * patch - 1))
    return Array((1, channels * patch * patch, 1, 1), one * channels, "bool")


def choose(mask: Array, generated: Array, kept: Array) -> Array:
    """generated where the mask (repeated over axes of size 1) is true, kept elsewhere."""
    shape = (1,) * (4 - len(mask.shape)) + mask.shape
    spread = Array(shape, mask.values, "bool")

    def value(*place: int) -> Real:
        marked = value_at(spread, *(i if size > 1 else 0 for i, size in zip(place, shape, strict=True)))
        return value_at(generated if marked else kept, *place)

    return image(kept.shape, value)


def edit(
    f: Function,
    reference: Array,
    operator: Operator,
    mask: Array,
    noises: Array,
    sigmas: Array,
    sigma_min: Real = 0.002,
) -> Array:
    """The last x of: x = A^-1[(A y)(1 - Omega) + (A f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k)) Omega]."""
    known = operator.forward(reference)
    x = operator.inverse(choose(mask, known * 0, known))
    for k in range(len(sigmas)):
        sigma = sigmas.values[k]
        noisy = x + noises.part(0) * sigma if k == 0 else renoise(x, noises.part(k), sigma, sigma_min)
        made = f(noisy, levels_like(sigma, x))
        x = operator.inverse(choose(mask, operator.forward(made), known))
    return x


def stroke_edit(f: Function, reference: Array, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """The last x of: x = f(y + sigma_1 z_1, sigma_1); x = f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k)."""
    x = reference
    for k in range(len(sigmas)):
        sigma = sigmas.values[k]
        noisy = x + noises.part(0) * sigma if k == 0 else renoise(x, noises.part(k), sigma, sigma_min)
        x = f(noisy, levels_like(sigma, x))
    return x


def angle(p: list[Real], q: list[Real]) -> Real:
    """The angle between two vectors."""
    inner = mp.fsum(a * b for a, b in zip(p, q, strict=True))
    lengths = mp.sqrt(mp.fsum(a * a for a in p)) * mp.sqrt(mp.fsum(b * b for b in q))
    return mp.acos(max(mpf(-1), min(mpf(1), inner / lengths)))


def slerp_along(z1: Array, z2: Array, alpha: Array, angles: list[Real]) -> Array:
    """sin((1 - alpha) psi) / sin(psi) z1 + sin(alpha psi) / sin(psi) z2, psi given for each example."""

    def shares(a: Real, psi: Real) -> tuple[Real, Real]:
        if abs(psi) < mpf(10) ** -20:
            return 1 - a, a
        return mp.sin((1 - a) * psi) / mp.sin(psi), mp.sin(a * psi) / mp.sin(psi)

    pairs = [shares(a, psi) for a, psi in zip(alpha, angles, strict=True)]
    first, second = (Array(alpha.shape, tuple(pair[i] for pair in pairs)) for i in (0, 1))
    return per_example(first, z1) * z1 + per_example(second, z2) * z2


def slerp(z1: Array, z2: Array, alpha: Array) -> Array:
    """sin((1 - alpha) psi) / sin(psi) z1 + sin(alpha psi) / sin(psi) z2, psi the angle from z1 to z2."""
    angles = [angle(p, q) for p, q in zip(z1.examples(), z2.examples(), strict=True)]
    return slerp_along(z1, z2, alpha, angles)


def denoise(f: Function, x: Array, sigma: Array) -> Array:
    """f(x, sigma)."""
    return f(x, sigma)
