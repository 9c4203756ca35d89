"""The experiments by name."""

from ict_ref.experiments.analytic_datasets import NORMAL, POINT, TWO_MODES
from ict_ref.experiments.answers import KnownAnswer
from ict_ref.experiments.huber import Huber
from ict_ref.experiments.levels import Levels
from ict_ref.experiments.runs import Experiment
from ict_ref.experiments.teacher_ema import TeacherEMA

EXPERIMENTS: dict[str, Experiment] = {
    "delta": KnownAnswer("delta", POINT, sigma_data=0.1),
    "gaussian": KnownAnswer("gaussian", NORMAL),
    "mixture": KnownAnswer("mixture", TWO_MODES),
    "levels": Levels(),
    "teacher-ema": TeacherEMA(),
    "huber": Huber(),
}
