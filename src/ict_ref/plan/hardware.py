"""GPUs by name, with the figures of NVIDIA's data sheets.

Peaks are for dense matrices. Bandwidths between GPUs are of one direction, half of what a data sheet prints.

`train.precision` fixes the arithmetic of convolutions and matrix products alike (`networks.precision`).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ict_ref.config import Config

GB, TERA = 10**9, 10**12


@dataclass(frozen=True)
class Gpu:
    """The figures of a GPU."""

    name: str
    memory_bytes: int
    """Nominal memory; the driver keeps a part of it."""
    float64: float
    """Peak FLOP/s in float64, without tensor cores."""
    float32: float
    """Peak FLOP/s in float32, without tensor cores."""
    tf32: float
    """Peak FLOP/s in TF32; that of float32 for a GPU without TF32."""
    bfloat16: float
    """Peak FLOP/s in bfloat16 with sums in float32; that of float32 for a GPU without bfloat16."""
    float16: float
    """Peak FLOP/s in float16 with sums in float32."""
    memory_bandwidth: float
    """Bytes per second of the GPU's memory."""
    interconnect: float
    """Bytes per second between GPUs of one node, in one direction."""


def _gpu(
    name: str, memory: float, peaks: tuple[float, float, float, float, float], bandwidth: float, link: float
) -> Gpu:
    """Return a GPU from its memory in GiB, its peaks in TFLOP/s, and bandwidths in GB/s."""
    float64, float32, tf32, bfloat16, float16 = (peak * TERA for peak in peaks)
    rates = float64, float32, tf32, bfloat16, float16
    return Gpu(name, round(memory * 2**30), *rates, bandwidth * GB, link * GB)


GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        # "NVIDIA V100 Tensor Core GPU" (2020), SXM2: no TF32, no bfloat16; NVLink 300 GB/s in both directions.
        _gpu("v100-32gb", 32.0, (7.8, 15.7, 15.7, 15.7, 125.0), 900.0, 150.0),
        # "NVIDIA A100 Tensor Core GPU" (2021), SXM: NVLink 600 GB/s in both directions.
        _gpu("a100-40gb", 40.0, (9.7, 19.5, 156.0, 312.0, 312.0), 1555.0, 300.0),
        _gpu("a100-80gb", 80.0, (9.7, 19.5, 156.0, 312.0, 312.0), 2039.0, 300.0),
        # "NVIDIA H100 Tensor Core GPU" (2023), SXM: tensor figures halved, printed with sparsity; NVLink 900 GB/s.
        _gpu("h100-80gb", 80.0, (34.0, 67.0, 494.5, 989.5, 989.5), 3350.0, 450.0),
        # "NVIDIA H200 Tensor Core GPU" (2024), SXM: as the H100, with other memory.
        _gpu("h200-141gb", 141.0, (34.0, 67.0, 494.5, 989.5, 989.5), 4800.0, 450.0),
        # "NVIDIA RTX A6000" (2022) and the GA102 white paper: float64 1/64 of float32; PCIe 4.0 x16.
        _gpu("a6000-48gb", 48.0, (0.6, 38.7, 77.4, 154.8, 154.8), 768.0, 32.0),
        # "NVIDIA Ada GPU Architecture" (2022), appendix A: float64 1/64 of float32; PCIe 4.0 x16, without NVLink.
        _gpu("rtx4090-24gb", 24.0, (1.3, 82.6, 82.6, 165.2, 165.2), 1008.0, 32.0),
    )
}


def gpu_named(name: str) -> Gpu:
    """Return a GPU of the table.

    Raises:
        ValueError: the table does not have it. The message names the nearest one.
    """
    if name in GPUS:
        return GPUS[name]
    near = difflib.get_close_matches(name.lower(), GPUS, n=1, cutoff=0.3)
    hint = f"; perhaps you meant {near[0]}" if near else ""
    raise ValueError(f"--gpu: expected one of {', '.join(GPUS)}, got {name}{hint}")


def gpu_of_device(name: str) -> Gpu | None:
    """Return the GPU that torch.cuda.get_device_name() names, or None if the table does not have it.

    A name without its memory means the smallest of that model.

    >>> gpu_of_device("NVIDIA A100-SXM4-80GB").name
    'a100-80gb'
    """
    plain = name.lower().replace(" ", "").replace("-", "")
    known = [gpu for gpu in GPUS.values() if gpu.name.split("-")[0] in plain]
    sized = [gpu for gpu in known if gpu.name.split("-")[1] in plain]
    return min(sized or known, key=lambda gpu: gpu.memory_bytes, default=None)


def gpu_of_type(kind: str) -> Gpu | None:
    """Return the GPU of a SLURM GRES type such as "a100" or "h100_80gb", or None if the table does not have it.

    A type without its memory means the smallest of that model: a plan for 40 GB also fits 80 GB.

    >>> gpu_of_type("a100").name, gpu_of_type("a100_80gb").name
    ('a100-40gb', 'a100-80gb')
    """
    return gpu_of_device(kind.replace("_", "-"))


def peak(gpu: Gpu, config: Config) -> float:
    """Return the peak FLOP/s of a GPU in the precision in which the configuration trains."""
    rate: float = getattr(gpu, config.train.precision)  # both have the same names
    return rate
