/**
 * The list of all downloads: only rows in sight are in the document, and nothing moves under the pointer.
 */

import { h, say } from "./dom.js";
import { Opened } from "./opened.js";
import { dragged } from "./drag.js";
import { press } from "./kernel.js";
import { Presses } from "./presses.js";
import { Row } from "./row.js";
import { entriesOf, heldOrder, isMapped, isOpenByItself, roomOf, windowOf, withLingering } from "./state.js";
import { Undo } from "./undo.js";

/** @import { View } from "./kernel.js" */
/** @import { ItemState, PanelState } from "./messages.js" */
/** @import { Context } from "./row.js" */
/** @import { Entry } from "./state.js" */

const LIKELY_HEIGHT = 48;
const OVERSCAN = 320;
/** A pointer that has not moved for so long aims at nothing. */
const REST_MS = 3000;
const FREE_MS = 700;

/** @param {Context} one @param {Context} other */
const isSameContext = (one, other) =>
  one.pending === other.pending &&
  one.isBusy === other.isBusy &&
  one.undoPosition === other.undoPosition &&
  one.isHeld === other.isHeld;

/** @param {HTMLElement} element */
const topOf = (element) => (element.isConnected ? element.getBoundingClientRect().top : NaN);

/** What can be done to all of a section: the request, its button, what is said of what no row tells. @type {Record<string, [string, string, string?][]>} */
const OF_SECTIONS = {
  "§failed": [
    ["retry_all", "Retry all"],
    ["clear_failed", "Clear", "The list of failures is empty."],
  ],
  "§completed": [["clear_completed", "Clear", "The list of what is done is empty."]],
  "§cancelled": [["clear_cancelled", "Clear", "The list of what was cancelled is empty."]],
};

/** A section's title, with what can be done to all of it. */
class Heading {
  /** @param {View} view @param {{key: string, title: string, count: number}} entry */
  constructor(view, entry) {
    this.text = h("span", { role: "heading", "aria-level": "3" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    const buttons = OF_SECTIONS[entry.key] ?? [];
    const nodes = buttons.map(([kind, label, said]) => {
      const name = label === "Clear" ? { "aria-label": `Clear ${entry.title}` } : {};
      const button = h("button", { type: "button", class: "gglib-button gglib-act", ...name }, label);
      button.addEventListener("click", async () => {
        if ((await press(view, button, this.message, kind)) && said) view.announce(said);
      });
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
  #isDragging = false;
  /** Until when nothing moves: while a pointer is at work here. */
  #heldUntilMs = 0;
  #freeUntilMs = 0;
  #isHeld = false;
  #undo = new Undo();
  #presses = new Presses();
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
    this.element.addEventListener("pointermove", (event) => this.#hold(event), { passive: true });
    this.element.addEventListener("pointerleave", () => {
      this.#heldUntilMs = 0;
      view.changed();
    });
    this.element.addEventListener("pointerdown", (event) => {
      this.#hold(event);
      void this.#drag(event);
    });
    this.element.addEventListener("click", (event) => this.#guard(event), { capture: true });
    this.host = this.#host();
  }

  /** @returns {import("./row.js").Host} */
  #host() {
    return {
      toggled: (item, isOpen) => {
        this.#opened.set(item.id, isOpen);
        this.#free();
        this.view.changed();
      },
      cancelling: (item) => this.#undo.note(item, performance.now()),
      refused: (item) => this.#undo.forget(item.id),
      moving: () => this.#free(),
      neighbour: (row, step) => this.#neighbour(row.item.id, step),
    };
  }

  /** Whether it is to be painted although there is no news: a pointer has come to rest, or an undo has run out. */
  isDue() {
    const nowMs = performance.now();
    return (this.#isHeld && !this.#holds(nowMs)) || this.#undo.hasExpired(nowMs);
  }

  /** @param {PointerEvent} event */
  #hold({ pointerType }) {
    if (pointerType !== "touch") this.#heldUntilMs = performance.now() + REST_MS;
  }

  /** Who asked for a change may see it although the pointer is here. */
  #free() {
    this.#freeUntilMs = performance.now() + FREE_MS;
  }

  /** @param {number} nowMs */
  #holds(nowMs) {
    return this.#isDragging || (nowMs < this.#heldUntilMs && nowMs > this.#freeUntilMs);
  }

  /** A press is for what the person saw, not for what has come under the pointer since. @param {MouseEvent} event */
  #guard(event) {
    const button = /** @type {Element} */ (event.target).closest("button");
    if (!event.detail) return; // by keyboard: nothing has slid under anything
    const key = button?.closest(".gglib-row")?.getAttribute("data-key") ?? "";
    const target = { key, action: button?.dataset.action ?? button?.className ?? "" };
    const meant = this.#presses.meant(target, { x: event.clientX, y: event.clientY, atMs: performance.now() });
    if (meant === target) return;
    event.stopPropagation();
    event.preventDefault();
    const row = meant && this.#rows.get(meant.key);
    if (row instanceof Row) row.buttons.find(({ dataset }) => dataset.action === meant?.action)?.click();
  }

  /** @param {string} id @param {number} step */
  #neighbour(id, step) {
    const rows = this.#shown.flatMap(({ key }) => this.#rows.get(key) ?? []).filter((row) => row instanceof Row);
    return rows[rows.findIndex(({ item }) => item.id === id) + step];
  }

  /** @param {PanelState} state */
  update(state) {
    const nowMs = performance.now();
    const over = this.#undo.expired(nowMs);
    const lingers = (/** @type {string} */ id) => this.#undo.positionOf(id, nowMs) !== null;
    const next = withLingering(this.#shown, entriesOf(state), lingers);
    this.#keepHeights(this.#holds(nowMs));
    const leaving = this.#focusedAmong(over);
    this.#shown = this.#isHeld ? heldOrder(this.#shown, next) : next;
    const heights = this.#shown.map((entry) => this.#heights.get(entry.key) ?? LIKELY_HEIGHT);
    const { scrollTop, clientHeight } = this.element;
    const sight = windowOf(heights, scrollTop - OVERSCAN, (clientHeight || 640) + 2 * OVERSCAN);
    const entries = this.#shown.slice(sight.first, sight.last);
    const { pending_count: pending, active_count } = state.queue;
    const queue = { pending, isBusy: active_count > 0, isHeld: this.#isHeld };
    for (const entry of entries) this.#patch(entry, queue, nowMs);
    this.#place(entries);
    this.#report(entries);
    leaving?.enter();
    this.#keepRoom(state);
    this.#above.style.height = `${sight.above}px`;
    this.#below.style.height = `${sight.below}px`;
  }

  /** @param {PanelState} state */
  #keepRoom({ order, items }) {
    const { rows, files } = roomOf(order.flatMap((id) => items[id] ?? []));
    this.element.style.setProperty("--gg-rows", String(rows));
    this.element.style.setProperty("--gg-files", String(files));
  }

  /** While a pointer is at work here the rows keep their height, whatever starts or ends in them. @param {boolean} isHeld */
  #keepHeights(isHeld) {
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    for (const [key, { element }] of this.#rows) {
      const height = isHeld ? this.#heights.get(key) : undefined;
      element.style.setProperty("--gg-held", height === undefined ? null : `${height}px`);
    }
  }

  /** Which rows are in sight, and which of them show where bytes stand. @param {Entry[]} entries */
  #report(entries) {
    const items = entries.flatMap((entry) => ("item" in entry ? [entry.item] : []));
    const mapped = items.filter((item) => isMapped(item, this.#isOpen(item)));
    this.view.sight.update(items.map(({ id }) => id), mapped.map(({ id }) => id));
  }

  /** @param {ItemState} item */
  #isOpen(item) {
    const row = this.#isHeld ? this.#rows.get(item.id) : undefined;
    return this.#opened.get(item.id) ?? (row instanceof Row ? row.isOpen : isOpenByItself(item));
  }

  /** The row below the one that has the focus and is about to leave its place. @param {string[]} ids */
  #focusedAmong(ids) {
    const id = ids.find((one) => this.#hasFocus(this.#rows.get(one)?.element));
    return id === undefined ? undefined : (this.#neighbour(id, 1) ?? this.#neighbour(id, -1));
  }

  /** @param {HTMLElement} [element] */
  #hasFocus(element) {
    const { activeElement } = /** @type {Document|ShadowRoot} */ (this.element.getRootNode());
    return element?.contains(activeElement) ?? false;
  }

  /** @param {Entry} entry @param {Omit<Context, "undoPosition">} queue @param {number} nowMs */
  #patch(entry, queue, nowMs) {
    const known = this.#rows.get(entry.key);
    if ("item" in entry) {
      const isOpen = this.#isOpen(entry.item);
      const context = { ...queue, undoPosition: this.#undo.positionOf(entry.key, nowMs) };
      if (!(known instanceof Row)) {
        this.#add(entry.key, new Row(this.view, entry.item, isOpen, context, this.host));
      } else if (known.item !== entry.item || known.isOpen !== isOpen || !isSameContext(known.context, context)) {
        known.update(entry.item, isOpen, context);
      }
    } else if ("title" in entry) {
      (known instanceof Heading ? known : this.#add(entry.key, new Heading(this.view, entry))).update(entry);
    } else if (!known) {
      this.#add(entry.key, { element: resolvingRow(entry.text) });
    }
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
    const left = focused?.closest(".gglib-row")?.getAttribute("data-key") ?? "";
    const index = this.#painted.split("\n").indexOf(left);
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
    if (hadFocus) this.#refocus(focused, keys[Math.min(index, keys.length - 1)] ?? "");
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.#glide(before);
  }

  /** What moved keeps the focus; what went leaves it to the row in its place. @param {Element|null} focused @param {string} key */
  #refocus(focused, key) {
    if (focused?.isConnected && focused instanceof HTMLElement) return focused.focus({ preventScroll: true });
    const row = this.#rows.get(key);
    if (row instanceof Row) row.enter();
    else this.element.focus({ preventScroll: true });
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
    if (position !== null) await row.moveTo(position);
  }

  /** Rows that have a place in the queue. */
  #waiting() {
    return [...this.#rows.values()].flatMap((row) => (row instanceof Row && row.item.position > 0 ? row : []));
  }
}
