// Of a long list of rows of one height, those that are near the part of the page that is seen.
import { useCallback, useLayoutEffect, useState } from "preact/hooks";

const MORE = 12; // rows beyond each edge, for a fast wheel

// The first row and the one after the last, of `count` rows of `height` pixels whose top is at `top`
// in a view of `seen` pixels. Pure.
export function rowsIn(top, seen, height, count) {
  const first = Math.floor(-top / height) - MORE;
  const last = Math.ceil((seen - top) / height) + MORE;
  const within = (row) => Math.min(count, Math.max(0, row));
  return [within(first), within(last)];
}

// `[first, last, height]` of the rows to draw in `element`, which follows the page as it scrolls. The
// height is that of the style sheet (`--row`), which differs by the width of the page.
export function useRowsWindow(element, count) {
  const [[first, last, height], set] = useState([0, 0, 40]);
  const look = useCallback(() => {
    if (!element.current) return;
    const height = parseFloat(getComputedStyle(element.current).getPropertyValue("--row"));
    const { top } = element.current.getBoundingClientRect();
    const next = [...rowsIn(top, window.innerHeight, height, count), height];
    set((known) => (known.every((value, at) => value === next[at]) ? known : next));
  }, [count]);
  useLayoutEffect(() => {
    look();
    window.addEventListener("scroll", look, { passive: true });
    const observer = new ResizeObserver(look); // what is above it may grow
    observer.observe(document.body);
    return () => {
      window.removeEventListener("scroll", look);
      observer.disconnect();
    };
  }, [look]);
  return [first, Math.min(last, count), height];
}
