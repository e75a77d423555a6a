/**
 * Keeps the order of the rows while the pointer moves over them, so that no click hits the wrong row. Also drag and drop.
 */

/** A pointer that has not moved for this long no longer holds the rows. */
const REST_MS = 3000;
const SUSPENDED_MS = 700;
const MOVED_PX = 4;
const SCROLL_EDGE_PX = 24;
const SCROLL_STEP_PX = 12;

/** @typedef {{key: string, list: string, title?: string, view?: View, row?: Row, count?: number}} Entry */

/** The headings and rows of all views, from top to bottom. @param {PanelState} state @returns {Entry[]} */
function entriesOf({ views, rows }) {
  return views.flatMap((view) => {
    const shown = (view.rows ?? []).flatMap((id) => rows[id] ?? []);
    const heading = view.title ? [{ key: `§${view.id}`, list: view.id, title: view.title, view, count: shown.length }] : [];
    return [...heading, ...shown.map((row) => ({ key: row.id, list: view.id, row }))];
  });
}

/**
 * The next entries in the order shown now: rows and headings keep their places, new entries are appended. A heading counts the rows
 * of its list below it; a heading without rows is not added.
 * @param {Entry[]} shown @param {Entry[]} next @returns {Entry[]}
 */
function heldOrder(shown, next) {
  const nextByKey = new Map(next.map((entry) => [entry.key, entry]));
  const kept = shown.flatMap((old) => nextByKey.get(old.key) ?? (old.title ? old : []));
  const known = new Set(kept.map(({ key }) => key));
  const held = [...kept, ...next.filter(({ key }) => !known.has(key))];
  return held
    .map((entry, at) => (entry.title ? { ...entry, count: countBelow(held, at) } : entry))
    .filter((entry) => !entry.title || entry.count || known.has(entry.key));
}

/** The number of rows of a heading's list up to the next heading. @param {Entry[]} entries @param {number} at */
function countBelow(entries, at) {
  const end = entries.findIndex((entry, index) => index > at && entry.title);
  return entries.slice(at + 1, end < 0 ? undefined : end).filter(({ list }) => list === entries[at]?.list).length;
}

/** Decides whether rows may be reordered now. */
class Hold {
  #activeUntilMs = 0;
  #suspendedUntilMs = 0;
  #isDragging = false;
  isHeld = false;
  shown = /** @type {Entry[]} */ ([]);
  #lastMove = /** @type {{id: string, x: number, y: number}|null} */ (null);

  /** @param {() => void} schedulePaint */
  constructor(schedulePaint) {
    this.schedulePaint = schedulePaint;
  }

  /** The pointer event handlers of the list. */
  handlers() {
    return {
      onpointermove: (/** @type {PointerEvent} */ event) => this.#onPointer(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#onPointer(event),
      onpointerleave: () => {
        this.#activeUntilMs = 0;
        this.#lastMove = null;
        this.schedulePaint();
      },
    };
  }

  /** @param {PointerEvent} event */
  #onPointer({ pointerType, clientX, clientY }) {
    if (pointerType !== "touch") this.#activeUntilMs = performance.now() + REST_MS;
    if (this.#lastMove && Math.hypot(clientX - this.#lastMove.x, clientY - this.#lastMove.y) > MOVED_PX) this.#lastMove = null;
  }

  /** The id of the row that a press on a move button applies to: the previously moved row, unless the pointer has moved since. @param {MouseEvent} event @param {string} id */
  moveTarget({ clientX: x, clientY: y }, id) {
    this.#lastMove = { id: this.#lastMove?.id ?? id, x, y };
    return this.#lastMove.id;
  }

  /** Lets rows move for a moment despite the pointer, because the user requested a change. */
  suspend() {
    this.#suspendedUntilMs = performance.now() + SUSPENDED_MS;
    this.schedulePaint();
  }

  get #isActive() {
    const nowMs = performance.now();
    return this.#isDragging || (nowMs < this.#activeUntilMs && nowMs > this.#suspendedUntilMs);
  }

  /** Whether the hold has ended and the view needs a paint. */
  get isOver() {
    return this.isHeld && !this.#isActive;
  }

  /** The entries to show; held rows keep their height. @param {Entry[]} next @param {Iterable<HTMLElement>} rows */
  order(next, rows) {
    if (this.#isActive !== this.isHeld) {
      this.isHeld = this.#isActive;
      for (const row of rows) row.style.setProperty("--gg-held", this.isHeld ? `${row.getBoundingClientRect().height}px` : "");
    }
    this.shown = this.isHeld ? heldOrder(this.shown, next) : next;
    return this.shown;
  }

  /**
   * Moves a row with the pointer (mouse, pen or touch) until it is dropped or the drag is cancelled.
   * @param {PointerEvent} start @param {Row} dragged @param {HTMLElement} list
   * @returns {Promise<number|null>} The new position; null if unchanged or cancelled.
   */
  async drag(start, dragged, list) {
    const grip = /** @type {HTMLElement} */ (start.currentTarget);
    const row = /** @type {HTMLElement} */ (grip.closest(".gglib-row"));
    const queued = this.shown.flatMap(({ row: one }) => (one?.position ? [one] : []));
    const dragging = new AbortController();
    const { signal } = dragging;
    const from = dragged.position ?? 0;
    let position = from;
    start.preventDefault();
    grip.focus();
    grip.setPointerCapture(start.pointerId);
    this.#isDragging = true;
    const isDropped = await new Promise((resolve) => {
      const onMove = (/** @type {PointerEvent} */ { clientY }) => {
        const box = list.getBoundingClientRect();
        list.scrollTop += clientY < box.top + SCROLL_EDGE_PX ? -SCROLL_STEP_PX : clientY > box.bottom - SCROLL_EDGE_PX ? SCROLL_STEP_PX : 0;
        row.classList.add("is-dragged");
        row.style.transform = `translateY(${clientY - start.clientY}px)`;
        position = positionAt(clientY, queued, from, list);
        showTarget(queued, list, position, from);
      };
      grip.addEventListener("pointermove", onMove, { signal });
      grip.addEventListener("pointerup", () => resolve(true), { signal });
      grip.addEventListener("lostpointercapture", () => resolve(false), { signal });
      grip.addEventListener("keydown", ({ key }) => key === "Escape" && resolve(false), { signal });
    });
    dragging.abort();
    this.#isDragging = false;
    row.style.transform = "";
    row.classList.remove("is-dragged");
    showTarget(queued, list, null, from);
    return isDropped && position !== from ? position : null;
  }
}

/** @param {HTMLElement} list @param {string} id */
const rowElement = (list, id) => /** @type {HTMLElement|null} */ (list.querySelector(`.gglib-row[data-key="${CSS.escape(id)}"]`));

/** The rows of all lists, from top to bottom. @param {HTMLElement} root */
const rowElements = (root) => /** @type {HTMLElement[]} */ ([...root.querySelectorAll(".gglib-list .gglib-row")]);

/** The drop position: the furthest row whose middle the pointer has passed. @param {number} y @param {Row[]} rows @param {number} from @param {HTMLElement} list */
function positionAt(y, rows, from, list) {
  let position = from;
  for (const { id, position: at = 0 } of rows) {
    const box = rowElement(list, id)?.getBoundingClientRect();
    if (!box) continue;
    const middle = (box.top + box.bottom) / 2;
    if (at < from && y < middle) position = Math.min(position, at);
    if (at > from && y > middle) position = Math.max(position, at);
  }
  return position;
}

/** Marks the drop position in the list; null clears the mark. @param {Row[]} rows @param {HTMLElement} list @param {number|null} position @param {number} from */
function showTarget(rows, list, position, from) {
  const side = position !== null && position < from ? "before" : "after";
  for (const { id, position: at } of rows) {
    const element = rowElement(list, id);
    if (at === position && at !== from) element?.setAttribute("data-drop", side);
    else element?.removeAttribute("data-drop");
  }
}
