/**
 * The requests of one view and their feedback. Feedback is stored by key: a list's name and a row's id, or the name of a field.
 */

const SLOW_MS = 1500;
/** Actions that move rows: their effect is shown although the pointer is over the list. */
const MOVES_ROWS = ["top", "up", "down", "undo", "resume", "run_now"];
/** Actions that change the models on the disk. */
const CHANGES_MODELS = ["delete:now", "prune:now", "repair", "update", "verify"];

/** @type {Feedback} */
const NO_FEEDBACK = { text: "", mood: "", busy: [], confirm: null, opener: "", code: [], shown: "", done: [], alternatives: [], refusedIn: null };

class Requests {
  #feedback = /** @type {Map<string, Feedback>} */ (new Map());

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** @param {string} at @returns {Feedback} */
  feedback(at) {
    return this.#feedback.get(at) ?? NO_FEEDBACK;
  }

  /** Clears a refusal once its row has another state or place. @param {string} at @param {Row} row */
  clearOutdated(at, { id, status, position }, now = `${at} ${status} ${position}`) {
    const refused = [...this.#feedback].filter(([key, { refusedIn }]) => refusedIn !== null && key.endsWith(` ${id}`));
    for (const [key, feedback] of refused) if ((feedback.refusedIn ||= now) !== now) this.#feedback.delete(key);
  }

  /** @param {string} at @param {Partial<Feedback>} fields */
  #update(at, fields) {
    this.#feedback.set(at, { ...this.feedback(at), ...fields });
    this.app.schedulePaint();
  }

  /** @param {string} at */
  clear(at) {
    if (this.#feedback.delete(at)) this.app.schedulePaint();
  }

  /** Handles a pressed button: opens or closes its confirmation, closes its code blocks, or sends its request. @param {string} at @param {Action} action @param {object} fields */
  async press(at, action, fields) {
    const feedback = this.feedback(at);
    if (action.confirm) return feedback.confirm ? this.dismiss(at) : this.#confirm(at, action, action.id);
    if (feedback.code.length && action.id === feedback.shown) return this.#update(at, { code: [] });
    await this.send(at, action.id, fields, action.id === "add" ? "add" : "act");
  }

  /**
   * Sends a request and shows its progress and result at `at`. The action is busy until the kernel replies.
   * @param {string} at @param {string} id The action. @param {object} fields @param {string} kind @returns {Promise<any>} The result; null if refused.
   */
  async send(at, id, fields, kind = "act") {
    if (this.feedback(at).busy.includes(id)) return null;
    this.#update(at, { busy: [...this.feedback(at).busy, id], text: "", mood: "", alternatives: [], refusedIn: null });
    const slow = setTimeout(() => this.#update(at, { text: this.app.texts.slow ?? "" }), SLOW_MS);
    const onProgress = (/** @type {string} */ text) => {
      clearTimeout(slow);
      this.#update(at, { text });
    };
    if (MOVES_ROWS.includes(id)) this.app.hold.suspend();
    try {
      const answer = (await this.app.kernel.ask(kind, fields, onProgress)) ?? {};
      this.#showAnswer(at, id, at === "adder" ? {} : answer);
      return answer;
    } catch (error) {
      const { message, alternatives = [] } = /** @type {Error & {alternatives?: string[]}} */ (error);
      this.#update(at, { text: message, mood: "bad", alternatives, refusedIn: "" });
      return null;
    } finally {
      clearTimeout(slow);
      this.#update(at, { busy: this.feedback(at).busy.filter((one) => one !== id) });
    }
  }

  /** Shows a result. @param {string} at @param {string} id @param {Answer} answer */
  #showAnswer(at, id, { text = "", mood = "", news, confirm, code = [], is_queued }) {
    this.#update(at, { text, mood, code, shown: id, done: is_queued ? [...this.feedback(at).done, id] : this.feedback(at).done });
    if (news) this.app.announce(news);
    if (confirm) this.#confirm(at, confirm, id);
    if (CHANGES_MODELS.includes(id)) this.app.lists.expire();
    if (id === "clear_earlier") void this.app.lists.requestEarlier();
  }

  /** Shows a confirmation. @param {string} at @param {Action} confirm @param {string} opener The action whose button opened it. */
  #confirm(at, confirm, opener) {
    this.#update(at, { confirm, opener });
    this.app.focusNext(".gglib-keep");
  }

  /** Closes a confirmation and focuses its button. @param {string} at */
  dismiss(at) {
    const { opener } = this.feedback(at);
    this.#update(at, { confirm: null, opener: "" });
    const id = at.slice(at.indexOf(" ") + 1);
    this.app.focusNext(`${at.includes(" ") ? `[data-key="${CSS.escape(id)}"] ` : ""}[data-action="${opener}"]`);
  }
}
