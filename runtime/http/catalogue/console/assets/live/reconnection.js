// What a page does when its stream has ended. Pure.

export const SHORTEST_WAIT_MS = 500;
export const LONGEST_WAIT_MS = 5000;

// Whatever a server asks for: the page is looked at.
const MOST_ASKED_MS = 60000;

// Return `{act, waitMs}`, where `act` is
//   "again"    a stream of the same server
//   "without"  likewise, one without the function that is watched
//   "refused"  nothing, until there is another key
//   "meet"     a stream of whatever server answers in `waitMs`
//
// `fault` is why the stream ended, null: in order; `isMoving`: the server wants the page to come
// again; `hasMet`: this server gave its session; `isWatching`: a function was asked for as well;
// `waitMs`, of this wait.
//
// A 404 is no refusal: HAProxy answers it while functions are not there yet.
export function nextStep({ fault, isMoving, hasMet, isWatching, waitMs }) {
  const status = fault?.status;
  if (isMoving) return { act: "again", waitMs: SHORTEST_WAIT_MS };
  if (status === 404 && hasMet && isWatching) return { act: "without", waitMs: SHORTEST_WAIT_MS };
  if (status === 401 || status === 403) return { act: "refused", waitMs: 0 };
  if (status === 404) return { act: "meet", waitMs: LONGEST_WAIT_MS };
  const askedMs = Math.min(MOST_ASKED_MS, (fault?.retryAfterS ?? 0) * 1000);
  return { act: "meet", waitMs: Math.max(waitMs, askedMs) };
}
