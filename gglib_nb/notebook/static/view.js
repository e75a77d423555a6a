/**
 * One view of the panel: its parts, painted once per frame at most, and what it says when the kernel does not answer.
 */

import { Adder } from "./adder.js";
import { Bearings } from "./bearings.js";
import { copyButton, h, icon, mark, say } from "./dom.js";
import { Earlier } from "./earlier.js";
import { KeptFocus } from "./focus.js";
import { Header } from "./header.js";
import { Kernel } from "./kernel.js";
import { List } from "./list.js";
import { Models } from "./models.js";
import { Sight } from "./sight.js";
import { ACTIVE, PENDING, withoutKernel, withoutPace } from "./state.js";
import { Elsewhere, Notices } from "./surroundings.js";
import { announcementsOf, runSummary } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { Model, PanelState } from "./messages.js" */

const GONE = "The kernel is gone. This is the last it said; run the cells again for a live panel.";
const GONE_AT_WORK =
  "The kernel is gone and its downloads have stopped. Nothing is lost: in the next kernel %load_ext gglib_nb and %gguf " +
  "go on from there.";
const SILENT =
  "The kernel has not answered yet, and what stands here may be old. A running cell can hold this up; " +
  "after a restart, run the cells again.";
const SILENCE_MS = 3000;
const QUIET_MS = 5000;
/** While something runs there is news every second: what was said longer ago is not said any more. */
const STALE_MS = 2500;
const MOST_SPOKEN = 8;

/** @implements {View} */
export class PanelView {
  #frame = 0;
  #spoken;
  #noticed;
  #heard = performance.now();
  #asked = 0;
  #patience = QUIET_MS;
  #silence = 0;
  #isSilent = false;
  /** Nothing was heard for a moment: what counts on is not claimed, and nothing is said of it yet. */
  #isStale = false;
  /** Its element has been put into the page; before that it has no place, and has not lost one either. */
  #wasPlaced = false;
  #closing = new AbortController();

  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    const { signal } = this.#closing;
    this.model = model;
    this.el = el;
    this.signal = signal;
    this.isLive = true;
    this.kernel = new Kernel(model, signal, () => this.#checkLife());
    this.#spoken = this.#noticed = model.get("snapshot");
    this.header = new Header(this);
    this.adder = new Adder(this);
    this.notices = new Notices(this);
    this.list = new List(this, signal);
    this.elsewhere = new Elsewhere();
    this.earlier = new Earlier(this);
    this.models = new Models(this);
    this.banner = h("p", { class: "gglib-banner", role: "status", hidden: true });
    this.summary = h("p", { class: "gglib-summary", role: "status", hidden: true });
    this.news = h("div", { class: "gglib-offscreen", "aria-live": "polite" });
    this.header.totals.append(this.summary);
    const parts = [this.header, { element: this.banner }, this.notices, this.adder, this.models, this.list].map(({ element }) => element);
    this.root = h("section", { class: "gglib-panel", "aria-label": "GGUF downloads" });
    this.root.append(...parts, emptyState(el), this.elsewhere.element, this.earlier.element, this.news);
    this.height = new HeldHeight(this.root, signal);
    this.focus = new KeptFocus(this.root);
    this.bearings = new Bearings(this.root, this.focus, signal);
    this.sight = new Sight(this, this.root, signal, () => this.#appear());
  }

  /** Shows it, until the signal of its element. @param {AbortSignal} ended */
  open(ended) {
    const { model, root, signal } = this;
    const changed = () => this.#hear();
    const lived = () => {
      this.sight.forget();
      this.#checkLife();
    };
    const second = setInterval(() => this.#tick(), 1000);
    this.#stand(this.el, ended);
    for (const event of ["pointerdown", "keydown"]) root.addEventListener(event, () => this.height.release(), { signal });
    for (const event of ["click", "submit"]) {
      root.addEventListener(event, (press) => this.#refuse(press), { capture: true, signal });
    }
    model.on("change:snapshot", changed);
    model.on("comm_live_update", lived);
    signal.addEventListener("abort", () => {
      clearInterval(second);
      clearTimeout(this.#silence);
      cancelAnimationFrame(this.#frame);
      model.off("change:snapshot", changed);
      model.off(/** @type {any} */ ("comm_live_update"), lived);
      root.remove();
    });
    lived();
    this.#paint();
    void this.#greet();
    void this.earlier.refresh();
  }

  /** Whether its element was taken off the page, and not with all of its cell, as JupyterLab does to one that is out of sight. */
  get isStray() {
    return this.#wasPlaced && !this.el.isConnected && !this.el.closest(".jp-Cell");
  }

  get isClosed() {
    return this.signal.aborted;
  }

  /** Goes on in another element, with all that a person has opened, typed and found. @param {HTMLElement} el @param {AbortSignal} ended */
  moveTo(el, ended) {
    this.#stand(el, ended);
    this.bearings.restore();
    this.changed();
  }

  /** @param {HTMLElement} el @param {AbortSignal} ended */
  #stand(el, ended) {
    this.el = el;
    this.#wasPlaced = false;
    el.classList.add("gglib-panel-host");
    el.append(this.root);
    ended.addEventListener("abort", () => this.el === el && this.#closing.abort());
  }

  state() {
    const state = this.model.get("snapshot");
    if (!this.isLive) return withoutKernel(state);
    return this.#isSilent || this.#isStale ? withoutPace(state) : state;
  }

  changed() {
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** Says it to a screen reader, after what was said before, which it may still be reading. @param {string} text */
  announce(text) {
    this.news.append(h("p", {}, text));
    if (this.news.childElementCount > MOST_SPOKEN) this.news.firstElementChild?.remove();
  }

  /** The models that are here stand in the place of the downloads, or these again. @param {boolean} isOn */
  showModels(isOn) {
    mark(this.header.models, "aria-pressed", String(isOn));
    mark(this.root, "data-shows", isOn ? "models" : null);
    this.models.element.hidden = !isOn;
    if (isOn) void this.models.refresh();
    this.changed();
  }

  #paint() {
    this.#frame = 0;
    this.#wasPlaced ||= this.el.isConnected;
    const state = this.state();
    this.list.update(state); // first, since it reads how far it is scrolled: what was written before would be laid out for that
    this.header.update(state);
    this.notices.update(state);
    this.elsewhere.update(state);
    this.earlier.update(state);
    mark(this.root, "data-empty", String(!state.order.length && !state.queue.resolving.length));
    this.#sumUp(state);
    const news = announcementsOf(this.#spoken, state);
    this.#spoken = state;
    if (news.length) this.announce(news.join(" "));
    if (!this.isLive) this.#enable(false);
    this.focus.mend();
  }

  /** @param {PanelState} state */
  #sumUp({ queue, order, items }) {
    const isBusy = queue.active_count > 0 || order.some((id) => items[id]?.status === "queued");
    this.summary.hidden = queue.last_run === null || isBusy;
    // In the place of counts that say nothing, so that the end of a run moves nothing.
    this.header.counts.hidden = !this.summary.hidden && queue.pending_count === 0;
    if (queue.last_run === null || isBusy) return;
    const { text, mood } = runSummary(queue.last_run);
    say(this.summary, text);
    mark(this.summary, "data-mood", mood);
  }

  /** The state of a notebook that was saved may be old: the kernel is asked, and its silence is said. */
  async #greet() {
    this.#asked = performance.now();
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#fallSilent(true), SILENCE_MS);
    await this.kernel.sync().catch(() => {});
    clearTimeout(this.#silence);
    this.#fallSilent(false);
  }

  /** What is shown while the kernel does not answer, and once it does again. @param {boolean} isSilent */
  #fallSilent(isSilent) {
    if (this.isLive) {
      this.#isSilent = this.#isStale = isSilent;
      this.#warn(isSilent ? SILENT : "");
    }
    this.changed();
  }

  /** The state is the kernel's newest. */
  #hear() {
    // Not when it is painted: a hidden page is not.
    const state = this.model.get("snapshot");
    this.header.limits.notifier.heard(this.#noticed, state);
    this.#noticed = state;
    this.#heard = performance.now();
    this.#patience = QUIET_MS;
    this.#fallSilent(false);
  }

  /**
   * While something runs there is news every second. Without any, the last message of a burst was dropped by the server,
   * or the kernel was ended from elsewhere: it is asked, and more and more rarely again, since a front end learns late
   * that a kernel was shut down.
   */
  #tick() {
    if (!this.#isSilent) this.header.sample();
    if (this.list.isDue()) this.changed();
    if (!this.isLive || !this.sight.isShown || !this.state().queue.active_count) return;
    if (!this.#isStale && performance.now() - this.#heard > STALE_MS) {
      this.#isStale = true;
      this.changed();
    }
    if (performance.now() - Math.max(this.#heard, this.#asked) <= this.#patience) return;
    this.#patience *= 2;
    void this.#greet();
  }

  /** Nobody looked for a while, and nothing that only counts on was sent: the kernel is asked before it is shown again. */
  #appear() {
    this.#isStale = true;
    this.changed();
    void this.#greet();
  }

  /** JupyterLab marks the views of a widget whose kernel is gone with a class, and sends nothing to one that was ended. */
  #checkLife() {
    this.isLive = !this.el.closest(".jupyter-widgets-disconnected") && !this.kernel.isLost;
    mark(this.root, "data-live", String(this.isLive));
    if (!this.isLive) this.kernel.abandon();
    this.#warn(this.isLive ? "" : this.#obituary());
    this.#enable(this.isLive);
    this.changed();
  }

  #obituary() {
    const { order, items } = this.model.get("snapshot");
    const hadWork = order.some((id) => [...ACTIVE, ...PENDING].includes(items[id]?.status ?? ""));
    return hadWork ? GONE_AT_WORK : GONE;
  }

  /** @param {string} text */
  #warn(text) {
    this.banner.hidden = !text;
    say(this.banner, text);
  }

  /** What needs the kernel is off without one; what is read, opened and copied is not. @param {boolean} isOn */
  #enable(isOn) {
    for (const control of this.root.querySelectorAll(".gglib-act")) {
      mark(control, "aria-disabled", isOn && !control.hasAttribute("data-off") ? null : "true");
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

/**
 * A panel that gets shorter by itself would pull the cells below it up while somebody reads them: it keeps the height it
 * had until a person does something to it, or until it is out of sight.
 */
class HeldHeight {
  #most = 0;

  /** @param {HTMLElement} root @param {AbortSignal} signal */
  constructor(root, signal) {
    this.root = root;
    const sizes = new ResizeObserver(() => this.#keep());
    const sight = new IntersectionObserver(([seen]) => !seen?.isIntersecting && this.release());
    sizes.observe(root);
    sight.observe(root);
    signal.addEventListener("abort", () => {
      sizes.disconnect();
      sight.disconnect();
    });
  }

  release() {
    this.#most = 0;
    this.root.style.minHeight = "";
  }

  #keep() {
    const { height } = this.root.getBoundingClientRect();
    if (height <= this.#most) return;
    this.#most = height;
    this.root.style.minHeight = `${height}px`;
  }
}

/** What a person sees before the first download. @param {HTMLElement} el Where the view stands. */
function emptyState(el) {
  // Of all hosts marimo alone shows a widget in a shadow root, and has no magics.
  const hasMagics = !("host" in el.getRootNode());
  const command = hasMagics ? "%gguf queue owner/repo" : 'await gglib_nb.get_manager().queue_smart("owner/repo")';
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
