// Samplers, and the search for their noise levels.
"use strict";

const { check, checkAscending, checkOnePerExample, checkPositive, checkShape, map } = require("./values.js");

/** Return f at one level for all examples. */
const atLevel = (f, x, sigma) => f(x, x.map(() => sigma));

function one_step_sample({ f, z, sigma_max = 80 }) {
  checkPositive({ sigma_max });
  return atLevel(f, map((one) => sigma_max * one, z), sigma_max);
}

function renoise({ x, z, sigma, sigma_min = 0.002 }) {
  checkShape(x, z);
  checkPositive({ sigma, sigma_min });
  check(sigma_min <= sigma, "sigma_min <= sigma");
  // sqrt(sigma^2 - sigma_min^2), which keeps its digits near sigma_min.
  const factor = Math.sqrt(sigma - sigma_min) * Math.sqrt(sigma + sigma_min);
  return map((value, noise) => value + factor * noise, x, z);
}

function checkLevels(noises, sigmas, sigma_min) {
  check(sigmas.length >= 1 && noises.length === sigmas.length, "one batch of noise for each level");
  checkPositive({ sigmas, sigma_min });
  check(sigmas.every((sigma, i) => i === 0 || sigma < sigmas[i - 1]), "levels that descend");
  check(sigmas.at(-1) >= sigma_min, "levels of sigma_min or more");
}

/** Return the last x of: x = keep(f(start + sigma_1 z_1, sigma_1)); x = keep(f(renoise(x, z_k), sigma_k)). */
function descend(f, start, noises, sigmas, sigma_min, keep = (x) => x) {
  checkLevels(noises, sigmas, sigma_min);
  const first = map((value, noise) => value + sigmas[0] * noise, start, noises[0]);
  let x = keep(atLevel(f, first, sigmas[0]));
  for (let k = 1; k < sigmas.length; k += 1) {
    const noisy = renoise({ x, z: noises[k], sigma: sigmas[k], sigma_min });
    x = keep(atLevel(f, noisy, sigmas[k]));
  }
  return x;
}

function multistep_sample({ f, noises, sigmas, sigma_min = 0.002 }) {
  checkLevels(noises, sigmas, sigma_min);
  return descend(f, map(() => 0, noises[0]), noises, sigmas, sigma_min);
}

/** Return the best node, by trying all of them. */
function search_intermediate_sigma({ objective, sigmas, before = [], after = [] }) {
  checkAscending(sigmas);
  for (const levels of [before, after]) {
    check(levels.every((level, i) => i === 0 || level < levels[i - 1]), "before and after that descend");
  }
  const [high, low] = [Math.min(Infinity, ...before), Math.max(0, ...after)];
  const nodes = sigmas.filter((sigma) => low < sigma && sigma < high);
  check(nodes.length > 0, "a node between before and after");
  const values = nodes.map((node) => objective([...before, node, ...after]));
  return nodes[values.indexOf(Math.min(...values))];
}

function denoise({ f, x, sigma }) {
  checkOnePerExample(x, sigma);
  checkPositive({ sigma });
  return f(x, sigma);
}

module.exports = { one_step_sample, renoise, multistep_sample, search_intermediate_sigma, denoise, descend };
