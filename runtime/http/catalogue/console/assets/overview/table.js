// The functions in a grid, of which only the rows in view are drawn. Arrows, Home, End and the pages
// move from row to row, Enter opens.
import { useLayoutEffect, useRef, useState } from "preact/hooks";

import { formatBytes, formatMs, formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { Age, describeCodes, StateBadge, stateLabel } from "../parts/markup.js";
import { functionLink } from "../route.js";
import { samples } from "../live/store.js";
import { SORTS, stateOf } from "./arrange.js";
import { useRowsWindow } from "./rows_window.js";
import { Sparkline } from "./sparkline.js";

const CLUSTER_ONLY = ["tier", "replicas"];

// Columns by what they sort by; those of a cluster are left out of `wakeful run`.
export function columnsOf(kind) {
  return Object.keys(SORTS).filter((key) => kind !== "run" || !CLUSTER_ONLY.includes(key));
}

export function FunctionTable({ rows, columns, arrangement, onSort, onToggle }) {
  const body = useRef(null);
  const [active, setActive] = useState(null);
  const isMoving = useRef(false);
  const [first, last, height] = useRowsWindow(body, rows.length);
  const at = Math.max(0, rows.findIndex(({ key }) => key === active));
  const shown = rows.slice(first, last).map((row, index) => [row, first + index]);
  if (rows.length && (at < first || at >= last)) shown.push([rows[at], at]); // it may have the focus

  const move = (to) => {
    const next = Math.min(rows.length - 1, Math.max(0, to));
    isMoving.current = rows[next].key !== active;
    setActive(rows[next].key);
    bringIntoView(body.current, next, height);
  };
  useLayoutEffect(() => {
    if (!isMoving.current) return;
    isMoving.current = false;
    body.current.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }, [active]);

  const onKeyDown = (event) => {
    const page = Math.max(1, Math.floor(window.innerHeight / height) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.target.getAttribute("role") !== "row") return;
    if (event.key in steps) move(at + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(rows.length - 1);
    else if (event.key === "Enter") event.target.querySelector("a, button").click();
    else return;
    event.preventDefault();
  };

  const kind = columns.includes("tier") ? "" : "run";
  return html`<div class="grid ${kind}" role="grid" aria-label="Functions"
    aria-rowcount=${rows.length + 1} aria-colcount=${columns.length}>
    <div role="rowgroup" class="grid-head">
      <div role="row" class="grid-row" aria-rowindex="1">
        ${columns.map((key) => html`<${ColumnHead} key=${key} column=${key}
          arrangement=${arrangement} onSort=${onSort} />`)}
      </div>
    </div>
    <div role="rowgroup" class="grid-body" ref=${body} onKeyDown=${onKeyDown}
      style=${{ height: `${rows.length * height}px` }}>
      ${shown.map(([row, index]) => html`<${Row} key=${row.key} row=${row} index=${index}
        height=${height} columns=${columns} isActive=${index === at}
        onFocus=${() => setActive(row.key)} onToggle=${onToggle} />`)}
    </div>
  </div>`;
}

// Scroll so far that a row is seen, below the head that stays.
function bringIntoView(body, row, height) {
  const head = body.previousElementSibling.getBoundingClientRect().bottom;
  const top = body.getBoundingClientRect().top + row * height;
  const above = top - head;
  const below = top + height - window.innerHeight;
  if (above < 0) window.scrollBy(0, above);
  else if (below > 0) window.scrollBy(0, below);
}

function ColumnHead({ column, arrangement, onSort }) {
  const isSorted = arrangement.sort === column;
  const order = arrangement.isDown ? "descending" : "ascending";
  return html`<div role="columnheader" class="cell ${column}"
    aria-sort=${isSorted ? order : undefined}>
    <button type="button" onClick=${() => onSort(column)}>
      ${SORTS[column].label}<span class="arrow" aria-hidden="true">
        ${isSorted ? (arrangement.isDown ? "↓" : "↑") : ""}
      </span>
    </button>
  </div>`;
}

function Row({ row, index, height, columns, isActive, onFocus, onToggle }) {
  const shared = {
    role: "row",
    "aria-rowindex": index + 2,
    tabindex: isActive ? 0 : -1,
    onFocus,
    style: { transform: `translateY(${index * height}px)` },
  };
  if (row.entry) {
    return html`<div class="grid-row ${stateOf(row.entry)}" ...${shared}>
      ${columns.map((key) => html`<${Cell} key=${key} column=${key} entry=${row.entry} />`)}
    </div>`;
  }
  return html`<div class="grid-row group" ...${shared}>
    <div role="gridcell" class="cell" aria-colspan=${columns.length}>
      <button type="button" tabindex="-1" aria-expanded=${row.isOpen ? "true" : "false"}
        onClick=${() => onToggle(row.label)}>
        <span class="arrow" aria-hidden="true">${row.isOpen ? "▾" : "▸"}</span>
        ${row.group === "state" ? stateLabel(row.label) : row.label}
        <span class="count num">${formatNumber(row.count, 0)}</span>
      </button>
    </div>
  </div>`;
}

function Cell({ column, entry }) {
  const role = column === "name" ? "rowheader" : "gridcell";
  return html`<div role=${role} class="cell ${column}">${CELLS[column](entry)}</div>`;
}

const NOTHING = html`<span class="visually-hidden">none</span>`;

const CELLS = {
  name: (entry) => html`
    <a href=${functionLink(entry.name)} tabindex="-1">${entry.name}</a>
    <span class="muted about">${aboutOf(entry)}</span>`,
  state: (entry) => html`<${StateBadge} state=${stateOf(entry)} />
    ${entry.doing && html`<span class="tag">${entry.doing}</span>`}
    ${entry.kept && html`<span class="tag">kept</span>`}`,
  tier: (entry) => entry.tier,
  replicas: (entry) => (entry.replicas ? formatNumber(entry.replicas, 0) : NOTHING),
  memory: (entry) => (entry.memory_bytes ? formatBytes(entry.memory_bytes) : NOTHING),
  calls: (entry) => html`<${CallsCell} entry=${entry} />`,
  latency: (entry) => html`<${LatencyCell} entry=${entry} />`,
  errors: ({ last_minute: { errors }, errors: codes }) => (errors
    ? html`<span class="errors" title=${describeCodes(codes)}>${formatNumber(errors, 0)}</span>`
    : NOTHING),
  wake: ({ last_wake: wake }) => (wake
    ? html`<${Age} at=${wake.at} /> <span class="muted">${formatMs(wake.total_s * 1000)}</span>`
    : NOTHING),
};

// What is wrong with it, else whose stage it is, else what it does.
function aboutOf(entry) {
  return entry.reason || (entry.part_of ? `stage of ${entry.part_of}` : entry.description);
}

function CallsCell({ entry: { name, last_minute: { calls, calls_per_s: rate } } }) {
  const lines = samples.value.functions.get(name);
  if (!lines && !calls) return NOTHING;
  return html`
    ${lines && html`<${Sparkline} lines=${[{ values: lines.calls_per_s, kind: "calls" }]} />`}
    <span>${formatNumber(rate)}<span class="unit">/s</span></span>`;
}

function LatencyCell({ entry: { name, last_minute: { p50_ms: p50, p95_ms: p95 } } }) {
  const lines = samples.value.functions.get(name);
  if (!lines && p95 === null) return NOTHING;
  return html`
    ${lines && html`<${Sparkline} lines=${[
      { values: lines.p95_ms, kind: "p95" },
      { values: lines.p50_ms, kind: "p50" },
    ]} />`}
    <span class="pair">
    ${p50 !== null && html`<span class="p50"><span class="visually-hidden">p50 </span>
      ${formatMs(p50)}</span>`}
    ${p95 !== null && html`<span class="p95"><span class="visually-hidden">p95 </span>
      ${formatMs(p95)}</span>`}
  </span>`;
}
