"""The device, and its rates: matrix products in each precision, and copies."""

import platform
import time

import torch

import ict_ref
from benchmarks.gpu.device import device, median_seconds
from benchmarks.gpu.networks import POLICIES
from benchmarks.gpu.notes import Notes
from ict_ref.networks.precision import use_precision
from ict_ref.utils.dtypes import torch_dtype
from ict_ref.utils.tf32 import without_tf32

SIZE, TINY_SIZE = 8192, 128
"""Rows and columns of the matrices, as large as the rate needs to level off."""
COPIED, TINY_COPIED = 1 << 32, 1 << 20
"""Bytes of the copied tensor."""


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note what the machine is, TFLOP/s of one large product in each precision, and the bandwidth of a copy."""
    describe(notes, tiny=tiny)
    size = TINY_SIZE if tiny else SIZE
    with without_tf32():
        for policy in POLICIES:
            use_precision(policy)
            dtype = torch_dtype("float32" if policy == "tf32" else policy)
            a, b = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
            seconds = median_seconds(lambda a=a, b=b: a @ b, budget_s=0.05 if tiny else 1.5, least=10)  # type: ignore[misc]
            notes.add("product", precision=policy, tflops=2 * size**3 / seconds / 1e12)
    source = torch.empty(TINY_COPIED if tiny else COPIED, dtype=torch.uint8, device=device())
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), budget_s=0.05 if tiny else 0.5)
    notes.add("copy", tb_per_second=2 * source.nbytes / seconds / 1e12)


def describe(notes: Notes, *, tiny: bool) -> None:
    """Note names, versions and the date."""
    versions = {"ict_ref": ict_ref.__version__, "python": platform.python_version(), "torch": torch.__version__}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    if device().type == "cpu":
        notes.add("machine", gpu=None, **versions, date=date, tiny=tiny)
        return
    properties = torch.cuda.get_device_properties(device())
    notes.add(
        "machine",
        gpu=properties.name,
        memory_gib=properties.total_memory / 2**30,
        multiprocessors=properties.multi_processor_count,
        **versions,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        nccl=".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        date=date,
        tiny=tiny,
    )
