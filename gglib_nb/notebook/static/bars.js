/**
 * Bars: a download's, divided into its files, and the line of one file. What is drawn of a file says its state by shape
 * as well as by colour: a thin line waits, a full one fills, stripes are verified, a solid block is done.
 */

import { h, mark, progressBar, say, setBar } from "./dom.js";
import { fraction, percent, size } from "./formats.js";
import { MOST_SEGMENTS, segmentsOf } from "./segments.js";
import { filesDone } from "./words.js";

/** @import { ItemState, ShardState } from "./messages.js" */
/** @import { Segment } from "./segments.js" */

/** The bar of a download: one part for each of its files. */
export class DividedBar {
  /** @param {string} label */
  constructor(label) {
    this.element = h("div", {
      class: "gglib-bar gglib-divided",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
    });
  }

  /** @param {ItemState} item */
  update(item) {
    const part = fraction(item.downloaded_bytes, item.total_bytes);
    const isDivided = item.shards.length > 1;
    const whole = { weight: 1, part: part ?? 0, status: "downloading", isCompanion: false, count: 1 };
    const segments = isDivided ? segmentsOf(item.shards) : [whole];
    const text = [part === null ? "unknown" : percent(part), filesDone(item)].filter(Boolean).join(", ");
    mark(this.element, "aria-valuenow", part === null ? null : String(Math.floor(part * 100)));
    mark(this.element, "aria-valuetext", text);
    mark(this.element, "data-unknown", part === null && !isDivided ? "true" : null);
    this.#divide(segments.length);
    segments.forEach((segment, index) => draw(/** @type {HTMLElement} */ (this.element.children[index]), segment));
  }

  /** @param {number} count */
  #divide(count) {
    if (this.element.children.length === count) return;
    const parts = Array.from({ length: count }, () =>
      h("div", { class: "gglib-segment" }, h("div", { class: "gglib-fill" })),
    );
    mark(this.element, "data-fine", count > MOST_SEGMENTS / 2 ? "true" : null);
    this.element.replaceChildren(...parts);
  }
}

/** @param {HTMLElement} node @param {Segment} segment */
function draw(node, { weight, part, status, isCompanion }) {
  const fill = /** @type {HTMLElement} */ (node.firstElementChild);
  mark(node, "data-state", status);
  mark(node, "data-companion", isCompanion ? "true" : null);
  const grow = String(weight);
  if (node.style.flexGrow !== grow) node.style.flexGrow = grow;
  const scale = `scaleX(${part.toFixed(4)})`;
  if (fill.style.transform !== scale) fill.style.transform = scale;
}

/** A name whose end stays in sight where it does not fit. @param {string} name @param {number} at */
export const cutName = (name, at) => [h("span", {}, name.slice(0, at)), h("span", {}, name.slice(at))];

/** One file of an opened row. @param {ShardState} shard */
export function shardLine(shard) {
  const name = shard.path.slice(shard.path.lastIndexOf("/") + 1);
  const kind = shard.kind === "shard" ? [] : [h("span", { class: "gglib-chip" }, shard.kind)];
  const tail = /-\d+-of-\d+\.\w+$/.exec(name)?.index ?? name.length;
  const file = h("span", { class: "gglib-file" }, ...cutName(name, tail));
  return h(
    "div",
    { class: "gglib-shard" },
    h("span", { class: "gglib-which", title: shard.path }, file, ...kind),
    progressBar(`Progress of ${name}`),
    h("span", { class: "gglib-amount" }),
    h("span", { class: "gglib-state" }),
  );
}

/** @param {HTMLElement} line @param {ShardState} shard */
export function updateShard(line, { status, size_bytes, downloaded_bytes }) {
  const [, bar, amount, state] = /** @type {HTMLElement[]} */ ([...line.children]);
  if (!bar || !amount || !state) return;
  mark(line, "data-status", status);
  setBar(bar, status === "finished" ? 1 : fraction(downloaded_bytes, size_bytes));
  const isPart = downloaded_bytes > 0 && status !== "finished";
  say(amount, isPart ? `${size(downloaded_bytes)} of ${size(size_bytes)}` : size(size_bytes));
  say(state, status);
}
