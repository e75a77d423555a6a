/**
 * Dragging a waiting row by its grip, with a mouse, a pen or a finger. Decides on a position, moves nothing itself.
 */

import { mark } from "./dom.js";

/** @import { Row } from "./row.js" */

const EDGE = 24;
const STEP = 12;

/**
 * Follows the pointer until it lets go.
 * @param {PointerEvent} start @param {Row} row @param {() => Row[]} others @param {HTMLElement} scroller
 * @returns {Promise<number|null>} the position to move to; null where nothing is to be moved
 */
export function dragged(start, row, others, scroller) {
  const over = new AbortController();
  const { signal } = over;
  let position = row.item.position;
  row.grip.focus();
  row.grip.setPointerCapture(start.pointerId);
  return new Promise((resolve) => {
    const end = (/** @type {boolean} */ isDropped) => {
      over.abort();
      row.element.style.transform = "";
      row.element.classList.remove("is-dragged");
      showTarget(others(), row, null);
      resolve(isDropped && position !== row.item.position ? position : null);
    };
    const follow = (/** @type {PointerEvent} */ { clientY }) => {
      const box = scroller.getBoundingClientRect();
      scroller.scrollTop += clientY < box.top + EDGE ? -STEP : clientY > box.bottom - EDGE ? STEP : 0;
      row.element.classList.add("is-dragged");
      row.element.style.transform = `translateY(${clientY - start.clientY}px)`;
      position = positionAt(clientY, others(), row.item.position);
      showTarget(others(), row, position);
    };
    row.grip.addEventListener("pointermove", follow, { signal });
    row.grip.addEventListener("pointerup", () => end(true), { signal });
    row.grip.addEventListener("lostpointercapture", () => end(false), { signal });
    row.grip.addEventListener("keydown", ({ key }) => key === "Escape" && end(false), { signal });
  });
}

/** The furthest position whose row the pointer has passed the middle of. @param {number} y @param {Row[]} rows @param {number} from */
function positionAt(y, rows, from) {
  let position = from;
  for (const { element, item } of rows) {
    const box = element.getBoundingClientRect();
    const middle = (box.top + box.bottom) / 2;
    if (item.position < from && y < middle) position = Math.min(position, item.position);
    if (item.position > from && y > middle) position = Math.max(position, item.position);
  }
  return position;
}

/** @param {Row[]} rows @param {Row} row @param {number|null} position */
function showTarget(rows, row, position) {
  const side = position !== null && position < row.item.position ? "before" : "after";
  for (const { element, item } of rows) {
    mark(element, "data-drop", item !== row.item && item.position === position ? side : null);
  }
}
