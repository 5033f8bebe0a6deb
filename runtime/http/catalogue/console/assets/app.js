// The console: its bar, the box for a key, and the view that the address names.
import { effect } from "@preact/signals";
import { options, render } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { key, keyWanted, session, takeKey } from "./api.js";
import { connect, connection, hurry } from "./live/connection.js";
import { FunctionPage } from "./function/view.js";
import { followRoute } from "./live/look.js";
import { stateOf } from "./overview/arrange.js";
import { Overview } from "./overview/view.js";
import { announce, listenAt } from "./parts/announce.js";
import { html } from "./parts/html.js";
import { Mark, stateLabel } from "./parts/markup.js";
import { functionLink, overviewLink, route } from "./route.js";
import { watchedEntry } from "./live/store.js";

// One drawing a frame, and none while the page is hidden, however many events come.
options.debounceRendering = requestAnimationFrame;

// Whether a view was shown before this one: a screen reader goes on at the head of the next.
let hasMoved = false;

function App() {
  const { view, name } = route.value;
  const main = useRef(null);
  useEffect(() => {
    document.title = name ? `${name} · Wakeful` : "Wakeful";
    if (hasMoved) main.current.querySelector("h1")?.focus({ preventScroll: true });
    hasMoved = true;
  }, [view, name]);
  const skip = () => main.current.focus();
  return html`
    <${Bar} onSkip=${skip} />
    <${ConnectionNote} />
    <main id="main" tabindex="-1" ref=${main}>
      ${view === "overview"
        ? html`<${Overview} />`
        : html`<${FunctionPage} key=${name} name=${name} view=${view} />`}
    </main>
    <div class="visually-hidden" aria-live="polite" ref=${listenAt}></div>
    <${KeyBox} />
  `;
}

function Bar({ onSkip }) {
  const { kind, version, key: keyName, asks_for_keys: asks } = session.value ?? {};
  const hasBox = asks || key.value || connection.value.state === "refused";
  return html`<header class="bar">
    <button type="button" class="skip button" onClick=${onSkip}>Skip to the content</button>
    <a class="brand" href=${overviewLink.value}><${Mark} />Wakeful</a>
    ${version && html`<span class="muted version">
      ${version}${kind === "run" ? " · wakeful run" : ""}
    </span>`}
    <span class="grow"></span>
    <${ConnectionState} />
    ${hasBox && html`
      <button type="button" class="button quiet small" onClick=${openKeyBox}>
        ${keyName ? `Key: ${keyName}` : "Key"}
      </button>`}
    <a class="button quiet small" href="docs">API</a>
  </header>`;
}

function openKeyBox() {
  keyWanted.value ??= "";
}

const CONNECTION = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  resting: "Paused",
  refused: "Not connected",
};

function ConnectionState() {
  const { state } = connection.value;
  return html`<span class="connection ${state}">
    <span class="dot" aria-hidden="true"></span>${CONNECTION[state]}
  </span>`;
}

function ConnectionNote() {
  const { state, why } = connection.value;
  if (state !== "reconnecting" && state !== "refused") return null;
  if (state === "refused" && keyWanted.value !== null) return null; // the box says it
  return html`<div role="status"
    class="connection-note note ${state === "refused" ? "bad" : "warn"}">
    ${state === "refused"
      ? why
      : html`Reconnecting. What is shown may be out of date.${why && ` ${why}`}`}
  </div>`;
}

function KeyBox() {
  const dialog = useRef(null);
  const isOpen = keyWanted.value !== null;
  const [text, setText] = useState("");
  useLayoutEffect(() => {
    if (isOpen && !dialog.current.open) dialog.current.showModal();
    if (!isOpen && dialog.current.open) dialog.current.close();
  }, [isOpen]);
  const take = (event) => {
    event.preventDefault();
    const before = key.value;
    takeKey(event.target.querySelector("input").value); // of which `text` hears with the next frame
    setText("");
    if (key.value === before) hurry();
  };
  const forget = () => {
    setText("");
    takeKey("");
  };
  const close = () => {
    keyWanted.value = null;
  };
  return html`<dialog class="key-box" ref=${dialog} aria-labelledby="key-title" onClose=${close}>
    <form onSubmit=${take}>
      <h2 id="key-title">A key is wanted</h2>
      <p class="muted">
        One with the scope “look” shows this page; “operate” wakes, pins and puts to sleep, “call”
        calls. It is kept while this tab is open.
      </p>
      ${keyWanted.value && html`<p class="note bad" role="alert">${keyWanted.value}</p>`}
      <label class="field">
        Key
        <input type="password" autocomplete="off" spellcheck=${false} class="mono"
          value=${text} onInput=${(event) => setText(event.target.value)} />
      </label>
      <div class="row end">
        ${key.value && html`
          <button type="button" class="button" onClick=${forget}>Forget it</button>`}
        <button type="submit" class="button primary">Use this key</button>
      </div>
    </form>
  </dialog>`;
}

// A screen reader hears that the page is up to date again.
function followConnection() {
  let before = "";
  effect(() => {
    const { state } = connection.value;
    if (state === "live" && before === "reconnecting") announce("Connected again.");
    before = state;
  });
}

// The state of the function that is looked at is said as it changes.
function followState() {
  let said = "";
  effect(() => {
    const entry = watchedEntry.value;
    const state = entry ? `${entry.name}: ${stateLabel(stateOf(entry))}` : "";
    const isSame = said.split(":")[0] === state.split(":")[0];
    if (state && isSame && said !== state) announce(state);
    said = state;
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const isTyping = event.target.closest("input, textarea, select, dialog, [contenteditable]");
  if (event.key === "Escape" && !isTyping && route.value.view !== "overview") {
    const { view, name } = route.value;
    location.hash = view === "try" ? functionLink(name) : overviewLink.value;
  }
}

document.addEventListener("keydown", onKey);
followRoute();
followState();
followConnection();
connect();
render(html`<${App} />`, document.getElementById("console"));
