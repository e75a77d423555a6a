/**
 * Keyboard navigation: each row is one tab stop, the arrow keys move focus within and between rows. When a focused control is
 * removed, the nearest control gets the focus.
 */

const CONTROLS = "button, a[href]";

/** @param {Element} node */
const isRendered = (node) => node.getClientRects().length > 0;

/** Tracks the focus of one view. */
class Keys {
  /** The focused element and its ancestors, innermost first; empty if the focus is outside the view. @type {HTMLElement[]} */
  #focusPath = [];
  #rowIndex = -1;

  /** @param {PanelView} app @param {HTMLElement} root */
  constructor(app, root) {
    this.app = app;
    this.root = root;
    root.addEventListener("focusin", (event) => {
      this.#focusPath = /** @type {HTMLElement[]} */ (event.composedPath().filter((node) => node instanceof HTMLElement && root.contains(node)));
      const row = this.#focusPath.find((node) => node.matches(".gglib-row"));
      if (row) this.#setTabStop(row, /** @type {HTMLElement} */ (this.#focusPath[0]));
    });
    // A removed element also fires focusout, but is not rendered in the next microtask: then the path is kept, to move the focus.
    root.addEventListener("focusout", () =>
      queueMicrotask(() => {
        const [last] = this.#focusPath;
        if (last && isRendered(last) && !last.matches(":focus")) this.#focusPath = [];
      }),
    );
  }

  /** Paints, and restores the focus if its element was moved or replaced. @param {() => void} paint */
  keepFocus(paint) {
    const [last] = this.#focusPath;
    const row = this.#focusPath.find((node) => node.matches(".gglib-row"));
    if (row) this.#rowIndex = rowElements(this.root).indexOf(row);
    paint();
    for (const other of rowElements(this.root)) {
      const stop = other.querySelector('[tabindex="0"]:is(button, a)');
      if (!stop || other.querySelector(":is(button, a[href]):not([tabindex])")) this.#setTabStop(other, stop);
    }
    if (!last) return;
    if (isRendered(last)) this.restore();
    else this.#focusNearest(row);
  }

  /** Focuses the last focused element again after it was removed from the page and reinserted. */
  restore() {
    const { activeElement } = /** @type {Document|ShadowRoot} */ (this.root.getRootNode());
    if (activeElement === null || activeElement === document.body) this.#focusPath[0]?.focus({ preventScroll: true });
  }

  /** Focuses the control nearest to a removed one. @param {HTMLElement|undefined} row */
  #focusNearest(row) {
    const connected = row?.isConnected ? row : undefined;
    const rows = rowElements(this.root);
    const replacement = row && !connected ? rows[Math.min(this.#rowIndex, rows.length - 1)] : undefined;
    const around = connected ?? replacement ?? this.#focusPath.find((node) => node.isConnected && isRendered(node));
    const target = (connected ?? replacement)?.querySelector(".gglib-open") ?? [...(around?.querySelectorAll(`${CONTROLS}, input`) ?? [])].find(isRendered);
    /** @type {HTMLElement|undefined} */ (target ?? undefined)?.focus({ preventScroll: true });
  }

  /** Makes one control of a row its tab stop. @param {HTMLElement} row @param {Element|null} wanted */
  #setTabStop(row, wanted) {
    const all = [...row.querySelectorAll(CONTROLS)];
    const stop = wanted?.matches(CONTROLS) ? wanted : (row.querySelector(".gglib-open") ?? all[0]);
    for (const control of all) {
      const index = control === stop ? "0" : "-1";
      if (control.getAttribute("tabindex") !== index) control.setAttribute("tabindex", index);
    }
  }

  /** @param {KeyboardEvent} event @param {Row} row @param {string} at The key of the row's feedback. */
  onKeyDown(event, row, at) {
    const element = /** @type {HTMLElement} */ (event.currentTarget);
    const target = /** @type {HTMLElement} */ (event.target);
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (target.tagName === "PRE") return;
    if (step !== undefined && event.altKey) this.#moveRow(step, row, at);
    else if (step !== undefined) this.#focusRow(element, step, target.dataset.action);
    else if (!this.#focusInRow(element, event.key)) return;
    event.preventDefault();
  }

  /** @param {number} step @param {Row} row @param {string} at */
  #moveRow(step, { actions = [], id }, at) {
    const action = actions.find((one) => one.id === (step < 0 ? "up" : "down"));
    if (!action || action.is_off || !this.app.isLive) return;
    this.app.hold.suspend();
    void this.app.requests.send(at, action.id, { action: action.id, id });
  }

  /** Focuses the same control of the next row, or its tab stop. @param {HTMLElement} row @param {number} step @param {string} [action] */
  #focusRow(row, step, action) {
    const rows = rowElements(this.root);
    const next = rows[rows.indexOf(row) + step];
    const same = action && next?.querySelector(`[data-action="${action}"]`);
    /** @type {HTMLElement|null|undefined} */ (same || next?.querySelector('[tabindex="0"]:is(button, a)'))?.focus();
  }

  /** Moves the focus within a row; false for other keys. @param {HTMLElement} row @param {string} key */
  #focusInRow(row, key) {
    const stops = [...row.querySelectorAll(CONTROLS)].filter(isRendered);
    const now = stops.findIndex((stop) => stop.matches(":focus"));
    const last = stops.length - 1;
    const to = { ArrowLeft: Math.max(0, now - 1), ArrowRight: Math.min(last, now + 1), Home: 0, End: last }[key];
    if (to !== undefined) /** @type {HTMLElement|undefined} */ (stops[to])?.focus();
    return to !== undefined;
  }
}
