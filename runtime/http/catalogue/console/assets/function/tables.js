// What is declared of a function, and the calls that failed.
import { useState } from "preact/hooks";

import { formatCount, formatNumber, formatTime } from "../parts/format.js";
import { html } from "../parts/html.js";

export function Signature({ signature, details }) {
  const notes = [
    details.task && `Task: ${details.task}.`,
    details.takes.length > 1 && `Bodies: ${details.takes.join(", ")}.`,
    details.gives && `Answers a file (${details.gives}).`,
    details.streams && "Answers as a stream.",
    details.is_of_sequences && "Each call belongs to a sequence.",
  ].filter(Boolean);
  return html`<section class="panel" aria-labelledby="signature-title">
    <header><h2 id="signature-title">Signature</h2></header>
    <${Values} title="Takes" values=${signature.inputs} />
    <${Values} title="Answers" values=${signature.outputs} />
    ${notes.length > 0 && html`<p class="muted hint">${notes.join(" ")}</p>`}
  </section>`;
}

function Values({ title, values }) {
  if (!values.length) return null;
  return html`<div class="table-scroll" tabindex="0" role="region" aria-label=${title}>
    <table class="values">
      <thead><tr>
        <th scope="col">${title}</th><th scope="col">Type</th><th scope="col">Tensor</th>
      </tr></thead>
      <tbody>
        ${values.map(({ name, type, datatype, shape, optional, description }) => html`
          <tr key=${name}>
            <th scope="row" class="mono">${name}${optional && html`<span class="tag">optional</span>`}
              ${description && html`<p class="muted about">${description}</p>`}</th>
            <td class="mono">${type}</td>
            <td class="mono muted">${datatype} [${shape.join(", ")}]</td>
          </tr>`)}
      </tbody>
    </table>
  </div>`;
}

export function Settings({ settings }) {
  const [isAll, setAll] = useState(false);
  const given = settings.filter(({ origin }) => origin !== "default");
  const shown = isAll ? settings : given;
  const rest = settings.length - given.length;
  return html`<section class="panel" aria-labelledby="settings-title">
    <header><h2 id="settings-title">Settings</h2><span class="grow"></span>
      ${rest > 0 && html`<button type="button" class="button quiet small"
        aria-pressed=${isAll ? "true" : "false"} onClick=${() => setAll(!isAll)}>
        ${isAll ? "Hide defaults" : `Show ${formatCount(rest, "default")}`}
      </button>`}
    </header>
    ${shown.length
      ? html`<div class="table-scroll" tabindex="0" role="region" aria-label="Table of settings">
          <table>
            <thead><tr>
              <th scope="col">Key</th><th scope="col">Value</th><th scope="col">From</th>
            </tr></thead>
            <tbody>
              ${shown.map(({ key, value, origin }) => html`<tr key=${key}>
                <th scope="row" class="mono">${key}</th>
                <td class="mono value">
                  ${typeof value === "string" ? value : JSON.stringify(value)}
                </td>
                <td class="muted" title=${origin}>${origin.split("/").at(-1)}</td>
              </tr>`)}
            </tbody>
          </table>
        </div>`
      : html`<p class="muted hint">All are defaults.</p>`}
  </section>`;
}

const SHOWN_ERRORS = 50;

export function FailedCalls({ errors }) {
  return html`<section class="panel" aria-labelledby="errors-title">
    <header><h2 id="errors-title">Last errors</h2><span class="grow"></span>
      ${errors.length > 0 && html`<span class="muted num">${formatNumber(errors.length, 0)}</span>`}
    </header>
    ${errors.length
      ? html`<ol class="failed-calls" tabindex="0" aria-label="Failed calls, the latest first">
          ${errors.slice(-SHOWN_ERRORS).reverse().map(({ at, code, status, message, id }) => html`
            <li key=${`${at} ${id} ${code}`}>
              <div><time class="num muted">${formatTime(at)}</time>
                <span class="tag bad">${status} ${code}</span>
                <span class="muted mono request">${id}</span></div>
              <p>${message}</p>
            </li>`)}
        </ol>`
      : html`<p class="muted hint">No call has failed.</p>`}
  </section>`;
}
