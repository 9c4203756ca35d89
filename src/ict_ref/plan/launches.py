"""The kernel launches, copies between devices and host reads of operations, counted by a mode.

An operation that writes memory counts as one launch, and a view as none. Most operations are one kernel. Torch's group
normalisation is three, five in the backward pass, and a convolution has one more for its bias.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ict_ref.config import Config
from ict_ref.plan.meta_step import META, counted_config, meta_inputs, meta_loss, meta_model
from ict_ref.training.discretization import discretization

ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"})
"""Operations that neither write memory nor return a view by their schema."""
HOST_READS = frozenset({"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2"})
"""Operations whose result or shape the host reads from the device."""


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate it
    """A context that counts the operations on tensors of a device.

    >>> with Launches(torch.device("cpu")) as counted:
    ...     read = (torch.ones(2, 3).t() + 1).sum().item()  # ones, add, sum
    >>> counted.launches, counted.host_reads, counted.copies
    (3, 1, 0)
    """

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.names: Counter[str] = Counter()
        """Launches by the name of the operation."""
        self.host_reads = self.copies = 0

    @property
    def launches(self) -> int:
        """Return the number of launches."""
        return self.names.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        given = _devices((args, kwargs))
        if self.device in given and name in HOST_READS:
            self.host_reads += 1
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        devices = given | _devices(result)
        if self.device in devices and name in ("_to_copy", "copy_") and len(devices) > 1:
            self.copies += 1
        elif self.device in devices and name not in ALLOCATIONS and not _is_view(func):
            self.names[name] += 1
        return result


def pass_launches(config: Config, images: int = 8) -> Launches:
    """Return the count of a microbatch's passes on the meta device: student, teacher, loss and backward pass.

    The number of images changes no count.
    """
    config = counted_config(config)
    model = meta_model(config)
    inputs = meta_inputs(config, model, images)
    discretization(0, config, META)  # copied to the device where N changes only
    counted = Launches()
    with counted:
        torch.autograd.backward(meta_loss(config, model, inputs))
    return counted


def _devices(values: Any) -> set[torch.device]:
    return {value.device for value in pytree.tree_leaves(values) if isinstance(value, Tensor)}


def _is_view(func: Any) -> bool:
    """Return whether the operation returns its argument's memory and writes nothing."""
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
