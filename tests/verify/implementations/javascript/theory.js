// Closed forms for simple data, and the statistics of samples.
"use strict";

const {
  check, checkFinite, checkOnePerExample, checkPositive, checkProbabilities, checkRange, flat, isOfOneShape, map, norm,
  sum,
} = require("./values.js");

// Consistency functions and scores.

function delta_consistency_function({ x, sigma, xi, sigma_min = 0.002 }) {
  checkOnePerExample(x, sigma);
  checkPositive({ sigma, sigma_min });
  check(isOfOneShape(x[0], xi), "xi of the shape of an example");
  return x.map((one, i) => map((v, c) => (sigma_min / sigma[i]) * v + (1 - sigma_min / sigma[i]) * c, one, xi));
}

function gaussian_consistency_function({ x, sigma, mean, std, sigma_min = 0.002 }) {
  checkOnePerExample(x, sigma);
  checkPositive({ sigma, sigma_min });
  check(0 <= std && std < Infinity, "0 <= std < infinity");
  check(isOfOneShape(x[0], mean), "a mean of the shape of an example");
  return x.map((one, i) => {
    const scale = Math.hypot(std, sigma_min) / Math.hypot(std, sigma[i]);
    return map((v, m) => m + scale * (v - m), one, mean);
  });
}

function gaussian_mixture_score({ x, sigma, means, stds, mixture_weights }) {
  checkOnePerExample(x, sigma);
  checkPositive({ sigma });
  checkProbabilities(mixture_weights);
  check(stds.every((std) => 0 <= std && std < Infinity), "0 <= std < infinity");
  check(means.length === stds.length && stds.length === mixture_weights.length, "as many stds and weights as means");
  check(isOfOneShape(x[0], means[0]), "means of the shape of an example");
  return x.map((one, i) => {
    const variances = stds.map((std) => std ** 2 + sigma[i] ** 2);
    const logs = means.map((mean, m) => {
      const gaps = flat(map((v, c) => v - c, one, mean));
      const square = sum(gaps.map((gap) => gap ** 2));
      return Math.log(mixture_weights[m]) - square / (2 * variances[m]) - (gaps.length / 2) * Math.log(variances[m]);
    });
    // The largest exponent is taken out: densities underflow.
    const shares = logs.map((log) => Math.exp(log - Math.max(...logs)));
    const total = sum(shares);
    return map(
      (v, ...centres) => sum(centres.map((c, m) => ((shares[m] / total) * (c - v)) / variances[m])),
      one,
      ...means,
    );
  });
}

// Limits of the loss and of its gradient for data of one point, a = sigma_min, b = sigma_max, sigma uniform on [a, b].

/** Return E[(1 - a / sigma)^2]. */
function meanSquare(a, b) {
  checkRange(a, b);
  return 1 - (2 * a * Math.log(b / a)) / (b - a) + a / b;
}

/** Return E[a / sigma^2 (1 - a / sigma)]. */
function meanSlope(a, b) {
  checkRange(a, b);
  return (1 - a / b) / (2 * b);
}

function ct_loss_limit({ theta, theta_minus, sigma_min = 0.002, sigma_max = 80 }) {
  checkFinite({ theta, theta_minus });
  return meanSquare(sigma_min, sigma_max) * (theta - theta_minus) ** 2;
}

function ct_gradient_limit({ theta, xi, sigma_min = 0.002, sigma_max = 80 }) {
  checkFinite({ theta, xi });
  return 2 * meanSlope(sigma_min, sigma_max) * (theta - xi);
}

function ct_gradient_divergence({ theta, theta_minus }) {
  checkFinite({ theta, theta_minus });
  check(theta !== theta_minus, "theta_minus other than theta");
  return theta > theta_minus ? Infinity : -Infinity;
}

function ct_gradient_leading_term({ theta, xi, delta_sigma, sigma_min = 0.002, sigma_max = 80 }) {
  checkFinite({ theta, xi });
  checkPositive({ delta_sigma });
  return 2 * meanSlope(sigma_min, sigma_max) * delta_sigma * (theta - xi);
}

function ct_gradient_divergent_term({ theta, theta_minus, sigma_min = 0.002, sigma_max = 80 }) {
  checkFinite({ theta, theta_minus });
  return 2 * meanSquare(sigma_min, sigma_max) * (theta - theta_minus);
}

// Statistics of features: one row per example.

/** Return the eigenvalues and eigenvectors (rows) of a symmetric matrix, by Jacobi's rotations. */
function eigen(symmetric) {
  const n = symmetric.length;
  const a = symmetric.map((row) => [...row]);
  const vectors = a.map((_, i) => a.map((__, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 60; sweep += 1) {
    for (let p = 0; p < n; p += 1) {
      for (let q = p + 1; q < n; q += 1) {
        if (a[p][q] !== 0) {
          const t = Math.atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2;
          const [c, s] = [Math.cos(t), Math.sin(t)];
          const rotate = (x, y) => [c * x - s * y, s * x + c * y];
          for (let k = 0; k < n; k += 1) [a[k][p], a[k][q]] = rotate(a[k][p], a[k][q]);
          for (let k = 0; k < n; k += 1) [a[p][k], a[q][k]] = rotate(a[p][k], a[q][k]);
          for (let k = 0; k < n; k += 1) [vectors[p][k], vectors[q][k]] = rotate(vectors[p][k], vectors[q][k]);
        }
      }
    }
  }
  return [a.map((row, i) => row[i]), vectors];
}

const product = (a, b) => a.map((row) => b[0].map((_, j) => sum(row.map((value, k) => value * b[k][j]))));

function frechet_distance({ mean1, cov1, mean2, cov2 }) {
  checkFinite({ mean1, cov1, mean2, cov2 });
  check(isOfOneShape(mean1, mean2) && isOfOneShape(cov1, cov2), "laws of one dimension");
  const spectra = [cov1, cov2].map((cov) => {
    check(cov.every((row, i) => row.every((value, j) => value === cov[j][i])), "symmetric covariances");
    const [values, vectors] = eigen(cov);
    check(Math.min(...values) >= -1e-9 * Math.max(...values.map(Math.abs)), "variances >= 0");
    return [values.map((value) => Math.max(value, 0)), vectors];
  });
  const [values, vectors] = spectra[0];
  // The root of cov1, and tr (cov1 cov2)^(1/2) from root cov2 root, which is symmetric.
  const entry = (i, j) => sum(values.map((value, k) => Math.sqrt(value) * vectors[k][i] * vectors[k][j]));
  const root = cov1.map((_, i) => cov1.map((__, j) => entry(i, j)));
  const between = product(product(root, cov2), root);
  const symmetric = between.map((row, i) => row.map((value, j) => (value + between[j][i]) / 2));
  const roots = eigen(symmetric)[0].map((value) => Math.sqrt(Math.max(value, 0)));
  const traces = sum(cov1.map((row, i) => row[i] + cov2[i][i]));
  return sum(mean1.map((m, i) => (m - mean2[i]) ** 2)) + traces - 2 * sum(roots);
}

const gap = (p, q) => norm(p.map((value, i) => value - q[i]));

/** Return the fraction of points within the distance of a reference point to its k-th nearest neighbour. */
function fractionWithin(points, reference, k) {
  const reaches = reference.map((p, i) => {
    const others = reference.filter((_, j) => j !== i).map((q) => gap(p, q));
    return others.sort((a, b) => a - b)[k - 1];
  });
  return points.filter((p) => reference.some((q, i) => gap(p, q) <= reaches[i])).length / points.length;
}

function checkFeatures(real, fake) {
  checkFinite({ real, fake });
  check(real[0].length === fake[0].length, "features of one dimension");
}

function precision_recall({ real, fake, k = 3 }) {
  checkFeatures(real, fake);
  check(1 <= k && k < Math.min(real.length, fake.length), "1 <= k < number of features");
  return { tuple: [fractionWithin(fake, real, k), fractionWithin(real, fake, k)] };
}

function inception_score({ p }) {
  check(p.length > 0, "an example");
  p.forEach(checkProbabilities);
  const marginal = p[0].map((_, j) => sum(p.map((row) => row[j])) / p.length);
  const divergences = p.map((row) => sum(row.map((q, j) => (q > 0 ? q * Math.log(q / marginal[j]) : 0))));
  return Math.exp(sum(divergences) / p.length);
}

function kernel_distance({ real, fake }) {
  check(real.length >= 2 && fake.length >= 2, "two examples of each kind");
  checkFeatures(real, fake);
  const kernel = (p, q) => (sum(p.map((value, i) => value * q[i])) / p.length + 1) ** 3;
  const mean = (values) => sum(values) / values.length;
  const within = (points) => mean(points.flatMap((p) => points.filter((q) => q !== p).map((q) => kernel(p, q))));
  return within(real) + within(fake) - 2 * mean(real.flatMap((p) => fake.map((q) => kernel(p, q))));
}

module.exports = {
  delta_consistency_function, gaussian_consistency_function, gaussian_mixture_score, ct_loss_limit, ct_gradient_limit,
  ct_gradient_divergence, ct_gradient_leading_term, ct_gradient_divergent_term, frechet_distance, precision_recall,
  inception_score, kernel_distance,
};
