/**
 * The list of all downloads: only rows in sight are in the document, and nothing moves under the pointer.
 */

import { h, mark, say } from "./dom.js";
import { press } from "./kernel.js";
import { move, Row } from "./row.js";
import { entriesOf, heldOrder, windowOf } from "./state.js";

/** @import { View } from "./kernel.js" */
/** @import { ItemState, PanelState } from "./messages.js" */
/** @import { Entry } from "./state.js" */

const LIKELY_HEIGHT = 48;
const OVERSCAN = 320;

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

/** All rows, of which only those in sight are in the document. */
export class List {
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
      if (row.item !== entry.item || row.isOpen !== isOpen || row.pending !== pending)
        row.update(entry.item, isOpen, pending);
    } else if ("title" in entry) {
      (known instanceof Heading ? known : this.#add(entry.key, new Heading(this.view, entry))).update(entry);
    } else if (!known) {
      const text = h("span", { class: "gglib-name" }, entry.text);
      const row = h(
        "div",
        { class: "gglib-row", role: "listitem", "data-status": "resolving" },
        text,
        h("span", { class: "gglib-note" }, "resolving"),
      );
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
    const before = new Map(
      [...this.#rows].map(([key, row]) => [
        key,
        row.element.isConnected ? row.element.getBoundingClientRect().top : null,
      ]),
    );
    const wanted = new Set(keys);
    for (const [key, row] of this.#rows) if (!wanted.has(key)) this.#drop(key, row.element);
    let cursor = this.#above.nextElementSibling;
    for (const key of keys) {
      const element = /** @type {HTMLElement} */ (this.#rows.get(key)?.element);
      if (element === cursor) cursor = element.nextElementSibling;
      else this.element.insertBefore(element, cursor);
    }
    this.#painted = keys.join("\n");
    if (hadFocus && focused instanceof HTMLElement)
      (focused.isConnected ? focused : this.element).focus({ preventScroll: true });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.#glide(before);
  }

  /** @param {Map<string, number|null>} before */
  #glide(before) {
    for (const [key, { element }] of this.#rows) {
      const from = before.get(key);
      const way = typeof from === "number" ? from - element.getBoundingClientRect().top : 0;
      if (Math.abs(way) > 1)
        element.animate?.([{ transform: `translateY(${way}px)` }, { transform: "none" }], {
          duration: 160,
          easing: "ease-out",
        });
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
      const isPassed =
        dragged !== null &&
        own > 0 &&
        (own < dragged.item.position ? y < (box.top + box.bottom) / 2 : y > (box.top + box.bottom) / 2);
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
