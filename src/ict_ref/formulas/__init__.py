"""The formulas of improved consistency training and its successors, as pure functions in one flat namespace.

Keys in `Source:` lines: iCT = Song & Dhariwal 2023, arXiv:2310.14189; CM = Song et al. 2023, arXiv:2303.01469; EDM =
Karras et al. 2022, arXiv:2206.00364. Successors: ECT = Geng et al. 2024, arXiv:2406.14548; sCM =
Lu & Song 2024, arXiv:2410.11081; TCM = Lee et al. 2024, arXiv:2410.14895; sLCT = Dao et al. 2025, arXiv:2502.01441.

`glossary.py` defines each argument name: one name has one meaning in all functions.

The functions do not draw random numbers, read files or use a configuration: noise, uniforms and indices are arguments.
Schedules are float64; everything else computes in the dtype of its arguments. Hyper-parameters are keywords. A default
is the value that the paper uses in all its experiments.

Noise levels, indices, probabilities and hyper-parameters outside a formula's domain raise a ValueError. Its message
names the symbol, its source and the value. Values of tensors are checked on the CPU only, outside `torch.compile` and
`torch.func.vmap`.

Image tensors and network outputs are not validated; NaNs in x or z propagate. `slerp`, the mixture's score and the
statistics of features would spread a NaN to all examples, so they reject it.
"""

from ict_ref.formulas.consistency_tuning import (
    adaptive_weights,
    consistency_tuning_loss,
    ect_exponent,
    ect_mapping,
    gap_weights,
    lognormal_level,
    snr_weights,
)
from ict_ref.formulas.continuous import (
    continuous_consistency_distillation_loss,
    continuous_consistency_training_loss,
)
from ict_ref.formulas.curriculum import (
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
    linear_curriculum,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
)
from ict_ref.formulas.distance import cauchy, l1, l2, pseudo_huber, pseudo_huber_constant, squared_l2
from ict_ref.formulas.editing import (
    Operator,
    colorization_mask,
    colorization_operator,
    denoise,
    edit,
    inpainting_operator,
    slerp,
    stroke_edit,
    super_resolution_mask,
    super_resolution_operator,
)
from ict_ref.formulas.objective import (
    ConsistencyFunction,
    Distance,
    consistency_matching_loss,
    consistency_training_loss,
    ema_update,
)
from ict_ref.formulas.ode import ScoreFunction, euler_step, heun_step, probability_flow_drift
from ict_ref.formulas.parameterization import (
    boundary_parameterization,
    c_in,
    c_noise,
    c_out,
    c_skip,
    fourier_embedding,
    positional_embedding,
)
from ict_ref.formulas.sampling import multistep_sample, one_step_sample, renoise, search_intermediate_sigma
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
from ict_ref.formulas.statistics import frechet_distance, inception_score, kernel_distance, precision_recall
from ict_ref.formulas.theory import (
    ct_gradient_divergence,
    ct_gradient_divergent_term,
    ct_gradient_leading_term,
    ct_gradient_limit,
    ct_loss_limit,
    delta_consistency_function,
    gaussian_consistency_function,
    gaussian_mixture_score,
)
from ict_ref.formulas.trigflow import (
    adaptive_weighting,
    normalized_tangent,
    scm_loss,
    tangent_warmup,
    trigflow_difference,
    trigflow_interpolant,
    trigflow_level,
    trigflow_parameterization,
    trigflow_sample,
    trigflow_step,
    trigflow_tangent,
    trigflow_time,
    trigflow_time_density,
    trigflow_velocity,
)
from ict_ref.formulas.truncation import (
    log_student_t_density,
    log_student_t_level,
    truncated,
    truncated_weights,
)

__all__ = [
    "ConsistencyFunction",
    "Distance",
    "Operator",
    "ScoreFunction",
    "adaptive_weighting",
    "adaptive_weights",
    "boundary_parameterization",
    "c_in",
    "c_noise",
    "c_out",
    "c_skip",
    "cauchy",
    "colorization_mask",
    "colorization_operator",
    "consistency_matching_loss",
    "consistency_training_loss",
    "consistency_tuning_loss",
    "constant_curriculum",
    "continuous_consistency_distillation_loss",
    "continuous_consistency_training_loss",
    "cosine_curriculum",
    "ct_gradient_divergence",
    "ct_gradient_divergent_term",
    "ct_gradient_leading_term",
    "ct_gradient_limit",
    "ct_loss_limit",
    "delta_consistency_function",
    "denoise",
    "ect_exponent",
    "ect_mapping",
    "edit",
    "ema_update",
    "euler_step",
    "exponential_curriculum",
    "fourier_embedding",
    "frechet_distance",
    "gap_weights",
    "gaussian_consistency_function",
    "gaussian_mixture_score",
    "heun_step",
    "inception_score",
    "index_from_uniform",
    "inpainting_operator",
    "inverse_gap_weights",
    "kernel_distance",
    "l1",
    "l2",
    "linear_curriculum",
    "log_sigma_density",
    "log_student_t_density",
    "log_student_t_level",
    "lognormal_density",
    "lognormal_level",
    "lognormal_pmf",
    "multistep_sample",
    "normalized_tangent",
    "one_step_sample",
    "positional_embedding",
    "precision_recall",
    "probability_flow_drift",
    "pseudo_huber",
    "pseudo_huber_constant",
    "renoise",
    "scm_loss",
    "search_intermediate_sigma",
    "sigma_grid",
    "slerp",
    "snr_weights",
    "sqrt_curriculum",
    "square_curriculum",
    "squared_l2",
    "stroke_edit",
    "super_resolution_mask",
    "super_resolution_operator",
    "tangent_warmup",
    "teacher_ema_decay",
    "trigflow_difference",
    "trigflow_interpolant",
    "trigflow_level",
    "trigflow_parameterization",
    "trigflow_sample",
    "trigflow_step",
    "trigflow_tangent",
    "trigflow_time",
    "trigflow_time_density",
    "trigflow_velocity",
    "truncated",
    "truncated_weights",
    "uniform_pmf",
    "uniform_weights",
]
