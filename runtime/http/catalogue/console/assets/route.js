// Where in the console one is: the fragment of the address.
import { signal } from "@preact/signals";

const WRITTEN_AFTER_MS = 250;

// Return `{view: "overview"|"function"|"try", name, query}` of a fragment. What leads nowhere is the
// overview.
export function parseRoute(fragment) {
  const [path, query = ""] = fragment.replace(/^#/, "").split("?");
  const [, head, name, tail, ...more] = path.split("/");
  const asked = new URLSearchParams(query);
  if (head === "functions" && name && !more.length && (!tail || tail === "try")) {
    return { view: tail ? "try" : "function", name: decode(name), query: asked };
  }
  return { view: "overview", name: "", query: asked };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function functionLink(name, tail = "") {
  return `#/functions/${encodeURIComponent(name)}${tail && `/${tail}`}`;
}

// The route that is shown.
export const route = signal(parseRoute(location.hash));

// The overview as it was left (sorted, searched), for the way back to it.
export const overviewLink = signal("#/");

// Mutable state beside the signals: the address that is still to be written.
let writing = 0;

window.addEventListener("hashchange", follow);
follow();

function follow() {
  clearTimeout(writing);
  route.value = parseRoute(location.hash);
  if (route.value.view === "overview") overviewLink.value = location.hash || "#/";
}

// Show another arrangement of the overview, which is no step for the way back. Browsers bound how
// often the address may change, so it follows what is typed.
export function replaceQuery(query) {
  if (route.value.view !== "overview") return;
  const text = query.toString();
  const link = `#/${text && `?${text}`}`;
  route.value = parseRoute(link);
  overviewLink.value = link;
  clearTimeout(writing);
  const { hash } = location;
  writing = setTimeout(() => {
    if (location.hash === hash) history.replaceState(null, "", link); // else one has gone elsewhere
  }, WRITTEN_AFTER_MS);
}
