/**
 * One view of the panel: its parts, painted once per frame at most, and what it says when the kernel does not answer.
 */

import { Adder } from "./adder.js";
import { copyButton, h, icon, mark, say } from "./dom.js";
import { Header } from "./header.js";
import { Kernel } from "./kernel.js";
import { List } from "./list.js";
import { announcementsOf, runSummary } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { Model, PanelState } from "./messages.js" */

const GONE = "The kernel is gone. This is the last it said; run the cell again to go on.";
const SILENT = "The kernel has not answered yet; a running cell can hold this up. What stands here may be old.";
const SILENCE_MS = 3000;

/** @implements {View} */
export class PanelView {
  #frame = 0;
  #spoken;

  /** @param {Model} model @param {HTMLElement} el @param {AbortSignal} signal */
  constructor(model, el, signal) {
    this.model = model;
    this.el = el;
    this.signal = signal;
    this.isLive = true;
    this.kernel = new Kernel(model, signal);
    this.#spoken = model.get("snapshot");
    this.header = new Header(this);
    this.adder = new Adder(this);
    this.list = new List(this, signal);
    this.banner = h("p", { class: "gglib-banner", role: "status", hidden: true });
    this.summary = h("p", { class: "gglib-summary", role: "status", hidden: true });
    this.news = h("div", { class: "gglib-offscreen", "aria-live": "polite" });
    const parts = [this.header.element, this.banner, this.adder.element, this.summary, this.list.element];
    this.root = h("section", { class: "gglib-panel", "aria-label": "GGUF downloads" });
    this.root.append(...parts, emptyState(), this.news);
  }

  /** Shows it, until the signal. */
  open() {
    const { model, root, signal } = this;
    const changed = () => this.changed();
    const lived = () => this.#checkLife();
    const second = setInterval(() => this.header.sample(), 1000);
    this.el.append(root);
    for (const event of ["click", "submit"]) {
      root.addEventListener(event, (press) => this.#refuse(press), { capture: true, signal });
    }
    model.on("change:snapshot", changed);
    model.on("comm_live_update", lived);
    signal.addEventListener("abort", () => {
      clearInterval(second);
      cancelAnimationFrame(this.#frame);
      model.off("change:snapshot", changed);
      model.off(/** @type {any} */ ("comm_live_update"), lived);
      root.remove();
    });
    lived();
    this.#paint();
    void this.#greet();
  }

  state() {
    return this.model.get("snapshot");
  }

  changed() {
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  asked() {
    this.list.release();
    this.changed();
  }

  #paint() {
    this.#frame = 0;
    const state = this.state();
    this.header.update(state);
    this.list.update(state);
    mark(this.root, "data-empty", String(!state.order.length && !state.queue.resolving.length));
    this.#sumUp(state);
    const news = announcementsOf(this.#spoken, state);
    this.#spoken = state;
    if (news.length) say(this.news, news.join(" "));
    if (!this.isLive) this.#enable(false);
  }

  /** @param {PanelState} state */
  #sumUp({ queue, order, items }) {
    const isBusy = queue.active_count > 0 || order.some((id) => items[id]?.status === "queued");
    this.summary.hidden = queue.last_run === null || isBusy;
    if (queue.last_run === null || isBusy) return;
    const { text, mood } = runSummary(queue.last_run);
    say(this.summary, text);
    mark(this.summary, "data-mood", mood);
  }

  /** The state of a notebook that was saved may be old: the kernel is asked, and its silence is said. */
  async #greet() {
    const silence = setTimeout(() => this.isLive && this.#warn(SILENT), SILENCE_MS);
    this.signal.addEventListener("abort", () => clearTimeout(silence));
    await this.kernel.sync().catch(() => {});
    clearTimeout(silence);
    if (this.isLive) this.#warn("");
  }

  /** JupyterLab marks the views of a widget whose kernel is gone with a class. */
  #checkLife() {
    this.isLive = !this.el.closest(".jupyter-widgets-disconnected");
    mark(this.root, "data-live", String(this.isLive));
    if (!this.isLive) this.kernel.abandon();
    this.#warn(this.isLive ? "" : GONE);
    this.#enable(this.isLive);
    this.changed();
  }

  /** @param {string} text */
  #warn(text) {
    this.banner.hidden = !text;
    say(this.banner, text);
  }

  /** What needs the kernel is off without one; what is read, opened and copied is not. @param {boolean} isOn */
  #enable(isOn) {
    for (const control of this.root.querySelectorAll(".gglib-act")) {
      mark(control, "aria-disabled", isOn ? null : "true");
      if (control instanceof HTMLInputElement) control.disabled = !isOn;
    }
  }

  /** @param {Event} event */
  #refuse(event) {
    if (this.isLive || !(/** @type {Element} */ (event.target).closest(".gglib-act, form"))) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }
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
    h(
      "div",
      { class: "gglib-code" },
      h("pre", { tabIndex: 0, role: "group", "aria-label": "The first command" }, command),
      copyButton("Copy the command", () => command),
    ),
  );
}
