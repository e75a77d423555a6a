/**
 * Bars: a download's, divided into its files, and the line of one file. What is drawn of a file says its state by shape
 * as well as by colour: a thin line waits, a full one fills, stripes are verified, a solid block is done.
 */

import { h, mark, progressBar, say, sayPart } from "./dom.js";
import { fraction, percent, size } from "./formats.js";
import { mapOf, MOST_SEGMENTS, segmentsOf } from "./segments.js";
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
    const [only] = item.shards;
    const text = [part === null ? "unknown" : percent(part), filesDone(item)].filter(Boolean).join(", ");
    mark(this.element, "aria-valuenow", part === null ? null : String(Math.floor(part * 100)));
    mark(this.element, "aria-valuetext", text);
    mark(this.element, "data-unknown", part === null && !isDivided ? "true" : null);
    if (!isDivided && only) return this.#map(only);
    this.#divide(segments.length);
    segments.forEach((segment, index) => draw(/** @type {HTMLElement} */ (this.element.children[index]), segment));
  }

  /** The bar of the only file is this one, so it shows where the bytes stand. @param {ShardState} shard */
  #map(shard) {
    if (this.element.firstElementChild?.classList.contains("gglib-map") !== true) {
      this.element.replaceChildren(h("div", { class: "gglib-segment gglib-map" }, ...mapParts()));
    }
    setMap(/** @type {HTMLElement} */ (this.element.firstElementChild), shard);
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

/**
 * A file's bar that shows where its bytes stand: what arrived, in its place, and from the start on what is verified.
 * @param {string} label
 */
function mapBar(label) {
  const bar = progressBar(label);
  bar.classList.add("gglib-map");
  bar.replaceChildren(...mapParts());
  return bar;
}

const mapParts = () => [h("div", { class: "gglib-runs" }), h("div", { class: "gglib-proven" })];

/** @param {HTMLElement} bar @param {ShardState} shard */
function setMap(bar, shard) {
  const [runs, proven] = /** @type {HTMLElement[]} */ ([...bar.children]);
  if (!runs || !proven) return;
  const map = mapOf(shard);
  while (runs.children.length > map.runs.length) runs.lastElementChild?.remove();
  map.runs.forEach(({ start, end }, index) => {
    const run = /** @type {HTMLElement} */ (runs.children[index] ?? runs.appendChild(h("div", { class: "gglib-run" })));
    place(run, start, end);
  });
  place(proven, 0, map.verified);
}

/** @param {HTMLElement} node @param {number} start @param {number} end */
function place(node, start, end) {
  const inset = `0 ${((1 - end) * 100).toFixed(2)}% 0 ${(start * 100).toFixed(2)}%`;
  if (node.dataset.inset === inset) return;
  node.dataset.inset = inset;
  node.style.inset = inset;
}

/** A name whose end stays in sight where it does not fit. @param {string} name @param {number} at */
const cutName = (name, at) => [h("span", {}, name.slice(0, at)), h("span", {}, name.slice(at))];

/** A path that keeps its file's name. @param {string} path */
export const cutPath = (path) => cutName(path, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);

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
    mapBar(`Progress of ${name}`),
    h("span", { class: "gglib-amount" }),
    h("span", { class: "gglib-state" }),
  );
}

/** @param {HTMLElement} line @param {ShardState} shard */
export function updateShard(line, shard) {
  const { status, size_bytes, downloaded_bytes } = shard;
  const [, bar, amount, state] = /** @type {HTMLElement[]} */ ([...line.children]);
  if (!bar || !amount || !state) return;
  mark(line, "data-status", status);
  sayPart(bar, status === "finished" ? 1 : fraction(downloaded_bytes, size_bytes));
  setMap(bar, shard);
  const isPart = downloaded_bytes > 0 && status !== "finished";
  say(amount, isPart ? `${size(downloaded_bytes)} of ${size(size_bytes)}` : size(size_bytes));
  say(state, status);
}
