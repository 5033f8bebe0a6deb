// The graph of a function: its stages as buttons over the lines that join them, and what is known of
// the one that is chosen.
import { useMemo, useState } from "preact/hooks";

import { html } from "../parts/html.js";
import { isNarrow } from "../parts/media.js";
import { functionLink } from "../route.js";
import { deviceText } from "./facts.js";
import { layOut } from "./layout.js";

const WIDTH = 140;
const NARROW = 136;
const HEIGHT = 50;
const TAGS_HEIGHT = 20;

const KINDS = {
  input: "Request",
  python: "Python",
  model: "Model",
  function: "Function",
  output: "Answer",
};

// What is said of a stage, by the key of its `detail`.
const WORDS = {
  what: "Runs",
  each: "For each of",
  when: "For rows where",
  batch: "Batches",
  split: "Deployment",
  runs: "Replicas",
  calls: "Calls",
  providers: "Device",
  threads: "Threads",
  streams: "Streams",
  values: "Values",
};

// Short words on a node itself.
function tagsOf({ each, when, split, streams }) {
  return [
    each && `each ${each}`,
    when && "when",
    split && "split off",
    streams && "streams",
  ].filter(Boolean);
}

export function Graph({ graph }) {
  const [chosen, choose] = useState(null);
  const isDown = isNarrow.value;
  const sized = useMemo(() => graph.nodes.map((node) => ({
    ...node,
    tags: tagsOf(node.detail),
    width: isDown ? NARROW : WIDTH,
    height: HEIGHT + (tagsOf(node.detail).length ? TAGS_HEIGHT : 0),
  })), [graph, isDown]);
  const drawn = useMemo(() => layOut(sized, graph.edges, isDown), [sized, isDown]);
  const size = { width: `${drawn.width}px`, height: `${drawn.height}px` };
  const node = graph.nodes.find(({ id }) => id === chosen);
  return html`<section class="panel" aria-labelledby="graph-title">
    <header><h2 id="graph-title">Graph</h2></header>
    <div class="graph-scroll">
      <div class="graph" style=${size}>
        <svg width=${drawn.width} height=${drawn.height} aria-hidden="true">
          ${drawn.edges.map(({ edge, path, tip }) => html`
            <g class=${edge.from === chosen || edge.to === chosen ? "chosen" : ""}>
              <path class="edge" d=${path}><title>${edge.fields.join(", ")}</title></path>
              <path class="tip" d=${tip} />
            </g>`)}
        </svg>
        <ol>
          ${sized.map((one) => html`<${Node} key=${one.id} node=${one}
            place=${drawn.nodes.get(one.id)} isChosen=${one.id === chosen}
            onChoose=${() => choose(one.id === chosen ? null : one.id)} />`)}
        </ol>
      </div>
    </div>
    ${node
      ? html`<${Detail} node=${node} edges=${graph.edges} nodes=${graph.nodes} />`
      : html`<p class="muted hint">Choose a stage to see what it runs.</p>`}
  </section>`;
}

function Node({ node, place, isChosen, onChoose }) {
  const { kind, label, detail, tags, width, height } = node;
  const px = (value) => `${value}px`;
  const style = { left: px(place.x), top: px(place.y), width: px(width), height: px(height) };
  return html`<li style=${style}>
    <button type="button" class="node ${kind}" aria-pressed=${isChosen ? "true" : "false"}
      onClick=${onChoose}>
      <span class="node-kind">${KINDS[kind] ?? kind}</span>
      <span class="node-label">${label}</span>
      ${tags.length > 0 && html`<span class="tags">
        ${tags.map((tag) => html`<span class="tag" key=${tag}>${tag}</span>`)}
      </span>`}
      ${detail.what && html`<span class="visually-hidden">${detail.what}</span>`}
    </button>
  </li>`;
}

function Detail({ node: { id, kind, label, detail }, edges, nodes }) {
  const nameOf = (wanted) => nodes.find((node) => node.id === wanted)?.label ?? wanted;
  const ends = (own, other) => edges.filter((edge) => edge[own] === id)
    .map((edge) => `${edge.fields.join(", ") || "all"} (${nameOf(edge[other])})`);
  const rows = [
    ...Object.keys(WORDS).filter((key) => key in detail).map((key) => [WORDS[key], detail[key], key]),
    ["Takes", ends("to", "from").join(" · ")],
    ["Gives", ends("from", "to").join(" · ")],
  ].filter(([, value]) => value !== "" && value !== false);
  return html`<div class="node-detail" aria-live="polite">
    <h3>${label} <span class="muted">${KINDS[kind] ?? kind}</span></h3>
    <dl class="pairs">
      ${rows.map(([word, value, key]) => html`<div key=${word}><dt>${word}</dt>
        <dd class=${key === "what" ? "mono" : ""}>${kind === "function" && key === "what"
          ? html`<a href=${functionLink(value)}>${value}</a>`
          : textOf(value, key)}</dd></div>`)}
    </dl>
  </div>`;
}

function textOf(value, key) {
  if (value === true) return "yes";
  if (key === "providers" && value.device !== undefined) return deviceText(value);
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, of]) => `${name}: ${textOf(of)}`).join(" · ");
}
