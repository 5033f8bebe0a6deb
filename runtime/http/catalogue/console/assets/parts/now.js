// The time, in seconds since the epoch, as often as what is shown of it changes.
import { signal } from "@preact/signals";

const STEP_MS = 5000;

export const now = signal(Date.now() / 1000);

setInterval(() => {
  now.value = Date.now() / 1000;
}, STEP_MS);
