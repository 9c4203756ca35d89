"""sCM's training. Oracle: differences of f along the path, printed equations, and data whose function is known."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.support import own
from tests.support.networks import filled
from tests.support.one_line import rejection
from tests.support.runs import images, last, lines, same, unchecked
from torch import Tensor, nn

from ict_ref import export_checkpoint
from ict_ref.checkpoint.diffusers_folder import files
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import export, load_exported
from ict_ref.checkpoint.openai_file import content
from ict_ref.checkpoint.training_state import checkpoint_file, load_checkpoint
from ict_ref.config import Config, Machine, Method, Scm, minimal
from ict_ref.experiments.analytic_datasets import NORMAL, POINT, Mixture
from ict_ref.experiments.runs import answer, configuration, noisy, rms, trained
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.model import TrigFlowModel, build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.own import OwnNetwork
from ict_ref.networks.weighting import WeightingNetwork
from ict_ref.plan.memory import memory, state_sizes
from ict_ref.training.discretization import discretization
from ict_ref.training.distillation import load_score, trigflow_drift
from ict_ref.training.loss import training_loss
from ict_ref.training.microbatches import Microbatch
from ict_ref.training.own_loop import loss as own_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_sigmas
from ict_ref.training.trainer import Trainer

SCM = Method(objective="scm", p_mean=-1.0, p_std=1.4)
DENOISER = Method(objective="denoising", trigflow=True, p_mean=-1.2, p_std=1.2)


def scm(init: str = "", options: Scm | None = None, machine: Machine | None = None, **train: object) -> Config:
    """Return the minimal preset with sCM's objective, which starts from a file."""
    chosen = minimal()
    options_of_train = dataclasses.replace(chosen.train, init=init, **train)  # type: ignore[arg-type]
    return dataclasses.replace(
        chosen,
        method=SCM,
        scm=options or Scm(warmup_steps=40),
        train=options_of_train,
        machine=machine or chosen.machine,
    )


def denoiser_file(file: Path, method: Method) -> str:
    """Write the weights of a denoiser, which are random in every map, and return the name of the file."""
    config = dataclasses.replace(minimal(), method=method)
    state = filled(build_model(config, event=(1, 8, 8), classes=10)).network.state_dict()
    described = NetworkCheckpoint(
        options=config.network, channels=1, size=8, classes=10, state=state, is_denoiser=True,
        coefficients=method.coefficients,
    )  # fmt: skip
    export(described, file)
    return str(file)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a network file of a denoiser in TrigFlow's variables."""
    return denoiser_file(tmp_path_factory.mktemp("angle") / "denoiser.safetensors", DENOISER)


@pytest.fixture(scope="module")
def log_denoiser(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a network file of a denoiser whose network gets log(sigma) / 4."""
    method = Method(objective="denoising")
    return denoiser_file(tmp_path_factory.mktemp("log") / "denoiser.safetensors", method)


def loud(trainer: Trainer) -> TrigFlowModel:
    """Return the trainer's model, all its parameters random."""
    generator = torch.Generator().manual_seed(3)
    model = trainer.student
    assert isinstance(model, TrigFlowModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def column(values: Tensor) -> Tensor:
    """Return one value per example as a column that multiplies images."""
    return values.reshape(-1, 1, 1, 1)


def differences(model: TrigFlowModel, microbatch: Microbatch, h: float, r: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return t, f with a gradient, and the normalised tangent, by central differences of f along the path."""
    sigma = microbatch.noise.sigma
    assert sigma is not None
    x, z, t = microbatch.x, microbatch.noise.z, (sigma / 0.5).atan()

    def f(time: Tensor) -> Tensor:
        level = 0.5 * time.tan()
        value: Tensor = model(x + column(level) * z, level, microbatch.labels, microbatch.noise.masks)
        return value

    with torch.no_grad():
        rate = (f(t + h) - f(t - h)) / (2 * h)
    value, cos, sin = f(t), column(t.cos()), column(t.sin())
    # sigma_data F - v is -(f - x) / sin(t): at r = 0 the tangent is that of diffusion training.
    diffusion = cos**2 * (value.detach() - x) / sin
    g = r * cos * rate + (1 - r) * diffusion
    return t, value, g / (column(g.square().sum((1, 2, 3)).sqrt()) + 0.1)


def printed_loss(model: TrigFlowModel, microbatch: Microbatch, h: float, r: float) -> tuple[Tensor, Tensor]:
    """Return the loss e^w / D ||N||^2 - w, and another function with the same gradient in the network F."""
    t, value, normalised = differences(model, microbatch, h, r)
    net = model.weighting
    assert isinstance(net, WeightingNetwork)
    features = math.sqrt(2) * torch.cos(2 * math.pi * (t[:, None] * net.frequencies + net.phases))
    w = (features * net.linear.weight[0]).sum(1)
    loss = w.exp() / 64 * normalised.square().sum((1, 2, 3)) - w
    # F is (cos(t) x_t - f) / (sigma_data sin(t)).
    linear = 2 * w.detach().exp() / 64 * (normalised * value / (0.5 * column(t.sin()))).sum((1, 2, 3))
    return loss, loss + linear


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("step", [0, 15, 40])
def test_a_step_is_the_printed_one_with_differences_of_f_for_the_tangent(step: int, denoiser: str) -> None:
    """r = 0, 0.375 and 1; loss and gradient, of the network and of w; error O(h^2)"""
    trainer = Trainer(scm(denoiser, precision="float64", steps=80), images())
    model = loud(trainer)
    microbatch = trainer.microbatches.get((step, range(4)), None)
    config = trainer.config
    found = training_loss(
        model, microbatch.x, microbatch.labels, microbatch.noise, discretization(step, config), config.method,
        scm=config.scm, step=step,
    )  # fmt: skip
    r = step / 40
    expected, surrogate = printed_loss(model, microbatch, 1e-5, r)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    parameters = [*model.parameters()]
    gradients = torch.autograd.grad(found.sum(), parameters, retain_graph=True)
    wanted = torch.autograd.grad(surrogate.sum(), parameters)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6 * float(other.abs().max()) + 1e-8)
    if r > 0:
        errors = [float((printed_loss(model, microbatch, h, r)[0] - found).detach().abs().max()) for h in (4e-4, 2e-4)]
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    pixels, labels = images().batch(step, batch_size=16, seed=0, rows=slice(0, 16))
    mine = own_loss(model.network, pixels, step, config, labels=labels, log_weight=model.weighting)
    torch.testing.assert_close(mine, found, rtol=1e-12, atol=0)


def test_times_have_the_printed_law() -> None:
    """log(sigma_data tan t) ~ N(-1, 1.4^2), without a cut"""
    sampled = sample_sigmas(0, range(4), scm(batch_size=40_000))
    assert sampled is not None
    log = sampled.log()
    assert float(log.mean()) == pytest.approx(-1.0, abs=0.03)
    assert float(log.std()) == pytest.approx(1.4, abs=0.02)


class Exact(nn.Module):
    """F of the consistency function of normal data, f = m + s (x_t - m cos t) / sqrt(s^2 cos^2 t + sin^2 t / 4)."""

    def __init__(self, data: Mixture, error: float = 0.0) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(data.means[0], dtype=torch.float64).reshape(-1, 1, 1), data.stds[0]
        self.error = nn.Parameter(torch.tensor(error).double())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        cos, sin = column(t.cos()), column(t.sin())
        x_t = 0.5 * x
        spread = (self.std**2 * cos**2 + 0.25 * sin**2).sqrt()
        f = self.mean + self.std * (x_t - self.mean * cos) / spread
        return (cos * x_t - f) / (0.5 * sin) + self.error * sin


def loss_of(network: nn.Module, data: Mixture, step: int, *, distils: bool) -> Tensor:
    """Return the losses of 64 examples with w = 0."""
    model = TrigFlowModel(OwnNetwork(network), sigma_data=0.5)
    config = scm(batch_size=64)
    generator = torch.Generator().manual_seed(1)
    x, _ = data.batch(step, batch_size=64, seed=0, rows=slice(0, 64))
    z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    noise = SampledNoise(torch.zeros(64, dtype=torch.int64), z, (), sample_sigmas(step, range(4), config))

    def score(noisy: Tensor, sigma: Tensor, _: Tensor | None) -> Tensor:
        return data.score(noisy, sigma)

    return training_loss(
        model, x, None, noise, discretization(0, config), SCM, scm=config.scm, step=step,
        score=score if distils else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "distils", "step"),
    [(POINT, False, 0), (POINT, False, 10), (POINT, False, 40), (POINT, True, 10), (NORMAL, True, 40)],
)
def test_the_exact_function_has_no_tangent(data: Mixture, distils: bool, step: int) -> None:
    """The tangent is 0 for a point with each pair (x, z) and each r, and for normal data along their flow at r = 1."""
    found = loss_of(Exact(data), data, step, distils=distils)
    assert float(found.detach().abs().max()) < 1e-18
    assert float(loss_of(Exact(data, error=0.01), data, step, distils=distils).detach().mean()) > 1e-8


def test_the_velocity_of_distillation_is_the_mean_of_that_of_training() -> None:
    """dx_t/dt of the flow: for N(m, s^2 I) it is linear in x_t; at t = 1 by the printed coefficients"""
    x_t, t = torch.tensor([[0.3, -0.2], [1.0, 0.7]]).double().reshape(2, 2, 1, 1), torch.tensor([1.0, 0.4]).double()
    found = trigflow_drift(NORMAL.score, x_t, t)
    m, cos, sin = torch.tensor(NORMAL.means[0], dtype=torch.float64).reshape(2, 1, 1), column(t.cos()), column(t.sin())
    # The ends of the flow, x_0 = m + s u and z = sigma_data u, give x_t = m cos(t) + u sqrt(s^2 cos^2 + 0.25 sin^2).
    variance = 0.09 * cos**2 + 0.25 * sin**2
    expected = -m * sin + (x_t - m * cos) / variance * (0.25 - 0.09) * sin * cos
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_denoiser_in_trigflow_s_variables_is_trained_by_its_diffusion_loss(denoiser: str) -> None:
    """EDM's loss of f is ||F - v / sigma_data||^2 (sCM, Eq. (4))"""
    config = dataclasses.replace(scm(denoiser, precision="float64"), method=DENOISER)
    trainer = Trainer(config, images())
    model, microbatch = loud(trainer), trainer.microbatches.get((0, range(4)), None)
    sigma, x, z = microbatch.noise.sigma, microbatch.x, microbatch.noise.z
    assert sigma is not None
    t = (2 * sigma).atan()
    cos, sin = column(t.cos()), column(t.sin())
    x_t, v = cos * x + sin * 0.5 * z, cos * 0.5 * z - sin * x
    free = model.network(x_t / 0.5, t, microbatch.labels, microbatch.noise.masks)
    found = training_loss(
        model, x, microbatch.labels, microbatch.noise, discretization(0, config), config.method
    )  # fmt: skip
    torch.testing.assert_close(found, (free - v / 0.5).square().sum((1, 2, 3)), rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_denoiser_of_normal_data_becomes_their_consistency_function() -> None:
    """A denoiser returns the mean at high levels; f* = m + s (x - m) / sqrt(s^2 + sigma^2) keeps the spread s"""
    first = configuration(DENOISER, steps=150, batch_size=128, learning_rate=1e-2, ema_decay=0.95)
    before = trained(first, NORMAL, lambda: None).ema
    second = dataclasses.replace(
        first, method=SCM, scm=Scm(warmup_steps=100), train=dataclasses.replace(first.train, steps=400)
    )
    trainer = Trainer(second, NORMAL, network=OwnNetwork(before.network.requires_grad_(requires_grad=True)))
    for _ in range(400):
        trainer.update()
    x, level = noisy(NORMAL, 1.0)
    m, s = torch.tensor(NORMAL.means[0], dtype=torch.float64).reshape(2, 1, 1), NORMAL.stds[0]
    exact = m + s * (x - m) / math.sqrt(s**2 + 1)
    errors = [rms(answer(f, x, level) - exact) for f in (before, trainer.ema)]
    assert errors[0] > 0.2
    assert errors[1] < 0.4 * errors[0]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_digits_are_sampled_in_one_step_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 updates after 250 of a denoiser gave 3.20 and 0.835; iCT's distance after 200 updates is 4.38"""
    monkeypatch.chdir(tmp_path)
    common = ["--config", "digits", "--train.ema-decay", "0.97", "--acceptance.accuracy", "None"]
    common += ["--acceptance.frechet-distance", "None", "--acceptance.recall", "None", "--record.save-every", "999"]
    law = ["--method.p-mean", "-1.2", "--method.p-std", "1.2", "--train.steps", "250", "--out", "denoiser"]
    assert launch([*common, "--method.objective", "denoising", "--method.trigflow", *law]) == 0
    # A checkpoint is a file of weights too; its parameterization is that of the run.
    weights = ["--train.init", str(checkpoint_file(Path("denoiser"), 250)), "--scm.warmup-steps", "40"]
    law = ["--method.p-mean", "-1.0", "--method.p-std", "1.4", "--train.steps", "150", "--out", "scm"]
    assert launch([*common, "--method.objective", "scm", *weights, *law]) == 0
    one_step = json.loads(Path("scm/scores.json").read_text())["scores"][0]
    assert one_step["name"] == "one step"
    assert one_step["frechet_distance"] < 4
    assert one_step["accuracy"] > 0.75


def test_the_weighting_network_begins_at_0_and_is_trained_with_the_model(denoiser: str) -> None:
    trainer = Trainer(scm(denoiser), images())
    model = trainer.student
    assert isinstance(model, TrigFlowModel)
    assert isinstance(model.weighting, WeightingNetwork)
    t = torch.tensor([0.1, 0.7, 1.5])
    assert model.log_weight(t).tolist() == [0, 0, 0]
    trainer.update()
    assert float(model.log_weight(t).detach().abs().min()) > 0
    names = [name for name in trainer.checkpoint().tensors if "weighting" in name]
    assert "student/weighting.linear.weight" in names
    assert "optimizer/exp_avg/weighting.linear.weight" in names
    without = Trainer(scm(denoiser, Scm(adaptive_weighting=False)), images())
    without.update()
    assert without.student.log_weight(t).tolist() == [0, 0, 0]  # type: ignore[operator]
    assert not [name for name in without.checkpoint().tensors if "weighting" in name]


@pytest.mark.usefixtures("unchecked")
def test_the_trainer_s_updates_follow_the_warm_up(denoiser: str) -> None:
    """Second route: the loss of a loop of one's own at each step, whose r is that of the step"""
    trainer = Trainer(scm(denoiser, Scm(warmup_steps=2)), images())
    model = trainer.student
    assert isinstance(model, TrigFlowModel)
    for step in range(3):
        pixels, labels = images().batch(step, batch_size=16, seed=0, rows=slice(0, 16))
        mine = own_loss(model.network, pixels, step, trainer.config, labels=labels, log_weight=model.weighting)
        trainer.update()
        torch.testing.assert_close(trainer.loss, mine.detach().mean(), rtol=1e-5, atol=0)


def test_the_optimizer_has_the_second_beta_of_the_options(denoiser: str) -> None:
    assert Trainer(scm(denoiser, beta2=0.99), images()).optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert Trainer(minimal(), images()).optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def steps_of(config: Config, count: int) -> Trainer:
    trainer = Trainer(config, images())
    for _ in range(count):
        trainer.update()
    return trainer


@pytest.mark.usefixtures("unchecked")
def test_microbatches_and_recomputation_are_as_for_other_objectives(denoiser: str) -> None:
    whole = steps_of(scm(denoiser, precision="float64"), 4)
    parts = steps_of(scm(denoiser, precision="float64", machine=Machine(accumulate=4)), 4)
    for name, value in whole.checkpoint().tensors.items():
        torch.testing.assert_close(parts.checkpoint().tensors[name], value, rtol=0, atol=1e-12, msg=name)
    again = steps_of(scm(denoiser, precision="float64", machine=Machine(recompute=True)), 4)
    assert same(again.checkpoint(), whole.checkpoint())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_step_in_16_bits_is_about_that_in_32(precision: str, denoiser: str) -> None:
    low, full = (steps_of(scm(denoiser, precision=each), 1) for each in (precision, "float32"))
    assert float(low.loss) == pytest.approx(float(full.loss), rel=0.02)
    assert float(low.norm) == pytest.approx(float(full.norm), rel=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_compiled_network_has_the_same_tangent(denoiser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled(self, backend="aot_eager"))
    eager, fast = (
        steps_of(scm(denoiser, precision="float64", machine=Machine(compile=which)), 2) for which in (False, True)
    )
    assert float(fast.loss) == pytest.approx(float(eager.loss), rel=1e-10)
    assert float(fast.norm) == pytest.approx(float(eager.norm), rel=1e-10)


COMMAND = ["--config", "minimal", "--method.objective", "scm", "--scm.warmup-steps", "6", "--train.steps", "10"]


def test_a_run_resumes_with_the_same_bits_and_is_sampled_as_every_model(
    denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [*COMMAND, "--train.init", denoiser, "--record.save-every", "5", "--out", "run"]
    with unchecked():
        assert launch(command) == 0
        whole = last(Path("run"))
        assert [line["step"] for line in lines(Path("run"))] == [*range(1, 11)]
        checkpoint_file(Path("run"), 10).unlink()
        assert launch(command) == 0
    assert same(load_checkpoint(checkpoint_file(Path("run"), 10)), whole)
    assert Path("run/scores.json").exists()
    # As a model it has TrigFlow's coefficients, in the run and in its file; the weighting network stays behind.
    assert export_checkpoint.main(["run", "--out", "file"]) == 0
    assert load_exported(Path("file")).coefficients == "trigflow"
    models = [load_pretrained(Path(name)).model for name in ("run", "file")]
    x, labels, sigma = torch.ones(2, 1, 8, 8), torch.tensor([1, 2]), torch.tensor([0.002, 80.0])
    of_run, of_file = (model(x, sigma, labels) for model in models)
    assert torch.equal(of_run, of_file)
    t = (sigma.double() / 0.5).atan()
    cos, sin = column(t.cos()), column(t.sin())
    free = models[0].network((cos * x / 0.5).float(), t.float(), labels)
    torch.testing.assert_close(of_run, (cos**2 * x - sin * 0.5 * free).float(), rtol=1e-5, atol=1e-6)
    # At level 0 the model returns its input.
    torch.testing.assert_close(models[0](x, torch.full((2,), 1e-30), labels), x, rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_resume_with_the_same_bits(
    denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--train.init", denoiser, "--train.precision", "float64", "--record.save-every", "5"]

    def run(folder: str, processes: int) -> dict[str, Tensor]:
        command = [sys.executable, "-m", "ict_ref.launch", *COMMAND, *options, "--out", folder]
        done = subprocess.run(
            [*command, "--processes", str(processes)], capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        return dict(last(Path(folder)).tensors)

    one, two = run("one", 1), run("two", 2)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-12, msg=name)
    checkpoint_file(Path("two"), 10).unlink()
    again = run("two", 2)
    assert all(torch.equal(again[name], value) for name, value in two.items())


def test_it_distils_a_denoiser_of_either_kind(denoiser: str, log_denoiser: str, tmp_path: Path) -> None:
    for file in (denoiser, log_denoiser):
        method = dataclasses.replace(SCM, denoiser=file)
        score = load_score(method, (1, 8, 8), labels=True, dtype=torch.float32, device=torch.device("cpu"))
        x, sigma, labels = torch.ones(2, 1, 8, 8), torch.tensor([0.5, 2.0]), torch.tensor([1, 2])
        # EDM's coefficients in both cases; the two networks differ in their sign and in what they get for a level.
        network = load_exported(Path(file)).model().network
        root = (sigma**2 + 0.25).sqrt()
        level, sign = ((2 * sigma).atan(), -1) if file == denoiser else (sigma.log() / 4, 1)
        free = sign * network(x / column(root), level, labels)
        clean = 0.25 / column(root) ** 2 * x + column(sigma * 0.5 / root) * free
        torch.testing.assert_close(
            score(x, sigma, labels), (clean - x) / column(sigma) ** 2, rtol=1e-4, atol=1e-5
        )  # fmt: skip
        trainer = Trainer(dataclasses.replace(scm(denoiser), method=method), images())
        trainer.update()
        assert bool(trainer.loss.isfinite())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            [],
            "--train.init: expected a file of weights, from which --method.objective scm starts, got nothing. Train a",
        ),
        (
            ["--train.init", "LOG"],
            "--train.init: expected weights of a network that gets TrigFlow's angle t, got LOG, w",
        ),
        (
            ["--method.objective", "ect", "--train.init", "FILE"],
            "--train.init: expected weights of a network that gets log(sigma) / 4, got FILE, which gets TrigFlow's ang",
        ),
        (["--train.init", "FILE", "--method.sigma-data", "1"], "--method.sigma-data: expected 0.5 as in the weights"),
        (["--train.init", "FILE", "--network.time-scale", "9"], "--network.time-scale: expected 1.0 as in the weig"),
        (["--method.p-std", "5"], "--method.p-std: expected 0 < t < pi/2 within 8 standard deviations of log sigma"),
        (["--method.p-mean", "10"], "--method.p-std: expected 0 < t < pi/2 within 8 standard deviations of log sigma"),
        (["--method.p-mean", "-99"], "--method.p-std: expected 0 < t < pi/2 within 8 standard deviations of log sig"),
        (["--method.mu0", "0.9"], "--method.mu0: expected None where --method.objective is scm, got 0.9"),
        (["--method.noise-schedule", "uniform"], "--method.noise-schedule: expected lognormal where --method.obje"),
        (["--method.weighting", "snr"], "--method.weighting: expected inverse_gap or uniform where --method.objective"),
        (["--scm.warmup-steps", "0"], "--scm.warmup-steps: expected an integer >= 1, got 0"),
        (["--scm.tangent-c", "0"], "--scm.tangent-c: expected 0 < tangent_c < infinity, got 0"),
        (["--train.beta2", "1"], "--train.beta2: expected 0 <= beta2 < 1, got 1"),
        (["--method.objective", "discrete", "--method.trigflow"], "--method.trigflow: expected False where --method.o"),
        (["--train.noise-shards", "3"], "--train.noise-shards: expected a divisor of --train.batch-size 16, got 3"),
    ],
)
def test_what_cannot_be_trained_is_rejected_in_one_line(
    options: list[str], says: str, denoiser: str, log_denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("FILE").symlink_to(denoiser)
    Path("LOG").symlink_to(log_denoiser)
    command = ["--config", "minimal", "--method.objective", "scm", *options, "--out", "run"]
    assert launch(command) == 2
    assert says in rejection(capsys, "ict_ref.launch")
    assert not Path("run").exists()


class Rounding(own.Plain):
    """A network with an operation of its own that has no derivative in forward mode."""

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, *gradients: Tensor) -> Tensor:
            return gradients[0] * 2

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        doubled: Tensor = self.Operation.apply(super().forward(x, c_noise))  # type: ignore[no-untyped-call]
        return doubled


def test_a_network_without_forward_mode_is_rejected_before_training() -> None:
    config = dataclasses.replace(scm(), data=dataclasses.replace(minimal().data, labels=False))
    with pytest.raises(ValueError, match="--network: expected operations that torch differentiates in forward mode"):
        Trainer(config, images(), network=OwnNetwork(Rounding()))
    Trainer(config, images(), network=OwnNetwork(own.Plain())).update()
    ict = dataclasses.replace(config, method=Method())
    Trainer(ict, images(), network=OwnNetwork(Rounding())).update()


def test_other_models_and_loops_without_the_weighting_network_are_rejected() -> None:
    config = scm()
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    x = torch.zeros(16, 1, 8, 8)
    noise = SampledNoise(torch.zeros(16, dtype=torch.int64), x, (), torch.ones(16, dtype=torch.float64))
    with pytest.raises(ValueError, match="model: expected a TrigFlowModel, got ConsistencyModel"):
        training_loss(model, x, None, noise, discretization(0, config), SCM)
    with pytest.raises(ValueError, match=r"log_weight: expected the network w\(t\) of sCM, Eq\. \(8\), got nothing"):
        own_loss(own.Plain(), x, 0, config)
    distils = dataclasses.replace(config, method=dataclasses.replace(SCM, denoiser="file"))
    with pytest.raises(
        ValueError, match=r"--method\.objective: expected an objective without a score, got scm with one"
    ):
        own_loss(own.Plain(), x, 0, distils)


@pytest.mark.parametrize("write", [lambda network: files(network, "digits"), content], ids=["diffusers", "openai"])
def test_other_formats_do_not_have_its_coefficients(write: object, denoiser: str) -> None:
    given = dataclasses.replace(load_exported(Path(denoiser)), is_denoiser=False)
    with pytest.raises(ValueError, match=r"--format (diffusers|openai): expected CM's coefficients"):
        write(given)  # type: ignore[operator]


def test_its_memory_has_the_weighting_network_and_activations_of_one_call() -> None:
    predicted, usual = (memory(each, accumulate=1, recompute=False) for each in (scm(), minimal()))
    # 128 weights of w; 128 frequencies and phases are in each model of a checkpoint.
    assert predicted.parameters - usual.parameters == 128 * 4
    assert predicted.activations < 1.5 * usual.activations
    assert state_sizes(scm()).checkpoint - state_sizes(minimal()).checkpoint == 4 * 128 * (4 + 4) + 4
