"""KID, precision and recall of large sets, block by block with each inner product computed once.

The definitions are `formulas.kernel_distance` and `formulas.precision_recall`; tests compare both. Distances are
compared by inner products: ||x - y||^2 = ||x||^2 + ||y||^2 - 2 x . y, so that a block is read few times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

# Side of a block of pairs, whose values fit in a cache.
BLOCK = 512
# Values of a row that are first represented by the largest of them.
GROUP = 16
# Relative tolerance of squared distances, in units of ||x||^2 + ||y||^2, for the rounding of float64 sums.
SLACK = 1e-12


@dataclass(frozen=True)
class Compared:
    """The scores over all pairs of two sets."""

    kernel_distance: float
    precision: float
    recall: float


@dataclass(frozen=True)
class _Points:
    """A set of features, with half of each squared norm."""

    values: Float32[Tensor, " n d"]
    half_squares: Float64[Tensor, " n"]


@dataclass(frozen=True)
class _Block:
    """The inner products of a slice of one set with a slice of the other."""

    rows: slice
    columns: slice
    products: Float64[Tensor, " rows columns"]


def compare(
    real: Float32[Tensor, " reals d"],
    fake: Float32[Tensor, " fakes d"],
    *,
    k: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Compared:
    """Return KID, and precision and recall by k-th nearest neighbours, over all pairs in float64.

    `progress` is called with the number of pairs of each finished block; `pairs` returns their total.

    Raises:
        ValueError: k is less than 1, or a set has k or fewer images.
    """
    for name, points in (("reference", real), ("samples", fake)):
        if not 1 <= k < len(points):
            raise ValueError(f"--k: expected 1 <= k < {len(points)}, the number of images of the {name}, got k = {k}")
    reals, fakes = _points(real), _points(fake)
    real_kernel, real_reach = _of_itself(reals, k, progress)
    fake_kernel, fake_reach = _of_itself(fakes, k, progress)
    kernel = torch.zeros((), dtype=torch.float64)
    looks_real = torch.zeros(len(fake), dtype=torch.bool)
    is_reached = torch.zeros(len(real), dtype=torch.bool)
    # A distance is within a reach if x . y is at least the sum of these halves, one of each point.
    real_half, fake_half = ((1 - SLACK) * points.half_squares for points in (reals, fakes))
    for block in _blocks(fakes, reals, progress):
        kernel += _sum_of_kernel(block.products, real.shape[1])
        nearest_real = (block.products - (real_half - real_reach / 2)[block.columns]).amax(1)
        looks_real[block.rows] |= nearest_real >= fake_half[block.rows]
        nearest_fake = (block.products - (fake_half - fake_reach / 2)[block.rows, None]).amax(0)
        is_reached[block.columns] |= nearest_fake >= real_half[block.columns]
    return Compared(
        kernel_distance=float(real_kernel + fake_kernel - 2 * kernel / (len(real) * len(fake))),
        precision=float(looks_real.double().mean()),
        recall=float(is_reached.double().mean()),
    )


def pairs(reals: int, fakes: int) -> int:
    """Return the number of pairs in `compare`, where two points of one set are one pair."""
    return sum(n * (n + 1) // 2 for n in (reals, fakes)) + reals * fakes


def _points(values: Float32[Tensor, " n d"]) -> _Points:
    squares = [some.double().square().sum(1) for some in torch.split(values, BLOCK)]
    return _Points(values, torch.cat(squares) / 2)


def _of_itself(
    points: _Points, k: int, progress: Callable[[int], object]
) -> tuple[Float64[Tensor, ""], Float64[Tensor, " n"]]:
    """Return the mean kernel of different points, and the squared distance of each to its k-th nearest neighbour."""
    n, size = points.values.shape
    kernel = torch.zeros((), dtype=torch.float64)
    # The nearest points have the largest x . y - ||y||^2 / 2. Each point is its own nearest point, so its k-th
    # neighbour has rank k + 1.
    nearest = torch.full((n, k + 1), -torch.inf, dtype=torch.float64)
    for block in _blocks(points, points, progress):
        products, rows, columns = block.products, block.rows, block.columns
        _keep_largest(nearest[rows], products - points.half_squares[columns])
        if rows == columns:
            # Each pair is there twice, and with its mirror image it has the same value.
            kernel += _sum_of_kernel(products, size)
        else:
            kernel += 2 * _sum_of_kernel(products, size)
            _keep_largest(nearest[columns], (products - points.half_squares[rows, None]).mT)
    itself = _sum_of_kernel(2 * points.half_squares, size)
    return (kernel - itself) / (n * (n - 1)), 2 * (points.half_squares - nearest.amin(1))


def _blocks(x: _Points, y: _Points, progress: Callable[[int], object]) -> Iterator[_Block]:
    """Yield the blocks of all pairs; of a set with itself those on and above the diagonal."""
    of_itself = x is y
    for row in range(0, len(x.values), BLOCK):
        rows = slice(row, row + BLOCK)
        some = x.values[rows].double()
        for column in range(row if of_itself else 0, len(y.values), BLOCK):
            columns = slice(column, column + BLOCK)
            products = some @ y.values[columns].double().mT
            yield _Block(rows, columns, products)
            counted = len(some) * (len(some) + 1) // 2 if of_itself and row == column else products.numel()
            progress(counted)


def _keep_largest(kept: Float64[Tensor, " rows kept"], values: Float64[Tensor, " rows columns"]) -> None:
    """Replace the kept values of each row by the largest of these and the new values."""
    count = kept.shape[1]
    grouped = values.shape[1] // GROUP * GROUP
    if grouped > 2 * GROUP * count:
        # The largest values of a row are in the groups whose maxima are the largest.
        groups = values[:, :grouped].reshape(len(values), -1, GROUP)
        best = groups.amax(2).topk(count).indices
        candidates = groups.take_along_dim(best[..., None], 1).flatten(1)
        values = torch.cat([candidates, values[:, grouped:]], dim=1)
    kept.copy_(torch.cat([kept, values], dim=1).topk(count).values)


def _sum_of_kernel(products: Float64[Tensor, "*pairs"], size: int) -> Float64[Tensor, ""]:
    """Return the sum of (x . y / d + 1)^3."""
    base = (products / size + 1).flatten()
    return base.square().dot(base)
