/**
 * The focus of a control that goes away is handed to what stands nearest to it, so that a person at the keyboard is never
 * thrown back to the top of the page. Knows nothing of what the controls do.
 */

/** Remembers what has the focus in the panel, and where it stands. */
export class KeptFocus {
  /** What has the focus and all that it stands in, from the inside out; empty where a person is elsewhere. */
  #path = /** @type {HTMLElement[]} */ ([]);

  /** @param {HTMLElement} root */
  constructor(root) {
    const isInside = (/** @type {EventTarget} */ node) => node instanceof HTMLElement && root.contains(node);
    const enter = (/** @type {Event} */ event) => {
      this.#path = /** @type {HTMLElement[]} */ (event.composedPath().filter(isInside));
    };
    const leave = () =>
      // Told of what is taken away while it is still there; told of a person who has gone elsewhere for good.
      queueMicrotask(() => {
        const [last] = this.#path;
        if (last && isSeen(last) && !last.matches(":focus")) this.#path = [];
      });
    root.addEventListener("focusin", enter);
    root.addEventListener("focusout", leave);
  }

  /** To be called when the panel was taken out of the page and put in again, which takes the focus away. */
  restore() {
    if (document.activeElement === document.body) this.#path[0]?.focus({ preventScroll: true });
  }

  /** To be called when something may have gone. */
  mend() {
    const [last] = this.#path;
    if (!last || isSeen(last)) return;
    const around = this.#path.find(isSeen);
    const controls = /** @type {NodeListOf<HTMLElement>|undefined} */ (around?.querySelectorAll("button, a[href], input"));
    [...(controls ?? [])].find(isSeen)?.focus({ preventScroll: true });
  }
}

/** @param {HTMLElement} node */
const isSeen = (node) => node.getClientRects().length > 0;
