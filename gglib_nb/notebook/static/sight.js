/**
 * What a person can see of this view: whether it is on the screen at all, and which rows. The kernel is told, so that it
 * sends nothing that only counts on where nobody looks.
 */

/** @import { View } from "./kernel.js" */

/** Tells the kernel what is in sight, and the view when it comes into sight again. */
export class Sight {
  #id = Math.random().toString(36).slice(2);
  #told = "";
  #isOnScreen = true;
  #wasShown = true;
  #rows = /** @type {string[]} */ ([]);
  #mapped = /** @type {string[]} */ ([]);

  /** @param {View} view @param {HTMLElement} root @param {AbortSignal} signal @param {() => void} appeared */
  constructor(view, root, signal, appeared) {
    this.view = view;
    this.appeared = appeared;
    const observer = new IntersectionObserver((entries) => {
      this.#isOnScreen = entries.some(({ isIntersecting }) => isIntersecting);
      this.#tell();
    });
    observer.observe(root);
    root.ownerDocument.addEventListener("visibilitychange", () => this.#tell(), { signal });
    signal.addEventListener("abort", () => {
      observer.disconnect();
      this.#isOnScreen = false;
      this.#tell();
    });
  }

  get isShown() {
    return this.#isOnScreen && !document.hidden;
  }

  /** @param {string[]} rows In sight. @param {string[]} mapped Those that show where the bytes of their files stand. */
  update(rows, mapped) {
    this.#rows = rows;
    this.#mapped = mapped;
    this.#tell();
  }

  /** Whoever has the kernel's ear now has not heard it yet. */
  forget() {
    this.#told = "";
  }

  #tell() {
    const { isShown } = this;
    if (isShown && !this.#wasShown) this.appeared();
    this.#wasShown = isShown;
    const sight = { is_shown: isShown, rows: isShown ? this.#rows : [], mapped: isShown ? this.#mapped : [] };
    const text = JSON.stringify(sight);
    if (text === this.#told || !this.view.isLive) return;
    this.#told = text;
    void this.view.kernel.ask("sight", { view: this.#id, ...sight }).catch(() => {});
  }
}
