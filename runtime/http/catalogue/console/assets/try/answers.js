// From an answer of JSON to what is shown of it: bars for scores, tables, text, pictures, sounds,
// boxes upon a picture; long vectors folded. Pure.
//
// A block is `{kind, ...}`:
//   fields   `entries`: [{name, block}]
//   scores   `rows`: [{label, score}]
//   table    `columns`, `rows`: texts; `more`: rows that are not shown
//   vector   `length`, `minimum`, `maximum`, `norm`, `values`: the first of them
//   matrix   `shape`
//   list     `blocks`, `more`
//   text     `text`
//   file     `media`: "picture" | "sound", `type`, `base64`
//   value    `text`
const MOST_ROWS = 200;
const MOST_COLUMNS = 12;
const MOST_BLOCKS = 50;
const MOST_DEPTH = 6;
const SHORT_LIST = 16;
const LEAST_BASE64 = 64;

export const MOST_PLOTTED = 512;

const LABELS = ["label", "name", "class", "category", "type", "text", "token", "word", "document"];
const SCORES = ["score", "confidence", "probability", "relevance_score", "similarity", "p"];

// The block of a value. `schema` is what is known of it, or null; of the answer of several rows it is
// that of one.
export function blockOf(value, schema = null, depth = 0) {
  if (value === null || typeof value === "number" || typeof value === "boolean") {
    return { kind: "value", text: String(value) };
  }
  if (typeof value === "string") return textBlock(value, schema);
  if (depth >= MOST_DEPTH) return { kind: "text", text: JSON.stringify(value, null, 2) };
  if (Array.isArray(value)) return listBlock(value, schema, depth);
  const scores = scoresOfMapping(value);
  if (scores) return { kind: "scores", rows: scores };
  const entries = Object.entries(value).map(([name, inner]) => ({
    name,
    block: blockOf(inner, schema?.properties?.[name] ?? null, depth + 1),
  }));
  return { kind: "fields", entries };
}

function textBlock(text, schema) {
  const file = fileOf(text, schema);
  if (file) return file;
  return text.length > 80 || text.includes("\n") ? { kind: "text", text } : { kind: "value", text };
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

function listBlock(values, schema, depth) {
  if (values.length === 0) return { kind: "value", text: "[]" };
  const areNumbers = values.every((one) => typeof one === "number" || one === null);
  if (areNumbers && values.some((one) => one !== null)) {
    if (values.length > SHORT_LIST) return vectorBlock(values);
    return { kind: "value", text: `[${values.join(", ")}]` };
  }
  const shape = shapeOf(values);
  if (shape) return matrixBlock(values, shape);
  if (values.every(isFlat)) return scoresOfList(values) ?? tableBlock(values);
  const blocks = values
    .slice(0, MOST_BLOCKS)
    .map((one) => blockOf(one, schema?.items ?? (depth === 0 ? schema : null), depth + 1));
  return { kind: "list", blocks, more: values.length - blocks.length };
}

function vectorBlock(values) {
  const numbers = values.filter((one) => one !== null);
  return {
    kind: "vector",
    length: values.length,
    minimum: numbers.reduce((least, one) => Math.min(least, one), Infinity),
    maximum: numbers.reduce((most, one) => Math.max(most, one), -Infinity),
    norm: Math.sqrt(numbers.reduce((sum, one) => sum + one * one, 0)),
    values: values.slice(0, MOST_PLOTTED),
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
    if (!Array.isArray(first) && !at.every((one) => typeof one === "number" || one === null)) {
      return null;
    }
    shape.push(at.length);
    at = first;
  }
  return shape.length > 1 ? shape : null;
}

function matrixBlock(values, shape) {
  const [rows, columns] = shape;
  if (shape.length > 2 || columns > MOST_COLUMNS) return { kind: "matrix", shape };
  return {
    kind: "table",
    columns: [],
    rows: values.slice(0, MOST_ROWS).map((row) => row.map(cellText)),
    more: Math.max(0, rows - MOST_ROWS),
  };
}

// Whether a value is an object whose values stand in a cell each.
function isFlat(value) {
  return (
    value !== null &&
    typeof value === "object" &&
    !Array.isArray(value) &&
    Object.values(value).every(
      (inner) =>
        inner === null || typeof inner !== "object" || (Array.isArray(inner) && isShort(inner)),
    )
  );
}

function isShort(values) {
  return values.length <= 8 && values.every((one) => one === null || typeof one !== "object");
}

function tableBlock(values) {
  const columns = [...new Set(values.slice(0, MOST_ROWS).flatMap(Object.keys))].slice(0, MOST_COLUMNS);
  return {
    kind: "table",
    columns,
    rows: values
      .slice(0, MOST_ROWS)
      .map((value) => columns.map((column) => (column in value ? cellText(value[column]) : ""))),
    more: Math.max(0, values.length - MOST_ROWS),
  };
}

function cellText(value) {
  if (value === null) return "null";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function isShare(value) {
  return typeof value === "number" && value >= 0 && value <= 1;
}

// Labels with shares: `[{"label": "cat", "score": 0.9}, ...]`, with nothing beside.
function scoresOfList(values) {
  const keys = Object.keys(values[0]);
  const label = LABELS.find((key) => keys.includes(key));
  const score = SCORES.find((key) => keys.includes(key));
  if (!label || !score || keys.length > 2 || values.length > MOST_ROWS) return null;
  const isAll = values.every((one) => isShare(one[score]) && one[label] !== undefined);
  return isAll
    ? { kind: "scores", rows: values.map((one) => ({ label: String(one[label]), score: one[score] })) }
    : null;
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
    found.push({ points, label: text, score, isText: typeof value.text === "string" });
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
