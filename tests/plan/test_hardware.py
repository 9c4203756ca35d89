"""GPUs by name, and the peak of a configuration's precision."""

import dataclasses
import re
from typing import Any

import pytest

from ict_ref.config import digits
from ict_ref.plan.hardware import GPUS, gpu_named, gpu_of_device, gpu_of_type, peak


def test_every_gpu_has_the_memory_of_its_name_and_plausible_figures() -> None:
    for name, gpu in GPUS.items():
        size = re.search(r"-(\d+)gb$", name)
        assert size is not None
        assert gpu_named(name) is gpu
        assert gpu.memory_bytes == int(size[1]) * 2**30
        assert gpu.float64 < gpu.float32 <= gpu.tf32 <= gpu.bfloat16
        assert 1e9 < gpu.interconnect < gpu.memory_bandwidth < 1e13


def test_an_unknown_gpu_is_one_line_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"--gpu: expected one of .*, got A100_80GB; perhaps you meant a100-80gb$"):
        gpu_named("A100_80GB")


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H200", "h200-141gb"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA RTX A6000", "a6000-48gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_devices_are_found_by_torch_s_names(device: str, name: str | None) -> None:
    found = gpu_of_device(device)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("a100", "a100-40gb"),
        ("a100_80gb", "a100-80gb"),
        ("h100", "h100-80gb"),
        ("rtx4090", "rtx4090-24gb"),
        ("k80", None),
    ],
)
def test_types_of_slurm_without_a_size_are_the_smallest(kind: str, name: str | None) -> None:
    found = gpu_of_type(kind)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("precision", "rate"), [("float64", 9.7), ("float32", 19.5), ("tf32", 156), ("bfloat16", 312), ("float16", 312)]
)
def test_the_peak_is_that_of_the_precision(precision: Any, rate: float) -> None:
    # NVIDIA A100 Tensor Core GPU (2021), in TFLOP/s.
    config = dataclasses.replace(digits(), train=dataclasses.replace(digits().train, precision=precision))
    assert peak(GPUS["a100-80gb"], config) == rate * 1e12


def test_a_gpu_may_have_float16_without_bfloat16() -> None:
    # NVIDIA V100 Tensor Core GPU (2020): 125 TFLOP/s for tensor operations, which are those of float16.
    assert (GPUS["v100-32gb"].float16, GPUS["v100-32gb"].bfloat16) == (125e12, 15.7e12)
