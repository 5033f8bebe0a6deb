// The time of a call as a bar: from `Server-Timing` (W3C Server Timing) and what was measured here.
// Pure.

// The parts of a call that was computed, in their order, and what each is.
const STAGES = [
  ["wake", "Waking", "It waited for its function to wake."],
  ["queue", "Queue", "It waited for a free worker."],
  ["batch", "Batch", "It waited for others of its batch."],
  ["preprocess", "Before the model", "Stages before the first model."],
  ["model", "Model", "The models."],
  ["postprocess", "After the model", "Stages behind the first model."],
];

const LEAST_MS = 0.0005; // the header has three digits behind the point

// Entries of a header: [{name, ms}]. What has no duration is left out.
export function readTimings(header) {
  const found = [];
  for (const entry of splitOutside(header ?? "", ",")) {
    const [name, ...parameters] = splitOutside(entry, ";").map((part) => part.trim());
    const given = parameters
      .map((parameter) => parameter.match(/^dur\s*=\s*"?([\d.eE+-]+)"?$/i))
      .find(Boolean);
    const ms = given ? Number(given[1]) : Number.NaN;
    if (name && Number.isFinite(ms) && ms >= 0) found.push({ name, ms });
  }
  return found;
}

function splitOutside(text, separator) {
  const parts = [""];
  let isQuoted = false;
  for (const character of text) {
    if (character === '"') isQuoted = !isQuoted;
    if (character === separator && !isQuoted) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts.filter((part) => part.trim());
}

// The bar: `{parts: [{name, label, about, ms, share}], wholeMs, totalMs, networkMs, cold}`. Null:
// nothing was measured.
//
// `wholeMs` is what was measured here, `totalMs` the server's part of it; what the parts of a call
// leave of that is `other`. Rows of one call may be computed next to each other, so parts may come
// to more than the total: the bar is as long as the longer of both.
export function barOf(header, wholeMs) {
  const timings = readTimings(header);
  const by = new Map(timings.map(({ name, ms }) => [name, ms]));
  if (by.size === 0 && !(wholeMs > 0)) return null;
  const stages = STAGES.filter(([name]) => (by.get(name) ?? 0) > 0);
  const stagesMs = stages.reduce((sum, [name]) => sum + by.get(name), 0);
  const isKnown = by.has("total") || by.has("wake");
  // `total` begins when the function is awake
  const totalMs = (by.get("total") ?? 0) + (by.get("wake") ?? 0);
  const otherMs = Math.max(0, totalMs - stagesMs);
  const networkMs = Math.max(0, wholeMs - totalMs);
  const parts = stages.map(([name, label, about]) => ({ name, label, about, ms: by.get(name) }));
  if (otherMs >= LEAST_MS) {
    parts.push({
      name: "other",
      label: "Server, other",
      about: "Reading, checking and writing on the server.",
      ms: otherMs,
    });
  }
  parts.push({
    name: "network",
    label: isKnown ? "Network and browser" : "Until the answer",
    about: "From here to the server and back, and what the browser did.",
    ms: networkMs,
  });
  const sumMs = parts.reduce((sum, { ms }) => sum + ms, 0);
  const length = Math.max(wholeMs, sumMs, Number.MIN_VALUE);
  return {
    parts: parts.map((part) => ({ ...part, share: part.ms / length })),
    wholeMs,
    totalMs: isKnown ? totalMs : null,
    networkMs,
    cold: timings
      .filter(({ name }) => name.startsWith("cold_"))
      .map(({ name, ms }) => ({ name: name.slice("cold_".length), ms })),
  };
}
