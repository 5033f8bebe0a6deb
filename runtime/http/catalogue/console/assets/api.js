// What the page asks of the server: relative to where the page lies, with the key of the box and the
// token of the page. The only module that calls `fetch`.
import { signal } from "@preact/signals";

import { parseExact } from "./parts/exact_json.js";

// A proxy in front may have a prefix of its own; `/console` itself lies beside what it asks for.
const BASE = new URL(".", document.baseURI);

const KEY = "wakeful-key";

// The key that was typed: kept while the tab is open, and nowhere else.
export const key = signal(sessionStorage.getItem(KEY) ?? "");

// What is wrong with the key, where the server wants one or another; null: nothing is.
export const keyWanted = signal(null);

// As of `GET console/session`: `token`, `version`, `kind`, `can`. Null until it is known.
export const session = signal(null);

// A refusal of the server in its error form, or a fault of the way there (`status` 0).
export class ApiError extends Error {
  constructor(status, { error, code = "", where = "", request_id: id = "" }, retryAfterS = 0) {
    super(error);
    Object.assign(this, { status, code, where, id, retryAfterS });
  }

  // From a response that is no answer. What stands before us may answer in a form of its own.
  static async of(response) {
    const text = await response.text().catch(() => "");
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {
      // not in our form
    }
    return new ApiError(
      response.status,
      formOf(body) ?? { error: text.trim().slice(0, 500) || `HTTP ${response.status}` },
      Number(response.headers.get("retry-after")) || 0,
    );
  }
}

// Our form of an error, from ours or from that of OpenAI's routes; null: it is neither.
function formOf(body) {
  if (typeof body?.error === "string") return body;
  const { message, code } = body?.error ?? {};
  return message ? { error: message, code: code ?? "" } : null;
}

// The URL of a path of the server ("/v2/models/embed", "console/events").
export function url(path) {
  return new URL(path.replace(/^\/+/, ""), BASE);
}

// `fetch` with the key. Every response is returned, whatever its status.
//
// Raises: ApiError (status 0) where nothing answers; AbortError where `signal` ends it.
async function send(path, { headers = {}, ...options } = {}) {
  const sent = new Headers(headers);
  if (key.value) sent.set("x-api-key", key.value);
  try {
    return await fetch(url(path), { credentials: "same-origin", ...options, headers: sent });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new ApiError(0, { error: "The server cannot be reached." });
  }
}

// The refusal that a response is. Where it is for want of a key that is known (401), the box for it
// opens. Of a call a stage may answer 401 itself, about a key that is not ours.
export async function refusalOf(response, { isCall = false } = {}) {
  const fault = await ApiError.of(response);
  if (fault.status === 401 && (!isCall || fault.code === "unauthorized")) {
    keyWanted.value = key.value ? "The server does not know this key." : "";
  }
  return fault;
}

// The JSON of an answer. Raises: ApiError.
async function json(path, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  const response = await send(path, { ...options, headers });
  if (!response.ok) throw await refusalOf(response);
  return parseExact(await response.text());
}

// Wake, put to sleep, pin or unpin a function. Raises: ApiError.
async function change(name, verb) {
  const order = () => json(`console/functions/${encodeURIComponent(name)}/${verb}`, {
    method: "POST",
    headers: { "x-console-token": session.value?.token ?? "" },
  });
  try {
    return await order();
  } catch (fault) {
    if (fault.status !== 403) throw fault;
    await readSession(); // a server that began since has another token
    return order();
  }
}

// Ask for the page's session: its token, and what its key may do. Raises: ApiError.
async function readSession(options = {}) {
  session.value = await json("console/session", options);
  keyWanted.value = null;
  return session.value;
}

// Take another key, or none. What is shown is asked for anew by those that watch `key`.
export function takeKey(text) {
  const trimmed = text.trim();
  if (/[^\x21-\x7e]/.test(trimmed)) {
    keyWanted.value = "A key has letters, digits and signs of ASCII, without spaces.";
    return;
  }
  if (trimmed) sessionStorage.setItem(KEY, trimmed);
  else sessionStorage.removeItem(KEY);
  key.value = trimmed;
}

// Whether the key may do that: "look", "call", "operate".
export function may(scope) {
  return session.value?.can.includes(scope) ?? false;
}

export const api = { url, send, json, change, readSession };
