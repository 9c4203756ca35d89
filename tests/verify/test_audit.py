"""The audit of a training step reports its errors and only those."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ict_ref.verify.audit import step as auditing
from ict_ref.verify.audit.step import audit, chi_square_tail
from ict_ref.verify.checks.check import Result

PEERS = Path(__file__).parent / "implementations"


def grid(n: int) -> Tensor:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas: Tensor = (low + torch.arange(n).double() / (n - 1) * (high - low)) ** 7
    return sigmas


def draw_intervals(sigmas: Tensor, batch: int, p_mean: float) -> Tensor:
    edges = torch.special.ndtr((sigmas.log() - p_mean) / 2)
    return torch.multinomial(edges.diff(), batch, replacement=True)


def plain_step(
    network: nn.Module,
    x: Tensor,
    *,
    step: int,
    total_steps: int,
    noise: Callable[[Tensor], Tensor] = lambda sigma: sigma.log() / 4,
    c_in: Callable[[Tensor], Tensor] = lambda sigma: (sigma**2 + 0.25).rsqrt(),
    draw: Callable[[Tensor, int], Tensor] = lambda sigmas, batch: draw_intervals(sigmas, batch, -1.1),
    apart: int = 1,
    one_noise: bool = True,
    share_dropout: bool = True,
    stop_gradient: bool = True,
    detach: bool = False,
    swap: bool = False,
    distance: str = "huber",
    weight: Callable[[Tensor, Tensor], Tensor] = lambda low, high: 1 / (high - low),
    mean: bool = True,
    calls: int = 2,
    z_scale: float = 1.0,
    normal: Callable[[Tensor], Tensor] = torch.randn_like,
    c_skip: Callable[[Tensor], Tensor] = lambda sigma: 0.25 / ((sigma - 0.002) ** 2 + 0.25),
    c_out: Callable[[Tensor], Tensor] = lambda sigma: 0.5 * (sigma - 0.002) / (sigma**2 + 0.25).sqrt(),
    cap: int = 1280,
    late: int = 0,
    c_share: float = 1.0,
    backward: float = 1.0,
) -> Tensor:
    sigmas = grid(min(10 * 2 ** (max(step - late, 0) // (total_steps // 8)), cap) + 1)
    index = draw(sigmas, len(x)).clamp_max(len(sigmas) - 1 - apart)
    low, high = (sigmas[i].reshape(-1, 1, 1, 1) for i in (index, index + apart))
    x = x.double()
    z = z_scale * normal(x)
    other = z if one_noise else torch.randn_like(x)

    def f(x_sigma: Tensor, sigma: Tensor) -> Tensor:
        value: Tensor = network(c_in(sigma) * x_sigma, noise(sigma).flatten())
        return c_skip(sigma) * x_sigma + c_out(sigma) * value

    state = torch.get_rng_state()
    with torch.set_grad_enabled(not swap):
        student = f(x + high * z, high)
    if share_dropout:
        torch.set_rng_state(state)
    with torch.set_grad_enabled(swap or not stop_gradient):
        teacher = f(x + low * other, low)
    teacher = teacher.detach() if detach else teacher
    for _ in range(calls - 2):
        f(x, low)
    apart_by = (student - teacher).flatten(1)
    apart_by = backward * apart_by + (1 - backward) * apart_by.detach()
    c = c_share * 0.00054 * math.sqrt(x[0].numel())
    distances = {
        "huber": (apart_by.square().sum(1) + c**2).sqrt() - c,
        "elementwise": ((apart_by.square() + c**2).sqrt() - c).mean(1),
        "squared": apart_by.square().sum(1),
        "mean squared": apart_by.square().mean(1),
        "large c": (apart_by.square().sum(1) + 1).sqrt() - 1,
    }
    loss = weight(low, high).flatten() * distances[distance]
    return loss.mean() if mean else loss


def failed(step: Callable[..., object]) -> list[Result]:
    return [result for result in audit(step) if result.status == "fail"]


@pytest.mark.parametrize("mean", [True, False])
def test_a_right_step_passes(mean: bool) -> None:
    assert [result.message for result in failed(partial(plain_step, mean=mean))] == []


WRONG: dict[str, tuple[dict[str, object], str, str | None]] = {
    "the network gets sigma itself": ({"noise": lambda sigma: sigma}, "step:c_noise", "RawSigmaNoise"),
    "the network gets a thousand times c_noise": (
        {"noise": lambda sigma: 250 * sigma.log()},
        "step:c_noise",
        "ScaledNoise",
    ),
    "the network gets log(sigma)": ({"noise": lambda sigma: sigma.log()}, "step:c_noise", None),
    "the input is not scaled": ({"c_in": torch.ones_like}, "step:one_path", "NoInputScaling"),
    "the input is scaled by the variance": ({"c_in": lambda s: 1 / (s**2 + 0.25)}, "step:one_path", None),
    "the levels are two intervals apart": ({"apart": 2}, "step:neighbours", None),
    "student and teacher have other noise": ({"one_noise": False}, "step:one_path", None),
    "noise is twice as strong": ({"z_scale": 2.0}, "step:unit_noise", None),
    "dropout masks are not shared": ({"share_dropout": False}, "step:shared_dropout", None),
    "the gradient passes through the teacher": ({"stop_gradient": False}, "step:stop_gradient", None),
    "the student is at the lower level": ({"swap": True}, "step:stop_gradient", "TeacherAtHigherLevel"),
    "the distance is elementwise": ({"distance": "elementwise"}, "step:loss", "Elementwise"),
    "the distance is squared l2": ({"distance": "squared"}, "step:loss", None),
    "the distance is a mean of squares": ({"distance": "mean squared"}, "step:loss", "MeanReduction"),
    "c is larger": ({"distance": "large c"}, "step:loss", None),
    "the weight is 1": ({"weight": lambda low, high: torch.ones_like(low)}, "step:loss", None),
    "the mean of the logarithms has the wrong sign": (
        {"draw": partial(draw_intervals, p_mean=1.1)},
        "step:p(i)",
        "MeanSign",
    ),
    "intervals are drawn uniformly": (
        {"draw": lambda sigmas, batch: torch.randint(len(sigmas) - 1, (batch,))},
        "step:p(i)",
        None,
    ),
    "intervals are drawn uniformly, but for the first stage": (
        {
            "draw": lambda s, batch: (
                draw_intervals(s, batch, -1.1) if len(s) == 11 else torch.randint(len(s) - 1, (batch,))
            )
        },
        "step:p(i)",
        None,
    ),
    "the mean of the logarithms is -1.2": ({"draw": partial(draw_intervals, p_mean=-1.2)}, "step:p(i)", None),
    "the last interval is never drawn": (
        {"draw": lambda s, batch: draw_intervals(s, batch, -1.1).clamp_max(len(s) - 3)},
        "step:p(i)",
        None,
    ),
    "the network is called three times": ({"calls": 3}, "step:runs", None),
    "the curriculum is capped at 161 levels": ({"cap": 160}, "step:neighbours", None),
    "the curriculum changes one step early": ({"late": -1}, "step:curriculum", None),
    "noise is 2 % too weak": ({"z_scale": 0.98}, "step:normal_noise", None),
    "noise is uniform": (
        {"normal": lambda x: (torch.rand_like(x) - 0.5) * math.sqrt(12)},
        "step:normal_noise",
        None,
    ),
    "all channels have one noise": (
        {"normal": lambda x: torch.randn_like(x[:, :1]).expand_as(x)},
        "step:normal_noise",
        None,
    ),
    "every step has the same noise": (
        {"normal": lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()},
        "step:normal_noise",
        None,
    ),
    "the gradient is ten times too small": ({"backward": 0.1}, "step:gradient", None),
    "the gradient points the other way": ({"backward": -1.0}, "step:gradient", None),
    "the weight is capped": (
        {"weight": lambda low, high: (1 / (high - low)).clamp_max(1000)},
        "step:gradient",
        None,
    ),
    "the boundary is sigma = 0, as EDM's": (
        {"c_out": lambda s: 0.5 * s / (s**2 + 0.25).sqrt(), "c_skip": lambda s: 0.25 / (s**2 + 0.25)},
        "step:gradient step:boundary",
        None,
    ),
    "c is a third of the right value": ({"c_share": 1 / 3}, "step:loss step:gradient step:huber_constant", None),
    "the distance is the norm": ({"c_share": 1e-9}, "step:loss step:gradient step:huber_constant", None),
}


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Observe few steps: for what a single one shows, or three."""
    monkeypatch.setattr(auditing, "DRAWS", 40)
    monkeypatch.setattr(auditing, "LATER_DRAWS", 20)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_step_fails_where_it_is_wrong(what: str, request: pytest.FixtureRequest) -> None:
    options, finding, deviation = WRONG[what]
    if finding not in ("step:p(i)", "step:normal_noise"):  # which are seen in many steps
        request.getfixturevalue("few_draws")
    found = failed(partial(plain_step, **options))  # type: ignore[arg-type] # one option of many types
    assert {result.id for result in found} == set(finding.split())
    assert {result.deviation for result in found} == {deviation}
    assert all(result.message.startswith(result.id) and result.message.endswith("]") for result in found)


@pytest.mark.usefixtures("few_draws")
def test_a_late_curriculum_has_levels_that_are_not_neighbours() -> None:
    # Every second level of the grid that is twice as fine, as if the old grid were kept.
    def late(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        return plain_step(network, x, step=step // 4, total_steps=total_steps)

    assert {result.id for result in failed(late)} == {"step:neighbours"}


@pytest.mark.usefixtures("few_draws")
def test_a_network_that_has_an_effect_at_sigma_min_is_found() -> None:
    # c_out is right except at the boundary, where it is 1/50 000: only a large output there shows it.
    def c_out(sigma: Tensor) -> Tensor:
        return 0.5 * (sigma - 0.002 + 2e-5 * (sigma < 0.0021)) / (sigma**2 + 0.25).sqrt()

    assert {result.id for result in failed(partial(plain_step, c_out=c_out))} == {"step:boundary"}


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(("distance", "findings"), [("huber", set()), ("elementwise", {"step:loss"})])
def test_a_detached_output_is_the_teacher_for_every_distance(distance: str, findings: set[str]) -> None:
    step = partial(plain_step, stop_gradient=False, detach=True, distance=distance)
    assert {result.id for result in failed(step)} == findings


@pytest.mark.usefixtures("few_draws")
def test_a_loss_without_any_gradient_is_found() -> None:
    def cut_off(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        return plain_step(network, x, step=step, total_steps=total_steps).detach()

    [*found] = failed(cut_off)
    assert {result.id for result in found} == {"step:stop_gradient"}
    assert "does not send a gradient to the network" in found[0].message


def test_a_step_that_fails_later_has_one_clear_row() -> None:
    def breaks(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        if step == 7:
            sys.exit(3)
        return plain_step(network, x, step=step, total_steps=total_steps)

    [one] = list(audit(breaks))
    assert "step 7 raised SystemExit: 3" in one.message


@pytest.mark.usefixtures("few_draws")
def test_a_network_in_evaluation_mode_is_found() -> None:
    def evaluating(network: nn.Module, x: Tensor, **options: int) -> Tensor:
        return plain_step(network.eval(), x, step=options["step"], total_steps=options["total_steps"])

    assert {result.id for result in failed(evaluating)} == {"step:shared_dropout"}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda *_, **__: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda *_, **__: None, "raised "),
        (lambda network, x, **_: network(x, x[:, 0, 0, 0]).mean(), "the network was called 1 times, should be 2"),
        (lambda network, x, **_: network(x, x[:1, 0, 0, 0]) + network(x, x[:1, 0, 0, 0]), "and noise [1], should be"),
    ],
)
def test_a_step_that_cannot_be_read_has_one_clear_row(step: Callable[..., object], message: str) -> None:
    [one] = list(audit(step))
    assert one.status == "fail"
    assert message in one.message


def test_the_tail_of_chi_square_is_that_of_the_textbook() -> None:
    # One degree of freedom, statistic 3.841: 5 %.
    counts = torch.tensor([50 + 9.8, 50 - 9.8], dtype=torch.float64)
    assert chi_square_tail(counts, torch.tensor([0.5, 0.5], dtype=torch.float64)) == pytest.approx(0.05, abs=1e-3)


def test_the_project_s_own_step_passes() -> None:
    # A separate process has no import hook: the annotations of the model exclude the recording network.
    command = [sys.executable, "-m", "ict_ref.verify", str(PEERS / "our_step.py") + ":step", "--audit", "step"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("right ")
    assert done.stdout.splitlines()[-1].endswith("; status 0")
