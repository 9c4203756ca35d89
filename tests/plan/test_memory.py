"""The predicted memory of an update, against what a real one allocates on the CPU.

Oracle: torch's profiler, which sees the allocator. A CPU does not fuse normalisation, SiLU and dropout.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Conv2d
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ict_ref.config import PRESETS, Config, Machine, Network, digits
from ict_ref.data.dataset import Images
from ict_ref.networks.blocks import ResidualBlock, SelfAttention
from ict_ref.networks.model import build_model
from ict_ref.plan import count as counting
from ict_ref.plan.count import BATCH, count
from ict_ref.plan.memory import memory, state_sizes
from ict_ref.plan.meta_step import meta_inputs, meta_loss, meta_model
from ict_ref.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("unchecked")
SMALL = Network(
    architecture="ncsnpp", embedding="fourier", width=16, multipliers=(1, 2), blocks=1, attention_resolutions=(4,),
    head_channels=0, dropout=0.1, dropout_max_resolution=8,
)  # fmt: skip


def config(network: Network, machine: Machine | None = None, mu0: float | None = None) -> Config:
    preset = digits()
    return dataclasses.replace(
        preset,
        network=network,
        method=dataclasses.replace(preset.method, mu0=mu0),
        train=dataclasses.replace(preset.train, batch_size=128),
        machine=machine or Machine(threads=1),
    )


def trainer(chosen: Config) -> Trainer:
    pixels = np.random.default_rng(0).integers(256, size=(128, 1, 8, 8), dtype=np.uint8)
    return Trainer(chosen, Images(pixels, torch.arange(128) % 10, 10))


def allocated(real: Trainer) -> int:
    """Return the peak of the bytes that an update allocates, from a state without gradients."""
    real.optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        real.update()
    results = profiled.profiler.kineto_results if profiled.profiler is not None else None
    assert results is not None
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    return int(np.cumsum([size for _, size in events]).max())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "network",
    [digits().network, dataclasses.replace(digits().network, width=32), SMALL],
    ids=["adm, width 16", "adm, width 32", "ncsnpp"],
)
def test_the_peak_is_what_an_update_allocates(network: Network, accumulate: int, recompute: bool) -> None:
    chosen = config(network, Machine(device="cpu", threads=1, accumulate=accumulate, recompute=recompute))
    real = trainer(chosen)
    real.update()
    found = memory(chosen, accumulate=accumulate, recompute=recompute)
    predicted = found.gradients + found.activations + found.buffers
    assert predicted == pytest.approx(allocated(real), rel=0.15)


@pytest.mark.parametrize("mu0", [None, 0.9])
def test_the_states_have_the_sizes_of_a_trainer_s_tensors(mu0: float | None) -> None:
    chosen = config(SMALL, mu0=mu0)
    real = trainer(chosen)
    real.update()
    found = memory(chosen, accumulate=1, recompute=False)
    parameters = list(real.student.parameters())
    assert found.parameters == sum(parameter.nbytes for parameter in parameters)
    assert found.gradients == sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
    moments = [value for values in real.optimizer.state.values() for value in values.values()]
    assert found.moments == sum(value.nbytes for value in moments)
    assert found.ema == sum(parameter.nbytes for parameter in real.ema.parameters())
    assert found.teacher == (0 if real.teacher is None else sum(p.nbytes for p in real.teacher.parameters()))
    stored = real.checkpoint().tensors.values()
    assert state_sizes(chosen).checkpoint == sum(tensor.nbytes for tensor in stored)
    assert found.total == sum(
        (found.parameters, found.gradients, found.moments, found.ema, found.teacher, found.activations, found.buffers)
    )


def test_each_average_takes_the_memory_of_the_parameters() -> None:
    one = config(SMALL)
    several = dataclasses.replace(one, train=dataclasses.replace(one.train, ema_decay=(0.9, 0.8), ema_sigmas=(0.1,)))
    found = memory(several, accumulate=1, recompute=False)
    assert found.ema == 3 * memory(one, accumulate=1, recompute=False).ema
    real = trainer(several)
    real.update()
    assert state_sizes(several).checkpoint == sum(tensor.nbytes for tensor in real.checkpoint().tensors.values())


def test_double_precision_takes_twice_the_bytes() -> None:
    single = config(digits().network)
    double = dataclasses.replace(single, train=dataclasses.replace(single.train, precision="float64"))
    one, two = (memory(each, accumulate=1, recompute=False) for each in (single, double))
    assert two.parameters == 2 * one.parameters
    # Dropout masks and labels have the same size in both.
    assert 1.9 * one.activations_per_image < two.activations_per_image < 2 * one.activations_per_image


def test_activations_are_of_a_process_s_part_of_the_batch() -> None:
    chosen = config(digits().network)
    whole, part = (memory(chosen, accumulate=a, recompute=False, processes=p) for a, p in ((1, 1), (2, 2)))
    assert whole.activations == 128 * whole.activations_per_image
    assert part.activations == 32 * part.activations_per_image
    assert part.total < whole.total


def test_attention_saves_no_matrix() -> None:
    # The matrices of one head would have pixels^2 numbers in each of the maps; all other tensors are linear in pixels.
    def per_pixel(size: int) -> float:
        data = dataclasses.replace(digits().data, name="imagenet64" if size == 64 else "cifar10")
        network = dataclasses.replace(digits().network, attention_resolutions=(size,), dropout=0.0)
        chosen = dataclasses.replace(digits(), data=data, network=network)
        return memory(chosen, accumulate=1, recompute=False).activations_per_image / size**2

    assert per_pixel(64) == pytest.approx(per_pixel(32), rel=0.01)


def networks() -> Iterator[Config]:
    known = {(config.network, config.data): config for config in (preset() for preset in PRESETS.values())}
    yield from known.values()


def test_the_batch_divides_the_size_of_no_parameter() -> None:
    for chosen in networks():
        assert all(tensor.numel() % BATCH for tensor in meta_model(chosen).state_dict().values())


def test_quick_shapes_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(digits().network)
    quick = count(chosen, recompute=True)
    counting._count.cache_clear()
    monkeypatch.setattr(counting, "QUICK", {})
    slow = count(chosen, recompute=True)
    counting._count.cache_clear()
    assert quick.constant.tolist() == slow.constant.tolist()
    assert quick.per_image.tolist() == slow.per_image.tolist()


class Dtypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that counts the dtypes of the results of each operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, Counter[torch.dtype]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        if isinstance(first, torch.Tensor):
            self.found.setdefault(str(func._overloadpacket), Counter())[first.dtype] += 1
        return result


@pytest.mark.parametrize("recompute", [False, True])
def test_autocast_follows_cuda_s_lists(recompute: bool) -> None:
    # https://docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast": conv2d, linear and attention to 16
    # bits. Stem, head, skip connections and the embedding of the noise level are kept out of it.
    base = config(digits().network)
    chosen = dataclasses.replace(base, train=dataclasses.replace(base.train, precision="bfloat16"))
    model = meta_model(chosen, recomputes=recompute)
    with Dtypes() as mode:
        torch.autograd.backward(meta_loss(chosen, model, meta_inputs(chosen, model, 2)))
    half, single = {torch.bfloat16}, {torch.float32}
    assert set(mode.found["aten.convolution"]) == half | single
    # Stem and head of student and teacher, and the skip connections, which recomputation repeats.
    skips = sum(isinstance(module, ResidualBlock) and isinstance(module.skip, Conv2d) for module in model.modules())
    assert mode.found["aten.convolution"][torch.float32] == 2 * 2 + skips * (3 if recompute else 2)
    assert set(mode.found["aten._scaled_dot_product_efficient_attention"]) == half
    # Normalisation computes in float32; its results are in 16 bits but before a resampling and in the head.
    resampled = sum(isinstance(module, ResidualBlock) and module.resample is not None for module in model.modules())
    outputs = mode.found["ict_ref.norm_silu_drop"]
    assert set(outputs) == half | single
    assert outputs[torch.float32] == 2 + resampled * (3 if recompute else 2)
    assert set(mode.found["ict_ref.norm_silu_drop_backward"]) == half | single
    # The embedding's two maps and one of each block, by student and teacher; recomputation repeats those of blocks.
    blocks = sum(isinstance(module, ResidualBlock) for module in model.modules())
    assert mode.found["aten.addmm"][torch.float32] == 2 * 2 + blocks * (3 if recompute else 2)
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == single


def test_dropout_masks_take_a_byte_per_value() -> None:
    with_masks, without = (config(dataclasses.replace(digits().network, dropout=rate)) for rate in (0.1, 0.0))
    sites = meta_model(with_masks).network.dropout_sites()
    masks = sum(site.channels * site.height * site.width for site in sites)
    one, other = (memory(each, accumulate=1, recompute=False).activations_per_image for each in (with_masks, without))
    assert one - other == masks


def test_autocast_and_recomputation_save_memory() -> None:
    base = config(digits().network, Machine(device="cpu"))
    half = dataclasses.replace(base, train=dataclasses.replace(base.train, precision="bfloat16"))
    full, recomputed, cast = (
        memory(each, accumulate=1, recompute=recompute).activations_per_image
        for each, recompute in ((base, False), (base, True), (half, False))
    )
    assert recomputed < 0.5 * full
    assert 0.7 * full < cast < full


@pytest.mark.parametrize("machine", [Machine(device="cpu"), Machine(compile=True)], ids=["CPU", "compiled"])
def test_the_fused_operation_of_a_gpu_saves_its_input_alone(machine: Machine) -> None:
    chosen = config(dataclasses.replace(digits().network, dropout=0.0))
    fused = count(chosen, recompute=False).saved_per_image
    plain = count(dataclasses.replace(chosen, machine=machine), recompute=False).saved_per_image
    values = 0

    def add(module: Any, given: tuple[Any, ...], _: Any) -> None:
        nonlocal values
        # The result before SiLU is not saved, at each normalisation. The second one of a block saves the map, not
        # its sum with the embedding.
        values += given[0].numel() if isinstance(module, torch.nn.GroupNorm) else 0

    model = build_model(chosen, event=(1, 8, 8), classes=10)
    of_attention = {id(each.norm) for each in model.modules() if isinstance(each, SelfAttention)}
    for each in model.modules():
        if id(each) not in of_attention:
            each.register_forward_hook(add)
    with torch.no_grad():
        model(torch.zeros(1, 1, 8, 8), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    assert plain - fused == pytest.approx(4 * values, rel=0.02)


@pytest.mark.parametrize(("preset", "limit"), [("cifar10", 70), ("imagenet64", 270)])
def test_activations_of_the_paper_s_networks_in_16_bits(preset: str, limit: int) -> None:
    base = PRESETS[preset]()
    chosen = dataclasses.replace(base, train=dataclasses.replace(base.train, precision="float16"))
    counted = count(chosen, recompute=False)
    assert counted.saved_per_image < counted.peak(64)[1] <= limit * 2**20
