// One plot by uPlot: a canvas with a text that says the same, redrawn as its numbers come.
import { useEffect, useRef } from "preact/hooks";

import { html } from "../parts/html.js";
import { isDark } from "../parts/media.js";
import { describePlot, spanOf } from "./plots.js";

const HEIGHT = 84;
const TIME_HEIGHT = 26;
const VALUE_WIDTH = 58;
const FONT = "11px ui-sans-serif, system-ui, sans-serif";

// Between two lines of the grid: seconds of time, and numbers of what has no parts.
const MINUTES = [1, 2, 5, 10, 30, 60].map((minutes) => minutes * 60);
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000];

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

// Args: `uPlot` the library; `times` of the steps; `marks` of `{at, isChosen}`; `hasTime`: the axis of
// time is written below it; `onCursor` is given the step that is pointed at, or null.
export function Chart({ uPlot, plot, times, step, marks, hasTime, onCursor }) {
  const box = useRef(null);
  const chart = useRef(null);
  const latest = useRef(null);
  latest.current = { marks, onCursor, range: spanOf(times, step) };
  const data = [times, ...plot.series.map(({ values }) => values)];
  const shape = plot.series.map(({ label }) => label).join();
  const theme = isDark.value;

  useEffect(() => {
    const options = optionsOf(uPlot, plot, latest, hasTime, box.current.clientWidth);
    const made = new uPlot(options, data, box.current);
    chart.current = made;
    const observer = new ResizeObserver(([{ contentRect }]) => {
      const width = Math.floor(contentRect.width);
      if (width && width !== made.width) made.setSize({ width, height: made.height });
    });
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [uPlot, shape, theme, hasTime]);

  useEffect(() => chart.current.setData(data), [plot]);
  useEffect(() => chart.current.redraw(false), [marks]);

  return html`<div class="chart" role="img" aria-label=${describePlot(plot, times)} ref=${box}></div>`;
}

function optionsOf(uPlot, plot, latest, hasTime, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: colour("--ink-soft"), font: FONT, grid, ticks: { show: false } };
  return {
    width,
    height: HEIGHT + (hasTime ? TIME_HEIGHT : 0),
    legend: { show: false },
    padding: [6, 8, hasTime ? 0 : 6, 0],
    cursor: {
      sync: { key: "history", setSeries: false },
      drag: { setScale: false, x: false, y: false },
      y: false,
      points: { size: 6 },
    },
    scales: {
      x: { range: () => latest.current.range },
      y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] },
    },
    axes: [
      {
        ...axis,
        show: hasTime,
        size: TIME_HEIGHT,
        space: 70,
        incrs: MINUTES,
        values: (_, splits) => splits.map((at) => clock.format(at * 1000)),
      },
      {
        ...axis,
        size: VALUE_WIDTH,
        space: 26,
        ...(plot.isWhole ? { incrs: WHOLE } : {}),
        values: (_, splits) => splits.map((value) => plot.format(value)),
      },
    ],
    series: [{}, ...plot.series.map((one) => seriesOf(uPlot, one, colour(one.paint)))],
    hooks: {
      draw: [(chart) => drawMarks(uPlot, chart, latest.current.marks, colour)],
      setCursor: [(chart) => latest.current.onCursor(chart.cursor.idx ?? null)],
    },
  };
}

function seriesOf(uPlot, { label, shape }, stroke) {
  const shared = { label, stroke, width: 1.5, points: { show: false } };
  if (shape === "area") return { ...shared, fill: faded(stroke, 0.15) };
  if (shape === "steps") return { ...shared, paths: uPlot.paths.stepped({ align: 1 }) };
  if (shape === "bars") {
    const paths = uPlot.paths.bars({ size: [0.8, 8], align: 1 });
    return { ...shared, width: 0, fill: faded(stroke, 0.85), paths };
  }
  // a value with nothing at either side is no line, and is drawn as a point
  return { ...shared, points: { show: true, size: 3, filter: alone } };
}

function alone(chart, index) {
  const values = chart.data[index];
  return values.flatMap((value, at) => (
    value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null
      ? [at]
      : []
  ));
}

function faded(colour, share) {
  return `color-mix(in srgb, ${colour} ${share * 100}%, transparent)`;
}

// Decisions as lines across the plot.
function drawMarks(uPlot, { ctx, bbox, valToPos }, marks, colour) {
  ctx.save();
  for (const { at, isChosen } of marks) {
    const x = Math.round(valToPos(at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.strokeStyle = colour(isChosen ? "--accent" : "--ink-faint");
    ctx.lineWidth = (isChosen ? 2 : 1) * uPlot.pxRatio;
    ctx.setLineDash(isChosen ? [] : [2 * uPlot.pxRatio, 3 * uPlot.pxRatio]);
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
