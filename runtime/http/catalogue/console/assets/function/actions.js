// What can be done to a function: wake it, put it to sleep, keep it awake.
import { useEffect, useState } from "preact/hooks";

import { api, may } from "../api.js";
import { announce } from "../parts/announce.js";
import { html } from "../parts/html.js";
import { ErrorNote } from "../parts/markup.js";

const WORDS = {
  wake: ["Wake", "wakes"],
  sleep: ["Sleep", "goes to sleep"],
  pin: ["Pin", "is kept awake"],
  unpin: ["Unpin", "may sleep again"],
};

// The verbs that are offered for a function, and whether each makes sense now. What its hours keep
// awake may be pinned besides. Pure.
export function actionsOf({ state, pinned, part_of: partOf }) {
  if (partOf) return [];
  const isUp = state === "ready" || state === "draining";
  return [
    { verb: isUp ? "sleep" : "wake", isOffered: state !== "waking" && state !== "draining" },
    { verb: pinned ? "unpin" : "pin", isOffered: true },
  ];
}

// `{buttons, fault}` of a function: the buttons stand in its head, what went wrong below it.
export function useActions(entry) {
  const [busy, setBusy] = useState("");
  const [fault, setFault] = useState(null);
  useEffect(() => setFault(null), [entry.state === "ready"]); // by whatever woke it
  const act = async (verb) => {
    setBusy(verb);
    setFault(null);
    try {
      await api.change(entry.name, verb);
      announce(`${entry.name} ${WORDS[verb][1]}.`);
    } catch (raised) {
      setFault(raised);
    }
    setBusy("");
  };
  const offered = may("operate") ? actionsOf(entry) : [];
  const buttons = offered.map(({ verb, isOffered }) => html`
    <button type="button" key=${verb} class="button ${verb === "wake" ? "primary" : ""}"
      disabled=${!isOffered || Boolean(busy)} aria-busy=${busy === verb ? "true" : "false"}
      onClick=${() => act(verb)}>${WORDS[verb][0]}</button>`);
  return { buttons, fault: fault && html`<${ErrorNote} fault=${fault} />` };
}
