// The schedules of iCT in plain JavaScript: the page docs/play.md draws them, and `ict_ref.verify exec` checks them.
"use strict";

(() => {
  /** Throw RangeError, the answer to arguments outside the domain, unless a condition holds. */
  function check(holds, needs) {
    if (!holds) throw new RangeError(`needs ${needs}`);
  }

  const isPositive = (value) => value > 0 && value < Infinity;

  function checkPositive(numbers) {
    for (const [name, value] of Object.entries(numbers)) check([value].flat(Infinity).every(isPositive), `0 < ${name} < infinity`);
  }

  /** Return f of every number in nested lists, or of one number. */
  const map = (f, value) => (Array.isArray(value) ? value.map((part) => map(f, part)) : f(value));

  function checkAscending(sigmas) {
    checkPositive({ sigmas });
    check(sigmas.length >= 2 && sigmas.every((sigma, i) => i === 0 || sigmas[i - 1] < sigma), "levels that ascend");
  }

  /** Eq. (9): N(k) = min(s0 2^floor(k / K'), s1) + 1 with K' = floor(K / (log2 floor(s1 / s0) + 1)). */
  function exponential_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
    check(total_steps >= 1 && 0 <= step && step <= total_steps, "0 <= step <= total_steps, total_steps >= 1");
    check(1 <= s0 && s0 <= s1, "1 <= s0 <= s1");
    const stage = Math.floor(total_steps / (Math.log2(Math.floor(s1 / s0)) + 1));
    check(stage >= 1, "a step or more for each stage");
    return Math.min(s0 * 2 ** Math.floor(step / stage), s1) + 1;
  }

  /** sigma_i = (sigma_min^(1/rho) + (i-1)/(N-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, i = 1, ..., N. */
  function sigma_grid({ n, sigma_min = 0.002, sigma_max = 80, rho = 7 }) {
    check(Number.isInteger(n) && n >= 2, "a whole n >= 2");
    checkPositive({ sigma_min, sigma_max, rho });
    const [low, high] = [sigma_min ** (1 / rho), sigma_max ** (1 / rho)];
    const sigmas = Array.from({ length: n }, (_, i) => (low + (i / (n - 1)) * (high - low)) ** rho);
    // Both ends are exact. The power of a root would be rounded.
    sigmas[0] = sigma_min;
    sigmas[n - 1] = sigma_max;
    checkAscending(sigmas);
    return sigmas;
  }

  /** Return erfc(t), which JavaScript does not have: by a series without negative terms, or by a continued fraction. */
  function erfc(t) {
    if (t < 0) return 2 - erfc(-t);
    const bell = Math.exp(-t * t) / Math.sqrt(Math.PI);
    if (t < 2) {
      let [term, total] = [t, t];
      for (let k = 1; term > 1e-17 * total; k += 1) total += term *= (2 * t * t) / (2 * k + 1);
      return 1 - 2 * bell * total;
    }
    let fraction = t;
    for (let k = 120; k >= 1; k -= 1) fraction = t + k / 2 / fraction;
    return bell / fraction;
  }

  /** Eq. (10): p(i) ~ erf((log sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((log sigma_i - P_mean) / (sqrt2 P_std)). */
  function lognormal_pmf({ sigmas, p_mean = -1.1, p_std = 2 }) {
    checkAscending(sigmas);
    checkPositive({ p_std });
    check(Number.isFinite(p_mean), "a finite p_mean");
    const z = sigmas.map((sigma) => (Math.log(sigma) - p_mean) / (Math.SQRT2 * p_std));
    // The difference of the tails that are small on this side of the mean.
    const masses = z.slice(1).map((high, i) => (z[i] + high > 0 ? erfc(z[i]) - erfc(high) : erfc(-high) - erfc(-z[i])));
    const total = masses.reduce((a, b) => a + b, 0);
    check(total > 0, "a grid that carries probability");
    return masses.map((mass) => mass / total);
  }

  /** lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i). */
  function inverse_gap_weights({ sigmas }) {
    checkAscending(sigmas);
    return sigmas.slice(1).map((high, i) => 1 / (high - sigmas[i]));
  }

  /** c_skip(sigma) = sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2). */
  function c_skip({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
    checkPositive({ sigma, sigma_min, sigma_data });
    return map((s) => 1 / (1 + ((s - sigma_min) / sigma_data) ** 2), sigma);
  }

  /** c_out(sigma) = sigma_data (sigma - sigma_min) / sqrt(sigma_data^2 + sigma^2). */
  function c_out({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
    checkPositive({ sigma, sigma_min, sigma_data });
    return map((s) => sigma_data * ((s - sigma_min) / Math.hypot(sigma_data, s)), sigma);
  }

  const formulas = {
    exponential_curriculum, sigma_grid, lognormal_pmf, inverse_gap_weights, c_skip, c_out,
  };
  if (typeof module === "object") module.exports = formulas;
  else window.ictFormulas = formulas;
})();
