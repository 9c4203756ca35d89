"""TCM's training.

Oracle: the printed equations in plain loops, SciPy's t distribution, counts by hand, and closed forms for a point and
for a normal law.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from tests.support.one_line import rejection
from tests.support.own import Plain
from tests.support.runs import images, last, lines, same, unchecked
from torch import Tensor

from ict_ref.checkpoint.network_file import export
from ict_ref.checkpoint.training_state import checkpoint_file, load_checkpoint
from ict_ref.config import Acceptance, Config, Method, Sample, Tuning, minimal
from ict_ref.experiments.analytic_datasets import NORMAL
from ict_ref.experiments.runs import answer, configuration, noisy, rms, trained
from ict_ref.formulas import truncated
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.own import OwnNetwork
from ict_ref.plan.memory import memory
from ict_ref.training.discretization import discretization
from ict_ref.training.level_pairs import lower_sigmas
from ict_ref.training.loss import training_loss
from ict_ref.training.own_loop import loss as own_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise, sample_sigmas
from ict_ref.training.trainer import Trainer


def tcm(tuning: Tuning | None = None, **train: object) -> Config:
    """Return the minimal preset with TCM's objective: four noise shards of four images, of which one is at the cut."""
    chosen = minimal()
    return dataclasses.replace(
        chosen,
        data=dataclasses.replace(chosen.data, labels=False),
        acceptance=Acceptance(),
        method=Method(objective="tcm"),
        tuning=tuning or Tuning(first_stage=3, steps_per_stage=10),
        train=dataclasses.replace(chosen.train, **train),  # type: ignore[arg-type]
        sample=Sample(two_step_sigma=1.0),
    )


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Return a network file of the minimal preset, with random weights in all places."""
    state = Trainer(minimal(), images()).student.network.state_dict()
    generator = torch.Generator().manual_seed(0)
    noisy = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    path = tmp_path / "weights.safetensors"
    export(NetworkCheckpoint(options=minimal().network, channels=1, size=8, classes=10, state=noisy), path)
    return str(path)


def test_a_quarter_of_each_shard_is_at_the_cut_and_the_rest_has_student_s_law_above_it() -> None:
    """log sigma / 0.2 is t of 0.01 degrees of freedom, between 1 and 80"""
    config = tcm(batch_size=8000)
    sampled = sample_sigmas(2, range(4), config)
    assert sampled is not None
    shards = sampled.reshape(4, 2000)
    assert bool((shards[:, :500] == 1).all())
    inside = shards[:, 500:].flatten().numpy()
    assert float(inside.min()) > 1
    law = scipy.stats.t(0.01, scale=0.2)
    low, high = law.cdf([0.0, math.log(80.0)])
    assert scipy.stats.kstest(np.log(inside), lambda y: (law.cdf(y) - low) / (high - low)).pvalue > 0.01
    part = sample_sigmas(2, range(1, 3), config)
    assert part is not None
    assert torch.equal(part, shards[1:3].flatten())


def test_a_level_that_rounds_to_the_cut_is_above_it() -> None:
    """With 1e-300 degrees of freedom almost all levels are 1 in float64; they are not of the boundary"""
    sampled = sample_sigmas(0, range(4), tcm(Tuning(t_dof=1e-300)))
    assert sampled is not None
    inside = sampled.reshape(4, 4)[:, 1:]
    assert float(inside.min()) == 1 + 2**-52
    assert int((sampled == 1).sum()) == 4


def test_the_first_stage_s_levels_are_cut_off_at_both_ends() -> None:
    config = tcm(batch_size=8000)
    first = dataclasses.replace(config, method=Method(objective="ect"), tuning=Tuning(within_range=True))
    sampled = sample_sigmas(0, range(4), first)
    assert sampled is not None
    law = scipy.stats.norm(-1.1, 2.0)
    low, high = law.cdf(np.log([0.002, 80.0]))
    fitted = scipy.stats.kstest(sampled.log().numpy(), lambda y: ((law.cdf(y) - low) / (high - low)).clip(0, 1))
    assert fitted.pvalue > 0.01
    assert float(sampled.min()) > 0.002
    assert float(sampled.max()) < 80


def test_the_ratio_of_levels_has_its_bound() -> None:
    """At the cut and the bound 0.999 the gap is n(1) / 1000 = 0.0031515314, in all stages with 2^a > 1000"""
    t = torch.ones(1, dtype=torch.float64)
    for first, gap in ((9, 0.0031515314), (30, 0.0031515314), (8, 3.1515314 / 512)):
        tuning = Tuning(first_stage=first, largest_ratio=0.999)
        r = lower_sigmas(t, 0, tcm(tuning))
        assert r is not None
        assert 1 - float(r) == pytest.approx(gap, rel=1e-7)


def test_the_mean_of_the_losses_is_the_sum_of_both_means() -> None:
    """L_C + w_b L_B; the target is f0 below the cut and f from it on, and f0 has no gradient"""
    config = tcm(Tuning(first_stage=1, boundary_weight=0.3), precision="float64")
    trainer = Trainer(config, images(), network=OwnNetwork(Plain()))
    with torch.no_grad():
        for parameter in trainer.student.parameters():
            parameter.mul_(1.5)  # another function than f0
    assert trainer.teacher is not None
    f0 = trainer.teacher
    microbatch = trainer.microbatches.get((3, range(4)), None)
    x, noise = microbatch.x, microbatch.noise
    assert noise.sigma is not None
    assert noise.sigma_low is not None
    c, below = 0.00054 * 8, 0
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for each, z, t, r in zip(x, noise.z, noise.sigma, noise.sigma_low, strict=True):
        value = trainer.student((each + t * z)[None], t[None])
        below += float(r) < 1
        target = (f0 if float(r) < 1 else trainer.student)((each + r * z)[None], r[None])
        distance = ((value - target.detach()).square().sum() + c**2).sqrt() - c
        parts[float(t) == 1].append(distance / (t - r))
    assert 4 <= below < 16
    found = training_loss(
        trainer.student, x, None, noise, discretization(3, config), config.method, teacher=f0, tuning=config.tuning
    )
    expected = torch.stack(parts[False]).mean() + 0.3 * torch.stack(parts[True]).mean()
    assert len(parts[True]) == 4
    torch.testing.assert_close(found.mean(), expected, rtol=1e-8, atol=0)
    other = own_loss(trainer.student.network, x, 3, config, teacher=f0.network)
    torch.testing.assert_close(other, found, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found.mean(), [next(trainer.student.parameters())])
    (wanted,) = torch.autograd.grad(expected, [next(trainer.student.parameters())])
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-10)
    with pytest.raises(ValueError, match="teacher: expected the frozen network, got nothing"):
        own_loss(trainer.student.network, x, 3, config)


class Constant:
    """The function f(x, sigma) = value."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, x: Tensor, sigma: Tensor, labels: object = None, masks: object = None) -> Tensor:
        """Return the value in the shape of x."""
        return torch.full_like(x, self.value)


def test_the_exact_functions_of_a_point_have_loss_0_and_a_collapsed_one_has_a_boundary_loss() -> None:
    """For data that are the point 0, f = f0 = 0; f = 1 above the cut costs 2/(t - r) at pairs across it alone"""
    config = dataclasses.replace(
        tcm(Tuning(first_stage=4), batch_size=64), method=Method(objective="tcm", distance="l2")
    )
    index, z = sample_intervals_and_noise(3, range(4), config, event=(1, 2, 2))
    t = sample_sigmas(3, range(4), config)
    r = lower_sigmas(t, 3, config)
    assert t is not None
    assert r is not None
    x, noise = torch.zeros(64, 1, 2, 2), SampledNoise(index, z, (), t, r)

    def loss(f: float, f0: float) -> Tensor:
        return training_loss(
            Constant(f), x, None, noise, discretization(3, config), config.method, teacher=Constant(f0),
            tuning=config.tuning,
        )  # fmt: skip

    assert loss(0, 0).abs().tolist() == [0] * 64
    across = [below < 1 <= above for below, above in zip(r.tolist(), t.tolist(), strict=True)]
    assert 16 < sum(across) < 64
    at_cut = [above == 1 for above in t.tolist()]
    factors = [0.1 * 64 / 16 if boundary else 64 / 48 for boundary in at_cut]
    gaps = (t - r).tolist()
    # ||(1, 1, 1, 1)|| is 2.
    expected = [2 * w / gap if jumps else 0 for jumps, w, gap in zip(across, factors, gaps, strict=True)]
    np.testing.assert_allclose(loss(1, 0).numpy(), expected, rtol=1e-6)
    assert loss(1, 1).abs().tolist() == [0] * 64


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_levels_above_the_cut_become_the_consistency_function_of_normal_data() -> None:
    """f* = m + s (x - m) / sqrt(s^2 + sigma^2), which a first stage of lower levels knows below the cut alone"""
    denoising = Method(objective="denoising", p_mean=-1.2, p_std=1.2)
    base = configuration(denoising, steps=150, batch_size=128, learning_rate=1e-2, ema_decay=0.95)
    model = trained(base, NORMAL, lambda: None).ema
    first = dataclasses.replace(
        base,
        method=Method(objective="ect", huber_c=0.3, p_mean=-1.5, p_std=1.0),
        tuning=Tuning(steps_per_stage=25),
        train=dataclasses.replace(base.train, steps=200),
    )
    second = dataclasses.replace(
        base,
        method=Method(objective="tcm", huber_c=0.3),
        tuning=Tuning(steps_per_stage=50, first_stage=3, largest_ratio=0.99),
        train=dataclasses.replace(base.train, steps=300),
        sample=Sample(two_step_sigma=1.0),
    )
    for config in (first, second):
        trainer = Trainer(config, NORMAL, network=OwnNetwork(model.network.requires_grad_(requires_grad=True)))
        for _ in range(config.train.steps):
            trainer.update()
        before, model = model, trainer.ema
    f0 = trainer.teacher
    assert f0 is not None
    m, s = torch.tensor(NORMAL.means[0], dtype=torch.float64).reshape(2, 1, 1), NORMAL.stds[0]

    def error(f: Callable[[Tensor, Tensor], Tensor], sigma: float) -> float:
        x, level = noisy(NORMAL, sigma)
        return rms(answer(f, x, level) - m - s * (x - m) / math.sqrt(s**2 + sigma**2))

    def both(x: Tensor, sigma: Tensor) -> Tensor:
        return truncated(model, f0, x, sigma, sigma_cut=1.0)

    for sigma in (0.2, 0.5):  # f0 is kept
        assert error(both, sigma) == error(before, sigma) < 0.1
    for sigma in (5.0, 20.0, 80.0):
        assert error(before, sigma) > 0.3
        assert error(both, sigma) == error(model, sigma) < 0.5 * error(before, sigma)


def test_the_function_below_the_cut_stays_as_given() -> None:
    trainer = Trainer(tcm(), images(), network=OwnNetwork(Plain()))
    before = {name: value.clone() for name, value in trainer.checkpoint().tensors.items()}
    trainer.update()
    after = trainer.checkpoint().tensors
    kept = [name for name in before if name.startswith("teacher/")]
    assert kept
    for name in kept:
        assert torch.equal(after[name], before[name])
        assert not torch.equal(after[name.replace("teacher/", "student/")], before[name])


def test_a_run_resumes_with_the_same_bits_and_without_the_file(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "--config", "minimal", "--method.objective", "tcm", "--tuning.first-stage", "6", "--sample.two-step-sigma", "2",
        "--tuning.steps-per-stage", "3", "--train.init", weights, "--train.steps", "8", "--record.save-every", "4",
        "--out", "run",
    ]  # fmt: skip
    with unchecked():
        assert launch(command) == 0
        whole = last(Path("run"))
        assert [line["stage"] for line in lines(Path("run"))] == [6, 6, 6, 7, 7, 7, 8, 8]
        checkpoint_file(Path("run"), 8).unlink()
        Path(weights).unlink()
        assert launch(command) == 0
    assert same(load_checkpoint(checkpoint_file(Path("run"), 8)), whole)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--train.init: expected a file of weights, from which --method.objective tcm starts, got nothing. Train"),
        (["--tuning.sigma-cut", "80"], "--tuning.sigma-cut: expected 0.002 < cut < 80.0 (--method.sigma-max), got 80"),
        (["--tuning.sigma-cut", "0.001"], "--tuning.sigma-cut: expected 0.002 < cut < 80.0 (--method.sigma-max), got"),
        (["--tuning.sigma-cut", "0"], "--tuning.sigma-cut: expected 0 < sigma_cut < infinity, got 0"),
        (["--sample.two-step-sigma", "0.9"], "--sample.two-step-sigma: expected sigma >= 1.0 (--tuning.sigma-cut)"),
        (["--train.noise-shards", "8"], "--tuning.boundary-share: expected noise shards of 4 images or more, got sh"),
        (["--tuning.boundary-share", "1"], "--tuning.boundary-share: expected 0 < share < 1, got 1"),
        (["--tuning.boundary-weight", "0"], "--tuning.boundary-weight: expected 0 < boundary_weight < infinity"),
        (["--tuning.largest-ratio", "1.5"], "--tuning.largest-ratio: expected 0 < ratio < 1, or 1, got 1.5"),
        (["--tuning.t-dof", "0"], "--tuning.t-dof: expected 0 < t_dof < infinity"),
        (
            ["--tuning.sigma-cut", "79.99999999999999", "--sample.two-step-sigma", "79.99999999999999"],
            "--tuning.t-scale: expected a law that reaches levels from 79.99999999999999 to 80.0, got 0.2 with --tuni",
        ),
    ],
)
def test_what_cannot_be_truncated_is_rejected_in_one_line(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start = ["--config", "minimal", "--method.objective", "tcm", "--sample.two-step-sigma", "1"]
    assert launch([*start, *options, "--out", "run"]) == 2
    assert says in rejection(capsys, "ict_ref.launch")


def test_its_memory_has_the_frozen_function() -> None:
    frozen = memory(tcm(), accumulate=1, recompute=False)
    without = memory(dataclasses.replace(tcm(), method=Method(objective="ect")), accumulate=1, recompute=False)
    assert (frozen.teacher, without.teacher) == (without.parameters, 0)
