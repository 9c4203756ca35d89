"""Small versions of the experiments behind Section 3's figures, in which their trends must show.

Oracles: NumPy and SciPy for distances, the presets for what runs differ in, and what each caption says in words.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ict_ref.config import PRESETS, Config
from ict_ref.experiments.analytic_datasets import NORMAL
from ict_ref.experiments.levels import Levels
from ict_ref.figures.ablations import MAKERS, Ablation
from ict_ref.figures.comparison import Comparison, verdict
from ict_ref.figures.counts import Counts
from ict_ref.figures.datasets import AnalyticDataset, Digits, FigureDataset
from ict_ref.figures.updates import Updates
from ict_ref.networks.dropout import Masks
from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.trainer import Trainer

COMPARISONS = {number: one for number, one in MAKERS.items() if isinstance(one, Comparison)}
# The runs of each figure, by the names of the presets; constants c are varied in 2b and 2c alone.
PAPERS = {
    "1b": {"Fourier scale 16": "fig1b_fourier_16", "Fourier scale 0.02": "fig1b_fourier_0.02"},
    "1c": {
        "CT, squared l2": "fig1c_l2",
        "+ weighting": "fig1c_weighting",
        "+ noise embedding": "fig1c_embedding",
        "+ dropout": "fig1c_dropout",
    },
    "2a": {"improved": "fig2a_l2", "improved, no EMA": "fig2a_l2_no_ema"},
    "2b": {"squared l2": "fig2b_l2", "pseudo-Huber, c = 0.03": "fig2b_huber"},
    "2c": {"squared l2": "fig2c_l2", "pseudo-Huber, c = 0.03": "fig2c_huber"},
    "3c": {name: f"fig3c_{name}" for name in ("exponential", "constant", "sqrt", "linear", "square", "cosine")},
    "4b": {"uniform": "fig4b_uniform", "lognormal": "fig4b_lognormal"},
}


class Counter:
    """Counts the updates that are reported to it."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def fields(config: Config) -> dict[str, Any]:
    """Return all fields of a configuration by their full names."""
    rooms = dataclasses.asdict(config)
    return {f"{room}.{name}": value for room, values in rooms.items() for name, value in values.items()}


def differing(one: Config, other: Config) -> set[str]:
    there = fields(other)
    return {name for name, value in fields(one).items() if value != there[name]}


def test_every_experiment_of_the_paper_s_figures_is_there() -> None:
    assert sorted(MAKERS) == ["1b", "1c", "2a", "2b", "2c", "3a", "3c", "4b", "6b"]
    for number, experiment in MAKERS.items():
        assert isinstance(experiment, Ablation)
        assert experiment.number == number
    assert sorted(COMPARISONS) == sorted(PAPERS)


@pytest.mark.parametrize("number", PAPERS)
def test_runs_differ_as_the_paper_s_do_and_in_nothing_else(number: str) -> None:
    figure = COMPARISONS[number]
    papers = {name: PRESETS[preset]() for name, preset in PAPERS[number].items()}
    assert papers.items() <= figure.runs.items()
    names = list(papers)
    for name in names:
        for other in names:
            small = figure.small(figure.runs[name]), figure.small(figure.runs[other])
            assert differing(*small) == differing(papers[name], papers[other])
    for name in figure.runs.keys() - papers.keys():
        assert name.startswith("pseudo-Huber, c = ")
        assert differing(figure.runs[name], papers["pseudo-Huber, c = 0.03"]) == {"method.huber_c"}
        assert figure.runs[name].method.huber_c == float(name.removeprefix("pseudo-Huber, c = "))
        assert differing(figure.small(figure.runs[name]), figure.small(papers["pseudo-Huber, c = 0.03"])) == {
            "method.huber_c"
        }


# What may be small: sizes, what goes with a short run, and what a caption says.
SMALL = {
    "data.name", "data.flip", "network.architecture", "network.width", "network.multipliers", "network.blocks",
    "network.attention_resolutions", "network.head_channels", "network.groups", "network.dropout",
    "network.dropout_max_resolution", "method.huber_c", "train.steps", "train.batch_size", "train.learning_rate",
    "train.ema_decay", "train.noise_shards", "train.precision", "machine.device", "record.milestone_stages",
}  # fmt: skip


@pytest.mark.parametrize("number", PAPERS)
def test_a_small_run_is_the_paper_s_but_for_its_size(number: str) -> None:
    figure = COMPARISONS[number]
    for paper in figure.runs.values():
        small = figure.small(paper)
        said = {f"method.{name}" for name in figure.method}
        assert differing(small, paper) <= SMALL | said
        assert small.network.dropout == pytest.approx(paper.network.dropout / 3)
    for name, value in figure.method.items():
        assert f"{name} = {value:g}" in figure.scale()


def test_c_is_the_paper_s_times_the_root_of_the_ratio_of_values() -> None:
    figure = COMPARISONS["2c"]
    # 8x8 grey against 32x32 in colour.
    assert figure.small(figure.runs["pseudo-Huber, c = 0.03"]).method.huber_c == pytest.approx(
        0.03 * 0.1443376, rel=1e-6
    )
    assert figure.small(figure.runs["squared l2"]).method.huber_c is None


def test_seeds_are_the_only_difference_between_repetitions() -> None:
    figure = COMPARISONS["1c"]
    paper = figure.runs["+ weighting"]
    assert differing(figure.small(paper, 0), figure.small(paper, 1)) == {"train.seed"}


class Fixed(ConsistencyModel):
    """A model that answers by a function; it has a parameter, for some ask for its dtype."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        torch.nn.Module.__init__(self)
        self.sigma_min, self.answer = 0.002, answer
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, masks: Masks | None = None) -> Tensor:
        assert labels is None
        assert masks is None
        assert set(sigma.tolist()) == {80.0}
        return self.answer(x)


def test_the_error_on_known_data_is_the_rms_distance_to_the_exact_function() -> None:
    # N(m, 0.3^2 I): f*(x, 80) keeps the share sqrt((0.09 + 0.002^2) / (0.09 + 80^2)) of x - m; off by (0.3, -0.4) more.
    mean, off = torch.tensor([0.4, -0.3]).reshape(2, 1, 1), torch.tensor([0.3, -0.4]).reshape(2, 1, 1)
    share = math.sqrt((0.09 + 0.002**2) / (0.09 + 6400))
    model = Fixed(lambda x: mean + share * (x - mean) + off)
    assert AnalyticDataset("it", NORMAL).error(model) == pytest.approx(0.5, rel=1e-5)


def test_the_error_on_digits_is_the_frechet_distance_of_one_step_samples_to_those_held_out() -> None:
    model = Fixed(lambda x: (x / 160).clamp(-0.9, 0.7))
    grey = load_digits(return_X_y=True)[0][2::3]
    real = np.round(grey * 255 / 16) / 127.5 - 1
    noise = [
        np.random.Generator(np.random.Philox(key=2**64, counter=[0, 0, k, 5])).standard_normal(64, dtype=np.float32)
        for k in range(len(real))
    ]
    made = np.round((np.clip(0.5 * np.array(noise, dtype=np.float64), -0.9, 0.7) + 1) * 127.5) / 127.5 - 1
    a, b = np.cov(made.T), np.cov(real.T)
    # The trace of (a b)^(1/2) is the sum of the roots of the eigenvalues; some pixels never vary.
    roots = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0))
    expected = np.square(made.mean(0) - real.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * roots.sum()
    assert Digits().error(model) == pytest.approx(float(expected), rel=1e-3)


def test_digits_are_learned_without_those_held_out() -> None:
    subject = Digits()
    assert subject.examples.event == (1, 8, 8)
    images, _ = subject.examples.batch(0, batch_size=1198, seed=0, rows=slice(None))
    grey = load_digits(return_X_y=True)[0]
    seen = np.round(np.delete(grey, np.s_[2::3], axis=0) * 255 / 16)
    assert sorted(images.reshape(1198, 64).sum(1).tolist()) == sorted(seen.sum(1).tolist())


@dataclasses.dataclass(frozen=True)
class Watched:
    """The normal distribution, whose error is what a test says of a model."""

    said: Callable[[ConsistencyModel], float]
    name: str = "watched data"
    measure: str = "what is said"
    examples: Any = NORMAL
    network: Any = AnalyticDataset("", NORMAL).network

    def error(self, model: ConsistencyModel) -> float:
        return self.said(model)


def watched(said: Callable[[ConsistencyModel], float], **changed: Any) -> Comparison:
    runs = {"a": PRESETS["fig2b_l2"](), "b": PRESETS["fig2a_l2"]()}
    options: dict[str, Any] = {"steps": 9, "batch_size": 4, "checks": 3, "seeds": (0, 1, 2), "method": {"s1": 3}}
    return Comparison("9z", "Something is claimed.", (("a", "b"),), runs, Watched(said), **(options | changed))


@pytest.mark.usefixtures("unchecked")
def test_a_curve_has_the_mean_error_of_the_average_over_the_seeds_at_even_steps() -> None:
    def mark(model: ConsistencyModel) -> float:
        return float(sum(parameter.detach().double().square().sum() for parameter in model.parameters()))

    expected = []
    figure = watched(mark)
    assert isinstance(figure.subject, FigureDataset)
    for paper in figure.runs.values():
        trainers = [Trainer(figure.small(paper, seed), NORMAL) for seed in (0, 1, 2)]
        points = []
        for step in range(1, 10):
            for trainer in trainers:
                trainer.update()
            if step in (3, 6, 9):
                points.append((step, sum(mark(trainer.ema) for trainer in trainers) / 3))
        expected.append(points)
    tick = Counter()
    (panel,) = figure.make(tick).panels
    assert tick.count == figure.updates == 2 * 3 * 9
    assert list(panel.curves) == ["a", "b"] == list(panel.marks)
    for curve, points in zip(panel.curves.values(), expected, strict=True):
        np.testing.assert_allclose(curve, points, rtol=1e-12)
    assert panel.curves["a"] != panel.curves["b"]


def test_a_curve_ends_where_a_run_diverges_and_all_updates_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer.update

    def failing(self: Trainer) -> None:
        if self.config.train.seed == 1 and self.config.method.mu0 is None and self.step == 7:
            raise FloatingPointError("the loss is nan")
        update(self)

    monkeypatch.setattr(Trainer, "update", failing)
    tick = Counter()
    figure = watched(lambda model: 1.0)
    (panel,) = figure.make(tick).panels
    assert panel.curves == {"a": ((3, 1), (6, 1)), "b": ((3, 1), (6, 1), (9, 1))}
    assert tick.count == figure.updates


def test_errors_are_measured_evenly_and_at_the_end_or_not_at_all() -> None:
    with pytest.raises(ValueError, match=r"checks: expected a divisor of 9 steps, got 2"):
        watched(lambda model: 1.0, checks=2)


def test_other_errors_of_a_run_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Trainer) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "update", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        watched(lambda model: 1.0).make(Counter())


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ((3.0, 2.0), (3.0, 2.2), "Here a ends at 2, b ends at 2.2: as in the paper."),
        ((1.0, 2.0), (3.0, 2.05), "Here a ends at 2, b ends at 2.05: level, not as in the paper."),
        ((1.0, 2.05), (3.0, 2.0), "Here a ends at 2.05, b ends at 2: level, not as in the paper."),
        ((1.0, 2.2), (3.0, 2.0), "Here a ends at 2.2, b ends at 2: the reverse of the paper."),
        ((1.0, 2.2), (1.0,), "Here a ends at 2.2, b diverges: as in the paper."),
        ((1.0,), (1.0, 2.2), "Here a diverges, b ends at 2.2: the reverse of the paper."),
    ],
)
def test_the_verdict_is_that_of_the_curves_ends(a: tuple[float, ...], b: tuple[float, ...], says: str) -> None:
    curves = {name: tuple((float(k), error) for k, error in enumerate(errors)) for name, errors in (("a", a), ("b", b))}
    assert verdict(curves, [("a", "b")]) == says


@pytest.mark.parametrize("number", COMPARISONS)
def test_every_expected_pair_is_of_curves_of_its_figure(number: str) -> None:
    figure = COMPARISONS[number]
    assert figure.expected
    assert {name for pair in figure.expected for name in pair} <= set(figure.runs)


def test_a_caption_says_what_is_claimed_and_both_scales() -> None:
    caption = watched(lambda model: 1.0).make(Counter()).caption
    assert caption.startswith("Something is claimed. Here a ends at 1, b ends at 1: level, not as in the paper. Here: ")
    assert "Here: watched data, 9 updates of 4 examples, s1 = 3, a third of the dropout" in caption
    assert "the mean of seeds 0, 1, 2" in caption
    assert "CIFAR-10, 400 000 updates of 512 images, FID" in caption
    assert "one seed" in watched(lambda model: 1.0, seeds=(0,)).scale()
    assert "sqrt(" not in caption
    assert "c times sqrt(64/3072)" in COMPARISONS["2c"].scale()
    assert "dropout" not in COMPARISONS["1b"].scale()


def ends(number: str, *names: str, **changed: Any) -> list[float]:
    """Return the last errors of some runs of a figure made smaller still."""
    figure = COMPARISONS[number]
    runs = {name: figure.runs[name] for name in names}
    expected = tuple(pair for pair in figure.expected if set(pair) <= set(names))
    small: dict[str, Any] = {"steps": 100, "batch_size": 8, "checks": 1, "seeds": (0,)} | changed
    (panel,) = dataclasses.replace(figure, runs=runs, expected=expected, **small).make(Counter()).panels
    return [curve[-1][1] for curve in panel.curves.values()]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_continuous_time_is_learned_with_the_less_sensitive_embedding_alone() -> None:
    # The error of the sensitive embedding is chaotic: in 300 steps it is 0.38 to 0.72, by seed and rounding.
    sensitive, less = ends("1b", "Fourier scale 16", "Fourier scale 0.02", steps=300, batch_size=64)
    # The best constant's error is sqrt(2) 0.3.
    assert sensitive > 0.85 * math.sqrt(2) * 0.3
    assert less < 0.75 * sensitive
    assert less < 0.75 * math.sqrt(2) * 0.3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.thorough  # four runs, which need their length
def test_weighting_improves_ct_much_and_the_embedding_a_little_and_dropout_does_nothing() -> None:
    l2, weighting, embedding, dropout = ends("1c", *PAPERS["1c"], steps=120, batch_size=16, method={"s1": 10})
    assert weighting < 0.95 * l2
    assert embedding < weighting
    assert dropout == pytest.approx(embedding, rel=0.01)
    assert dropout != embedding


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_removing_the_teacher_s_ema_improves_ct() -> None:
    with_ema, without = ends("2a", "improved", "improved, no EMA")
    assert without < 0.85 * with_ema


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_with_few_levels_pseudo_huber_is_behind_at_first() -> None:
    l2, huber = ends("2b", "squared l2", "pseudo-Huber, c = 0.03")
    assert huber > l2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_pseudo_huber_improves_on_squared_l2_and_becomes_it_where_c_is_large() -> None:
    l2, huber, large = ends("2c", "squared l2", "pseudo-Huber, c = 0.03", "pseudo-Huber, c = 3")
    assert huber < 0.9 * l2
    assert large == pytest.approx(l2, rel=0.02)
    assert large != l2


@pytest.mark.usefixtures("unchecked")
def test_a_constant_number_of_levels_is_ahead_at_first() -> None:
    growing, constant = ends("3c", "exponential", "constant", steps=50)
    assert constant < 0.7 * growing


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_the_lognormal_noise_schedule_is_ahead() -> None:
    uniform, lognormal = ends("4b", "uniform", "lognormal")
    assert lognormal < 0.95 * uniform


@pytest.mark.usefixtures("unchecked")
def test_more_levels_are_learned_better_and_the_caption_has_the_slopes() -> None:
    tick = Counter()
    experiment = Counts(Levels(counts=(4, 11, 31), steps=80, batch_size=128, ema_decay=0.97))
    figure = experiment.make(tick)
    assert tick.count == experiment.updates == 240
    (panel,) = figure.panels
    (n, errors), (_, least) = (np.array(curve).T for curve in panel.curves.values())
    assert n.tolist() == [4, 11, 31]
    assert (panel.x_scale, panel.y_scale) == ("log", "log")
    assert errors[2] < errors[1] < errors[0]
    assert (np.diff(least) < 0).all()
    slopes = np.diff(np.log(errors)) / np.diff(np.log(n - 1))
    assert f"{slopes[0]:.2f} up to N = 11 and {slopes[1]:.2f} from there on" in figure.caption
    assert f"{np.polyfit(np.log(n - 1), np.log(least), 1)[0]:.2f}. Here:" in figure.caption


@pytest.mark.usefixtures("unchecked")
def test_norms_have_mean_1_and_the_caption_has_how_much_they_vary() -> None:
    # That gradients vary less under pseudo-Huber is tested where the experiment is.
    tick = Counter()
    experiment = Updates(seeds=(3,), steps=40)
    figure = experiment.make(tick)
    assert tick.count == experiment.updates == 80
    gradients, updates = figure.panels
    variations = []
    for panel in (gradients, updates):
        assert list(panel.curves) == ["pseudo-Huber", "squared l2"]
        for curve in panel.curves.values():
            step, norm = np.array(curve).T
            assert step.tolist() == list(range(21, 41))
            assert norm.mean() == pytest.approx(1, rel=1e-9)
            variations.append(np.diff(np.log(norm)).std(ddof=1))
    for kind, (huber, l2) in (("gradients vary", variations[:2]), ("RAdam's updates", variations[2:])):
        ratio = l2 / huber
        words = "as in" if ratio > 1.05 else "the reverse of" if ratio < 1 / 1.05 else "not as in"
        found = re.search(rf"{kind} [a-z ]+, {words} the paper \(([\d.]+)\)", figure.caption)
        assert found is not None
        assert float(found[1]) == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("number", COMPARISONS)
def test_what_lpips_would_have_shown_is_said_to_be_missing(number: str) -> None:
    has_lpips = number in {"1c", "2a", "2b", "2c"}
    assert ("LPIPS" in COMPARISONS[number].note) == has_lpips


def test_a_figure_made_again_has_the_same_numbers() -> None:
    figure = dataclasses.replace(watched(lambda model: 1.0), subject=AnalyticDataset("it", NORMAL), seeds=(0,))
    assert figure.make(Counter()) == figure.make(Counter())
