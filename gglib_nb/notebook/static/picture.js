/**
 * The root component of a view: its parts from top to bottom.
 */

/** Space is reserved for at most this many rows; with more, the panel grows as downloads finish. */
const MAX_RESERVED_ROWS = 3;

/** The parts of the panel. @param {PanelView} app @param {Entry[]} entries @returns {TreeNode[]} */
function panelOf(app, entries) {
  const { header, views } = app.state;
  const isEmpty = !views.some(({ id }) => id !== "elsewhere");
  const parts = [
    headerOf(app, header),
    h("p", { key: "banner", class: "gglib-banner", role: "status", hidden: !app.banner }, app.banner),
    noticesOf(app, header.notices ?? []),
    ...(app.isModels
      ? [app.lists.modelsOf()]
      : [adderOf(app), entries.length > 0 && listOf(app, entries), isEmpty && emptyOf(app), app.lists.earlierOf()]),
  ];
  return parts.flatMap((part) => part || []);
}

/** @param {PanelView} app @param {Entry[]} entries */
function listOf(app, entries) {
  const rows = entries.map((entry) => (entry.row ? rowOf(app, entry.list, entry.row) : headingOf(app, entry)));
  const attributes = { class: "gglib-list", role: "list", "aria-label": app.texts.title, tabindex: -1 };
  return h("div", { key: "list", ...attributes, "data-held": app.hold.isHeld ? "true" : null, style: reservedSpaceOf(entries), ...app.hold.handlers() }, rows);
}

/**
 * The rows to reserve space for: completed rows are taller than queued ones, and with reserved space the cells below the panel do not
 * move.
 * @param {Entry[]} entries
 */
function reservedSpaceOf(entries) {
  const live = entries.filter(({ list, row }) => row && (list === "active" || list === "pending"));
  const fileCounts = live.map(({ row }) => row?.bars?.length ?? 0).filter((files) => files > 1 && files <= 6);
  const rows = live.length ? Math.min(entries.filter(({ row }) => row).length, MAX_RESERVED_ROWS) : 0;
  return { "--gg-rows": String(rows), "--gg-files": String(Math.max(0, ...fileCounts)) };
}

/** A list's title, with the actions for the whole list. @param {PanelView} app @param {Entry} entry */
function headingOf(app, { key, title, count, view }) {
  const at = `heading ${view?.id}`;
  return h("div", { key, class: "gglib-heading", role: "listitem", "data-key": view?.id }, [
    h("span", { role: "heading", "aria-level": "3" }, count ? `${title} · ${count}` : (title ?? "")),
    (view?.actions ?? []).map((action) => actionButton(app, at, action, () => ({ action: action.id, id: view?.id }), title)),
    feedbackOf(app, at, "", ({ id }) => ({ action: id, id: view?.id })),
  ]);
}

/** Shown before the first download. @param {PanelView} app */
function emptyOf(app) {
  const { texts } = app;
  // Only marimo renders widgets in a shadow root; it has no magics.
  const command = ("host" in app.el.getRootNode() ? texts.empty_call : texts.empty_magic) ?? "";
  return h("div", { key: "empty", class: "gglib-empty" }, [
    icon("downloading"),
    h("strong", {}, texts.empty ?? ""),
    h("p", {}, texts.empty_hint ?? ""),
    codeBox(app, texts.empty_code ?? "", command, texts.copy_command ?? ""),
  ]);
}
