// What the browser is asked to show, as signals: dark, and on a narrow screen.
import { signal } from "@preact/signals";

function follow(query) {
  const media = window.matchMedia(query);
  const matches = signal(media.matches);
  media.addEventListener("change", () => {
    matches.value = media.matches;
  });
  return matches;
}

export const isDark = follow("(prefers-color-scheme: dark)");
export const isNarrow = follow("(max-width: 640px)");
