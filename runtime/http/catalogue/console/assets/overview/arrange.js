// Which functions the overview shows, in which order, and how that is written in the address. Pure.

// Kinds of state, the most urgent first.
export const STATES = ["failed", "quarantined", "waking", "draining", "ready", "asleep"];

const names = new Intl.Collator("en", { numeric: true });

// The state that is shown of a function.
export function stateOf(entry) {
  return entry.is_quarantined ? "quarantined" : entry.state;
}

// What a column sorts by; `isText` goes up at first, numbers go down.
export const SORTS = {
  name: { label: "Name", isText: true, of: (entry) => entry.name },
  state: { label: "State", isText: true, of: (entry) => STATES.indexOf(stateOf(entry)) },
  tier: { label: "Tier", isText: true, of: (entry) => entry.tier },
  replicas: { label: "Replicas", of: (entry) => entry.replicas },
  memory: { label: "Memory", of: (entry) => entry.memory_bytes },
  calls: { label: "Calls", of: (entry) => entry.last_minute.calls_per_s },
  latency: { label: "Latency", of: (entry) => entry.last_minute.p95_ms ?? -1 },
  errors: { label: "Errors", of: (entry) => entry.last_minute.errors },
  wake: { label: "Last wake", of: (entry) => entry.last_wake?.at ?? 0 },
};

export const GROUPS = {
  state: { label: "State", of: stateOf },
  tier: { label: "Tier", of: (entry) => entry.tier },
};

// The arrangement that an address asks for; what it has no sense for is left out.
export function readArrangement(query) {
  const sort = Object.hasOwn(SORTS, query.get("sort")) ? query.get("sort") : "name";
  const order = query.get("order");
  return {
    text: query.get("q") ?? "",
    state: STATES.includes(query.get("state")) ? query.get("state") : "",
    group: Object.hasOwn(GROUPS, query.get("group")) ? query.get("group") : "",
    sort,
    isDown: order ? order === "down" : !SORTS[sort].isText,
    closed: new Set(query.get("closed")?.split(",").filter(Boolean)),
  };
}

// The address of an arrangement, without what is so anyway.
export function writeArrangement({ text, state, group, sort, isDown, closed }) {
  const query = new URLSearchParams();
  if (text) query.set("q", text);
  if (state) query.set("state", state);
  if (group) query.set("group", group);
  if (sort !== "name") query.set("sort", sort);
  if (isDown === Boolean(SORTS[sort].isText)) query.set("order", isDown ? "down" : "up");
  if (closed.size) query.set("closed", [...closed].join(","));
  return query;
}

// Sort by a column: once more turns the order.
export function sortBy(arrangement, sort) {
  const isDown = arrangement.sort === sort ? !arrangement.isDown : !SORTS[sort].isText;
  return { ...arrangement, sort, isDown };
}

// The rows that are shown: `{key, entry}` of a function, `{key, group, label, count, isOpen}` of a
// group before its functions.
export function arrange(entries, arrangement) {
  const { state, group, isDown } = arrangement;
  const found = search(entries, arrangement.text)
    .filter((entry) => !state || stateOf(entry) === state);
  const { of } = SORTS[arrangement.sort];
  found.sort((one, other) => {
    const order = compare(of(one), of(other));
    return (isDown ? -order : order) || names.compare(one.name, other.name);
  });
  if (!group) return found.map(rowOf);
  return groupBy(found, GROUPS[group].of).flatMap(([label, members]) => {
    const isOpen = !arrangement.closed.has(label);
    const head = { key: `group ${label}`, group, label, count: members.length, isOpen };
    return isOpen ? [head, ...members.map(rowOf)] : [head];
  });
}

const rowOf = (entry) => ({ key: entry.name, entry });

// Those in which each word of the text occurs.
function search(entries, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return entries.filter((entry) => {
    const all = `${entry.name} ${entry.description} ${entry.reason} ${entry.part_of}`.toLowerCase();
    return words.every((word) => all.includes(word));
  });
}

function compare(one, other) {
  return typeof one === "string" ? names.compare(one, other) : one - other;
}

function groupBy(entries, of) {
  const groups = new Map();
  for (const entry of entries) {
    const label = of(entry);
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(entry);
  }
  const rank = (label) => (STATES.includes(label) ? STATES.indexOf(label) : STATES.length);
  return [...groups].sort(
    ([one], [other]) => rank(one) - rank(other) || names.compare(one, other),
  );
}

// How many functions there are in each state, and what all of them do together.
export function summarize(entries) {
  const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
  const total = { functions: entries.length, calls_per_s: 0, errors: 0, memory_bytes: 0 };
  for (const entry of entries) {
    counts[stateOf(entry)] = (counts[stateOf(entry)] ?? 0) + 1;
    total.memory_bytes += entry.memory_bytes;
    if (entry.part_of) continue; // its calls are those of the function
    total.calls_per_s += entry.last_minute.calls_per_s;
    total.errors += entry.last_minute.errors;
  }
  return { counts, total };
}
