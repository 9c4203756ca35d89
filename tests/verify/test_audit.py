"""The audit of a training step reports its errors under their names, and only those."""

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.support import training_steps as right
from tests.support.training_steps import CT, RIGHT, STYLES, ct_styles, huber, lognormal, root
from tests.support.wrong_training_steps import CURRICULA, DRAWS, LOSSES, NOTES, POINTS, SEVERAL, Findings
from torch import Tensor, nn

from ict_ref.verify.audit.step.audit import audit
from ict_ref.verify.audit.step.curriculum import edges
from ict_ref.verify.audit.step.distribution import chi_square_tail, pooled
from ict_ref.verify.audit.step.grid import find_n
from ict_ref.verify.audit.step.network_spy import NetworkSpy, Recorder
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.checks.result import Result

PEERS = Path(__file__).parent / "implementations"
FEW = Settings(draws=(40, 10, 10))
"""Settings for what a single step shows, or several."""
MANY = Settings(draws=(100, 30, 60))
SMALL_DIFFERENCES = ("P_mean = -1.2", "P_std = 1.9", "the last interval is never drawn", "noise of mean 0.01")


def found(results: Sequence[Result]) -> Findings:
    return {one.id.removeprefix("step:"): one.deviation for one in results if one.status not in ("pass", "skipped")}


def audited(step: Callable[..., object], settings: Settings = FEW) -> Findings:
    return found(list(audit(step, settings)))


def message(step: Callable[..., object], name: str, settings: Settings = FEW) -> str:
    [one] = [one for one in audit(step, settings) if one.id == f"step:{name}" and one.message]
    return one.message


@pytest.mark.parametrize("style", STYLES)
def test_a_right_step_passes_however_it_is_written(style: str) -> None:
    results = list(audit(STYLES[style], FEW))
    assert [one.message for one in results if one.status not in ("pass", "skipped")] == []
    assert len(results) >= 23


def test_a_right_step_passes_with_all_draws() -> None:
    assert audited(STYLES["float32"], Settings()) == {}


@pytest.mark.parametrize("what", CURRICULA | POINTS | LOSSES)
def test_a_wrong_step_has_one_finding(what: str) -> None:
    step, findings = (CURRICULA | POINTS | LOSSES)[what]
    assert audited(step) == findings


@pytest.mark.parametrize("what", DRAWS)
def test_wrong_draws_have_one_finding(what: str) -> None:
    step, findings = DRAWS[what]
    assert audited(step, Settings() if what in SMALL_DIFFERENCES else MANY) == findings


@pytest.mark.parametrize("what", SEVERAL)
def test_each_of_several_deviations_has_its_finding(what: str) -> None:
    step, findings = SEVERAL[what]
    assert audited(step, MANY) == findings


@pytest.mark.parametrize("what", NOTES)
def test_a_reseeded_generator_is_a_side_effect(what: str) -> None:
    step, findings = NOTES[what]
    results = list(audit(step, FEW))
    assert found(results) == findings
    assert {one.kind for one in results if one.status == "fail"} == {"type"}
    assert [one.status for one in results if one.id == "step:side_effects"] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("what", "name", "text"),
    [
        ("the sqrt curriculum of CT", "curriculum", "N(0) = 2, should be 11: the sqrt curriculum of CT ["),
        ("K' rounded up", "curriculum", "N(1000) = 11, should be 21: K' is rounded up, to 1001"),
        ("k / K' rounded up", "curriculum", "N(21) = 21, should be 11: k / K' is rounded up ["),
        ("k / K' and K' rounded up", "curriculum", "N(21) = 21, should be 11: k / K' is rounded up ["),
        ("one stage early", "curriculum", "N(0) = 21, should be 11: the curriculum is one stage early ["),
        ("skips 641", "curriculum", "N(6000) = 1281, should be 641: a stage is left out ["),
        ("unknown", "curriculum", "N(0) = 20, should be 11, and 16 more of 17 steps differ: N(21) = 20"),
        ("rho = 5", "grid", "the grid has rho = 5, should be 7 ["),
        ("two intervals apart", "neighbours", "at N = 11 the two levels are 2 intervals apart, should be 1 ["),
        ("raw sigma", "c_noise", "the network gets sigma: 80 at sigma = 80, should be 1.0955 ["),
        ("an index for c_noise", "c_noise", "which is not log(sigma) / 4 of the levels of its inputs ["),
        ("an unknown c_in", "c_in", "at sigma = 80 the factor of x + sigma z is 0.1006, should be c_in = 0.0125 ["),
        ("images in [0, 1]", "one_path", "the images are 0.5 x + 0.5 of those given, should be x ["),
        ("the same noisy point", "one_path", "both inputs are x + sigma_i z ["),
        ("sigma_data = 1 in c_skip", "coefficients", "c_skip has sigma_data = 1 ["),
        ("half of c_out", "coefficients", "c_out is half of the right one ["),
        ("an unknown c_skip", "coefficients", "c_out / c_skip is 40.5, should be 1.28e+04 ["),
        ("c a third", "huber_constant", "c = 0.00125, should be 0.00374 = 0.00054 sqrt(48) for this shape ["),
        ("the weight of the interval above", "weight", "the weight is 1 / (sigma_{i+2} - sigma_{i+1}), should be"),
        ("a capped weight", "weight", "the weight is 1000, should be"),
        ("divided by sqrt(d)", "loss", "the loss is 0.1443 times that of Eq. (5): divided by sqrt(d) ["),
        ("summed over the batch", "loss", "64 times that of Eq. (5): summed over the batch, not averaged ["),
        ("rounded to bfloat16", "loss", "the loss is rounded to bfloat16"),
        ("ten times too small a gradient", "gradient", "the gradient is 0.1 times that of the loss ["),
        ("no gradient", "stop_gradient", "the loss does not send a gradient to the network ["),
    ],
)
def test_the_message_says_what_is_there_and_what_should_be(what: str, name: str, text: str) -> None:
    step, _ = (CURRICULA | POINTS | LOSSES)[what]
    assert text in message(step, name)


@pytest.mark.parametrize(
    ("what", "name", "text"),
    [
        ("uniform from N = 641", "p(i)", "at N = 1281: the intervals are drawn uniformly ["),
        ("noise of two examples", "independent_noise", "examples 0 and 37 of step 1 have the same noise ["),
        ("opposite noise of halves", "independent_noise", "have opposite noise ["),
        ("noise of neighbouring steps", "independent_noise", "neighbouring steps are correlated by 0.2"),
        ("noise of neighbouring pixels", "independent_noise", "two places of one example are correlated by 0."),
        ("intervals in pairs", "independent_intervals", "the two halves of a batch depend on each other ["),
    ],
)
def test_the_message_about_draws_says_what_depends_on_what(what: str, name: str, text: str) -> None:
    assert text in message(DRAWS[what][0], name, MANY)


def test_p_mean_is_fitted() -> None:
    assert "P_mean = -1.2" in message(DRAWS["P_mean = -1.2"][0], "p(i)", Settings())


@pytest.mark.parametrize("shape", [(1, 28, 28), (2,), (3, 16, 16)])
@pytest.mark.parametrize("distance", ["right", "elementwise"])
def test_other_shapes_have_their_own_constant(shape: tuple[int, ...], distance: str) -> None:
    settings = replace(FEW, shape=shape, batch=32, draws=(12, 4, 4))
    step = RIGHT if distance == "right" else replace(RIGHT, distance=right.elementwise)
    assert audited(step, settings) == ({} if distance == "right" else {"distance": "Elementwise"})


def test_other_settings_are_those_of_the_method() -> None:
    # Twice all levels of the paper, with sigma_data twice as large: a right step for data twice as large.
    settings = replace(FEW, sigma_data=1.0, sigma_min=0.004, sigma_max=160.0, p_mean=-1.1 + math.log(2), s0=5, s1=40)
    step = replace(
        RIGHT,
        levels=lambda k, total: min(5 * 2 ** (k // (total // 4)), 40) + 1,
        grid=lambda n: 2 * right.grid(n),
        draw=lambda s, b: lognormal(s, b, mean=-1.1 + math.log(2)),
        c_in=lambda s: (s**2 + 1).rsqrt(),
        c_skip=lambda s: right.skip(s, least=0.004, data=1.0),
        c_out=lambda s: right.out(s, least=0.004, data=1.0),
    )
    assert audited(step, settings) == {}
    assert set(audited(step, replace(settings, s1=80, sigma_max=80.0))) == {"grid", "curriculum"}


def test_ct_has_its_own_curriculum_weight_and_distance() -> None:
    settings = replace(MANY, method="ct")
    results = list(audit(CT, settings))
    assert [one.id for one in results if one.status == "fail"] == []
    assert found(results) == {"distance": None}
    without = replace(CT, levels=lambda k, total: root(k, total, 2, 150), weight=right.gap)
    assert {one.id: one.deviation for one in audit(without, settings) if one.status == "fail"} == {
        "step:curriculum": "NoPlusOne",
        "step:weight": None,
    }


SHORT_CT = replace(FEW, method="ct", s0=2, s1=10)
"""Settings under which many steps have two or three levels."""
CT_STYLES = ct_styles(replace(CT, levels=lambda k, total: root(k, total, 2, 11)))


@pytest.mark.parametrize("style", CT_STYLES)
def test_rows_are_paired_by_their_order_at_two_levels(style: str) -> None:
    # The input at sigma_max is almost the noise, that at sigma_min almost the image: they are not alike.
    results = [one for one in audit(CT_STYLES[style], SHORT_CT) if one.status == "fail"]
    assert found(results) == ({"c_in": "NoInputScaling"} if style == "inputs without c_in" else {})


def levels_of_ect(x: Tensor, step: int, least: float = 0.0) -> tuple[Tensor, Tensor]:
    t = (torch.randn(len(x), 1, 1, 1).double() * 2 - 1.1).exp().clamp(least or 1e-3, 100)
    ratio = 1 - (1 + 8 * torch.sigmoid(-t)) / 2 ** (1 + step // 2000)
    return t, (t * ratio).clamp_min(least)


def ect(
    network: nn.Module,
    x: Tensor,
    *,
    step: int,
    total_steps: int,
    distance: Callable[[Tensor], Tensor] = lambda d: d.flatten(1).norm(dim=1),
    share: bool = True,
    least: float = 0.0,
) -> Tensor:
    """ECT: continuous levels, the weight 1 / (t - r), the norm."""
    t, r = levels_of_ect(x, step, least)
    z = torch.randn_like(x.double())
    edm = replace(RIGHT, c_skip=lambda s: right.skip(s, least=least), c_out=lambda s: right.out(s, least=least))
    state = torch.get_rng_state()
    student = edm.f(network, x + t * z, t)
    if share:
        torch.set_rng_state(state)
    with torch.no_grad():
        teacher = edm.f(network, x + r * z, r)
    return (distance(student - teacher) / (t - r).flatten()).mean()


def published_ect(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    """ECT as published, all in float32: c = 0, levels that are not cut, and x as the teacher's f at r = 0."""
    t = (torch.randn(len(x), 1, 1, 1) * 2 - 1.1).exp()
    r = (t * (1 - (1 + 8 * torch.sigmoid(-t)) / 2 ** (1 + 8 * step // total_steps))).clamp_min(0)
    z = torch.randn_like(x)

    def f(sigma: Tensor) -> Tensor:
        noisy = x + sigma * z
        size = (sigma**2 + 0.25).sqrt()
        value: Tensor = network(noisy / size, sigma.log().flatten() / 4)
        return 0.25 / size**2 * noisy + 0.5 * sigma / size * value

    state = torch.get_rng_state()
    student = f(t)
    torch.set_rng_state(state)
    with torch.no_grad():
        teacher = torch.where(r > 0, f(r), x)
    loss: Tensor = ((student - teacher).flatten(1).square().sum(1).sqrt() / (t - r).flatten()).mean()
    return loss


GRIDLESS = replace(FEW, method="gridless", sigma_min=0.0)


@pytest.mark.parametrize("step", [ect, published_ect])
def test_a_step_without_a_grid_is_described(step: Callable[..., object]) -> None:
    results = list(audit(step, GRIDLESS))
    assert [one.message for one in results if one.status == "fail"] == []
    texts = {one.id: one.message for one in results if one.status == "note"}
    assert set(texts) == {"step:levels", "step:ratio", "step:distance"}
    assert "log t has mean -1." in texts["step:levels"]
    assert "at step 0: r = t (1 - (1 + 8 sigmoid(-t)) / 2), and 0 for " in texts["step:ratio"]
    last = 32 if step is ect else 256
    assert f"at step 8006: r = t (1 - (1 + 8 sigmoid(-t)) / {last})" in texts["step:ratio"]
    assert "the distance is the norm: c is 0" in texts["step:distance"]


def test_errors_of_a_step_without_a_grid_are_found() -> None:
    def wrong(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        return ect(network, x, step=step, total_steps=total_steps, distance=lambda d: huber(d, 0.06), share=False)

    results = list(audit(wrong, GRIDLESS))
    assert {one.id for one in results if one.status == "fail"} == {"step:shared_dropout"}
    assert "c = 0.06, iCT's is 0.00374" in message(wrong, "huber_constant", GRIDLESS)


def test_what_a_cpu_does_not_show_is_said() -> None:
    skipped = [one.message for one in audit(RIGHT, FEW) if one.status == "skipped"]
    assert len(skipped) == 1
    assert "on a CPU it cannot be seen" in skipped[0]
    assert "--device cuda" in skipped[0]


def test_a_step_that_fails_later_has_one_clear_row() -> None:
    def breaks(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        if step == 7:
            sys.exit(3)
        loss: Tensor = RIGHT(network, x, step=step, total_steps=total_steps)
        return loss

    [one] = list(audit(breaks, FEW))
    assert "step 7 raised SystemExit: 3 [iCT" in one.message


def three_calls(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    network(x, x[:, 0, 0, 0])
    loss: Tensor = RIGHT(network, x, step=step, total_steps=total_steps)
    return loss


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda *_, **__: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda model, teacher, x, k: x, "'step'; it is called as step(network, x, *, step, total_steps) -> loss"),
        (lambda *_, **__: None, "expected a loss, got NoneType"),
        (lambda network, x, **_: network(x, x[:, 0, 0, 0]).mean(), "called 1 times, on 64 points; should be 128"),
        (three_calls, "called 3 times, on 192 points; should be 128"),
        (lambda network, x, **_: network(x, x[:2, 0, 0, 0]) + network(x, x[:2, 0, 0, 0]), "expand"),
        (lambda network, x, **_: network(x[:, :1], x[:, 0, 0, 0]).mean(), "was called with x [64, 1, 4, 4]"),
        (replace(RIGHT, reduce=lambda losses: losses[:7]), "the loss has shape [7], should be one value"),
    ],
)
def test_a_step_that_cannot_be_read_has_one_clear_row(step: Callable[..., object], text: str) -> None:
    [one] = list(audit(step, FEW))
    assert one.status == "fail"
    assert text in one.message


def test_a_copy_of_the_network_shares_its_record() -> None:
    network = NetworkSpy(Recorder())
    other = copy.deepcopy(network.eval().requires_grad_(False))
    other(torch.zeros(2, 3), torch.zeros(2))
    assert len(network.recorder.calls) == 1
    assert not other.training
    assert not other.theta.requires_grad


def test_the_random_state_of_the_caller_stays() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    list(audit(RIGHT, FEW))
    assert torch.equal(torch.rand(3), expected)


def test_the_number_of_levels_is_found_from_the_levels() -> None:
    for n in (2, 11, 161, 1281):
        levels = right.grid(n).float().double()
        assert find_n(levels[1:], levels[:-1], FEW) == n
    chance = torch.linspace(0.01, 70.0, 64).double()
    assert find_n(chance, chance * 0.9, FEW) is None


def test_the_curriculum_is_seen_at_both_ends_of_each_stage() -> None:
    borders = [0, *(step for k in range(1, 8) for step in (1000 * k - 1, 1000 * k)), 8006]
    assert edges(FEW) == borders


def test_the_tail_of_chi_square_is_that_of_the_textbook() -> None:
    # One degree of freedom, statistic 3.841: 5 %.
    counts = torch.tensor([50 + 9.8, 50 - 9.8], dtype=torch.float64)
    assert chi_square_tail(counts, torch.tensor([0.5, 0.5], dtype=torch.float64)) == pytest.approx(0.05, abs=1e-3)


def test_rare_intervals_are_counted_together() -> None:
    assert pooled(torch.tensor([40.0, 10.0, 15.0, 10.0, 40.0, 3.0])).tolist() == [0, 1, 1, 1, 2, 2]


def test_the_project_s_own_step_passes() -> None:
    # A separate process has no import hook: the annotations of the model exclude the recording network.
    command = [sys.executable, "-m", "ict_ref.verify", "audit", "step", str(PEERS / "our_step.py") + ":step"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("right ")
    assert done.stdout.splitlines()[-1].endswith("; status 0")
