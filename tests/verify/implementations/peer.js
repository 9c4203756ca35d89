// An example of a peer in JavaScript: python -m ict_ref.verify exec "node peer.js"
//
// One JSON object a line in, one a line out; see src/ict_ref/verify/external_process.py. It has the paper's schedules, the scalings
// of the boundary parameterization and the pseudo-Huber distance, and it rejects the same arguments.
"use strict";

const readline = require("node:readline");

/** What lies outside a formula's domain: the answer is {"error": ...}. Any other exception ends the peer. */
class Refused extends Error {}

function check(holds, needs) {
  if (!holds) throw new Refused(`needs ${needs}`);
}

// Values. A number may stand as {"float": "nan"}, a tensor does as {"tensor": nested lists, "dtype": name}, with the
// words "nan", "inf" and "-inf" for what JSON has no number for.

function number(value) {
  const word = typeof value === "object" ? value.float : value;
  if (typeof word === "number") return word;
  return { nan: NaN, inf: Infinity, "-inf": -Infinity }[word];
}

const tensor = (value) => map(number, value.tensor);
const map = (f, value) => (Array.isArray(value) ? value.map((part) => map(f, part)) : f(value));
const shape = (value) => (Array.isArray(value) ? [value.length, ...(value.length ? shape(value[0]) : [])] : []);
const positive = (value) => value > 0 && value < Infinity;

function levels(sigma) {
  const values = tensor(sigma);
  check([values].flat(Infinity).every(positive), "0 < sigma < infinity");
  return values;
}

function ascending(sigmas) {
  check(sigmas.length >= 2, "at least two levels");
  check(sigmas.every((sigma, i) => i === 0 || sigmas[i - 1] < sigma), "levels that ascend strictly");
}

// The schedules.

function sigma_grid({ n, sigma_min = 0.002, sigma_max = 80, rho = 7 }) {
  [sigma_min, sigma_max, rho] = [sigma_min, sigma_max, rho].map(number);
  check(Number.isInteger(n) && n >= 2, "a whole n >= 2");
  check(0 < sigma_min && sigma_min < sigma_max && sigma_max < Infinity, "0 < sigma_min < sigma_max < infinity");
  check(positive(rho), "0 < rho < infinity");
  const [low, high] = [sigma_min ** (1 / rho), sigma_max ** (1 / rho)];
  const sigmas = Array.from({ length: n }, (_, i) => (low + (i / (n - 1)) * (high - low)) ** rho);
  // Both ends exactly, not their rounded roots' powers.
  sigmas[0] = sigma_min;
  sigmas[n - 1] = sigma_max;
  ascending(sigmas);
  return sigmas;
}

function check_run(step, total_steps, s0, s1) {
  check(total_steps >= 1 && 0 <= step && step <= total_steps, "0 <= step <= total_steps, total_steps >= 1");
  check(1 <= s0 && s0 <= s1, "1 <= s0 <= s1");
}

function exponential_curriculum({ step, total_steps, s0 = 10, s1 = 1280 }) {
  check_run(step, total_steps, s0, s1);
  const stage = Math.floor(total_steps / (Math.log2(Math.floor(s1 / s0)) + 1));
  check(stage >= 1, "a step or more for each stage");
  return Math.min(s0 * 2 ** Math.floor(step / stage), s1) + 1;
}

function sqrt_curriculum({ step, total_steps, s0 = 2, s1 = 150 }) {
  check_run(step, total_steps, s0, s1);
  // The root is rounded up, so it must be exact: the whole number m with (m - 1)^2 < square <= m^2, all times K.
  const square = step * ((s1 + 1) ** 2 - s0 ** 2) + s0 ** 2 * total_steps;
  let m = Math.ceil(Math.sqrt(square / total_steps));
  while (m > 0 && (m - 1) ** 2 * total_steps >= square) m -= 1;
  while (m ** 2 * total_steps < square) m += 1;
  return m - 1 + 1;
}

/** Return erfc(t), which JavaScript does not have, to about 1e-15: by its series, or by its continued fraction. */
function erfc(t) {
  if (t < 0) return 2 - erfc(-t);
  const bell = Math.exp(-t * t) / Math.sqrt(Math.PI);
  if (t < 2) {
    // erf(t) = 2 exp(-t^2) / sqrt(pi) sum of 2^k t^(2k + 1) / (1 3 5 ... (2k + 1)): no term is negative.
    let [term, sum] = [t, t];
    for (let k = 1; term > 1e-17 * sum; k += 1) sum += term *= (2 * t * t) / (2 * k + 1);
    return 1 - 2 * bell * sum;
  }
  // erfc(t) = exp(-t^2) / sqrt(pi) / (t + (1/2) / (t + 1 / (t + (3/2) / (t + ...)))), from its end.
  let fraction = t;
  for (let k = 120; k >= 1; k -= 1) fraction = t + k / 2 / fraction;
  return bell / fraction;
}

function lognormal_pmf({ sigmas, p_mean = -1.1, p_std = 2 }) {
  [p_mean, p_std] = [p_mean, p_std].map(number);
  const grid = levels(sigmas);
  ascending(grid);
  check(positive(p_std) && Number.isFinite(p_mean), "0 < p_std < infinity and a finite p_mean");
  const z = grid.map((sigma) => (Math.log(sigma) - p_mean) / (Math.SQRT2 * p_std));
  // The difference of the tails that are small on this side of the mean.
  const mass = z.slice(1).map((high, i) => {
    const low = z[i];
    return low + high > 0 ? erfc(low) - erfc(high) : erfc(-high) - erfc(-low);
  });
  const total = mass.reduce((a, b) => a + b);
  check(total > 0, "a grid that carries probability");
  return mass.map((one) => one / total);
}

// The boundary parameterization.

function scalings(sigma, sigma_min, sigma_data) {
  const [values, least, data] = [levels(sigma), number(sigma_min), number(sigma_data)];
  check(positive(least) && positive(data), "positive, finite sigma_min and sigma_data");
  return [values, least, data];
}

function c_skip({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
  const [values, least, data] = scalings(sigma, sigma_min, sigma_data);
  return map((s) => 1 / (1 + ((s - least) / data) ** 2), values);
}

function c_out({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
  const [values, least, data] = scalings(sigma, sigma_min, sigma_data);
  return map((s) => data * ((s - least) / Math.hypot(data, s)), values);
}

function c_in({ sigma, sigma_data = 0.5 }) {
  const [values, , data] = scalings(sigma, 0.002, sigma_data);
  return map((s) => 1 / Math.hypot(s, data), values);
}

const c_noise = ({ sigma }) => map((s) => Math.log(s) / 4, levels(sigma));

// The distance.

function pseudo_huber_constant({ dim }) {
  check(dim >= 1, "dim >= 1");
  return 0.00054 * Math.sqrt(dim);
}

function pseudo_huber({ x, y, c }) {
  [x, y, c] = [tensor(x), tensor(y), number(c)];
  check(positive(c), "0 < c < infinity");
  check(JSON.stringify(shape(x)) === JSON.stringify(shape(y)) && shape(x).length > 0, "x and y of one shape");
  return x.map((example, i) => {
    const [a, b] = [[example].flat(Infinity), [y[i]].flat(Infinity)];
    const square = a.reduce((sum, value, j) => sum + (value - b[j]) ** 2, 0);
    // sqrt(square + c^2) - c, where the difference would lose its digits.
    return square / (Math.sqrt(square + c * c) + c);
  });
}

const FUNCTIONS = {
  sigma_grid, exponential_curriculum, sqrt_curriculum, lognormal_pmf,
  c_skip, c_out, c_in, c_noise, pseudo_huber_constant, pseudo_huber,
};

function answer({ id, function: name, args }) {
  if (!Object.hasOwn(FUNCTIONS, name)) return { id, missing: true };
  try {
    return { id, value: FUNCTIONS[name](args) };
  } catch (error) {
    if (error instanceof Refused) return { id, error: error.message };
    throw error;
  }
}

const lines = readline.createInterface({ input: process.stdin, terminal: false });
lines.on("line", (line) => process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`));
