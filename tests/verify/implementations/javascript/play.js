// The functions of docs/play.md as a peer: python -m ict_ref.verify exec "node play.js"
"use strict";

const readline = require("node:readline");
const { decode, encode } = require("./values.js");

const FORMULAS = require("../../../../docs/_static/play/formulas.js");

function answer({ id, function: name, args }) {
  if (!Object.hasOwn(FORMULAS, name)) return { id, missing: true };
  try {
    return { id, value: encode(FORMULAS[name](decode(args))) };
  } catch (error) {
    if (error instanceof RangeError) return { id, error: error.message };
    throw error; // any other error ends the peer
  }
}

const lines = readline.createInterface({ input: process.stdin, terminal: false });
lines.on("line", (line) => process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`));
