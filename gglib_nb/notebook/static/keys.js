/**
 * The keyboard: a row is one stop of the Tab key, the arrows lead on from there, and focus is never lost. A control that goes away
 * hands its focus to what is nearest to it.
 */

const CONTROLS = "button, a[href]";

/** @param {Element} node */
const isSeen = (node) => node.getClientRects().length > 0;

/** Knows what has the focus in one view. */
class Keys {
  /** What has the focus and all that it is in, from the inside out; empty where a person is elsewhere. @type {HTMLElement[]} */
  #path = [];
  #rowIndex = -1;

  /** @param {PanelView} app @param {HTMLElement} root */
  constructor(app, root) {
    this.app = app;
    this.root = root;
    root.addEventListener("focusin", (event) => {
      this.#path = /** @type {HTMLElement[]} */ (event.composedPath().filter((node) => node instanceof HTMLElement && root.contains(node)));
      const row = this.#path.find((node) => node.matches(".gglib-row"));
      if (row) this.#stopAt(row, /** @type {HTMLElement} */ (this.#path[0]));
    });
    // Of what is taken away the page hears while it is still there; of a person who goes elsewhere, for good.
    root.addEventListener("focusout", () =>
      queueMicrotask(() => {
        const [last] = this.#path;
        if (last && isSeen(last) && !last.matches(":focus")) this.#path = [];
      }),
    );
  }

  /** To be called around a paint: what was moved or replaced keeps the focus. @param {() => void} paint */
  around(paint) {
    const [last] = this.#path;
    const row = this.#path.find((node) => node.matches(".gglib-row"));
    if (row) this.#rowIndex = this.#rows().indexOf(row);
    paint();
    for (const one of this.#rows()) {
      const stop = one.querySelector('[tabindex="0"]:is(button, a)');
      if (!stop || one.querySelector(":is(button, a[href]):not([tabindex])")) this.#stopAt(one, stop);
    }
    if (!last) return;
    if (isSeen(last)) this.restore();
    else this.#handOn(row);
  }

  /** Puts the focus back after what has it was taken out of the page and put in again. */
  restore() {
    const { activeElement } = /** @type {Document|ShadowRoot} */ (this.root.getRootNode());
    if (activeElement === null || activeElement === document.body) this.#path[0]?.focus({ preventScroll: true });
  }

  /** @param {HTMLElement|undefined} row */
  #handOn(row) {
    const stays = row?.isConnected ? row : undefined;
    const rows = this.#rows();
    const inPlace = row && !stays ? rows[Math.min(this.#rowIndex, rows.length - 1)] : undefined;
    const around = stays ?? inPlace ?? this.#path.find((node) => node.isConnected && isSeen(node));
    const target = (stays ?? inPlace)?.querySelector(".gglib-open") ?? [...(around?.querySelectorAll(`${CONTROLS}, input`) ?? [])].find(isSeen);
    /** @type {HTMLElement|undefined} */ (target ?? undefined)?.focus({ preventScroll: true });
  }

  /** @returns {HTMLElement[]} */
  #rows() {
    return [...this.root.querySelectorAll(".gglib-list .gglib-row")].map((row) => /** @type {HTMLElement} */ (row));
  }

  /** Makes one control of a row the stop of the Tab key. @param {HTMLElement} row @param {Element|null} wanted */
  #stopAt(row, wanted) {
    const all = [...row.querySelectorAll(CONTROLS)];
    const stop = wanted?.matches(CONTROLS) ? wanted : (row.querySelector(".gglib-open") ?? all[0]);
    for (const control of all) {
      const index = control === stop ? "0" : "-1";
      if (control.getAttribute("tabindex") !== index) control.setAttribute("tabindex", index);
    }
  }

  /** @param {KeyboardEvent} event @param {Row} row @param {string} at The row's place. */
  row(event, row, at) {
    const element = /** @type {HTMLElement} */ (event.currentTarget);
    const target = /** @type {HTMLElement} */ (event.target);
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (target.tagName === "PRE") return;
    if (step !== undefined && event.altKey) this.#shift(step, row, at);
    else if (step !== undefined) this.#enter(element, step, target.dataset.action);
    else if (!this.#walk(element, event.key)) return;
    event.preventDefault();
  }

  /** @param {number} step @param {Row} row @param {string} at */
  #shift(step, { actions = [], id }, at) {
    const action = actions.find((one) => one.id === (step < 0 ? "up" : "down"));
    if (!action || action.is_off || !this.app.isLive) return;
    this.app.hold.free();
    void this.app.asking.send(at, action.id, { action: action.id, id });
  }

  /** Goes to the same control of the next row, or to its stop. @param {HTMLElement} row @param {number} step @param {string} [action] */
  #enter(row, step, action) {
    const rows = this.#rows();
    const next = rows[rows.indexOf(row) + step];
    const same = action && next?.querySelector(`[data-action="${action}"]`);
    /** @type {HTMLElement|null|undefined} */ (same || next?.querySelector('[tabindex="0"]:is(button, a)'))?.focus();
  }

  /** @param {HTMLElement} row @param {string} key */
  #walk(row, key) {
    const stops = [...row.querySelectorAll(CONTROLS)].filter(isSeen);
    const now = stops.findIndex((stop) => stop.matches(":focus"));
    const last = stops.length - 1;
    const to = { ArrowLeft: Math.max(0, now - 1), ArrowRight: Math.min(last, now + 1), Home: 0, End: last }[key];
    if (to !== undefined) /** @type {HTMLElement|undefined} */ (stops[to])?.focus();
    return to !== undefined;
  }
}
