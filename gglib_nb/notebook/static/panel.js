/**
 * The download panel's page: an anywidget module, plain JavaScript checked by tsc through JSDoc. There is no build step;
 * esm.py joins these files into the one module that a widget can have.
 *
 * State lives in the kernel. The page holds one copy of it, the model's `snapshot`, brings it up to date with deltas and
 * paints it; it computes no rate, decides nothing about the queue, and asks the kernel for everything.
 *
 *     messages  shapes on the wire            formats, words, state  pure functions
 *     dom       builders of elements          kernel                 requests and their answers
 *     row, list, adder, header                the parts of the panel
 */

import { Adder } from "./adder.js";
import { copyButton, h, icon, mark, say } from "./dom.js";
import { Header } from "./header.js";
import { Kernel } from "./kernel.js";
import { List } from "./list.js";
import { applyDelta } from "./state.js";
import { announcementsOf, runSummary } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { Delta, Model } from "./messages.js" */

/**
 * Once per model: deltas go into the model's own `snapshot`, so that a new view and a notebook saved with its widgets
 * have the newest state. `save_changes` is never called: the kernel knows better.
 * @param {{model: Model, signal: AbortSignal}} props
 */
function initialize({ model, signal }) {
  const kernel = new Kernel(model, signal);
  let heard = performance.now();
  let isSyncing = false;
  const sync = async () => {
    if (isSyncing) return;
    isSyncing = true;
    await kernel.sync().catch(() => {});
    isSyncing = false;
  };
  const receive = (/** @type {Delta} */ message) => {
    heard = performance.now();
    if (message.kind !== "delta") return;
    const next = applyDelta(model.get("snapshot"), message);
    if (next) model.set("snapshot", next);
    else void sync();
  };
  model.on("msg:custom", receive);
  model.on("comm_live_update", () => {
    kernel.abandon();
    isSyncing = false;
  });
  // A server may drop the last message of a burst: then nothing later shows the gap.
  const watch = setInterval(() => {
    if (model.get("snapshot").queue.active_count && performance.now() - heard > 5000) void sync();
  }, 5000);
  signal.addEventListener("abort", () => {
    clearInterval(watch);
    model.off("msg:custom", receive);
  });
}

/** @param {{model: Model, el: HTMLElement, signal: AbortSignal}} props */
function render({ model, el, signal }) {
  const kernel = new Kernel(model, signal);
  let frame = 0;
  let spoken = model.get("snapshot");
  /** @type {View} */
  const view = {
    kernel,
    isLive: true,
    state: () => model.get("snapshot"),
    changed: () => (frame ||= requestAnimationFrame(paint)),
    asked: () => (list.release(), view.changed()),
  };
  const header = new Header(view);
  const adder = new Adder(view);
  const list = new List(view, signal);
  const banner = h("p", { class: "gglib-banner", role: "status", hidden: true });
  const summary = h("p", { class: "gglib-summary", role: "status", hidden: true });
  const live = h("div", { class: "gglib-offscreen", "aria-live": "polite" });
  const root = h("section", { class: "gglib-panel", "aria-label": "GGUF downloads" });
  root.append(header.element, banner, adder.element, summary, list.element, emptyState(), live);
  el.append(root);

  function paint() {
    frame = 0;
    const state = view.state();
    const isEmpty = !state.order.length && !state.queue.resolving.length;
    const { last_run: run } = state.queue;
    header.update(state);
    list.update(state);
    mark(root, "data-empty", String(isEmpty));
    const isOver =
      run !== null && !state.queue.active_count && !state.order.some((id) => state.items[id]?.status === "queued");
    summary.hidden = !isOver;
    if (isOver) {
      const { text, mood } = runSummary(run);
      say(summary, text);
      mark(summary, "data-mood", mood);
    }
    const news = announcementsOf(spoken, state);
    spoken = state;
    if (news.length) say(live, news.join(" "));
    for (const control of root.querySelectorAll(".gglib-act")) {
      mark(control, "aria-disabled", view.isLive ? null : "true");
      if (control instanceof HTMLInputElement) control.disabled = !view.isLive;
    }
  }

  const checkLife = () => {
    view.isLive = !el.closest(".jupyter-widgets-disconnected");
    mark(root, "data-live", String(view.isLive));
    if (!view.isLive) kernel.abandon();
    banner.hidden = view.isLive;
    say(banner, view.isLive ? "" : "The kernel is gone. This is the last it said; run the cell again to go on.");
    view.changed();
  };
  // A disconnected panel stays readable and can be copied from; only what would need the kernel does nothing.
  const refuse = (/** @type {Event} */ event) => {
    const control = /** @type {Element} */ (event.target).closest?.('.gglib-act[aria-disabled="true"]');
    if (control || (!view.isLive && event.type === "submit"))
      (event.stopImmediatePropagation(), event.preventDefault());
  };
  root.addEventListener("click", refuse, { capture: true, signal });
  root.addEventListener("submit", refuse, { capture: true, signal });
  const changed = () => view.changed();
  model.on("change:snapshot", changed);
  model.on("comm_live_update", checkLife);
  const seconds = setInterval(() => header.sample(), 1000);
  signal.addEventListener("abort", () => {
    clearInterval(seconds);
    cancelAnimationFrame(frame);
    model.off("change:snapshot", changed);
    model.off(/** @type {any} */ ("comm_live_update"), checkLife);
    root.remove();
  });
  checkLife();
  paint();
  kernel.sync().catch(() => {});
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

export default { initialize, render };
