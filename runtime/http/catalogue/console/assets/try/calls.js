// A call as it was chosen in the form: which body it has, what is wrong with it, and what `fetch`
// sends. Pure, but for reading the files.
//
// A call is plain data, from which the request and the lines for programs are made:
//   path      of the function
//   headers   [[name, value]], without the content type and the key
//   body      {kind: "json", texts: {name: JSON}, files: {name: [File]}, many: [name]}
//             {kind: "json", text}                      as it was typed
//             {kind: "raw", type, file}
//             {kind: "form", parts: [{name, text} or {name, file}]}
import { joinRequest, readField, readJson } from "./fields.js";

export const JSON_TYPE = "application/json";
export const OCTETS = "application/octet-stream";

// Whether a type is one of media types and ranges.
export function isTaken(type, takes) {
  return takes.some(
    (range) =>
      range === "*/*" ||
      range === type ||
      (range.endsWith("/*") && type.startsWith(range.slice(0, -1))),
  );
}

// The type of a file as it is sent.
export function typeOfFile(file) {
  return (file.type || OCTETS).split(";")[0].toLowerCase();
}

// The type under which a file is the body: JSON and a form in parts would be read as a request.
function typeOfBody(file) {
  const type = typeOfFile(file);
  return type === JSON_TYPE || type.startsWith("multipart/") ? OCTETS : type;
}

// What was typed and chosen: `{texts, files, faults}`, each by the name of a field.
export function readValues(fields, values) {
  const read = { texts: {}, files: {}, faults: {} };
  for (const field of fields) {
    const { text = "", files = [], isNull = false } = values[field.name] ?? {};
    if (isNull) {
      read.texts[field.name] = "null";
      continue;
    }
    if (field.kind === "file") {
      if (files.length > 0) read.files[field.name] = files;
      else if (field.isRequired && field.isMany) read.texts[field.name] = "[]";
      else if (field.isRequired && field.mayBeNull) read.texts[field.name] = "null";
      else if (field.isRequired) read.faults[field.name] = "A file is wanted.";
      continue;
    }
    const { json, fault } = readField(field, text);
    if (fault) read.faults[field.name] = fault;
    else if (json !== undefined) read.texts[field.name] = json;
  }
  return read;
}

// How the call may be sent, the best first: "raw", "form", "json".
export function waysOf({ takes = [], raw_field: rawField = "" }, { texts, files }, fields = []) {
  // a part of a form is the text itself: no text is null there
  if (fields.some((field) => isOfText(field) && texts[field.name] === "null")) return ["json"];
  const names = Object.keys(files);
  const [file] = files[rawField] ?? [];
  const isAlone = names.length === 1 && names[0] === rawField && Object.keys(texts).length === 0;
  const others = takes.filter((type) => type !== JSON_TYPE);
  const isRaw = Boolean(file) && isAlone && isTaken(typeOfBody(file), others);
  const rest = names.length > 0 ? ["form", "json"] : ["json", "form"];
  return isRaw ? ["raw", ...rest] : rest;
}

// The body of a call that is sent one of these ways.
export function bodyOf(way, fields, { texts, files }, rawField) {
  if (way === "raw") {
    const [file] = files[rawField];
    return { kind: "raw", type: typeOfBody(file), file };
  }
  const many = fields.filter((field) => field.isMany).map((field) => field.name);
  if (way === "json") return { kind: "json", texts, files, many };
  const parts = fields.flatMap((field) => {
    const { name } = field;
    if (Object.hasOwn(files, name)) return files[name].map((file) => ({ name, file }));
    if (!Object.hasOwn(texts, name)) return [];
    return [{ name, text: formText(texts[name], isOfText(field)) }];
  });
  return { kind: "form", parts };
}

function isOfText({ kind }) {
  return kind === "text" || kind === "choice";
}

// A text of JSON as a part of a form has it: a text is as it is.
function formText(json, isText) {
  if (!isText) return json;
  const value = JSON.parse(json);
  return typeof value === "string" ? value : json;
}

// The body that was typed as JSON; `{fault}`, in words, where it is none.
export function typedBody(text) {
  const { json, fault } = readJson(text);
  return fault ? { fault } : { kind: "json", text: json };
}

// What `fetch` is given.
export async function requestOf(call) {
  const headers = new Headers(call.headers);
  const { body } = call;
  if (body.kind === "raw") {
    headers.set("content-type", body.type);
    return { method: "POST", headers, body: body.file };
  }
  if (body.kind === "form") {
    const form = new FormData(); // which writes its own content type, with the boundary
    for (const { name, text, file } of body.parts) {
      if (file) form.append(name, file, file.name || name);
      else form.append(name, text);
    }
    return { method: "POST", headers, body: form };
  }
  headers.set("content-type", JSON_TYPE);
  return { method: "POST", headers, body: body.text ?? (await jsonOf(body)) };
}

async function jsonOf({ texts, files, many }) {
  const all = { ...texts };
  for (const [name, chosen] of Object.entries(files)) {
    const encoded = await Promise.all(chosen.map(base64Of));
    const quoted = encoded.map((one) => JSON.stringify(one));
    all[name] = many.includes(name) ? `[${quoted.join(", ")}]` : quoted[0];
  }
  return joinRequest(all);
}

const CHUNK = 0x8000; // bytes that one call of a function takes as its arguments

// The content of a file as base64.
export async function base64Of(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const pieces = [];
  for (let at = 0; at < bytes.length; at += CHUNK) {
    pieces.push(String.fromCharCode(...bytes.subarray(at, at + CHUNK)));
  }
  return btoa(pieces.join(""));
}

// A file from base64; null: it is no base64.
export function fileFrom(base64, name, type) {
  let text;
  try {
    text = atob(base64);
  } catch {
    return null;
  }
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return new File([bytes], name, { type });
}

// The place in an error ("inputs[0].image", "image", "[2].image") as the name of a field.
export function fieldAt(where, fields) {
  const names = String(where ?? "").split(/[.[\]]+/);
  return fields.find(({ name }) => names.includes(name))?.name ?? null;
}
