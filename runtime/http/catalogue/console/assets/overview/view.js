// All functions at a glance.
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";

import { connection } from "../live/connection.js";
import { formatBytes, formatCount, formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { stateLabel } from "../parts/markup.js";
import { replaceQuery, route } from "../route.js";
import { functions, server } from "../live/store.js";
import {
  arrange, GROUPS, readArrangement, sortBy, SORTS, STATES, summarize, writeArrangement,
} from "./arrange.js";
import { Lacks, Machines } from "./machines.js";
import { columnsOf, FunctionTable } from "./table.js";

// Where the page was when it was left.
let leftAt = 0;

export function Overview() {
  useLayoutEffect(() => {
    window.scrollTo(0, leftAt);
    const keep = () => {
      leftAt = window.scrollY;
    };
    window.addEventListener("scroll", keep, { passive: true });
    return () => window.removeEventListener("scroll", keep);
  }, []);
  const { machines = [], lacks = [] } = server.value ?? {};
  return html`
    <h1 class="visually-hidden" tabindex="-1">Functions</h1>
    <${Lacks} lacks=${lacks} />
    <${Machines} machines=${machines} />
    ${functions.value === null ? html`<${Waiting} />` : html`<${Functions} />`}
  `;
}

function Waiting() {
  if (connection.value.state === "refused") return null;
  return html`<p class="empty muted">Asking the server …</p>`;
}

function Functions() {
  const entries = useMemo(() => [...functions.value.values()], [functions.value]);
  const arrangement = useMemo(() => readArrangement(route.value.query), [route.value]);
  const rows = useMemo(() => arrange(entries, arrangement), [entries, arrangement]);
  const change = (changed) => replaceQuery(writeArrangement({ ...arrangement, ...changed }));
  const toggle = (label) => {
    const closed = new Set(arrangement.closed);
    if (!closed.delete(label)) closed.add(label);
    change({ closed });
  };
  if (!entries.length) {
    return html`<p class="empty muted">No function is declared, or your key opens none.</p>`;
  }
  return html`
    <${Summary} entries=${entries} arrangement=${arrangement} change=${change} />
    <${Tools} arrangement=${arrangement} change=${change} rows=${rows} />
    ${rows.length
      ? html`<${FunctionTable} rows=${rows} columns=${columnsOf(server.value?.kind)}
          arrangement=${arrangement} onToggle=${toggle}
          onSort=${(key) => change(sortBy(arrangement, key))} />`
      : html`<p class="empty muted">No function matches.
          <${ShowAll} change=${change} /></p>`}
  `;
}

function ShowAll({ change }) {
  const showAll = () => change({ text: "", state: "" });
  return html`<button type="button" class="button small" onClick=${showAll}>Show all</button>`;
}

function Summary({ entries, arrangement, change }) {
  const { counts, total } = summarize(entries);
  const states = STATES.filter((state) => counts[state] || arrangement.state === state);
  const show = (state) => change({ state: arrangement.state === state ? "" : state });
  return html`<div class="summary">
    <div class="filters" role="group" aria-label="Show by state">
      <button type="button" aria-pressed=${arrangement.state ? "false" : "true"}
        onClick=${() => change({ state: "" })}>
        All<span class="count num">${formatNumber(total.functions, 0)}</span>
      </button>
      ${states.map((state) => html`
        <button type="button" key=${state} class="state ${state}" onClick=${() => show(state)}
          aria-pressed=${arrangement.state === state ? "true" : "false"}>
          <span class="dot" aria-hidden="true"></span>${stateLabel(state)}
          <span class="count num">${formatNumber(counts[state], 0)}</span>
        </button>`)}
    </div>
    <dl class="totals">
      <div><dt>Calls</dt><dd class="num">
        ${formatNumber(total.calls_per_s)}<span class="unit">/s</span>
      </dd></div>
      <div><dt>Errors, last minute</dt><dd class="num ${total.errors ? "bad" : ""}">
        ${formatNumber(total.errors, 0)}
      </dd></div>
      <div><dt>Memory</dt><dd class="num">${formatBytes(total.memory_bytes)}</dd></div>
    </dl>
  </div>`;
}

function Tools({ arrangement, change, rows }) {
  const field = useRef(null);
  useEffect(() => {
    const onKey = (event) => {
      const isTyping = event.target.closest("input, textarea, select, dialog");
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      field.current.focus();
      field.current.select();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  const onKeyDown = (event) => {
    if (event.key === "Escape" && arrangement.text) change({ text: "" });
    else if (event.key === "Escape") event.target.blur();
    else if (event.key === "ArrowDown" || event.key === "Enter") {
      document.querySelector('.grid-body [tabindex="0"]')?.focus();
    } else return;
    event.preventDefault();
  };
  const count = rows.reduce((sum, row) => sum + countOf(row), 0);
  const isPart = arrangement.text || arrangement.state;
  return html`<div class="tools" role="search">
    <div class="search">
      <input ref=${field} type="search" aria-label="Search functions" placeholder="Search"
        value=${arrangement.text} autocomplete="off" spellcheck=${false} aria-keyshortcuts="/"
        onInput=${(event) => change({ text: event.target.value })} onKeyDown=${onKeyDown} />
      <kbd aria-hidden="true">/</kbd>
    </div>
    <${Choice} label="Group" value=${arrangement.group} choices=${GROUPS} none="None"
      onChoose=${(group) => change({ group, closed: new Set() })} />
    <${Choice} label="Sort" value=${arrangement.sort} choices=${SORTS} kind="sort-choice"
      onChoose=${(sort) => change({ sort, isDown: !SORTS[sort].isText })} />
    <span class="muted found" role="status">${isPart ? formatCount(count, "function") : ""}</span>
  </div>`;
}

// Functions that a row stands for; those of an open group have rows of their own.
const countOf = (row) => (row.entry ? 1 : row.isOpen ? 0 : row.count);

function Choice({ label, value, choices, none = null, kind = "", onChoose }) {
  return html`<label class="choice ${kind}">${label}
    <select value=${value} onChange=${(event) => onChoose(event.target.value)}>
      ${none && html`<option value="">${none}</option>`}
      ${Object.entries(choices).map(([key, choice]) => html`
        <option key=${key} value=${key}>${choice.label}</option>`)}
    </select>
  </label>`;
}
