/**
 * The one copy of the queue's state that the page holds: brought up to date by deltas, put into the order of the list.
 * Pure: no document, no clock.
 */

/** @import { Delta, ItemPatch, ItemState, PanelState, ShardState } from "./messages.js" */
/** @typedef {{key: string, title: string, count: number} | {key: string, item: ItemState} | {key: string, text: string}} Entry */

/**
 * The next state; the same object for a delta that is in it already, null where one is missing in between.
 * @param {PanelState} state @param {Delta} delta @returns {PanelState|null}
 */
export function applyDelta(state, delta) {
  if (delta.seq <= state.seq) return state;
  if (delta.seq !== state.seq + 1) return null;
  const order = delta.order ?? state.order;
  const items = { ...state.items };
  for (const [id, patch] of Object.entries(delta.items)) items[id] = patched(items[id], patch);
  if (delta.order) for (const id of Object.keys(items)) if (!order.includes(id)) delete items[id];
  return { rev: delta.rev, seq: delta.seq, queue: { ...state.queue, ...delta.queue }, order, items };
}

/** @param {ItemState|undefined} item @param {ItemPatch} patch */
function patched(item, patch) {
  const next = /** @type {ItemState} */ ({ ...item, ...patch.fields });
  if (patch.bars.length) next.shards = next.shards.slice();
  for (const [index, downloaded_bytes, status, verified_steps, arrived_steps] of patch.bars) {
    const bar = /** @type {ShardState} */ (next.shards[index]);
    next.shards[index] = {
      ...bar,
      downloaded_bytes,
      status: status ?? bar.status,
      ...(arrived_steps && { arrived_steps, verified_steps: verified_steps ?? 0 }),
    };
  }
  return next;
}

export const ACTIVE = ["downloading", "finalizing", "registering"];
export const PENDING = ["queued", "paused"];
const STOPPED = "stopped";

/** More files than this are seen well enough in the divided bar; their lines would fill the screen. */
const MOST_SHOWN_FILES = 6;

/** Whether a row nobody touched shows its files: while it runs and has a few. @param {ItemState} item */
export const isOpenByItself = ({ status, shards }) =>
  ACTIVE.includes(status) && shards.length > 1 && shards.length <= MOST_SHOWN_FILES;

/** For more downloads than this no room is kept free; the panel gets longer with each that ends then. */
const MOST_KEPT_ROOMS = 3;

/**
 * How much room a list needs until all that it has is done: so many rows, and so many lines of files of the largest that opens
 * by itself. None while nothing runs or waits. What ends takes more room than what waits: kept free from the start, the cells
 * below the panel stay where they are.
 * @param {ItemState[]} items @returns {{rows: number, files: number}}
 */
export function roomOf(items) {
  const live = items.filter(({ status }) => [...ACTIVE, ...PENDING].includes(status));
  const opening = live.map(({ shards }) => shards.length).filter((files) => files > 1 && files <= MOST_SHOWN_FILES);
  return { rows: live.length ? Math.min(items.length, MOST_KEPT_ROOMS) : 0, files: Math.max(0, ...opening) };
}

/**
 * Whether a row shows where the bytes of its files stand: in its files' bars, or in its own if that is the only one.
 * @param {ItemState} item @param {boolean} isOpen
 */
export const isMapped = ({ status, shards }, isOpen) => ACTIVE.includes(status) && (isOpen || shards.length === 1);

/** @type {[string, string, string[]][]} */
const SECTIONS = [
  ["active", "", [...ACTIVE, STOPPED]],
  ["pending", "Up next", PENDING],
  ["failed", "Failed", ["failed"]],
  ["completed", "Done", ["completed"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];

/**
 * The last truth of a kernel that is gone: what ran has stopped, and has neither a rate nor an end in sight. The status is
 * the page's own.
 * @param {PanelState} state @returns {PanelState}
 */
export function withoutKernel(state) {
  const items = Object.entries(state.items).map(([id, item]) => [id, ACTIVE.includes(item.status) ? ended(item) : item]);
  return { ...state, queue: { ...state.queue, notices: [], elsewhere: [] }, items: Object.fromEntries(items) };
}

/** @param {ItemState} item @returns {ItemState} */
function ended(item) {
  const shards = item.shards.map((shard) =>
    ["downloading", "verifying"].includes(shard.status) ? { ...shard, status: STOPPED } : shard,
  );
  return { ...item, status: STOPPED, notice: "stopped with the kernel", notice_kind: null, shards };
}

/**
 * The last truth of a kernel that does not answer: how fast it is, and how long it will take, nobody knows.
 * @param {PanelState} state @returns {PanelState}
 */
export function withoutPace(state) {
  const pace = { bytes_per_second: null, eta_seconds: null };
  const items = Object.entries(state.items).map(([id, item]) => [
    id,
    ACTIVE.includes(item.status) ? { ...item, ...pace } : item,
  ]);
  return { ...state, queue: { ...state.queue, ...pace }, items: Object.fromEntries(items) };
}

/** What the list shows, from top to bottom. @param {PanelState} state @returns {Entry[]} */
export function entriesOf(state) {
  const items = state.order.flatMap((id) => state.items[id] ?? []);
  return SECTIONS.flatMap(([name, title, statuses]) => {
    const rows = /** @type {Entry[]} */ (
      items.filter((item) => statuses.includes(item.status)).map((item) => ({ key: item.id, item }))
    );
    if (name === "pending") {
      rows.push(...state.queue.resolving.map((text, index) => ({ key: `§resolving ${index} ${text}`, text })));
    }
    const heading = rows.length && title ? [{ key: `§${name}`, title, count: rows.length }] : [];
    return [...heading, ...rows];
  });
}

/**
 * The entries in the order a person has under the pointer: nothing moves, headings stay, what is new comes last. A heading
 * counts what stands below it and is of its kind; one that would stand over nothing is not added.
 * @param {Entry[]} shown @param {Entry[]} next @returns {Entry[]}
 */
export function heldOrder(shown, next) {
  const fresh = new Map(next.map((entry) => [entry.key, entry]));
  const kept = shown.flatMap((old) => fresh.get(old.key) ?? ("title" in old ? old : []));
  const known = new Set(kept.map((entry) => entry.key));
  const held = [...kept, ...next.filter((entry) => !known.has(entry.key))];
  return held.map((entry, at) => ("title" in entry ? { ...entry, count: countBelow(held, at) } : entry)).filter(
    (entry) => !("title" in entry) || entry.count > 0 || known.has(entry.key),
  );
}

/** How many rows below a heading are of its kind. @param {Entry[]} entries @param {number} at */
function countBelow(entries, at) {
  const rest = entries.slice(at + 1);
  const end = rest.findIndex((entry) => "title" in entry);
  return rest.slice(0, end < 0 ? undefined : end).filter((row) => sectionOf(row) === entries[at]?.key).length;
}

/** The key of the heading that a row belongs under. @param {Entry} entry */
function sectionOf(entry) {
  const { status } = "item" in entry ? entry.item : { status: "queued" };
  return `§${SECTIONS.find(([, , statuses]) => statuses.includes(status))?.[0]}`;
}

/**
 * What a person has just cancelled stays among its old neighbours, where it can be undone and where nothing slides under
 * the pointer in its stead.
 * @param {Entry[]} shown @param {Entry[]} next @param {(id: string) => boolean} isLingering @returns {Entry[]}
 */
export function withLingering(shown, next, isLingering) {
  const isGone = (/** @type {Entry} */ entry) =>
    "item" in entry && entry.item.status === "cancelled" && isLingering(entry.key);
  const gone = new Map(next.filter(isGone).map((entry) => [entry.key, entry]));
  const places = shown.flatMap(({ key }, index) => (gone.has(key) ? [index] : []));
  const lingering = new Set(places.map((index) => shown[index]?.key));
  const entries = next.flatMap((entry) => {
    if (lingering.has(entry.key)) return [];
    if (!("title" in entry) || entry.key !== "§cancelled") return [entry];
    const count = entry.count - lingering.size;
    return count ? [{ ...entry, count }] : [];
  });
  for (const index of places) {
    const above = shown.slice(0, index).map(({ key }) => key);
    const at = entries.map(({ key }) => above.includes(key)).lastIndexOf(true);
    entries.splice(at + 1, 0, /** @type {Entry} */ (gone.get(shown[index]?.key ?? "")));
  }
  return entries;
}

/**
 * Which rows are in sight: `[first, last)`, and the height of what is left out above and below.
 * @param {number[]} heights @param {number} top @param {number} height
 */
export function windowOf(heights, top, height) {
  let above = 0;
  let first = 0;
  while (first < heights.length - 1 && above + /** @type {number} */ (heights[first]) <= top) {
    above += /** @type {number} */ (heights[first++]);
  }
  let last = first;
  let end = above;
  while (last < heights.length && end < top + height) end += /** @type {number} */ (heights[last++]);
  const below = heights.slice(last).reduce((sum, part) => sum + part, 0);
  return { first, last, above, below };
}
