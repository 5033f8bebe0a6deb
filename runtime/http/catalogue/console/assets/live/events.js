// The form of `text/event-stream` (WHATWG HTML, 9.2.6), for a stream that `fetch` reads: unlike an
// `EventSource`, it can send a key.
import { LineCutter } from "./lines.js";

// Most characters of one event; a server that sends more without an end is not ours.
const MOST = 64 << 20;

const ENDS = /\r\n|\n|\r/g;

// Return a function that takes pieces of text as they come, and returns the events that they end:
// `{event, data}`. Comments and fields that are not used here are left out. It raises an Error for an
// event of more than `most` characters.
export function eventParser(most = MOST) {
  const lines = new LineCutter(ENDS, most);
  let event = "";
  let data = [];
  let length = 0; // of the data
  const takeLine = (line, found) => {
    if (line === "") {
      if (data.length) found.push({ event: event || "message", data: data.join("\n") });
      event = "";
      data = [];
      length = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") {
      data.push(value);
      length += value.length + 1;
      if (length > most) throw new Error(`an event has more than ${most} characters`);
    }
  };
  return (text) => {
    const found = [];
    for (const line of lines.feed(text)) takeLine(line, found);
    return found;
  };
}
