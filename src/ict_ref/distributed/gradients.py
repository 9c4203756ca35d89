"""The exchange of gradients between the processes of a run, in buckets whose layout never changes."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ict_ref.distributed.process_group import ProcessGroup

# As large as those of DistributedDataParallel: large enough for the speed of the network, small enough to overlap.
BUCKET_BYTES = 25 * 2**20


class _Bucket:
    """One buffer for the gradients of some parameters."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.missing = parameters, 0
        like = parameters[0]
        self.values = torch.zeros(sum(p.numel() for p in parameters), dtype=like.dtype, device=like.device)
        self.views: list[Tensor] = []
        start = 0
        for parameter in parameters:
            # The strides of the parameter, which may have channels last.
            self.views.append(self.values.as_strided(parameter.shape, parameter.stride(), start))
            start += parameter.numel()

    def clear(self) -> None:
        self.values.zero_()
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view


class Gradients:
    """The gradients of a model, averaged over all processes during the backward pass.

    An all-reduce adds the values of the ranks in an order that depends on their place in the buffer, so with more than
    two ranks the layout of the buckets decides the rounding. DistributedDataParallel rearranges its buckets after its
    first backward pass; a resumed process would then round differently from one that was never stopped. Here the layout
    is a function of the parameters alone: their reverse order, which is about the order of the backward pass.

    A bucket is sent as soon as its gradients are complete and the bucket before it was sent, so the exchange overlaps
    with the rest of the backward pass. A compiled network delivers all gradients at its end, without overlap.

    Gradients are views of their bucket, and need no memory besides it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: ProcessGroup) -> None:
        self.parameters, self.group = [*parameters], group
        self._buckets = [_Bucket(some) for some in split(self.parameters)] if group.size > 1 else []
        self._sent: list[dist.Work] | None = None  # None outside `averaged`
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                hook = partial(self._complete, bucket)
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Set all gradients to zero."""
        for bucket in self._buckets:
            bucket.clear()
        if not self._buckets:
            for parameter in self.parameters:
                parameter.grad = None

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Average the gradients over all processes while the block computes the last backward pass of an update."""
        self._sent = []
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)
        try:
            yield
            self._send(self._buckets)
            for bucket, work in zip(self._buckets, self._sent, strict=True):
                work.wait()  # on a GPU its stream waits, not the host
                bucket.values /= self.group.size
        finally:
            self._sent = None

    def _complete(self, bucket: _Bucket, _: nn.Parameter) -> None:
        """Note that one more gradient of the bucket is complete, and send the buckets that are."""
        if self._sent is None:
            return
        bucket.missing -= 1
        ready = len(self._sent)
        while ready < len(self._buckets) and self._buckets[ready].missing == 0:
            ready += 1
        self._send(self._buckets[:ready])

    def _send(self, buckets: list[_Bucket]) -> None:
        """Send those of the first buckets that are not sent yet, in the same order in all processes."""
        assert self._sent is not None  # noqa: S101 (narrows the type)
        for bucket in buckets[len(self._sent) :]:
            self._sent.append(dist.all_reduce(bucket.values, async_op=True))


def split(parameters: Iterable[nn.Parameter], limit_bytes: int = BUCKET_BYTES) -> list[list[nn.Parameter]]:
    """Return the parameters in reverse order, in lists of at most `limit_bytes` and one dtype, or of one parameter."""
    lists: list[list[nn.Parameter]] = []
    filled = 0
    for parameter in reversed([*parameters]):
        if not lists or parameter.dtype != lists[-1][0].dtype or filled + parameter.nbytes > limit_bytes:
            lists.append([])
            filled = 0
        lists[-1].append(parameter)
        filled += parameter.nbytes
    return lists
