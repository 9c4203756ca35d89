"""Operations of ict_ref that a GPU computes by few kernels, known to torch by name.

On the meta device they return shapes only, so a count sees each of them as one operation.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch

_LIBRARY = torch.library.Library("ict_ref", "DEF")  # type: ignore[no-untyped-call]


def define(schema: str, *, cuda: Callable[..., Any], meta: Callable[..., Any]) -> Callable[..., Any]:
    """Register an operation, `cuda` for tensors on a GPU and `meta` for their shapes, and return it."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    for key, function in (("CUDA", cuda), ("Meta", meta)):
        _LIBRARY.impl(name, function, key)  # type: ignore[no-untyped-call]
    operation: Callable[..., Any] = getattr(torch.ops.ict_ref, name).default
    return operation


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Return whether Triton is installed, by which a GPU runs the kernels of this package."""
    return find_spec("triton") is not None
