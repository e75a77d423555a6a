/**
 * Where a person is in a view: what has the focus, and how far its parts are scrolled. A page forgets both of what is taken
 * out of it and put in again elsewhere, even at the same moment.
 */

/** @import { KeptFocus } from "./focus.js" */

/** Keeps it of one view. */
export class Bearings {
  #scrolled = /** @type {Map<Element, number>} */ (new Map());

  /** @param {HTMLElement} root @param {KeptFocus} focus @param {AbortSignal} signal */
  constructor(root, focus, signal) {
    this.root = root;
    this.focus = focus;
    this.signal = signal;
    const note = (/** @type {Event} */ { target }) => {
      const element = /** @type {Element} */ (target);
      this.#scrolled.set(element, element.scrollTop);
    };
    root.addEventListener("scroll", note, { capture: true, passive: true });
  }

  /** Puts back what was lost on the way, as soon as the view is in the page again. */
  restore() {
    if (this.root.isConnected) return this.#putBack();
    // In that very moment: the next key would go to the notebook, and with two of them it deletes a cell.
    const arrival = new MutationObserver(() => {
      if (!this.root.isConnected) return;
      arrival.disconnect();
      this.#putBack();
    });
    arrival.observe(document, { childList: true, subtree: true });
    this.signal.addEventListener("abort", () => arrival.disconnect());
  }

  #putBack() {
    for (const [element, top] of this.#scrolled) element.scrollTop = top;
    this.focus.restore();
  }
}
