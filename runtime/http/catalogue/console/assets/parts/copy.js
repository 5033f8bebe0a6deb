// A button that copies a text.
import { useEffect, useState } from "preact/hooks";

import { announce } from "./announce.js";
import { html } from "./html.js";

const SHOWN_MS = 1500;

export function CopyButton({ text, label = "Copy" }) {
  const [state, setState] = useState("");
  useEffect(() => {
    if (!state) return undefined;
    const timer = setTimeout(() => setState(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => {
    const done = await write(typeof text === "function" ? text() : text);
    setState(done ? "Copied" : "Not copied");
    announce(done ? "Copied." : "The browser did not allow to copy.");
  };
  return html`<button type="button" class="button quiet small" onClick=${copy}>
    ${state || label}
  </button>`;
}

// The clipboard is there on https and loopback only; elsewhere the old way is left.
async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeBySelection(text);
  }
}

function writeBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
