// An example of a peer in JavaScript: python -m ict_ref.verify exec "node peer.js"
//
// It reads one JSON object per line and writes one per line. src/ict_ref/verify/data/VECTORS.md describes both.
"use strict";

const readline = require("node:readline");
const { Refused, decode, encode } = require("./values.js");
const { named } = require("./named.js");

const FORMULAS = {
  ...require("./schedules.js"),
  ...require("./model.js"),
  ...require("./sampling.js"),
  ...require("./editing.js"),
  ...require("./theory.js"),
};

function answer({ id, function: name, args, apply }) {
  if (!Object.hasOwn(FORMULAS, name)) return { id, missing: true };
  try {
    const value = FORMULAS[name](decode(args, named));
    // An operator has a value only at an image.
    if (typeof value.forward === "function") {
      return { id, value: apply ? encode(value.forward(decode(apply.forward))) : true };
    }
    return { id, value: encode(value) };
  } catch (error) {
    if (error instanceof Refused) return { id, error: error.message };
    throw error; // any other error ends the peer
  }
}

const lines = readline.createInterface({ input: process.stdin, terminal: false });
lines.on("line", (line) => process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`));
