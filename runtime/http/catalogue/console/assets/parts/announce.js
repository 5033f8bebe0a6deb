// What a screen reader says without being asked: one polite live region of the page.
let region = null;

// The element that speaks. Called once, before anything is announced.
export function listenAt(element) {
  region = element;
}

// Say a sentence. The same sentence again is said again.
export function announce(text) {
  if (region === null) return;
  region.textContent = region.textContent === text ? `${text}\u200b` : text;
}
