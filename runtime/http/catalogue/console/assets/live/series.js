// Numbers over time as the server sends them, put together with those that are there already. Pure.

// Steps of the last minute that a line shows.
export const STEPS = 12;

const LINES = { calls_per_s: 0, p50_ms: null, p95_ms: null, errors_per_s: 0 };

// The functions that are declared, by name, after an event `functions`.
export function mergeFunctions(known, { all, functions, removed = [] }) {
  const merged = all ? new Map() : new Map(known);
  for (const entry of functions) merged.set(entry.name, entry);
  for (const name of removed) merged.delete(name);
  return merged;
}

export const NO_SAMPLES = { until: 0, functions: new Map() };

// The last minute of each function that was called in it, after an event `samples`. `until` is the
// end of the last step, seconds since the epoch; each line has `STEPS` values, the latest last.
export function mergeSamples(known, fresh) {
  const { step_s: step, from, steps: count, functions } = fresh;
  const end = from + count * step;
  // the server's clock was set back
  if (end + STEPS * step <= known.until) return mergeSamples(NO_SAMPLES, fresh);
  const until = Math.max(known.until, end);
  const merged = new Map();
  const shift = Math.round((until - known.until) / step);
  const first = STEPS - Math.round((until - from) / step);
  for (const name of new Set([...known.functions.keys(), ...Object.keys(functions)])) {
    const lines = mergeLines(known.functions.get(name), shift, functions[name], first, count);
    if (lines.calls_per_s.some((value) => value)) merged.set(name, lines);
  }
  return { until, functions: merged };
}

function mergeLines(known, shift, fresh, first, count) {
  const merged = {};
  for (const [field, nothing] of Object.entries(LINES)) {
    const line = Array.from(
      { length: STEPS },
      (_, at) => known?.[field][at + shift] ?? nothing,
    );
    for (let step = 0; step < count; step++) {
      const at = first + step;
      if (at >= 0 && at < STEPS) line[at] = fresh?.[field]?.[step] ?? nothing;
    }
    merged[field] = line;
  }
  return merged;
}

const PLAIN = ["calls", "p50_ms", "p95_ms", "batch_rows", "wakes", "replicas"];

// A history with the points of a newer one of the same step, its oldest dropped beyond `most`
// points. A point that comes again takes the place of the one that was there; one from before the
// first is left out.
export function mergeHistory(known, fresh, most) {
  const step = known.step_s;
  const offset = Math.round((fresh.from - known.from) / step);
  if (fresh.step_s !== step || offset + fresh.calls.length <= 0) return known;
  const length = Math.max(known.calls.length, offset + fresh.calls.length);
  const dropped = Math.max(0, length - most);
  const merge = (before, after) => Array.from({ length: length - dropped }, (_, index) => {
    const at = index + dropped;
    const isFresh = at >= offset && at < offset + fresh.calls.length;
    return (isFresh ? after?.[at - offset] : before?.[at]) ?? null;
  });
  const merged = { step_s: step, from: known.from + dropped * step, errors: {} };
  for (const field of PLAIN) merged[field] = merge(known[field], fresh[field]);
  for (const code of new Set([...Object.keys(known.errors), ...Object.keys(fresh.errors)])) {
    const line = merge(known.errors[code], fresh.errors[code]);
    if (line.some((value) => value)) merged.errors[code] = line;
  }
  return merged;
}

// The last of what came, oldest first; what is in both once (`identify` tells it).
export function mergeLast(known, fresh, most, identify) {
  const there = new Set(known.map(identify));
  return [...known, ...fresh.filter((one) => !there.has(identify(one)))].slice(-most);
}

// How many lines at the end of a log are those with which another telling of it begins.
export function overlapOf(known, told) {
  const isSame = (one, other) =>
    one.at === other.at && one.kind === other.kind && one.text === other.text;
  for (let count = Math.min(known.length, told.length); count > 0; count--) {
    const from = known.length - count;
    if (told.slice(0, count).every((line, at) => isSame(line, known[from + at]))) return count;
  }
  return 0;
}
