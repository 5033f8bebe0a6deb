// One call: sent, its answer read as it comes, its time measured.
import { ApiError, refusalOf } from "../api.js";
import { parseExact } from "../parts/exact_json.js";
import { JSON_TYPE, requestOf } from "./calls.js";
import { newestOf, readerOf } from "./streams.js";
import { barOf } from "./timing.js";

const MOST_JSON_BYTES = 16 << 20;
const MOST_TEXT_BYTES = 1 << 20;

// What is kept of a stream to be shown: the newest items, and their characters.
const MOST_ITEMS = 1000;
const MOST_CHARACTERS = 4 << 20;

// Send a call. `onItems(stream)` gets what has come of a stream so far, as of `body`.
//
// Returns what came of it: `{status, statusText, headers, requestId, bar, body}`, where `body` is
//   {kind: "json", value, text}   {kind: "text", text}   {kind: "file", file}
//   {kind: "stream", items, count, isWhole}              {kind: "none"}
// (`items`: the newest, as of `streams.js`), and `fault`, an ApiError, where it is a refusal, or a
// stream failed or was cut; `isStopped` where `signal` ended it.
export async function sendCall(api, call, { signal, onItems }) {
  let began = performance.now();
  const result = { status: 0, headers: [], requestId: "", body: { kind: "none" }, fault: null };
  let timing = "";
  try {
    const request = await requestOf(call); // a file may be gone
    began = performance.now();
    const response = await api.send(call.path, { ...request, signal });
    Object.assign(result, headOf(response));
    timing = response.headers.get("server-timing") ?? "";
    if (!response.ok) {
      result.fault = await refusalOf(response, { isCall: true });
    } else {
      const reader = readerOf(response.headers.get("content-type"));
      result.body = reader
        ? await readStream(response, reader, onItems)
        : await readWhole(response, call);
      timing = result.body.timing || timing;
      result.fault = result.body.fault ?? null;
    }
  } catch (fault) {
    if (fault.name === "AbortError") result.isStopped = true;
    else result.fault = fault instanceof ApiError ? fault : new ApiError(0, wordsOf(fault));
  }
  result.bar = barOf(timing, performance.now() - began);
  return result;
}

function wordsOf({ message, name }) {
  return { error: `The call broke off: ${message || name}. Call again.` };
}

function headOf(response) {
  return {
    status: response.status,
    statusText: response.statusText,
    headers: [...response.headers],
    requestId: response.headers.get("x-request-id") ?? "",
  };
}

// An answer that comes piece by piece. Where it breaks off, what came before is kept.
async function readStream(response, reader, onItems) {
  const stream = { kind: "stream", items: [], count: 0, isWhole: false, timing: "", fault: null };
  const take = (read) => {
    if (read.length === 0) return;
    const items = read.filter(({ kind }) => kind === "item" || kind === "text");
    stream.count += items.length;
    stream.items = newestOf([...stream.items, ...items], MOST_ITEMS, MOST_CHARACTERS);
    for (const { kind, value } of read) {
      if (kind === "error") stream.fault = faultOf(value);
      else if (kind === "done") stream.timing = timingOf(value);
    }
    onItems({ ...stream });
  };
  const source = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await source.read();
      if (done) break;
      take(reader.feed(decoder.decode(value, { stream: true })));
    }
    take(reader.feed(decoder.decode()));
    take(reader.end());
  } catch (fault) {
    source.cancel().catch(() => {}); // of what cannot be read no more is asked for
    onItems({ ...stream });
    throw fault;
  }
  stream.isWhole = reader.isWhole;
  if (!stream.isWhole) stream.fault ??= new ApiError(0, CUT);
  return stream;
}

const CUT = { error: "The stream was cut: its end has not come. Call again." };

function timingOf(value) {
  return typeof value?.server_timing === "string" ? value.server_timing : "";
}

function faultOf(value) {
  const form = typeof value?.error === "string" ? value : { error: String(value) };
  return new ApiError(form.status ?? 200, form);
}

async function readWhole(response, call) {
  const type = (response.headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
  const blob = await response.blob();
  const isJson = type === JSON_TYPE || type.endsWith("+json");
  if (isJson && blob.size <= MOST_JSON_BYTES) {
    const text = await blob.text();
    try {
      return { kind: "json", value: parseExact(text), text };
    } catch {
      return { kind: "text", text };
    }
  }
  if (type.startsWith("text/") && blob.size <= MOST_TEXT_BYTES) {
    return { kind: "text", text: await blob.text() };
  }
  const name = nameIn(response.headers.get("content-disposition")) || nameFor(call, type);
  return { kind: "file", file: new File([blob], name, { type }) };
}

// The name that an answer is to be kept under (RFC 6266).
export function nameIn(disposition) {
  const encoded = /filename\*\s*=\s*utf-8''([^;]+)/i.exec(disposition ?? "");
  try {
    if (encoded) return decodeURIComponent(encoded[1].trim());
  } catch {
    // not encoded as it says
  }
  const plain = /filename\s*=\s*("(?:[^"\\]|\\.)*"|[^;]+)/i.exec(disposition ?? "");
  return plain ? plain[1].trim().replace(/^"|"$/g, "").replace(/\\(.)/g, "$1") : "";
}

const ENDINGS = { jpeg: "jpg", mpeg: "mp3", plain: "txt", "svg+xml": "svg", "octet-stream": "bin" };

function nameFor(call, type) {
  const ending = type.split("/")[1] ?? "bin";
  return `${call.path.split("/").filter(Boolean).at(-1) ?? "answer"}-answer.${ENDINGS[ending] ?? ending}`;
}
