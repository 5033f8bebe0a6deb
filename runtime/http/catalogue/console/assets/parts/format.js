// Numbers and times as the browser's locale writes them. Units are those of `wakeful status`.
const LOCALE = undefined; // the browser's

const byDigits = [0, 1, 2, 3].map(
  (digits) => new Intl.NumberFormat(LOCALE, { maximumFractionDigits: digits }),
);
const wholePercent = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(LOCALE, { dateStyle: "short", timeStyle: "medium" });

const NARROW_SPACE = "\u202f"; // between a number and its unit; does not break

// A number with so many digits after the point; without `digits`, three that count.
export function formatNumber(value, digits = digitsOf(value)) {
  return byDigits[digits].format(value);
}

function digitsOf(value) {
  const size = Math.abs(value);
  return size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
}

// A share from 0 to 1.
export function formatShare(value) {
  return wholePercent.format(value);
}

// Milliseconds, or seconds from one on.
export function formatMs(ms) {
  return ms >= 1000
    ? `${formatNumber(ms / 1000)}${NARROW_SPACE}s`
    : `${formatNumber(ms)}${NARROW_SPACE}ms`;
}

const SIZES = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

// Bytes, in powers of ten.
export function formatBytes(bytes) {
  const [size, unit] = SIZES.find(([size]) => bytes >= size) ?? [1, "B"];
  const shown = bytes / size;
  return `${formatNumber(shown, shown >= 10 || unit === "B" ? 0 : 1)}${NARROW_SPACE}${unit}`;
}

// The time of day of seconds since the epoch; of another day, with its date.
export function formatTime(seconds, now = Date.now() / 1000) {
  const at = new Date(seconds * 1000);
  const isToday = at.toDateString() === new Date(now * 1000).toDateString();
  return (isToday ? clock : day).format(at);
}

// How long ago seconds since the epoch were.
export function formatAge(seconds, now) {
  const age = Math.max(0, now - seconds);
  if (age < 10) return "just now";
  return `${formatSpan(age)} ago`;
}

const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

// Seconds in their largest unit.
export function formatSpan(seconds) {
  const [size, unit] = SPANS.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${formatNumber(Math.floor(seconds / size), 0)}${NARROW_SPACE}${unit}`;
}

// "1 call", "2 calls".
export function formatCount(count, noun, nouns = `${noun}s`) {
  return `${formatNumber(count, 0)} ${count === 1 ? noun : nouns}`;
}
