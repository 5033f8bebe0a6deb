// "Try it": a form of a function's request, its call, and what came of it.
import { useEffect, useRef, useState } from "preact/hooks";

import { key, may } from "../api.js";
import { announce } from "../parts/announce.js";
import { CopyButton } from "../parts/copy.js";
import { formatMs } from "../parts/format.js";
import { html } from "../parts/html.js";
import { JSON_TYPE, fieldAt } from "./calls.js";
import { useDraft } from "./draft.js";
import { Request, Switch } from "./form.js";
import { curlOf, openaiProgram, pythonProgram } from "./programs.js";
import { sendCall } from "./sending.js";
import { Result } from "./shown.js";

export function TryIt({ name, details, api }) {
  const draft = useDraft(details);
  const run = useRun(api, draft, details);
  const { entry } = details;
  const isBusy = run.phase !== "idle" && run.phase !== "done";
  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !isBusy) {
      event.preventDefault();
      run.start();
    }
  };
  const submit = (event) => {
    event.preventDefault();
    if (!isBusy) run.start();
  };
  if (entry.part_of) {
    return html`<p class="note">
      It is a stage of ${entry.part_of}: no client can call it by itself.
    </p>`;
  }
  return html`<div class="try">
    <form class="panel try-request" onSubmit=${submit} onKeyDown=${onKeyDown} novalidate
      aria-label=${`Call ${name}`}>
      <${Request} draft=${draft} details=${details} faults=${run.faults} onClear=${run.clear} />
      <div class="try-body">
        ${entry.state === "asleep" && html`<p class="muted">
          It sleeps: the call wakes it, and waits for that.
        </p>`}
        <div class="try-row">
          <button type="submit" class="button primary" disabled=${isBusy || !may("call")}>
            ${isBusy ? "Calling …" : "Call"}
          </button>
          ${isBusy && html`<button type="button" class="button danger" onClick=${run.stop}>Stop</button>`}
          <span class="muted">Ctrl + Enter</span>
        </div>
        ${!may("call") && html`<p class="note warn">This key may not call: it has no scope “call”.</p>`}
      </div>
    </form>
    <${Result} run=${run} details=${details} />
    <${Programs} draft=${draft} details=${details} name=${name} api=${api} />
  </div>`;
}

// The call.

// `number` counts the calls, of which the last one is shown.
const IDLE = { phase: "idle", number: 0, faults: {}, result: null, stream: null, sent: null };

function useRun(api, draft, details) {
  const [state, setState] = useState(IDLE);
  const control = useRef(null); // of the call under way
  const isLeft = useRef(false);
  useEffect(() => () => {
    isLeft.current = true;
    control.current?.abort();
  }, []);
  const set = (more) => {
    if (!isLeft.current) setState((before) => ({ ...before, ...more }));
  };
  const start = async () => {
    if (control.current !== null) return;
    const { signal } = (control.current = new AbortController());
    try {
      await run(await draft.settled(), signal);
    } finally {
      control.current = null;
    }
  };
  const run = async (typed, signal) => {
    const { call } = typed;
    if (Object.keys(call.faults).length > 0) {
      set({ faults: call.faults });
      announce("The call is not sent: a field is wrong.");
      requestAnimationFrame(() => document.querySelector('.try [aria-invalid="true"]')?.focus());
      return;
    }
    const number = state.number + 1;
    set({ phase: "sending", number, faults: {}, result: null, stream: null, sent: call });
    announce("Calling.");
    const onItems = (stream) => set({ phase: "streaming", stream });
    const result = await sendCall(api, call, { signal, onItems });
    const where = result.fault && typed.fields ? fieldAt(result.fault.where, typed.fields) : null;
    const faults = where && typed.mode === "form" ? { [where]: result.fault.message } : {};
    set({ phase: "done", result, faults });
    announce(sentenceOf(result));
    if (result.fault === null && !result.isStopped && details.is_of_sequences) followSequence(typed);
  };
  const stop = () => control.current?.abort();
  const clear = (name) => {
    if (name in state.faults) set({ faults: { ...state.faults, [name]: undefined } });
  };
  return { ...state, start, stop, clear };
}

// The next call of a sequence goes on where this one ended.
function followSequence({ sequence, setSequence }) {
  if (sequence.isEnd) setSequence({ ...sequence, isStart: true });
  else setSequence({ ...sequence, isStart: false });
}

function sentenceOf({ fault, isStopped, status, bar }) {
  if (isStopped) return "Stopped.";
  if (fault) return `Refused: ${fault.message}`;
  return `Answered with ${status} in ${formatMs(bar.wholeMs)}.`;
}

// The same call for programs.

function Programs({ draft, details, name, api }) {
  const [chosen, setChosen] = useState("curl");
  const base = api.url("").href;
  const { call } = draft;
  const type = (details.gives ?? "").split(";")[0];
  const isJson = call.headers[0]?.[1] === JSON_TYPE;
  const isText = type.startsWith("text/") && !isJson;
  const isFile = type !== "" && !isText && !isJson;
  const options = {
    base,
    name,
    task: details.task,
    url: api.url(call.path).href,
    hasKey: key.value !== "",
    streams: details.streams && !isJson,
    isText,
    output: isFile ? `${name}-answer.${type.split("/")[1]?.replace("*", "bin") ?? "bin"}` : "",
    secrets: (draft.fields ?? []).filter((field) => field.isSecret).map((field) => field.name),
  };
  const programs = {
    curl: curlOf(call, options),
    Python: pythonProgram(call, options),
    openai: openaiProgram(call, options),
  };
  const names = Object.keys(programs).filter((one) => programs[one] !== null);
  const shown = names.includes(chosen) ? chosen : "curl";
  return html`<section class="panel try-programs" aria-label="The same call by a program">
    <header>
      <h2>The same call</h2>
      <span class="grow"></span>
      <${Switch} label="By which program" value=${shown}
        options=${names.map((one) => [one, one])} onChange=${setChosen} />
      <${CopyButton} text=${programs[shown]} />
    </header>
    <div class="try-body">
      <pre class="code" tabindex="0" role="region" aria-label=${`The call by ${shown}`}>${programs[shown]}</pre>
      ${options.hasKey && html`<p class="muted">The key is not written down: set KEY to it.</p>`}
    </div>
  </section>`;
}
