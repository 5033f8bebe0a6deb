// The numbers of a function as they are now.
import { formatBytes, formatMs, formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { Age, describeCodes } from "../parts/markup.js";

export function Facts({ entry }) {
  const { last_minute: minute, last_wake: wake, device } = entry;
  const isRun = entry.tier === "run";
  const facts = [
    ["Calls", html`${formatNumber(minute.calls_per_s)}<span class="unit">/s</span>`],
    ["p50", minute.p50_ms === null ? "–" : formatMs(minute.p50_ms)],
    ["p95", minute.p95_ms === null ? "–" : formatMs(minute.p95_ms)],
    ["Errors, last minute", html`<span class=${minute.errors ? "bad" : ""}>
      ${formatNumber(minute.errors, 0)}</span>
      ${minute.errors > 0 && html`<span class="codes muted">${describeCodes(entry.errors)}</span>`}
    `],
    ["In flight", formatNumber(entry.in_flight, 0)],
    entry.sequences > 0 && ["Sequences", formatNumber(entry.sequences, 0)],
    !isRun && ["Tier", entry.tier],
    !isRun && ["Replicas", formatNumber(entry.replicas, 0)],
    ["Memory", entry.memory_bytes ? formatBytes(entry.memory_bytes) : "–"],
    device?.device && ["Runs on", deviceText(device)],
    ["Last wake", wake ? html`<${Age} at=${wake.at} />` : "–"],
    ["Path", html`<span class="mono path">${entry.url}</span>`],
  ].filter(Boolean);
  return html`<dl class="facts">
    ${facts.map(([name, value]) => html`<div key=${name}>
      <dt>${name}</dt><dd class="num">${value}</dd>
    </div>`)}
  </dl>`;
}

// What models run on, as of an entry's `device`.
export function deviceText({ device, nodes, cpu_nodes: onCpu }) {
  if (!nodes || !onCpu) return device;
  return `${device}, ${formatNumber(onCpu, 0)} of ${formatNumber(nodes, 0)} nodes on the CPU`;
}

const PHASES_SHOWN = 6;

// The last cold start as a bar of its phases.
export function LastWake({ wake }) {
  const phases = Object.entries(wake.phases ?? {}).filter(([, seconds]) => seconds > 0);
  if (!phases.length) return null;
  const total = Math.max(wake.total_s, phases.reduce((sum, [, seconds]) => sum + seconds, 0));
  const shown = phases.toSorted(([, one], [, other]) => other - one).slice(0, PHASES_SHOWN);
  const named = phases.filter((phase) => shown.some(([name]) => name === phase[0]));
  return html`<section class="panel" aria-labelledby="wake-title">
    <header><h2 id="wake-title">Last wake</h2>
      <span class="muted">${formatMs(wake.total_s * 1000)}</span></header>
    <div class="phases" aria-hidden="true">
      ${named.map(([name, seconds], at) => html`
        <span key=${name} class="c${(at % 6) + 1}"
          style=${{ width: `${(seconds / total) * 100}%` }}></span>`)}
    </div>
    <dl class="phase-names">
      ${named.map(([name, seconds], at) => html`<div key=${name}>
        <dt><span class="swatch c${(at % 6) + 1}"></span>${name.replaceAll("_", " ")}</dt>
        <dd class="num">${formatMs(seconds * 1000)}</dd>
      </div>`)}
    </dl>
  </section>`;
}
