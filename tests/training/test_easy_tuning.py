"""ECT's training. Oracle: the printed equations by exact fractions, and closed forms for a point and a normal law."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.one_line import rejection
from tests.support.runs import images, last, lines, same, short_run, unchecked
from torch import Tensor

from ict_ref import export_checkpoint
from ict_ref.checkpoint.diffusers_folder import files
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.training_state import checkpoint_file, load_checkpoint
from ict_ref.config import Config, Method, Tuning, minimal
from ict_ref.data.dataset import to_float
from ict_ref.experiments.analytic_datasets import NORMAL
from ict_ref.experiments.runs import answer, configuration, noisy, rms, trained
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.own import OwnNetwork
from ict_ref.plan.memory import memory
from ict_ref.training.discretization import discretization, milestones
from ict_ref.training.level_pairs import lower_sigmas, stage_of
from ict_ref.training.loss import training_loss
from ict_ref.training.own_loop import loss as own_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise, sample_sigmas
from ict_ref.training.trainer import Trainer

STAGES = Tuning(steps_per_stage=10)


def tuned(init: str = "", tuning: Tuning = STAGES, method: Method | None = None, **train: object) -> Config:
    """Return the minimal preset with ECT's objective, which starts from a file."""
    chosen = minimal()
    options = dataclasses.replace(chosen.train, init=init, **train)  # type: ignore[arg-type]
    return dataclasses.replace(chosen, method=method or Method(objective="ect"), tuning=tuning, train=options)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a network file of a denoiser that was trained for 30 updates."""
    folder = tmp_path_factory.mktemp("denoiser")
    run = short_run(folder / "run", "--method.objective", "denoising")
    file = folder / "denoiser.safetensors"
    assert export_checkpoint.main([str(run), "--out", str(file)]) == 0
    return str(file)


def exact_lower(t: float, a: int, q: float) -> float:
    """Return r of ECT's Eq. (18) by exact fractions, but for the exponential."""
    n = 1 + Fraction(8) / (1 + Fraction(math.exp(t)))
    return float(max(Fraction(0), Fraction(t) * (1 - n / Fraction(q) ** a)))


@pytest.mark.parametrize(
    ("step", "first", "stage"), [(0, 0, 0), (9, 0, 0), (10, 0, 1), (39, 0, 3), (0, 2, 2), (25, 2, 4)]
)
def test_stages_change_by_updates_and_their_levels_are_the_printed_ones(step: int, first: int, stage: int) -> None:
    """a = floor(step / d) + 1, from the first stage on"""
    config = tuned(tuning=Tuning(steps_per_stage=10, first_stage=first, q=3.0))
    assert stage_of(step, config) == stage
    t = torch.tensor([0.01, 0.5, 1.9, 2.5, 80.0], dtype=torch.float64)
    found = lower_sigmas(t, step, config)
    assert found is not None
    expected = [exact_lower(each, stage + 1, 3.0) for each in t.tolist()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=0)


def test_levels_have_ect_s_law_without_a_cut() -> None:
    """log t ~ N(-1.1, 2^2): 0.83 % of the levels are outside [0.002, 80]"""
    many = tuned(batch_size=40_000)
    sampled = sample_sigmas(0, range(4), many)
    assert sampled is not None
    log = sampled.log()
    assert float(log.mean()) == pytest.approx(-1.1, abs=0.03)
    assert float(log.std()) == pytest.approx(2.0, abs=0.03)
    outside = (sampled < 0.002) | (sampled > 80)
    assert float(outside.double().mean()) == pytest.approx(0.00834, abs=0.0015)


@pytest.mark.parametrize("weighting", ["inverse_gap", "snr", "uniform"])
@pytest.mark.parametrize("distance", ["l2", "pseudo_huber"])
def test_the_training_loss_is_the_printed_one(weighting: str, distance: str, denoiser: str) -> None:
    """w d(f(x + t z, t), f(x + r z, r)) with EDM's coefficients, the same masks, and x for r = 0"""
    method = Method(objective="ect", weighting=weighting, distance=distance)  # type: ignore[arg-type]
    config = tuned(denoiser, method=method, precision="float64")
    trainer = Trainer(config, images())
    step = 15
    microbatch = trainer.microbatches.get((step, range(4)), None)
    pixels, labels = images().batch(step, batch_size=16, seed=0, rows=slice(0, 16))
    x = to_float(pixels).double()
    _, z = sample_intervals_and_noise(step, range(4), config, event=(1, 8, 8))
    t = sample_sigmas(step, range(4), config)
    assert t is not None
    r = torch.tensor([exact_lower(each, 2, 2.0) for each in t.tolist()], dtype=torch.float64)
    assert 0 < int((r == 0).sum()) < 16  # both kinds of targets are tried

    def f(noisy: Tensor, sigma: Tensor) -> Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        root = (s**2 + 0.25).sqrt()
        free = trainer.student.network(noisy / root, sigma.log() / 4, labels, microbatch.noise.masks)
        value: Tensor = 0.25 / root**2 * noisy + s * 0.5 / root * free
        return value

    column = [level.reshape(-1, 1, 1, 1) for level in (t, r)]
    lower = torch.where(column[1] > 0, f(x + column[1] * z, torch.where(r > 0, r, 1.0)), x)
    square = (f(x + column[0] * z, t) - lower).square().sum((1, 2, 3))
    c = 0.00054 * 8
    d = square.sqrt() if distance == "l2" else (square + c**2).sqrt() - c
    w = {"inverse_gap": 1 / (t - r), "snr": 1 / t**2 + 4, "uniform": torch.ones(16)}[weighting]
    found = training_loss(
        trainer.student, microbatch.x, microbatch.labels, microbatch.noise, discretization(step, config), method
    )
    torch.testing.assert_close(found, w * d, rtol=1e-8, atol=1e-12)
    own = own_loss(trainer.student.network, pixels, step, config, labels=labels)
    torch.testing.assert_close(own, found, rtol=1e-12, atol=0)


def test_the_exact_function_of_a_point_has_loss_0_at_every_pair() -> None:
    """f(x, t) = 0 for data that are the point 0, whatever the levels"""
    config = tuned(method=Method(objective="ect", distance="l2"))
    t = sample_sigmas(25, range(4), config)
    index, z = sample_intervals_and_noise(25, range(4), config, event=(1, 2, 2))
    noise = SampledNoise(index, z, (), t, lower_sigmas(t, 25, config))

    def exact(x: Tensor, sigma: Tensor, labels: object = None, masks: object = None) -> Tensor:
        return 0 * x

    found = training_loss(exact, torch.zeros(16, 1, 2, 2), None, noise, discretization(25, config), config.method)
    assert found.abs().tolist() == [0] * 16


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_denoiser_of_normal_data_becomes_their_consistency_function() -> None:
    """A denoiser returns the mean at high levels; f* = m + s (x - m) / sqrt(s^2 + sigma^2) keeps the spread s"""
    method = Method(objective="denoising", p_mean=-1.2, p_std=1.2)
    first = configuration(method, steps=150, batch_size=128, learning_rate=1e-2, ema_decay=0.95)
    denoiser = trained(first, NORMAL, lambda: None).ema
    ect = Method(objective="ect", huber_c=0.3)
    second = dataclasses.replace(
        first, method=ect, tuning=Tuning(steps_per_stage=40), train=dataclasses.replace(first.train, steps=300)
    )
    trainer = Trainer(second, NORMAL, network=OwnNetwork(denoiser.network.requires_grad_(requires_grad=True)))
    for _ in range(300):
        trainer.update()
    x, level = noisy(NORMAL, 1.0)
    m, s = torch.tensor(NORMAL.means[0], dtype=torch.float64).reshape(2, 1, 1), NORMAL.stds[0]
    exact = m + s * (x - m) / math.sqrt(s**2 + 1)
    before, after = (rms(answer(f, x, level) - exact) for f in (denoiser, trainer.ema))
    assert before > 0.2
    assert after < 0.4 * before


def test_a_run_starts_from_a_denoiser_and_resumes_with_the_same_bits(
    denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "--config", "minimal", "--method.objective", "ect", "--method.distance", "l2", "--tuning.steps-per-stage", "4",
        "--train.init", denoiser, "--train.steps", "10", "--record.save-every", "5", "--record.keep", "3",
        "--record.milestone-stages", "--out", "run",
    ]  # fmt: skip
    with unchecked():
        assert launch(command) == 0
        whole = last(Path("run"))
        assert [line["stage"] for line in lines(Path("run"))] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
        assert checkpoint_file(Path("run"), 4).exists()
        for step in (8, 10):
            checkpoint_file(Path("run"), step).unlink()
        assert launch(command) == 0
    assert same(load_checkpoint(checkpoint_file(Path("run"), 10)), whole)
    assert Path("run/scores.json").exists()
    # As a model it has EDM's coefficients, in the run and in its file: at sigma_min it is not the identity.
    assert export_checkpoint.main(["run", "--out", "file"]) == 0
    models = [load_pretrained(Path(name)).model for name in ("run", "file")]
    x, labels = torch.ones(2, 1, 8, 8), torch.tensor([1, 2])
    of_run, of_file = (model(x, torch.full((2,), 0.002), labels) for model in models)
    assert torch.equal(of_run, of_file)
    free = models[0].network(x / math.sqrt(0.25 + 4e-6), torch.full((2,), math.log(0.002) / 4), labels)
    expected = 0.25 / (0.25 + 4e-6) * x + 0.002 * 0.5 / math.sqrt(0.25 + 4e-6) * free
    torch.testing.assert_close(of_run, expected, rtol=1e-6, atol=1e-7)
    assert load_exported(Path("file")).coefficients == "edm"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--train.init: expected a file of weights, from which --method.objective ect starts, got nothing. Train"),
        (["--tuning.first-stage", "-1"], "--tuning.first-stage: expected an integer >= 0, got -1"),
        (["--tuning.steps-per-stage", "0"], "--tuning.steps-per-stage: expected an integer >= 1, got 0"),
        (["--tuning.steps-per-stage", "1"], "--tuning.steps-per-stage: expected stages with q^a < 2^50, got a = 60 at"),
        (["--tuning.q", "1"], "--tuning.q: expected 1 < q < infinity"),
        (["--tuning.k", "-1"], "--tuning.k: expected 0 <= k < infinity"),
        (["--tuning.b", "0"], "--tuning.b: expected 0 < b < infinity"),
        (["--method.mu0", "0.9"], "--method.mu0: expected None where --method.objective is ect, got 0.9"),
        (
            ["--method.noise-schedule", "uniform"],
            "--method.noise-schedule: expected lognormal where --method.objective",
        ),
        (["--train.init", "FILE", "--network.time-scale", "1000"], "--network.time-scale: expected 1.0 as in the weig"),
        (["--train.init", "FILE", "--method.sigma-data", "1"], "--method.sigma-data: expected 0.5 as in the weights"),
    ],
)
def test_what_cannot_be_tuned_is_rejected_in_one_line_before_training(
    options: list[str], says: str, denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = [denoiser if option == "FILE" else option for option in options]
    command = ["--config", "minimal", "--train.steps", "60", "--method.objective", "ect", *given, "--out", "run"]
    assert launch(command) == 2
    assert says in rejection(capsys, "ict_ref.launch")
    assert not Path("run").exists()


def test_options_of_ect_alone_are_rejected_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"--method\.weighting: expected inverse_gap or uniform where --method\.obj"):
        Method(weighting="snr")
    with pytest.raises(ValueError, match=r"--method\.distance: expected a distance that is differentiable at 0"):
        Method(objective="continuous", distance="l2")
    config = minimal()
    trainer = Trainer(config, images())
    microbatch = trainer.microbatches.get((0, range(4)), None)
    with pytest.raises(ValueError, match="noise: expected noise levels, got None"):
        training_loss(
            trainer.student, microbatch.x, microbatch.labels, microbatch.noise, discretization(0, config),
            Method(objective="ect"),
        )  # fmt: skip


def test_its_memory_is_that_of_ict_and_its_stages_end_at_milestones() -> None:
    config = tuned()
    config = dataclasses.replace(config, record=dataclasses.replace(config.record, milestone_stages=True))
    predicted, usual = (memory(each, accumulate=1, recompute=False) for each in (config, minimal()))
    assert predicted.activations == pytest.approx(usual.activations, rel=0.05)
    assert sorted(milestones(config)) == [10, 20, 30, 40]


def test_diffusers_scheduler_does_not_have_its_coefficients(denoiser: str) -> None:
    given = dataclasses.replace(load_exported(Path(denoiser)), is_denoiser=False, coefficients="edm")
    with pytest.raises(ValueError, match="--format diffusers: expected CM's coefficients"):
        files(given, "digits")
