/**
 * Asking the kernel: requests, their answers, and what a person is told while one is on its way.
 */

import { mark, say } from "./dom.js";

/** @import { Model, PanelState, Reply, VerifyState } from "./messages.js" */
/** @import { Sight } from "./sight.js" */

/**
 * @typedef {{resolve: (result: any) => void, reject: (error: Error) => void, heard?: ((news: any) => void)|undefined}} Waiting
 */

/** Asks the kernel; every question is answered, refused, or still waiting. */
export class Kernel {
  #waiting = /** @type {Map<string, Waiting>} */ (new Map());
  #prefix = Math.random().toString(36).slice(2);
  #count = 0;

  /** @param {Model} model @param {AbortSignal} signal @param {() => void} lost Called when nothing can be sent any more. */
  constructor(model, signal, lost = () => {}) {
    this.model = model;
    this.lost = lost;
    this.isLost = false;
    const receive = (/** @type {Reply|VerifyState} */ message) => {
      if (message.kind === "reply") this.#settle(message);
      else if (message.kind === "verify_progress") this.#waiting.get(message.cid)?.heard?.(message);
    };
    model.on("msg:custom", receive);
    signal.addEventListener("abort", () => model.off("msg:custom", receive));
  }

  /**
   * @param {string} kind @param {object} fields @param {(news: any) => void} [heard] Told how far it is, where the kernel says so.
   * @returns {Promise<any>}
   */
  ask(kind, fields = {}, heard) {
    const cid = `${this.#prefix}-${(this.#count += 1)}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(cid, { resolve, reject, heard });
      try {
        this.model.send({ cid, kind, ...fields });
      } catch {
        // A front end refuses to send to a kernel that was shut down or has died, and says so in no other way.
        this.isLost = true;
        this.abandon();
        this.lost();
      }
    });
  }

  /** Brings the model up to date, unless a delta has been faster. */
  async sync() {
    const state = /** @type {PanelState} */ (await this.ask("sync"));
    const known = this.model.get("snapshot");
    if (state.seq >= known.seq || state.rev >= known.rev) this.model.set("snapshot", state);
  }

  /** The kernel is gone: nothing that waits will be answered. */
  abandon() {
    for (const { reject } of this.#waiting.values()) reject(new Error("The kernel stopped before it answered."));
    this.#waiting.clear();
  }

  /** @param {Reply} reply */
  #settle({ cid, ok, result, error, alternatives }) {
    const asked = this.#waiting.get(cid);
    this.#waiting.delete(cid);
    if (ok) asked?.resolve(result);
    else asked?.reject(Object.assign(new Error(error), { alternatives: alternatives ?? [] }));
  }
}

/**
 * What the parts of one view share.
 * @typedef {{kernel: Kernel, isLive: boolean, state: () => PanelState, changed: () => void,
 *   announce: (text: string) => void, showModels: (isOn: boolean) => void, sight: Sight}} View
 */

/**
 * Presses a button: pending until the kernel has answered, and a refusal is said right here.
 * @param {View} view @param {HTMLElement} button @param {HTMLElement} message @param {string} kind @param {object} fields
 * @param {{heard?: (news: any) => void, refused?: (error: any) => void}} [hooks]
 */
export async function press(view, button, message, kind, fields = {}, { heard, refused } = {}) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  mark(button, "aria-busy", "true");
  const tell = (/** @type {string} */ text, /** @type {string} */ mood) => {
    say(message, text);
    mark(message, "data-mood", mood);
    view.changed();
  };
  tell("", "waiting");
  const slow = setTimeout(
    () => tell("Still waiting for the kernel; a running cell can hold this up.", "waiting"),
    1500,
  );
  try {
    const result = await view.kernel.ask(kind, fields, heard && ((news) => (clearTimeout(slow), heard(news))));
    tell("", "");
    view.changed();
    return result ?? true;
  } catch (error) {
    tell(/** @type {Error} */ (error).message, "refused");
    refused?.(error);
    return undefined;
  } finally {
    clearTimeout(slow);
    mark(button, "aria-busy", null);
  }
}
