"""Tests of training on a GPU, skipped without one."""

import dataclasses

import pytest
import torch
from tests.support.runs import config, images, updated
from tests.support.sampled_noise import sample_noise

from ict_ref.config import Config, Machine
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.model import build_model
from ict_ref.training.discretization import Discretization
from ict_ref.training.loss import training_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_masks
from ict_ref.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def on_gpu(chosen: Config) -> Trainer:
    """Return a trainer on the GPU."""
    return Trainer(dataclasses.replace(chosen, machine=Machine(device="cuda")), images(), ProcessGroup(device=CUDA))


def test_masks_are_the_same_bits_on_both_devices() -> None:
    sites = build_model(config(), event=(1, 8, 8), classes=10).network.dropout_sites()
    here, there = (sample_masks(3, range(4), config(), sites, device) for device in (CPU, CUDA))
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
    model = model.to(CUDA)
    drawn = sample_noise(0, range(4), chosen, event=(1, 8, 8), sites=[])
    masks = sample_masks(0, range(4), chosen, model.network.dropout_sites(), CUDA)
    noise = SampledNoise(torch.zeros_like(drawn.index, device=CUDA), drawn.z.to(CUDA), masks)
    x, labels = torch.rand(16, 1, 8, 8, device=CUDA, dtype=torch.float64), torch.arange(16, device=CUDA) % 10
    one = torch.ones(1, dtype=torch.float64, device=CUDA)
    losses = []
    for gap in (1e-2, 1e-4, 1e-6):
        levels = Discretization(torch.tensor([1.0, 1.0 + gap], dtype=torch.float64, device=CUDA), one, one)
        losses.append(float(training_loss(model, x, labels, noise, levels, chosen.method).detach().max()))
    assert losses[1] < 1e-2 * losses[0]
    assert losses[2] < 1e-3 * losses[1]


def test_a_gpu_learns_what_a_cpu_learns() -> None:
    cpu, gpu = Trainer(config(precision="float64"), images()), on_gpu(config(precision="float64"))
    assert [updated(gpu) for _ in range(8)] == pytest.approx([updated(cpu) for _ in range(8)], rel=1e-9)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_the_host_does_not_wait_in_a_step() -> None:
    trainer = on_gpu(config(precision="bfloat16"))
    for _ in range(3):
        trainer.update()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.guard.raise_recorded()


def test_what_is_not_finite_stops_the_run_on_the_gpu_too() -> None:
    trainer = on_gpu(config())
    trainer.student.network.stem.weight.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient * (float("inf") if trainer.step == 2 else 1.0)
    )
    for _ in range(5):
        trainer.update()
    with pytest.raises(FloatingPointError, match="at step 3, N = 11"):
        trainer.guard.raise_recorded()
