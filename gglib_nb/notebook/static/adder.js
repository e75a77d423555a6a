/**
 * Adding a download: the repository field, suggestions from the Hub, and the variants of a repository.
 */

const SUGGEST_MS = 300;

class Adder {
  /** @type {Listing|null} */
  suggestions = null;
  /** @type {Listing|null} */
  offer = null;
  isFiltering = false;
  text = "";
  /** The index of the selected suggestion (-1 for none) and of its cell: 0 the name, 1 the link to its page. */
  row = -1;
  cell = 0;
  filters = /** @type {Record<string, string>} */ ({});
  companions = /** @type {Set<string>} */ (new Set());
  id = `gglib-${Math.random().toString(36).slice(2)}`;
  #timer = 0;
  #generation = 0;

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** @param {string} text */
  onInput(text) {
    clearTimeout(this.#timer);
    this.text = text.trim();
    this.#discardOffer();
    if (this.text.length < 2) this.#showSuggestions(null);
    else this.#timer = window.setTimeout(() => void this.#search(), SUGGEST_MS);
  }

  /** Removes the offer and the feedback of the previous text, and discards its pending replies. */
  #discardOffer() {
    this.#generation += 1;
    this.offer = null;
    this.app.requests.clear("adder");
  }

  /** Closes the suggestions and discards pending replies. */
  closeSuggestions() {
    clearTimeout(this.#timer);
    this.#generation += 1;
    this.#showSuggestions(null);
  }

  async #search() {
    const generation = (this.#generation += 1);
    // Suggestions are optional: a failed search is ignored.
    const found = await this.app.kernel.ask("show", { what: "found", text: this.text, ...this.filters }).catch(() => null);
    if (generation === this.#generation) this.#showSuggestions(found);
  }

  /** @param {string} name @param {string} value */
  setFilter(name, value) {
    this.filters[name] = value;
    if (this.text.length >= 2) void this.#search();
  }

  toggleFilters() {
    this.isFiltering = !this.isFiltering;
    this.app.schedulePaint();
  }

  /** @param {Listing|null} found */
  #showSuggestions(found) {
    this.suggestions = found?.rows?.length ? found : null;
    this.row = -1;
    if (this.suggestions?.news) this.app.announce(this.suggestions.news);
    this.app.schedulePaint();
  }

  /** @param {string} repo */
  pick(repo) {
    const field = this.app.root.querySelector("input[role=combobox]");
    if (field instanceof HTMLInputElement) field.value = repo;
    this.text = repo;
    void this.show();
  }

  async show() {
    this.closeSuggestions();
    this.#discardOffer();
    const generation = this.#generation;
    if (!this.text || !this.app.isLive) return;
    const isName = this.text.includes("/");
    const what = isName ? "variants" : "found";
    const offer = await this.app.requests.send("adder", what, { what, text: this.text, ...this.filters }, "show");
    if (generation !== this.#generation) return this.app.requests.clear("adder");
    if (!isName) this.app.focusNext("input[role=combobox]");
    if (!isName) return this.#showSuggestions(offer);
    this.offer = offer;
    this.companions.clear();
    for (const { id } of offer?.rows ?? []) this.app.requests.clear(offerKey(offer, id));
    this.app.schedulePaint();
  }

  /** Up and down select a suggestion, right its page link, left its name. @param {KeyboardEvent} event */
  onKeyDown(event) {
    const rows = this.suggestions?.rows ?? [];
    const step = { ArrowDown: 1, ArrowUp: this.row < 0 ? 0 : -1 }[event.key];
    const cell = { ArrowRight: 1, ArrowLeft: 0 }[event.key];
    if (step !== undefined && rows.length) Object.assign(this, { row: (this.row + step + rows.length) % rows.length, cell: 0 });
    else if (cell !== undefined && this.cell !== cell && rows[this.row]?.link) this.cell = cell;
    else if (event.key === "Enter" && !event.isComposing) this.#submit(rows[this.row]);
    else if (event.key === "Escape" && this.suggestions) this.closeSuggestions();
    else return;
    // JupyterLab prevents the default action of Enter inside a cell, including form submission, so Enter is handled here.
    event.preventDefault();
    this.app.schedulePaint();
  }

  /** @param {Row|undefined} chosen */
  #submit(chosen) {
    if (!chosen) void this.show();
    else if (this.cell === 0) this.pick(chosen.id);
    else /** @type {HTMLElement|null} */ (this.app.root.querySelector(`#${this.id}-${this.row}-page a`))?.click();
  }
}

/** @param {PanelView} app */
function adderOf(app) {
  const { adder } = app;
  const { text, mood, alternatives } = app.requests.feedback("adder");
  const onfocusout = (/** @type {FocusEvent} */ { currentTarget, relatedTarget }) =>
    /** @type {Node} */ (currentTarget).contains(/** @type {Node|null} */ (relatedTarget)) || adder.closeSuggestions();
  const others = alternatives.map((repo) => button("gglib-button", { key: repo, onclick: () => adder.pick(repo) }, repo));
  return h("div", { key: "adder", class: "gglib-adder" }, [
    h("div", { class: "gglib-question", onfocusout }, fieldOf(app), adder.isFiltering && filtersOf(app), suggestionsOf(app)),
    h("p", { class: "gglib-message", role: "status", "data-mood": mood || null }, text),
    others.length > 0 && h("div", { class: "gglib-alternatives" }, others),
    adder.offer && offerOf(app, adder.offer),
  ]);
}

/** @param {PanelView} app */
function fieldOf(app) {
  const { adder, texts, isLive } = app;
  const isBusy = app.requests.feedback("adder").busy.length > 0;
  const chosen = adder.row < 0 ? null : `${adder.id}-${adder.row}${adder.cell ? "-page" : ""}`;
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!isBusy) void adder.show();
  };
  const filter = { key: "filter", title: texts.filter_title, "aria-label": texts.filter, "aria-expanded": String(adder.isFiltering) };
  const show = { key: "show", type: "submit", "aria-busy": isBusy ? "true" : null, "aria-disabled": isLive ? null : "true" };
  const field = h("input", {
    ...{ type: "text", class: "gglib-field", value: adder.text, placeholder: texts.field_hint, title: texts.field_title, autocomplete: "off", spellcheck: "false" },
    ...{ role: "combobox", disabled: !isLive, "aria-label": texts.field, "aria-autocomplete": "list", "aria-haspopup": "grid" },
    ...{ "aria-expanded": String(adder.suggestions !== null), "aria-controls": `${adder.id}-list`, "aria-activedescendant": chosen },
    oninput: (/** @type {Event} */ event) => adder.onInput(/** @type {HTMLInputElement} */ (event.target).value),
    onkeydown: (/** @type {KeyboardEvent} */ event) => adder.onKeyDown(event),
  });
  return h("form", { class: "gglib-add", onsubmit }, [
    h("div", { class: "gglib-search" }, icon("search"), field),
    button("gglib-button", { ...filter, onclick: () => adder.toggleFilters() }, icon("filter"), h("span", { class: "gglib-word" }, texts.filter)),
    button("gglib-button gglib-primary", show, h("span", {}, texts.show)),
  ]);
}

/** @param {PanelView} app */
function filtersOf({ adder, texts, model }) {
  const fields = model.get("snapshot").filters.map(({ id, label, hint = "", choices }) => {
    const value = adder.filters[id] ?? "";
    const set = (/** @type {Event} */ event) => adder.setFilter(id, /** @type {HTMLInputElement} */ (event.target).value);
    // In a JupyterLab cell, Enter fires no change event.
    const enter = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && set(event);
    const common = { key: id, class: "gglib-field", "aria-label": label, onchange: set };
    if (!choices) return h("input", { ...common, type: "text", value, placeholder: hint, onkeydown: enter });
    const options = [["", hint], ...choices].map(([one, text]) => h("option", { value: one, selected: one === value }, text));
    return h("select", common, options);
  });
  return h("div", { class: "gglib-filters", role: "group", "aria-label": texts.filters }, fields);
}

/** @param {PanelView} app */
function suggestionsOf(app) {
  const { adder, texts } = app;
  const rows = (adder.suggestions?.rows ?? []).map((row, at) => {
    const isChosen = (/** @type {number} */ cell) => String(at === adder.row && cell === adder.cell);
    const page = row.link && iconControl("page", app.text("card", row.name ?? ""), { href: row.link, ...NEW_TAB, tabindex: -1 });
    const name = { id: `${adder.id}-${at}`, role: "gridcell", class: "gglib-suggestion", "aria-selected": isChosen(0), onclick: () => adder.pick(row.id) };
    return h("div", { key: row.id, role: "row" }, [
      h("div", name, [
        h("span", { class: "gglib-tags" }, h("span", { class: "gglib-found" }, row.title ?? ""), factsOf(row.lines ?? [], "gglib-tag")),
        h("span", { class: "gglib-owner" }, row.note ?? ""),
      ]),
      page && h("div", { id: `${adder.id}-${at}-page`, role: "gridcell", "aria-selected": isChosen(1) }, page),
    ]);
  });
  const grid = { id: `${adder.id}-list`, class: "gglib-options", role: "grid", "aria-label": texts.found, hidden: !rows.length };
  // Keeps the focus in the field during a click; otherwise focusout would close the suggestions.
  return h("div", { ...grid, onmousedown: (/** @type {Event} */ event) => event.preventDefault() }, rows);
}

/** @param {PanelView} app @param {Listing} offer */
function offerOf(app, offer) {
  const { adder, texts } = app;
  const { title = "", rows = [], note = "", link, warning, warning_link = "", choices = [], revision = null } = offer;
  const close = () => {
    adder.offer = null;
    app.focusNext("input[role=combobox]");
  };
  const boxes = choices.map(({ id, label }) => {
    const onchange = (/** @type {Event} */ { target }) =>
      /** @type {HTMLInputElement} */ (target).checked ? adder.companions.add(id) : adder.companions.delete(id);
    return h("label", { key: id, class: "gglib-companion" }, h("input", { type: "checkbox", checked: adder.companions.has(id), onchange }), label);
  });
  const fields = (/** @type {Row} */ { id }) => ({ repo_id: title, key: id, revision, choices: [...adder.companions] });
  return h("section", { class: "gglib-offer", "aria-label": title }, [
    h("header", {}, [
      h("div", { class: "gglib-tags" }, [
        h("strong", {}, title),
        link && pageLink(link, texts.help_link ?? ""),
        h("span", { class: "gglib-owner" }, note),
      ]),
      iconControl("cancel", texts.close ?? "", { onclick: close }),
    ]),
    warning && h("p", { class: "gglib-gate" }, warning, " ", pageLink(warning_link, texts.help_link ?? "")),
    boxes,
    h("ul", { class: "gglib-variants", tabindex: 0, "aria-label": title }, rows.map((row) => variantOf(app, offerKey(offer, row.id), row, () => fields(row)))),
  ]);
}

/** The key of a variant's feedback. @param {Listing} offer @param {string} id */
const offerKey = ({ title }, id) => `offer ${title} ${id}`;

/** @param {PanelView} app @param {string} at @param {Row} row @param {() => {[name: string]: unknown}} fields */
function variantOf(app, at, row, fields) {
  const { id, title = "", name = "", measure = "", note, lines = [], actions = [] } = row;
  return h("li", { key: id }, [
    h("span", { class: "gglib-name", title: id }, title),
    h("span", { class: "gglib-amount" }, measure),
    h("span", { class: "gglib-tags" }, factsOf(lines, "gglib-tag"), note && h("span", { class: "gglib-owner" }, note)),
    actions.map((action) => actionButton(app, at, action, fields, name)),
    feedbackOf(app, at, name, fields),
  ]);
}
