// The parameterization, the embeddings, the distances, the solver steps and the losses.
"use strict";

const {
  check, checkAscending, checkFinite, checkOnePerExample, checkPositive, checkShape, flat, isOfOneShape, map,
  perExample, sum,
} = require("./values.js");
const { NAMED } = require("./named.js");

// The boundary parameterization.

function c_skip({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
  checkPositive({ sigma, sigma_min, sigma_data });
  return map((s) => 1 / (1 + ((s - sigma_min) / sigma_data) ** 2), sigma);
}

function c_out({ sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
  checkPositive({ sigma, sigma_min, sigma_data });
  return map((s) => sigma_data * ((s - sigma_min) / Math.hypot(sigma_data, s)), sigma);
}

function c_in({ sigma, sigma_data = 0.5 }) {
  checkPositive({ sigma, sigma_data });
  return map((s) => 1 / Math.hypot(s, sigma_data), sigma);
}

function c_noise({ sigma }) {
  checkPositive({ sigma });
  return map((s) => Math.log(s) / 4, sigma);
}

function boundary_parameterization({ network, x, sigma, sigma_min = 0.002, sigma_data = 0.5 }) {
  checkOnePerExample(x, sigma);
  const scaled = perExample((c, v) => c * v, c_in({ sigma, sigma_data }), x);
  const output = network(scaled, c_noise({ sigma }));
  const skipped = perExample((c, v) => c * v, c_skip({ sigma, sigma_min, sigma_data }), x);
  return perExample((c, v, skip) => skip + c * v, c_out({ sigma, sigma_min, sigma_data }), output, skipped);
}

// The embeddings of c_noise.

function fourier_embedding({ c_noise, frequencies }) {
  checkFinite({ c_noise, frequencies });
  return c_noise.map((c) => {
    const turns = frequencies.map((w) => 2 * Math.PI * c * w);
    return [...turns.map(Math.sin), ...turns.map(Math.cos)];
  });
}

function positional_embedding({ c_noise, width, max_period = 10000 }) {
  check(width >= 2 && width % 2 === 0, "an even width >= 2");
  checkPositive({ max_period });
  checkFinite({ c_noise });
  const frequencies = Array.from({ length: width / 2 }, (_, k) => max_period ** (-k / (width / 2)));
  return c_noise.map((c) => [...frequencies.map((f) => Math.cos(c * f)), ...frequencies.map((f) => Math.sin(c * f))]);
}

// Distances: one number per example, from all of its values.

function squared_l2({ x, y }) {
  checkShape(x, y);
  return NAMED.squared_l2()(x, y);
}

function l1({ x, y }) {
  checkShape(x, y);
  return x.map((one, i) => sum(flat(map((a, b) => Math.abs(a - b), one, y[i]))));
}

function pseudo_huber({ x, y, c }) {
  checkShape(x, y);
  checkPositive({ c });
  return NAMED.pseudo_huber({ c })(x, y);
}

function pseudo_huber_constant({ dim }) {
  check(dim >= 1, "dim >= 1");
  return 0.00054 * Math.sqrt(dim);
}

// The probability flow ODE.

function probability_flow_drift({ x, sigma, score }) {
  checkOnePerExample(x, sigma);
  checkPositive({ sigma });
  return perExample((s, v) => -s * v, sigma, score(x, sigma));
}

function euler_step({ x_hi, sigma_hi, sigma_lo, score_value }) {
  checkOnePerExample(x_hi, sigma_hi, sigma_lo);
  checkShape(x_hi, score_value);
  checkPositive({ sigma_hi, sigma_lo });
  const factors = sigma_hi.map((high, i) => (sigma_lo[i] - high) * high);
  return perExample((factor, x, score) => x - factor * score, factors, x_hi, score_value);
}

function heun_step({ x_hi, sigma_hi, sigma_lo, score }) {
  checkOnePerExample(x_hi, sigma_hi, sigma_lo);
  checkPositive({ sigma_hi, sigma_lo });
  const steps = sigma_hi.map((high, i) => sigma_lo[i] - high);
  const here = probability_flow_drift({ x: x_hi, sigma: sigma_hi, score });
  const end = perExample((step, x, drift) => x + step * drift, steps, x_hi, here);
  const there = probability_flow_drift({ x: end, sigma: sigma_lo, score });
  return perExample((step, x, first, second) => x + (step * (first + second)) / 2, steps, x_hi, here, there);
}

// The discrete losses, one number per example.

function checkIntervals(index, sigmas, weights) {
  checkAscending(sigmas);
  check(weights.length === sigmas.length - 1, "one weight for each interval");
  checkPositive({ weights });
  check(index.every((i) => 0 <= i && i < weights.length), "intervals of the grid");
}

const added = (x, sigma, z) => perExample((s, value, noise) => value + s * noise, sigma, x, z);

function consistency_training_loss({ student, teacher, x, z, index, sigmas, distance, weights }) {
  checkShape(x, z);
  checkOnePerExample(x, index);
  checkIntervals(index, sigmas, weights);
  const [low, high] = [index.map((i) => sigmas[i]), index.map((i) => sigmas[i + 1])];
  const d = distance(student(added(x, high, z), high), teacher(added(x, low, z), low));
  return d.map((one, i) => weights[index[i]] * one);
}

function consistency_matching_loss({ student, teacher, score, x_hi, index, sigmas, distance, weights }) {
  checkOnePerExample(x_hi, index);
  checkIntervals(index, sigmas, weights);
  const [low, high] = [index.map((i) => sigmas[i]), index.map((i) => sigmas[i + 1])];
  const x_lo = euler_step({ x_hi, sigma_hi: high, sigma_lo: low, score_value: score(x_hi, high) });
  const d = distance(student(x_hi, high), teacher(x_lo, low));
  return d.map((one, i) => weights[index[i]] * one);
}

// The losses of continuous time: weights u^T H v, u = f(x, sigma), H the Hessian of the distance, a multiple of the
// identity, v the derivative of f along (velocity, 1).

function continuousLoss(student, x, sigma, velocity, weights, distance) {
  checkOnePerExample(x, sigma, weights);
  checkPositive({ sigma, weights });
  const slope = map((dx, dsigma, v) => dx * v + dsigma, student.dx(x, sigma), student.dsigma(x, sigma), velocity);
  const products = map((u, v) => u * v, student(x, sigma), slope);
  return products.map((one, i) => weights[i] * distance.curvature * sum(flat(one)));
}

function continuous_consistency_training_loss({ student, x, z, sigma, weights, distance }) {
  checkShape(x, z);
  checkOnePerExample(x, sigma);
  return continuousLoss(student, added(x, sigma, z), sigma, z, weights, distance);
}

function continuous_consistency_distillation_loss({ student, score, x, sigma, weights, distance }) {
  const velocity = probability_flow_drift({ x, sigma, score });
  return continuousLoss(student, x, sigma, velocity, weights, distance);
}

function ema_update({ ema, value, decay }) {
  check(0 <= decay && decay < 1, "0 <= decay < 1");
  check(isOfOneShape(ema, value), "ema and value of one shape");
  return map((a, b) => decay * a + (1 - decay) * b, ema, value);
}

module.exports = {
  c_skip, c_out, c_in, c_noise, boundary_parameterization, fourier_embedding, positional_embedding, squared_l2, l1,
  pseudo_huber, pseudo_huber_constant, probability_flow_drift, euler_step, heun_step, consistency_training_loss,
  consistency_matching_loss, continuous_consistency_training_loss, continuous_consistency_distillation_loss, ema_update,
};
