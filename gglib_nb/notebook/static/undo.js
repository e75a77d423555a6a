/**
 * What was cancelled from this page a moment ago, and where it stood: for ten seconds it can be had back. Pure: the time is
 * an argument.
 */

const UNDO_MS = 10_000;

/** @typedef {{position: number, untilMs: number}} Place */

/** The downloads that can still be had back. */
export class Undo {
  #places = /** @type {Map<string, Place>} */ (new Map());

  /** @param {{id: string, position: number}} item One that runs stood before all that wait. @param {number} nowMs */
  note({ id, position }, nowMs) {
    this.#places.set(id, { position: Math.max(1, position), untilMs: nowMs + UNDO_MS });
  }

  /** @param {string} id */
  forget(id) {
    this.#places.delete(id);
  }

  /** Where it stood, while it can be had back. @param {string} id @param {number} nowMs @returns {number|null} */
  positionOf(id, nowMs) {
    const place = this.#places.get(id);
    return place && nowMs < place.untilMs ? place.position : null;
  }

  /** @param {number} nowMs */
  hasExpired(nowMs) {
    return [...this.#places.values()].some(({ untilMs }) => nowMs >= untilMs);
  }

  /** Those whose time is over, once. @param {number} nowMs */
  expired(nowMs) {
    const over = [...this.#places].flatMap(([id, { untilMs }]) => (nowMs < untilMs ? [] : [id]));
    for (const id of over) this.#places.delete(id);
    return over;
  }
}
