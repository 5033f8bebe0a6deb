// Where the nodes of a graph stand: in layers along the flow, ordered so that few edges cross, and
// each node near those that it is joined to (Sugiyama's method). Pure.
//
// 1. A node's layer is one more than that of the last node before it. Nodes come in the order of the
//    flow, so one pass over them finds it; an edge that goes back is drawn and decides nothing.
// 2. An edge over several layers has a slot in each of them, so that it passes beside their nodes.
// 3. Each layer is sorted by the mean place of its neighbours, to and fro; the best of it is kept.
// 4. Each slot moves to the mean of its neighbours, as far as the others of its layer let it.

const LAYER_GAP = 32;
const SLOT_GAP = 18;
const PASSING = 10; // an edge that passes a layer
const SWEEPS = 6;

// Return `{width, height, nodes: Map of id to {x, y}, edges: [{edge, path, tip}]}` in pixels.
//
// Args: `nodes` of `{id, width, height}`, `edges` of `{from, to}`; `isDown`: the flow goes down the
// page, not to the right.
export function layOut(nodes, edges, isDown) {
  const known = new Set(nodes.map(({ id }) => id));
  const joined = edges.filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  const layers = layersOf(nodes, joined, isDown);
  orderLayers(layers);
  placeSlots(layers);
  return draw(layers, joined, isDown);
}

function layersOf(nodes, edges, isDown) {
  const order = new Map(nodes.map(({ id }, at) => [id, at]));
  const forward = edges.filter(({ from, to }) => order.get(from) < order.get(to));
  const rank = new Map();
  for (const { id } of nodes) {
    const before = forward.filter(({ to }) => to === id).map(({ from }) => rank.get(from) + 1);
    rank.set(id, Math.max(0, ...before));
  }
  const layers = [];
  const slots = new Map();
  const addSlot = (layer, slot) => {
    (layers[layer] ??= []).push({ layer, before: [], after: [], at: 0, ...slot });
    return layers[layer].at(-1);
  };
  for (const { id, width, height } of nodes) {
    const [size, depth] = isDown ? [width, height] : [height, width];
    slots.set(id, addSlot(rank.get(id), { id, size, depth }));
  }
  for (const edge of forward) {
    let last = slots.get(edge.from);
    for (let layer = rank.get(edge.from) + 1; layer < rank.get(edge.to); layer++) {
      last = join(last, addSlot(layer, { edge, size: PASSING, depth: 0 }));
    }
    join(last, slots.get(edge.to));
  }
  return layers;
}

function join(before, after) {
  before.after.push(after);
  after.before.push(before);
  return after;
}

function orderLayers(layers) {
  const number = () => layers.forEach((layer) => layer.forEach((slot, at) => {
    slot.at = at;
  }));
  number();
  let best = { crossings: countCrossings(layers), layers: layers.map((layer) => [...layer]) };
  for (let sweep = 0; sweep < SWEEPS && best.crossings; sweep++) {
    const side = sweep % 2 ? "after" : "before";
    for (const layer of sweep % 2 ? layers.toReversed() : layers) {
      layer.sort((one, other) => meanOf(one, side) - meanOf(other, side));
      layer.forEach((slot, at) => {
        slot.at = at;
      });
    }
    const crossings = countCrossings(layers);
    if (crossings < best.crossings) best = { crossings, layers: layers.map((layer) => [...layer]) };
  }
  best.layers.forEach((layer, at) => {
    layers[at] = layer;
  });
  number();
}

// The mean place of the neighbours on a side; without any, its own.
function meanOf(slot, side) {
  const neighbours = slot[side];
  if (!neighbours.length) return slot.at;
  return neighbours.reduce((sum, { at }) => sum + at, 0) / neighbours.length;
}

function countCrossings(layers) {
  let count = 0;
  for (const layer of layers) {
    const pairs = layer.flatMap((slot) => slot.after.map(({ at }) => [slot.at, at]));
    pairs.forEach(([from, to], index) => {
      for (const [otherFrom, otherTo] of pairs.slice(index + 1)) {
        if ((from - otherFrom) * (to - otherTo) < 0) count += 1;
      }
    });
  }
  return count;
}

function placeSlots(layers) {
  for (const layer of layers) spread(layer, layer.map(() => 0));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const side = sweep % 2 ? "after" : "before";
    for (const layer of sweep % 2 ? layers.toReversed() : layers) {
      spread(layer, layer.map((slot) => meanOf(slot, side)));
    }
  }
}

// Give each slot the place that it wants, as near as its neighbours' sizes allow and the order stays:
// a regression that never falls (pool adjacent violators), less what each must be apart.
function spread(layer, wanted) {
  const apart = [0];
  for (let at = 1; at < layer.length; at++) {
    apart[at] = apart[at - 1] + (layer[at - 1].size + layer[at].size) / 2 + SLOT_GAP;
  }
  const pools = [];
  layer.forEach((_, at) => {
    pools.push({ sum: wanted[at] - apart[at], count: 1 });
    while (pools.length > 1 && mean(pools.at(-2)) >= mean(pools.at(-1))) {
      const { sum, count } = pools.pop();
      pools.at(-1).sum += sum;
      pools.at(-1).count += count;
    }
  });
  let at = 0;
  for (const pool of pools) {
    for (let index = 0; index < pool.count; index++, at++) layer[at].at = mean(pool) + apart[at];
  }
}

const mean = ({ sum, count }) => sum / count;

function draw(layers, edges, isDown) {
  const slots = layers.flat();
  const top = Math.min(...slots.map(({ at, size }) => at - size / 2));
  const across = Math.max(...slots.map(({ at, size }) => at + size / 2)) - top;
  const depths = layers.map((layer) => Math.max(...layer.map(({ depth }) => depth)));
  const starts = [0];
  depths.forEach((depth, layer) => starts.push(starts[layer] + depth + LAYER_GAP));
  const along = starts.at(-1) - LAYER_GAP;
  const turn = ([x, y]) => (isDown ? [y, x] : [x, y]).map((value) => Math.round(value * 10) / 10);
  const nodes = new Map();
  for (const { id, layer, at, size } of slots.filter((slot) => slot.id !== undefined)) {
    const [x, y] = turn([starts[layer], at - size / 2 - top]);
    nodes.set(id, { x, y });
  }
  const ends = new Map(slots.filter(({ id }) => id !== undefined).map((slot) => [slot.id, slot]));
  const drawn = edges.map((edge) => {
    const passed = slots.filter((slot) => slot.edge === edge);
    const from = ends.get(edge.from);
    const to = ends.get(edge.to);
    const points = [[starts[from.layer] + from.depth, from.at - top]];
    for (const { layer, at } of passed) {
      points.push([starts[layer], at - top], [starts[layer] + depths[layer], at - top]);
    }
    points.push([starts[to.layer], to.at - top]);
    return { edge, path: pathThrough(points, turn), tip: tipAt(points.at(-1), turn) };
  });
  const [width, height] = turn([along, across]);
  return { width, height, nodes, edges: drawn };
}

// A curve that leaves and meets each point along the flow.
function pathThrough(points, turn) {
  let path = `M${turn(points[0])}`;
  for (let at = 1; at < points.length; at++) {
    const [[x, y], [nextX, nextY]] = [points[at - 1], points[at]];
    const half = (x + nextX) / 2;
    path += `C${turn([half, y])} ${turn([half, nextY])} ${turn([nextX, nextY])}`;
  }
  return path;
}

// A small triangle that ends at a point.
function tipAt([x, y], turn) {
  return `M${turn([x, y])}L${turn([x - 7, y - 4])}L${turn([x - 7, y + 4])}Z`;
}
