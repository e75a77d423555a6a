/**
 * The panel's head: totals, limits, cancel all, and the rate of the last minute and a half as a line.
 */

import { h, icon, mark, say } from "./dom.js";
import { plural, rate } from "./formats.js";
import { press } from "./kernel.js";
import { Limits } from "./limits.js";
import { ACTIVE, PENDING } from "./state.js";
import { known, left } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { PanelState } from "./messages.js" */

const SAMPLES = 90;

/** Totals, limits, cancel all, and the rate of the last minute and a half as a line. */
export class Header {
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
    this.limits = new Limits(view, this.message);
    const opener = h(
      "button",
      { type: "button", class: "gglib-button", "aria-expanded": "false" },
      icon("limits"),
      "Limits",
    );
    opener.addEventListener("click", () =>
      mark(opener, "aria-expanded", String(!(this.limits.element.hidden = !this.limits.element.hidden))),
    );
    this.models = h(
      "button",
      { type: "button", class: "gglib-button", "aria-pressed": "false" },
      icon("models"),
      "Models",
    );
    this.models.addEventListener("click", () => view.showModels(this.models.getAttribute("aria-pressed") !== "true"));
    this.pause = h("button", { type: "button", class: "gglib-button gglib-act" }, "Pause all");
    this.pause.addEventListener("click", () =>
      press(view, this.pause, this.message, this.pause.dataset.asks ?? "pause_all"),
    );
    this.cancel = h("button", { type: "button", class: "gglib-button gglib-act" }, "Cancel all");
    this.confirm = this.#confirm();
    this.cancel.addEventListener("click", () => this.#ask(Boolean(this.confirm.hidden)));
    this.totals = h(
      "div",
      { class: "gglib-totals" },
      h("strong", { role: "heading", "aria-level": "2" }, "Downloads"),
      this.counts,
    );
    this.element = h(
      "header",
      { class: "gglib-header" },
      this.totals,
      this.graph,
      h("div", { class: "gglib-pace" }, this.rate, this.eta),
      h("div", { class: "gglib-actions" }, this.models, opener, this.pause, this.cancel),
      this.confirm,
      this.limits.element,
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
    const box = h(
      "span",
      { class: "gglib-confirm", role: "group", "aria-label": "Cancel all downloads?", hidden: true },
      this.question,
      yes,
      no,
    );
    box.addEventListener("keydown", (event) => event.key === "Escape" && this.#ask(false));
    return box;
  }

  /** @param {boolean} isAsking */
  #ask(isAsking) {
    const { active_count, pending_count } = this.view.state().queue;
    if (this.question)
      say(this.question, `Cancel ${plural(active_count + pending_count, "download")}? What arrived is kept.`);
    this.confirm.hidden = !isAsking;
    mark(this.cancel, "aria-expanded", String(isAsking));
    if (isAsking) this.confirm.querySelector("button")?.focus();
    else this.cancel.focus();
  }

  /** @param {PanelState} state */
  update({ queue, items }) {
    const room = Math.max(0, queue.max_size - queue.pending_count);
    const { isLive } = this.view;
    const isBusy = queue.active_count > 0 && isLive;
    const counts = `${queue.active_count} active · ${queue.pending_count} waiting`;
    say(this.counts, isLive ? `${counts} · room for ${room}` : `last seen: ${counts}`);
    const limit = queue.bandwidth_limit_bytes_per_second;
    say(this.rate, isBusy ? known(queue.bytes_per_second, rate) : "");
    const isLimited = limit === null ? "" : `limited to ${rate(limit)}`;
    // The sum of guesses is one: it waits for the first of the downloads that says how long it takes.
    const isForeseen = isBusy && Object.values(items).some(({ eta_seconds }) => eta_seconds !== null);
    const held = queue.waits_until ? `waiting until ${queue.waits_until}` : "";
    say(this.eta, [isForeseen ? left(queue.eta_seconds) : "", isLimited, held].filter(Boolean).join(" · "));
    const live = Object.values(items).filter(({ status }) => [...ACTIVE, ...PENDING].includes(status));
    const isResting = live.length > 0 && live.every(({ status }) => status === "paused");
    this.pause.hidden = live.length < 2;
    this.pause.dataset.asks = isResting ? "resume_all" : "pause_all";
    say(this.pause, isResting ? "Resume all" : "Pause all");
    if (this.confirm.hidden) this.cancel.hidden = !queue.active_count && !queue.pending_count;
    this.limits.update(queue);
  }

  /** Once a second. */
  sample() {
    if (!this.view.isLive) return;
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
