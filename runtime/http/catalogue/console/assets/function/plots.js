// Which plots a history has, and what they say in words. Pure.
import { formatMs, formatNumber, formatTime } from "../parts/format.js";

const perSecond = (value) => `${formatNumber(value)}/s`;

// A list of `{key, title, format, isWhole, series: [{label, values, paint, shape}]}`: `isWhole`, of
// what has no parts; `paint` is a custom property of the style sheet, `shape` is "area", "line",
// "bars" or "steps". What never was there (batches, errors) has no plot.
export function plotsOf(history) {
  const { step_s: step, calls, p50_ms: p50, p95_ms: p95, errors } = history;
  const rates = calls.map((count) => (count === null ? null : count / step));
  return [
    plot("calls", "Calls", perSecond, [["calls", rates, "--c1", "area"]]),
    plot("latency", "Latency", formatMs, [
      ["p50", p50, "--c2", "line"],
      ["p95", p95, "--c3", "line"],
    ]),
    plot("batches", "Rows of a batch", formatNumber, [
      ["on average", history.batch_rows, "--c4", "line"],
    ]),
    plot("errors", "Errors", formatNumber, Object.entries(errors).map(
      ([code, values], at) => [code, values, ERROR_PAINTS[at % ERROR_PAINTS.length], "bars"],
    )),
    plot("replicas", "Replicas and wakes", formatNumber, [
      ["replicas", history.replicas, "--c1", "steps"],
      ["wakes", history.wakes, "--c6", "bars"],
    ]),
  ].filter(({ key, series }) => !IF_ANY.includes(key) || series.some(hasAny));
}

const ERROR_PAINTS = ["--bad", "--c3", "--c5", "--c4"];
const IF_ANY = ["batches", "errors"];
const WHOLE = ["errors", "replicas"];

const hasAny = ({ values }) => values.some((value) => value);

function plot(key, title, format, series) {
  const named = series.map(([label, values, paint, shape]) => ({ label, values, paint, shape }));
  return { key, title, format, isWhole: WHOLE.includes(key), series: named };
}

const SHORTEST_S = 300; // a server that has just begun has few steps, which are not drawn far apart

// From when to when the plots are, seconds since the epoch.
export function spanOf(times, step) {
  const end = times.at(-1) + step;
  return [Math.min(times[0], end - SHORTEST_S), end];
}

// When each step of a history began, seconds since the epoch.
export function timesOf(history) {
  return history.calls.map((_, at) => history.from + at * history.step_s);
}

// What a plot shows, in words, for readers that do not see it.
export function describePlot({ title, format, series }, times) {
  const parts = series.map(({ label, values }) => {
    const given = values.map((value, at) => [value, at]).filter(([value]) => value !== null);
    if (!given.length) return `${label}: nothing`;
    const [most, mostAt] = given.reduce((one, other) => (other[0] > one[0] ? other : one));
    const [last] = given.at(-1);
    return `${label}: last ${format(last)}, most ${format(most)} at ${formatTime(times[mostAt])}`;
  });
  return `${title}. ${parts.join("; ")}.`;
}

// The decisions that fell into a step.
export function decisionsIn(decisions, time, step) {
  return decisions.filter(({ at }) => at >= time && at < time + step);
}
