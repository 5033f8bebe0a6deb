// Streams of answers as they come: events (WHATWG HTML, section 9.2) and lines of JSON. Pure: texts
// in, items out.
import { eventParser } from "../live/events.js";

// An item is `{kind, value}`: "item" with what was answered; "error" with the server's error form;
// "done" with what it says at the end; "text" with what is no JSON.
function item(text, kind = "item") {
  try {
    return { kind, value: JSON.parse(text) };
  } catch {
    return { kind: kind === "error" ? "error" : "text", value: text };
  }
}

// Whether a value is the server's error form (docs/errors.md).
export function isError(value) {
  return typeof value?.error === "string" && typeof value?.code === "string";
}

// Reads events. `feed` returns the items that are whole; what is cut by the end is none.
export class EventReader {
  #parse = eventParser();

  feed(text) {
    return this.#parse(text).map(readEvent);
  }

  end() {
    return [];
  }
}

function readEvent({ event, data }) {
  const read = item(data, event === "error" || event === "done" ? event : "item");
  return read.kind === "item" && isError(read.value) ? { ...read, kind: "error" } : read;
}

// Reads lines of JSON.
export class LineReader {
  #rest = "";

  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    return lines.map(readLine).filter(Boolean);
  }

  end() {
    const read = readLine(this.#rest);
    this.#rest = "";
    return read ? [read] : [];
  }
}

function readLine(line) {
  if (!line.trim()) return null;
  const read = item(line);
  return read.kind === "item" && isError(read.value) ? { ...read, kind: "error" } : read;
}

// The reader of an answer of that content type; null: it comes whole.
export function readerOf(contentType) {
  const type = (contentType ?? "").split(";")[0].trim().toLowerCase();
  if (type === "text/event-stream") return new EventReader();
  if (type === "application/x-ndjson" || type === "application/jsonl") return new LineReader();
  return null;
}

const PIECES = ["text", "token", "delta", "content", "piece"];

// The text that items come to together, where each is a piece of one; null: they are no such pieces.
export function joinedText(values) {
  if (values.length === 0) return null;
  const key = typeof values[0] === "string" ? null : PIECES.find((one) => one in (values[0] ?? {}));
  if (key === undefined) return null;
  const pieces = values.map((value) => (key === null ? value : value?.[key]));
  const isAll = pieces.every((piece) => typeof piece === "string");
  const isAlone = key === null || values.every((value) => Object.keys(value).length <= 2);
  return isAll && isAlone ? pieces.join("") : null;
}
