// What came of a call, as it is looked at: blocks of an answer, a picture with what was found upon
// it, the bar of its time.
import { useMemo, useState } from "preact/hooks";

import { CopyButton } from "../parts/copy.js";
import { formatCount, formatMs, formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { ErrorNote } from "../parts/markup.js";
import { MOST_BOXES, blockOf, boxesOf, textBlock } from "./answers.js";
import { OCTETS, fileFrom } from "./calls.js";
import { useObjectUrl } from "./files.js";
import { Switch } from "./form.js";
import { joinedText, newestOf } from "./streams.js";

const MOST_RAW_CHARACTERS = 200_000;

// What to do about a refusal, beyond what its words say.
const ADVICE = {
  unauthorized: "Give a key with the scope “call” by the button “Key” above.",
  forbidden: "Another key may: the button “Key” above takes it.",
  overloaded: "It has as many calls as it takes. Call again, or raise its limits or max_replicas.",
  not_ready: "Call again: it is about to be ready.",
  deadline_exceeded: "It took longer than limits.request_timeout_s; a call with x-request-timeout-s may say less, never more.",
  function_failed: "The log of the function has the traceback, under the request's id.",
  quarantined: "Its process died of it several times. A change of its code, model or declaration ends that.",
  unsupported_media_type: "Choose another way to send it.",
};

// An answer of JSON, readable.
function Answer({ value, schema }) {
  const block = useMemo(() => blockOf(value, schema), [value, schema]);
  return html`<div class="try-answer"><${Block} block=${block} name="The answer" /></div>`;
}

function Block({ block, name }) {
  switch (block.kind) {
    case "fields":
      return html`<dl class="try-entries">
        ${block.entries.map((entry) => html`<div key=${entry.name}
          class=${entry.block.kind === "value" ? "try-short" : ""}>
          <dt>${entry.name}</dt>
          <dd><${Block} block=${entry.block} name=${entry.name} /></dd>
        </div>`)}
      </dl>
      <${More} count=${block.more} />`;
    case "scores":
      return html`<${Scores} rows=${block.rows} name=${name} />`;
    case "table":
      return html`<${Table} block=${block} name=${name} />`;
    case "vector":
      return html`<${Vector} block=${block} />`;
    case "matrix":
      return html`<span class="muted">An array of ${block.shape.join(" × ")} numbers: see “Raw”.</span>`;
    case "list":
      return html`<ol class="try-list">
        ${block.blocks.map((one, at) => html`<li key=${at}>
          <${Block} block=${one} name=${`${name} ${at + 1}`} />
        </li>`)}
      </ol>
      <${More} count=${block.more} />`;
    case "file":
      return html`<${EncodedFile} block=${block} name=${name} />`;
    case "text":
      return html`<p class="try-text">${block.text}</p>
        <${More} count=${block.more} noun="characters" />`;
    default:
      return html`<span class="try-value">${block.text}</span>`;
  }
}

// What is left out of a large answer.
function More({ count, noun = "" }) {
  if (!count) return null;
  return html`<p class="muted">and ${formatNumber(count, 0)} ${noun} more: see “Raw”</p>`;
}

function Scores({ rows, name }) {
  const most = Math.max(...rows.map(({ score }) => score), Number.MIN_VALUE);
  return html`<table class="try-scores">
    <caption class="visually-hidden">${name}</caption>
    <thead class="visually-hidden"><tr><th>label</th><th>score</th><th>bar</th></tr></thead>
    <tbody>
      ${rows.map(({ label, score }, at) => html`<tr key=${at}>
        <th scope="row">${label}</th>
        <td class="num">${formatNumber(score, 3)}</td>
        <td class="try-bar-cell" aria-hidden="true">
          <span class="try-bar" style=${{ width: `${(100 * score) / Math.max(most, 1e-9)}%` }}></span>
        </td>
      </tr>`)}
    </tbody>
  </table>`;
}

function Table({ block, name }) {
  return html`<div class="try-scroll" tabindex="0" role="region" aria-label=${name}>
    <table class="try-table">
      ${block.columns.length > 0 && html`<thead><tr>
        ${block.columns.map((column) => html`<th key=${column} scope="col">${column}</th>`)}
      </tr></thead>`}
      <tbody>
        ${block.rows.map((row, at) => html`<tr key=${at}>
          ${row.map((cell, column) => html`<td key=${column}>${cell}</td>`)}
        </tr>`)}
      </tbody>
    </table>
    <${More} count=${block.more} noun="rows" />
  </div>`;
}

const PLOT_WIDTH = 320;
const PLOT_HEIGHT = 48;

// A long vector: its numbers drawn, its bounds, and itself behind a fold.
function Vector({ block }) {
  const { values, minimum, maximum } = block;
  const span = maximum - minimum || 1;
  const points = values
    .map((value, at) => [
      ((at + 0.5) / values.length) * PLOT_WIDTH,
      PLOT_HEIGHT - (((value ?? minimum) - minimum) / span) * PLOT_HEIGHT,
    ])
    .map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`)
    .join(" ");
  return html`<div>
    <svg class="try-plot" viewBox=${`0 -2 ${PLOT_WIDTH} ${PLOT_HEIGHT + 4}`} aria-hidden="true"
      preserveAspectRatio="none"><polyline points=${points} /></svg>
    <details>
      <summary>
        ${formatNumber(block.length, 0)} numbers from ${formatNumber(minimum, 3)} to
        ${" "}${formatNumber(maximum, 3)}, length ${formatNumber(block.norm, 3)}
      </summary>
      <p class="try-text mono">${values.join(", ")}${block.length > values.length ? ", …" : ""}</p>
    </details>
  </div>`;
}

function EncodedFile({ block, name }) {
  const ending = block.type.split("/")[1].replace("jpeg", "jpg").replace("mpeg", "mp3");
  const file = useMemo(
    () => fileFrom(block.base64, `${name.replace(/\W+/g, "-")}.${ending}`, block.type),
    [block],
  );
  return file
    ? html`<${SeenFile} file=${file} name=${name} />`
    : html`<span class="muted">A file that is no base64.</span>`;
}

// A file that was answered: seen, heard, or to be kept.
function SeenFile({ file, name }) {
  const url = useObjectUrl(file);
  // as a document of its own it would be one of this server's
  const kept = useMemo(() => new File([file], file.name, { type: OCTETS }), [file]);
  const keptUrl = useObjectUrl(kept);
  if (!url) return null;
  const kind = file.type.split("/")[0];
  return html`<figure class="try-figure">
    ${kind === "image" && html`<img src=${url} alt=${`${name}, a picture`} />`}
    ${kind === "audio" && html`<audio controls src=${url} aria-label=${name}></audio>`}
    ${kind === "video" && html`<video controls src=${url} aria-label=${name}></video>`}
    <figcaption><a href=${keptUrl} download=${file.name}>Save ${file.name}</a></figcaption>
  </figure>`;
}

// The picture that was sent with what the answer has upon it.
function Overlay({ file, boxes }) {
  const url = useObjectUrl(file);
  const [size, setSize] = useState(null);
  const [hasText, setText] = useState(true);
  const loaded = ({ target }) => setSize([target.naturalWidth, target.naturalHeight]);
  if (!url) return null;
  const isText = boxes.some((box) => box.isText);
  return html`<figure class="try-figure">
    <div class="try-picture">
      <img src=${url} alt="The picture that was sent" onLoad=${loaded} />
      ${size && html`<svg viewBox=${`0 0 ${size[0]} ${size[1]}`} role="img"
        aria-label=${`${boxes.length} places are marked on it`}>
        ${boxes.map((box, at) => html`<${Box} key=${at} box=${box} size=${size}
          isPaper=${hasText && box.isText} />`)}
        ${hasText && boxes.map((box, at) => html`<${BoxText} key=${at} box=${box} size=${size} />`)}
      </svg>`}
    </div>
    <figcaption class="try-row">
      <span class="muted">
        ${formatNumber(boxes.length, 0)} found${boxes.length >= MOST_BOXES ? " at least" : ""}
      </span>
      <label class="try-check">
        <input type="checkbox" checked=${hasText}
          onChange=${(event) => setText(event.target.checked)} />
        ${isText ? "Texts upon the picture" : "Labels"}
      </label>
    </figcaption>
  </figure>`;
}

const COLOURS = 6;
const LINE_SHARE = 0.0025; // of the picture's longer side
const LABEL_SHARE = 0.022;

// Where a box is, in pixels of the picture.
function placeOf(box, [width, height]) {
  const points = box.points.map(([x, y]) => (box.isShare ? [x * width, y * height] : [x, y]));
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  return {
    points,
    left,
    top,
    width: Math.max(...xs) - left,
    height: Math.max(...ys) - top,
    line: Math.max(width, height) * LINE_SHARE,
    letters: Math.max(width, height) * LABEL_SHARE,
  };
}

function labelOf(box) {
  const score = box.score === null ? "" : formatNumber(box.score, 2);
  return [box.label, score].filter(Boolean).join(" ");
}

function colourOf(box) {
  return `try-box c${(box.isText ? 0 : hash(box.label) % COLOURS) + 1}`;
}

function Box({ box, size, isPaper }) {
  const { points, left, top, width, height, line } = placeOf(box, size);
  return html`<g class=${colourOf(box)}>
    <title>${labelOf(box)}</title>
    ${isPaper && html`<rect x=${left} y=${top} width=${width} height=${height} />`}
    <polygon points=${points.map((point) => point.join(",")).join(" ")} stroke-width=${line} />
  </g>`;
}

// A text in its own place, as wide as it is there; any other label above its box. All of them lie
// above all boxes, which may overlap.
function BoxText({ box, size }) {
  const { left, top, width, height, line, letters } = placeOf(box, size);
  if (!box.label) return null;
  return html`<g class=${colourOf(box)}>
    ${box.isText
      ? html`<text x=${left} y=${top + height * 0.76} font-size=${height * 0.72}
          textLength=${Math.max(1, width)} lengthAdjust="spacingAndGlyphs">${box.label}</text>`
      : html`<text class="try-tag" x=${left} y=${Math.max(letters, top - 2 * line)}
          font-size=${letters} stroke-width=${2 * line}>${labelOf(box)}</text>`}
  </g>`;
}

function hash(text) {
  return [...text].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) % 65521, 7);
}

// The time of a call: a bar of its parts, and the same as a table.
function TimeBar({ bar }) {
  return html`<section class="try-time" aria-label="The time of this call">
    <p>
      <strong class="num">${formatMs(bar.wholeMs)}</strong> in all${bar.totalMs === null
        ? ""
        : html`, of which the server <strong class="num">${formatMs(bar.totalMs)}</strong> and the
          way <strong class="num">${formatMs(bar.networkMs)}</strong>`}
    </p>
    <div class="try-stages" aria-hidden="true">
      ${bar.parts.map(({ name, label, share, ms }) => html`<span key=${name}
        class=${`try-stage ${name}`} title=${`${label}: ${formatMs(ms)}`}
        style=${{ width: `${share * 100}%` }}></span>`)}
    </div>
    <table class="try-legend">
      <caption class="visually-hidden">Parts of the time</caption>
      <tbody>
        ${bar.parts.map(({ name, label, about, ms }) => html`<tr key=${name}>
          <th scope="row" title=${about}>
            <span class=${`try-dot ${name}`} aria-hidden="true"></span>${label}
          </th>
          <td class="num">${formatMs(ms)}</td>
        </tr>`)}
      </tbody>
    </table>
    ${bar.cold.length > 0 && html`<p class="muted">
      It was woken by this call: ${bar.cold.map(({ name, ms }) => `${name.replaceAll("_", " ")} ${formatMs(ms)}`).join(", ")}.
    </p>`}
  </section>`;
}

// What came of a call: `run` as of `view.js`.
export function Result({ run, details }) {
  const [shown, setShown] = useState("readable");
  const { phase, result, stream, sent } = run;
  if (phase === "idle") return null;
  const body = result?.body.kind !== "none" ? result?.body ?? stream : stream;
  return html`<section class="panel try-result" aria-label="Answer"
    aria-busy=${phase === "done" ? "false" : "true"} data-call=${run.number}>
    <header>
      <h2>Answer</h2>
      ${result && result.status > 0 && html`<span class="tag ${result.status < 400 ? "" : "bad"}">
        ${result.status}
      </span>`}
      ${phase !== "done" && html`<span class="muted">${phase === "sending" ? "waiting" : "it comes"}</span>`}
      ${result?.isStopped && html`<span class="tag">stopped</span>`}
      <span class="grow"></span>
      ${body && html`<${Switch} label="How the answer is shown" value=${shown}
        options=${[["readable", "Readable"], ["raw", "Raw"], ["headers", "Headers"]]}
        onChange=${setShown} />`}
    </header>
    <div class="try-body">
      ${result?.fault && html`<${Fault} fault=${result.fault} />`}
      ${body && shown === "readable" && html`<${Readable} body=${body} sent=${sent} details=${details} />`}
      ${body && shown === "raw" && html`<${Raw} body=${body} />`}
      ${body && shown === "headers" && html`<${HeadTable} headers=${result?.headers ?? []} />`}
      ${result?.bar && html`<${TimeBar} bar=${result.bar} />`}
    </div>
  </section>`;
}

function Fault({ fault }) {
  const advice = ADVICE[fault.code];
  const again = fault.retryAfterS > 0 ? ` The server says: in ${fault.retryAfterS} s.` : "";
  return html`<${ErrorNote} fault=${fault} />
    ${(advice || again) && html`<p class="muted">${advice}${again}</p>`}`;
}

function Readable({ body, sent, details }) {
  switch (body.kind) {
    case "json":
      return html`<${Marked} value=${body.value} sent=${sent} />
        <${Answer} value=${body.value} schema=${details.answer} />`;
    case "text":
      return html`<${Block} block=${textBlock(body.text)} name="The answer" />`;
    case "file":
      return html`<${SeenFile} file=${body.file} name="The answer" />`;
    default:
      return html`<${Items} stream=${body} sent=${sent} schema=${details.answer} />`;
  }
}

// The picture that was sent, where the answer has something upon it.
function Marked({ value, sent }) {
  const boxes = useMemo(() => boxesOf(value), [value]);
  const picture = useMemo(() => pictureOf(sent), [sent]);
  if (boxes.length === 0 || picture === null) return null;
  return html`<${Overlay} file=${picture} boxes=${boxes} />`;
}

function pictureOf({ body }) {
  const files =
    body.kind === "raw" ? [body.file]
    : body.kind === "form" ? body.parts.map(({ file }) => file).filter(Boolean)
    : Object.values(body.files ?? {}).flat();
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  return pictures.length === 1 ? pictures[0] : null;
}

const MOST_SHOWN_ITEMS = 200;
const MOST_SHOWN_CHARACTERS = 200_000;

function Items({ stream, sent, schema }) {
  const text = joinedText(stream.items.map(valueOf));
  const newest = newestOf(stream.items, MOST_SHOWN_ITEMS, MOST_SHOWN_CHARACTERS).map(valueOf);
  return html`
    <p class="muted num">${formatCount(stream.count, "item")}${stream.isWhole ? "" : " so far"}</p>
    ${text !== null
      ? html`<${JoinedText} text=${text} isAll=${stream.count === stream.items.length} />`
      : html`<${Marked} value=${newest} sent=${sent} />
        <${List} values=${newest} schema=${schema} first=${stream.count - newest.length + 1} />`}
  `;
}

const valueOf = ({ value }) => value;

// The end of a text whose pieces come.
function JoinedText({ text, isAll }) {
  const shown = text.slice(-MOST_SHOWN_CHARACTERS);
  return html`<p class="try-text">${isAll && shown.length === text.length ? "" : "… "}${shown}</p>`;
}

// Items that are rows of a table, or each by itself.
function List({ values, schema, first }) {
  if (blockOf(values).kind === "table") return html`<${Answer} value=${values} schema=${schema} />`;
  return html`<ol class="try-list" start=${first}>
    ${values.map((value, at) => html`<li key=${first + at}>
      <${Answer} value=${value} schema=${schema} />
    </li>`)}
  </ol>`;
}

function Raw({ body }) {
  const text = rawText(body);
  if (text === null) return html`<p class="muted">It is a file: see “Readable”.</p>`;
  const cut = text.length > MOST_RAW_CHARACTERS ? `${text.slice(0, MOST_RAW_CHARACTERS)}\n…` : text;
  return html`<div class="try-raw">
    <${CopyButton} text=${text} />
    <pre class="code" tabindex="0" role="region" aria-label="The answer as it came">${cut}</pre>
  </div>`;
}

function rawText(body) {
  if (body.kind === "file") return null;
  if (body.kind === "stream") return body.items.map(({ text }) => text).join("\n");
  return body.text;
}

function HeadTable({ headers }) {
  return html`<table class="try-table">
    <tbody>
      ${headers.map(([name, value]) => html`<tr key=${name}>
        <th scope="row">${name}</th><td class="mono">${value}</td>
      </tr>`)}
    </tbody>
  </table>`;
}
