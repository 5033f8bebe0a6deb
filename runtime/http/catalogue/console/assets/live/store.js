// All that is shown of the server, as signals. Events of its stream change them (`connection.js`),
// and nothing else does.
import { batch, computed, signal } from "@preact/signals";

import {
  mergeFunctions, mergeHistory, mergeLast, mergeSamples, NO_SAMPLES, overlapOf,
} from "./series.js";

// Entries by name. Null until the first event.
export const functions = signal(null);

// The last minute of those that were called, as of `mergeSamples`.
export const samples = signal(NO_SAMPLES);

// `machines`, `lacks`, `kind`. Null until the first event.
export const server = signal(null);

// The function that is looked at: what belongs to it alone. `details` is null until they are read,
// `log` until its first event: `why` there is none, or its last `lines`, each with an `id`.
export const watched = {
  name: signal(""),
  details: signal(null),
  fault: signal(null),
  history: signal(null),
  decisions: signal([]),
  errors: signal([]),
  log: signal(null),
};

// The entry of that function as it is now; undefined: it is not declared, or not known yet.
export const watchedEntry = computed(
  () => (functions.value === null ? undefined : functions.value.get(watched.name.value)),
);

// Whether the stream has said what there is.
export const isFed = computed(() => functions.value !== null);

export const HISTORY_POINTS = { 10: 180, 60: 360 };
const MOST = { decisions: 200, errors: 100, log: 2000, early: 8 };

// Mutable state beside the signals: `lineId` numbers lines of a log, which may be equal; `early` has
// steps of a history that came before the details that they go on from.
let lineId = 0;
let early = [];

// Look at another function, or at none.
export function watch(name) {
  batch(() => {
    watched.name.value = name;
    watched.details.value = watched.fault.value = watched.history.value = null;
    watched.decisions.value = watched.errors.value = [];
    watched.log.value = null;
    early = [];
  });
}

// Take what `GET console/functions/NAME` answered.
export function takeDetails(details) {
  batch(() => {
    watched.details.value = details;
    watched.fault.value = null;
    watched.history.value = details.history && early.reduce(extend, details.history);
    early = [];
    watched.decisions.value = mergeDecisions(watched.decisions.value, details.decisions);
    watched.errors.value = mergeErrors(watched.errors.value, details.errors);
  });
}

const extend = (known, fresh) => mergeHistory(known, fresh, HISTORY_POINTS[known.step_s]);

const mergeDecisions = (known, fresh) => mergeLast(
  known, fresh, MOST.decisions, ({ at, why }) => `${at} ${why}`,
).sort((one, other) => one.at - other.at);

const mergeErrors = (known, fresh) => mergeLast(
  known, fresh, MOST.errors, ({ at, id, code }) => `${at} ${id} ${code}`,
).sort((one, other) => one.at - other.at);

const HANDLERS = {
  functions: (data) => {
    functions.value = mergeFunctions(functions.value, data);
  },
  samples: (data) => {
    samples.value = mergeSamples(samples.value, data);
  },
  server: (data) => {
    server.value = data;
  },
  history: (fresh) => {
    const known = watched.history.value;
    if (known !== null) watched.history.value = extend(known, fresh);
    else if (watched.details.value === null) early = [...early, fresh].slice(-MOST.early);
  },
  decisions: ({ decisions }) => {
    watched.decisions.value = mergeDecisions(watched.decisions.value, decisions);
  },
  errors: ({ errors }) => {
    watched.errors.value = mergeErrors(watched.errors.value, errors);
  },
  log: ({ all, skipped, lines, why }) => {
    const before = watched.log.value?.lines ?? [];
    const overlap = all ? overlapOf(before, lines) : 0; // a stream after another goes on with it
    const gap = skipped ? [{ at: "", kind: "gap", text: String(skipped) }] : [];
    const fresh = [...gap, ...lines.slice(overlap)].map((line) => ({ ...line, id: lineId++ }));
    const known = all && overlap === 0 ? [] : before;
    watched.log.value = { why, lines: [...known, ...fresh].slice(-MOST.log) };
  },
};

// Take events that came together: the page is drawn once for all of them.
export function takeEvents(events) {
  batch(() => {
    for (const { event, data } of events) HANDLERS[event]?.(JSON.parse(data));
  });
}
