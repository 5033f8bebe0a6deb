// The function that the address names: watched by the stream, and its details read. They are read
// again where they may have changed: another server, another version of it, another step of time.
import { computed, effect, signal, untracked } from "@preact/signals";

import { api } from "../api.js";
import { pause } from "../parts/pause.js";
import { servers, watchFunction } from "./connection.js";
import { route } from "../route.js";
import { functions, isFed, takeDetails, watch, watched } from "./store.js";

// Seconds of a step of the history that is shown: 10 (half an hour) or 60 (six hours).
export const historyStep = signal(10);

// What the details depend on, beside the name: whether it is declared, and what is loaded of it.
const version = computed(() => functions.value?.get(watched.name.value)?.version);

const SHORTEST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30000;
const DEADLINE_MS = 30000; // of one answer

let reading = new AbortController();

// Follow the address. Called once.
export function followRoute() {
  effect(() => {
    const { name } = route.value;
    if (name === untracked(() => watched.name.value)) return; // another view of it
    untracked(() => {
      watch(name);
      watchFunction(name);
    });
  });
  effect(() => {
    version.value;
    const name = watched.name.value;
    const step = historyStep.value;
    reading.abort();
    reading = new AbortController();
    if (name && servers.value && isFed.value) untracked(() => read(name, step, reading.signal));
  });
}

async function read(name, step, ended) {
  const path = `console/functions/${encodeURIComponent(name)}?step=${step}`;
  for (let waitMs = SHORTEST_WAIT_MS; ; waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2)) {
    try {
      const signal = AbortSignal.any([ended, AbortSignal.timeout(DEADLINE_MS)]);
      const details = await api.json(path, { signal });
      if (!ended.aborted) takeDetails(details);
      return;
    } catch (fault) {
      if (ended.aborted) return;
      watched.fault.value = fault;
      if (isRefusal(fault)) return;
    }
    await pause(waitMs, ended);
    if (ended.aborted) return;
  }
}

// What another try does not change.
const isRefusal = ({ status }) => [401, 403, 404].includes(status);
