// Where in the console one is: the fragment of the address.
import { signal } from "@preact/signals";

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

window.addEventListener("hashchange", follow);
follow();

function follow() {
  route.value = parseRoute(location.hash);
  if (route.value.view === "overview") overviewLink.value = location.hash || "#/";
}

// Show another arrangement of the same view, which is no step for the way back.
export function replaceQuery(query) {
  const { view } = route.value;
  if (view !== "overview") return;
  const text = query.toString();
  history.replaceState(null, "", `#/${text && `?${text}`}`);
  follow();
}
