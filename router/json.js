/** JSON from outside: its size, depth and encoding are checked before it is parsed, and its keys before it is used. */
"use strict";

const { LIMITS } = require("./settings");

const [QUOTE, BACKSLASH, COMMA, OPEN, CLOSE, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('"\\,[]{}');
const UTF8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Parse a buffer of UTF-8.
 *
 * @throws {SyntaxError} it is no JSON, or nested too deep, or has too many values.
 * @throws {TypeError} it is no UTF-8.
 */
function parse(buffer) {
  checkShape(buffer);
  return JSON.parse(UTF8.decode(buffer));
}

/** One pass over the bytes; those of `"`, `\`, brackets and commas are never part of a longer UTF-8 sequence. */
function checkShape(buffer) {
  let depth = 0;
  let values = 1;
  let inString = false;
  for (let at = 0; at < buffer.length; at += 1) {
    const byte = buffer[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COMMA) values += 1;
    else if (byte === OPEN || byte === OPEN_OBJECT) {
      depth += 1;
      values += 1;
      if (depth > LIMITS.depth) throw new SyntaxError("nested too deep");
    } else if (byte === CLOSE || byte === CLOSE_OBJECT) depth -= 1;
    if (values > LIMITS.values) throw new SyntaxError("too many values");
  }
}

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether a value is an object without other keys than these. */
function hasOnly(value, keys) {
  return isRecord(value) && Object.keys(value).every((key) => keys.includes(key));
}

/** JSON in ASCII that a terminal shows as it is: nothing in it moves the cursor, or turns the direction of writing. */
function toPrintable(value, length) {
  const text = (JSON.stringify(value) ?? "").slice(0, length);
  return text.replace(/[^\x20-\x7e]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

module.exports = { hasOnly, isRecord, parse, toPrintable };
