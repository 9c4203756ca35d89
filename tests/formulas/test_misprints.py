"""Misprints and gaps of the paper: the consequences of the printed form and of the form used here.

docs/paper_and_code.md has a row for each of these; the number in a test's name is the row's.
"""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from tests.formulas import test_successor_misprints
from tests.support.networks import small_weights
from torch import Tensor

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import export
from ict_ref.config import digits, minimal
from ict_ref.data.dataset import load, to_uint8
from ict_ref.formulas import (
    c_in,
    c_noise,
    c_out,
    c_skip,
    consistency_training_loss,
    cosine_curriculum,
    ct_gradient_limit,
    delta_consistency_function,
    edit,
    euler_step,
    exponential_curriculum,
    fourier_embedding,
    gaussian_mixture_score,
    inpainting_operator,
    inverse_gap_weights,
    l1,
    linear_curriculum,
    lognormal_pmf,
    multistep_sample,
    positional_embedding,
    pseudo_huber,
    pseudo_huber_constant,
    sigma_grid,
    sqrt_curriculum,
    square_curriculum,
    squared_l2,
    stroke_edit,
    teacher_ema_decay,
)
from ict_ref.networks.model import build_model
from ict_ref.sample.recipe import Recipe
from ict_ref.training.loop import fit
from ict_ref.training.radam import RAdam
from ict_ref.training.trainer import Trainer

PAGE = Path(__file__).parents[2] / "docs" / "paper_and_code.md"


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_each_row_of_the_table_has_its_evidence_here_and_each_piece_of_evidence_its_row() -> None:
    rows = re.findall(r"^\| (\w\d+) \|", PAGE.read_text(), re.MULTILINE)
    names = {*globals(), *vars(test_successor_misprints)}
    tests = {name.split("_")[1].upper() for name in names if re.match(r"test_[a-z]\d+_", name)}
    assert len(rows) == len(set(rows))
    assert set(rows) == tests


def test_m1_the_printed_curriculum_of_table_1_ends_at_22801_levels() -> None:
    def printed(step: int, total_steps: int, s0: int, s1: int) -> int:
        return math.ceil(math.sqrt(step / total_steps) * ((s1 + 1) ** 2 - s0**2) + s0**2 - 1) + 1

    assert (printed(0, 1000, 2, 150), printed(1000, 1000, 2, 150)) == (4, 22_801)
    assert [sqrt_curriculum(step, total_steps=1000, s0=2, s1=150) for step in (0, 1000)] == [2, 151]


def test_m2_the_bracket_of_equation_9_is_a_floor() -> None:
    # 1 289 / 10 = 128.9: with the floor there are 7 doublings and K' is an eighth of the training; as a mere bracket
    # the logarithm is 7.01, K' is 64 steps shorter, and every change comes too early.
    assert math.floor(400_000 / (math.log2(128.9) + 1)) == 49_936
    changes = [k for k in (49_936, 49_999, 50_000) if exponential_curriculum(k, total_steps=400_000, s1=1289) == 21]
    assert changes == [50_000]
    # For the paper's own numbers both are the same.
    assert math.log2(1280 / 10) == math.log2(1280 // 10) == 7


def test_m3_the_point_of_euler_and_that_of_consistency_training_agree_on_average_only() -> None:
    # Data are -1 or 1. Given x, the first has probability p, the second 1 - p.
    high, low, x_hi = 1.5, 1.0, f64(0.7)
    score = gaussian_mixture_score(
        x_hi, f64(high), means=f64(-1.0, 1.0), stds=f64(0.0, 0.0), mixture_weights=f64(0.5, 0.5)
    )
    by_euler = float(euler_step(x_hi, f64(high), f64(low), score))
    by_training = [x + low * (0.7 - x) / high for x in (-1.0, 1.0)]
    p = 1 / (1 + math.exp(2 * 0.7 / high**2))
    assert by_euler == pytest.approx(p * by_training[0] + (1 - p) * by_training[1], rel=1e-13)
    assert min(abs(by_euler - point) for point in by_training) > 0.1


def toy_gradient(theta: float, theta_minus: float, xi: float, n: int, low: float, high: float) -> float:
    parameter = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    loss = consistency_training_loss(
        lambda x, s: delta_consistency_function(x, s, xi=parameter, sigma_min=low),
        lambda x, s: delta_consistency_function(x, s, xi=torch.tensor(theta_minus).double(), sigma_min=low),
        torch.full((n - 1,), xi, dtype=torch.float64),
        torch.linspace(-2, 2, n - 1, dtype=torch.float64),
        torch.arange(n - 1),
        sigma_grid(n, sigma_min=low, sigma_max=high, rho=1.0),
        distance=squared_l2,
        weights=torch.ones(n - 1, dtype=torch.float64),
    )
    loss.mean().backward()  # type: ignore[no-untyped-call]
    assert parameter.grad is not None
    return float(parameter.grad)


def test_m4_the_factor_of_equation_13_is_inside_the_expectation() -> None:
    # For sigma uniform on [a, 1], a = 0.05: E[a / sigma^2 (1 - a / sigma)] = (1 - a) / 2.
    # E[a / sigma^2] = 1 times the mean of the factor outside, E[1 - a / sigma] = 1 + a log(a) / (1 - a), is 0.842.
    a, n = 0.05, 20_001
    scaled = toy_gradient(1.0, 1.0, 0.0, n, a, 1.0) * (n - 1) / (1 - a)
    inside, outside = 2 * (1 - a) / 2, 2 * (1 + a * math.log(a) / (1 - a))
    assert scaled == pytest.approx(inside, rel=1e-3)
    assert scaled != pytest.approx(outside, rel=0.4)


def test_m5_the_gradient_itself_has_the_limit_0_and_only_divided_by_the_step_that_of_equation_7() -> None:
    # Appendix A carries Delta sigma, and o(Delta sigma), behind its limits, where both are 0.
    gradients = [toy_gradient(1.0, 1.0, 0.0, n, 0.2, 1.0) for n in (1001, 2001, 4001)]
    assert gradients[1] / gradients[0] == pytest.approx(1 / 2, rel=1e-2)
    assert gradients[2] / gradients[1] == pytest.approx(1 / 2, rel=1e-2)
    limit = ct_gradient_limit(1.0, 0.0, sigma_min=0.2, sigma_max=1.0)
    assert gradients[2] * 4000 / 0.8 == pytest.approx(limit, rel=1e-2)


def test_m6_probabilities_belong_to_intervals_one_fewer_than_levels() -> None:
    sigmas = sigma_grid(11)
    assert len(lognormal_pmf(sigmas)) == len(inverse_gap_weights(sigmas)) == 10
    # Printed over all N levels, the last one would need sigma_{N+1}.
    with pytest.raises(IndexError):
        _ = sigmas[len(sigmas)]


def test_m7_the_teacher_s_decay_begins_with_mu0_as_printed_and_with_its_square_in_public_code() -> None:
    assert teacher_ema_decay(2, s0=2, mu0=0.9) == pytest.approx(0.9)
    assert teacher_ema_decay(2 - 1, s0=2, mu0=0.9) == pytest.approx(0.81)


def test_m8_the_positional_embedding_of_a_quarter_logarithm_is_as_insensitive_as_in_section_3_1() -> None:
    log_sigma = torch.linspace(math.log(0.002), math.log(80), 201, dtype=torch.float64)
    frequencies = torch.special.ndtri((torch.arange(4000).double() + 0.5) / 4000)  # quantiles of N(0, 1)

    def sensitivity(embedding: Tensor) -> float:
        steps = embedding.diff(dim=0) / log_sigma.diff()[:, None]
        return float(steps.square().mean().sqrt())

    c = c_noise(log_sigma.exp())
    # Differences of sines as fast as scale 16 want finer levels than the others.
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64) * 0.01
    steps = fourier_embedding(fine / 4, 16 * frequencies).diff(dim=0) / fine.diff()[:, None]
    assert float(steps.square().mean().sqrt()) == pytest.approx(17.8, rel=0.01)
    assert sensitivity(fourier_embedding(c, 0.02 * frequencies)) == pytest.approx(0.022, rel=0.02)
    assert sensitivity(positional_embedding(c, 192)) == pytest.approx(0.043, rel=0.02)
    steps = positional_embedding(1000 * fine / 4, 192).diff(dim=0) / fine.diff()[:, None]
    assert float(steps.square().mean().sqrt()) == pytest.approx(43, rel=0.02)


def test_m9_the_optimizer_is_radam_though_figure_6b_prints_adam() -> None:
    trainer = Trainer(minimal(), load(minimal().data).train)
    # tests/training/test_radam.py compares it with torch's RAdam.
    assert type(trainer.optimizer) is RAdam


def test_m10_pseudo_huber_bridges_the_l2_norm_and_its_square_and_l1_for_numbers_only() -> None:
    c, origin = 0.03, torch.zeros(1, 400, dtype=torch.float64)
    # All 400 values differ by t: ||x - y||_2 = 20 t, ||x - y||_1 = 400 t.
    far, near = (float(pseudo_huber(origin + t, origin, c=c)) for t in (1e6, 1e-6))
    assert far == pytest.approx(20e6, rel=1e-8)
    assert far / float(l1(origin + 1e6, origin)) == pytest.approx(1 / 20, rel=1e-8)
    assert near == pytest.approx((20e-6) ** 2 / (2 * c), rel=1e-6)
    # The norm of one value is its absolute value, l1; the mean of the elementwise form tends to l1 / 400.
    assert float(pseudo_huber(f64(1e6)[None], f64(0.0)[None], c=c)) == pytest.approx(1e6, rel=1e-7)
    elementwise = pseudo_huber((origin + 1e6).T, origin.T, c=c).mean()
    assert float(elementwise) == pytest.approx(float(l1(origin + 1e6, origin)) / 400, rel=1e-7)


def test_m11_k_3_is_two_evaluations_of_the_network() -> None:
    calls = []

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return x / (1 + sigma.reshape(-1, 1))

    # The printed form has the indices 1 = i_1 < i_2 < i_3 = N: k counts down from K - 1, and x_K is noise.
    levels, z = {1: 0.002, 2: 0.821, 3: 80.0}, [f64(0.3, -0.4)[None], f64(-1.1, 0.2)[None], f64(0.9, 1.7)[None]]
    x = levels[3] * z[2]
    for k in (2, 1):
        x = f(x, f64(levels[k + 1])) + math.sqrt(levels[k] ** 2 - levels[1] ** 2) * z[k - 1]
    assert calls == [80.0, 0.821]
    two_steps = multistep_sample(f, torch.stack([z[2], z[1]]), f64(80.0, 0.821))
    torch.testing.assert_close(two_steps, x, rtol=1e-13, atol=0)
    assert calls == [80.0, 0.821] * 2


def test_m12_the_last_update_is_at_k_one_below_the_number_of_iterations(tmp_path: Path) -> None:
    method = dataclasses.replace(minimal().method, curriculum="linear", s0=2, s1=40)
    config = dataclasses.replace(minimal(), method=method, train=dataclasses.replace(minimal().train, steps=4))
    assert fit(Trainer(config, load(config.data).train), tmp_path, lambda: False)
    trained = [json.loads(line)["levels"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert trained == [linear_curriculum(k, total_steps=4, s0=2, s1=40) for k in range(4)] == [2, 12, 22, 32]
    assert linear_curriculum(4, total_steps=4, s0=2, s1=40) == 41


def test_a1_the_norm_of_equation_8_runs_over_the_whole_example() -> None:
    x, y = torch.ones(1, 3, 32, 32, dtype=torch.float64), torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    c = pseudo_huber_constant(3072)
    assert float(pseudo_huber(x, y, c=c)) == pytest.approx(math.sqrt(3072 + c**2) - c, rel=1e-13)
    assert float(pseudo_huber(x, y, c=c)) == pytest.approx(55.3957, abs=1e-4)
    elementwise = float(pseudo_huber(x.reshape(-1, 1), y.reshape(-1, 1), c=c).mean())
    assert elementwise == pytest.approx(0.9705, abs=1e-4)
    # With its c divided by sqrt(3072) = 55.4 the elementwise form would at least bend where ours does.
    mended = float(pseudo_huber(x.reshape(-1, 1), y.reshape(-1, 1), c=c / math.sqrt(3072)).mean())
    assert mended * math.sqrt(3072) == pytest.approx(55.3957, abs=1e-4)


def test_a3_what_equation_2_leaves_open_is_as_in_the_consistency_models_paper() -> None:
    sigma = f64(0.1, 1.0, 80.0)
    assert c_skip(sigma).tolist() == pytest.approx([0.9630052, 0.2006414, 3.90629e-5], rel=1e-5)
    assert c_out(sigma).tolist() == pytest.approx([0.0960969, 0.4463192, 0.4999777], rel=1e-5)
    assert c_in(sigma).tolist() == pytest.approx([1.9611614, 0.8944272, 0.01249976], rel=1e-5)
    assert c_noise(sigma).tolist() == pytest.approx([-0.5756463, 0.0, 1.0955067], rel=1e-5, abs=1e-12)


def test_a6_dropout_acts_where_the_map_it_acts_on_is_16_pixels_wide_or_less() -> None:
    def heights(limit: int) -> set[int]:
        network = dataclasses.replace(digits().network, dropout_max_resolution=limit)
        config = dataclasses.replace(digits(), network=network)
        return {site.height for site in build_model(config, event=(1, 32, 32), classes=10).network.dropout_sites()}

    assert heights(16) == {16}
    assert heights(32) == {16, 32}


def test_a9_radam_has_the_options_of_the_authors_code() -> None:
    [group] = Trainer(minimal(), load(minimal().data).train).optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0)


def test_a12_the_curves_of_figure_3b_are_power_means_of_their_ends() -> None:
    # p = 1/2 at half of the training: ((sqrt(1281) + sqrt(10)) / 2)^2 = 379.3; and at its start exactly s0, though
    # the square of the root of 10 is above 10 in floating point.
    assert square_curriculum(50, total_steps=100) == math.ceil(((math.sqrt(1281) + math.sqrt(10)) / 2) ** 2) == 380
    assert math.ceil(math.sqrt(10) ** 2) == 11
    for curriculum in (square_curriculum, linear_curriculum, cosine_curriculum):
        assert (curriculum(0, total_steps=100), curriculum(100, total_steps=100)) == (10, 1281)
    # The cosine is half way at half of the training: (1281 + 10) / 2 = 645.5.
    assert cosine_curriculum(50, total_steps=100) == 646


def test_a13_the_sampler_does_not_clip() -> None:
    samples = multistep_sample(lambda x, sigma: x, f64(3.0)[None], f64(80.0))
    assert samples.tolist() == [240.0]
    assert digits().sample.clip


def test_a14_truncated_pixels_are_half_a_grey_level_darker() -> None:
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    exact = (x + 1) * 127.5
    nearest, down = (to_uint8(x, truncate=truncate).double() for truncate in (False, True))
    assert float((nearest - exact).abs().max()) <= 0.5
    assert torch.equal(down, exact.floor())
    assert float((nearest - exact).mean()) == pytest.approx(0, abs=1e-4)
    assert float((down - exact).mean()) == pytest.approx(-0.5, abs=1e-2)
    assert to_uint8(f64(-1.5, -1.0, 0.999, 1.0, 1.5), truncate=True).tolist() == [0, 0, 254, 255, 255]


def test_a15_labels_in_turn_are_equally_frequent_and_drawn_ones_are_not(tmp_path: Path) -> None:
    export(small_weights(channels=1, classes=10), tmp_path / "net.safetensors")
    trained = load_pretrained(tmp_path / "net.safetensors")
    turn, drawn = (Recipe(trained, 5000, label_order=order).labels for order in ("turn", "random"))
    assert turn is not None
    assert drawn is not None
    assert turn.bincount().tolist() == [500] * 10
    counts = drawn.bincount().double()
    # Pearson's statistic of 10 classes has mean 9 and standard deviation 4.2.
    assert 1 < float((counts - 500).square().sum() / 500) < 26
    # Sample k draws its class by the seed and k alone.
    few = Recipe(trained, 70, label_order="random").labels
    assert few is not None
    assert torch.equal(few, drawn[:70])
    other = Recipe(trained, 70, label_order="random", seed=1).labels
    assert other is not None
    assert not torch.equal(few, other)


def test_c1_stroke_editing_with_everything_masked_would_forget_the_strokes() -> None:
    # Algorithm 4 keeps (A y)(1 - Omega) = 0 of y; in Appendix D of CM the samples follow y.
    y, noises = f64(0.3, -0.4).reshape(1, 2), torch.zeros(1, 1, 2, dtype=torch.float64)
    assert torch.equal(stroke_edit(lambda x, sigma: x, y, noises, f64(5.38)), y)
    forgotten = edit(lambda x, sigma: x, y, inpainting_operator(), torch.tensor(True), noises, f64(5.38))
    assert torch.equal(forgotten, torch.zeros_like(y))
