/**
 * Adding: the field for a repository, what the Hub suggests, and the list of what a repository offers.
 */

import { h, icon, iconButton, iconLink, mark, pageLink, say } from "./dom.js";
import { count, size } from "./formats.js";
import { press } from "./kernel.js";
import { ageOf, suggestionTags, tagsOf, variantFacts } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { Suggestion, VariantChoice, VariantList } from "./messages.js" */

const LARGEST = [4, 8, 14, 32, 70];
const TASKS = ["text-generation", "image-text-to-text", "feature-extraction", "automatic-speech-recognition"];

/** @param {number} billions @returns {[string, string]} */
const billionsOf = (billions) => [String(billions * 1e9), `up to ${billions} B`];

/** The field for a repository, its suggestions, and the list of what the repository offers. */
export class Adder {
  #asked = 0;
  #timer = 0;
  /** Which suggestion is chosen, and which of its cells: itself, or the link to its card. */
  #chosen = { row: -1, cell: 0 };
  /** The text that the message and the offer are about. */
  #shown = "";

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    const id = `gglib-${Math.random().toString(36).slice(2)}`;
    this.input = h("input", {
      type: "text",
      id,
      class: "gglib-field gglib-act",
      placeholder: "owner/repo or words",
      title: "A repository, the link of its page, or words to search for",
      autocomplete: "off",
      spellcheck: false,
      role: "combobox",
      "aria-label": "Repository on the Hub",
      "aria-autocomplete": "list",
      "aria-haspopup": "grid",
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
    });
    this.submit = h("button", { type: "submit", class: "gglib-button gglib-primary gglib-act" }, "Show variants");
    this.options = h("div", {
      id: `${id}-list`,
      class: "gglib-options",
      role: "grid",
      "aria-label": "Repositories found",
      hidden: true,
    });
    // The field keeps the focus, and with it its suggestions, while one of them or its link is pressed.
    this.options.addEventListener("mousedown", (event) => event.preventDefault());
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.offer = h("section", { class: "gglib-offer", hidden: true });
    this.alternatives = h("div", { class: "gglib-alternatives", hidden: true });
    this.filters = this.#filters();
    const opener = h(
      "button",
      { type: "button", class: "gglib-button", "aria-expanded": "false", "aria-label": "Filter", title: "Narrow the search" },
      icon("filter"),
      h("span", { class: "gglib-word" }, "Filter"),
    );
    opener.addEventListener("click", () => {
      mark(opener, "aria-expanded", String(!(this.filters.hidden = !this.filters.hidden)));
      this.view.changed();
    });
    const box = h("div", { class: "gglib-search" }, icon("search"), this.input);
    const form = h("form", { class: "gglib-add" }, box, opener, this.submit);
    const question = h("div", { class: "gglib-question" }, form, this.filters, this.options);
    this.element = h("div", { class: "gglib-adder" }, question, this.message, this.alternatives, this.offer);
    question.addEventListener("focusout", ({ relatedTarget }) => {
      if (!question.contains(/** @type {Node|null} */ (relatedTarget))) this.#leave();
    });
    question.addEventListener("keydown", ({ key }) => key === "Escape" && this.#suggest([]));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#show();
    });
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
  }

  /** What a search leaves out. */
  #filters() {
    const select = (/** @type {string} */ label, /** @type {[string, string][]} */ choices) => {
      const options = choices.map(([value, text]) => h("option", { value }, text));
      const field = h("select", { class: "gglib-field", "aria-label": label }, ...options);
      field.addEventListener("change", () => this.#narrowed());
      return field;
    };
    this.largest = select("Largest model", [["", "any size"], ...LARGEST.map(billionsOf)]);
    this.task = select("Task", [["", "any task"], ...TASKS.map((task) => /** @type {[string, string]} */ ([task, task]))]);
    this.licence = h("input", { type: "text", class: "gglib-field", placeholder: "any licence", "aria-label": "Licence" });
    this.licence.addEventListener("change", () => this.#narrowed());
    // Enter alone makes no change inside a cell of JupyterLab, which swallows the line break.
    this.licence.addEventListener("keydown", ({ key }) => key === "Enter" && this.#narrowed());
    const { largest, task, licence } = this;
    return h("div", { class: "gglib-filters", role: "group", "aria-label": "Filters", hidden: true }, largest, task, licence);
  }

  #narrowed() {
    const text = this.input.value.trim();
    if (text.length >= 2) void this.#search(text);
  }

  #typed() {
    clearTimeout(this.#timer);
    const text = this.input.value.trim();
    this.#forget();
    if (text.length < 2) this.#suggest([]);
    else this.#timer = setTimeout(() => void this.#search(text), 300);
  }

  /** Who has gone elsewhere is offered nothing any more, also by an answer that comes later. */
  #leave() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    this.#suggest([]);
  }

  /** What was said of another text does not stand beside this one. */
  #forget() {
    if (this.input.value.trim() === this.#shown) return;
    this.#shown = "";
    say(this.message, "");
    this.offer.hidden = true;
    this.alternatives.hidden = true;
  }

  /** @param {string} text */
  async #search(text) {
    const asked = (this.#asked += 1);
    // Suggestions are a courtesy: where there are none to be had, the field works without.
    const filters = {
      max_parameters: Number(this.largest?.value) || null,
      task: this.task?.value || null,
      licence: this.licence?.value.trim() || null,
    };
    const found = await this.view.kernel.ask("suggest", { text, ...filters }).catch(() => []);
    if (asked === this.#asked) this.#suggest(found);
  }

  /** @param {Suggestion[]} found */
  #suggest(found) {
    this.options.replaceChildren(...found.map((repo, index) => this.#suggestion(repo, `${this.input.id}-${index}`)));
    this.options.hidden = !found.length;
    mark(this.input, "aria-expanded", String(found.length > 0));
    this.#choose(-1, 0);
    this.#makeRoom();
    if (found.length) this.view.announce(found.length === 1 ? "1 repository found." : `${found.length} repositories found.`);
  }

  /** A panel that is short gets as long as its suggestions: outside of it they would not be seen. */
  #makeRoom() {
    const panel = /** @type {HTMLElement|null} */ (this.element.closest(".gglib-panel"));
    if (!panel) return;
    panel.style.paddingBottom = "";
    const missing = this.options.getBoundingClientRect().bottom + 8 - panel.getBoundingClientRect().bottom;
    if (!this.options.hidden && missing > 0) panel.style.paddingBottom = `${missing}px`;
  }

  /** @param {Suggestion} repo @param {string} id */
  #suggestion(repo, id) {
    const parts = [
      repo.parameter_count === null ? "" : `${count(repo.parameter_count)} parameters`,
      repo.downloads === null ? "" : `${count(repo.downloads)} downloads`,
      ageOf(repo.modified_at, Date.now()),
    ];
    const tags = suggestionTags(repo).map(([text, mood]) => h("span", { class: "gglib-tag", "data-mood": mood }, text));
    const name = h(
      "div",
      { id, role: "gridcell", class: "gglib-suggestion" },
      h("span", { class: "gglib-tags" }, h("span", { class: "gglib-found" }, repo.repo_id), ...tags),
      h("span", { class: "gglib-owner" }, parts.filter(Boolean).join(" · ")),
    );
    name.addEventListener("click", () => this.#pick(repo.repo_id));
    const row = h("div", { role: "row" }, name);
    if (repo.page_url === null) return row;
    const link = iconLink("page", `The card of ${repo.repo_id}, in a new tab`, repo.page_url);
    link.tabIndex = -1;
    row.append(h("div", { id: `${id}-card`, role: "gridcell" }, link));
    return row;
  }

  /** @param {number} row @param {number} cell */
  #cell = (row, cell) => /** @type {HTMLElement|undefined} */ (this.options.children[row]?.children[cell]);

  /** @param {number} row -1 for none. @param {number} cell */
  #choose(row, cell) {
    const chosen = this.#cell(row, cell);
    this.#chosen = { row, cell };
    for (const one of this.options.querySelectorAll("[role=gridcell]")) mark(one, "aria-selected", String(one === chosen));
    mark(this.input, "aria-activedescendant", chosen?.id ?? null);
  }

  /** Up and down lead from one suggestion to the next, right to its card and left back. @param {KeyboardEvent} event */
  #key(event) {
    const { row, cell } = this.#chosen;
    const rows = this.options.children.length;
    const above = row > 0 ? row - 1 : rows - 1;
    /** @type {Record<string, [number, number]>} */
    const ways = {
      ArrowDown: [(row + 1) % rows, 0],
      ArrowUp: [above, 0],
      ArrowRight: [row, cell + 1],
      ArrowLeft: [row, cell - 1],
    };
    const next = ways[event.key];
    if (next && this.#cell(...next)) this.#choose(...next);
    else if (event.key === "Enter" && !event.isComposing) this.#enter();
    else return;
    // JupyterLab swallows the line break inside a cell, and with it the form's own submit: the key itself is heeded.
    event.preventDefault();
  }

  #enter() {
    const chosen = this.#cell(this.#chosen.row, this.#chosen.cell);
    if (chosen) (chosen.querySelector("a") ?? chosen).click();
    else void this.#show();
  }

  /** @param {string} repo */
  #pick(repo) {
    this.input.value = repo;
    void this.#show();
  }

  async #show() {
    this.#leave();
    const repo_id = this.input.value.trim();
    if (!repo_id || !this.view.isLive || this.submit.getAttribute("aria-busy") === "true") return;
    this.#shown = repo_id;
    this.offer.hidden = true;
    const refused = (/** @type {{alternatives: string[]}} */ { alternatives }) => this.#point(alternatives ?? []);
    this.#point([]);
    /** @type {VariantList|undefined} */
    const list = await press(this.view, this.submit, this.message, "variants", { repo_id }, { refused });
    if (list && this.input.value.trim() === repo_id) this.#offer(list);
    this.#forget();
  }

  /** Repositories in the place of one that has no GGUF files. @param {string[]} repos */
  #point(repos) {
    const buttons = repos.map((repo) => {
      const button = h("button", { type: "button", class: "gglib-button gglib-act" }, repo);
      button.addEventListener("click", () => this.#pick(repo));
      return button;
    });
    this.alternatives.replaceChildren(...buttons);
    this.alternatives.hidden = !repos.length;
  }

  /** @param {VariantList} list */
  #offer(list) {
    const close = iconButton("cancel", "Close the list of variants", "");
    close.addEventListener("click", () => {
      this.offer.hidden = true;
      this.input.focus();
    });
    const free = list.free_bytes === null ? "" : `${size(list.free_bytes)} free on the disk`;
    const card = list.page_url === null ? [] : [pageLink(list.page_url, "Its card")];
    const head = h("header", {}, h("strong", {}, list.repo_id), ...card, h("span", { class: "gglib-owner" }, free), close);
    const terms =
      list.accept_url === null
        ? []
        : [h("p", { class: "gglib-gate" }, "Its terms have to be accepted first. ", pageLink(list.accept_url))];
    const boxes = list.companions.map(({ kind, size_bytes }) => {
      const box = h("input", { type: "checkbox", value: kind, class: "gglib-act" });
      return h("label", { class: "gglib-companion" }, box, `Fetch ${kind} along (${size(size_bytes)})`);
    });
    const wanted = () =>
      boxes.flatMap((label) => (label.querySelector("input")?.checked ? label.querySelector("input")?.value : []));
    const lines = list.variants.map((variant) => this.#variant(list, variant, wanted));
    this.offer.replaceChildren(
      head,
      ...terms,
      ...boxes,
      h("ul", { class: "gglib-variants", tabIndex: 0, "aria-label": `Variants of ${list.repo_id}` }, ...lines),
    );
    this.offer.hidden = false;
    this.view.changed();
  }

  /** @param {VariantList} list @param {VariantChoice} variant @param {() => (string|undefined)[]} wanted */
  #variant({ repo_id, revision }, variant, wanted) {
    const name = variant.label ?? variant.key;
    const message = h("p", { class: "gglib-message", role: "status" });
    const kind = variant.is_recommended ? "gglib-primary" : "";
    const button = h(
      "button",
      { type: "button", class: `gglib-button gglib-act ${kind}`, "aria-label": `Download ${name}` },
      "Download",
    );
    button.disabled = !variant.is_complete;
    button.addEventListener("click", async () => {
      const fields = { repo_id, quantization: variant.key, revision, companions: wanted() };
      if (!(await press(this.view, button, message, "queue", fields))) return;
      button.replaceChildren(icon("check"), "In the queue");
      mark(button, "aria-label", `In the queue: ${name}`);
      this.view.announce(`${name} of ${repo_id} is in the queue.`);
    });
    const tags = tagsOf(variant).map(([text, mood]) => h("span", { class: "gglib-tag", "data-mood": mood }, text));
    const facts = variantFacts(variant);
    return h(
      "li",
      {},
      h("span", { class: "gglib-name", title: variant.key }, name),
      h("span", { class: "gglib-amount" }, size(variant.size_bytes)),
      h("span", { class: "gglib-tags" }, ...tags, h("span", { class: "gglib-owner" }, facts)),
      button,
      message,
    );
  }
}
