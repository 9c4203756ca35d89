// The operators of editing: invertible linear maps of images [batch, channels, height, width].
"use strict";

const { check, map, norm, shape, sum } = require("./values.js");

/** Return the columns of an orthogonal matrix, the first one along `first`: Gram and Schmidt, of the unit vectors. */
function orthogonal(first) {
  const columns = [];
  for (let k = 0; k < first.length; k += 1) {
    let vector = k === 0 ? first : first.map((_, m) => (m === k ? 1 : 0));
    for (const column of columns) {
      const along = sum(vector.map((value, m) => value * column[m]));
      vector = vector.map((value, m) => value - along * column[m]);
    }
    const length = norm(vector);
    columns.push(vector.map((value) => value / length));
  }
  return columns;
}

const transposed = (q) => q.map((_, m) => q.map((column) => column[m]));

/** Return the channels sum over l of channel[l] columns[k][l]. */
const mixed = (channels, columns) =>
  columns.map((column) => map((...values) => sum(values.map((value, l) => value * column[l])), ...channels));

function colorization() {
  const q = orthogonal([0.2989, 0.587, 0.114]);
  return {
    forward: (images) => images.map((image) => mixed(image, q)),
    inverse: (images) => images.map((image) => mixed(image, transposed(q))),
  };
}

function superResolution({ patch }) {
  check(patch >= 1, "patch >= 1");
  const pixels = patch ** 2;
  const q = orthogonal(Array(pixels).fill(1 / patch));
  const list = (length, f) => Array.from({ length }, (_, i) => f(i));

  /** The pixels of all patches as channels, row by row. */
  const split = (channel) => {
    const [height, width] = shape(channel);
    return list(pixels, (m) =>
      list(height / patch, (i) =>
        list(width / patch, (j) => channel[i * patch + Math.floor(m / patch)][j * patch + (m % patch)]),
      ),
    );
  };
  const joined = (parts) => {
    const [, height, width] = shape(parts);
    const at = (m, i, j) => parts[m][Math.floor(i / patch)][Math.floor(j / patch)];
    return list(height * patch, (i) => list(width * patch, (j) => at((i % patch) * patch + (j % patch), i, j)));
  };
  const groups = (image) => list(image.length / pixels, (c) => image.slice(c * pixels, (c + 1) * pixels));
  return {
    forward: (images) => images.map((image) => image.flatMap((channel) => mixed(split(channel), q))),
    inverse: (images) => images.map((image) => groups(image).map((group) => joined(mixed(group, transposed(q))))),
  };
}

const inpainting = () => ({ forward: (x) => x, inverse: (x) => x });

module.exports = { OPERATORS: { inpainting, colorization, super_resolution: superResolution } };
