/**
 * The download panel's page: an anywidget module, shipped as written here (no build step, no dependency).
 *
 * State lives in the kernel. The page holds one copy of it, the model's `snapshot`, brings it up to date with deltas,
 * and paints it; it computes no rate, decides nothing, and asks the kernel for everything. In order: shapes of the
 * messages (the same as in messages.py) · pure functions, exported for tests · the wire · small DOM builders · a row ·
 * the list · the field that adds · the header · `initialize` (once per model) and `render` (once per view).
 * Text from outside reaches the page through `textContent` only.
 */

/** @typedef {{path: string, kind: string, size_bytes: number|null, downloaded_bytes: number, status: string}} ShardState */
/** @typedef {{id: string, repo_id: string, name: string, quantization: string|null, revision: string|null,
 *   status: string, position: number, downloaded_bytes: number, total_bytes: number|null,
 *   bytes_per_second: number|null, eta_seconds: number|null, notice: string|null, notice_kind: string|null,
 *   error: string|null, help_url: string|null, can_retry: boolean, reason: string, path: string|null,
 *   is_verified: boolean|null, was_present: boolean, started_at_s: number|null, ended_at_s: number|null,
 *   shards: ShardState[]}} ItemState */
/** @typedef {{started_at_s: number, ended_at_s: number, models_completed: number, models_failed: number,
 *   models_cancelled: number, completed_bytes: number|null}} RunState */
/** @typedef {{pending_count: number, active_count: number, max_size: number,
 *   bandwidth_limit_bytes_per_second: number|null, bytes_per_second: number|null, eta_seconds: number|null,
 *   resolving: string[], last_run: RunState|null}} QueueState */
/** @typedef {{rev: number, seq: number, queue: QueueState, order: string[], items: Record<string, ItemState>}} PanelState */
/** @typedef {{fields: Partial<ItemState>, bars: [number, number, string][]}} ItemPatch */
/** @typedef {{kind: "delta", rev: number, seq: number, queue: Partial<QueueState>, order?: string[],
 *   items: Record<string, ItemPatch>}} Delta */
/** @typedef {{kind: "reply", cid: string, ok: boolean, result?: any, error?: string}} Reply */
/** @typedef {{key: string, label: string|null, size_bytes: number|null, bytes_to_go: number|null,
 *   free_bytes_after: number|null, bits_per_weight: number|null, file_count: number, ram_fit: string,
 *   vram_fit: string, is_complete: boolean, is_present: boolean, is_queued: boolean, is_recommended: boolean,
 *   why: string}} VariantChoice */
/** @typedef {{kind: string, size_bytes: number|null}} CompanionChoice */
/** @typedef {{repo_id: string, revision: string|null, free_bytes: number|null, context_tokens: number|null,
 *   accept_url: string|null, variants: VariantChoice[], companions: CompanionChoice[]}} VariantList */
/** @typedef {{repo_id: string, downloads: number|null, parameter_count: number|null}} Suggestion */
/** @typedef {import("@anywidget/types").AnyModel<{snapshot: PanelState}>} Model */
/** @typedef {{key: string, title: string, count: number} | {key: string, item: ItemState} | {key: string, text: string}} Entry */

// ---------------------------------------------------------------------------------------------- pure functions

const UNKNOWN = "—";

/** @param {number} value @param {number} step @param {string[]} units @param {string} gap */
function scaled(value, step, units, gap = " ") {
  const whole = Math.max(0, Math.floor(value + 0.5));
  if (whole < step) return `${whole}${gap}${units[0]}`;
  let power = 0;
  let tenths = step * 10;
  while (tenths >= step * 10 && power < units.length - 1) {
    power += 1;
    tenths = Math.floor((value * 10) / step ** power + 0.5);
  }
  return `${Math.floor(tenths / 10)}.${tenths % 10}${gap}${units[power]}`;
}

/** Binary, as file managers count. @param {number|null} bytes */
export function size(bytes) {
  return bytes === null ? UNKNOWN : scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

/** Decimal, as lines are sold. 0 is a stall, null unknown. @param {number|null} bytesPerSecond */
export function rate(bytesPerSecond) {
  return bytesPerSecond === null ? UNKNOWN : `${scaled(bytesPerSecond, 1000, ["B", "kB", "MB", "GB", "TB", "PB"])}/s`;
}

/** A large number in short. @param {number|null} number */
export function count(number) {
  return number === null ? UNKNOWN : scaled(number, 1000, ["", " k", " M", " B", " T"], "");
}

/** Never `0 s`, never above `99 h 59 min`. @param {number|null} seconds */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return UNKNOWN;
  const whole = Math.min((99 * 60 + 59) * 60, Math.max(1, Math.floor(seconds + 0.5)));
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** Rounded down: `100 %` is said of nothing unfinished. @param {number|null} fraction */
export function percent(fraction) {
  return fraction === null ? UNKNOWN : `${Math.floor(Math.min(1, Math.max(0, fraction)) * 100 + 1e-9)} %`;
}

/** @param {number} done @param {number|null} total @returns {number|null} 0 to 1; null unknown */
export function fraction(done, total) {
  return total === null ? null : total === 0 ? 1 : Math.min(1, done / total);
}

/** @param {number} number @param {string} noun */
const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

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
  for (const [index, downloaded_bytes, status] of patch.bars) {
    next.shards[index] = { .../** @type {ShardState} */ (next.shards[index]), downloaded_bytes, status };
  }
  return next;
}

const ACTIVE = ["downloading", "finalizing", "registering"];
const PENDING = ["queued", "paused"];

/** @type {[string, string, string[]][]} */
const SECTIONS = [
  ["active", "", ACTIVE],
  ["pending", "Up next", PENDING],
  ["failed", "Failed", ["failed"]],
  ["completed", "Done", ["completed"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];

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
 * The entries in the order a person has under the pointer: nothing moves, headings stay, what is new comes last.
 * @param {Entry[]} shown @param {Entry[]} next @returns {Entry[]}
 */
export function heldOrder(shown, next) {
  const fresh = new Map(next.map((entry) => [entry.key, entry]));
  const kept = shown.flatMap((old) => fresh.get(old.key) ?? ("title" in old ? { ...old, count: 0 } : []));
  const known = new Set(kept.map((entry) => entry.key));
  return [...kept, ...next.filter((entry) => !known.has(entry.key))];
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

/** @param {ItemState} item */
export const titleOf = (item) => (item.quantization ? `${item.name} ${item.quantization}` : item.name);

/** @param {number|null} seconds */
const left = (seconds) => (seconds === null ? UNKNOWN : `${duration(seconds)} left`);

/** The number at a row's right end: how far it is, or how much it will be. @param {ItemState} item */
export function measureOf({ status, downloaded_bytes, total_bytes }) {
  if (ACTIVE.includes(status)) return percent(fraction(downloaded_bytes, total_bytes));
  return status === "queued" && downloaded_bytes === 0 ? size(total_bytes) : "";
}

/** The line of numbers under a title, piece by piece. @param {ItemState} item @returns {string[]} */
export function factsOf(item) {
  const { downloaded_bytes: done, total_bytes: total } = item;
  const amount = done === 0 || done === total ? size(total) : `${size(done)} of ${size(total)}`;
  switch (item.status) {
    case "downloading":
      return [`${size(done)} of ${size(total)}`, rate(item.bytes_per_second), left(item.eta_seconds)];
    case "completed": {
      if (item.was_present) return [size(total), "was here already"];
      const { started_at_s: start, ended_at_s: end, bytes_per_second: mean } = item;
      const time = start === null || end === null ? [] : [duration(end - start)];
      return [size(total), ...time, ...(mean === null ? [] : [rate(mean)])];
    }
    case "failed":
    case "cancelled":
      return [done === 0 ? size(total) : `${amount} kept`];
    case "queued":
      return done === 0 ? [] : [amount];
    default:
      return [amount];
  }
}

/** What goes on with it, in words; empty where the numbers say it all. @param {ItemState} item */
export function noteOf(item) {
  if (item.status === "failed") return item.error ?? "It failed for an unknown reason.";
  if (item.status === "completed") return "";
  if (item.notice) return item.notice;
  return item.status === "downloading" || item.status === "queued" || item.status === "cancelled" ? "" : item.status;
}

/** @param {ItemState} item */
export function digestOf(item) {
  if (item.status !== "completed" || item.is_verified === null) return "";
  return item.is_verified ? "SHA-256 verified" : "unverified: the Hub states no SHA-256";
}

/** What a screen reader is told between two states: starts and ends, not ticks. @param {PanelState} before @param {PanelState} after */
export function announcementsOf(before, after) {
  return Object.values(after.items).flatMap((item) => {
    const old = before.items[item.id]?.status;
    if (old === item.status || (old === undefined && !ACTIVE.includes(item.status))) return [];
    if (item.status === "downloading") return `${titleOf(item)} started.`;
    if (item.status === "completed") return `${titleOf(item)} is complete.`;
    if (item.status === "failed") return `${titleOf(item)} failed: ${item.error}`;
    return item.status === "cancelled" ? `${titleOf(item)} was cancelled.` : [];
  });
}

/** @param {RunState} run @returns {{text: string, mood: "good"|"mixed"|"bad"}} */
export function runSummary(run) {
  const { models_completed: done, models_failed: failed, models_cancelled: cancelled } = run;
  const time = duration(run.ended_at_s - run.started_at_s);
  const bytes = run.completed_bytes ? `, ${size(run.completed_bytes)}` : "";
  const parts = [`${plural(done, "model")} complete${bytes}`];
  if (failed) parts.push(`${failed} failed`);
  if (cancelled) parts.push(`${cancelled} cancelled`);
  if (!done && failed) return { text: `Nothing arrived: ${parts.slice(1).join(", ")} after ${time}.`, mood: "bad" };
  if (!done) return { text: `Stopped after ${time}: ${parts.slice(1).join(", ") || "nothing ended"}.`, mood: "mixed" };
  return { text: `Finished in ${time}: ${parts.join(", ")}.`, mood: failed ? "mixed" : "good" };
}

/** What speaks for and against a variant, with its mood. @param {VariantChoice} variant @returns {[string, string][]} */
export function tagsOf(variant) {
  /** @type {[string, string, boolean][]} */
  const tags = [
    ["recommended", "good", variant.is_recommended],
    ["here already", "good", variant.is_present],
    ["in the queue", "plain", variant.is_queued],
    ["incomplete on the Hub", "bad", !variant.is_complete],
    ["disk too full", "bad", variant.free_bytes_after !== null && variant.free_bytes_after < 0],
    ["fits the GPU", "good", variant.vram_fit === "fits"],
    ["fits", "good", variant.vram_fit !== "fits" && variant.ram_fit === "fits"],
    ["tight in memory", "warn", variant.ram_fit === "tight"],
    ["too large for memory", "bad", variant.ram_fit === "too large"],
  ];
  return tags.flatMap(([text, mood, holds]) => (holds ? [[text, mood]] : []));
}

/** @param {VariantChoice} variant */
export function variantFacts({ bits_per_weight: bits, file_count: files, bytes_to_go: rest, size_bytes: all, why }) {
  const facts = [bits === null ? "" : `${bits.toFixed(1)} bits`, files > 1 ? plural(files, "file") : ""];
  return [...facts, rest && rest !== all ? `${size(rest)} to go` : "", why].filter(Boolean).join(" · ");
}

/** The two lines that open a model. A JSON string is a Python string too. @param {string} path */
export const loadingCode = (path) => `from llama_cpp import Llama\nllm = Llama(model_path=${JSON.stringify(path)})`;

// ---------------------------------------------------------------------------------------------- the wire

/** Asks the kernel; every question is answered, refused, or still waiting. */
class Kernel {
  #waiting = /** @type {Map<string, {resolve: (result: any) => void, reject: (error: Error) => void}>} */ (new Map());
  #prefix = Math.random().toString(36).slice(2);
  #count = 0;

  /** @param {Model} model @param {AbortSignal} signal */
  constructor(model, signal) {
    this.model = model;
    const receive = (/** @type {Reply} */ message) => message.kind === "reply" && this.#settle(message);
    model.on("msg:custom", receive);
    signal.addEventListener("abort", () => model.off("msg:custom", receive));
  }

  /** @param {string} kind @param {object} fields @returns {Promise<any>} */
  ask(kind, fields = {}) {
    const cid = `${this.#prefix}-${(this.#count += 1)}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(cid, { resolve, reject });
      this.model.send({ cid, kind, ...fields });
    });
  }

  /** Brings the model up to date, unless a delta has been faster. */
  async sync() {
    const state = /** @type {PanelState} */ (await this.ask("sync"));
    const known = this.model.get("snapshot");
    if (state.seq >= known.seq || state.rev >= known.rev) this.model.set("snapshot", state);
  }

  /** The kernel is gone: nothing that waits will be answered. */
  abandon() {
    for (const { reject } of this.#waiting.values()) reject(new Error("The kernel stopped before it answered."));
    this.#waiting.clear();
  }

  /** @param {Reply} reply */
  #settle({ cid, ok, result, error }) {
    const asked = this.#waiting.get(cid);
    this.#waiting.delete(cid);
    if (ok) asked?.resolve(result);
    else asked?.reject(new Error(error));
  }
}

// ---------------------------------------------------------------------------------------------- DOM builders

/**
 * An element. Properties are set, `class`, `role`, `for`, `list` and what has a hyphen become attributes.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} properties @param {(Node|string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || ["class", "role", "for"].includes(name)) node.setAttribute(name, value);
    else /** @type {any} */ (node)[name] = value;
  }
  node.append(...children);
  return node;
}

/** Strokes on a grid of 16. @type {Record<string, string>} */
const ICONS = {
  pause: "M5.5 3.5v9M10.5 3.5v9",
  paused: "M6 4.5v7M10 4.5v7",
  resume: "M5 3l7.5 5L5 13z",
  cancel: "M4 4l8 8M12 4l-8 8",
  remove: "M4 4l8 8M12 4l-8 8",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2.2v3h-3",
  up: "M8 13V3.5M4 7.2L8 3.2l4 4",
  down: "M8 3v9.5M4 8.8l4 4 4-4",
  top: "M8 14V6M4.5 9.3L8 5.8l3.5 3.5M3.5 2.5h9",
  open: "M4 6l4 4 4-4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M3 8.5l3.4 3.4L13 4.6",
  completed: "M3 8.5l3.4 3.4L13 4.6",
  grip: "M6 3.5v.01M10 3.5v.01M6 8v.01M10 8v.01M6 12.5v.01M10 12.5v.01",
  downloading: "M8 2.5v8M4.5 7.2L8 10.7l3.5-3.5M3 13.5h10",
  failed: "M8 3.5v5.5M8 12.3v.01",
  cancelled: "M3.5 8h9",
  limits: "M2.5 5h7M12.5 5h1M2.5 11h1M6.5 11h7M9.5 3v4M3.5 9v4",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9M10.5 10.5L14 14",
};

/** @param {string} name */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "gglib-icon");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/** A button that shows an icon and says its label. @param {string} name @param {string} label @param {string} kind */
function iconButton(name, label, kind = "gglib-act") {
  return h("button", { type: "button", class: `gglib-icon-button ${kind}`, title: label, "aria-label": label }, icon(name));
}

/** Writes only what changed, so that a tick repaints digits and nothing else. @param {Element} node @param {string} text */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} name @param {string|null} value */
function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** @param {string} label */
function progressBar(label) {
  return h(
    "div",
    { class: "gglib-bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" },
    h("div", { class: "gglib-fill" }),
  );
}

/** @param {HTMLElement} bar @param {number|null} part */
function setBar(bar, part) {
  const fill = /** @type {HTMLElement} */ (bar.firstElementChild);
  mark(bar, "aria-valuenow", part === null ? null : String(Math.floor(part * 100)));
  mark(bar, "aria-valuetext", part === null ? "unknown" : percent(part));
  const scale = `scaleX(${part === null ? 0 : part.toFixed(4)})`;
  if (fill.style.transform !== scale) fill.style.transform = scale;
}

/** Only a web address becomes one. @param {HTMLAnchorElement} link @param {string} url */
function aim(link, url) {
  if (/^https?:\/\//.test(url) && link.getAttribute("href") !== url) link.href = url;
}

/** @param {string} url */
function pageLink(url) {
  const link = h("a", { class: "gglib-link", target: "_blank", rel: "noopener noreferrer" }, "Open its page");
  aim(link, url);
  return link;
}

/** The clipboard, also where a hub is served over plain HTTP. @param {string} text */
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = h("textarea", { value: text, class: "gglib-offscreen" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** @param {string} label @param {() => string} text */
function copyButton(label, text) {
  const button = iconButton("copy", label, "gglib-copy");
  button.addEventListener("click", async () => {
    await copy(text());
    button.replaceChildren(icon("check"));
    mark(button, "aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      mark(button, "aria-label", label);
    }, 1500);
  });
  return button;
}

// ---------------------------------------------------------------------------------------------- a row

/**
 * What the parts of one view share.
 * @typedef {{kernel: Kernel, isLive: boolean, state: () => PanelState, changed: () => void, asked: () => void}} View
 */

/**
 * Presses a button: pending until the kernel has answered, and a refusal is said right here.
 * @param {View} view @param {HTMLElement} button @param {HTMLElement} message @param {string} kind @param {object} fields
 */
async function press(view, button, message, kind, fields = {}) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  mark(button, "aria-busy", "true");
  const tell = (/** @type {string} */ text, /** @type {string} */ mood) => {
    say(message, text);
    mark(message, "data-mood", mood);
    view.changed();
  };
  tell("", "waiting");
  const slow = setTimeout(() => tell("Waiting for the kernel. A running cell can hold this up.", "waiting"), 1500);
  try {
    const result = await view.kernel.ask(kind, fields);
    tell("", "");
    view.asked();
    return result ?? true;
  } catch (error) {
    tell(/** @type {Error} */ (error).message, "refused");
    return undefined;
  } finally {
    clearTimeout(slow);
    mark(button, "aria-busy", null);
  }
}

/** @typedef {{name: string, label: string, shown: (item: ItemState, pending: number) => boolean,
 *   asks: (item: ItemState) => [string, object]}} Action */

/** @param {string} name @param {string} label @param {string[]} statuses @returns {Action} */
const onStatus = (name, label, statuses) => ({
  name,
  label,
  shown: (item) => statuses.includes(item.status),
  asks: ({ id }) => [name, { id }],
});

/** What a row offers, from left to right. @type {Action[]} */
const ACTIONS = [
  { name: "top", label: "Move to top", shown: (item) => item.position > 1, asks: (item) => move(item, 1) },
  { name: "up", label: "Move up", shown: (item) => item.position > 1, asks: (item) => move(item, item.position - 1) },
  {
    name: "down",
    label: "Move down",
    shown: (item, pending) => item.position > 0 && item.position < pending,
    asks: (item) => move(item, item.position + 1),
  },
  onStatus("pause", "Pause", ["downloading", "queued"]),
  onStatus("resume", "Resume", ["paused"]),
  onStatus("retry", "Retry", ["failed"]),
  {
    name: "again",
    label: "Queue again",
    shown: (item) => item.status === "cancelled",
    asks: ({ repo_id, quantization, revision }) => ["queue", { repo_id, quantization, revision }],
  },
  onStatus("cancel", "Cancel", ACTIVE),
  onStatus("remove", "Remove", PENDING),
];

/** @param {ItemState} item @param {number} position @returns {[string, object]} */
const move = (item, position) => ["move", { id: item.id, position }];

/** One download. Built once, then patched: focus and selection survive a tick. */
class Row {
  /** @param {View} view @param {ItemState} item @param {boolean} isOpen @param {(isOpen: boolean) => void} toggled */
  constructor(view, item, isOpen, toggled) {
    this.view = view;
    this.item = item;
    this.title = titleOf(item);
    this.grip = iconButton("grip", `Reorder ${this.title}: drag, or press Alt with an arrow key`, "gglib-act gglib-grip");
    this.badge = h("span", { class: "gglib-badge" });
    this.measure = h("span", { class: "gglib-measure" });
    this.bar = progressBar(`Progress of ${this.title}`);
    this.facts = h("span", { class: "gglib-facts" });
    this.note = h("span", { class: "gglib-note" });
    this.link = pageLink("");
    this.verified = h("span", { class: "gglib-verified" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.path = h("div", { class: "gglib-path" });
    this.details = h("div", { class: "gglib-details" });
    this.bars = /** @type {HTMLElement[]} */ ([]);
    this.opener = iconButton("open", `Details of ${this.title}`, "gglib-open");
    this.opener.addEventListener("click", () => toggled(!this.isOpen));
    this.isOpen = isOpen;
    this.buttons = ACTIONS.map((action) => this.#button(action));
    const moves = h("span", { class: "gglib-moves" }, ...this.buttons.slice(0, 3));
    const chip = item.quantization ? [h("span", { class: "gglib-chip" }, item.quantization)] : [];
    const owner = h("span", { class: "gglib-owner" }, item.repo_id.slice(0, item.repo_id.indexOf("/")));
    this.element = h(
      "div",
      { class: "gglib-row", role: "listitem", "data-key": item.id },
      h("div", { class: "gglib-lead" }, this.badge, this.grip),
      h("div", { class: "gglib-title" }, h("span", { class: "gglib-name", title: item.id }, item.name), ...chip, owner),
      this.measure,
      h("div", { class: "gglib-actions" }, moves, ...this.buttons.slice(3), this.opener),
      this.bar,
      h("div", { class: "gglib-line" }, this.facts, this.verified, this.note, this.link),
      this.path,
      this.message,
      this.details,
    );
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.update(item, isOpen, 0);
  }

  /** @param {typeof ACTIONS[number]} action */
  #button(action) {
    const isWord = action.name === "retry" || action.name === "again";
    const label = `${action.label} ${this.title}`;
    const button = isWord
      ? h("button", { type: "button", class: "gglib-button gglib-act", "aria-label": label }, icon("retry"), action.label)
      : iconButton(action.name, label, `gglib-act gglib-${action.name}`);
    button.title = action.label;
    button.dataset.action = action.name;
    button.addEventListener("click", () => press(this.view, button, this.message, ...action.asks(this.item)));
    return button;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = event.altKey ? { ArrowUp: -1, ArrowDown: 1 }[event.key] : undefined;
    if (step === undefined || !PENDING.includes(this.item.status) || !this.view.isLive) return;
    event.preventDefault();
    const position = Math.max(1, this.item.position + step);
    void press(this.view, this.grip, this.message, ...move(this.item, position));
  }

  /** @param {ItemState} item @param {boolean} isOpen @param {number} pending */
  update(item, isOpen, pending) {
    this.item = item;
    this.isOpen = isOpen;
    this.pending = pending;
    const isActive = ACTIVE.includes(item.status);
    const isPending = PENDING.includes(item.status);
    const part = fraction(item.downloaded_bytes, item.total_bytes);
    mark(this.element, "data-status", item.status);
    mark(this.element, "data-notice", isActive ? item.notice_kind : null);
    this.#lead(item, isPending);
    say(this.measure, measureOf(item));
    this.bar.hidden = !isActive && !(item.downloaded_bytes > 0 && item.status !== "completed");
    setBar(this.bar, part);
    this.#facts(factsOf(item));
    say(this.note, noteOf(item));
    this.link.hidden = item.status !== "failed" || item.help_url === null;
    if (item.help_url !== null) aim(this.link, item.help_url);
    say(this.verified, digestOf(item));
    mark(this.verified, "data-good", String(item.is_verified === true));
    this.#path(item);
    this.buttons.forEach((button, index) => (button.hidden = !ACTIONS[index]?.shown(item, pending)));
    this.#showDetails(item);
  }

  /** @param {ItemState} item @param {boolean} isPending */
  #lead(item, isPending) {
    this.grip.hidden = !isPending;
    const shown = isPending && item.status !== "paused" ? String(item.position) : item.status;
    if (this.badge.dataset.shown === shown) return;
    this.badge.dataset.shown = shown;
    this.badge.replaceChildren(shown in ICONS || !isPending ? icon(shown in ICONS ? shown : "downloading") : shown);
  }

  /** @param {string[]} facts */
  #facts(facts) {
    while (this.facts.children.length > facts.length) this.facts.lastElementChild?.remove();
    facts.forEach((fact, index) => say(this.facts.children[index] ?? this.facts.appendChild(h("span")), fact));
  }

  /** @param {ItemState} item */
  #path({ path, status }) {
    if (status !== "completed" || path === null) this.path.replaceChildren();
    else if (!this.path.firstChild) {
      const text = h("code", { title: path }, ...cutName(path, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1));
      this.path.append(text, copyButton(`Copy the path of ${this.title}`, () => this.item.path ?? ""));
    }
  }

  /** @param {ItemState} item */
  #showDetails(item) {
    mark(this.opener, "aria-expanded", String(this.isOpen));
    this.element.classList.toggle("is-open", this.isOpen);
    this.details.hidden = !this.isOpen;
    if (!this.isOpen) return;
    const built = `${item.shards.length} ${item.status === "completed"} ${item.reason}`;
    if (this.details.dataset.built !== built) {
      this.details.dataset.built = built;
      const isTold = item.status === "completed" && item.shards.length === 1;
      this.bars = isTold ? [] : item.shards.map((shard) => shardLine(shard));
      const reason = item.reason ? [h("p", { class: "gglib-reason" }, item.reason)] : [];
      const code = item.status === "completed" && item.path !== null ? [codeBlock(this.title, item.path)] : [];
      this.details.replaceChildren(...reason, ...code, ...this.bars);
    }
    this.bars.forEach((bar, index) => updateShard(bar, /** @type {ShardState} */ (item.shards[index])));
  }
}

/** @param {string} title @param {string} path */
function codeBlock(title, path) {
  const code = loadingCode(path);
  const pre = h("pre", { tabIndex: 0, role: "group", "aria-label": `Python that loads ${title}` }, code);
  return h("div", { class: "gglib-code" }, pre, copyButton(`Copy the code that loads ${title}`, () => code));
}

/** A name whose end stays in sight where it does not fit. @param {string} name @param {number} at */
const cutName = (name, at) => [h("span", {}, name.slice(0, at)), h("span", {}, name.slice(at))];

/** @param {ShardState} shard */
function shardLine(shard) {
  const name = shard.path.slice(shard.path.lastIndexOf("/") + 1);
  const kind = shard.kind === "shard" ? [] : [h("span", { class: "gglib-chip" }, shard.kind)];
  return h(
    "div",
    { class: "gglib-shard" },
    h("span", { class: "gglib-file", title: shard.path }, ...cutName(name, Math.max(0, name.length - 21)), ...kind),
    progressBar(`Progress of ${name}`),
    h("span", { class: "gglib-amount" }),
    h("span", { class: "gglib-state" }),
  );
}

/** @param {HTMLElement} line @param {ShardState} shard */
function updateShard(line, { status, size_bytes, downloaded_bytes }) {
  const [, bar, amount, state] = /** @type {HTMLElement[]} */ ([...line.children]);
  if (!bar || !amount || !state) return;
  mark(line, "data-status", status);
  setBar(bar, status === "finished" ? 1 : fraction(downloaded_bytes, size_bytes));
  const isPart = downloaded_bytes > 0 && status !== "finished";
  say(amount, isPart ? `${size(downloaded_bytes)} of ${size(size_bytes)}` : size(size_bytes));
  say(state, status);
}

// ---------------------------------------------------------------------------------------------- the list

const LIKELY_HEIGHT = 48;
const OVERSCAN = 320;

/** A section's title, with what can be done to all of it. */
class Heading {
  /** @param {View} view @param {{key: string, title: string, count: number}} entry */
  constructor(view, entry) {
    this.text = h("span", { role: "heading", "aria-level": "3" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    const buttons = entry.key === "§failed" ? [["retry_all", "Retry all"], ["clear_failed", "Clear"]] : [];
    const nodes = buttons.map(([kind, label]) => {
      const button = h("button", { type: "button", class: "gglib-button gglib-act" }, label ?? "");
      button.addEventListener("click", () => press(view, button, this.message, kind ?? ""));
      return button;
    });
    this.element = h("div", { class: "gglib-heading", role: "listitem" }, this.text, ...nodes, this.message);
  }

  /** @param {{title: string, count: number}} entry */
  update({ title, count: number }) {
    say(this.text, number ? `${title} · ${number}` : title);
  }
}

/** All rows, of which only those in sight are in the document. */
class List {
  #rows = /** @type {Map<string, Row|Heading|{element: HTMLElement}>} */ (new Map());
  #heights = /** @type {Map<string, number>} */ (new Map());
  #chosen = /** @type {Map<string, boolean>} */ (new Map());
  #shown = /** @type {Entry[]} */ ([]);
  #painted = "";
  #isHeld = false;
  #freeUntil = 0;
  #above = h("div", { role: "presentation" });
  #below = h("div", { role: "presentation" });

  /** @param {View} view @param {AbortSignal} signal */
  constructor(view, signal) {
    this.view = view;
    this.element = h("div", { class: "gglib-list", role: "list", "aria-label": "Downloads", tabIndex: -1 });
    this.element.append(this.#above, this.#below);
    this.sizes = new ResizeObserver((changes) => this.#measure(changes));
    signal.addEventListener("abort", () => this.sizes.disconnect());
    this.element.addEventListener("scroll", () => view.changed(), { passive: true });
    this.element.addEventListener("pointerenter", (event) => (this.#isHeld = event.pointerType !== "touch"));
    this.element.addEventListener("pointerleave", () => {
      this.#isHeld = false;
      view.changed();
    });
    this.element.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  /** What a person just asked for may move rows although the pointer is here. */
  release() {
    this.#freeUntil = performance.now() + 700;
  }

  /** @param {PanelState} state */
  update(state) {
    const next = entriesOf(state);
    const isHeld = this.#isHeld && performance.now() > this.#freeUntil;
    this.#shown = isHeld ? heldOrder(this.#shown, next) : next;
    const newest = next.find((entry) => "item" in entry && entry.item.status === "completed")?.key;
    const heights = this.#shown.map((entry) => this.#heights.get(entry.key) ?? LIKELY_HEIGHT);
    const { scrollTop, clientHeight } = this.element;
    const sight = windowOf(heights, scrollTop - OVERSCAN, (clientHeight || 640) + 2 * OVERSCAN);
    const entries = this.#shown.slice(sight.first, sight.last);
    for (const entry of entries) this.#patch(entry, newest, state.queue.pending_count);
    this.#place(entries);
    this.#above.style.height = `${sight.above}px`;
    this.#below.style.height = `${sight.below}px`;
  }

  /** @param {Entry} entry @param {string|undefined} newest @param {number} pending */
  #patch(entry, newest, pending) {
    const known = this.#rows.get(entry.key);
    if ("item" in entry) {
      const isOpen = this.#chosen.get(entry.key) ?? entry.key === newest;
      const row = known instanceof Row ? known : this.#add(entry.key, this.#newRow(entry.item, isOpen));
      if (row.item !== entry.item || row.isOpen !== isOpen || row.pending !== pending) row.update(entry.item, isOpen, pending);
    } else if ("title" in entry) {
      (known instanceof Heading ? known : this.#add(entry.key, new Heading(this.view, entry))).update(entry);
    } else if (!known) {
      const text = h("span", { class: "gglib-name" }, entry.text);
      const row = h("div", { class: "gglib-row", role: "listitem", "data-status": "resolving" }, text, h("span", { class: "gglib-note" }, "resolving"));
      this.#add(entry.key, { element: row });
    }
  }

  /** @param {ItemState} item @param {boolean} isOpen */
  #newRow(item, isOpen) {
    return new Row(this.view, item, isOpen, (open) => {
      this.#chosen.set(item.id, open);
      this.view.changed();
    });
  }

  /** @template {Row|Heading|{element: HTMLElement}} T @param {string} key @param {T} row */
  #add(key, row) {
    this.#rows.set(key, row);
    this.sizes.observe(row.element);
    row.element.dataset.key = key;
    return row;
  }

  /** Brings the document into the order of the entries; rows glide to their new place. @param {Entry[]} entries */
  #place(entries) {
    const keys = entries.map((entry) => entry.key);
    if (keys.join("\n") === this.#painted) return;
    const focused = /** @type {Document|ShadowRoot} */ (this.element.getRootNode()).activeElement;
    const hadFocus = this.element.contains(focused);
    const before = new Map([...this.#rows].map(([key, row]) => [key, row.element.isConnected ? row.element.getBoundingClientRect().top : null]));
    const wanted = new Set(keys);
    for (const [key, row] of this.#rows) if (!wanted.has(key)) this.#drop(key, row.element);
    let cursor = this.#above.nextElementSibling;
    for (const key of keys) {
      const element = /** @type {HTMLElement} */ (this.#rows.get(key)?.element);
      if (element === cursor) cursor = element.nextElementSibling;
      else this.element.insertBefore(element, cursor);
    }
    this.#painted = keys.join("\n");
    if (hadFocus && focused instanceof HTMLElement) (focused.isConnected ? focused : this.element).focus({ preventScroll: true });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.#glide(before);
  }

  /** @param {Map<string, number|null>} before */
  #glide(before) {
    for (const [key, { element }] of this.#rows) {
      const from = before.get(key);
      const way = typeof from === "number" ? from - element.getBoundingClientRect().top : 0;
      if (Math.abs(way) > 1) element.animate?.([{ transform: `translateY(${way}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
    }
  }

  /** @param {string} key @param {HTMLElement} element */
  #drop(key, element) {
    this.sizes.unobserve(element);
    this.#rows.delete(key);
    element.remove();
  }

  /** @param {ResizeObserverEntry[]} changes */
  #measure(changes) {
    for (const { target } of changes) {
      const { key } = /** @type {HTMLElement} */ (target).dataset;
      const height = /** @type {HTMLElement} */ (target).offsetHeight;
      if (key === undefined || !height || this.#heights.get(key) === height) continue;
      this.#heights.set(key, height);
      this.view.changed();
    }
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const grip = /** @type {Element} */ (event.target).closest?.(".gglib-grip");
    const key = grip?.closest(".gglib-row")?.getAttribute("data-key") ?? "";
    const row = this.#rows.get(key);
    if (!(row instanceof Row) || !this.view.isLive) return;
    event.preventDefault();
    row.grip.focus();
    row.grip.setPointerCapture(event.pointerId);
    const pointing = new AbortController();
    const wasHeld = this.#isHeld;
    this.#isHeld = true;
    let position = row.item.position;
    const stop = () => {
      pointing.abort();
      this.#isHeld = wasHeld;
      row.element.style.transform = "";
      row.element.classList.remove("is-dragged");
      this.#target(0, null);
    };
    const follow = (/** @type {PointerEvent} */ { clientY }) => {
      const box = this.element.getBoundingClientRect();
      this.element.scrollTop += clientY < box.top + 24 ? -12 : clientY > box.bottom - 24 ? 12 : 0;
      row.element.classList.add("is-dragged");
      row.element.style.transform = `translateY(${clientY - event.clientY}px)`;
      position = this.#target(clientY, row);
    };
    const drop = () => {
      stop();
      if (position !== row.item.position) void press(this.view, row.grip, row.message, ...move(row.item, position));
    };
    const { signal } = pointing;
    row.grip.addEventListener("pointermove", follow, { signal });
    row.grip.addEventListener("pointerup", drop, { signal });
    row.grip.addEventListener("pointercancel", stop, { signal });
    row.grip.addEventListener("keydown", (press) => press.key === "Escape" && stop(), { signal });
  }

  /** Marks where a dragged row would land; returns that position. @param {number} y @param {Row|null} dragged */
  #target(y, dragged) {
    let position = dragged?.item.position ?? 0;
    for (const row of this.#rows.values()) {
      if (!(row instanceof Row) || row === dragged) continue;
      const { position: own } = row.item;
      const box = row.element.getBoundingClientRect();
      const isPassed = dragged !== null && own > 0 && (own < dragged.item.position ? y < (box.top + box.bottom) / 2 : y > (box.top + box.bottom) / 2);
      if (isPassed) position = own < (dragged?.item.position ?? 0) ? Math.min(position, own) : Math.max(position, own);
    }
    for (const row of this.#rows.values()) {
      if (!(row instanceof Row)) continue;
      const isHere = dragged !== null && row !== dragged && row.item.position === position;
      mark(row.element, "data-drop", isHere ? (position < (dragged?.item.position ?? 0) ? "before" : "after") : null);
    }
    return position;
  }
}

// ---------------------------------------------------------------------------------------------- adding

/** The field for a repository, its suggestions, and the list of what the repository offers. */
class Adder {
  #asked = 0;
  #timer = 0;
  #selected = -1;

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    const id = `gglib-${Math.random().toString(36).slice(2)}`;
    this.input = h("input", {
      type: "text",
      id,
      class: "gglib-field gglib-act",
      placeholder: "owner/repo, a link, or words to search for",
      autocomplete: "off",
      spellcheck: false,
      role: "combobox",
      "aria-label": "Repository on the Hub",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
    });
    this.submit = h("button", { type: "submit", class: "gglib-button gglib-primary gglib-act" }, "Show variants");
    this.options = h("ul", { id: `${id}-list`, class: "gglib-options", role: "listbox", "aria-label": "Repositories found", hidden: true });
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.offer = h("section", { class: "gglib-offer", hidden: true });
    const box = h("div", { class: "gglib-search" }, icon("search"), this.input, this.options);
    const form = h("form", { class: "gglib-add" }, box, this.submit);
    this.element = h("div", {}, form, this.message, this.offer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#show();
    });
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => this.#suggest([]));
  }

  #typed() {
    clearTimeout(this.#timer);
    const text = this.input.value.trim();
    if (text.length < 2) this.#suggest([]);
    else this.#timer = setTimeout(() => void this.#search(text), 300);
  }

  /** @param {string} text */
  async #search(text) {
    const asked = (this.#asked += 1);
    // Suggestions are a courtesy: where there are none to be had, the field works without.
    const found = await this.view.kernel.ask("suggest", { text }).catch(() => []);
    if (asked === this.#asked) this.#suggest(found);
  }

  /** @param {Suggestion[]} found */
  #suggest(found) {
    this.#selected = -1;
    const nodes = found.map((repo, index) => {
      const parts = [repo.parameter_count === null ? "" : `${count(repo.parameter_count)} parameters`, repo.downloads === null ? "" : `${count(repo.downloads)} downloads`];
      const facts = h("span", { class: "gglib-owner" }, parts.filter(Boolean).join(" · "));
      const option = h("li", { id: `${this.input.id}-${index}`, role: "option", "aria-selected": "false" }, h("span", {}, repo.repo_id), facts);
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.#pick(repo.repo_id);
      });
      option.dataset.repo = repo.repo_id;
      return option;
    });
    this.options.replaceChildren(...nodes);
    this.options.hidden = !nodes.length;
    mark(this.input, "aria-expanded", String(nodes.length > 0));
    mark(this.input, "aria-activedescendant", null);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const options = /** @type {HTMLElement[]} */ ([...this.options.children]);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const chosen = options[this.#selected];
    if (step && options.length) {
      event.preventDefault();
      this.#selected = (this.#selected + step + options.length) % options.length;
      options.forEach((option, index) => mark(option, "aria-selected", String(index === this.#selected)));
      mark(this.input, "aria-activedescendant", options[this.#selected]?.id ?? null);
    } else if (event.key === "Enter" && chosen) {
      event.preventDefault();
      this.#pick(chosen.dataset.repo ?? "");
    } else if (event.key === "Escape") this.#suggest([]);
  }

  /** @param {string} repo */
  #pick(repo) {
    this.input.value = repo;
    void this.#show();
  }

  async #show() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    this.#suggest([]);
    const repo_id = this.input.value.trim();
    if (!repo_id) return;
    /** @type {VariantList|undefined} */
    const list = await press(this.view, this.submit, this.message, "variants", { repo_id });
    if (list) this.#offer(list);
  }

  /** @param {VariantList} list */
  #offer(list) {
    const close = iconButton("cancel", "Close the list of variants", "");
    close.addEventListener("click", () => {
      this.offer.hidden = true;
      this.input.focus();
    });
    const free = list.free_bytes === null ? "" : `${size(list.free_bytes)} free on the disk`;
    const head = h("header", {}, h("strong", {}, list.repo_id), h("span", { class: "gglib-owner" }, free), close);
    const terms = list.accept_url === null ? [] : [h("p", { class: "gglib-gate" }, "Its terms have to be accepted first. ", pageLink(list.accept_url))];
    const boxes = list.companions.map(({ kind, size_bytes }) => {
      const box = h("input", { type: "checkbox", value: kind, class: "gglib-act" });
      return h("label", { class: "gglib-companion" }, box, `Fetch ${kind} along (${size(size_bytes)})`);
    });
    const wanted = () => boxes.flatMap((label) => (label.querySelector("input")?.checked ? label.querySelector("input")?.value : []));
    const lines = list.variants.map((variant) => this.#variant(list, variant, wanted));
    this.offer.replaceChildren(head, ...terms, ...boxes, h("ul", { class: "gglib-variants", tabIndex: 0, "aria-label": `Variants of ${list.repo_id}` }, ...lines));
    this.offer.hidden = false;
    this.view.changed();
  }

  /** @param {VariantList} list @param {VariantChoice} variant @param {() => (string|undefined)[]} wanted */
  #variant({ repo_id, revision }, variant, wanted) {
    const name = variant.label ?? variant.key;
    const message = h("p", { class: "gglib-message", role: "status" });
    const kind = variant.is_recommended ? "gglib-primary" : "";
    const button = h("button", { type: "button", class: `gglib-button gglib-act ${kind}`, "aria-label": `Download ${name}` }, "Download");
    button.disabled = !variant.is_complete;
    button.addEventListener("click", async () => {
      const fields = { repo_id, quantization: variant.key, revision, companions: wanted() };
      if (await press(this.view, button, message, "queue", fields)) button.replaceChildren(icon("check"), "In the queue");
    });
    const tags = tagsOf(variant).map(([text, mood]) => h("span", { class: "gglib-tag", "data-mood": mood }, text));
    const facts = variantFacts(variant);
    return h(
      "li",
      {},
      h("span", { class: "gglib-name", title: variant.key }, name),
      h("span", { class: "gglib-amount" }, size(variant.size_bytes)),
      h("span", { class: "gglib-tags" }, ...tags, h("span", { class: "gglib-owner" }, facts)),
      button,
      message,
    );
  }
}

// ---------------------------------------------------------------------------------------------- the header

const SAMPLES = 90;

/** Totals, limits, cancel all, and the rate of the last minute and a half as a line. */
class Header {
  #rates = /** @type {number[]} */ ([]);

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.counts = h("span", { class: "gglib-counts" });
    this.rate = h("span", { class: "gglib-rate" });
    this.eta = h("span", { class: "gglib-eta" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.graph = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark(this.graph, "viewBox", `0 0 ${SAMPLES - 1} 20`);
    mark(this.graph, "preserveAspectRatio", "none");
    mark(this.graph, "class", "gglib-graph");
    mark(this.graph, "aria-hidden", "true");
    const path = () => this.graph.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    this.area = path();
    this.curve = path();
    this.limits = this.#limits();
    const opener = h("button", { type: "button", class: "gglib-button", "aria-expanded": "false" }, icon("limits"), "Limits");
    opener.addEventListener("click", () => mark(opener, "aria-expanded", String(!(this.limits.hidden = !this.limits.hidden))));
    this.cancel = h("button", { type: "button", class: "gglib-button gglib-act" }, "Cancel all");
    this.confirm = this.#confirm();
    this.cancel.addEventListener("click", () => this.#ask(true));
    this.element = h(
      "header",
      { class: "gglib-header" },
      h("div", { class: "gglib-totals" }, h("strong", { role: "heading", "aria-level": "2" }, "Downloads"), this.counts),
      this.graph,
      h("div", { class: "gglib-pace" }, this.rate, this.eta),
      h("div", { class: "gglib-actions" }, opener, this.cancel, this.confirm),
      this.limits,
      this.message,
    );
  }

  #confirm() {
    this.question = h("span", {});
    const yes = h("button", { type: "button", class: "gglib-button gglib-danger gglib-act" }, "Yes, cancel all");
    const no = h("button", { type: "button", class: "gglib-button" }, "Keep them");
    yes.addEventListener("click", async () => {
      await press(this.view, yes, this.message, "cancel_all");
      this.#ask(false);
    });
    no.addEventListener("click", () => this.#ask(false));
    const box = h("span", { class: "gglib-confirm", role: "group", "aria-label": "Cancel all downloads?", hidden: true }, this.question, yes, no);
    box.addEventListener("keydown", (event) => event.key === "Escape" && this.#ask(false));
    return box;
  }

  /** @param {boolean} isAsking */
  #ask(isAsking) {
    const { active_count, pending_count } = this.view.state().queue;
    if (this.question) say(this.question, `Cancel ${plural(active_count + pending_count, "download")}? What arrived is kept.`);
    this.confirm.hidden = !isAsking;
    this.cancel.hidden = isAsking;
    if (isAsking) this.confirm.querySelector("button")?.focus();
    else this.cancel.focus();
  }

  #limits() {
    this.size = h("input", { type: "number", min: "1", step: "1", class: "gglib-field gglib-act" });
    this.speed = h("input", { type: "number", min: "0", step: "any", placeholder: "none", class: "gglib-field gglib-act" });
    const { size: most, speed } = this;
    const ask = (/** @type {HTMLInputElement} */ input, /** @type {string} */ kind, /** @type {() => object} */ fields) => {
      input.addEventListener("change", () => input.reportValidity() && press(this.view, input, this.message, kind, fields()));
    };
    ask(most, "limit", () => ({ max_size: Math.round(Number(most.value)) }));
    ask(speed, "bandwidth", () => ({ bytes_per_second: Number(speed.value) > 0 ? Math.round(Number(speed.value) * 1e6) : null }));
    return h(
      "div",
      { class: "gglib-limits", role: "group", "aria-label": "Limits", hidden: true },
      h("label", {}, "Downloads that may wait", most),
      h("label", {}, "Speed limit in MB/s", speed),
    );
  }

  /** @param {PanelState} state */
  update({ queue }) {
    const room = Math.max(0, queue.max_size - queue.pending_count);
    const isBusy = queue.active_count > 0;
    say(this.counts, `${queue.active_count} active · ${queue.pending_count} waiting · room for ${room}`);
    const limit = queue.bandwidth_limit_bytes_per_second;
    say(this.rate, isBusy ? rate(queue.bytes_per_second) : "");
    const isLimited = limit === null ? "" : `limited to ${rate(limit)}`;
    say(this.eta, [isBusy ? left(queue.eta_seconds) : "", isLimited].filter(Boolean).join(" · "));
    if (this.confirm.hidden) this.cancel.hidden = !isBusy && !queue.pending_count;
    this.#keep(this.size, String(queue.max_size));
    this.#keep(this.speed, limit === null ? "" : String(limit / 1e6));
  }

  /** A field shows what holds, unless a person is typing in it. @param {HTMLInputElement|undefined} input @param {string} value */
  #keep(input, value) {
    if (input && input !== /** @type {Document|ShadowRoot} */ (input.getRootNode()).activeElement && input.value !== value) input.value = value;
  }

  /** Once a second. */
  sample() {
    const { bytes_per_second, active_count } = this.view.state().queue;
    this.#rates = [...this.#rates, active_count ? (bytes_per_second ?? 0) : 0].slice(-SAMPLES);
    const most = Math.max(...this.#rates, 1);
    const start = SAMPLES - this.#rates.length;
    const points = this.#rates.map((one, index) => `${start + index} ${(19 - (one / most) * 17).toFixed(1)}`);
    const line = this.#rates.length > 2 && this.#rates.some((one) => one > 0) ? `M${points.join("L")}` : "";
    mark(this.curve, "d", line);
    mark(this.area, "d", line && `${line}L${SAMPLES - 1} 20L${start} 20Z`);
  }
}

// ---------------------------------------------------------------------------------------------- the widget

/**
 * Once per model: deltas go into the model's own `snapshot`, so that a new view and a notebook saved with its widgets
 * have the newest state. `save_changes` is never called: the kernel knows better.
 * @param {{model: Model, signal: AbortSignal}} props
 */
function initialize({ model, signal }) {
  const kernel = new Kernel(model, signal);
  let heard = performance.now();
  let isSyncing = false;
  const sync = async () => {
    if (isSyncing) return;
    isSyncing = true;
    await kernel.sync().catch(() => {});
    isSyncing = false;
  };
  const receive = (/** @type {Delta} */ message) => {
    heard = performance.now();
    if (message.kind !== "delta") return;
    const next = applyDelta(model.get("snapshot"), message);
    if (next) model.set("snapshot", next);
    else void sync();
  };
  model.on("msg:custom", receive);
  model.on("comm_live_update", () => {
    kernel.abandon();
    isSyncing = false;
  });
  // A server may drop the last message of a burst: then nothing later shows the gap.
  const watch = setInterval(() => {
    if (model.get("snapshot").queue.active_count && performance.now() - heard > 5000) void sync();
  }, 5000);
  signal.addEventListener("abort", () => {
    clearInterval(watch);
    model.off("msg:custom", receive);
  });
}

/** @param {{model: Model, el: HTMLElement, signal: AbortSignal}} props */
function render({ model, el, signal }) {
  const kernel = new Kernel(model, signal);
  let frame = 0;
  let spoken = model.get("snapshot");
  /** @type {View} */
  const view = {
    kernel,
    isLive: true,
    state: () => model.get("snapshot"),
    changed: () => (frame ||= requestAnimationFrame(paint)),
    asked: () => (list.release(), view.changed()),
  };
  const header = new Header(view);
  const adder = new Adder(view);
  const list = new List(view, signal);
  const banner = h("p", { class: "gglib-banner", role: "status", hidden: true });
  const summary = h("p", { class: "gglib-summary", role: "status", hidden: true });
  const live = h("div", { class: "gglib-offscreen", "aria-live": "polite" });
  const root = h("section", { class: "gglib-panel", "aria-label": "GGUF downloads" });
  root.append(header.element, banner, adder.element, summary, list.element, emptyState(), live);
  el.append(root);

  function paint() {
    frame = 0;
    const state = view.state();
    const isEmpty = !state.order.length && !state.queue.resolving.length;
    const { last_run: run } = state.queue;
    header.update(state);
    list.update(state);
    mark(root, "data-empty", String(isEmpty));
    const isOver = run !== null && !state.queue.active_count && !state.order.some((id) => state.items[id]?.status === "queued");
    summary.hidden = !isOver;
    if (isOver) {
      const { text, mood } = runSummary(run);
      say(summary, text);
      mark(summary, "data-mood", mood);
    }
    const news = announcementsOf(spoken, state);
    spoken = state;
    if (news.length) say(live, news.join(" "));
    for (const control of root.querySelectorAll(".gglib-act")) {
      mark(control, "aria-disabled", view.isLive ? null : "true");
      if (control instanceof HTMLInputElement) control.disabled = !view.isLive;
    }
  }

  const checkLife = () => {
    view.isLive = !el.closest(".jupyter-widgets-disconnected");
    mark(root, "data-live", String(view.isLive));
    if (!view.isLive) kernel.abandon();
    banner.hidden = view.isLive;
    say(banner, view.isLive ? "" : "The kernel is gone. This is the last it said; run the cell again to go on.");
    view.changed();
  };
  // A disconnected panel stays readable and can be copied from; only what would need the kernel does nothing.
  const refuse = (/** @type {Event} */ event) => {
    const control = /** @type {Element} */ (event.target).closest?.('.gglib-act[aria-disabled="true"]');
    if (control || (!view.isLive && event.type === "submit")) event.stopImmediatePropagation(), event.preventDefault();
  };
  root.addEventListener("click", refuse, { capture: true, signal });
  root.addEventListener("submit", refuse, { capture: true, signal });
  const changed = () => view.changed();
  model.on("change:snapshot", changed);
  model.on("comm_live_update", checkLife);
  const seconds = setInterval(() => header.sample(), 1000);
  signal.addEventListener("abort", () => {
    clearInterval(seconds);
    cancelAnimationFrame(frame);
    model.off("change:snapshot", changed);
    model.off(/** @type {any} */ ("comm_live_update"), checkLife);
    root.remove();
  });
  checkLife();
  paint();
  kernel.sync().catch(() => {});
}

/** What a person sees before the first download. */
function emptyState() {
  const command = "%gguf queue owner/repo";
  return h(
    "div",
    { class: "gglib-empty" },
    icon("downloading"),
    h("strong", {}, "Nothing is queued yet"),
    h("p", {}, "Name a repository above, or run this in a cell:"),
    h("div", { class: "gglib-code" }, h("pre", { tabIndex: 0, role: "group", "aria-label": "The first command" }, command), copyButton("Copy the command", () => command)),
  );
}

export default { initialize, render };
