// Small pieces of markup that all views share.
import { formatAge, formatNumber, formatTime } from "./format.js";
import { html } from "./html.js";
import { now } from "./now.js";

const STATES = {
  ready: "Ready",
  waking: "Waking",
  draining: "Draining",
  asleep: "Asleep",
  failed: "Failed",
  quarantined: "Quarantined",
};

// A state as it is shown; one that a newer server has is shown as it is called there.
export function stateLabel(state) {
  return STATES[state] ?? state;
}

// How many errors of which code, the most frequent first.
export function describeCodes(codes) {
  return Object.entries(codes)
    .toSorted(([, one], [, other]) => other - one)
    .map(([code, count]) => `${formatNumber(count, 0)} ${code}`)
    .join(", ");
}

// A state in a word, a colour and a shape.
export function StateBadge({ state }) {
  return html`<span class="state ${state in STATES ? state : ""}">
    <span class="dot" aria-hidden="true"></span>${stateLabel(state)}
  </span>`;
}

// How long ago seconds since the epoch were; it goes on.
export function Age({ at }) {
  return html`<time datetime=${new Date(at * 1000).toISOString()} title=${formatTime(at)}>
    ${formatAge(at, now.value)}
  </time>`;
}

// What went wrong, in the words of the server, and what else helps to find it.
export function ErrorNote({ fault }) {
  return html`<div class="note bad" role="alert">
    <p>${fault.message}</p>
    ${(fault.code || fault.id) && html`<p class="muted mono">
      ${[fault.code, fault.where, fault.id && `request ${fault.id}`].filter(Boolean).join(" · ")}
    </p>`}
  </div>`;
}

// A share of a whole as a bar; the text beside it says the same.
export function Meter({ share, kind = "" }) {
  const width = `${Math.min(1, Math.max(0, share)) * 100}%`;
  return html`<span class="meter ${kind}" aria-hidden="true"><span style=${{ width }}></span></span>`;
}

// The mark of Wakeful: an eye that opens.
export function Mark() {
  return html`<svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
    <path d="M2 12c2.6-4.7 6-7 10-7s7.4 2.3 10 7c-2.6 4.7-6 7-10 7s-7.4-2.3-10-7z" />
    <circle cx="12" cy="12" r="3.2" />
  </svg>`;
}
