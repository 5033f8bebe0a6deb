// What a function writes, as it is written.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { CopyButton } from "../parts/copy.js";
import { formatNumber } from "../parts/format.js";
import { html } from "../parts/html.js";
import { watched } from "../live/store.js";

const NEAR_END = 24; // pixels

// Lines that are drawn; the rest are found by the filter.
const MOST_DRAWN = 500;

export function Log() {
  const [filter, setFilter] = useState("");
  const [isFollowing, setFollowing] = useState(true);
  const box = useRef(null);
  const log = watched.log.value;
  const lines = useMemo(() => {
    const text = filter.toLowerCase();
    const found = (log?.lines ?? []).filter((line) => line.text.toLowerCase().includes(text));
    return found.slice(-MOST_DRAWN);
  }, [log, filter]);
  useLayoutEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, isFollowing]);
  const onScroll = ({ target }) => {
    setFollowing(target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_END);
  };
  const copied = () => lines.map(({ at, text }) => `${at} ${text}`.trim()).join("\n");
  return html`<section class="panel" aria-labelledby="log-title">
    <header><h2 id="log-title">Log</h2><span class="grow"></span>
      <input type="search" class="small" aria-label="Filter the log" placeholder="Filter"
        spellcheck=${false} autocomplete="off" value=${filter}
        onInput=${(event) => setFilter(event.target.value)} />
      <button type="button" class="button quiet small" aria-pressed=${isFollowing ? "true" : "false"}
        onClick=${() => setFollowing(!isFollowing)}>Follow</button>
      <${CopyButton} text=${copied} />
    </header>
    ${lines.length
      ? html`<div class="log" role="log" aria-live="off" aria-label="Log" tabindex="0" ref=${box}
          onScroll=${onScroll}>
          ${lines.map((line) => html`<${Line} key=${line.id} line=${line} />`)}
        </div>`
      : html`<p class="muted hint">${emptyText(log, filter)}</p>`}
  </section>`;
}

function emptyText(log, filter) {
  if (log === null) return "Asking the server …";
  if (log.why) return log.why;
  return filter && log.lines.length ? "No line has this text." : "Nothing was written yet.";
}

function Line({ line: { at, kind, text } }) {
  if (kind === "gap") {
    const skipped = `${formatNumber(Number(text), 0)} lines came too fast.`;
    return html`<div class="line gap">${skipped}</div>`;
  }
  return html`<div class="line ${kind.toLowerCase()}"><span class="at">${at}</span>
    <span class="kind">${kind}</span><span class="text">${text}</span></div>`;
}
