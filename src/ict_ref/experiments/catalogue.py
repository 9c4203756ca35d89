"""The experiments by name."""

from ict_ref.experiments.analytic_datasets import NORMAL, POINT, TWO_MODES
from ict_ref.experiments.answers import KnownAnswer
from ict_ref.experiments.deviation_costs import DeviationCosts
from ict_ref.experiments.huber import Huber
from ict_ref.experiments.levels import Levels
from ict_ref.experiments.options import ExperimentOptions
from ict_ref.experiments.runs import Experiment
from ict_ref.experiments.teacher_ema import TeacherEMA

LONG = "deviations"
EXPERIMENTS: dict[str, Experiment] = {
    "delta": KnownAnswer("delta", POINT, sigma_data=0.1),
    "gaussian": KnownAnswer("gaussian", NORMAL),
    "mixture": KnownAnswer("mixture", TWO_MODES),
    "levels": Levels(),
    "teacher-ema": TeacherEMA(),
    "huber": Huber(),
    LONG: DeviationCosts(),
}


def chosen(options: ExperimentOptions) -> dict[str, Experiment]:
    """Return the experiments of these options: by default all but the long one."""
    if not options.only:
        return {name: experiment for name, experiment in EXPERIMENTS.items() if name != LONG}
    return {name: given(options) if name == LONG else EXPERIMENTS[name] for name in EXPERIMENTS if name in options.only}


def given(options: ExperimentOptions) -> DeviationCosts:
    """Return the experiment deviations with the given options."""
    default = DeviationCosts()
    return DeviationCosts(
        folder=options.runs or default.folder,
        seeds=options.seeds or default.seeds,
        steps=options.steps or default.steps,
    )
