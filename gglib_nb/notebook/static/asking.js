/**
 * What one view asks the kernel, and what is said of it: every row, list and field has a place for its answers.
 */

const SLOW_MS = 1500;
/** What a person asks for with a pointer on the list, and wants to see there. */
const FREEING = ["top", "up", "down", "undo", "resume", "run_now"];
/** What changes the models on the disk. */
const CHANGING = ["delete_now", "prune_now", "repair", "update", "verify"];

/** @type {Feedback} */
const NOTHING = { text: "", mood: "", busy: [], confirm: null, opener: "", code: [], shown: "", done: [], alternatives: [] };

/** The places of one view. */
class Asking {
  #places = /** @type {Map<string, Feedback>} */ (new Map());

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** @param {string} at @returns {Feedback} */
  feedback(at) {
    return this.#places.get(at) ?? NOTHING;
  }

  /** @param {string} at @param {Partial<Feedback>} fields */
  #mark(at, fields) {
    this.#places.set(at, { ...this.feedback(at), ...fields });
    this.app.changed();
  }

  /** @param {string} at */
  forget(at) {
    if (this.#places.delete(at)) this.app.changed();
  }

  /** A button was pressed. @param {string} at @param {Action} action @param {object} fields */
  async press(at, action, fields) {
    const feedback = this.feedback(at);
    if (action.confirm) return feedback.confirm ? this.dismiss(at) : this.#confirm(at, action, action.id);
    if (feedback.code.length && action.id === feedback.shown) return this.#mark(at, { code: [] });
    await this.send(at, action.id, fields, action.id === "add" ? "add" : "act");
  }

  /**
   * Asks the kernel: pending until it has answered, and what it answers is said right here.
   * @param {string} at @param {string} id What waits. @param {object} fields @param {string} kind @returns {Promise<any>} null where refused
   */
  async send(at, id, fields, kind = "act") {
    if (this.feedback(at).busy.includes(id)) return null;
    this.#mark(at, { busy: [...this.feedback(at).busy, id], text: "", mood: "", alternatives: [] });
    const slow = setTimeout(() => this.#mark(at, { text: this.app.texts.slow ?? "" }), SLOW_MS);
    const heard = (/** @type {string} */ text) => {
      clearTimeout(slow);
      this.#mark(at, { text });
    };
    if (FREEING.includes(id)) this.app.hold.free();
    try {
      const answer = (await this.app.kernel.ask(kind, fields, heard)) ?? {};
      this.#take(at, id, kind === "offer" ? {} : answer);
      return answer;
    } catch (error) {
      const { message, alternatives = [] } = /** @type {Error & {alternatives?: string[]}} */ (error);
      this.#mark(at, { text: message, mood: "bad", alternatives });
      return null;
    } finally {
      clearTimeout(slow);
      this.#mark(at, { busy: this.feedback(at).busy.filter((one) => one !== id) });
    }
  }

  /** @param {string} at @param {string} id @param {Answer} answer */
  #take(at, id, { text = "", mood = "", news, confirm, code = [], is_queued }) {
    this.#mark(at, { text, mood, code, shown: id, done: is_queued ? [...this.feedback(at).done, id] : this.feedback(at).done });
    if (news) this.app.announce(news);
    if (confirm) this.#confirm(at, confirm, id);
    if (CHANGING.includes(id)) this.app.lists.expire();
    if (id === "clear_earlier") void this.app.lists.askEarlier();
  }

  /** Puts a question. @param {string} at @param {Action} confirm @param {string} opener The action whose button brought it up. */
  #confirm(at, confirm, opener) {
    this.#mark(at, { confirm, opener });
    this.app.focusNext(".gglib-keep");
  }

  /** Takes a question back. @param {string} at */
  dismiss(at) {
    const { opener } = this.feedback(at);
    this.#mark(at, { confirm: null, opener: "" });
    const id = at.slice(at.indexOf(" ") + 1);
    this.app.focusNext(`${at.includes(" ") ? `[data-key="${CSS.escape(id)}"] ` : ".gglib-header "}[data-action="${opener}"]`);
  }
}
