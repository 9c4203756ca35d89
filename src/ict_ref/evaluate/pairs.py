"""KID, precision and recall of large sets, block by block with each inner product computed once.

The definitions are `formulas.kernel_distance` and `formulas.precision_recall`; tests compare both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

# Side of a block of pairs, whose values fit in a cache.
BLOCK = 1024
# Relative tolerance of squared distances, in units of ||x||^2 + ||y||^2, for the rounding of float64 sums.
SLACK = 1e-12


@dataclass(frozen=True)
class Compared:
    """The scores over all pairs of two sets."""

    kernel_distance: float
    precision: float
    recall: float


@dataclass(frozen=True)
class _Block:
    """The pairs of a slice of one set with a slice of the other."""

    rows: slice
    columns: slice
    kernel: Float64[Tensor, " rows columns"]
    squared_distance: Float64[Tensor, " rows columns"]
    slack: Float64[Tensor, " rows columns"]


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
    real_kernel, real_reach = _of_itself(real, k, progress)
    fake_kernel, fake_reach = _of_itself(fake, k, progress)
    kernel = torch.zeros((), dtype=torch.float64)
    looks_real = torch.zeros(len(fake), dtype=torch.bool)
    is_reached = torch.zeros(len(real), dtype=torch.bool)
    for block in _blocks(fake, real, progress):
        kernel += block.kernel.sum()
        nearly = block.squared_distance - block.slack
        looks_real[block.rows] |= (nearly <= real_reach[block.columns]).any(1)
        is_reached[block.columns] |= (nearly <= fake_reach[block.rows, None]).any(0)
    return Compared(
        kernel_distance=float(real_kernel + fake_kernel - 2 * kernel / (len(real) * len(fake))),
        precision=float(looks_real.double().mean()),
        recall=float(is_reached.double().mean()),
    )


def pairs(reals: int, fakes: int) -> int:
    """Return the number of pairs in `compare`."""
    return reals * reals + fakes * fakes + reals * fakes


def _of_itself(
    points: Float32[Tensor, " n d"], k: int, progress: Callable[[int], object]
) -> tuple[Float64[Tensor, ""], Float64[Tensor, " n"]]:
    """Return the mean kernel of different points, and the squared distance of each to its k-th nearest neighbour."""
    kernel = torch.zeros((), dtype=torch.float64)
    # Each point is its own nearest point, so its k-th neighbour has rank k + 1.
    nearest = torch.full((len(points), k + 1), torch.inf, dtype=torch.float64)
    for block in _blocks(points, points, progress):
        kernel += block.kernel.sum()
        candidates = torch.cat([nearest[block.rows], block.squared_distance], dim=1)
        nearest[block.rows] = candidates.topk(k + 1, largest=False).values
    itself = _kernel(_squares(points), points.shape[1]).sum()
    return (kernel - itself) / (len(points) * (len(points) - 1)), nearest.amax(1)


def _blocks(
    x: Float32[Tensor, " m d"], y: Float32[Tensor, " n d"], progress: Callable[[int], object]
) -> Iterator[_Block]:
    of_x, of_y = _squares(x), _squares(y)
    for row in range(0, len(x), BLOCK):
        rows = slice(row, row + BLOCK)
        some = x[rows].double()
        for column in range(0, len(y), BLOCK):
            columns = slice(column, column + BLOCK)
            products = some @ y[columns].double().mT
            squares = of_x[rows, None] + of_y[columns]
            kernel = _kernel(products, x.shape[1])
            yield _Block(rows, columns, kernel, squares - 2 * products, SLACK * squares)
            progress(products.numel())


def _kernel(products: Float64[Tensor, "*pairs"], size: int) -> Float64[Tensor, "*pairs"]:
    return (products / size + 1) ** 3


def _squares(points: Float32[Tensor, " n d"]) -> Float64[Tensor, " n"]:
    return torch.cat([some.double().square().sum(1) for some in torch.split(points, BLOCK)])
