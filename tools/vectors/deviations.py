"""The known deviations: the function, the description, the effect on training, and where each was seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.vectors import deviations_ect as ect
from tools.vectors import deviations_model as model
from tools.vectors import deviations_schedule as schedule
from tools.vectors import deviations_tcm as tcm
from tools.vectors import deviations_trigflow as trigflow


@dataclass(frozen=True)
class Deviation:
    """One known deviation, and the function that computes it (which returns None if it does not have a value)."""

    function: str
    compute: Callable[..., Any]
    what: str
    effect: str
    seen_in: str


DEVIATIONS: dict[str, Deviation] = {
    "Float32Grid": Deviation(
        "sigma_grid", schedule.float32_grid, "the levels are kept in float32",
        "sigma_1 and sigma_N are not the ends: the sampler takes the root of a negative number at the last level",
        "three public codes"
),
    "DescendingGrid": Deviation(
        "sigma_grid", schedule.descending_grid, "the levels run from sigma_max down",
        "probabilities and weights of ascending intervals then go to the wrong noise levels",
        "both authors' codes, each consistently"
),
    "RatioNotFloored": Deviation(
        "exponential_curriculum", schedule.ratio_not_floored, "the logarithm is of s1/s0, not of its floor",
        "the number of levels doubles too early where s1/s0 is not a whole number", "a literal reading of Eq. (9)"
),
    "FloatLevels": Deviation(
        "exponential_curriculum", schedule.float_levels, "a float power makes the number of levels a float",
        "range(N) fails, and a float type leaks into indices", "three public codes"
),
    "FloatLog2": Deviation(
        "exponential_curriculum", schedule.float_log2, "log2 is a quotient of logarithms in doubles",
        "K' is one too small for some ratios that are powers of 2", "public codes that call log(x, 2)"
),
    "PrintedTable1": Deviation(
        "sqrt_curriculum", schedule.printed_table1, "the root stops at k/K, as Table 1 prints it",
        "N grows to 22 801 instead of 151, and begins at 4 instead of 2", "literal copies of the table"
),
    "NoPlusOne": Deviation(
        "sqrt_curriculum", schedule.no_plus_one, "s1^2 replaces (s1 + 1)^2",
        "the last number of levels is s1, not s1 + 1", "three public codes"
),
    "NoCeilShift": Deviation(
        "sqrt_curriculum", schedule.no_ceil_shift, "the + 1 behind the rounded root is lost",
        "one level too few at every step", "one public code"
),
    "LevelsForCells": Deviation(
        "uniform_pmf", schedule.levels_for_intervals, "one probability per level, not per interval between two levels",
        "the last level can be drawn as i, and sigma_{i+1} does not exist", "the paper's own Eq. (10) read literally"
),
    "MeanSign": Deviation(
        "lognormal_pmf", schedule.mean_sign, "P_mean is +1.1",
        "the probability moves to levels ten times higher", "one public code's documentation"
),
    "MirroredPmf": Deviation(
        "lognormal_pmf", schedule.mirrored_pmf, "the probabilities belong to intervals counted from sigma_max down",
        "the largest noise is drawn as often as the smallest should be", "codes that mix both orders"
),
    "Float32Erf": Deviation(
        "lognormal_pmf", schedule.float32_erf, "the error function is kept in float32 before the difference",
        "the difference cancels: intervals in the tails are off by up to 1e-3", "four public codes"
),
    "UntruncatedPmf": Deviation(
        "lognormal_pmf", schedule.untruncated_pmf, "the law is not cut to [sigma_min, sigma_max]",
        "0.8 % of the probability is missing, or is drawn outside the range", "two public codes"
),
    "CellsFromTheTop": Deviation(
        "index_from_uniform", schedule.intervals_from_the_top, "intervals are counted from sigma_max down",
        "probabilities meant for low noise go to high noise", "codes that mix both orders"
),
    "LeftSearch": Deviation(
        "index_from_uniform", schedule.left_search, "a u at an edge goes to the interval below it",
        "intervals of probability 0 can be drawn", "the default of search routines"
),
    "DensityMeanSign": Deviation(
        "lognormal_density", schedule.density_mean_sign, "P_mean is +1.1",
        "the mode is at sigma = 3 instead of 0.33", "one public code's documentation"
),
    "EdmSkip": Deviation(
        "c_skip", model.edm_skip, "sigma_min is forgotten", "c_skip(sigma_min) is not 1: the boundary condition fails",
        "three public codes"
),
    "SigmaInCOut": Deviation(
        "c_out", model.sigma_in_c_out, "sigma replaces sigma - sigma_min",
        "f(x, sigma_min) is x plus 0.002 of the network's output", "two public codes"
),
    "DiffusersScalings": Deviation(
        "c_out", model.diffusers_scalings, "neither sigma_min nor the factor sigma_data is there",
        "c_out is twice too large at high noise, and not 0 at sigma_min", "one public training script"
),
    "SquaredCIn": Deviation(
        "c_in", model.squared_c_in, "the root is forgotten",
        "the network's input has a standard deviation from 2 down to 0.0125 instead of 1", "one public training script"
),
    "RawSigmaNoise": Deviation(
        "c_noise", model.raw_sigma_noise, "the network gets sigma, not log(sigma) / 4",
        "neighbouring low levels look the same to it", "eight public codes"
),
    "ScaledNoise": Deviation(
        "c_noise", model.scaled_noise, "log(sigma) / 4 is multiplied by 1000",
        "the embedding is about 1000 times more sensitive than the paper recommends", "four public codes"
),
    "EdmCoefficients": Deviation(
        "boundary_parameterization", model.edm_coefficients, "c_skip and c_out are those of diffusion models",
        "the boundary is at sigma = 0, and f(x, sigma_min) is not x", "three public codes"
),
    "NoInputScaling": Deviation(
        "boundary_parameterization", model.no_input_scaling, "the network gets x, not c_in x",
        "its input has a standard deviation from 0.5 to 80", "eight public codes"
),
    "RawSigmaEmbedded": Deviation(
        "boundary_parameterization", model.raw_sigma_embedded, "the network gets sigma, not c_noise(sigma)",
        "neighbouring low levels look the same to it", "eight public codes"
),
    "ClampedOutput": Deviation(
        "boundary_parameterization", model.clamped_output, "f is cut to [-1, 1] inside the loss",
        "no gradient wherever f leaves that range", "two public codes"
),
    "CosineFirst": Deviation(
        "fourier_embedding", model.cosine_first, "cosines come before sines",
        "weights of the other order load, and read a permuted code", "public codes with the other order"
),
    "CosSinOrder": Deviation(
        "positional_embedding", model.cos_sin_order, "sines come before cosines",
        "weights of the other order load, and read a permuted code", "one of the authors' codes"
),
    "HalfMinusOne": Deviation(
        "positional_embedding", model.half_minus_one, "the exponent is divided by h - 1, not by h",
        "every frequency but the first is too low", "one of the authors' codes"
),
    "Elementwise": Deviation(
        "pseudo_huber", model.elementwise, "the norm is taken per value, then averaged",
        "c is sqrt(d) times too large, 55 times for CIFAR-10: squared l2 almost everywhere", "nine public codes"
),
    "ElementwiseSum": Deviation(
        "pseudo_huber", model.elementwise_sum, "the norm is taken per value, then summed",
        "c is sqrt(d) times too large, and the loss up to sqrt(d) times", "some of the nine codes of Elementwise"
),
    "CancelledHuber": Deviation(
        "pseudo_huber", model.cancelled_huber, "root and c are subtracted as printed, in floating point",
        "small differences lose their digits, or become 0", "every literal copy of Eq. (8)"
),
    "MeanReduction": Deviation(
        "squared_l2", model.mean_reduction, "the mean of the squares, not their sum",
        "the loss is d times too small", "both authors' codes"
),
    "UnsquaredNorm": Deviation(
        "squared_l2", model.unsquared_norm, "the norm is not squared",
        "the gradient has length 1 however small the difference", "one of the authors' codes"
),
    "L1MeanReduction": Deviation(
        "l1", model.l1_mean_reduction, "the mean of the absolute values, not their sum",
        "the loss is d times too small", "both authors' codes"
),
    "HardCodedC": Deviation(
        "pseudo_huber_constant", model.hard_coded_c, "c is 0.06 for every size of image",
        "wrong for every size but 64 x 64", "one public code"
),
    "TeacherAtHigherLevel": Deviation(
        "consistency_matching_loss", model.teacher_at_higher_level, "the teacher gets sigma_{i+1}",
        "the teacher takes Euler's point for a noisier one", "a hazard in codes with two index orders"
),
    "SwappedLevels": Deviation(
        "consistency_training_loss", model.swapped_levels, "the student is at sigma_i, the teacher at sigma_{i+1}",
        "the boundary condition does not reach the teacher, and errors travel the wrong way",
        "a hazard in codes with two index orders"
),
    "SameNoise": Deviation(
        "consistency_training_loss", model.same_noise, "the noisier point is made with the lower level",
        "student and teacher get the same point under two names", "one public code before a fix"
),
    "MultiplicativeNoise": Deviation(
        "consistency_training_loss", model.multiplicative_noise, "x sigma z replaces x + sigma z",
        "the noise hangs on the image, and black stays black", "one public code before a fix"
),
    "UpperLevelWeights": Deviation(
        "consistency_training_loss", model.upper_level_weights, "the weight is taken at the upper end of the interval",
        "invisible for 1 / (sigma_{i+1} - sigma_i) made from a pair, wrong for any other weight per level",
        "both authors' codes"
),
    "MirroredIndex": Deviation(
        "consistency_training_loss", model.mirrored_index, "i counts intervals from sigma_max down",
        "low noise is trained as often as high noise should be", "codes that mix both orders"
),
    "MinusSignContinuous": Deviation(
        "continuous_consistency_training_loss", model.minus_sign_continuous, "d/dsigma - z . d/dx",
        "the true consistency function does not make it 0", "one public code"
),
    "DroppedHessian": Deviation(
        "continuous_consistency_training_loss", model.dropped_hessian, "the distance's Hessian is left out",
        "half the gradient for squared l2, c times the gradient for pseudo-Huber", "one of the authors' codes"
),
    "SwappedEma": Deviation(
        "ema_update", model.swapped_ema, "ema and value are swapped",
        "the EMA weights never move from where they began, and the network is pulled back there", "two public codes"
),
    "RenoiseNotRooted": Deviation(
        "renoise", model.renoise_not_rooted, "sigma replaces sqrt(sigma^2 - sigma_min^2)",
        "too much noise: 15 % at twice sigma_min, all of it at sigma_min", "three public codes"
),
    "SigmaNotRooted": Deviation(
        "multistep_sample", model.sigma_not_rooted, "noise of level sigma is added, not of sqrt(sigma^2 - sigma_min^2)",
        "harmless at 0.821, 100 % too much at sigma_min", "three public codes"
),
    "ClampedSamples": Deviation(
        "multistep_sample", model.clamped_samples, "every sample is cut to [-1, 1]",
        "right for pictures as an option, wrong for any other data", "both authors' codes"
),
    "StaleTernary": Deviation(
        "search_intermediate_sigma", model.stale_ternary, "the last comparison returns the probes of the round before",
        "a neighbour of the best level, or nothing at all on short grids", "both authors' codes"
),
    "XNotTransformed": Deviation(
        "edit", model.x_not_transformed, "the sample is mixed in without being taken through A",
        "right for inpainting, wrong for colours and super-resolution", "one much copied public code"
),
    "MinusOneFill": Deviation(
        "edit", model.minus_one_fill, "the missing part of the first input is -1, not 0",
        "black holes where the algorithm has grey ones", "one of the authors' codes"
),
    "IndexForLevel": Deviation(
        "stroke_edit", model.index_for_level, "the first noise is scaled by a level's number, 0, not by the level",
        "the model gets a level of noise that the image does not have", "one of the authors' notebooks"
),
    "StrokeErased": Deviation(
        "stroke_edit", model.stroke_erased, "the mask of Algorithm 4 is 1 everywhere, and erases the strokes first",
        "the resulting picture does not contain the strokes", "a literal reading of the algorithm"
),
    "WholeBatchAngle": Deviation(
        "slerp", model.whole_batch_angle, "one angle is taken for the whole batch",
        "the result for one example depends on the others", "not seen yet, but likely"
),
    "PrintedEq13": Deviation(
        "ct_gradient_leading_term", model.printed_eq13, "(1 - sigma_min/sigma) is outside the mean, as printed",
        "about twice the gradient where sigma_max is far above sigma_min", "the paper's own Eq. (13)"
),
    "MappingAboveZero": Deviation(
        "ect_mapping", ect.mapping_above_zero, "r is at least 1e-6, never 0",
        "no pair is pure denoising; harmless where c_skip(1e-6) is 1 in the dtype of training", "one public code"
),
    "CeiledExponent": Deviation(
        "ect_exponent", ect.ceiled_exponent, "the exponent is max(1, ceil(k/d))",
        "every stage begins one update late", "the authors' code"
),
    "EpsilonNotSquared": Deviation(
        "adaptive_weights", ect.epsilon_not_squared, "c replaces c^2 under the exponent",
        "for c = 0.06 the weights stop growing at differences four times as large", "a literal reading of Eq. (19)"
),
    "TargetAboveZero": Deviation(
        "consistency_tuning_loss", ect.target_above_zero, "where r = 0 the target is the network at 1e-6, not x",
        "harmless for a network that is x at 1e-6; without that nothing ties it to the data", "one public code"
),
    "RmsTangent": Deviation(
        "normalized_tangent", trigflow.rms_tangent, "the root mean square of the tangent, not its norm",
        "c counts sqrt(d) times less, 55 times for 32x32 colour images, and the step is sqrt(d) times longer",
        "two public codes"
),
    "SigmaDataTwice": Deviation(
        "trigflow_tangent", trigflow.sigma_data_twice, "dF/dt has the factor sigma_data twice",
        "half of the network's change along the path is missing for sigma_data = 0.5", "one public code before a fix"
),
    "CosSinTwice": Deviation(
        "trigflow_tangent", trigflow.cos_sin_twice, "dF/dt has the factor cos(t) sin(t) twice",
        "at least half of the network's change along the path is missing, and most of it near both ends",
        "one public code"
),
    "WarmupByRoot": Deviation(
        "trigflow_tangent", trigflow.warmup_by_root, "cos(t) sqrt(1 - r^2 sin(t)^2) replaces cos(t)^2",
        "during the warm-up the diffusion term is larger at late times; none after it", "one public code"
),
    "DividedTwice": Deviation(
        "adaptive_weighting", trigflow.divided_twice, "the error is divided by d twice",
        "the learned weight is d times larger at its optimum, which it takes longer to reach", "one public code"
),
    "SecondPriorWeight": Deviation(
        "scm_loss", trigflow.second_prior_weight, "the error has the factor 1/sigma besides cos(t) in the tangent",
        "another path of the learned weight; its optimum cancels the factor", "two public codes"
),
    "StrictCut": Deviation(
        "truncated", tcm.strict_cut, "the cut itself belongs to f0",
        "the examples of the boundary loss send no gradient, and nothing ties f to f0", "not seen yet, but likely"
),
    "UnscaledLogLevel": Deviation(
        "log_student_t_level", tcm.unscaled_log_level, "log sigma itself has Student's distribution, without scale",
        "levels near the cut are drawn less often", "not seen yet, but likely"
),
    "OneMean": Deviation(
        "truncated_weights", tcm.one_mean, "one mean over the batch, with w_b for the examples at the cut",
        "the boundary loss counts less by the part of its examples in the batch", "not seen yet, but likely"
),
}  # fmt: skip
