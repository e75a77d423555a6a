/**
 * What is above the lists: totals, the rate of the last minute and a half as a line, limits, and lines about the queue as a whole.
 */

const SAMPLES = 90;
const NOTIFIES = "gglib_nb notifies";

/** @param {PanelView} app @param {Header} header */
function headerOf(app, header) {
  const { texts } = app;
  const counts = app.isLive ? header.counts : app.say("last_seen", header.counts);
  const pace = app.fresh(header.pace ?? []).map(({ text }) => text);
  return h("header", { key: "header", class: "gglib-header" }, [
    h("div", { class: "gglib-totals" }, [
      h("strong", { role: "heading", "aria-level": "2" }, texts.title),
      // The summary takes the place of counts that say nothing, so that the end of a run moves nothing.
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
    below(app, "queue", "", ({ id }) => ({ action: id })),
    app.isLimits && limits(app, header.fields ?? []),
  ]);
}

/** @param {string} name @param {string} label @param {boolean} isOn @param {() => void} onclick @param {string} state */
const toggle = (name, label, isOn, onclick, state) => button("gglib-button", { key: name, [state]: String(isOn), onclick }, icon(name), label);

/** The rates of the last minute and a half as a line; null for none. @param {number[]} rates */
function graphOf(rates) {
  if (rates.length < 3 || !rates.some((one) => one > 0)) return null;
  const most = Math.max(...rates);
  const start = SAMPLES - rates.length;
  return { start, line: `M${rates.map((one, at) => `${start + at} ${(19 - (one / most) * 17).toFixed(1)}`).join("L")}` };
}

/** Each field asks the kernel for itself, once it is left or Enter is pressed, and shows what holds. @param {PanelView} app @param {Field[]} fields */
function limits(app, fields) {
  const set = (/** @type {Event} */ { target }, /** @type {Field} */ { id, value }) => {
    const input = /** @type {HTMLInputElement} */ (target);
    if (input.value === (input.dataset.asked ?? value)) return;
    input.dataset.asked = input.value;
    void app.asking.send("limits", id, { id, value: input.value }, "set");
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
          // Enter alone makes no change inside a cell of JupyterLab, which swallows the line break.
          onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && set(event, field),
          onfocus: (/** @type {Event} */ { target }) => delete (/** @type {HTMLElement} */ (target).dataset.asked),
          onblur: (/** @type {Event} */ { target }) => shown(/** @type {HTMLInputElement} */ (target), field),
        }),
      ]),
    ),
    below(app, "limits", "", () => ({})),
    typeof Notification !== "undefined" &&
      h("label", { key: "notify", class: "gglib-companion" }, [
        h("input", { type: "checkbox", checked: app.notifies, onchange: (/** @type {Event} */ event) => app.askToNotify(event) }),
        app.texts.notify,
      ]),
  ]);
}

/** Lines about the queue as a whole. @param {PanelView} app @param {Notice[]} notices */
function noticesOf(app, notices) {
  const lines = notices.map(({ kind, text, action }) =>
    h("p", { key: kind, "data-kind": kind }, [
      h("span", {}, text),
      action && actionButton(app, kind, action, () => ({ action: action.id })),
      action && below(app, kind, "", ({ id }) => ({ action: id })),
    ]),
  );
  return h("div", { key: "notices", class: "gglib-notices", role: "status", hidden: !lines.length }, lines);
}

/** A person wanted notifications, and the browser allows them. */
function mayNotify() {
  try {
    return localStorage.getItem(NOTIFIES) === "yes" && Notification.permission === "granted";
  } catch {
    return false;
  }
}

/** @param {string} title @param {string} text */
function notify(title, text) {
  try {
    new Notification(title, { body: text, silent: true, tag: text });
  } catch {
    // Chrome on Android has the class and refuses to make one.
  }
}

/** @param {"localStorage"|"sessionStorage"} place @param {string} name @param {string} value */
function remember(place, name, value) {
  try {
    window[place].setItem(name, value);
  } catch {
    // A host may forbid it or be full; the choice holds in this view all the same.
  }
}
