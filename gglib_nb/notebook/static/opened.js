/**
 * Which rows a person has opened or closed, remembered by the browser tab, so that a reload or a second view finds them so.
 */

const PLACE = "gglib_nb opened rows";
const MOST_REMEMBERED = 200;

/** What a person chose for a row; a row nobody touched has no entry. */
export class Opened {
  #chosen = new Map(recalled());

  /** @param {string} id */
  get(id) {
    return this.#chosen.get(id);
  }

  /** @param {string} id @param {boolean} isOpen */
  set(id, isOpen) {
    this.#chosen.delete(id);
    this.#chosen.set(id, isOpen);
    try {
      sessionStorage.setItem(PLACE, JSON.stringify([...this.#chosen].slice(-MOST_REMEMBERED)));
    } catch {
      // A host may forbid it or be full; the choice holds in this view all the same.
    }
  }
}

/** @returns {[string, boolean][]} */
function recalled() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE) ?? "[]");
  } catch {
    return [];
  }
}
