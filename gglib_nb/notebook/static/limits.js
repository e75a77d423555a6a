/**
 * What bounds the downloads: how many wait, run and connect, how fast, and at which hours. Each field asks the kernel for
 * itself, once it is left or Enter is pressed, and shows what holds.
 */

import { h } from "./dom.js";
import { press } from "./kernel.js";
import { Notifier } from "./notify.js";

/** @import { View } from "./kernel.js" */
/** @import { QueueState } from "./messages.js" */

const MOST_CONNECTIONS = "64";

/** The fields of "Limits". */
export class Limits {
  /** @param {View} view @param {HTMLElement} message Where a refusal is said. */
  constructor(view, message) {
    this.view = view;
    this.message = message;
    this.concurrent = this.#count("concurrency", "max_concurrent");
    this.size = this.#count("limit", "max_size");
    this.connections = this.#count("connections", "max_connections", MOST_CONNECTIONS);
    this.speed = field("number", { min: "0", step: "any", placeholder: "none" });
    this.#ask(this.speed, "change", "bandwidth", () => ({
      bytes_per_second: Number(this.speed.value) > 0 ? Math.round(Number(this.speed.value) * 1e6) : null,
    }));
    this.from = this.#hour("Download from");
    this.until = this.#hour("Download until");
    this.notifier = new Notifier();
    this.element = h(
      "div",
      { class: "gglib-limits", role: "group", "aria-label": "Limits", hidden: true },
      h("label", {}, "Downloads at once", this.concurrent),
      h("label", {}, "Downloads that may wait", this.size),
      h("label", {}, "Speed limit in MB/s", this.speed),
      h("label", {}, "Connections in all", this.connections),
      h("span", { class: "gglib-hours" }, "Only between", this.from, "and", this.until),
      this.notifier.element,
    );
  }

  /** @param {QueueState} queue */
  update(queue) {
    const limit = queue.bandwidth_limit_bytes_per_second;
    const [from = "", until = ""] = queue.download_hours?.split("-") ?? [];
    keep(this.concurrent, String(queue.max_concurrent ?? ""));
    keep(this.size, String(queue.max_size));
    keep(this.connections, String(queue.max_connections ?? ""));
    keep(this.speed, limit === null ? "" : String(limit / 1e6));
    // The two are one value: while a person is in one of them, the other stays too.
    if (focused(this.from) || focused(this.until)) return;
    keep(this.from, from);
    keep(this.until, until);
  }

  /** @param {string} kind @param {string} name @param {string} max */
  #count(kind, name, max = "") {
    const input = field("number", { min: "1", step: "1", required: true, ...(max && { max }) });
    this.#ask(input, "change", kind, () => ({ [name]: Math.round(Number(input.value)) }));
    return input;
  }

  /** A field for a time tells of a change at every digit, so it asks when it is left. @param {string} label */
  #hour(label) {
    const input = field("time", { "aria-label": label });
    const both = () => [this.from.value, this.until.value];
    this.#ask(
      input,
      "blur",
      "hours",
      () => ({ hours: both().every(Boolean) ? both().join("-") : null }),
      // One alone is no span yet.
      () => both().every(Boolean) || both().every((value) => !value),
    );
    return input;
  }

  /**
   * @param {HTMLInputElement} input @param {"change"|"blur"} event @param {string} kind @param {() => object} fields
   * @param {() => boolean} isWhole
   */
  #ask(input, event, kind, fields, isWhole = () => true) {
    const set = async () => {
      if (input.value === input.dataset.told || !input.reportValidity() || !isWhole()) return;
      input.dataset.told = input.value;
      if (!(await press(this.view, input, this.message, kind, fields()))) input.dataset.told = "refused";
    };
    input.addEventListener(event, set);
    // Enter alone makes no change inside a cell of JupyterLab, which swallows the line break.
    input.addEventListener("keydown", (key) => {
      if (key.key !== "Enter" || key.isComposing) return;
      key.preventDefault();
      void set();
    });
  }
}

/** @param {string} type @param {Record<string, any>} properties */
const field = (type, properties) => h("input", { type, class: "gglib-field gglib-act", ...properties });

/** @param {HTMLInputElement} input */
const focused = (input) => input === /** @type {Document|ShadowRoot} */ (input.getRootNode()).activeElement;

/** A field shows what holds, unless a person is typing in it. @param {HTMLInputElement} input @param {string} value */
function keep(input, value) {
  if (focused(input)) return;
  input.dataset.told = value;
  if (input.value !== value) input.value = value;
}
