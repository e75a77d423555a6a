/**
 * What stands around the list of downloads: lines about the queue as a whole, and the downloads of other kernels, which can
 * be looked at only.
 */

import { h, mark, progressBar, say, sayPart } from "./dom.js";
import { fraction } from "./formats.js";
import { press } from "./kernel.js";
import { elsewhereOf, whoseIs } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { ElsewhereState, NoticeState, PanelState } from "./messages.js" */

/** Lines about the queue as a whole: what was taken up, what lies about, what is wrong with the database. */
export class Notices {
  #shown = "";

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.element = h("div", { class: "gglib-notices", role: "status", hidden: true });
  }

  /** @param {PanelState} state */
  update({ queue: { notices } }) {
    const shown = JSON.stringify(notices);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.element.hidden = !notices.length;
    this.element.replaceChildren(...notices.map((notice) => this.#line(notice)));
  }

  /** @param {NoticeState} notice */
  #line({ kind, text }) {
    const line = h("p", { "data-kind": kind }, h("span", {}, text));
    if (kind === "partials") {
      const message = h("span", { class: "gglib-message", role: "status" });
      const again = h("button", { type: "button", class: "gglib-button gglib-act" }, "Queue again");
      again.addEventListener("click", () => press(this.view, again, message, "queue_partials"));
      line.append(again, message);
    }
    return line;
  }
}

/** The downloads of other kernels with the same models folder. */
export class Elsewhere {
  #rows = /** @type {Map<string, HTMLElement>} */ (new Map());

  constructor() {
    this.list = h("div", { role: "list", "aria-label": "Downloads of other kernels" });
    const title = h("div", { class: "gglib-heading" }, h("span", { role: "heading", "aria-level": "3" }, "In other kernels"));
    this.element = h("div", { class: "gglib-elsewhere", hidden: true }, title, this.list);
  }

  /** @param {PanelState} state */
  update({ queue: { elsewhere } }) {
    this.element.hidden = !elsewhere.length;
    const before = this.#rows;
    this.#rows = new Map(elsewhere.map((item) => this.#row(before, item)));
    const rows = [...this.#rows.values()];
    if (rows.length !== this.list.children.length || rows.some((row, index) => row !== this.list.children[index])) {
      this.list.replaceChildren(...rows);
    }
  }

  /** @param {Map<string, HTMLElement>} before @param {ElsewhereState} item @returns {[string, HTMLElement]} */
  #row(before, item) {
    const key = `${item.owner} ${item.id}`;
    const row = before.get(key) ?? elsewhereRow(item);
    updateElsewhereRow(row, item);
    return [key, row];
  }
}

/** @param {ElsewhereState} item */
function elsewhereRow({ name, quantization, id }) {
  const chip = quantization ? [h("span", { class: "gglib-chip" }, quantization)] : [];
  const bar = progressBar(`Progress of ${name} ${quantization ?? ""} in another kernel`);
  bar.append(h("div", { class: "gglib-peer-fill" }));
  return h(
    "div",
    { class: "gglib-peer", role: "listitem" },
    h("div", { class: "gglib-title" }, h("span", { class: "gglib-name", title: id }, name), ...chip, h("span", { class: "gglib-owner" })),
    bar,
    h("div", { class: "gglib-line" }),
  );
}

/** @param {HTMLElement} row @param {ElsewhereState} item */
function updateElsewhereRow(row, item) {
  const [title, bar, line] = /** @type {HTMLElement[]} */ ([...row.children]);
  mark(row, "data-status", item.is_left ? "stopped" : item.status);
  say(/** @type {Element} */ (title?.lastElementChild), whoseIs(item));
  const part = fraction(item.downloaded_bytes, item.total_bytes);
  const fill = bar?.firstElementChild;
  if (bar) sayPart(bar, part);
  if (fill instanceof HTMLElement) fill.style.transform = `scaleX(${(part ?? 0).toFixed(4)})`;
  if (line) say(line, elsewhereOf(item));
}
