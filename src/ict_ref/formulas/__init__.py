"""The formulas of improved consistency training, as pure functions in one flat namespace.

Keys in `Source:` lines: iCT = Song & Dhariwal 2023, arXiv:2310.14189; CM = Song et al. 2023, arXiv:2303.01469;
EDM = Karras et al. 2022, arXiv:2206.00364.

Nothing here draws a random number, reads a file or knows a configuration: noise, uniforms and indices are arguments.
Schedules are float64; everything else computes in the dtype that it gets. Hyper-parameters are keywords; those that
the paper fixes for all its experiments have its value as default. What lies outside a formula's domain is refused
with a ValueError that names the symbol, its source and the value.
"""

from ict_ref.formulas.curriculum import (
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
    linear_curriculum,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
)
from ict_ref.formulas.distance import l1, pseudo_huber, pseudo_huber_constant, squared_l2
from ict_ref.formulas.objective import (
    ConsistencyFunction,
    Distance,
    consistency_matching_loss,
    consistency_training_loss,
    ema_update,
)
from ict_ref.formulas.ode import ScoreFunction, euler_step, heun_step, probability_flow_drift
from ict_ref.formulas.parameterization import c_in, c_noise, c_out, c_skip, fourier_embedding, positional_embedding
from ict_ref.formulas.sampling import multistep_sample, one_step_sample
from ict_ref.formulas.schedule import (
    index_from_uniform,
    inverse_gap_weights,
    log_sigma_density,
    lognormal_density,
    lognormal_pmf,
    sigma_grid,
    uniform_pmf,
    uniform_weights,
)
from ict_ref.formulas.statistics import frechet_distance, precision_recall

__all__ = [
    "ConsistencyFunction",
    "Distance",
    "ScoreFunction",
    "c_in",
    "c_noise",
    "c_out",
    "c_skip",
    "consistency_matching_loss",
    "consistency_training_loss",
    "constant_curriculum",
    "cosine_curriculum",
    "ema_update",
    "euler_step",
    "exponential_curriculum",
    "fourier_embedding",
    "frechet_distance",
    "heun_step",
    "index_from_uniform",
    "inverse_gap_weights",
    "l1",
    "linear_curriculum",
    "log_sigma_density",
    "lognormal_density",
    "lognormal_pmf",
    "multistep_sample",
    "one_step_sample",
    "positional_embedding",
    "precision_recall",
    "probability_flow_drift",
    "pseudo_huber",
    "pseudo_huber_constant",
    "sigma_grid",
    "sqrt_curriculum",
    "square_curriculum",
    "squared_l2",
    "teacher_ema_decay",
    "uniform_pmf",
    "uniform_weights",
]
