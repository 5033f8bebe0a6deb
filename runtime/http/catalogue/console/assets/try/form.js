// The form of a request: a control for each field, with what is wrong beside it; or the request as
// JSON; and how it is sent.
import { html } from "../parts/html.js";
import { acceptsOf, jsonOfForm, valuesOfJson } from "./draft.js";
import { isChosen } from "./fields.js";
import { FileField } from "./files.js";

const NOTHING = { text: "", files: [], isNull: false };

const HINTS = {
  json: "JSON",
  list: { number: "numbers, separated by commas or spaces", text: "one a line" },
};

// `values` by name, as of `startOf`; `faults` by name; `onChange(name, value)`.
function Fields({ prefix, fields, values, faults, onChange }) {
  return html`<div class="try-fields">
    ${fields.map((field) => html`<${Field} key=${field.name} prefix=${prefix} field=${field}
      value=${values[field.name] ?? NOTHING} fault=${faults[field.name]}
      onChange=${(value) => onChange(field.name, value)} />`)}
  </div>`;
}

function Field({ prefix, field, value, fault, onChange }) {
  const id = `${prefix}-${field.name}`;
  const notes = [
    field.description && `${id}-about`,
    fault && `${id}-fault`,
  ].filter(Boolean).join(" ") || undefined;
  const isGroup = field.kind === "file";
  return html`<div class="try-field" role=${isGroup ? "group" : undefined}
    aria-labelledby=${isGroup ? `${id}-label` : undefined}>
    <div class="try-label">
      ${isGroup
        ? html`<span id=${`${id}-label`} class="try-field-name">${field.label}</span>`
        : html`<label id=${`${id}-label`} class="try-field-name" for=${id}>${field.label}</label>`}
      <span class="muted">${hintOf(field)}</span>
      ${hasNull(field, value) && html`<label class="try-check">
        <input type="checkbox" aria-label=${`${field.label}: null`} checked=${value.isNull}
          onChange=${({ target }) => onChange({ text: "", files: [], isNull: target.checked })} />null
      </label>`}
    </div>
    ${controlOf({ id, field, value, notes, isInvalid: Boolean(fault), onChange })}
    ${field.description && html`<p class="muted try-about" id=${`${id}-about`}>
      ${field.description}
    </p>`}
    ${fault && html`<p class="try-fault" id=${`${id}-fault`}>${fault}</p>`}
  </div>`;
}

// Whether null is chosen beside the control: where no text says it, and leaving out is not the same.
function hasNull(field, { isNull }) {
  if (isNull) return true;
  const isOther = field.isRequired || (field.standard !== undefined && field.standard !== null);
  return field.mayBeNull && isOther && !isChosen(field);
}

// What stands beside the name: what is taken, whether it may be left out, and what it is then.
function hintOf(field) {
  const kind = field.kind === "list" ? HINTS.list[field.of] : HINTS[field.kind] ?? "";
  if (field.isRequired) return kind;
  const { standard } = field;
  const isShown = standard !== undefined && standard !== null && JSON.stringify(standard).length < 40;
  const optional = isShown ? `optional, otherwise ${JSON.stringify(standard)}` : "optional";
  return kind ? `${kind}, ${optional}` : optional;
}

function controlOf({ id, field, value, notes, isInvalid, onChange }) {
  const common = {
    id,
    name: field.name,
    "aria-describedby": notes,
    "aria-invalid": isInvalid ? "true" : undefined,
    "aria-required": field.isRequired ? "true" : undefined,
    placeholder: value.isNull ? "null" : undefined,
  };
  const typed = (event) => onChange({ ...value, text: event.target.value, isNull: false });
  switch (field.kind) {
    case "file":
      return html`<${FileField} id=${id} field=${field} files=${value.files} describedBy=${notes}
        isInvalid=${isInvalid ? "true" : undefined}
        onChange=${(files) => onChange({ ...value, files, isNull: false })} />`;
    case "boolean":
      return html`<${Choice} ...${common} field=${field} value=${value.text} onInput=${typed}
        options=${[{ label: "true", json: "true" }, { label: "false", json: "false" }]} />`;
    case "choice":
      return html`<${Choice} ...${common} field=${field} value=${value.text} onInput=${typed}
        options=${field.options} />`;
    case "number":
      return html`<input ...${common} type="text" class="num"
        inputmode=${field.isInteger ? "numeric" : "decimal"} autocomplete="off"
        value=${value.text} onInput=${typed} />`;
    case "text":
      return field.isLong && !field.isSecret
        ? html`<textarea ...${common} rows=${rowsOf(value.text, 2)} value=${value.text}
            onInput=${typed}></textarea>`
        : html`<input ...${common} type=${field.isSecret ? "password" : "text"} autocomplete="off"
            value=${value.text} onInput=${typed} />`;
    default:
      return html`<textarea ...${common} class="mono" spellcheck="false"
        rows=${rowsOf(value.text, field.kind === "json" ? 4 : 2)} value=${value.text}
        onInput=${typed}></textarea>`;
  }
}

function Choice({ field, options, value, onInput, ...attributes }) {
  const more = field.mayBeNull ? [{ label: "null", json: "null" }] : [];
  return html`<select ...${attributes} value=${value} onInput=${onInput}>
    ${!field.isRequired && html`<option value="">(left out)</option>`}
    ${[...options, ...more].map(({ label, json }) => html`<option key=${json} value=${json}>
      ${label}
    </option>`)}
  </select>`;
}

const MOST_LINES = 12;
const COLUMNS = 70;

// As many lines as a text has, within bounds.
function rowsOf(text, least) {
  const lines = text.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / COLUMNS), 0);
  return Math.min(MOST_LINES, Math.max(least, lines));
}

const WAYS = { raw: "the file as the body", form: "a form (multipart)", json: "JSON" };

// `faults` by field, `header NAME` and `body`; `onClear(name)` where one was typed into.
export function Request({ draft, details, faults, onClear }) {
  const { fields, mode, call } = draft;
  const change = (name, value) => {
    draft.setValues((all) => ({ ...all, [name]: value }));
    onClear(name);
  };
  const setMode = async (next) => {
    const typed = await draft.settled();
    if (next === "json") draft.setText(await jsonOfForm(typed));
    else draft.setValues((await valuesOfJson(fields, typed.text, typed.values)) ?? typed.values);
    draft.setMode(next);
  };
  return html`
    <header>
      <h2>Request</h2>
      <span class="grow"></span>
      ${fields !== null && html`<${Switch} label="How the request is written" value=${mode}
        options=${[["form", "Form"], ["json", "JSON"]]} onChange=${setMode} />`}
    </header>
    <div class="try-body">
      ${mode === "form"
        ? html`<${Fields} prefix="try" fields=${fields} values=${draft.values} faults=${faults}
            onChange=${change} />`
        : html`<${JsonBody} draft=${draft} fault=${faults.body} onClear=${onClear} />`}
      <${Headers} draft=${draft} details=${details} faults=${faults} onClear=${onClear} />
      ${details.is_of_sequences && html`<${Sequence} draft=${draft} />`}
      <div class="try-row">
        ${mode === "form" && html`<label class="try-inline">Sent as
          <select value=${call.way} onInput=${(event) => draft.setWay(event.target.value)}>
            ${call.ways.map((way) => html`<option key=${way} value=${way}>${WAYS[way]}</option>`)}
          </select>
        </label>`}
        ${acceptsOf(details).length > 0 && html`<label class="try-inline">Answered as
          <select value=${draft.accept || acceptsOf(details)[0].type}
            onInput=${(event) => draft.setAccept(event.target.value)}>
            ${acceptsOf(details).map(({ type, label }) => html`<option key=${type} value=${type}>
              ${label}
            </option>`)}
          </select>
        </label>`}
      </div>
    </div>
  `;
}

function JsonBody({ draft, fault, onClear }) {
  const typed = (event) => {
    draft.setText(event.target.value);
    onClear("body");
  };
  return html`<div class="try-field">
    <label class="try-label" for="try-json">
      <span class="try-field-name">Body</span>
      <span class="muted">an object, or an array of them</span>
    </label>
    <textarea id="try-json" class="mono" spellcheck="false" rows=${rowsOf(draft.text, 8)}
      aria-invalid=${fault ? "true" : undefined} aria-describedby=${fault ? "try-json-fault" : undefined}
      value=${draft.text} onInput=${typed}></textarea>
    ${fault && html`<p class="try-fault" id="try-json-fault">${fault}</p>`}
  </div>`;
}

function Headers({ draft, details, faults, onClear }) {
  const names = Object.keys(details.headers ?? {});
  return names.map((name) => {
    const fault = faults[`header ${name}`];
    const typed = (event) => {
      draft.setHeaders((all) => ({ ...all, [name]: event.target.value }));
      onClear(`header ${name}`);
    };
    return html`<div class="try-field" key=${name}>
      <label class="try-label" for=${`try-header-${name}`}>
        <span class="try-field-name">${name}</span>
        <span class="muted">header${details.headers[name] ? "" : ", optional"}</span>
      </label>
      <input id=${`try-header-${name}`} type="text" autocomplete="off"
        aria-invalid=${fault ? "true" : undefined}
        aria-describedby=${fault ? `try-header-${name}-fault` : undefined}
        value=${draft.headers[name] ?? ""} onInput=${typed} />
      ${fault && html`<p class="try-fault" id=${`try-header-${name}-fault`}>${fault}</p>`}
    </div>`;
  });
}

function Sequence({ draft: { sequence, setSequence } }) {
  const set = (more) => setSequence({ ...sequence, ...more });
  return html`<fieldset class="try-sequence">
    <legend>Sequence</legend>
    <label class="try-inline">Id
      <input type="text" autocomplete="off" value=${sequence.id}
        onInput=${(event) => set({ id: event.target.value })} />
    </label>
    <label class="try-check"><input type="checkbox" checked=${sequence.isStart}
      onChange=${(event) => set({ isStart: event.target.checked })} />first call</label>
    <label class="try-check"><input type="checkbox" checked=${sequence.isEnd}
      onChange=${(event) => set({ isEnd: event.target.checked })} />last call</label>
  </fieldset>`;
}

// A choice of few, as buttons of which one is pressed.
export function Switch({ label, value, options, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(([one, words]) => html`<button key=${one} type="button"
      aria-pressed=${one === value ? "true" : "false"}
      onClick=${() => one !== value && onChange(one)}>${words}</button>`)}
  </div>`;
}
