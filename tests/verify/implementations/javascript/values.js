// Values in JSON, arithmetic on nested lists, and the checks that formulas share.
"use strict";

/** Arguments outside the domain of a formula: the answer is {"error": ...}. */
class Refused extends Error {}

function check(holds, needs) {
  if (!holds) throw new Refused(`needs ${needs}`);
}

// JSON has no number for NaN and the infinities. A number alone is {"float": "nan"}; in a tensor it is the word.

const WORDS = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const number = (word) => (typeof word === "string" ? WORDS[word] : word);

/** Return numbers from SplitMix64: low + (high - low) u, or the integer floor(below u), with u in [0, 1). */
function generated({ seed, shape, low, high, below }) {
  let state = BigInt(seed);
  const product = (a, b) => BigInt.asUintN(64, a * b);
  const next = () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = product(state ^ (state >> 30n), 0xbf58476d1ce4e5b9n);
    z = product(z ^ (z >> 27n), 0x94d049bb133111ebn);
    const u = Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
    return below === undefined ? low + (high - low) * u : Math.floor(below * u);
  };
  const filled = ([length, ...others]) =>
    Array.from({ length }, () => (others.length ? filled(others) : next()));
  return filled(shape);
}

/** Return n levels from 0.002 to 80, the same to the bit in every language. */
function levels(n) {
  const [a, b] = [0.4115597137836079, 1.8701222535385968];
  const roots = Array.from({ length: n }, (_, i) => a + (i * (b - a)) / (n - 1));
  return [0.002, ...roots.slice(1, -1).map((t) => t * t * t * t * t * t * t), 80];
}

/** Return an argument, or all arguments of a call by name; `named` returns the function of a {"callback": ...}. */
function decode(value, named) {
  if (typeof value !== "object" || value === null) return value;
  if ("float" in value) return number(value.float);
  if ("tensor" in value) return map(number, value.tensor);
  if ("tuple" in value) return value.tuple.map((part) => decode(part, named));
  if ("callback" in value) return named(value);
  if ("generated" in value) return generated(value.generated);
  if (typeof value.levels === "number") return levels(value.levels);
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, decode(part, named)]));
}

const word = (value) =>
  typeof value === "number" && !Number.isFinite(value) ? String(value).replace("Infinity", "inf").toLowerCase() : value;

function encode(value) {
  if (Array.isArray(value)) return map(word, value);
  if (typeof value === "object") return { tuple: value.tuple.map(encode) };
  return word(value) === value ? value : { float: word(value) };
}

// Nested lists: the first axis counts examples, the others are those of an example.

/** Return f of every number; further lists have the shape of the first. */
function map(f, first, ...others) {
  if (!Array.isArray(first)) return f(first, ...others);
  return first.map((part, i) => map(f, part, ...others.map((other) => other[i])));
}

/** Return f(number of the example, its values): sigma has one number per example of each of xs. */
function perExample(f, sigma, ...xs) {
  return sigma.map((one, i) => map((...values) => f(one, ...values), ...xs.map((x) => x[i])));
}

const flat = (value) => [value].flat(Infinity);
const sum = (values) => values.reduce((a, b) => a + b, 0);
const norm = (values) => Math.hypot(...values);
const shape = (value) => (Array.isArray(value) ? [value.length, ...(value.length ? shape(value[0]) : [])] : []);
const isOfOneShape = (...values) => new Set(values.map((value) => JSON.stringify(shape(value)))).size === 1;

// Checks.

const isPositive = (value) => value > 0 && value < Infinity;

function checkPositive(numbers) {
  for (const [name, value] of Object.entries(numbers)) {
    check(flat(value).every(isPositive), `0 < ${name} < infinity`);
  }
}

function checkFinite(numbers) {
  for (const [name, value] of Object.entries(numbers)) check(flat(value).every(Number.isFinite), `a finite ${name}`);
}

function checkRange(sigma_min, sigma_max) {
  check(0 < sigma_min && sigma_min < sigma_max && sigma_max < Infinity, "0 < sigma_min < sigma_max < infinity");
}

function checkAscending(sigmas) {
  check(sigmas.length >= 2, "at least two levels");
  checkPositive({ sigmas });
  check(sigmas.every((sigma, i) => i === 0 || sigmas[i - 1] < sigma), "levels that ascend");
}

/** Shapes are never broadcast. */
function checkShape(...batches) {
  check(Array.isArray(batches[0]) && isOfOneShape(...batches), "batches of one shape");
}

function checkOnePerExample(x, ...lists) {
  check(Array.isArray(x) && lists.every((list) => list.length === x.length), "one number per example");
}

function checkProbabilities(p) {
  check(p.length > 0 && p.every((one) => one >= 0) && Math.abs(sum(p) - 1) <= 1e-9, "probabilities that add up to 1");
}

module.exports = {
  Refused, check, decode, encode, map, perExample, flat, sum, norm, shape, isOfOneShape, isPositive,
  checkPositive, checkFinite, checkRange, checkAscending, checkShape, checkOnePerExample, checkProbabilities,
};
