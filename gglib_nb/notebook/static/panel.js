/**
 * The download panel's page: an anywidget module, plain JavaScript checked by tsc through JSDoc. There is no build step;
 * esm.py joins these files into the one module that a widget can have.
 *
 * State lives in the kernel. The page holds one copy of it, the model's `snapshot`, brings it up to date with deltas and
 * paints it; it computes no rate, decides nothing about the queue, and asks the kernel for everything.
 *
 *     messages  shapes on the wire            formats, words, state, segments, presses, undo  pure functions
 *     sight     what a person sees, told to the kernel
 *     dom       builders of elements          kernel                           requests and their answers
 *     focus     never lost                    notify                           of what ended
 *     row, bars, drag, list, adder, header    the parts of the panel       models, modelact, places  what is on the disk
 *     surroundings, earlier  what stands around the list: lines about the queue, other kernels, what ended before
 *     bearings  focus and scroll of a view    view     one view of it          panel        the widget
 */

import { Kernel } from "./kernel.js";
import { applyDelta } from "./state.js";
import { PanelView } from "./view.js";

/** @import { Delta, Model } from "./messages.js" */

/**
 * Once per model: deltas go into the model's own `snapshot`, so that a new view and a notebook saved with its widgets
 * have the newest state. `save_changes` is never called: the kernel knows better.
 * @param {Model} model @param {AbortSignal} signal
 */
function follow(model, signal) {
  const kernel = new Kernel(model, signal);
  let isSyncing = false;
  const sync = async () => {
    if (isSyncing) return;
    isSyncing = true;
    await kernel.sync().catch(() => {});
    isSyncing = false;
  };
  const receive = (/** @type {Delta} */ message) => {
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
  signal.addEventListener("abort", () => model.off("msg:custom", receive));
}

/**
 * The widget of one model. Jupyter draws an output anew when the kernel brings its static part up to date: the view's element
 * is dropped and a new one wants a view. The old view goes on in there, as if nothing had happened.
 */
export default () => {
  let views = /** @type {PanelView[]} */ ([]);
  // What a view is given ends with its element; this one lives as long as the model.
  let lasting = /** @type {Model|null} */ (null);
  return {
    /** @param {{model: Model, signal: AbortSignal}} props */
    initialize({ model, signal }) {
      lasting = model;
      follow(model, signal);
    },
    /** @param {{model: Model, el: HTMLElement, signal: AbortSignal}} props */
    render({ model, el, signal }) {
      views = views.filter(({ isClosed }) => !isClosed);
      const stray = views.find(({ isStray }) => isStray);
      if (stray) return stray.moveTo(el, signal);
      const view = new PanelView(lasting ?? model, el);
      views.push(view);
      view.open(signal);
    },
  };
};
