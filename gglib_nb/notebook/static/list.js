/**
 * The list of all downloads: only rows in sight are in the document, and nothing moves under the pointer.
 */

import { h, say } from "./dom.js";
import { Opened } from "./opened.js";
import { dragged } from "./drag.js";
import { press } from "./kernel.js";
import { move, Row } from "./row.js";
import { entriesOf, heldOrder, isOpenByItself, windowOf } from "./state.js";

/** @import { View } from "./kernel.js" */
/** @import { ItemState, PanelState } from "./messages.js" */
/** @import { Entry } from "./state.js" */

const LIKELY_HEIGHT = 48;
const OVERSCAN = 320;

/** @param {HTMLElement} element */
const topOf = (element) => (element.isConnected ? element.getBoundingClientRect().top : NaN);

/** A section's title, with what can be done to all of it. */
class Heading {
  /** @param {View} view @param {{key: string, title: string, count: number}} entry */
  constructor(view, entry) {
    this.text = h("span", { role: "heading", "aria-level": "3" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    const buttons =
      entry.key === "§failed"
        ? [
            ["retry_all", "Retry all"],
            ["clear_failed", "Clear"],
          ]
        : [];
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

/** A request whose files are still being listed. @param {string} text */
function resolvingRow(text) {
  const parts = [h("span", { class: "gglib-name" }, text), h("span", { class: "gglib-note" }, "resolving")];
  return h("div", { class: "gglib-row", role: "listitem", "data-status": "resolving" }, ...parts);
}

/** All rows, of which only those in sight are in the document. */
export class List {
  #rows = /** @type {Map<string, Row|Heading|{element: HTMLElement}>} */ (new Map());
  #heights = /** @type {Map<string, number>} */ (new Map());
  #opened = new Opened();
  #shown = /** @type {Entry[]} */ ([]);
  #painted = "";
  #isHeld = false;
  #isDragging = false;
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
    const isHeld = this.#isDragging || (this.#isHeld && performance.now() > this.#freeUntil);
    this.#shown = isHeld ? heldOrder(this.#shown, next) : next;
    const heights = this.#shown.map((entry) => this.#heights.get(entry.key) ?? LIKELY_HEIGHT);
    const { scrollTop, clientHeight } = this.element;
    const sight = windowOf(heights, scrollTop - OVERSCAN, (clientHeight || 640) + 2 * OVERSCAN);
    const entries = this.#shown.slice(sight.first, sight.last);
    for (const entry of entries) this.#patch(entry, state.queue.pending_count);
    this.#place(entries);
    this.#above.style.height = `${sight.above}px`;
    this.#below.style.height = `${sight.below}px`;
  }

  /** @param {Entry} entry @param {number} pending */
  #patch(entry, pending) {
    const known = this.#rows.get(entry.key);
    if ("item" in entry) {
      const isOpen = this.#opened.get(entry.key) ?? isOpenByItself(entry.item);
      const row = known instanceof Row ? known : this.#add(entry.key, this.#newRow(entry.item, isOpen));
      const isSame = row.item === entry.item && row.isOpen === isOpen && row.pending === pending;
      if (!isSame) row.update(entry.item, isOpen, pending);
    } else if ("title" in entry) {
      (known instanceof Heading ? known : this.#add(entry.key, new Heading(this.view, entry))).update(entry);
    } else if (!known) {
      this.#add(entry.key, { element: resolvingRow(entry.text) });
    }
  }

  /** @param {ItemState} item @param {boolean} isOpen */
  #newRow(item, isOpen) {
    return new Row(this.view, item, isOpen, (open) => {
      this.#opened.set(item.id, open);
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
    const before = new Map([...this.#rows.values()].map(({ element }) => [element, topOf(element)]));
    const wanted = new Set(keys);
    for (const [key, row] of this.#rows) if (!wanted.has(key)) this.#drop(key, row.element);
    let cursor = this.#above.nextElementSibling;
    for (const key of keys) {
      const element = /** @type {HTMLElement} */ (this.#rows.get(key)?.element);
      if (element === cursor) cursor = element.nextElementSibling;
      else this.element.insertBefore(element, cursor);
    }
    this.#painted = keys.join("\n");
    const heir = focused?.isConnected && focused instanceof HTMLElement ? focused : this.element;
    if (hadFocus) heir.focus({ preventScroll: true });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.#glide(before);
  }

  /** @param {Map<HTMLElement, number>} before */
  #glide(before) {
    for (const { element } of this.#rows.values()) {
      const way = (before.get(element) ?? NaN) - topOf(element);
      const steps = [{ transform: `translateY(${way}px)` }, { transform: "none" }];
      if (Math.abs(way) > 1) element.animate(steps, { duration: 160, easing: "ease-out" });
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
    for (const { target, borderBoxSize } of changes) {
      const { key } = /** @type {HTMLElement} */ (target).dataset;
      // Not rounded: half a pixel a row adds up in a long list.
      const height = borderBoxSize[0]?.blockSize ?? 0;
      if (key === undefined || !height || this.#heights.get(key) === height) continue;
      this.#heights.set(key, height);
      this.view.changed();
    }
  }

  /** @param {PointerEvent} event */
  async #drag(event) {
    const grip = /** @type {Element} */ (event.target).closest(".gglib-grip");
    const row = this.#rows.get(grip?.closest(".gglib-row")?.getAttribute("data-key") ?? "");
    if (!(row instanceof Row) || !this.view.isLive) return;
    event.preventDefault();
    this.#isDragging = true;
    const position = await dragged(event, row, () => this.#waiting(), this.element);
    this.#isDragging = false;
    if (position !== null) await press(this.view, row.grip, row.message, ...move(row.item, position));
  }

  /** Rows that have a place in the queue. */
  #waiting() {
    return [...this.#rows.values()].flatMap((row) => (row instanceof Row && row.item.position > 0 ? row : []));
  }
}
