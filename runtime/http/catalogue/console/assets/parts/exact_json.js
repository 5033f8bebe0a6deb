// JSON whose numbers keep their digits. Pure.

// Chromium 114, Firefox 135, Safari 18.4; elsewhere numbers are rounded as JavaScript does.
const CAN_KEEP = typeof JSON.rawJSON === "function";

// What may be rounded to another number: an integer beyond 2^53, a number beyond all of JavaScript's.
// Only where it is in a text is each number looked at, which takes ten times as long.
const LONG_NUMBER = /(?<![\d.])\d{16}|[eE]\+?\d{3}/;

// A number that JavaScript would round, as it was written: in a text, and in JSON. What is computed
// with it is rounded.
export class ExactNumber {
  #text;

  constructor(text) {
    this.#text = text;
  }

  toString() {
    return this.#text;
  }

  toJSON() {
    return JSON.rawJSON(this.#text);
  }
}

// The value of a text of JSON. Raises: SyntaxError.
export function parseExact(text) {
  if (!CAN_KEEP || !LONG_NUMBER.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, { source }) =>
    typeof value === "number" && isRounded(value, source) ? new ExactNumber(source) : value,
  );
}

function isRounded(value, source) {
  return !Number.isFinite(value) || (/^-?\d+$/.test(source) && !Number.isSafeInteger(value));
}

// Whether `parseExact` may give another number than is written.
export function mayRound(text) {
  return !CAN_KEEP && LONG_NUMBER.test(text);
}

// Whether a value of JSON is a number.
export function isNumber(value) {
  return typeof value === "number" || value instanceof ExactNumber;
}
