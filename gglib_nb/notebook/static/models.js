/**
 * The models that are here, in the place of the downloads: what stands on the disk, how much it takes, what is still free, and
 * what can be done with each.
 */

import { cutPath } from "./bars.js";
import { h, say } from "./dom.js";
import { count, size } from "./formats.js";
import { ModelActions } from "./modelact.js";

/** @import { View } from "./kernel.js" */
/** @import { ModelItem, ModelList } from "./messages.js" */

/** The list of models; asked for each time it is opened. */
export class Models {
  #list = /** @type {ModelList|null} */ (null);
  #rows = /** @type {Map<string, HTMLElement>} */ (new Map());

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.filter = h("input", {
      type: "search",
      class: "gglib-field",
      placeholder: "Part of a name",
      "aria-label": "Show only models whose name has this part",
    });
    this.filter.addEventListener("input", () => this.#show());
    this.total = h("span", { class: "gglib-owner", role: "status" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.rows = h("div", { class: "gglib-model-list", role: "list", "aria-label": "Models that are here" });
    this.element = h(
      "section",
      { class: "gglib-models", "aria-label": "Models", hidden: true },
      h("div", { class: "gglib-models-head" }, this.filter, this.total),
      this.message,
      this.rows,
    );
  }

  /** Asks what is here. */
  async refresh() {
    say(this.message, "");
    try {
      this.#list = await this.view.kernel.ask("models");
      this.#rows.clear();
      this.#show();
    } catch (error) {
      say(this.message, /** @type {Error} */ (error).message);
    }
    this.view.changed();
  }

  #show() {
    if (this.#list === null) return;
    const { models, models_bytes, free_bytes, models_directory } = this.#list;
    const shown = modelsNamed(models, this.filter.value);
    const free = free_bytes === null ? "" : ` · ${size(free_bytes)} free in ${models_directory}`;
    const number = shown.length === models.length ? `${models.length}` : `${shown.length} of ${models.length}`;
    say(this.total, `${number} models · ${size(models_bytes)}${free}`);
    const empty = models.length ? "No model has that in its name." : "No model is here yet.";
    const rows = shown.map((model) => this.#row(model));
    this.rows.replaceChildren(...(rows.length ? rows : [h("p", { class: "gglib-nothing", role: "listitem" }, empty)]));
  }

  /** @param {ModelItem} model */
  #row(model) {
    const known = this.#rows.get(model.id);
    if (known) return known;
    const [owner = "", name = ""] = model.repo_id.split("/");
    const actions = new ModelActions(this.view, model.id, model.id, model.path, () => void this.refresh());
    const chip = model.quantization ? [h("span", { class: "gglib-chip" }, model.quantization)] : [];
    const row = h(
      "div",
      { class: "gglib-model", role: "listitem", "data-state": model.state },
      h(
        "div",
        { class: "gglib-title" },
        h("span", { class: "gglib-name", title: model.id }, name || owner),
        ...chip,
        h("span", { class: "gglib-owner" }, name ? owner : ""),
      ),
      actions.buttons,
      h("div", { class: "gglib-line" }, ...modelFacts(model).map(([text, mood]) => h("span", { "data-mood": mood }, text))),
      h("div", { class: "gglib-model-path", title: model.path }, ...cutPath(model.path)),
      actions.message,
      actions.below,
    );
    this.#rows.set(model.id, row);
    return row;
  }
}

/** Those of which the name has every word. @param {ModelItem[]} models @param {string} text */
export function modelsNamed(models, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return models.filter(({ id }) => words.every((word) => id.toLowerCase().includes(word)));
}

/** What is said of a model, piece by piece, with its mood. @param {ModelItem} model @returns {[string, string][]} */
export function modelFacts(model) {
  const moods = /** @type {Record<string, string>} */ ({
    verified: "good",
    unverified: "warn",
    changed: "warn",
    wrong: "bad",
    missing: "bad",
  });
  /** @type {[string, string][]} */
  const facts = [
    [size(model.size_bytes), "plain"],
    [model.file_count > 1 ? `${model.file_count} files` : "", "plain"],
    [model.parameter_count === null ? "" : `${count(model.parameter_count)} parameters`, "plain"],
    [model.architecture ?? "", "plain"],
    [model.context_length === null ? "" : `${model.context_length} tokens`, "plain"],
    [model.projector_path === null ? "" : "with its projector", "plain"],
    [model.state, moods[model.state] ?? "plain"],
    [model.has_update ? "a newer version is on the Hub" : "", "warn"],
  ];
  return facts.filter(([text]) => text);
}
