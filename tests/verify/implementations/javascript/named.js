// The functions that a vector names: networks, scores, distances, operators and an objective.
"use strict";

const { flat, map, perExample, sum } = require("./values.js");
const { OPERATORS } = require("./operators.js");

/** A function (x, sigma) of each number of an example, with its derivatives where formulas need them. */
function elementwise(f, derivatives = {}) {
  const batch = (g) => (x, sigma) => perExample((s, v) => g(v, s), sigma, x);
  const batches = Object.entries(derivatives).map(([name, g]) => [name, batch(g)]);
  return Object.assign(batch(f), Object.fromEntries(batches));
}

/** A distance d(x, y) per example. Its Hessian at y = x is `curvature` times the identity. */
function distance(ofSquare, curvature) {
  const d = (x, y) => x.map((one, i) => ofSquare(sum(flat(map((a, b) => (a - b) ** 2, one, y[i])))));
  return Object.assign(d, { curvature });
}

const NAMED = {
  bend: ({ a, b }) =>
    elementwise((x, s) => (a * x) / (1 + s) + b * s * x * x, {
      dx: (x, s) => a / (1 + s) + 2 * b * s * x,
      dsigma: (x, s) => (-a * x) / (1 + s) ** 2 + b * x * x,
    }),
  network_bend: ({ a, b }) => elementwise((x, c) => a * x + b * c + x * x),
  gaussian_score: ({ mean, std }) => elementwise((x, s) => (mean - x) / (std ** 2 + s ** 2)),
  gaussian_consistency: ({ mean, std, sigma_min }) =>
    elementwise((x, s) => mean + Math.sqrt((std ** 2 + sigma_min ** 2) / (std ** 2 + s ** 2)) * (x - mean)),
  squared_l2: () => distance((square) => square, 2),
  // sqrt(square + c^2) - c would lose digits.
  pseudo_huber: ({ c }) => distance((square) => square / (Math.sqrt(square + c * c) + c), 1 / c),
  valley: ({ bottom, left, right, position }) => (levels) => {
    const t = Math.log(levels[position] / bottom);
    return t < 0 ? -left * t : right * t;
  },
  ...OPERATORS,
};

const named = ({ callback, ...numbers }) => NAMED[callback](numbers);

module.exports = { named, NAMED };
