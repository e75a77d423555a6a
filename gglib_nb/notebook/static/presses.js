/**
 * Presses on a list that moves. A second press at the same place is meant for what the first one was, whatever has come
 * under the pointer since. Pure: the time and the place are arguments.
 */

/** A double press, and a second one that waited for the first to show. */
const SAME_PRESS_MS = 1500;
const NEAR_PX = 12;

/** @typedef {{key: string, action: string}} Target */
/** @typedef {{x: number, y: number, atMs: number}} Point */

/** Remembers the last press. */
export class Presses {
  #last = /** @type {(Target & Point)|null} */ (null);

  /**
   * What a press is meant for: what is under the pointer, the row that was pressed before and has moved on, or nothing.
   * @param {Target} target @param {Point} point @returns {Target|null}
   */
  meant(target, point) {
    const last = this.#last;
    const isSecond =
      last !== null &&
      point.atMs - last.atMs < SAME_PRESS_MS &&
      Math.hypot(point.x - last.x, point.y - last.y) < NEAR_PX;
    if (!isSecond || (last.key === target.key && last.action === target.action)) {
      this.#last = { ...target, ...point };
      return target;
    }
    this.#last = { ...last, ...point };
    const { key, action } = last;
    return isMove(action) ? { key, action } : null;
  }
}

/** Pressed twice, a row moves twice; nothing else is wanted twice. @param {string} action */
const isMove = (action) => action === "up" || action === "down";
