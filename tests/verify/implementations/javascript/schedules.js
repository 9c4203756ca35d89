// Noise levels, their number, their probabilities and their weights.
"use strict";

const {
  check, checkAscending, checkFinite, checkPositive, checkProbabilities, checkRange, map, sum,
} = require("./values.js");

function sigma_grid({ n, sigma_min = 0.002, sigma_max = 80, rho = 7 }) {
  check(Number.isInteger(n) && n >= 2, "a whole n >= 2");
  checkRange(sigma_min, sigma_max);
  checkPositive({ rho });
  const [low, high] = [sigma_min ** (1 / rho), sigma_max ** (1 / rho)];
  const sigmas = Array.from({ length: n }, (_, i) => (low + (i / (n - 1)) * (high - low)) ** rho);
  // Both ends are exact. The power of a root would be rounded.
  sigmas[0] = sigma_min;
  sigmas[n - 1] = sigma_max;
  checkAscending(sigmas);
  return sigmas;
}

// The number of levels at a step.

function checkRun(step, total_steps, s0, s1) {
  check(total_steps >= 1 && 0 <= step && step <= total_steps, "0 <= step <= total_steps, total_steps >= 1");
  check(1 <= s0 && s0 <= s1, "1 <= s0 <= s1");
}

function exponential_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  checkRun(step, total_steps, s0, s1);
  const stage = Math.floor(total_steps / (Math.log2(Math.floor(s1 / s0)) + 1));
  check(stage >= 1, "a step or more for each stage");
  return Math.min(s0 * 2 ** Math.floor(step / stage), s1) + 1;
}

function sqrt_curriculum({ step, total_steps, s0 = 2, s1 = 150 }) {
  checkRun(step, total_steps, s0, s1);
  // ceil(sqrt(q) - 1) + 1 is the whole number n with (n - 1)^2 < q <= n^2. Both sides are multiplied by total_steps.
  const square = step * ((s1 + 1) ** 2 - s0 ** 2) + s0 ** 2 * total_steps;
  let n = Math.ceil(Math.sqrt(square / total_steps));
  while (n > 0 && (n - 1) ** 2 * total_steps >= square) n -= 1;
  while (n ** 2 * total_steps < square) n += 1;
  return n;
}

function constant_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  checkRun(step, total_steps, s0, s1);
  return s1 + 1;
}

function linear_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  checkRun(step, total_steps, s0, s1);
  return Math.ceil((step * (s1 + 1) + (total_steps - step) * s0) / total_steps);
}

function square_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  checkRun(step, total_steps, s0, s1);
  // The least n with K^2 n >= k^2 (s1 + 1) + (K - k)^2 s0 + 2 k (K - k) sqrt((s1 + 1) s0), in whole numbers.
  const [k, rest, first, last] = [step, total_steps - step, s0, s1 + 1].map(BigInt);
  const root_squared = 4n * k ** 2n * rest ** 2n * last * first;
  const isEnough = (n) => {
    const left = (k + rest) ** 2n * BigInt(n) - k ** 2n * last - rest ** 2n * first;
    return left >= 0n && left ** 2n >= root_squared;
  };
  const u = step / total_steps;
  let n = Math.floor((u * Math.sqrt(s1 + 1) + (1 - u) * Math.sqrt(s0)) ** 2) - 1;
  while (!isEnough(n)) n += 1;
  return n;
}

function cosine_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  checkRun(step, total_steps, s0, s1);
  const u = Math.sin((Math.PI * step) / (2 * total_steps)) ** 2;
  const value = s0 + u * (s1 + 1 - s0);
  const nearest = Math.round(value);
  // A whole number stays one, although its cosine is rounded.
  return Math.abs(value - nearest) < 1e-11 * nearest ? nearest : Math.ceil(value);
}

function teacher_ema_decay({ n, s0, mu0 }) {
  check(n >= 1 && s0 >= 1, "n >= 1 and s0 >= 1");
  check(0 < mu0 && mu0 < 1, "0 < mu0 < 1");
  return Math.exp((s0 * Math.log(mu0)) / n);
}

// One number for each interval between two levels.

function uniform_pmf({ sigmas }) {
  checkAscending(sigmas);
  return sigmas.slice(1).map(() => 1 / (sigmas.length - 1));
}

function uniform_weights({ sigmas }) {
  checkAscending(sigmas);
  return sigmas.slice(1).map(() => 1);
}

function inverse_gap_weights({ sigmas }) {
  checkAscending(sigmas);
  return sigmas.slice(1).map((high, i) => 1 / (high - sigmas[i]));
}

/** Return erfc(t), which JavaScript does not have, to about 1e-15: by its series, or by its continued fraction. */
function erfc(t) {
  if (t < 0) return 2 - erfc(-t);
  const bell = Math.exp(-t * t) / Math.sqrt(Math.PI);
  if (t < 2) {
    // erf(t) = 2 exp(-t^2) / sqrt(pi) sum of 2^k t^(2k + 1) / (1 3 5 ... (2k + 1)): no term is negative.
    let [term, total] = [t, t];
    for (let k = 1; term > 1e-17 * total; k += 1) total += term *= (2 * t * t) / (2 * k + 1);
    return 1 - 2 * bell * total;
  }
  // erfc(t) = exp(-t^2) / sqrt(pi) / (t + (1/2) / (t + 1 / (t + (3/2) / (t + ...)))), from its end.
  let fraction = t;
  for (let k = 120; k >= 1; k -= 1) fraction = t + k / 2 / fraction;
  return bell / fraction;
}

function lognormal_pmf({ sigmas, p_mean = -1.1, p_std = 2 }) {
  checkAscending(sigmas);
  checkPositive({ p_std });
  checkFinite({ p_mean });
  const z = sigmas.map((sigma) => (Math.log(sigma) - p_mean) / (Math.SQRT2 * p_std));
  // The difference of the tails that are small on this side of the mean.
  const masses = z.slice(1).map((high, i) => {
    const low = z[i];
    return low + high > 0 ? erfc(low) - erfc(high) : erfc(-high) - erfc(-low);
  });
  const total = sum(masses);
  check(total > 0, "a grid that carries probability");
  return masses.map((mass) => mass / total);
}

function index_from_uniform({ u, pmf }) {
  checkProbabilities(pmf);
  check(u.every((one) => 0 <= one && one < 1), "0 <= u < 1");
  return u.map((one) => {
    let [index, total] = [-1, 0];
    for (let j = 0; j < pmf.length; j += 1) {
      if (pmf[j] > 0) {
        index = j; // the last interval with probability takes what rounding leaves
        total += pmf[j];
        if (total > one) break;
      }
    }
    return index;
  });
}

// Densities of log sigma.

function log_sigma_density({ log_sigma, sigma_min = 0.002, sigma_max = 80, rho = 7 }) {
  checkRange(sigma_min, sigma_max);
  checkPositive({ rho });
  checkFinite({ log_sigma });
  const width = rho * (sigma_max ** (1 / rho) - sigma_min ** (1 / rho));
  const isInside = (t) => Math.log(sigma_min) <= t && t <= Math.log(sigma_max);
  return map((t) => (isInside(t) ? Math.exp(t / rho) / width : 0), log_sigma);
}

function lognormal_density({ log_sigma, p_mean = -1.1, p_std = 2 }) {
  checkPositive({ p_std });
  checkFinite({ log_sigma, p_mean });
  const height = 1 / (Math.sqrt(2 * Math.PI) * p_std);
  return map((t) => height * Math.exp(-((t - p_mean) ** 2) / (2 * p_std ** 2)), log_sigma);
}

module.exports = {
  sigma_grid, exponential_curriculum, sqrt_curriculum, constant_curriculum, linear_curriculum, square_curriculum,
  cosine_curriculum, teacher_ema_decay, uniform_pmf, uniform_weights, inverse_gap_weights, lognormal_pmf,
  index_from_uniform, log_sigma_density, lognormal_density,
};
