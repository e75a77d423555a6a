/**
 * What ended in earlier kernels, and in other ones: a closed heading below everything else, asked for when a view opens and
 * when it is looked at. What stands in the list above is left out.
 */

import { h, icon, mark, say } from "./dom.js";
import { press } from "./kernel.js";
import { earlierFacts, notAbove } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { PanelState, PastItem } from "./messages.js" */

/** The downloads that ended before. */
export class Earlier {
  #past = /** @type {PastItem[]} */ ([]);
  #shown = /** @type {PastItem[]} */ ([]);

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.title = h("span", {});
    this.opener = h("button", { type: "button", class: "gglib-earlier-opener gglib-open", "aria-expanded": "false" }, icon("open"), this.title);
    this.clear = h("button", { type: "button", class: "gglib-button gglib-act", "aria-label": "Clear Earlier", hidden: true }, "Clear");
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.list = h("div", { class: "gglib-past-list", role: "list", "aria-label": "Downloads that ended before", hidden: true });
    const heading = h("span", { role: "heading", "aria-level": "3" }, this.opener);
    const head = h("div", { class: "gglib-heading" }, heading, this.clear, this.message);
    this.element = h("div", { class: "gglib-earlier", hidden: true }, head, this.list);
    this.opener.addEventListener("click", () => this.#open(Boolean(this.list.hidden)));
    this.clear.addEventListener("click", async () => {
      if (await press(view, this.clear, this.message, "clear_history")) await this.refresh();
    });
  }

  /** Asks what ended. Where the database cannot be read, a line above the list has said so. */
  async refresh() {
    this.#past = await this.view.kernel.ask("history").catch(() => this.#past);
    this.view.changed();
  }

  /** @param {boolean} isOpen */
  #open(isOpen) {
    this.list.hidden = this.clear.hidden = !isOpen;
    mark(this.opener, "aria-expanded", String(isOpen));
    if (isOpen) void this.refresh();
    this.view.changed();
  }

  /** @param {PanelState} state */
  update(state) {
    const shown = notAbove(this.#past, state);
    if (shown.length === this.#shown.length && shown.every((item, index) => item === this.#shown[index])) return;
    this.#shown = shown;
    this.element.hidden = !shown.length;
    say(this.title, `Earlier · ${shown.length}`);
    this.list.replaceChildren(...shown.map(pastRow));
  }
}

/** @param {PastItem} item */
function pastRow(item) {
  const [owner = "", name = ""] = item.repo_id.split("/");
  const chip = item.quantization ? [h("span", { class: "gglib-chip" }, item.quantization)] : [];
  const facts = earlierFacts(item).map(([text, mood]) => h("span", { "data-mood": mood }, text));
  return h(
    "div",
    { class: "gglib-past", role: "listitem" },
    h("div", { class: "gglib-title" }, h("span", { class: "gglib-name", title: item.id }, name || owner), ...chip),
    h("div", { class: "gglib-line" }, ...facts),
    h("div", { class: "gglib-past-error" }, item.error),
  );
}
