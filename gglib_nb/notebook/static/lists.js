/**
 * Lists that the page requests: the models on the disk, shown instead of the downloads, and earlier downloads.
 */

const MODELS_MS = 10_000;

/** The requested lists of one view. */
class Lists {
  models = /** @type {Listing|null} */ (null);
  earlier = /** @type {Listing|null} */ (null);
  filter = "";
  isEarlierOpen = false;
  #requestedMs = 0;

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** Requests the models again at the next call of `requestModels`. */
  expire() {
    this.#requestedMs = 0;
  }

  /** Called every second while the models are shown; requests them at most every 10 seconds. */
  async requestModels() {
    const nowMs = performance.now();
    if (nowMs - this.#requestedMs < MODELS_MS && this.#requestedMs) return;
    this.#requestedMs = nowMs;
    this.models = (await this.app.requests.send("disk", "models", { what: "models" }, "show")) ?? this.models;
    this.app.schedulePaint();
  }

  /** Ignores failures: a notice reports a database that cannot be read. */
  async requestEarlier() {
    this.earlier = await this.app.kernel.ask("show", { what: "earlier" }).catch(() => this.earlier);
    this.app.schedulePaint();
  }

  /** The models whose name contains every word of the filter. */
  modelsOf() {
    const { app, models } = this;
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = (models?.rows ?? []).filter(({ id }) => words.every((word) => id.toLowerCase().includes(word)));
    const onInput = (/** @type {Event} */ event) => {
      this.filter = /** @type {HTMLInputElement} */ (event.target).value;
      app.schedulePaint();
    };
    const label = app.texts.model_filter_title;
    return h("section", { key: "models", class: "gglib-models", "aria-label": app.texts.models }, [
      h("div", { class: "gglib-models-head" }, [
        h("input", { type: "search", class: "gglib-field", value: this.filter, placeholder: app.texts.model_filter, "aria-label": label, oninput: onInput }),
        h("span", { class: "gglib-owner", role: "status" }, models?.note ?? ""),
        (models?.actions ?? []).map((action) => actionButton(app, "models", action, () => ({ action: action.id }))),
        feedbackOf(app, "models", "", ({ id }) => ({ action: id })),
        feedbackOf(app, "disk", "", () => ({})),
        h("p", { key: "none", class: "gglib-message", role: "status" }, this.filter && !rows.length ? app.texts.model_none : ""),
      ]),
      h("div", { class: "gglib-list", role: "list", "aria-label": app.texts.models }, rows.map((row) => rowOf(app, "models", row))),
    ]);
  }

  /** Earlier downloads that are in no list of the queue. */
  earlierOf() {
    const { app, earlier } = this;
    const shown = new Set(Object.values(app.state.rows).flatMap(({ past_id }) => past_id ?? []));
    const rows = (earlier?.rows ?? []).filter(({ id }) => !shown.has(id));
    if (!rows.length || !earlier) return null;
    const open = () => {
      this.isEarlierOpen = !this.isEarlierOpen;
      if (this.isEarlierOpen) void this.requestEarlier();
      app.schedulePaint();
    };
    const label = [icon("open"), h("span", {}, `${earlier.title} · ${rows.length}`)];
    const opener = { type: "button", class: "gglib-earlier-opener gglib-open", "aria-expanded": String(this.isEarlierOpen), onclick: open };
    return h("div", { key: "earlier", class: "gglib-earlier" }, [
      h("div", { class: "gglib-heading" }, [
        h("span", { role: "heading", "aria-level": "3" }, h("button", opener, label)),
        this.isEarlierOpen && (earlier.actions ?? []).map((action) => actionButton(app, "earlier", action, () => ({ action: action.id }), earlier.title)),
        feedbackOf(app, "earlier", "", ({ id }) => ({ action: id })),
      ]),
      this.isEarlierOpen &&
        h("div", { class: "gglib-list", role: "list", "aria-label": earlier.title }, rows.map((row) => rowOf(app, "earlier", row))),
    ]);
  }
}
