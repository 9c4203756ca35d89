// Edits of images, and interpolation of noise.
"use strict";

const {
  check, checkFinite, checkOnePerExample, checkPositive, checkShape, flat, map, norm, perExample,
} = require("./values.js");
const { OPERATORS } = require("./operators.js");
const { descend } = require("./sampling.js");

/** Return `generated` where the mask is true, `kept` elsewhere; axes of length 1 of the mask are repeated. */
function chosen(mask, generated, kept) {
  if (!Array.isArray(kept)) return mask ? generated : kept;
  return kept.map((part, i) => chosen(mask[mask.length === 1 ? 0 : i], generated[i], part));
}

function edit({ f, reference, operator, mask, noises, sigmas, sigma_min = 0.002 }) {
  check(flat(mask).every((one) => typeof one === "boolean"), "a mask of truth values");
  const given = operator.forward(reference);
  const start = operator.inverse(chosen(mask, map(() => 0, given), given));
  return descend(f, start, noises, sigmas, sigma_min, (x) =>
    operator.inverse(chosen(mask, operator.forward(x), given)),
  );
}

const stroke_edit = ({ f, reference, noises, sigmas, sigma_min = 0.002 }) =>
  descend(f, reference, noises, sigmas, sigma_min);

const colorization_mask = () => [[[[false]], [[true]], [[true]]]];

function super_resolution_mask({ channels, patch }) {
  check(channels >= 1 && patch >= 1, "channels >= 1 and patch >= 1");
  return [Array.from({ length: channels * patch ** 2 }, (_, k) => [[k % patch ** 2 > 0]])];
}

function slerp({ z1, z2, alpha }) {
  checkShape(z1, z2);
  checkOnePerExample(z1, alpha);
  checkFinite({ alpha });
  const angles = z1.map((one, i) => angle(flat(one), flat(z2[i])));
  const share = (a, psi) => (psi === 0 ? a : Math.sin(a * psi) / Math.sin(psi));
  const first = perExample((c, value) => c * value, alpha.map((a, i) => share(1 - a, angles[i])), z1);
  return perExample((c, value, other) => other + c * value, alpha.map((a, i) => share(a, angles[i])), z2, first);
}

/** Return the angle between two vectors by Kahan's formula: an arc cosine near 1 would lose half of its digits. */
function angle(p, q) {
  const [u, v] = [p, q].map((vector) => {
    const length = norm(vector);
    checkPositive({ length });
    return vector.map((value) => value / length);
  });
  const [chord, cochord] = [-1, 1].map((sign) => norm(u.map((value, i) => value + sign * v[i])));
  check(cochord > 0, "vectors that are not opposite");
  return 2 * Math.atan2(chord, cochord);
}

module.exports = {
  edit, stroke_edit, colorization_mask, super_resolution_mask, slerp,
  inpainting_operator: OPERATORS.inpainting,
  colorization_operator: OPERATORS.colorization,
  super_resolution_operator: OPERATORS.super_resolution,
};
