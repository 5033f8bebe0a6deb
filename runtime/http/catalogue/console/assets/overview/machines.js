// What there is to run on: machines, their memory and processors, and which function has which part of a GPU;
// and the promises that a machine does not keep.
import { useState } from "preact/hooks";

import { formatBytes, formatCount, formatNumber, formatShare } from "../parts/format.js";
import { html } from "../parts/html.js";
import { Meter } from "../parts/markup.js";
import { functionLink } from "../route.js";

const SHOWN_AT_FIRST = 6;

export function Machines({ machines }) {
  const [isAll, setAll] = useState(false);
  if (!machines.length) return null;
  const shown = isAll ? machines : machines.slice(0, SHOWN_AT_FIRST);
  return html`<section aria-labelledby="machines-title">
    <h2 id="machines-title" class="visually-hidden">Machines</h2>
    <ul class="machines">
      ${shown.map((machine) => html`<${Machine} key=${machine.id} machine=${machine} />`)}
    </ul>
    ${shown.length < machines.length && html`
      <button type="button" class="button quiet small" onClick=${() => setAll(true)}>
        Show all ${formatCount(machines.length, "machine")}
      </button>`}
  </section>`;
}

function Machine({ machine }) {
  const { id, address, used_bytes: used, budget_bytes: budget, cpus, processes, gpus } = machine;
  return html`<li class="machine panel">
    <div class="machine-name"><strong>${address || id}</strong>
      <span class="muted">${[
        cpus !== null && formatCount(cpus, "processor"),
        formatCount(processes, "process", "processes"),
      ].filter(Boolean).join(" · ")}</span>
    </div>
    ${used !== null && html`<${Memory} used=${used} budget=${budget} />`}
    ${gpus.map((gpu) => html`<${Gpu} key=${gpu.id} gpu=${gpu} />`)}
  </li>`;
}

function Memory({ used, budget }) {
  if (!budget) return html`<div class="machine-memory num">${formatBytes(used)}</div>`;
  const kind = used > 0.9 * budget ? "warn" : "";
  return html`<div class="machine-memory">
    <${Meter} share=${used / budget} kind=${kind} />
    <span class="num">
      ${formatBytes(used)}<span class="muted">${` of ${formatBytes(budget)}`}</span>
    </span>
  </div>`;
}

function Gpu({ gpu: { id, shares } }) {
  const taken = shares.reduce((sum, { num_gpus: part }) => sum + part, 0);
  return html`<div class="gpu">
    <span class="muted">${id || "GPU"} <span class="num">${formatShare(taken)}</span></span>
    <ul class="shares">
      ${shares.map(({ function: name, num_gpus: part }, at) => html`
        <li key=${at} class="c${(at % 6) + 1}" style=${{ flexGrow: part }}>
          <a href=${functionLink(name)} title="${name}: ${formatNumber(part)} of a GPU">${name}</a>
        </li>`)}
      ${taken < 1 && html`<li class="free" style=${{ flexGrow: 1 - taken }} aria-hidden="true"></li>`}
    </ul>
  </div>`;
}

export function Lacks({ lacks }) {
  if (!lacks.length) return null;
  return html`<section class="note warn" aria-labelledby="lacks-title">
    <h2 id="lacks-title">Promises that are off</h2>
    <ul>
      ${lacks.map(({ machine, name, lost }) => html`<li key=${`${machine} ${name}`}>
        <strong>${machine && `${machine}: `}${name}</strong> ${lost}
      </li>`)}
    </ul>
  </section>`;
}
