// A small line of the last minute. What it shows is said in numbers beside it.
import { STEPS } from "../live/series.js";
import { html } from "../parts/html.js";

const WIDTH = 72;
const HEIGHT = 20;
const EDGE = 1.5; // the line's own width stays within

// The path of a line of values from 0 to `most`; where there is none, it is broken. Pure.
export function linePath(values, most) {
  let path = "";
  let isDrawn = false;
  values.forEach((value, at) => {
    if (value !== null) {
      const x = (at / (STEPS - 1)) * WIDTH;
      const y = HEIGHT - EDGE - (most ? value / most : 0) * (HEIGHT - 2 * EDGE);
      path += `${isDrawn ? "L" : "M"}${round(x)} ${round(y)}`;
      if (isAlone(values, at)) path += "h0.01"; // a point, by the round ends of the line
    }
    isDrawn = value !== null;
  });
  return path;
}

const isAlone = (values, at) => (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
const round = (value) => Math.round(value * 100) / 100;

// `lines` of `{values, kind}` on one scale; `kind` is the class that colours it.
export function Sparkline({ lines }) {
  const most = Math.max(...lines.flatMap(({ values }) => values.map((value) => value ?? 0)));
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none"
    aria-hidden="true">
    ${lines.map(({ values, kind }) => html`<path class=${kind} d=${linePath(values, most)} />`)}
  </svg>`;
}
