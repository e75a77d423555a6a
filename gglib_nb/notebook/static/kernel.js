/**
 * Asking the kernel, and the page's one copy of what it said. Every question is asked again after a while until it is answered; the
 * kernel does each once.
 */

const DEADLINE_MS = 4000;
const LONGEST_MS = 60_000;

/** @typedef {{resolve: (result: any) => void, reject: (error: Error) => void, heard: (text: string) => void, timer: number}} Waiting */

/** Asks the kernel of one model. */
class Kernel {
  #waiting = /** @type {Map<string, Waiting>} */ (new Map());
  #prefix = Math.random().toString(36).slice(2);
  #count = 0;
  /** @type {Promise<void>|null} */
  #syncing = null;
  isLost = false;

  /** @param {Model} model @param {() => void} lost Called when nothing can be sent any more. */
  constructor(model, lost = () => {}) {
    this.model = model;
    this.lost = lost;
    this.receive = (/** @type {Reply|Progress|Changes} */ message) => {
      if (message.kind === "reply") this.#settle(message);
      else if (message.kind === "progress") this.#waiting.get(message.cid)?.heard(message.text);
    };
    model.on("msg:custom", this.receive);
  }

  /** @param {string} kind @param {object} fields @param {(text: string) => void} heard How far it is, where the kernel says so. @returns {Promise<any>} */
  ask(kind, fields = {}, heard = () => {}) {
    const cid = `${this.#prefix}-${(this.#count += 1)}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(cid, { resolve, reject, heard, timer: 0 });
      this.#send({ cid, kind, ...fields }, DEADLINE_MS);
    });
  }

  /** @param {{cid: string, kind: string}} request @param {number} deadlineMs */
  #send(request, deadlineMs) {
    const waiting = this.#waiting.get(request.cid);
    if (!waiting) return;
    waiting.timer = window.setTimeout(() => this.#send(request, Math.min(2 * deadlineMs, LONGEST_MS)), deadlineMs);
    try {
      this.model.send(request);
    } catch {
      // A front end refuses to send to a kernel that was shut down or has died, and says so in no other way.
      this.isLost = true;
      this.abandon();
      this.lost();
    }
  }

  /** Brings the model up to date. Several at once are one. */
  sync() {
    this.#syncing ??= this.#sync().finally(() => (this.#syncing = null));
    return this.#syncing;
  }

  async #sync() {
    const state = /** @type {PanelState|null} */ (await this.ask("sync", { seq: this.model.get("snapshot").seq }));
    if (state) this.model.set("snapshot", state);
  }

  /** The kernel is gone: nothing that waits will be answered. */
  abandon() {
    const error = new Error(this.model.get("snapshot").texts.unanswered);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }

  close() {
    this.model.off("msg:custom", this.receive);
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }

  /** @param {Reply} reply */
  #settle({ cid, result, error, alternatives }) {
    const asked = this.#waiting.get(cid);
    if (!asked) return;
    this.#waiting.delete(cid);
    clearTimeout(asked.timer);
    if (error) asked.reject(Object.assign(new Error(error), { alternatives: alternatives ?? [] }));
    else asked.resolve(result ?? null);
  }
}

/**
 * The next state; the same object where the changes are in it already, null where some are missing in between.
 * @param {PanelState} state @param {Changes} changes @returns {PanelState|null}
 */
function applied(state, { seq, header, views, rows }) {
  if (seq <= state.seq) return state;
  if (seq !== state.seq + 1) return null;
  const next = { ...state, seq, header: header ?? state.header, views: views ?? state.views, rows: { ...state.rows } };
  for (const row of rows ?? []) next.rows[row.id] = row;
  if (views) {
    const kept = new Set(views.flatMap((view) => view.rows ?? []));
    for (const id of Object.keys(next.rows)) if (!kept.has(id)) delete next.rows[id];
  }
  return next;
}

/**
 * Once per model: changes go into the model's own `snapshot`, so that a new view and a notebook saved with its widgets have the
 * newest state. `save_changes` is never called: the kernel knows better.
 * @param {Model} model
 */
function follow(model) {
  const kernel = new Kernel(model);
  model.on("msg:custom", (/** @type {Changes} */ message) => {
    if (message.kind !== "changes") return;
    const next = applied(model.get("snapshot"), message);
    if (next) model.set("snapshot", next);
    else void kernel.sync().catch(() => {});
  });
  model.on("comm_live_update", () => kernel.abandon());
}
