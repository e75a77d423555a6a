/**
 * Requests to the kernel, and the page's copy of the kernel's state. A request without a reply is sent again with the same id and a
 * growing delay; the kernel executes it once.
 */

const DEADLINE_MS = 4000;
const MAX_DEADLINE_MS = 60_000;

/** @typedef {{resolve: (result: any) => void, reject: (error: Error) => void, onProgress: (text: string) => void, timer: number}} PendingRequest */

class Kernel {
  #pending = /** @type {Map<string, PendingRequest>} */ (new Map());
  #prefix = Math.random().toString(36).slice(2);
  #count = 0;
  /** @type {Promise<void>|null} */
  #syncing = null;
  isLost = false;

  /** @param {Model} model @param {() => void} onLost Called when the front end refuses to send. */
  constructor(model, onLost = () => {}) {
    this.model = model;
    this.onLost = onLost;
    this.receive = (/** @type {Reply|Progress|Changes} */ message) => {
      if (message.kind === "reply") this.#settle(message);
      else if (message.kind === "progress") this.#pending.get(message.cid)?.onProgress(message.text);
    };
    model.on("msg:custom", this.receive);
  }

  /** @param {string} kind @param {object} fields @param {(text: string) => void} onProgress @returns {Promise<any>} */
  ask(kind, fields = {}, onProgress = () => {}) {
    const cid = `${this.#prefix}-${(this.#count += 1)}`;
    return new Promise((resolve, reject) => {
      this.#pending.set(cid, { resolve, reject, onProgress, timer: 0 });
      this.#send({ cid, kind, ...fields }, DEADLINE_MS);
    });
  }

  /** @param {{cid: string, kind: string}} request @param {number} deadlineMs */
  #send(request, deadlineMs) {
    const pending = this.#pending.get(request.cid);
    if (!pending) return;
    pending.timer = window.setTimeout(() => this.#send(request, Math.min(2 * deadlineMs, MAX_DEADLINE_MS)), deadlineMs);
    try {
      this.model.send(request);
    } catch {
      // Front ends throw here when the kernel was shut down or has died; they report it in no other way.
      this.isLost = true;
      this.rejectAll();
      this.onLost();
    }
  }

  /** Requests the state, if the model's is out of date. Concurrent calls share one request. */
  sync() {
    this.#syncing ??= this.#sync().finally(() => (this.#syncing = null));
    return this.#syncing;
  }

  async #sync() {
    const state = /** @type {PanelState|null} */ (await this.ask("sync", { seq: this.model.get("snapshot").seq }));
    if (state) this.model.set("snapshot", state);
  }

  /** Rejects every pending request, because the kernel will not reply. */
  rejectAll() {
    const error = new Error(this.model.get("snapshot").texts.unanswered);
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }

  close() {
    this.model.off("msg:custom", this.receive);
    for (const { timer } of this.#pending.values()) clearTimeout(timer);
    this.#pending.clear();
  }

  /** @param {Reply} reply */
  #settle({ cid, result, error, alternatives }) {
    const pending = this.#pending.get(cid);
    if (!pending) return;
    this.#pending.delete(cid);
    clearTimeout(pending.timer);
    if (error) pending.reject(Object.assign(new Error(error), { alternatives: alternatives ?? [] }));
    else pending.resolve(result ?? null);
  }
}

/**
 * The state after these changes; the same object if it already contains them, null if earlier changes are missing.
 * @param {PanelState} state @param {Changes} changes @returns {PanelState|null}
 */
function applied(state, { seq, header, views, rows }) {
  if (seq <= state.seq) return state;
  if (seq !== state.seq + 1) return null;
  const next = { ...state, seq, header: header ?? state.header, views: views ?? state.views, rows: { ...state.rows } };
  for (const row of JSON.parse(rows ?? "[]")) next.rows[row.id] = row;
  if (views) {
    const listed = new Set(views.flatMap((view) => view.rows ?? []));
    for (const id of Object.keys(next.rows)) if (!listed.has(id)) delete next.rows[id];
  }
  return next;
}

/**
 * Called once per model. Applies changes to the model's `snapshot`, so that new views and saved notebooks contain the latest state.
 * Never calls `save_changes`: the kernel owns the state. @param {Model} model
 */
function followChanges(model) {
  const kernel = new Kernel(model);
  model.on("msg:custom", (/** @type {Changes} */ message) => {
    if (message.kind !== "changes") return;
    const next = applied(model.get("snapshot"), message);
    if (next) model.set("snapshot", next);
    else void kernel.sync().catch(() => {});
  });
  model.on("comm_live_update", () => kernel.rejectAll());
}
