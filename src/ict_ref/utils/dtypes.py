"""The torch dtypes that a configuration names."""

import torch


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of this name, such as float32.

    >>> torch_dtype("bfloat16")
    torch.bfloat16

    Raises:
        ValueError: torch has no dtype of this name.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype: expected the name of a torch dtype, got {name}")
    return dtype
