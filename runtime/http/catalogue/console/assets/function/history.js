// What became of a function in the last hours, on one axis of time, with the decisions about it.
import { useSignal } from "@preact/signals";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";

import { historyStep } from "../live/look.js";
import { formatTime } from "../parts/format.js";
import { html } from "../parts/html.js";
import { watched } from "../live/store.js";
import { Chart } from "./chart.js";
import { decisionsIn, plotsOf, timesOf } from "./plots.js";

const SPANS = { 10: "30 min", 60: "6 h" };
const SHOWN_DECISIONS = 40;

export function History() {
  const history = watched.history.value;
  const decisions = watched.decisions.value;
  const [uPlot, setLibrary] = useState(null);
  const cursor = useSignal(null);
  const [pointed, point] = useState(null); // the decision in the list that is pointed at
  useEffect(() => {
    import("uPlot").then(({ default: library }) => setLibrary(() => library));
  }, []);
  const onCursor = useCallback((at) => {
    cursor.value = at;
  }, []);
  const plots = useMemo(() => history && plotsOf(history), [history]);
  const times = useMemo(() => history && timesOf(history), [history]);
  const marks = useMemo(
    () => decisions.map((one) => ({ at: one.at, isChosen: one === pointed })),
    [decisions, pointed],
  );
  const hasNumbers = Boolean(times?.length);
  return html`<section class="panel history" aria-labelledby="history-title">
    <header>
      <h2 id="history-title">History</h2>
      <${Reading} history=${history} cursor=${cursor} />
      <div class="segments" role="group" aria-label="How far back">
        ${Object.entries(SPANS).map(([step, label]) => html`
          <button type="button" key=${step} onClick=${() => { historyStep.value = Number(step); }}
            aria-pressed=${historyStep.value === Number(step) ? "true" : "false"}>${label}</button>`)}
      </div>
    </header>
    <div class="history-body">
      <div class="plots">
        ${hasNumbers && uPlot
          ? plots.map((plot, at) => html`<div class="plot" key=${plot.key}>
              <${Legend} plot=${plot} cursor=${cursor} />
              <${Chart} uPlot=${uPlot} plot=${plot} times=${times} step=${history.step_s}
                marks=${marks} hasTime=${at === plots.length - 1} onCursor=${onCursor} />
            </div>`)
          : html`<p class="empty muted">${hasNumbers ? "" : "Nothing was counted yet."}</p>`}
      </div>
      <${Decisions} decisions=${decisions} history=${history} cursor=${cursor} onPoint=${point} />
    </div>
    ${hasNumbers && html`<${Numbers} plots=${plots} times=${times} />`}
  </section>`;
}

// The time that is pointed at.
function Reading({ history, cursor }) {
  const at = cursor.value;
  return html`<span class="muted num grow reading">
    ${history && at !== null ? formatTime(history.from + at * history.step_s) : ""}
  </span>`;
}

function Legend({ plot: { key, title, format, series }, cursor }) {
  const at = cursor.value;
  return html`<div class="legend">
    <h3>${title}</h3>
    ${series.map(({ label, values, paint }) => {
      const value = at === null ? values.findLast((one) => one !== null) : values[at];
      return html`<span key=${label} class="key">
        <span class="swatch paint${paint}"></span>${(series.length > 1 || key === "errors") && label}
        <span class="num value">${value === null || value === undefined ? "–" : format(value)}</span>
      </span>`;
    })}
  </div>`;
}

function Decisions({ decisions, history, cursor, onPoint }) {
  const at = cursor.value;
  const near = history && at !== null
    ? decisionsIn(decisions, history.from + at * history.step_s, history.step_s)
    : [];
  return html`<div class="decisions">
    <h3>Decisions</h3>
    ${decisions.length
      ? html`<ol tabindex="0" aria-label="Decisions, the latest first">
          ${decisions.slice(-SHOWN_DECISIONS).reverse().map((one) => html`
            <li key=${`${one.at} ${one.why}`} class=${near.includes(one) ? "near" : ""}
              onMouseEnter=${() => onPoint(one)} onMouseLeave=${() => onPoint(null)}>
              <time class="num muted">${formatTime(one.at)}</time> ${one.why}
            </li>`)}
        </ol>`
      : html`<p class="muted">None yet.</p>`}
  </div>`;
}

// The same numbers as a table: for a screen reader, and to copy.
function Numbers({ plots, times }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details class="numbers" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The numbers as a table</summary>
    ${isOpen && html`<div class="table-scroll" tabindex="0" role="region" aria-label="Numbers">
      <table>
        <thead><tr><th scope="col">Time</th>
          ${plots.map(({ key, title, series }) => series.map(({ label }) => html`
            <th scope="col" key=${`${key} ${label}`}>
              ${title === "Calls" ? title : `${title}: ${label}`}
            </th>`))}
        </tr></thead>
        <tbody>
          ${times.map((time, at) => ({ time, at })).reverse().map(({ time, at }) => html`
            <tr key=${time}><th scope="row" class="num">${formatTime(time)}</th>
              ${plots.map(({ key, format, series }) => series.map(({ label, values }) => html`
                <td class="num" key=${`${key} ${label}`}>
                  ${values[at] === null ? "–" : format(values[at])}
                </td>`))}
            </tr>`)}
        </tbody>
      </table>
    </div>`}
  </details>`;
}
