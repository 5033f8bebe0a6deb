// The one stream of events that a page has open, and what becomes of it: it goes on where a new server
// answers, and rests while the page is hidden (a browser has six connections for a server, and pages
// that are left open in many tabs would take them all).
import { signal } from "@preact/signals";

import { api, key, keyWanted, refusalOf } from "../api.js";
import { pause } from "../parts/pause.js";
import { eventParser } from "./events.js";
import { LONGEST_WAIT_MS, nextStep, SHORTEST_WAIT_MS } from "./reconnection.js";
import { functions, takeEvents } from "./store.js";

const SILENT_MS = 25000; // the server says something each 10 s
const HIDDEN_MS = 60000;

// `state`: "connecting", "live", "reconnecting", "resting" (hidden), "refused"; `why` it is so.
export const connection = signal({ state: "connecting", why: "" });

// How often a server was reached: what was read from the one before may be out of date.
export const servers = signal(0);

// Mutable state: `current` ends the stream that is open, or the wait for the next; `name` is of the
// function that is watched, of which the server has none while it `isMissing`; `assets` are those of
// the page; `isKnown`: the server that answers knows this page.
let current = new AbortController();
let name = "";
let isMissing = false;
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
  if (document.hidden) followVisibility(); // a tab may be opened where it is not seen
}

// Watch a function as well, or none: the next stream says so to the server.
export function watchFunction(wanted) {
  if (wanted === name) return;
  name = wanted;
  isMissing = false;
  restart();
}

function restart() {
  current.abort();
  current = new AbortController();
  run(current.signal);
}

// A wait that has become needless ends.
export function hurry() {
  const { state } = connection.value;
  if (state === "live" || (state === "resting" && document.hidden)) return;
  restart();
}

function followVisibility() {
  clearTimeout(restTimer);
  if (document.hidden) restTimer = setTimeout(rest, HIDDEN_MS);
  else hurry();
}

// What comes meanwhile is not heard, and another server may be there afterwards.
function rest() {
  current.abort();
  isKnown = false;
  show("resting");
}

function show(state, why = "") {
  const shown = connection.value;
  if (shown.state !== state || shown.why !== why) connection.value = { state, why };
}

async function run(ended) {
  let waitMs = SHORTEST_WAIT_MS;
  while (!ended.aborted) {
    const began = performance.now();
    let fault = null;
    let isMoving = false;
    try {
      await meetServer(ended);
      isMoving = await readStream(ended, () => {
        waitMs = SHORTEST_WAIT_MS;
        show("live");
        if (isMissing && functions.value?.has(name)) watchAgain();
      });
    } catch (raised) {
      fault = raised;
    }
    if (ended.aborted) return;
    const isWatching = name !== "" && !isMissing;
    const next = nextStep({ fault, isMoving, hasMet: isKnown, isWatching, waitMs });
    if (next.act === "refused") {
      isKnown = false;
      if (fault.status === 403) keyWanted.value = fault.message;
      show("refused", fault.message);
      return;
    }
    if (next.act === "meet") {
      isKnown = false;
      show("reconnecting", fault?.message);
      await pause(next.waitMs, ended);
      waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
    } else {
      isMissing ||= next.act === "without"; // not declared, which its own page says
      await pause(began + next.waitMs - performance.now(), ended);
    }
  }
}

// The function is declared again.
function watchAgain() {
  isMissing = false;
  restart();
}

// Ask for the session: a server that began since has another token, and may have other assets.
async function meetServer(ended) {
  if (isKnown) return;
  const signal = AbortSignal.any([ended, AbortSignal.timeout(SILENT_MS)]);
  const session = await api.readSession({ signal });
  assets ??= session.assets;
  if (session.assets !== assets) location.reload();
  isKnown = true;
  servers.value += 1;
}

// Read what comes until it ends. Returns whether the server wants the page to come again at once.
async function readStream(ended, onEvents) {
  const silence = new AbortController();
  let timer = 0;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENT_MS);
  };
  listen();
  try {
    const query = name && !isMissing ? `?function=${encodeURIComponent(name)}` : "";
    const response = await api.send(`console/events${query}`, {
      headers: { accept: "text/event-stream" },
      signal: AbortSignal.any([ended, silence.signal]),
      cache: "no-store",
    });
    if (!response.ok) throw await refusalOf(response);
    const parse = eventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const text = await nextText(reader);
      if (text === null || ended.aborted) return false;
      listen();
      const events = parse(text);
      if (!events.length) continue;
      takeEvents(events);
      onEvents();
      const closing = events.find(({ event }) => event === "closing");
      if (closing) return JSON.parse(closing.data).is_moving === true;
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
