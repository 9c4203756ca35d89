"""The exact answers of the experiments, by other routes, and small versions of each in which its trend must show.

Oracle: mpmath for closed forms and finite sums, SciPy's DOP853 and quantiles for Eq. (1), quadrature for denoisers.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr
from tests.support.one_line import rejection
from torch import Tensor

from ict_ref.config import Method
from ict_ref.data.dataset import load
from ict_ref.experiments import __main__ as command
from ict_ref.experiments.analytic_datasets import CENTRED, NORMAL, POINT, TWO_MODES, Mixture
from ict_ref.experiments.answers import KnownAnswer
from ict_ref.experiments.catalogue import EXPERIMENTS
from ict_ref.experiments.huber import Huber, norms, on_digits, variation
from ict_ref.experiments.levels import Levels, minimising_slope, power
from ict_ref.experiments.options import Name
from ict_ref.experiments.runs import Experiment, Table, configuration, noisy, rms, rms_error, trained
from ict_ref.experiments.teacher_ema import TeacherEMA, toy_gradient, toy_training
from ict_ref.training.microbatches import Examples
from ict_ref.training.trainer import Trainer

Array = npt.NDArray[np.float64]
LOW, HIGH = 0.002, 80.0
ALL = {"point": POINT, "normal": NORMAL, "two modes": TWO_MODES, "centred": CENTRED}


class Counter:
    """Counts the updates that are reported to it."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def test_the_data_have_the_ninth_purpose() -> None:
    z = np.random.Generator(np.random.Philox(key=3, counter=[0, 0, 5, 8]))
    component = z.choice(1, size=4, p=[1.0])
    expected = 0.5 * z.standard_normal((4, 1, 1, 1))
    x, labels = CENTRED.batch(5, batch_size=4, seed=3, rows=slice(0, 4))
    assert np.array_equal(x.numpy(), expected)
    assert component.tolist() == labels.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("data", ALL.values(), ids=ALL)
def test_a_batch_can_be_cut_anywhere(data: Mixture) -> None:
    assert isinstance(data, Examples)
    whole, _ = data.batch(2, batch_size=6, seed=1, rows=slice(0, 6))
    for cut in (slice(0, 2), slice(2, 6)):
        assert torch.equal(data.batch(2, batch_size=6, seed=1, rows=cut)[0], whole[cut])
    assert tuple(whole.shape[1:]) == data.event


@pytest.mark.parametrize(
    ("data", "mean", "variance"),
    # Of two modes: 0.1^2 within and 0.5^2 between.
    [(POINT, [0.5, -0.5], 0.0), (NORMAL, [0.4, -0.3], 0.09), (TWO_MODES, [0.0], 0.26), (CENTRED, [0.0], 0.25)],
    ids=["point", "normal", "two modes", "centred"],
)
def test_examples_have_the_moments_of_their_distribution(data: Mixture, mean: list[float], variance: float) -> None:
    x, _ = data.batch(0, batch_size=100_000, seed=0, rows=slice(None))
    flat = x.reshape(len(x), -1).numpy()
    np.testing.assert_allclose(flat.mean(0), mean, atol=5 * math.sqrt(variance / len(x)))
    np.testing.assert_allclose(flat.var(0), variance, rtol=0.02)


def test_the_sample_that_errors_are_measured_on_is_of_the_noisy_data() -> None:
    x, level = noisy(TWO_MODES, 3.0)
    assert set(level.tolist()) == {3.0}
    assert float(x.var()) == pytest.approx(0.26 + 9, rel=0.1)


def ended(drift: Callable[[float, Array], Array], start: Array, sigma: float) -> Array:
    """Return where DOP853 arrives at sigma_min; log(sigma) is its time."""
    found = solve_ivp(
        lambda t, y: math.exp(t) * drift(math.exp(t), y), (math.log(sigma), math.log(LOW)), start, "DOP853",
        rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    return np.asarray(found.y[:, -1])


def drift_of_two_modes(s: float, y: Array) -> Array:
    """Return -s times the derivative of the log of 1/2 N(-1/2, 0.01 + s^2) + 1/2 N(1/2, 0.01 + s^2)."""
    v = 0.01 + s * s
    return s / v * (y - 0.5 * np.tanh(y * 0.5 / v))


def exact(data: Mixture, x: list[list[float]], sigma: float) -> Array:
    points = torch.tensor(x, dtype=torch.float64).reshape(-1, *data.event)
    return data.exact(points, sigma, sigma_min=LOW).reshape(len(x), -1).numpy()


@pytest.mark.parametrize("sigma", [LOW, 0.1, 1.0, 80.0])
def test_the_answer_for_a_point_is_the_line_towards_it(sigma: float) -> None:
    with mpmath.workdps(40):
        kept = mpmath.mpf(LOW) / mpmath.mpf(sigma)
        expected = [float(kept * x + (1 - kept) * xi) for x, xi in ((0.9, 0.5), (-3.0, -0.5))]
    np.testing.assert_allclose(exact(POINT, [[0.9, -3.0]], sigma)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 80.0])
def test_the_answer_for_a_normal_distribution_is_where_eq_1_ends(sigma: float) -> None:
    start, mean = np.array([0.9, -3.0]) * sigma, np.array([0.4, -0.3])
    expected = ended(lambda s, y: s * (y - mean) / (0.09 + s * s), start, sigma)
    np.testing.assert_allclose(exact(NORMAL, [start.tolist()], sigma)[0], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0, 80.0])
def test_the_answer_for_two_modes_is_where_eq_1_ends(sigma: float) -> None:
    starts = np.array([-2.5, -0.7, -0.01, 0.003, 0.4, 1.7]) * math.hypot(sigma, 0.5)
    expected = [ended(drift_of_two_modes, np.array([start]), sigma)[0] for start in starts]
    np.testing.assert_allclose(exact(TWO_MODES, starts[:, None].tolist(), sigma)[:, 0], expected, atol=3e-4)


def test_the_answer_for_two_modes_keeps_the_quantile() -> None:
    def distribution(x: float, s: float) -> float:
        return float((ndtr((x + 0.5) / math.hypot(0.1, s)) + ndtr((x - 0.5) / math.hypot(0.1, s))) / 2)

    starts = [-120.0, -30.0, 5.0, 70.0]
    shares = [distribution(x, HIGH) for x in starts]
    wanted = [brentq(lambda v, p=share: distribution(v, LOW) - p, -3.0, 3.0) for share in shares]
    np.testing.assert_allclose(exact(TWO_MODES, [[x] for x in starts], HIGH)[:, 0], wanted, atol=3e-4)


def test_at_sigma_min_the_answer_is_the_point_itself() -> None:
    for data in (NORMAL, TWO_MODES):
        x = [[0.3, 0.8][: len(data.means[0])]]
        np.testing.assert_allclose(exact(data, x, LOW), x, rtol=1e-15)


@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_the_posterior_mean_is_that_of_bayes(sigma: float) -> None:
    def weighed(y: float, x: float) -> float:
        prior = math.exp(-((y - 0.5) ** 2) / 0.02) + math.exp(-((y + 0.5) ** 2) / 0.02)
        return prior * math.exp(-((x - y) ** 2) / (2 * sigma**2))

    points = [-0.6, 0.1, 0.45]
    pieces = np.linspace(-2, 2, 81).tolist()
    wanted = [
        quad(lambda y, x=x: y * weighed(y, x), -2, 2, points=pieces, limit=500)[0]
        / quad(weighed, -2, 2, args=(x,), points=pieces, limit=500)[0]
        for x in points
    ]
    x = torch.tensor(points, dtype=torch.float64).reshape(-1, 1, 1, 1)
    got = TWO_MODES.posterior_mean(x, torch.full((3,), sigma, dtype=torch.float64))
    np.testing.assert_allclose(got.flatten().numpy(), wanted, rtol=1e-8)


def test_the_error_of_an_answer_that_is_off_by_a_vector_is_its_length() -> None:
    def off(x: Tensor, sigma: Tensor) -> Tensor:
        shift = torch.tensor([0.3, -0.4]).reshape(2, 1, 1)
        return (POINT.exact(x.double(), 1.0, sigma_min=LOW) + shift).float()

    assert rms_error(off, POINT, 1.0, sigma_min=LOW) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("data", "share"), [(POINT, 0.5), (NORMAL, 0.7), (TWO_MODES, 0.7)], ids=["point", "normal", "two modes"]
)
@pytest.mark.slow
def test_a_short_run_learns_much_of_the_answer(data: Mixture, share: float) -> None:
    tick = Counter()
    experiment = KnownAnswer("it", data, steps=200, batch_size=128, ema_decay=0.97)
    (table,) = experiment.run(tick)
    assert tick.count == experiment.updates == 200
    for trained_error, untrained_error, spread in list(
        zip(*map(table.column, ("trained", "untrained", "spread of f*")), strict=True)
    )[1:3]:
        assert trained_error < share * untrained_error
        if data is not POINT:
            # Neither the posterior mean nor a constant does as well.
            assert trained_error < spread
    if data is not POINT:
        assert table.column("trained")[2] < table.column("posterior mean")[2]


def levels_by_mpmath(n: int) -> list[mpmath.mpf]:
    a, b = mpmath.mpf(LOW) ** (mpmath.mpf(1) / 7), mpmath.mpf(HIGH) ** (mpmath.mpf(1) / 7)
    return [(a + mpmath.mpf(i) / (n - 1) * (b - a)) ** 7 for i in range(n)]


@pytest.mark.parametrize("n", [2, 6, 81])
def test_the_minimising_slope_is_the_product_of_the_regressions(n: int) -> None:
    with mpmath.workdps(30):
        sigmas, slope = levels_by_mpmath(n), mpmath.mpf(1)
        for low, high in pairwise(sigmas):
            # Cov(x_i, x_{i+1}) / Var(x_{i+1}), where x_i = x_0 + sigma_i z.
            slope *= (mpmath.mpf(1) / 4 + low * high) / (mpmath.mpf(1) / 4 + high**2)
    got = minimising_slope(n, std=0.5, sigma_min=LOW, sigma_max=HIGH)
    assert got == pytest.approx(float(slope), rel=1e-10)


@pytest.mark.parametrize("c", [0.03, 10.0])
def test_the_minimising_slope_minimises_the_pseudo_huber_loss_of_a_sample(c: float) -> None:
    rng = np.random.default_rng(0)
    x, z = 0.5 * rng.standard_normal(400_000), rng.standard_normal(400_000)
    levels = [float(s) for s in levels_by_mpmath(4)]
    slope = 1.0
    for low, high in pairwise(levels):
        teacher, noisier = slope * (x + low * z), x + high * z

        def loss(a: float, teacher: Array = teacher, noisier: Array = noisier) -> float:
            return float(np.sqrt((a * noisier - teacher) ** 2 + c * c).mean())

        slope = float(minimize_scalar(loss, bounds=(0.0, 1.5), method="bounded", options={"xatol": 1e-9}).x)
    assert minimising_slope(4, std=0.5, sigma_min=LOW, sigma_max=HIGH) == pytest.approx(slope, rel=0.02)


def test_the_minimisers_error_falls_as_one_over_the_number_of_cells() -> None:
    # The exact slope is sqrt((s^2 + sigma_min^2) / (s^2 + sigma_max^2)).
    limit = math.sqrt((0.25 + LOW**2) / (0.25 + HIGH**2))
    counts = [501, 1001, 2001, 4001]
    errors = [abs(minimising_slope(n, std=0.5, sigma_min=LOW, sigma_max=HIGH) - limit) for n in counts]
    assert power([float(n) for n in counts], errors) == pytest.approx(-1, abs=0.01)


def test_the_power_of_a_power_law_is_found() -> None:
    counts = [3.0, 5.0, 17.0]
    assert power(counts, [4 * (n - 1) ** -0.7 for n in counts]) == pytest.approx(-0.7, rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_more_levels_are_learned_better() -> None:
    tick = Counter()
    experiment = Levels(counts=(4, 31), steps=220, batch_size=128, ema_decay=0.97)
    found, slopes = experiment.run(tick)
    assert tick.count == experiment.updates == 440
    few, many = found.column("trained")
    assert many < 0.75 * few
    # With four levels what is learned is the minimiser at four levels, which is far from f*.
    assert found.column("trained - minimiser")[0] < 0.5 * few
    assert slopes.column("slope")[0] < -0.1


def toy_by_mpmath(theta: float, minus: float, xi: float, cells: int) -> tuple[float, float]:
    """Return the mean over cells of the squared difference, z dropped, and 1/Delta sigma times its derivative."""
    with mpmath.workdps(30):
        a, t, m, x = map(mpmath.mpf, (LOW, theta, minus, xi))
        step = (mpmath.mpf(HIGH) - a) / cells
        loss = slope = mpmath.mpf(0)
        for i in range(cells):
            low, high = a + i * step, a + (i + 1) * step
            difference = (a / high * x + (1 - a / high) * t) - (a / low * x + (1 - a / low) * m)
            loss += difference**2 / cells
            slope += 2 * difference * (1 - a / high) / cells
        return float(loss), float(slope / step)


@pytest.mark.parametrize("minus", [1.0, 1.5])
@pytest.mark.parametrize("xi", [0.35, -2.0])
@pytest.mark.parametrize("cells", [1, 10, 300])
def test_the_toy_models_loss_and_gradient_are_the_sums_over_cells(minus: float, xi: float, cells: int) -> None:
    got = toy_gradient(1.5, minus, xi=xi, n=cells + 1)
    assert got == pytest.approx(toy_by_mpmath(1.5, minus, xi, cells), rel=1e-9)


def test_proposition_1_shows_at_finite_n() -> None:
    tick = Counter()
    table = TeacherEMA(intervals=(10, 1000, 1_000_000)).gradients(tick)
    assert tick.count == 3
    *losses, apart, near, far = ([float(row[k]) for row in table.rows] for k in range(1, 6))
    with mpmath.workdps(30):
        points = [LOW * (HIGH / LOW) ** (k / 8) for k in range(9)]
        square = float(mpmath.quad(lambda s: (1 - LOW / s) ** 2, points) / (HIGH - LOW))
        slope = float(mpmath.quad(lambda s: LOW / s**2 * (1 - LOW / s), points) / (HIGH - LOW))
    for loss in losses:  # of either point xi, the same limit
        assert loss[-1] == pytest.approx(0.25 * square, rel=1e-9)
        assert abs(loss[2] - loss[-1]) < 1e-3 * abs(loss[0] - loss[-1])
    assert abs(losses[0][0] - losses[1][0]) > 1  # where at N = 11 they differ
    assert apart[1] > 50 * apart[0]
    assert apart[2] > 500 * apart[1]
    assert apart[-1] == math.inf
    for found, xi in ((near, 0.35), (far, -2.0)):
        assert found[-1] == pytest.approx(2 * slope * (1.5 - xi), rel=1e-9)
        assert found[2] == pytest.approx(found[-1], rel=0.02)


@pytest.mark.usefixtures("unchecked")
def test_the_toy_model_finds_the_point_without_ema_and_with_it_the_less_the_more_levels_there_are() -> None:
    def far(n: int, mu: float) -> float:
        return abs(toy_training(xi=0.35, n=n, steps=1000, learning_rate=0.005, mu=mu) - 0.35)

    few, many, few_by_average, many_by_average = far(11, 0.0), far(301, 0.0), far(11, 0.99), far(301, 0.99)
    assert max(few, many) < 0.1
    assert 0.3 < few_by_average < 0.9 < many_by_average


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_the_network_learns_a_point_worse_from_an_average() -> None:
    tick = Counter()
    experiment = TeacherEMA(counts=(21,), steps=150, ema_decay=0.95)
    table = experiment.network(tick)
    assert tick.count == 450
    none, constant, of_ct = (table.column(name)[0] for name in table.columns[1:])
    assert none < 0.4 * constant
    assert none < 0.4 * of_ct


def vector(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])


def test_the_teachers_rate_is_the_one_that_the_column_names() -> None:
    # Measured: in one update the teacher, at first equal to the student, goes 1 - mu of its way.
    rates = []

    class Spied(Trainer):
        def update(self) -> None:
            if self.teacher is not None:
                before = vector(self.teacher)
                super().update()
                moved, whole = (vector(model) - before for model in (self.teacher, self.student))
                rates.append(1 - float(moved.norm() / whole.norm()))
            else:
                super().update()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ict_ref.experiments.runs.Trainer", Spied)
        TeacherEMA(counts=(21,), steps=1).network(lambda: None)
    assert rates == pytest.approx([0.99, 0.9 ** (2 / 21)], abs=1e-4)


def test_the_first_update_is_the_learning_rate_times_the_gradient() -> None:
    # RAdam's first updates are those of momentum, whose average is corrected to the gradient itself.
    config = on_digits("squared_l2", 8, 0, 20)
    gradient, update = norms(config, load(config.data).train, Counter())
    assert len(gradient) == len(update) == 8
    assert float(update[0]) == pytest.approx(config.train.learning_rate * float(gradient[0]), rel=1e-4)


def test_variation_has_no_scale_and_no_drift() -> None:
    # The logarithm of 3^k 2^(+-1), alternating, changes by log 3 +- 2 log 2: deviation 2 log 2 sqrt(n / (n - 1)).
    norm = torch.tensor([7.0 * 3.0**k * 2.0 ** (-1) ** k for k in range(9)], dtype=torch.float64)
    assert variation(norm) == pytest.approx(2 * math.log(2) * math.sqrt(8 / 7), rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_gradients_vary_less_under_the_pseudo_huber_metric() -> None:
    tick = Counter()
    experiment = Huber(seeds=(3,), steps=160)
    (table,) = experiment.run(tick)
    assert tick.count == experiment.updates == 320
    ((seed, huber, l2, ratio, *_),) = table.rows
    assert seed == 3
    assert float(ratio) == pytest.approx(float(l2) / float(huber))
    assert float(ratio) > 1.1


def test_both_metrics_see_the_same_start() -> None:
    huber, l2 = on_digits("pseudo_huber", 3, 5, 10), on_digits("squared_l2", 3, 5, 10)
    assert huber.train == l2.train
    assert huber.network == l2.network
    assert dataclasses.replace(huber.method, distance="squared_l2") == l2.method


class Tiny:
    """An experiment of two updates."""

    updates = 2

    def run(self, tick: Callable[[], object]) -> list[Table]:
        tick()
        tick()
        return [Table("tiny", ("N", "value"), ((2, 0.123456), ("limit", math.inf)), "A note.")]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ict_ref.experiments.catalogue.EXPERIMENTS", {"delta": Tiny(), "huber": Tiny()})


@pytest.mark.usefixtures("tiny")
def test_tables_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "delta", "--json", str(tmp_path / "found.json")]) == 0
    assert capsys.readouterr().out == "tiny\n    N   value\n    2  0.1235\nlimit     inf\nA note.\n\n"
    found = json.loads((tmp_path / "found.json").read_text())
    row = {"title": "tiny", "columns": ["N", "value"], "rows": [[2, 0.123456], ["limit", "inf"]]}
    assert found == {"delta": [row]}


@pytest.mark.usefixtures("tiny")
def test_without_names_all_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    assert capsys.readouterr().out.count("A note.") == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--only", "no-such"],
            "--only: expected one of delta, gaussian, mixture, levels, teacher-ema, huber, deviations, got no-such",
        ),
        (
            ["--only"],
            "--only: expected one of delta, gaussian, mixture, levels, teacher-ema, huber, deviations, got nothing",
        ),
        (["--josn", "x"], "unknown option --josn; perhaps you meant --json"),
        (["--json", "old.json"], "Existing files are not overwritten"),
        (["--json", "dangling.json"], "Existing files are not overwritten"),
        (["--json", "nowhere/found.json"], "Make the folder first"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.json").write_text("mine")
    Path("dangling.json").symlink_to("nothing")
    assert command.main(arguments) == 2
    assert said in rejection(capsys, "ict_ref.experiments")
    assert Path("old.json").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.json", "old.json"]


def test_help_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    shown = capsys.readouterr().out
    assert get_args(Name) == tuple(EXPERIMENTS)
    for name, experiment in EXPERIMENTS.items():
        assert isinstance(experiment, Experiment)
        assert f"  {name}  " in shown


def test_a_run_can_be_made_again() -> None:
    def parameters() -> Tensor:
        config = configuration(
            Method(curriculum="constant", s1=40), steps=3, batch_size=8, learning_rate=1e-3, ema_decay=0.5
        )
        return vector(trained(config, NORMAL, Counter()).ema)

    assert torch.equal(parameters(), parameters())
    assert rms(torch.zeros(3, 2, 1, 1)) == 0.0
