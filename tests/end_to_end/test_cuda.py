"""Tests of training on a GPU, skipped without one.

`ICT_REF_TEST_DEVICE=cpu` runs them on a CPU instead, to test the tests: only what a CPU does not have is skipped then.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.support.runs import CT, config, images, newest, same, updated
from tests.support.sampled_noise import sample_noise

from ict_ref.checkpoint.training_state import checkpoint_file, load_checkpoint
from ict_ref.checkpoint.writer import CheckpointWriter
from ict_ref.config import Config, Machine
from ict_ref.data.dataset import digits, to_float
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.features import find_features
from ict_ref.evaluate.measured import measure_together
from ict_ref.evaluate.scores import score
from ict_ref.evaluate.sets import in_memory
from ict_ref.networks.dropout import DropoutSite, draw_masks
from ict_ref.networks.model import build_model
from ict_ref.sample import images as sampled
from ict_ref.training.discretization import Discretization
from ict_ref.training.loss import training_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_masks
from ict_ref.training.trainer import Trainer

DEVICE, CPU = torch.device(os.environ.get("ICT_REF_TEST_DEVICE", "cuda")), torch.device("cpu")
ON_GPU = DEVICE.type == "cuda"
# Warnings of torch about a GPU differ by version and device: they are shown.
pytestmark = [
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),
]
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="a CPU has no such state")


def with_machine(chosen: Config, **machine: Any) -> Config:
    """Return the configuration on the tested device, with these options of the machine."""
    return dataclasses.replace(chosen, machine=Machine(device="cuda" if ON_GPU else "cpu", **machine))


def on_device(chosen: Config, group: ProcessGroup | None = None, **machine: Any) -> Trainer:
    """Return a trainer on the tested device."""
    return Trainer(with_machine(chosen, **machine), images(), group or ProcessGroup(device=DEVICE))


def test_pixels_are_the_same_floats_on_both_devices() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(pixels.to(DEVICE)).cpu(), to_float(pixels))


def test_masks_are_the_same_bits_on_both_devices() -> None:
    sites = build_model(config(), event=(1, 8, 8), classes=10).network.dropout_sites()
    here, there = (sample_masks(3, range(4), config(), sites, device) for device in (CPU, DEVICE))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_masks_of_many_blocks_are_the_same_bits_on_both_devices() -> None:
    # The first has 2^23 values, more than a GPU makes at a time; the second ends inside a word and a block.
    sites = [DropoutSite(256, 32, 32, 0.3), DropoutSite(3, 5, 7, 0.9), DropoutSite(768, 8, 8, 0.2)]
    batch = 280 if ON_GPU else 32
    for key in (7, (1 << 63) + 12345):
        here, there = (draw_masks(sites, batch, key, device=device) for device in (CPU, DEVICE))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_student_and_teacher_share_their_masks_on_the_gpu() -> None:
    # Dropout 0.9, and two noise levels ever closer: the loss goes to 0 as the square of their distance.
    network = dataclasses.replace(config().network, dropout=0.9)
    chosen = dataclasses.replace(config(precision="float64"), network=network)
    model = build_model(chosen, event=(1, 8, 8), classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model = model.to(DEVICE)
    drawn = sample_noise(0, range(4), chosen, event=(1, 8, 8), sites=[])
    masks = sample_masks(0, range(4), chosen, model.network.dropout_sites(), DEVICE)
    noise = SampledNoise(torch.zeros_like(drawn.index, device=DEVICE), drawn.z.to(DEVICE), masks)
    x, labels = torch.rand(16, 1, 8, 8, device=DEVICE, dtype=torch.float64), torch.arange(16, device=DEVICE) % 10
    one = torch.ones(1, dtype=torch.float64, device=DEVICE)
    losses = []
    for gap in (1e-2, 1e-4, 1e-6):
        levels = Discretization(torch.tensor([1.0, 1.0 + gap], dtype=torch.float64, device=DEVICE), one, one)
        losses.append(float(training_loss(model, x, labels, noise, levels, chosen.method).detach().max()))
    assert losses[1] < 1e-2 * losses[0]
    assert losses[2] < 1e-3 * losses[1]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_a_gpu_learns_what_a_cpu_learns(precision: str, tolerance: float) -> None:
    cpu, gpu = Trainer(config(precision=precision), images()), on_device(config(precision=precision))
    assert [updated(gpu) for _ in range(8)] == pytest.approx([updated(cpu) for _ in range(8)], rel=tolerance)


# The tolerances are four times the rounding of each operand, which a loss averages over many values.
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_each_precision_learns_what_float32_learns(precision: str, tolerance: float) -> None:
    exact, rounded = on_device(config()), on_device(config(precision=precision))
    expected = [updated(exact) for _ in range(5)]
    assert [updated(rounded) for _ in range(5)] == pytest.approx(expected, rel=tolerance)
    assert rounded.skipped == 0


def test_float32_does_not_use_tf32() -> None:
    # With TF32 the product would be off by about 1e-3.
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(64, 64, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    on_device(config())  # which sets the precision of the process
    found = torch.nn.functional.conv2d(x.float().to(DEVICE), weight.float().to(DEVICE), padding=1)
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    assert float((found.double().cpu() - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize(
    "machine", [{"recompute": True}, {"accumulate": 2}, {"channels_last": True}], ids=lambda one: next(iter(one))
)
def test_options_of_the_machine_change_rounding_only(machine: dict[str, Any]) -> None:
    plain, other = on_device(config(precision="float64")), on_device(config(precision="float64"), **machine)
    assert [updated(other) for _ in range(6)] == pytest.approx([updated(plain) for _ in range(6)], rel=1e-10)


VARIANTS = {
    "float32": config(),
    "tf32": config(precision="tf32"),
    "bfloat16": config(precision="bfloat16"),
    "averaged teacher": dataclasses.replace(config(), method=CT),
    "no labels": dataclasses.replace(config(), data=dataclasses.replace(config().data, labels=False)),
    "skipped updates": config(skip_nonfinite=0, clip_gradient=1.0),
}


@needs_gpu
@pytest.mark.parametrize("name", VARIANTS)
def test_the_host_does_not_wait_in_a_step(name: str) -> None:
    trainer = on_device(VARIANTS[name], accumulate=2)
    for _ in range(3):
        trainer.update()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.guard.raise_recorded()


def test_what_is_not_finite_stops_the_run_on_the_gpu_too() -> None:
    trainer = on_device(config())
    trainer.student.network.stem.weight.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient * (float("inf") if trainer.step == 2 else 1.0)
    )

    def train() -> None:
        for _ in range(5):
            trainer.update()
        trainer.guard.raise_recorded()

    with pytest.raises(FloatingPointError, match="at step 3, N = 11"):
        train()


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[None]:
    """Connect this process to itself, by nccl on a GPU."""
    backend = "cpu:gloo,cuda:nccl" if ON_GPU else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_exchanged_in_buckets(channels_last: bool) -> None:
    # Rank 0 of two, of which the other one is missing: sums are those of this rank, and means half of them.
    groups = [ProcessGroup(0, 2, device) for device in (CPU, DEVICE)]
    chosen = config(precision="float64")
    cpu = Trainer(chosen, images(), groups[0])
    gpu = on_device(chosen, groups[1], channels_last=channels_last)
    for trainer in (cpu, gpu):
        trainer.share()
    assert [updated(gpu) for _ in range(4)] == pytest.approx([updated(cpu) for _ in range(4)], rel=1e-9)
    for a, b in zip(cpu.student.parameters(), gpu.student.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert b.grad.stride() == b.stride()
        torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-7, atol=1e-9)
    assert groups[1].any(True)
    assert groups[1].least(3) == 3


@pytest.mark.usefixtures("unchecked")
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    options = ["--config", "minimal", "--train.steps", "60", "--machine.device", DEVICE.type, "--machine.deterministic"]
    options += ["--profile", "none", "--processes", "1", "--record.save-every", "5", "--record.keep", "2", "--out"]
    for kills, name in ((0, "whole"), (3, "run")):
        command = [sys.executable, "-m", "tests.support.killing", str(kills), *options, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"killed {kills} times" in done.stdout
    whole, run = (checkpoint_file(tmp_path / name, 60).read_bytes() for name in ("whole", "run"))
    assert whole == run


def test_a_checkpoint_of_gpu_tensors_is_that_of_the_host_and_needs_no_memory_of_the_gpu(tmp_path: Path) -> None:
    trainer = on_device(config(), channels_last=True)
    for _ in range(3):
        trainer.update()
    checkpoint = trainer.checkpoint()
    expected = {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.tensors.items()}
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    with CheckpointWriter(tmp_path, keep=1) as writer:
        writer.save(checkpoint)
        for _ in range(0 if ON_GPU else 1):
            trainer.update()
    if ON_GPU:
        assert torch.cuda.max_memory_allocated() == held
    saved = newest(tmp_path)
    assert saved is not None
    assert same(saved, dataclasses.replace(checkpoint, tensors=expected))
    again = on_device(config())
    again.restore(load_checkpoint(checkpoint_file(tmp_path, 3)))
    assert same(again.checkpoint(), saved)


def test_samples_are_those_of_the_cpu() -> None:
    model = build_model(config(), event=(1, 8, 8), classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    labels = torch.arange(32) % 10
    here, there = (
        sampled.images(model.to(device), labels, [80.0, 0.8], count=32, event=(1, 8, 8), seed=0)
        for device in (CPU, DEVICE)
    )
    assert here.device == there.device == CPU
    assert len(here.unique()) > 20  # type: ignore[no-untyped-call]
    # Rounding moves a value across the border of two pixel values now and then.
    difference = (here.int() - there.int()).abs()
    assert int(difference.max()) <= 1
    assert float(difference.float().mean()) < 0.01


@contextlib.contextmanager
def compiler() -> Iterator[None]:
    """Compile from the start; on a CPU without generated code, which would take minutes."""
    torch._dynamo.reset()
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            quick = partialmethod(torch.nn.Module.compile, backend="aot_eager")
            patch.setattr(torch.nn.Module, "compile", quick)
        yield


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("precision", "recompute", "tolerance"),
    [("float32", False, 1e-4), ("float32", True, 1e-4), ("float16", False, 5e-3)],
)
def test_a_compiled_network_learns_what_an_eager_one_learns(precision: str, recompute: bool, tolerance: float) -> None:
    eager = on_device(config(precision=precision))
    with compiler():
        compiled = on_device(config(precision=precision), compile=True, recompute=recompute)
        losses = [updated(compiled) for _ in range(4)]
    assert losses == pytest.approx([updated(eager) for _ in range(4)], rel=tolerance)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_cuda_graphs_learn_what_an_eager_network_learns(accumulate: int) -> None:
    if not ON_GPU:
        pytest.skip("graphs are of CUDA's kernels")
    eager = on_device(config(), accumulate=accumulate)
    graphs = on_device(config(), accumulate=accumulate, compile=True, cuda_graphs=True)
    assert [updated(graphs) for _ in range(6)] == pytest.approx([updated(eager) for _ in range(6)], rel=1e-4)


@pytest.mark.parametrize("extractor", ["digits", "extractors:Convolutions"])
def test_scores_of_the_same_images_are_those_of_a_cpu(
    extractor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With TF32 the features of the convolutions would be off by about 1e-3 each.
    monkeypatch.chdir(tmp_path)
    code = "import torch\ntorch.manual_seed(0)\nConvolutions = torch.nn.Sequential(\n"
    code += "    torch.nn.Conv2d(1, 64, 3), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 3), torch.nn.Flatten(),\n"
    (tmp_path / "extractors.py").write_text(code + "    torch.nn.Linear(1024, 32),\n)\n")
    real, found = digits().held_out.pixels, []
    for device in (CPU, DEVICE):
        features = find_features(extractor, device)
        group = ProcessGroup(device=device)
        sets = [
            measure_together(in_memory("", some), features, group, channels=1, classify=True, what="")
            for some in (real[:300], real[300:])
        ]
        assert sets[0] is not None
        assert sets[1] is not None
        assert sets[0].mean.device == CPU
        assert ("device" in sets[0].about) == (device.type == "cuda")
        found.append(dataclasses.asdict(score(sets[0], sets[1], k=3)))
    for name in ("frechet_distance", "kernel_distance", "inception_score"):
        assert found[1][name] == (None if found[0][name] is None else pytest.approx(found[0][name], rel=1e-3))
    for name in ("precision", "recall"):
        assert found[1][name] == pytest.approx(found[0][name], abs=0.01)
