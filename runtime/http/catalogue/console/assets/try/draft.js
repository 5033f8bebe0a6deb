// What is typed and chosen, and the call that it comes to.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { mayRound, parseExact } from "../parts/exact_json.js";
import { typeOfBase64 } from "./answers.js";
import { JSON_TYPE, base64Of, bodyOf, fileFrom, readValues, typedBody, waysOf } from "./calls.js";
import { fieldsOf, joinRequest, jsonText, readJson, startOf, typedOf } from "./fields.js";

const MOST_EMBEDDED_BYTES = 256 << 10; // of files that are written into JSON to be edited

// What is typed, as it changes; `call` is plain data as of `calls.js`. `settled()` waits for what was
// typed just now, which the next frame has, and gives the newest.
export function useDraft(details) {
  const fields = useMemo(
    () => fieldsOf(details.form, {
      takes: details.takes,
      rawField: details.raw_field,
      example: details.example,
    }),
    [details.form],
  );
  const [mode, setMode] = useState(fields === null ? "json" : "form");
  const [values, setValues] = useState(() => startValues(fields ?? [], details.example));
  // another version may have other fields
  useEffect(() => {
    setValues((before) => ({ ...startValues(fields ?? [], details.example), ...before }));
  }, [fields]);
  const [text, setText] = useState(() => jsonText(details.example ?? {}));
  const [way, setWay] = useState("");
  const [accept, setAccept] = useState("");
  const [headers, setHeaders] = useState({});
  const [sequence, setSequence] = useState(newSequence);
  const draft = {
    fields, mode, values, text, way, accept, headers, sequence,
    setMode, setValues, setText, setWay, setAccept, setHeaders, setSequence,
  };
  const newest = useRef(null);
  newest.current = { ...draft, call: callOf(draft, details) };
  const settled = () =>
    new Promise((resolve) => {
      requestAnimationFrame(() => resolve(newest.current));
    });
  return { ...newest.current, settled };
}

function startValues(fields, example) {
  return Object.fromEntries(
    fields.map((field) => {
      const start = startOf(field, example);
      return [field.name, { ...start, files: start.files.map(exampleFile).filter(Boolean) }];
    }),
  );
}

function exampleFile(base64) {
  const type = typeOfBase64(base64) ?? "";
  return fileFrom(base64, `example${type ? `.${type.split("/")[1].replace("jpeg", "jpg")}` : ""}`, type);
}

function newSequence() {
  const id = `try-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  return { id, isStart: true, isEnd: true };
}

// The call as it stands: plain data as of `calls.js`, with `faults` by field (and `body`, of JSON
// that was typed), and the `ways` to send it.
export function callOf(draft, details) {
  const { fields, mode, text } = draft;
  const common = { path: details.entry.url, headers: headersOf(draft, details) };
  const missing = Object.entries(details.headers ?? {})
    .filter(([name, isRequired]) => isRequired && !draft.headers[name])
    .map(([name]) => [`header ${name}`, "A value is wanted."]);
  const faults = Object.fromEntries(missing);
  if (mode === "json") {
    const body = typedBody(text);
    if (body.fault) return { ...common, ways: ["json"], faults: { ...faults, body: body.fault }, body: { kind: "json", text: "{}" } };
    return { ...common, ways: ["json"], faults, body };
  }
  const read = readValues(fields, draft.values);
  const ways = waysOf(details, read, fields);
  const way = ways.includes(draft.way) ? draft.way : ways[0];
  const body = bodyOf(way, fields, read, details.raw_field);
  return { ...common, ways, way, body, faults: { ...faults, ...read.faults } };
}

function headersOf({ accept, headers, sequence }, details) {
  const chosen = accept || acceptsOf(details)[0]?.type;
  return [
    ...(chosen ? [["accept", chosen]] : []),
    ...Object.entries(headers).filter(([, value]) => value !== ""),
    ...(details.is_of_sequences ? sequenceHeaders(sequence) : []),
  ];
}

function sequenceHeaders({ id, isStart, isEnd }) {
  return [
    ["x-sequence-id", id],
    ...(isStart ? [["x-sequence-start", "1"]] : []),
    ...(isEnd ? [["x-sequence-end", "1"]] : []),
  ];
}

// The forms of an answer, where there are several.
export function acceptsOf({ streams, gives }) {
  if (streams) {
    return [
      { type: "text/event-stream", label: "events, as they come" },
      { type: "application/x-ndjson", label: "lines, as they come" },
      { type: JSON_TYPE, label: "JSON, at the end" },
    ];
  }
  if (gives) return [{ type: gives.split(";")[0], label: "the file" }, { type: JSON_TYPE, label: "JSON" }];
  return [];
}

// Whether files are written into JSON.
function isEmbedded(files) {
  return files.reduce((sum, file) => sum + file.size, 0) <= MOST_EMBEDDED_BYTES;
}

// The form as JSON, to be edited. Large files are left out.
export async function jsonOfForm({ fields, values }) {
  const { texts, files } = readValues(fields, values);
  const all = { ...texts };
  for (const field of fields.filter(({ name }) => Object.hasOwn(files, name))) {
    const chosen = files[field.name];
    if (!isEmbedded(chosen)) continue;
    const encoded = (await Promise.all(chosen.map(base64Of))).map((one) => JSON.stringify(one));
    all[field.name] = field.isMany ? `[${encoded.join(", ")}]` : encoded[0];
  }
  const text = joinRequest(all);
  return mayRound(text) ? text : jsonText(parseExact(text));
}

// What was typed as JSON, in the form's fields; null: it is no object. `before` is what they had: a
// file that is in the JSON still, or was left out of it, is the one that was chosen.
export async function valuesOfJson(fields, text, before) {
  if (readJson(text).fault) return null;
  const request = parseExact(text);
  if (request === null || typeof request !== "object" || Array.isArray(request)) return null;
  const valueOf = async (field) => {
    const value = Object.hasOwn(request, field.name) ? request[field.name] : undefined;
    const typed = typedOf(field, value);
    if (field.kind !== "file") return [field.name, typed];
    const chosen = before[field.name]?.files ?? [];
    const wasWritten = isEmbedded(chosen);
    if (value === undefined && !wasWritten) return [field.name, before[field.name]];
    const known = wasWritten ? await Promise.all(chosen.map(base64Of)) : [];
    const files = typed.files.map((base64) => chosen[known.indexOf(base64)] ?? exampleFile(base64));
    return [field.name, { ...typed, files: files.filter(Boolean) }];
  };
  return Object.fromEntries(await Promise.all(fields.map(valueOf)));
}
