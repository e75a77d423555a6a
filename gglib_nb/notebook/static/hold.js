/**
 * Rows stay where they are while a pointer is at work among them; they are dragged by their grips.
 */

/** A pointer that has not moved for so long aims at nothing. */
const REST_MS = 3000;
const FREE_MS = 700;
const NEAR_PX = 4;
const EDGE_PX = 24;
const STEP_PX = 12;

/** @typedef {{key: string, list: string, title?: string, view?: View, row?: Row, count?: number}} Entry */

/** What the lists show, from top to bottom. @param {PanelState} state @returns {Entry[]} */
function entriesOf({ views, rows }) {
  return views.flatMap((view) => {
    const shown = (view.rows ?? []).flatMap((id) => rows[id] ?? []);
    const heading = view.title ? [{ key: `§${view.id}`, list: view.id, title: view.title, view, count: shown.length }] : [];
    return [...heading, ...shown.map((row) => ({ key: row.id, list: view.id, row }))];
  });
}

/**
 * The entries in the order that a person has under the pointer: nothing moves, headings stay, what is new comes last. A heading
 * counts what is below it and of its list; one without any is not added.
 * @param {Entry[]} shown @param {Entry[]} next @returns {Entry[]}
 */
function heldOrder(shown, next) {
  const fresh = new Map(next.map((entry) => [entry.key, entry]));
  const kept = shown.flatMap((old) => fresh.get(old.key) ?? (old.title ? old : []));
  const known = new Set(kept.map(({ key }) => key));
  const held = [...kept, ...next.filter(({ key }) => !known.has(key))];
  return held
    .map((entry, at) => (entry.title ? { ...entry, count: countBelow(held, at) } : entry))
    .filter((entry) => !entry.title || entry.count || known.has(entry.key));
}

/** How many rows below a heading are of its list. @param {Entry[]} entries @param {number} at */
function countBelow(entries, at) {
  const end = entries.findIndex((entry, index) => index > at && entry.title);
  return entries.slice(at + 1, end < 0 ? undefined : end).filter(({ list }) => list === entries[at]?.list).length;
}

/** Whether rows may move now. */
class Hold {
  #untilMs = 0;
  #freeUntilMs = 0;
  #isDragging = false;
  isHeld = false;
  shown = /** @type {Entry[]} */ ([]);
  #moved = /** @type {{id: string, x: number, y: number}|null} */ (null);

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  /** What a list tells of its pointer. */
  handlers() {
    return {
      onpointermove: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerleave: () => {
        this.#untilMs = 0;
        this.#moved = null;
        this.changed();
      },
    };
  }

  /** @param {PointerEvent} event */
  #point({ pointerType, clientX, clientY }) {
    if (pointerType !== "touch") this.#untilMs = performance.now() + REST_MS;
    if (this.#moved && Math.hypot(clientX - this.#moved.x, clientY - this.#moved.y) > NEAR_PX) this.#moved = null;
  }

  /** Which row a press on a move button is meant for: the one that the press before moved away, if the pointer has not moved since. @param {MouseEvent} event @param {string} id */
  again({ clientX: x, clientY: y }, id) {
    this.#moved = { id: this.#moved?.id ?? id, x, y };
    return this.#moved.id;
  }

  /** Who asked for a change may see it although the pointer is here. */
  free() {
    this.#freeUntilMs = performance.now() + FREE_MS;
    this.changed();
  }

  get #holds() {
    const nowMs = performance.now();
    return this.#isDragging || (nowMs < this.#untilMs && nowMs > this.#freeUntilMs);
  }

  /** Whether it is to be painted although there is no news: a pointer has come to rest. */
  get isDue() {
    return this.isHeld && !this.#holds;
  }

  /** The order to show; rows keep their height while they are held. @param {Entry[]} next @param {Iterable<HTMLElement>} rows */
  order(next, rows) {
    if (this.#holds !== this.isHeld) {
      this.isHeld = this.#holds;
      for (const row of rows) row.style.setProperty("--gg-held", this.isHeld ? `${row.getBoundingClientRect().height}px` : "");
    }
    this.shown = this.isHeld ? heldOrder(this.shown, next) : next;
    return this.shown;
  }

  /**
   * Follows a row that is dragged by its grip, with a mouse, a pen or a finger, until it is let go.
   * @param {PointerEvent} start @param {Row} dragged @param {HTMLElement} list
   * @returns {Promise<number|null>} the position to move it to; null for none
   */
  async drag(start, dragged, list) {
    const grip = /** @type {HTMLElement} */ (start.currentTarget);
    const row = /** @type {HTMLElement} */ (grip.closest(".gglib-row"));
    const places = this.shown.flatMap(({ row: one }) => (one?.position ? [one] : []));
    const over = new AbortController();
    const { signal } = over;
    const from = dragged.position ?? 0;
    let position = from;
    start.preventDefault();
    grip.focus();
    grip.setPointerCapture(start.pointerId);
    this.#isDragging = true;
    const isDropped = await new Promise((resolve) => {
      const follow = (/** @type {PointerEvent} */ { clientY }) => {
        const box = list.getBoundingClientRect();
        list.scrollTop += clientY < box.top + EDGE_PX ? -STEP_PX : clientY > box.bottom - EDGE_PX ? STEP_PX : 0;
        row.classList.add("is-dragged");
        row.style.transform = `translateY(${clientY - start.clientY}px)`;
        position = positionAt(clientY, places, from, list);
        showTarget(places, list, position, from);
      };
      grip.addEventListener("pointermove", follow, { signal });
      grip.addEventListener("pointerup", () => resolve(true), { signal });
      grip.addEventListener("lostpointercapture", () => resolve(false), { signal });
      grip.addEventListener("keydown", ({ key }) => key === "Escape" && resolve(false), { signal });
    });
    over.abort();
    this.#isDragging = false;
    row.style.transform = "";
    row.classList.remove("is-dragged");
    showTarget(places, list, null, from);
    return isDropped && position !== from ? position : null;
  }
}

/** @param {HTMLElement} list @param {string} id */
const rowElement = (list, id) => /** @type {HTMLElement|null} */ (list.querySelector(`.gglib-row[data-key="${CSS.escape(id)}"]`));

/** The furthest position whose row the pointer has passed the middle of. @param {number} y @param {Row[]} rows @param {number} from @param {HTMLElement} list */
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

/** @param {Row[]} rows @param {HTMLElement} list @param {number|null} position @param {number} from */
function showTarget(rows, list, position, from) {
  const side = position !== null && position < from ? "before" : "after";
  for (const { id, position: at } of rows) {
    const element = rowElement(list, id);
    if (at === position && at !== from) element?.setAttribute("data-drop", side);
    else element?.removeAttribute("data-drop");
  }
}
