// From the JSON Schema of a request to the fields of a form, and from what was typed into them to
// the request. Pure: no element of the page, so that tests run it anywhere.
//
// What is typed is text, and the request is put together from texts of JSON: a number of JavaScript
// would round integers beyond 2^53.
import { isNumber } from "../parts/exact_json.js";

// A field: `name`, `kind`, `label`, `description`, `isRequired`, `mayBeNull`, and by its kind
//   text     `isLong`, `isSecret`, `minLength`, `maxLength`
//   number   `isInteger`, `minimum`, `maximum`
//   boolean
//   choice   `options`: [{label, json}]
//   list     `of`: "number" | "text": elements separated by commas, or by lines
//   file     `media`: "picture" | "sound" | "any"; `isMany`: a list of files
//   json     anything deeper

// The fields of a request. Null: it has none that are known, and is written as JSON.
export function fieldsOf(schema, { takes = [], rawField = "", example = null } = {}) {
  if (!schema || typeof schema.properties !== "object") return null;
  const isOpen = schema.additionalProperties !== undefined && schema.additionalProperties !== false;
  if (isOpen && Object.keys(schema.properties).length === 0) return null;
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties).map(([name, given]) =>
    fieldOf(name, given ?? {}, {
      root: schema,
      isRequired: required.has(name),
      takes: name === rawField ? takes : [],
      example: example?.[name],
    }),
  );
}

function fieldOf(name, given, { root, isRequired, takes, example }) {
  const options = alternatives(given, root);
  const mayBeNull = options.some((one) => one.type === "null");
  const real = options.filter((one) => one.type !== "null");
  const description = given.description ?? real[0]?.description ?? "";
  const common = {
    name,
    label: name,
    description,
    isRequired,
    mayBeNull,
    standard: given.default,
  };
  if (real.length !== 1) return { ...common, kind: "json" };
  return {
    ...common,
    ...kindOf(real[0], {
      root, name, description, takes, example: example ?? given.default,
    }),
  };
}

// A schema without references and unions at its top: each thing that a value may be.
export function alternatives(given, root, depth = 0) {
  const schema = resolve(given, root);
  const inner = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(inner) && depth < 8) {
    return inner.flatMap((one) => alternatives(one, root, depth + 1));
  }
  if (Array.isArray(schema.type)) {
    return schema.type.map((type) => ({ ...schema, type }));
  }
  return [schema];
}

// What a reference leads to. One that leads nowhere may be anything: a type within itself.
export function resolve(schema, root, depth = 0) {
  if (typeof schema?.$ref !== "string" || depth > 8) return schema ?? {};
  const path = schema.$ref.replace(/^#\/?/, "").split("/").filter(Boolean);
  const found = path.reduce((at, key) => at?.[key], root);
  if (!found) return {};
  const { $ref: _, ...beside } = schema;
  return { ...resolve(found, root, depth + 1), ...beside };
}

function kindOf(schema, { root, name, description, takes, example }) {
  const choices = choicesOf(schema);
  if (choices) return { kind: "choice", options: choices };
  if (isBytes(schema)) return { kind: "file", media: mediaOf(schema, name, description, takes) };
  switch (schema.type) {
    case "string":
      return {
        kind: "text",
        isSecret: schema.format === "password" || schema.writeOnly === true,
        isLong: isLongText(schema, example),
        maxLength: schema.maxLength,
        minLength: schema.minLength,
      };
    case "integer":
    case "number":
      return {
        kind: "number",
        isInteger: schema.type === "integer",
        minimum: schema.minimum ?? schema.exclusiveMinimum,
        maximum: schema.maximum ?? schema.exclusiveMaximum,
      };
    case "boolean":
      return { kind: "boolean" };
    case "array":
      return listOf(schema, { root, name, description });
    default:
      return { kind: "json" };
  }
}

function choicesOf(schema) {
  const values = schema.enum ?? ("const" in schema ? [schema.const] : null);
  if (!Array.isArray(values) || values.length === 0) return null;
  return values.map((value) => ({
    label: typeof value === "string" ? value : JSON.stringify(value),
    json: JSON.stringify(value),
  }));
}

function listOf(schema, { root, name, description }) {
  if (schema.prefixItems) return { kind: "json" };
  const items = alternatives(schema.items ?? {}, root).filter((one) => one.type !== "null");
  if (items.length !== 1) return { kind: "json" };
  const [item] = items;
  if (isBytes(item)) {
    return { kind: "file", isMany: true, media: mediaOf(item, name, description, []) };
  }
  if (choicesOf(item)) return { kind: "json" };
  if (item.type === "number" || item.type === "integer") {
    return { kind: "list", of: "number", isInteger: item.type === "integer" };
  }
  if (item.type === "string") return { kind: "list", of: "text" };
  return { kind: "json" };
}

export function isBytes(schema) {
  return schema.contentEncoding === "base64" || schema.format === "byte";
}

// Whether a text is rather a passage than a word: by its bounds, or by the example.
function isLongText(schema, example) {
  if (schema.format) return false;
  if (schema.maxLength !== undefined) return schema.maxLength > 120;
  return example === undefined || String(example).length > 40 || /\n/.test(String(example));
}

const PICTURE = /\b(image|picture|photo|png|jpe?g)/i;
const SOUND = /\b(sound|audio|wav|speech|voice|recording)/i;

// What a file is of: by the types that are taken, else by what its name and its text say.
function mediaOf(schema, name, description, takes) {
  const types = schema.contentMediaType ? [schema.contentMediaType] : takes;
  if (types.some((type) => type.startsWith("image/"))) return "picture";
  if (types.some((type) => type.startsWith("audio/"))) return "sound";
  const words = `${name.replaceAll("_", " ")} ${description}`;
  return PICTURE.test(words) ? "picture" : SOUND.test(words) ? "sound" : "any";
}

// What a field shows at first: `{text}`, or `{files}` with base64 texts, of the example; without
// one, what is sent where nothing is.
export function startOf(field, example) {
  const value = example?.[field.name];
  if (value !== undefined || field.kind === "file") return typedOf(field, value);
  if (field.kind === "choice" && field.isRequired) return { text: field.options[0].json, files: [] };
  if (field.kind === "boolean" && field.isRequired) return { text: "false", files: [] };
  return { text: "", files: [] };
}

// A value of JSON in a field: `{text}` as it is typed, `{files}` with base64 texts, or `isNull`, which
// no text says but in a choice.
export function typedOf(field, value) {
  const isNull = value === null && !isChosen(field);
  if (field.kind === "file") {
    const files = [value].flat().filter((one) => typeof one === "string" && one);
    return { text: "", files, isNull };
  }
  return { text: value === undefined || isNull ? "" : textOf(field, value), files: [], isNull };
}

// Whether a field is a choice of few values, null among them.
export function isChosen({ kind }) {
  return kind === "choice" || kind === "boolean";
}

// A value of JSON as it is typed into a field.
export function textOf(field, value) {
  if (value === null) return isChosen(field) ? "null" : "";
  switch (field.kind) {
    case "text":
      return typeof value === "string" ? value : JSON.stringify(value);
    case "choice":
      return JSON.stringify(value);
    case "number":
    case "boolean":
      return String(value);
    case "list":
      return listText(field, value);
    default:
      return jsonText(value);
  }
}

const LINE = 64; // characters of JSON that stand in one line

// A value of JSON to be edited: what is short, or has nothing within, in one line.
export function jsonText(value, indent = "") {
  const line = JSON.stringify(value);
  const values = value !== null && typeof value === "object" ? Object.values(value) : [];
  const isDeep = !Array.isArray(value) || values.some((one) => typeof one === "object");
  if (values.length === 0 || !isDeep || indent.length + line.length <= LINE) return line;
  const inner = `${indent}  `;
  const parts = Object.entries(value).map(([name, one]) => {
    const key = Array.isArray(value) ? "" : `${JSON.stringify(name)}: `;
    return `${inner}${key}${jsonText(one, inner)}`;
  });
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${parts.join(",\n")}\n${indent}${close}`;
}

function listText(field, value) {
  if (!Array.isArray(value)) return JSON.stringify(value);
  if (field.of === "number") return value.every(isNumber) ? value.join(", ") : jsonText(value);
  const isPlain = value.every(
    (one) => typeof one === "string" && one.trim() === one && one !== "" && !/\n/.test(one),
  );
  return isPlain && !value[0]?.startsWith("[") ? value.join("\n") : jsonText(value);
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const INTEGER = /^-?(0|[1-9]\d*)$/;

// What a field stands for: `{json}`, a text of JSON; `{isAbsent: true}`, it is left out; or
// `{fault}`, in words. Of files the caller makes the JSON.
export function readField(field, text) {
  const isEmpty = text.trim() === "" && field.kind !== "text";
  if (isEmpty || (text === "" && !field.isRequired)) {
    if (!field.isRequired) return { isAbsent: true };
    if (field.mayBeNull) return { json: "null" };
    if (field.kind === "list") return { json: "[]" };
    return { fault: "A value is wanted." };
  }
  switch (field.kind) {
    case "text":
      return readText(field, text);
    case "number":
      return readNumber(field, text.trim());
    case "boolean":
    case "choice":
      return { json: text };
    case "list":
      return readList(field, text);
    default:
      return readJson(text);
  }
}

function readText(field, text) {
  const length = [...text].length;
  if (field.maxLength !== undefined && length > field.maxLength) {
    return { fault: `It has ${length} characters; ${field.maxLength} at most are taken.` };
  }
  if (field.minLength !== undefined && length < field.minLength) {
    return { fault: `It has ${length} characters; ${field.minLength} at least are wanted.` };
  }
  return { json: JSON.stringify(text) };
}

function readNumber({ isInteger, minimum, maximum }, text) {
  if (!(isInteger ? INTEGER : NUMBER).test(text)) {
    return { fault: isInteger ? "A whole number is wanted." : "A number is wanted, such as 0.5." };
  }
  if (minimum !== undefined && Number(text) < minimum) return { fault: `${minimum} at least.` };
  if (maximum !== undefined && Number(text) > maximum) return { fault: `${maximum} at most.` };
  return { json: text };
}

function readList(field, text) {
  if (text.trim().startsWith("[")) return readJson(text);
  if (field.of === "text") {
    const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
    return { json: JSON.stringify(lines) };
  }
  const parts = text.split(/[\s,;]+/).filter(Boolean);
  const wrong = parts.find((part) => !(field.isInteger ? INTEGER : NUMBER).test(part));
  if (wrong !== undefined) return { fault: `"${wrong.slice(0, 40)}" is no number of the list.` };
  return { json: `[${parts.join(", ")}]` };
}

// A text of JSON, as it is.
export function readJson(text) {
  try {
    JSON.parse(text);
  } catch (fault) {
    return { fault: `That is no JSON: ${fault.message}.` };
  }
  return { json: text.trim() };
}

// A request of texts of JSON by name.
export function joinRequest(texts) {
  const parts = Object.entries(texts).map(([name, json]) => `${JSON.stringify(name)}: ${json}`);
  return `{${parts.join(", ")}}`;
}
