// The one stream of events that a page has open, and what becomes of it: it goes on where a new server
// answers, and rests while the page is hidden (a browser has six connections for a server, and pages
// that are left open in many tabs would take them all).
import { signal } from "@preact/signals";

import { api, ApiError, key, keyWanted } from "../api.js";
import { eventParser } from "./events.js";
import { takeEvents } from "./store.js";

const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const SILENT_MS = 25000; // the server says something each 10 s
const HIDDEN_MS = 60000;

// `state`: "connecting", "live", "reconnecting", "resting" (hidden), "refused"; `why` it is so.
export const connection = signal({ state: "connecting", why: "" });

// How often a server was reached: what was read from the one before may be out of date.
export const servers = signal(0);

// Mutable state: `current` ends the stream that is open, or the wait for the next; `name` is of the
// function that is watched; `assets` are those of the page; `isKnown`: the server that
// answers knows this page.
let current = new AbortController();
let name = "";
let assets = null;
let isKnown = false;
let restTimer = 0;

// Open the stream, and keep it open until the page ends.
export function connect() {
  key.subscribe(() => {
    isKnown = false; // another key sees other functions
    restart();
  });
  document.addEventListener("visibilitychange", followVisibility);
  window.addEventListener("online", hurry);
}

// Watch a function as well, or none: the next stream says so to the server.
export function watchFunction(wanted) {
  if (wanted === name) return;
  name = wanted;
  restart();
}

function restart() {
  current.abort();
  current = new AbortController();
  run(current.signal);
}

// A wait that has become needless ends.
export function hurry() {
  if (connection.value.state !== "live") restart();
}

function followVisibility() {
  clearTimeout(restTimer);
  if (!document.hidden) hurry();
  else restTimer = setTimeout(rest, HIDDEN_MS);
}

function rest() {
  current.abort();
  show("resting");
}

function show(state, why = "") {
  const shown = connection.value;
  if (shown.state !== state || shown.why !== why) connection.value = { state, why };
}

async function run(ended) {
  let waitMs = SHORTEST_WAIT_MS;
  while (!ended.aborted) {
    let fault = null;
    try {
      await meetServer();
      await readStream(ended, () => {
        waitMs = SHORTEST_WAIT_MS;
        show("live");
      });
    } catch (raised) {
      fault = raised;
    }
    if (ended.aborted) return;
    isKnown = false;
    if (fault?.status === 404 && name) {
      name = ""; // it is not declared any more, which its own page says
      continue;
    }
    if (isRefusal(fault)) {
      if (fault.status === 403) keyWanted.value = fault.message;
      show("refused", fault.message);
      return;
    }
    show("reconnecting", fault?.message);
    await pause(Math.max(waitMs, (fault?.retryAfterS ?? 0) * 1000), ended);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
  }
}

const isRefusal = (fault) => [401, 403, 404].includes(fault?.status);

// Ask for the session: a server that began since has another token, and may have other assets.
async function meetServer() {
  if (isKnown) return;
  const session = await api.readSession();
  assets ??= session.assets;
  if (session.assets !== assets) location.reload();
  isKnown = true;
  servers.value += 1;
}

async function readStream(ended, onEvents) {
  const silence = new AbortController();
  let timer = 0;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENT_MS);
  };
  listen();
  try {
    const query = name && `?function=${encodeURIComponent(name)}`;
    const response = await api.send(`console/events${query}`, {
      headers: { accept: "text/event-stream" },
      signal: AbortSignal.any([ended, silence.signal]),
      cache: "no-store",
    });
    if (!response.ok) throw await ApiError.of(response);
    const parse = eventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const text = await nextText(reader);
      if (text === null || ended.aborted) return;
      listen();
      const events = parse(text);
      if (!events.length) continue;
      takeEvents(events);
      onEvents();
      if (events.some(({ event }) => event === "closing")) return;
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

// The next text of the stream; null: it ended, in order or in the midst of it.
async function nextText(reader) {
  try {
    const { value, done } = await reader.read();
    return done ? null : value;
  } catch {
    return null;
  }
}

function pause(ms, ended) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    ended.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
