"""Operations of ict_ref that a GPU computes by few kernels, known to torch by name.

On the meta device they return shapes only, so a count sees each of them as one operation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

_REPLACES: ContextVar[bool] = ContextVar("replaces", default=True)
_LIBRARY = torch.library.Library("ict_ref", "DEF")  # type: ignore[no-untyped-call]


def define(
    schema: str, *, cuda: Callable[..., Any], meta: Callable[..., Any], cpu: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Register an operation, `cuda` for tensors on a GPU and `meta` for their shapes, and return it."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    for key, function in {"CUDA": cuda, "Meta": meta, "CPU": cpu}.items():
        if function is not None:
            _LIBRARY.impl(name, function, key)  # type: ignore[no-untyped-call]
    operation: Callable[..., Any] = getattr(torch.ops.ict_ref, name).default
    return operation


def runs_kernels(x: Float[Tensor, "..."]) -> bool:
    """Return whether operations on x are replaced by kernels: on a GPU, and on the meta device, which stands for one.

    Not under torch.compile, which fuses torch's operations, nor in forward mode and under torch.func's transforms, for
    which the kernels have no rule.
    """
    if torch.compiler.is_compiling() or x.device.type not in ("cuda", "meta") or not _REPLACES.get():
        return False
    return forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active()


@contextmanager
def torch_operations() -> Iterator[None]:
    """Let no kernel replace torch's operations while the block runs: the meta device then stands for a CPU."""
    before = _REPLACES.set(False)
    try:
        yield
    finally:
        _REPLACES.reset(before)


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Return whether Triton is installed, by which a GPU runs the kernels of this package."""
    return find_spec("triton") is not None
