// The form of `text/event-stream` (WHATWG HTML, 9.2.6), for a stream that `fetch` reads: unlike an
// `EventSource`, it can send a key.

// Most characters of one event; a server that sends more without an end is not ours.
const MOST = 64 << 20;

// Return a function that takes pieces of text as they come, and returns the events that they end:
// `{event, data}`. Comments and fields that are not used here are left out.
export function eventParser() {
  let rest = "";
  let event = "";
  let data = [];
  const takeLine = (line, found) => {
    if (line === "") {
      if (data.length) found.push({ event: event || "message", data: data.join("\n") });
      event = "";
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
  };
  return (text) => {
    const found = [];
    rest += text;
    // a CR at the end may be the first half of CRLF
    const until = rest.endsWith("\r") ? rest.length - 1 : rest.length;
    const lines = rest.slice(0, until).split(/\r\n|\n|\r/);
    rest = lines.pop() + rest.slice(until);
    if (rest.length > MOST) throw new Error("an event has no end");
    for (const line of lines) takeLine(line, found);
    return found;
  };
}
