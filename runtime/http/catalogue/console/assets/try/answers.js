// From an answer of JSON to what is shown of it: bars for scores, tables, text, pictures, sounds,
// boxes upon a picture; long vectors folded. Pure.
import { ExactNumber, isNumber } from "../parts/exact_json.js";

// A block is `{kind, ...}`:
//   fields   `entries`: [{name, block}]; `more`: entries that are not shown
//   scores   `rows`: [{label, score}]
//   table    `columns`, `rows`: texts; `more`: rows that are not shown
//   vector   `length`, `minimum`, `maximum`, `norm`, `values`: the first of them
//   matrix   `shape`
//   list     `blocks`, `more`
//   text     `text`; `more`: characters that are not shown
//   file     `media`: "picture" | "sound", `type`, `base64`
//   value    `text`
const MOST_ROWS = 200;
const MOST_COLUMNS = 12;
const MOST_BLOCKS = 50;
const MOST_ENTRIES = 200;
const MOST_CHARACTERS = 100_000;
const MOST_CELL_CHARACTERS = 500;
const MOST_DEPTH = 6;
const SHORT_LIST = 16;
const LEAST_BASE64 = 64;

export const MOST_PLOTTED = 512;

// What a whole answer may take, however it is nested: a block takes 1, as does a cell of a table.
const ROOM = 8000;
const CHARACTERS = 40; // of a text, that take 1
const NUMBERS = 8; // that are plotted, likewise

const LABELS = ["label", "name", "class", "category", "type", "text", "token", "word", "document"];
const SCORES = ["score", "confidence", "probability", "relevance_score", "similarity", "p"];

// The block of a value. `schema` is what is known of it, or null; of the answer of several rows it is
// that of one.
export function blockOf(value, schema = null) {
  return blockIn(value, schema, 0, { left: ROOM });
}

// `room.left` is what may be taken, and is less afterwards. A little is shown without any.
function blockIn(value, schema, depth, room) {
  room.left -= 1;
  if (value === null || isNumber(value) || typeof value === "boolean") {
    return { kind: "value", text: shorten(String(value)) };
  }
  if (typeof value === "string") return fileOf(value, schema) ?? textIn(value, room);
  if (depth >= MOST_DEPTH) return textIn(jsonOf(value), room);
  if (Array.isArray(value)) return listBlock(value, schema, depth, room);
  const scores = scoresOfMapping(value);
  if (scores && scores.length <= room.left) return scoresBlock(scores, room);
  const entries = Object.entries(value);
  const shown = inShares(entries, MOST_ENTRIES, room, ([name, inner], share) => ({
    name: shorten(name),
    block: blockIn(inner, schema?.properties?.[name] ?? null, depth + 1, share),
  }));
  return { kind: "fields", entries: shown, more: entries.length - shown.length };
}

// The first of these values made into something, each within its share of the room.
function inShares(values, most, room, make) {
  const count = Math.min(values.length, most);
  const made = [];
  while (made.length < count && room.left > 0) {
    const given = Math.ceil(room.left / (count - made.length));
    const share = { left: given };
    made.push(make(values[made.length], share));
    room.left -= given - share.left;
  }
  return made;
}

// The block of a text.
export function textBlock(text) {
  return textIn(text, { left: ROOM });
}

function textIn(text, room) {
  if (text.length <= 80 && !text.includes("\n")) return { kind: "value", text };
  const most = Math.min(MOST_CHARACTERS, Math.max(80, room.left * CHARACTERS));
  const shown = text.slice(0, most);
  room.left -= shown.length / CHARACTERS;
  return { kind: "text", text: shown, more: text.length - shown.length };
}

function shorten(text) {
  return text.length > MOST_CELL_CHARACTERS ? `${text.slice(0, MOST_CELL_CHARACTERS)}…` : text;
}

function jsonOf(value) {
  try {
    return JSON.stringify(value, null, 2);
  } catch {
    return "…"; // nested deeper than the browser writes
  }
}

// The beginnings of files in base64.
const MAGIC = [
  ["iVBORw0KGgo", "image/png"],
  ["/9j/", "image/jpeg"],
  ["R0lGOD", "image/gif"],
  ["SUQz", "audio/mpeg"],
  ["T2dnUw", "audio/ogg"],
  ["ZkxhQ", "audio/flac"],
];

// The type of a file by its first bytes, from its base64 text; null: it is none that a page shows.
export function typeOfBase64(text) {
  const known = MAGIC.find(([start]) => text.startsWith(start));
  if (known) return known[1];
  return text.startsWith("UklGR") ? riffOf(text) : null;
}

// A RIFF file says in its bytes 8 to 11 what it is.
function riffOf(text) {
  try {
    const name = atob(text.slice(0, 16)).slice(8, 12);
    return { WAVE: "audio/wav", WEBP: "image/webp" }[name] ?? null;
  } catch {
    return null;
  }
}

function fileOf(text, schema) {
  if (text.length < LEAST_BASE64 && schema?.contentEncoding !== "base64") return null;
  const said = schema?.contentMediaType ?? "";
  const type = /^(image|audio)\//.test(said) ? said : typeOfBase64(text);
  if (!type || !/^[A-Za-z0-9+/]+=*$/.test(text)) return null;
  return { kind: "file", media: type.startsWith("image/") ? "picture" : "sound", type, base64: text };
}

function listBlock(values, schema, depth, room) {
  if (values.length === 0) return { kind: "value", text: "[]" };
  const areNumbers = values.every((one) => isNumber(one) || one === null);
  if (areNumbers && values.some((one) => one !== null)) {
    if (values.length > SHORT_LIST) return vectorBlock(values, room);
    return { kind: "value", text: shorten(`[${values.join(", ")}]`) };
  }
  const shape = shapeOf(values);
  if (shape) return matrixBlock(values, shape, room);
  if (values.every(isFlat)) {
    const scores = values.length <= room.left ? scoresOfList(values) : null;
    return scores ? scoresBlock(scores, room) : tableOfObjects(values, room);
  }
  const inner = schema?.items ?? (depth === 0 ? schema : null);
  const blocks = inShares(values, MOST_BLOCKS, room, (one, share) =>
    blockIn(one, inner, depth + 1, share),
  );
  return { kind: "list", blocks, more: values.length - blocks.length };
}

function vectorBlock(values, room) {
  const numbers = values.filter((one) => one !== null);
  const most = Math.min(MOST_PLOTTED, Math.max(SHORT_LIST, Math.floor(room.left * NUMBERS)));
  const plotted = values.slice(0, most);
  room.left -= plotted.length / NUMBERS;
  return {
    kind: "vector",
    length: values.length,
    minimum: numbers.reduce((least, one) => Math.min(least, one), Infinity),
    maximum: numbers.reduce((most, one) => Math.max(most, one), -Infinity),
    norm: Math.sqrt(numbers.reduce((sum, one) => sum + one * one, 0)),
    values: plotted,
  };
}

// The shape of nested lists of numbers that are all alike; null: they are not. Of more than the
// first of each level only the length is looked at.
function shapeOf(values) {
  const shape = [];
  let at = values;
  while (Array.isArray(at)) {
    if (at.length === 0) return null;
    const [first] = at;
    if (Array.isArray(first) && !at.every((one) => Array.isArray(one) && one.length === first.length)) {
      return null;
    }
    if (!Array.isArray(first) && !at.every((one) => isNumber(one) || one === null)) {
      return null;
    }
    shape.push(at.length);
    at = first;
  }
  return shape.length > 1 ? shape : null;
}

function matrixBlock(values, shape, room) {
  const [, columns] = shape;
  if (shape.length > 2 || columns > MOST_COLUMNS) return { kind: "matrix", shape };
  return tableBlock([], values, room, (row) => row.map(cellText), columns);
}

// Whether a value is an object whose values stand in a cell each.
function isFlat(value) {
  return (
    value !== null &&
    typeof value === "object" &&
    !Array.isArray(value) &&
    !(value instanceof ExactNumber) &&
    Object.values(value).every((inner) => isPlain(inner) || (Array.isArray(inner) && isShort(inner)))
  );
}

function isPlain(value) {
  return value === null || typeof value !== "object" || value instanceof ExactNumber;
}

function isShort(values) {
  return values.length <= 8 && values.every(isPlain);
}

function tableOfObjects(values, room) {
  const columns = [...new Set(values.slice(0, MOST_ROWS).flatMap(Object.keys))].slice(0, MOST_COLUMNS);
  const cells = (value) =>
    columns.map((column) => (Object.hasOwn(value, column) ? cellText(value[column]) : ""));
  return tableBlock(columns, values, room, cells);
}

function tableBlock(columns, values, room, cells, width = columns.length) {
  const most = Math.min(MOST_ROWS, Math.max(1, Math.floor(room.left / Math.max(1, width))));
  const rows = values.slice(0, most).map(cells);
  room.left -= rows.length * width;
  const more = values.length - rows.length;
  return { kind: "table", columns: columns.map(shorten), rows, more };
}

function cellText(value) {
  if (value === null) return "null";
  return shorten(typeof value === "object" ? JSON.stringify(value) : String(value));
}

function isShare(value) {
  return typeof value === "number" && value >= 0 && value <= 1;
}

function scoresBlock(scores, room) {
  const rows = scores.map(({ label, score }) => ({ label: shorten(label), score }));
  room.left -= rows.length;
  return { kind: "scores", rows };
}

// Labels with shares: `[{"label": "cat", "score": 0.9}, ...]`, with nothing beside.
function scoresOfList(values) {
  const keys = Object.keys(values[0]);
  const label = LABELS.find((key) => keys.includes(key));
  const score = SCORES.find((key) => keys.includes(key));
  if (!label || !score || keys.length > 2 || values.length > MOST_ROWS) return null;
  const isAll = values.every((one) => isShare(one[score]) && one[label] !== undefined);
  return isAll ? values.map((one) => ({ label: String(one[label]), score: one[score] })) : null;
}

// Shares by label: `{"rude": 0.9, "polite": 0.1}`. One number alone is a number.
function scoresOfMapping(value) {
  const entries = Object.entries(value);
  if (entries.length < 2 || entries.length > MOST_ROWS) return null;
  if (!entries.every(([, score]) => isShare(score))) return null;
  if (entries.every(([, score]) => Number.isInteger(score))) return null;
  return entries.map(([label, score]) => ({ label, score }));
}

const BOXES = ["box", "bbox", "bounding_box", "rect", "xyxy"];
const CORNERS = [
  ["left", "top", "right", "bottom"],
  ["xmin", "ymin", "xmax", "ymax"],
  ["x1", "y1", "x2", "y2"],
  ["x_min", "y_min", "x_max", "y_max"],
];

export const MOST_BOXES = 500;

// What lies upon the picture that was sent: [{points: [[x, y], ...], label, score, isText}], in
// pixels of the picture, or in shares of its sides (`isShare`) where no edge is beyond 1.
export function boxesOf(answer) {
  const found = [];
  collectBoxes(answer, found, 0);
  const isShare =
    found.length > 0 && found.every(({ points }) => points.flat().every((edge) => edge <= 1));
  return found.map((box) => ({ ...box, isShare }));
}

function collectBoxes(value, found, depth) {
  if (value === null || typeof value !== "object" || depth > MOST_DEPTH) return;
  if (found.length >= MOST_BOXES) return;
  if (Array.isArray(value)) {
    for (const inner of value.slice(0, MOST_BOXES)) collectBoxes(inner, found, depth + 1);
    return;
  }
  const points = pointsOf(value);
  if (points) {
    const text = LABELS.map((key) => value[key]).find((one) => typeof one === "string") ?? "";
    const score = SCORES.map((key) => value[key]).find(isShare) ?? null;
    found.push({ points, label: shorten(text), score, isText: typeof value.text === "string" });
    return;
  }
  for (const inner of Object.values(value)) collectBoxes(inner, found, depth + 1);
}

function isNumbers(values, length) {
  return (
    Array.isArray(values) && values.length === length && values.every((one) => Number.isFinite(one))
  );
}

// The corners of a box or polygon; null: the object has none.
function pointsOf(value) {
  const box = BOXES.map((key) => value[key]).find((one) => one !== undefined) ?? value;
  if (isNumbers(box, 4)) return corners(box);
  const polygon = [value.polygon, value.points, value.quad, box].find(
    (one) => Array.isArray(one) && one.length >= 3 && one.every((point) => isNumbers(point, 2)),
  );
  if (polygon) return polygon;
  if (box === null || typeof box !== "object" || Array.isArray(box)) return null;
  const names = CORNERS.find((one) => one.every((name) => Number.isFinite(box[name])));
  if (names) return corners(names.map((name) => box[name]));
  const { x, y, width = box.w, height = box.h } = box;
  return isNumbers([x, y, width, height], 4) ? corners([x, y, x + width, y + height]) : null;
}

function corners([left, top, right, bottom]) {
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}
