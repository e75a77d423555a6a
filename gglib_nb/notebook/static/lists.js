/**
 * Lists that are asked for: the models on the disk, in the place of the downloads, and the downloads that ended before.
 */

const MODELS_MS = 10_000;

/** The lists of one view. */
class Lists {
  models = /** @type {Listing|null} */ (null);
  earlier = /** @type {Listing|null} */ (null);
  filter = "";
  isEarlierOpen = false;
  #askedMs = 0;

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** Something may have changed on the disk. */
  expire() {
    this.#askedMs = 0;
  }

  /** Once a second while the models are shown. */
  async askModels() {
    const nowMs = performance.now();
    if (nowMs - this.#askedMs < MODELS_MS && this.#askedMs) return;
    this.#askedMs = nowMs;
    this.models = (await this.app.asking.send("disk", "models", {}, "models")) ?? this.models;
    this.app.changed();
  }

  /** Where the database cannot be read, a line above the lists has said so. */
  async askEarlier() {
    this.earlier = await this.app.kernel.ask("earlier").catch(() => this.earlier);
    this.app.changed();
  }

  /** Models of which the name has every word that was typed. */
  modelsOf() {
    const { app, models } = this;
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = (models?.rows ?? []).filter(({ id }) => words.every((word) => id.toLowerCase().includes(word)));
    const typed = (/** @type {Event} */ event) => {
      this.filter = /** @type {HTMLInputElement} */ (event.target).value;
      app.changed();
    };
    const label = app.texts.model_filter_title;
    return h("section", { key: "models", class: "gglib-models", "aria-label": app.texts.models }, [
      h("div", { class: "gglib-models-head" }, [
        h("input", { type: "search", class: "gglib-field", placeholder: app.texts.model_filter, "aria-label": label, oninput: typed }),
        h("span", { class: "gglib-owner", role: "status" }, models?.view.note ?? ""),
        (models?.view.actions ?? []).map((action) => actionButton(app, "models", action, () => ({ action: action.id }))),
        below(app, "models", "", ({ id }) => ({ action: id })),
        below(app, "disk", "", () => ({})),
      ]),
      h("div", { class: "gglib-list", role: "list", "aria-label": app.texts.models }, rows.map((row) => rowOf(app, "models", row))),
    ]);
  }

  /** What ended before and is in no list of the queue. */
  earlierOf() {
    const { app, earlier } = this;
    const shown = new Set(Object.values(app.state.rows).flatMap(({ past_id }) => past_id ?? []));
    const rows = (earlier?.rows ?? []).filter(({ id }) => !shown.has(id));
    if (!rows.length || !earlier) return null;
    const open = () => {
      this.isEarlierOpen = !this.isEarlierOpen;
      if (this.isEarlierOpen) void this.askEarlier();
      app.changed();
    };
    const label = [icon("open"), h("span", {}, `${earlier.view.title} · ${rows.length}`)];
    const opener = { type: "button", class: "gglib-earlier-opener gglib-open", "aria-expanded": String(this.isEarlierOpen), onclick: open };
    return h("div", { key: "earlier", class: "gglib-earlier" }, [
      h("div", { class: "gglib-heading" }, [
        h("span", { role: "heading", "aria-level": "3" }, h("button", opener, label)),
        this.isEarlierOpen && (earlier.view.actions ?? []).map((action) => actionButton(app, "earlier", action, () => ({ action: action.id }))),
        below(app, "earlier", "", ({ id }) => ({ action: id })),
      ]),
      this.isEarlierOpen &&
        h("div", { class: "gglib-list", role: "list", "aria-label": earlier.view.title }, rows.map((row) => rowOf(app, "earlier", row))),
    ]);
  }
}
