"""The names of the arguments of all formulas: one name has one meaning.

An entry begins with the paper's symbol where the paper has one. The paper's index i = 1, ..., N - 1 counts intervals of
the grid.
"""

GLOSSARY = {
    # examples and noise
    "x": "a batch of examples, with or without noise; the first argument of a distance",
    "y": "a batch of examples, the second argument of a distance",
    "z": "a batch of unit normal noise",
    "z1": "a batch of unit normal noise at which an interpolation begins",
    "z2": "a batch of unit normal noise at which an interpolation ends",
    "noises": "z_1, z_2, ...: a batch of unit normal noise for each of a sampler's levels",
    "x_hi": "x_{i+1}, a batch of noisy examples at the upper level of an interval",
    "alpha": "the fraction of the way from z1 to z2, one per example",
    # noise levels
    "sigma": "a noise level: one per example, or one number",
    "sigmas": "a list of noise levels, ascending for a grid and descending for a sampler",
    "sigma_lo": "sigma_i, the lower level of an interval, one per example",
    "sigma_hi": "sigma_{i+1}, the upper level of an interval, one per example",
    "sigma_min": "the lowest noise level, at which f(x, sigma) = x",
    "sigma_max": "the highest noise level, at which sampling begins",
    "log_sigma": "the natural logarithm of a noise level",
    "delta_sigma": "Delta sigma, the width of an interval of a linear grid",
    "rho": "the exponent of the noise grid",
    "n": "N(k), the number of noise levels",
    "before": "levels above the one that is searched for, descending",
    "after": "levels below the one that is searched for, descending",
    # drawing an interval, and its weight
    "index": "i - 1, the interval of the noise grid of each example, counted from 0",
    "pmf": "p(i), the probability of each interval",
    "p_mean": "P_mean, the mean of log sigma in the lognormal schedule",
    "p_std": "P_std, the standard deviation of log sigma in the lognormal schedule",
    "u": "numbers that are uniform on [0, 1)",
    "weights": "lambda(sigma), the weight in a loss: of each interval, or of each example in continuous time",
    # curricula and averaging
    "step": "k, the number of updates made so far",
    "total_steps": "K, the number of updates of the whole training",
    "s0": "the start of a curriculum: N(0) is s0 + 1 for the exponential one, s1 + 1 for the constant one, else s0",
    "s1": "the end of a curriculum: N(K) = s1 + 1",
    "mu0": "mu_0, the decay of the teacher's EMA weights at the start",
    "decay": "mu, the fraction of the EMA weights that an update keeps",
    "ema": "EMA weights: the average of a parameter over the updates so far",
    "value": "the value of that parameter now",
    # functions that formulas call
    "f": "f(x, sigma), a consistency function to sample or edit with",
    "student": "f_theta(x, sigma), the consistency function that a loss trains",
    "teacher": "f_theta-(x, sigma), the consistency function whose value is the student's target",
    "network": "F(x, c_noise), the free-form network inside a consistency function",
    "score": "grad_x log p_sigma(x), a function of (x, sigma)",
    "score_value": "the score at (x_hi, sigma_hi)",
    "distance": "d(x, y), one number per pair of examples",
    "objective": "the number to minimise, a function of a sampler's levels",
    # the network's inputs, and distances
    "sigma_data": "the standard deviation of the data",
    "c_noise": "c_noise(sigma) = log(sigma) / 4, one per example",
    "frequencies": "w, the frequencies of Fourier features",
    "width": "the number of values in an embedding",
    "max_period": "the longest period of a positional embedding, divided by 2 pi",
    "c": "the constant of the pseudo-Huber distance",
    "dim": "d, the number of values in an example",
    # editing
    "reference": "y of CM's Algorithm 4, a batch of images to edit",
    "operator": "A, an invertible linear map of images",
    "mask": "Omega, true for the coordinates that the model makes",
    "patch": "p, the side of a square of pixels that becomes one pixel of a small image",
    "channels": "the number of channels of an image",
    # data with closed forms, and Proposition 1
    "xi": "the single point that is all the data",
    "theta": "the parameter of the student in Proposition 1",
    "theta_minus": "theta-, the parameter of the teacher in Proposition 1",
    "mean": "the mean of normal data",
    "std": "the standard deviation of normal data",
    "means": "the mean of each component of a mixture",
    "stds": "the standard deviation of each component of a mixture",
    "mixture_weights": "the probability of each component of a mixture",
    # statistics of features
    "real": "features of real examples",
    "fake": "features of generated examples",
    "mean1": "the mean of the first set of features",
    "cov1": "the covariance of the first set of features",
    "mean2": "the mean of the second set of features",
    "cov2": "the covariance of the second set of features",
    "p": "p(y|x), a classifier's probabilities for each example",
    "k": "the rank of the nearest neighbour that bounds the reach of an example",
}
