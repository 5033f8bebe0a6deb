// Streams of answers as they come: events (WHATWG HTML, section 9.2) and lines of JSON. Pure: texts
// in, items out.
import { eventParser } from "../live/events.js";
import { LineCutter } from "../live/lines.js";
import { parseExact } from "../parts/exact_json.js";

// Most characters of one item, as of an answer that comes whole.
const MOST = 16 << 20;

// An item is `{kind, value, text}`: "item" with what was answered; "error" with the server's error
// form; "done" with what it says at the end; "text" with what is no JSON. `text` is how it came.
function item(text, kind = "item") {
  try {
    return { kind, value: parseExact(text), text };
  } catch {
    return { kind: kind === "error" ? "error" : "text", value: text, text };
  }
}

// Whether a value is the server's error form (docs/errors.md).
export function isError(value) {
  return typeof value?.error === "string" && typeof value?.code === "string";
}

// Reads events. `feed` returns the items that are whole; what is cut by the end is none. `isWhole`:
// the event came that is the last one.
export class EventReader {
  #parse;
  isWhole = false;

  constructor(most = MOST) {
    this.#parse = eventParser(most);
  }

  feed(text) {
    return this.#parse(text).map(({ event, data }) => {
      const isLast = event === "error" || event === "done";
      this.isWhole ||= isLast;
      return withError(item(data, isLast ? event : "item"));
    });
  }

  end() {
    return [];
  }
}

// Reads lines of JSON, which have no last one that says so. `isWhole` after `end`: the last one was
// whole as well.
export class LineReader {
  #lines;
  isWhole = false;

  constructor(most = MOST) {
    this.#lines = new LineCutter(/\n/g, most);
  }

  feed(text) {
    return this.#lines.feed(text).map(readLine).filter(Boolean);
  }

  end() {
    const read = readLine(this.#lines.end());
    this.isWhole = read?.kind !== "text";
    return read && this.isWhole ? [read] : [];
  }
}

function readLine(line) {
  return line.trim() ? withError(item(line)) : null;
}

function withError(read) {
  return read.kind === "item" && isError(read.value) ? { ...read, kind: "error" } : read;
}

// The reader of an answer of that content type; null: it comes whole.
export function readerOf(contentType) {
  const type = (contentType ?? "").split(";")[0].trim().toLowerCase();
  if (type === "text/event-stream") return new EventReader();
  if (type === "application/x-ndjson" || type === "application/jsonl") return new LineReader();
  return null;
}

// The newest of items, of so many characters together; the last one always.
export function newestOf(items, mostItems, mostCharacters) {
  let from = items.length;
  let characters = 0;
  while (from > 0 && items.length - from < mostItems) {
    characters += items[from - 1].text.length;
    if (characters > mostCharacters && from < items.length) break;
    from -= 1;
  }
  return items.slice(from);
}

const PIECES = ["text", "token", "delta", "content", "piece"];

// The text that items come to together, where each is a piece of one; null: they are no such pieces.
export function joinedText(values) {
  if (values.length === 0) return null;
  const [first] = values;
  const isText = typeof first === "string";
  const key = isText ? null : PIECES.find((one) => Object.hasOwn(Object(first), one));
  if (key === undefined) return null;
  const pieces = values.map((value) => (isText ? value : value?.[key]));
  const isAll = pieces.every((piece) => typeof piece === "string");
  const isAlone = isText || values.every((value) => Object.keys(value).length <= 2);
  return isAll && isAlone ? pieces.join("") : null;
}
