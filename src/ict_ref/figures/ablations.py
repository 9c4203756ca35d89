"""The figures of Section 3 from experiments: small runs of about a minute, which are not evidence on images."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

from ict_ref.config import PRESETS, Config
from ict_ref.experiments.analytic_datasets import NORMAL
from ict_ref.experiments.runs import Tick
from ict_ref.figures.comparison import Comparison
from ict_ref.figures.counts import Counts
from ict_ref.figures.datasets import AnalyticDataset, Digits
from ict_ref.figures.updates import Updates
from ict_ref.utils.panel import Figure


@runtime_checkable
class Ablation(Protocol):
    """A figure from an experiment."""

    @property
    def number(self) -> str:
        """Return the figure's number, as in the paper."""

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""

    def make(self, tick: Tick) -> Figure:
        """Run the experiment and return its figure."""


def presets(legend: dict[str, str]) -> dict[str, Config]:
    """Return presets by name in the legend; `legend` maps that name to the preset's."""
    return {called: PRESETS[name]() for called, name in legend.items()}


def constants(preset: str, *values: float) -> dict[str, Config]:
    """Return this preset with each constant c, by name in the legend."""
    paper = PRESETS[preset]()
    return {f"pseudo-Huber, c = {c:g}": replace(paper, method=replace(paper.method, huber_c=c)) for c in values}


NO_LPIPS = "LPIPS is not run: it has weights that others publish."
CHOSEN = "The learning rate was chosen after looking at results (docs/figures.md)."
PLANE, DIGITS = AnalyticDataset("N((0.4, -0.3), 0.3^2 I) in the plane", NORMAL), Digits()

EMBEDDING = Comparison(
    "1b",
    "In the paper, continuous-time CT diverges with Fourier scale 16 and is learned with 0.02.",
    (("Fourier scale 0.02", "Fourier scale 16"),),
    presets({"Fourier scale 16": "fig1b_fourier_16", "Fourier scale 0.02": "fig1b_fourier_0.02"}),
    PLANE,
    steps=600,
    batch_size=128,
    learning_rate=1e-2,
)
IMPROVEMENTS = Comparison(
    "1c",
    "In the paper, weighting, the less sensitive noise embedding and dropout each improve CT with squared l2.",
    (("+ weighting", "CT, squared l2"), ("+ noise embedding", "+ weighting"), ("+ dropout", "+ noise embedding")),
    presets(
        {
            "CT, squared l2": "fig1c_l2",
            "+ weighting": "fig1c_weighting",
            "+ noise embedding": "fig1c_embedding",
            "+ dropout": "fig1c_dropout",
        }
    ),
    DIGITS,
    method={"s1": 18},
    note=NO_LPIPS,
)
TEACHER_EMA = Comparison(
    "2a",
    "In the paper, removing the teacher's EMA improves CT with squared l2.",
    (("improved, no EMA", "improved"),),
    presets({"improved": "fig2a_l2", "improved, no EMA": "fig2a_l2_no_ema"}),
    DIGITS,
    method={"s1": 18},
    note=NO_LPIPS,
)
FEW_LEVELS = Comparison(
    "2b",
    "In the paper, with few noise levels, pseudo-Huber distances improve on squared l2.",
    (("pseudo-Huber, c = 0.03", "squared l2"),),
    presets({"squared l2": "fig2b_l2"}) | constants("fig2b_huber", 0.03, 0.3, 3.0),
    DIGITS,
    steps=500,
    learning_rate=1.5e-3,
    ema_decay=0.985,
    note=f"{CHOSEN} {NO_LPIPS}",
)
MANY_LEVELS = Comparison(
    "2c",
    "In the paper, with more noise levels, pseudo-Huber distances improve on squared l2, and c = 0.03 is best.",
    (
        ("pseudo-Huber, c = 0.03", "squared l2"),
        ("pseudo-Huber, c = 0.03", "pseudo-Huber, c = 0.003"),
        ("pseudo-Huber, c = 0.03", "pseudo-Huber, c = 3"),
    ),
    presets({"squared l2": "fig2c_l2"}) | constants("fig2c_huber", 0.003, 0.03, 0.3, 3.0),
    DIGITS,
    steps=500,
    learning_rate=1.5e-3,
    ema_decay=0.985,
    note=f"{CHOSEN} {NO_LPIPS}",
)
CURRICULA = Comparison(
    "3c",
    "In the paper, the exponential curriculum is best.",
    tuple(("exponential", name) for name in ("constant", "sqrt", "linear", "square", "cosine")),
    presets({name: f"fig3c_{name}" for name in ("exponential", "constant", "sqrt", "linear", "square", "cosine")}),
    DIGITS,
    method={"huber_c": 0.3},
)
NOISE_SCHEDULES = Comparison(
    "4b",
    "In the paper, the lognormal noise schedule improves on the uniform one.",
    (("lognormal", "uniform"),),
    presets({"uniform": "fig4b_uniform", "lognormal": "fig4b_lognormal"}),
    DIGITS,
    steps=500,
    learning_rate=1.5e-3,
    ema_decay=0.985,
    seeds=(0, 1),
    note=CHOSEN,
)
FIGURES: tuple[Ablation, ...] = (
    EMBEDDING, IMPROVEMENTS, TEACHER_EMA, FEW_LEVELS, MANY_LEVELS, Counts(), CURRICULA, NOISE_SCHEDULES, Updates()
)  # fmt: skip
MAKERS: dict[str, Ablation] = {figure.number: figure for figure in FIGURES}
