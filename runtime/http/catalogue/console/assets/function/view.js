// One function: what it is, what it does, and what became of it.
import { useEffect, useState } from "preact/hooks";

import { api } from "../api.js";
import { stateOf } from "../overview/arrange.js";
import { html } from "../parts/html.js";
import { ErrorNote, StateBadge } from "../parts/markup.js";
import { functionLink, overviewLink } from "../route.js";
import { watched, watchedEntry } from "../live/store.js";
import { useActions } from "./actions.js";
import { Facts, LastWake } from "./facts.js";
import { Graph } from "./graph.js";
import { History } from "./history.js";
import { Log } from "./log.js";
import { FailedCalls, Settings, Signature } from "./tables.js";

export function FunctionPage({ name, view }) {
  const entry = watchedEntry.value;
  const fault = watched.fault.value;
  if (entry === undefined) {
    return html`
      <h1 tabindex="-1">${name}</h1>
      ${fault
        ? html`<${ErrorNote} fault=${fault} />`
        : html`<p class="empty muted">Asking the server …</p>`}
      <p><a href=${overviewLink.value}>All functions</a></p>`;
  }
  return html`<${Declared} entry=${entry} fault=${fault} view=${view} />`;
}

function Declared({ entry, fault, view }) {
  const { name, part_of: partOf } = entry;
  const details = watched.details.value;
  const { buttons, fault: refused } = useActions(entry);
  useEffect(() => window.scrollTo(0, 0), []);
  return html`
    <header class="function-head">
      <nav class="crumbs" aria-label="Where this is">
        <a href=${overviewLink.value}>All functions</a>
        ${partOf && html`<span aria-hidden="true">/</span>
          <a href=${functionLink(partOf)}>${partOf}</a>`}
      </nav>
      <div class="function-title">
        <h1 tabindex="-1">${name}</h1>
        <${StateBadge} state=${stateOf(entry)} />
        ${entry.doing && html`<span class="tag">${entry.doing}</span>`}
        ${entry.kept && html`<span class="tag">kept awake</span>`}
        <span class="grow"></span>
        <div class="row actions">${buttons}</div>
      </div>
      ${entry.description && html`<p class="muted">${entry.description}</p>`}
    </header>
    ${refused}
    <${Notes} entry=${entry} />
    ${fault && html`<${ErrorNote} fault=${fault} />`}
    ${!partOf && html`<nav class="tabs" aria-label="Views of the function">
      <${Tab} href=${functionLink(name)} isShown=${view === "function"}>Overview<//>
      <${Tab} href=${functionLink(name, "try")} isShown=${view === "try"}>Try it<//>
    </nav>`}
    ${view === "try"
      ? details && html`<${TryTab} name=${name} details=${{ ...details, entry }} />`
      : html`<${Look} entry=${entry} details=${details} />`}
  `;
}

function Tab({ href, isShown, children }) {
  return html`<a href=${href} aria-current=${isShown ? "page" : undefined}>${children}</a>`;
}

// What is amiss, or under way, in words.
function Notes({ entry }) {
  const { reason, update, device } = entry;
  const isBad = entry.state === "failed" || entry.is_quarantined;
  return html`
    ${reason && html`<div class="note ${isBad ? "bad" : "warn"}">${reason}</div>`}
    ${update && html`<div class="note ${update === "loading" ? "" : "warn"}">
      ${update === "loading" ? "Another version loads." : `Another version was not taken: ${update}`}
    </div>`}
    ${device?.fallback && html`
      <div class="note warn">${`It runs on the CPU: ${device.fallback}`}</div>`}
  `;
}

function Look({ entry, details }) {
  const wake = entry.last_wake;
  return html`
    <${Facts} entry=${entry} />
    ${(details === null || details.history) && html`<${History} />`}
    ${details?.graph?.nodes.length > 0 && html`<${Graph} graph=${details.graph} />`}
    <div class="columns">
      <div>
        ${details?.signature && html`
          <${Signature} signature=${details.signature} details=${details} />`}
        ${wake && html`<${LastWake} wake=${wake} />`}
      </div>
      <div>
        ${details && html`<${Settings} settings=${details.settings} />`}
        <${FailedCalls} errors=${watched.errors.value} />
      </div>
    </div>
    <${Log} />
  `;
}

// The view that calls the function is read when it is wanted first.
function TryTab({ name, details }) {
  const [view, setView] = useState(null);
  const [fault, setFault] = useState(null);
  useEffect(() => {
    import("../try/view.js").then((module) => setView(() => module.TryIt), setFault);
  }, []);
  if (fault) return html`<${ErrorNote} fault=${fault} />`;
  return view && html`<${view} key=${name} name=${name} details=${details} api=${api} />`;
}
