/**
 * The area above the lists: totals, a graph of the last 90 seconds' rate, limits, and notices about the queue.
 */

const SAMPLES = 90;
const NOTIFY_KEY = "gglib_nb notifies";

/** @param {PanelView} app @param {Header} header */
function headerOf(app, header) {
  const { texts } = app;
  const counts = app.isLive ? header.counts : app.text("last_seen", header.counts);
  const pace = app.fresh(header.pace ?? []).map(({ text }) => text);
  return h("header", { key: "header", class: "gglib-header" }, [
    h("div", { class: "gglib-totals" }, [
      h("strong", { role: "heading", "aria-level": "2" }, texts.title),
      // After a run the summary replaces the counts, so that the layout does not shift.
      (!header.summary || header.has_work) && h("span", { class: "gglib-counts" }, counts),
      header.summary && h("p", { class: "gglib-summary", role: "status", "data-mood": header.mood ?? null }, header.summary),
    ]),
    h("svg", { class: "gglib-graph", viewBox: `0 0 ${SAMPLES - 1} 20`, preserveAspectRatio: "none", "aria-hidden": "true" }, [
      h("path", { key: "area", d: app.graph && `${app.graph.line}L${SAMPLES - 1} 20L${app.graph.start} 20Z` }),
      h("path", { key: "line", d: app.graph && app.graph.line }),
    ]),
    h("div", { class: "gglib-pace" }, [
      h("span", { class: "gglib-rate" }, app.isFresh ? (header.rate ?? "") : ""),
      h("span", { class: "gglib-eta" }, pace.join(" · ")),
    ]),
    h("div", { class: "gglib-actions" }, [
      toggle("models", texts.models ?? "", app.isModels, () => app.showModels(!app.isModels), "aria-pressed"),
      toggle("limits", texts.limits ?? "", app.isLimits, () => app.toggleLimits(), "aria-expanded"),
      (header.actions ?? []).map((action) => actionButton(app, "queue", action, () => ({ action: action.id }))),
    ]),
    feedbackOf(app, "queue", "", ({ id }) => ({ action: id })),
    app.isLimits && limits(app, header.fields ?? []),
  ]);
}

/** @param {string} name @param {string} label @param {boolean} isOn @param {() => void} onclick @param {string} state */
const toggle = (name, label, isOn, onclick, state) => button("gglib-button", { key: name, [state]: String(isOn), onclick }, icon(name), label);

/** The graph of the last 90 seconds; null with fewer than three samples or no traffic. @param {number[]} rates */
function graphOf(rates) {
  if (rates.length < 3 || !rates.some((one) => one > 0)) return null;
  const maxRate = Math.max(...rates);
  const start = SAMPLES - rates.length;
  return { start, line: `M${rates.map((one, at) => `${start + at} ${(19 - (one / maxRate) * 17).toFixed(1)}`).join("L")}` };
}

/** Each field sends its value on blur or Enter, and then shows the value in effect. @param {PanelView} app @param {Field[]} fields */
function limits(app, fields) {
  const set = (/** @type {Event} */ { target }, /** @type {Field} */ { id, value }) => {
    const input = /** @type {HTMLInputElement} */ (target);
    if (input.value === (input.dataset.asked ?? value)) return;
    input.dataset.asked = input.value;
    void app.requests.send("limits", id, { id, value: input.value }, "set");
  };
  const shown = (/** @type {HTMLInputElement} */ input, /** @type {Field} */ { value }) => {
    if (input.dataset.asked === undefined && input.value !== value) input.value = value;
  };
  return h("div", { class: "gglib-limits", role: "group", "aria-label": app.texts.limits }, [
    fields.map((field) =>
      h("label", { key: field.id }, [
        field.label,
        h("input", {
          class: "gglib-field",
          type: "text",
          inputmode: field.is_number === false ? null : "decimal",
          placeholder: field.hint ?? null,
          disabled: !app.isLive,
          value: field.value,
          onchange: (/** @type {Event} */ event) => set(event, field),
          // In a JupyterLab cell, Enter fires no change event.
          onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && set(event, field),
          onfocus: (/** @type {Event} */ { target }) => delete (/** @type {HTMLElement} */ (target).dataset.asked),
          onblur: (/** @type {Event} */ { target }) => shown(/** @type {HTMLInputElement} */ (target), field),
        }),
      ]),
    ),
    feedbackOf(app, "limits", "", () => ({})),
    typeof Notification !== "undefined" &&
      h("label", { key: "notify", class: "gglib-companion" }, [
        h("input", { type: "checkbox", checked: app.notifies, onchange: (/** @type {Event} */ event) => app.askToNotify(event) }),
        app.texts.notify,
      ]),
  ]);
}

/** Notices about the whole queue. @param {PanelView} app @param {Notice[]} notices */
function noticesOf(app, notices) {
  const lines = notices.map(({ kind, text, action }) =>
    h("p", { key: kind, "data-kind": kind }, [
      h("span", {}, text),
      action && actionButton(app, kind, action, () => ({ action: action.id })),
      action && feedbackOf(app, kind, "", ({ id }) => ({ action: id })),
    ]),
  );
  return h("div", { key: "notices", class: "gglib-notices", role: "status", hidden: !lines.length }, lines);
}

/** Whether the user enabled notifications and the browser permits them. */
const canNotify = () => attempt(() => localStorage.getItem(NOTIFY_KEY) === "yes" && Notification.permission === "granted", false);

/** In Chrome on Android the class exists, but its constructor throws. @param {string} title @param {string} text */
const notify = (title, text) => attempt(() => new Notification(title, { body: text, silent: true, tag: text }));

/** Stores a choice; if the storage is disabled or full, it applies to this view only. @param {"localStorage"|"sessionStorage"} place @param {string} name @param {string} value */
const store = (place, name, value) => attempt(() => window[place].setItem(name, value));
