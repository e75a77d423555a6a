/**
 * A row of any list: bars, facts, buttons and details. It renders the kernel's text and has no logic per status.
 */

/** Actions that share the key of their opposite, so that the button keeps the focus. @type {Record<string, string>} */
const SLOTS = { resume: "pause", remove: "cancel", undo: "cancel" };
const MOVES = ["top", "up", "down"];
/** With more files than this, neighbouring files share a segment. */
const MAX_SEGMENTS = 40;
/** The resolution of `runs` and `verified`, as in `domain.download`. */
const BAR_STEPS = 128;
/** A download that is out of view is rendered at most this often; screen readers and searches find it there. */
const UNSEEN_MS = 2000;

/** A button that sends a request. @param {PanelView} app @param {string} at The key of its feedback. @param {Action} action @param {() => {id?: string, [name: string]: unknown}} fields @param {string} name Of its row or list. */
function actionButton(app, at, action, fields, name = "") {
  const feedback = app.requests.feedback(at);
  const { id, label, aria, is_off, is_primary } = action;
  const isWorded = action.is_worded || !(id in ICONS || id in ICON_ALIASES);
  const kind = isWorded ? `gglib-button ${is_primary ? "gglib-primary" : ""}` : "gglib-icon-button";
  const isOff = is_off || feedback.done.includes(id) || !app.isLive;
  const press = (/** @type {MouseEvent} */ event) => {
    const isMove = MOVES.includes(id);
    // Ignore the second click of a double click.
    if (isOff || (event.detail > 1 && !isMove)) return;
    const request = fields();
    void app.requests.press(at, action, isMove && event.detail ? { ...request, id: app.hold.moveTarget(event, request.id ?? "") } : request);
  };
  return button(
    `${kind} gglib-do-${id}`,
    {
      key: SLOTS[id] ?? id,
      title: label,
      "aria-label": feedback.done.includes(id) ? null : aria || (name ? `${label} ${name}` : null),
      "aria-busy": feedback.busy.includes(id) ? "true" : null,
      "aria-disabled": isOff ? "true" : null,
      "aria-expanded": action.confirm ? String(feedback.opener === id) : null,
      "data-off": is_off ? "true" : null,
      "data-action": id,
      onclick: press,
    },
    (!isWorded || id in ICONS || id in ICON_ALIASES) && icon(id),
    isWorded && h("span", {}, feedback.done.includes(id) ? feedback.text : label),
  );
}

/** A button that copies text. @param {PanelView} app @param {string} label @param {string} text @param {string} name */
function copyButton(app, label, text, name = "copy") {
  const isDone = app.copied === label;
  const props = { key: `copy ${name}`, class: "gglib-copy", onclick: () => app.copy(label, text) };
  return iconControl(isDone ? "completed" : name, isDone ? (app.texts.copied ?? "") : label, props);
}

/** The feedback below a control: message, confirmation, code to copy. @param {PanelView} app @param {string} at @param {string} name @param {(action: Action) => object} fields */
function feedbackOf(app, at, name, fields) {
  const { confirm, mood, done, text, code } = app.requests.feedback(at);
  const lines = code.map(([title, shown]) =>
    h("div", { class: "gglib-program" }, h("strong", {}, title), codeBox(app, `${title}: ${name}`, shown, app.text("copy_text", `${title}: ${name}`))),
  );
  return [
    confirm && confirmBox(app, at, confirm, fields),
    h("p", { class: "gglib-message", role: "status", "data-mood": mood || null }, done.length ? "" : text),
    lines.length > 0 && h("div", { class: "gglib-programs" }, lines),
  ];
}

/** @param {PanelView} app @param {string} at @param {Action} action @param {(action: Action) => object} fields */
function confirmBox(app, at, action, fields) {
  const close = () => app.requests.dismiss(at);
  const onkeydown = (/** @type {KeyboardEvent} */ { key }) => key === "Escape" && close();
  const isBusy = app.requests.feedback(at).busy.includes(action.id);
  const yes = () => app.isLive && void app.requests.send(at, action.id, fields(action)).then(close);
  return h("div", { class: "gglib-confirm", role: "group", "aria-label": action.confirm, onkeydown }, [
    h("span", {}, action.confirm),
    button("gglib-button gglib-danger", { "aria-busy": isBusy ? "true" : null, onclick: yes }, h("span", {}, action.yes)),
    button("gglib-button gglib-keep", { onclick: close }, app.texts.no),
  ]);
}

/** @param {PanelView} app @param {string} label @param {string} text @param {string} copyLabel */
const codeBox = (app, label, text, copyLabel) =>
  h("div", { class: "gglib-code" }, h("pre", { tabindex: 0, role: "group", "aria-label": label }, text), copyButton(app, copyLabel, text));

/** Name, tag and origin. @param {Row} row */
const titleOf = ({ id, title, tag, origin }) =>
  h("div", { class: "gglib-title" }, [
    h("span", { class: "gglib-name", title: id }, title ?? ""),
    tag && h("span", { class: "gglib-chip" }, tag),
    origin && h("span", { class: "gglib-owner" }, origin),
  ]);

/** The bar of a row, divided into its files. @param {PanelView} app @param {Row} row */
function rowBar(app, { name = "", part = null, progress, bars = [] }) {
  if (!progress) return null;
  const [only] = bars;
  const segments = bars.length > 1 ? segmentsOf(bars) : [];
  const isUnknown = part === null && !segments.length;
  const parts = segments.map(({ weight, part: done, status, isCompanion }, at) => {
    const style = { "flex-grow": String(weight), "background-size": `${(done * 100).toFixed(1)}% 100%` };
    return h("div", { key: at, class: "gglib-segment", "data-state": status, "data-companion": isCompanion ? "true" : null, style });
  });
  return h(
    "div",
    {
      class: "gglib-bar gglib-divided",
      ...progressOf(app.text("progress", name), part, progress),
      "data-unknown": isUnknown ? "true" : null,
      "data-fine": segments.length > MAX_SEGMENTS / 2 ? "true" : null,
    },
    parts.length ? parts : h("div", { class: "gglib-segment gglib-map" }, mapOf(only ?? { part })),
  );
}

/**
 * The segments of a bar, in proportion to the sizes of the files. With many files, neighbours share a segment.
 * @param {Bar[]} bars @returns {{weight: number, part: number, status: string, isCompanion: boolean}[]}
 */
function segmentsOf(bars) {
  const meanWeight = bars.reduce((sum, { weight }) => sum + weight, 0) / bars.filter(({ weight }) => weight).length || 1;
  const files = bars.filter(({ tag }) => !tag);
  const groupSize = Math.ceil(files.length / MAX_SEGMENTS) || 1;
  const groups = files.flatMap((_, at) => (at % groupSize ? [] : [files.slice(at, at + groupSize)]));
  return [...groups, ...bars.filter(({ tag }) => tag).map((bar) => [bar])].map((group) => {
    const weight = group.reduce((sum, bar) => sum + (bar.weight || meanWeight), 0);
    const done = group.reduce((sum, bar) => sum + (bar.weight || meanWeight) * (bar.part ?? 0), 0);
    const statuses = group.map(({ status }) => status);
    const moving = group.find(({ part, status }) => status !== statuses[0] && part !== 1 && part !== 0) ?? group[0];
    return { weight, part: done / weight, status: moving?.status ?? "", isCompanion: Boolean(group[0]?.tag) };
  });
}

/** A file's byte map: received ranges are pale, verified bytes solid. @param {Partial<Bar>} bar */
function mapOf({ part = null, runs = [], verified = 0 }) {
  const isDone = part === 1;
  const inset = (/** @type {number} */ start, /** @type {number} */ end) => ({
    inset: `0 ${((1 - end) * 100).toFixed(2)}% 0 ${(start * 100).toFixed(2)}%`,
  });
  const pairs = runs.flatMap((start, at) => (at % 2 ? [] : [[start / BAR_STEPS, (runs[at + 1] ?? start) / BAR_STEPS]]));
  const shown = isDone || !pairs.length ? [[0, part ?? 0]] : pairs;
  const first = shown[0]?.[0] === 0 ? (shown[0][1] ?? 0) : 0;
  return [
    h("div", { class: "gglib-runs" }, shown.map(([from = 0, to = 0]) => to > 0 && h("div", { class: "gglib-run", style: inset(from, to) }))),
    h("div", { class: "gglib-proven", style: inset(0, isDone ? 1 : Math.min(verified / BAR_STEPS, first)) }),
  ];
}

/** One file in the details of a row. @param {PanelView} app @param {Bar} bar @param {number} at @param {boolean} isStopped */
function fileLine(app, bar, at, isStopped) {
  const tail = /-\d+-of-\d+\.\w+$/.exec(bar.name)?.index ?? bar.name.length;
  const name = h("span", { class: "gglib-file" }, splitName(bar.name, tail));
  return h("div", { key: at, class: "gglib-shard", "data-status": bar.status }, [
    h("span", { class: "gglib-which", title: bar.name }, name, bar.tag && h("span", { class: "gglib-chip" }, bar.tag)),
    h("div", { class: "gglib-bar gglib-map", ...progressOf(app.text("progress", bar.name), bar.part, bar.percent) }, mapOf(bar)),
    h("span", { class: "gglib-amount" }, bar.amount),
    h("span", { class: "gglib-state" }, isStopped && bar.part !== 1 ? "" : bar.status),
  ]);
}

/** A row; rendered only when its data has changed. @param {PanelView} app @param {string} list The id of its list. @param {Row} row */
function rowOf(app, list, row) {
  const at = `${list} ${row.id}`;
  app.requests.clearOutdated(at, row);
  const isOpen = Boolean(row.reason || row.code || row.bars?.length) && app.isOpen(row);
  const memo = [row, list, app.requests.feedback(at), isOpen, app.isLive, app.isFresh, app.copied.endsWith(row.name ?? "") && app.copied];
  return unlessSame("div", row.id, memo, () => drawnRow(app, list, row, at, isOpen), row.status === "downloading" ? UNSEEN_MS : 0);
}

/** @param {PanelView} app @param {string} list @param {Row} row @param {string} at The key of its feedback. @param {boolean} isOpen */
function drawnRow(app, list, row, at, isOpen) {
  const { name = "", bars = [] } = row;
  const canOpen = Boolean(row.reason || row.code || bars.length);
  const isStopped = list === "active" && !app.isLive;
  const mood = isStopped ? null : row.mood;
  const fields = (/** @type {Action} */ { id }) => ({ action: id, id: row.id });
  const buttons = (/** @type {boolean} */ isOfFiles) =>
    (isStopped ? [] : (row.actions ?? []))
      .filter(({ is_worded }) => isOfFiles === Boolean(row.path && !is_worded))
      .map((action) => actionButton(app, at, action, () => fields(action), name));
  const onkeydown = (/** @type {KeyboardEvent} */ event) => app.keys.onKeyDown(event, row, at);
  const grip = { class: "gglib-grip", "aria-disabled": app.isLive ? null : "true", onpointerdown: (/** @type {PointerEvent} */ event) => app.drag(event, row, at) };
  const opener = { class: "gglib-open", "aria-expanded": String(isOpen), onclick: () => app.toggle(row, !isOpen) };
  return h(
    "div",
    { key: row.id, class: `gglib-row${isOpen ? " is-open" : ""}`, role: "listitem", "data-key": row.id, "data-status": isStopped ? "stopped" : row.status, "data-mood": mood, onkeydown },
    h("div", { class: "gglib-lead" }, [
      h("span", { class: "gglib-badge" }, row.icon ? icon(isStopped ? "stopped" : row.icon) : String(row.position ?? "")),
      Boolean(row.position) && iconControl("grip", app.text("reorder", name), grip),
    ]),
    titleOf(row),
    h("span", { class: "gglib-measure" }, row.measure ?? ""),
    unlessSame("div", "actions", [JSON.stringify(row.actions), app.requests.feedback(at), isOpen, canOpen, app.isLive, isStopped, row.path], () => {
      const tools = [...buttons(false), canOpen && iconControl("open", app.text("details", name), opener)];
      return h("div", { class: "gglib-actions", role: "toolbar", "aria-label": app.text("row_actions", name), hidden: !tools.some(Boolean) }, tools);
    }),
    rowBar(app, row),
    h("div", { class: "gglib-line" }, [
      h("span", { class: "gglib-facts" }, factsOf(app.fresh(row.lines ?? []))),
      h("span", { class: "gglib-note", "data-mood": mood }, isStopped ? app.texts.stopped : (row.note ?? "")),
      row.link && pageLink(row.link, app.texts.help_link ?? ""),
    ]),
    row.path && pathOf(app, row, buttons(true)),
    feedbackOf(app, at, name, fields),
    isOpen &&
      h("div", { class: "gglib-details" }, [
        row.reason && h("p", { class: "gglib-reason" }, row.reason),
        row.code && codeBox(app, app.text("code", name), row.code, app.text("copy_code", name)),
        (bars.length > 1 || !row.code) && bars.map((bar, index) => fileLine(app, bar, index, isStopped)),
      ]),
  );
}

/** A model's path, and the actions for its files. @param {PanelView} app @param {Row} row @param {TreeNode[]} buttons */
function pathOf(app, { path = "", folder = "", name = "", code }, buttons) {
  const address = folderAddress(folder);
  return h("div", { class: "gglib-path" }, [
    h("code", { title: path }, splitPath(path)),
    h("span", { class: "gglib-model-actions" }, [
      copyButton(app, app.text("copy_path", name), path),
      code && copyButton(app, app.text("copy_code", name), code, "code"),
      address && iconControl("folder", app.text("folder", name), { href: address, ...NEW_TAB }),
      buttons,
    ]),
  ]);
}

/**
 * The URL at which Jupyter shows a folder; null if the folder is not below the server's root, if its path contains a hidden folder,
 * or if this is not a Jupyter page.
 * @param {string} folder With `~` for the home folder, as in the server's root. @param {Record<string, string>} settings
 */
function folderAddress(folder, settings = pageSettings()) {
  const { baseUrl, serverRoot } = settings;
  if (!baseUrl || !serverRoot) return null;
  const root = serverRoot.replace(/\/*$/, "/");
  if (!`${folder}/`.startsWith(root)) return null;
  const names = folder.slice(root.length).split("/").filter(Boolean);
  if (names.some((name) => name.startsWith("."))) return null;
  const isNotebook = settings.appName === "Jupyter Notebook" || settings.notebookPage !== undefined;
  return [`${baseUrl}${isNotebook ? "tree" : "lab/tree"}`, ...names.map(encodeURIComponent)].join("/");
}

/** @returns {Record<string, string>} The configuration that Jupyter's server puts into its pages; empty on other pages. */
const pageSettings = () => attempt(() => JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}"), {});
