/**
 * Adding: the field for a repository, what the Hub suggests, and the variants that a repository has.
 */

const SUGGEST_MS = 300;

/** What the field is about. */
class Adder {
  /** @type {Listing|null} */
  found = null;
  /** @type {Listing|null} */
  offer = null;
  isFiltering = false;
  text = "";
  /** Which suggestion is chosen, and which of its cells: itself, or the link to its page. */
  row = -1;
  cell = 0;
  filters = /** @type {Record<string, string>} */ ({});
  wanted = /** @type {Set<string>} */ (new Set());
  id = `gglib-${Math.random().toString(36).slice(2)}`;
  #timer = 0;
  #asked = 0;

  /** @param {PanelView} app */
  constructor(app) {
    this.app = app;
  }

  /** @param {string} text */
  typed(text) {
    clearTimeout(this.#timer);
    this.text = text.trim();
    this.#forget();
    if (this.text.length < 2) this.#suggest(null);
    else this.#timer = window.setTimeout(() => void this.#search(), SUGGEST_MS);
  }

  /** What was said of another text is not said beside this one. */
  #forget() {
    this.#asked += 1;
    this.offer = null;
    this.app.asking.forget("adder");
  }

  /** Who has gone elsewhere is offered nothing any more, also by an answer that comes later. */
  leave() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    this.#suggest(null);
  }

  async #search() {
    const asked = (this.#asked += 1);
    // Suggestions are a courtesy: without them the field works too.
    const found = await this.app.kernel.ask("search", { text: this.text, ...this.filters }).catch(() => null);
    if (asked === this.#asked) this.#suggest(found);
  }

  /** @param {string} name @param {string} value */
  narrow(name, value) {
    this.filters[name] = value;
    if (this.text.length >= 2) void this.#search();
  }

  toggleFilters() {
    this.isFiltering = !this.isFiltering;
    this.app.changed();
  }

  /** @param {Listing|null} found */
  #suggest(found) {
    this.found = found?.rows?.length ? found : null;
    this.row = -1;
    if (this.found?.news) this.app.announce(this.found.news);
    this.app.changed();
  }

  /** @param {string} repo */
  pick(repo) {
    const field = this.app.root.querySelector("input[role=combobox]");
    if (field instanceof HTMLInputElement) field.value = repo;
    this.text = repo;
    void this.show();
  }

  async show() {
    this.leave();
    this.#forget();
    const asked = this.#asked;
    if (!this.text || !this.app.isLive) return;
    const offer = await this.app.asking.send("adder", "offer", { repo_id: this.text }, "offer");
    if (asked !== this.#asked) return this.app.asking.forget("adder");
    this.offer = offer;
    this.wanted.clear();
    this.app.changed();
  }

  /** Up and down lead from one suggestion to the next, right to its page and left back. @param {KeyboardEvent} event */
  key(event) {
    const rows = this.found?.rows ?? [];
    const step = { ArrowDown: 1, ArrowUp: this.row < 0 ? 0 : -1 }[event.key];
    const cell = { ArrowRight: 1, ArrowLeft: 0 }[event.key];
    if (step !== undefined && rows.length) Object.assign(this, { row: (this.row + step + rows.length) % rows.length, cell: 0 });
    else if (cell !== undefined && this.cell !== cell && rows[this.row]?.link) this.cell = cell;
    else if (event.key === "Enter" && !event.isComposing) this.#enter(rows[this.row]);
    else if (event.key === "Escape" && this.found) this.leave();
    else return;
    // JupyterLab swallows the line break inside a cell, and with it the form's own submit: the key itself is heeded.
    event.preventDefault();
    this.app.changed();
  }

  /** @param {Row|undefined} chosen */
  #enter(chosen) {
    if (!chosen) void this.show();
    else if (this.cell === 0) this.pick(chosen.id);
    else /** @type {HTMLElement|null} */ (this.app.root.querySelector(`#${this.id}-${this.row}-page a`))?.click();
  }
}

/** @param {PanelView} app */
function adderOf(app) {
  const { adder } = app;
  const { text, mood, alternatives } = app.asking.feedback("adder");
  const onfocusout = (/** @type {FocusEvent} */ { currentTarget, relatedTarget }) =>
    /** @type {Node} */ (currentTarget).contains(/** @type {Node|null} */ (relatedTarget)) || adder.leave();
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
  const isBusy = app.asking.feedback("adder").busy.length > 0;
  const chosen = adder.row < 0 ? null : `${adder.id}-${adder.row}${adder.cell ? "-page" : ""}`;
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!isBusy) void adder.show();
  };
  const filter = { key: "filter", title: texts.filter_title, "aria-label": texts.filter, "aria-expanded": String(adder.isFiltering) };
  const show = { key: "show", type: "submit", "aria-busy": isBusy ? "true" : null, "aria-disabled": isLive ? null : "true" };
  const field = h("input", {
    ...{ type: "text", class: "gglib-field", placeholder: texts.field_hint, title: texts.field_title, autocomplete: "off", spellcheck: "false" },
    ...{ role: "combobox", disabled: !isLive, "aria-label": texts.field, "aria-autocomplete": "list", "aria-haspopup": "grid" },
    ...{ "aria-expanded": String(adder.found !== null), "aria-controls": `${adder.id}-list`, "aria-activedescendant": chosen },
    oninput: (/** @type {Event} */ event) => adder.typed(/** @type {HTMLInputElement} */ (event.target).value),
    onkeydown: (/** @type {KeyboardEvent} */ event) => adder.key(event),
  });
  return h("form", { class: "gglib-add", onsubmit }, [
    h("div", { class: "gglib-search" }, icon("search"), field),
    button("gglib-button", { ...filter, onclick: () => adder.toggleFilters() }, icon("filter"), h("span", { class: "gglib-word" }, texts.filter)),
    button("gglib-button gglib-primary", show, h("span", {}, texts.show)),
  ]);
}

/** @param {PanelView} app */
function filtersOf({ adder, texts, model }) {
  const fields = model.get("snapshot").filters.map(({ id, label, hint, choices }) => {
    const value = adder.filters[id] ?? "";
    const set = (/** @type {Event} */ event) => adder.narrow(id, /** @type {HTMLInputElement} */ (event.target).value);
    // Enter alone makes no change inside a cell of JupyterLab.
    const enter = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && set(event);
    const common = { key: id, class: "gglib-field", "aria-label": label, onchange: set };
    if (!choices) return h("input", { ...common, type: "text", placeholder: hint, onkeydown: enter });
    const options = [["", hint], ...choices].map(([one, text]) => h("option", { value: one, selected: one === value }, text));
    return h("select", common, options);
  });
  return h("div", { class: "gglib-filters", role: "group", "aria-label": texts.filters }, fields);
}

/** @param {PanelView} app */
function suggestionsOf(app) {
  const { adder, texts } = app;
  const rows = (adder.found?.rows ?? []).map((row, at) => {
    const isChosen = (/** @type {number} */ cell) => String(at === adder.row && cell === adder.cell);
    const page = row.link && iconControl("page", app.say("card", row.name ?? ""), { href: row.link, ...BESIDE, tabindex: -1 });
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
  // The field keeps the focus, and with it its suggestions, while one of them or its link is pressed.
  return h("div", { ...grid, onmousedown: (/** @type {Event} */ event) => event.preventDefault() }, rows);
}

/** @param {PanelView} app @param {Listing} offer */
function offerOf(app, offer) {
  const { adder, texts } = app;
  const { view, rows = [], link, warning, warning_link = "", choices = [], revision = null } = offer;
  const close = () => {
    adder.offer = null;
    app.focusNext("input[role=combobox]");
  };
  const boxes = choices.map(({ id, label }) => {
    const onchange = (/** @type {Event} */ { target }) =>
      /** @type {HTMLInputElement} */ (target).checked ? adder.wanted.add(id) : adder.wanted.delete(id);
    return h("label", { key: id, class: "gglib-companion" }, h("input", { type: "checkbox", onchange }), label);
  });
  const fields = (/** @type {Row} */ { id }) => ({ repo_id: view.title, key: id, revision, choices: [...adder.wanted] });
  return h("section", { class: "gglib-offer", "aria-label": view.title }, [
    h("header", {}, [
      h("strong", {}, view.title ?? ""),
      link && pageLink(link, texts.help_link ?? ""),
      h("span", { class: "gglib-owner" }, view.note ?? ""),
      iconControl("cancel", texts.close ?? "", { onclick: close }),
    ]),
    warning && h("p", { class: "gglib-gate" }, warning, " ", pageLink(warning_link, texts.help_link ?? "")),
    boxes,
    h("ul", { class: "gglib-variants", tabindex: 0, "aria-label": view.title }, rows.map((row) => variantOf(app, row, () => fields(row)))),
  ]);
}

/** @param {PanelView} app @param {Row} row @param {() => {[name: string]: unknown}} fields */
function variantOf(app, row, fields) {
  const at = `offer ${row.id}`;
  const { id, title = "", name = "", measure = "", note, lines = [], actions = [] } = row;
  return h("li", { key: id }, [
    h("span", { class: "gglib-name", title: id }, title),
    h("span", { class: "gglib-amount" }, measure),
    h("span", { class: "gglib-tags" }, factsOf(lines, "gglib-tag"), note && h("span", { class: "gglib-owner" }, note)),
    actions.map((action) => actionButton(app, at, action, fields)),
    below(app, at, name, fields),
  ]);
}
