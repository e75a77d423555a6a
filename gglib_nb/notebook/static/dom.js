/**
 * A keyed renderer: a view is described as a tree, and the document is updated to match it. Elements with the same key are kept,
 * including focus, selection and scroll position. Untrusted text becomes text nodes only.
 */

/** SVG paths on a 16 by 16 grid. @type {Record<string, string>} */
const ICONS = {
  pause: "M5.5 3.5v9M10.5 3.5v9",
  paused: "M6 4.5v7M10 4.5v7",
  resume: "M5 3l7.5 5L5 13z",
  cancel: "M4 4l8 8M12 4l-8 8",
  run_now: "M3.5 3l5.5 5L3.5 13zM11.5 3.5v9",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2.2v3h-3",
  up: "M8 13V3.5M4 7.2L8 3.2l4 4",
  down: "M8 3v9.5M4 8.8l4 4 4-4",
  top: "M8 14V6M4.5 9.3L8 5.8l3.5 3.5M3.5 2.5h9",
  undo: "M3 8a5 5 0 1 0 1.6-3.7M3 2.2v3h3",
  open: "M4 6l4 4 4-4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  code: "M5.5 4.5L2 8l3.5 3.5M10.5 4.5L14 8l-3.5 3.5",
  completed: "M3 8.5l3.4 3.4L13 4.6",
  grip: "M6 3.5v.01M10 3.5v.01M6 8v.01M10 8v.01M6 12.5v.01M10 12.5v.01",
  downloading: "M8 2.5v8M4.5 7.2L8 10.7l3.5-3.5M3 13.5h10",
  failed: "M8 3.5v5.5M8 12.3v.01",
  cancelled: "M3.5 8h9",
  stopped: "M4.5 4.5h7v7h-7z",
  verify: "M8 2l5 2v3.5c0 3-2 5.3-5 6.5c-3-1.2-5-3.5-5-6.5V4zM5.8 8l1.6 1.6L10.4 6.5",
  folder: "M2 4.5h4l1.5 1.5H14v6.5H2z",
  delete: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9M6.8 7v4M9.2 7v4",
  models: "M3 4.5c0-2.6 10-2.6 10 0v7c0 2.6-10 2.6-10 0zM3 4.5c0 2.6 10 2.6 10 0M3 8c0 2.6 10 2.6 10 0",
  limits: "M2.5 5h7M12.5 5h1M2.5 11h1M6.5 11h7M9.5 3v4M3.5 9v4",
  page: "M6.5 3.5h-3v9h9v-3M9.5 2.5h4v4M13.5 2.5L7.5 8.5",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9M10.5 10.5L14 14",
};
/** Actions that use the icon of another action. @type {Record<string, string>} */
const ICON_ALIASES = { remove: "cancel", dismiss: "cancel", discard: "delete", loading: "code", repair: "retry", update: "downloading", inspect: "search", export: "page" };

/** Set as properties, not attributes: the user or the browser can change them. */
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden"]);

/** The last rendered tree of each node. @type {WeakMap<Node, TreeNode|string>} */
const rendered = new WeakMap();
/** The last rendered children of each element, with their keys. @type {WeakMap<Node, {wanted: string[], nodes: Node[]}>} */
const renderedChildren = new WeakMap();

/**
 * A node of the tree. `key` identifies it among its siblings, `on…` props are event handlers, `style` is an object.
 * @param {string} tag @param {Record<string, any>|null} props @param {any[]} children @returns {TreeNode}
 */
function h(tag, props = null, ...children) {
  const kept = children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
  return { tag, props: props ?? {}, children: kept };
}

/** When each element that is out of view was last rendered. @type {WeakMap<Node, number>} */
const renderedOutOfView = new WeakMap();

/**
 * A node that is rendered only when an item of `memo` has changed, and out of view at most every `restMs`.
 * @param {string} tag @param {string} key @param {any[]} memo @param {() => TreeNode} draw @returns {TreeNode}
 */
const unlessSame = (tag, key, memo, draw, restMs = 0) => ({ tag, props: { key, memo }, children: [], draw, restMs });

/** Updates the children of an element to match these nodes. @param {Node} parent @param {(TreeNode|string)[]} children */
function patch(parent, children) {
  const counts = /** @type {Map<string, number>} */ (new Map());
  const wanted = children.map((child) => keyOf(child, counts));
  const last = renderedChildren.get(parent);
  // Most updates change only text and attributes; skip reading the document then.
  if (last && last.nodes.length === parent.childNodes.length && isEqual(wanted, last.wanted)) {
    last.nodes.forEach((node, at) => update(node, children[at] ?? ""));
    return;
  }
  const known = new Map(last?.wanted.map((key, at) => [key, last.nodes[at]]));
  const nodes = children.map((child, at) => {
    const key = wanted[at] ?? "";
    const node = known.get(key) ?? createNode(child);
    known.delete(key);
    update(node, child);
    return node;
  });
  const kept = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
  let cursor = parent.firstChild;
  for (const node of nodes) {
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  renderedChildren.set(parent, { wanted, nodes });
}

/** @param {TreeNode|string} child @param {Map<string, number>} counts */
function keyOf(child, counts) {
  if (typeof child === "object" && child.props.key !== undefined) return `${child.tag} =${child.props.key}`;
  const kind = typeof child === "object" ? `${child.tag}.${child.props.class ?? ""}` : "text";
  const number = (counts.get(kind) ?? 0) + 1;
  counts.set(kind, number);
  return `${kind} ${number}`;
}

/** @param {TreeNode|string} child @returns {Node} */
function createNode(child) {
  if (typeof child !== "object") return document.createTextNode(String(child));
  const isSvg = child.tag === "svg" || child.tag === "path";
  return isSvg ? document.createElementNS("http://www.w3.org/2000/svg", child.tag) : document.createElement(child.tag);
}

/** @param {Node} node @param {TreeNode|string} child */
function update(node, child) {
  if (typeof child !== "object") {
    if (node.nodeValue !== String(child)) node.nodeValue = String(child);
    return;
  }
  const before = rendered.get(node);
  const old = typeof before === "object" ? before.props : {};
  const { memo } = child.props;
  if (memo && old.memo && (isEqual(memo, old.memo) || performance.now() - (renderedOutOfView.get(node) ?? -Infinity) < (child.restMs ?? 0))) return;
  if (renderedOutOfView.has(node)) renderedOutOfView.set(node, performance.now());
  const { props, children } = child.draw?.() ?? child;
  rendered.set(node, memo ? { ...child, props: { ...props, memo } } : child);
  const element = /** @type {HTMLElement} */ (node);
  for (const name in props) setProperty(element, name, props[name], old[name]);
  for (const name in old) if (!(name in props)) setProperty(element, name, undefined, old[name]);
  // Without this attribute JupyterLab handles keys of a focused element as notebook commands: `b` adds a cell.
  if ((!before || props.href !== old.href) && element.tabIndex >= 0) setProperty(element, "data-lm-suppress-shortcuts", "true", undefined);
  patch(element, children);
}

/** @param {HTMLElement} element @param {string} name @param {any} value @param {any} old */
function setProperty(element, name, value, old) {
  if (name === "key" || name === "memo") return;
  if (name === "style") for (const part in value) value[part] !== old?.[part] && element.style.setProperty(part, value[part]);
  else if (name.startsWith("on")) {
    if (Boolean(value) === Boolean(old)) return;
    // Calls the latest handler. Its result is discarded: `false` would prevent the browser's default action.
    /** @type {any} */ (element)[name] = value ? (/** @type {Event} */ event) => void /** @type {TreeNode|undefined} */ (rendered.get(element))?.props[name]?.(event) : null;
  }
  else if (value === old) return;
  // Do not overwrite what the user is typing.
  else if (name === "value" && element.matches(":focus")) return;
  else if (PROPERTIES.has(name)) /** @type {any} */ (element)[name] = value ?? false;
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** @param {any[]} one @param {any[]} other */
const isEqual = (one, other) => one.length === other.length && one.every((part, at) => part === other[at]);

/** @param {string} id */
const icon = (id) =>
  h("svg", { class: "gglib-icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, h("path", { d: ICONS[ICON_ALIASES[id] ?? id] ?? "" }));

/** @param {string} kind Its class. @param {Record<string, any>} props @param {any[]} children */
const button = (kind, props, ...children) => h("button", { type: "button", class: kind, ...props }, ...children);

/** A button or link with an icon and an accessible label. @param {string} id @param {string} label @param {Record<string, any>} props */
const iconControl = (id, label, props) =>
  h(props.href ? "a" : "button", { type: props.href ? null : "button", title: label, "aria-label": label, ...props, class: `gglib-icon-button ${props.class ?? ""}` }, icon(id));

/** The ARIA attributes of a progress bar. @param {string} label @param {number|null} part @param {string} text */
const progressOf = (label, part, text) => ({
  ...{ role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 },
  ...{ "aria-valuenow": part === null ? null : Math.floor(part * 100), "aria-valuetext": text },
});

/** Attributes of links that open in a new tab. */
const NEW_TAB = { target: "_blank", rel: "noopener noreferrer" };

/** One element per fact, with its mood. @param {Fact[]} facts @param {string} name Their class. */
const factsOf = (facts, name = "") => facts.map(({ text, mood }) => h("span", { class: name || null, "data-mood": mood ?? null }, text));

/** A link; other addresses than http and https are shown without `href`. @param {string} url @param {string} text */
const pageLink = (url, text) => h("a", { class: "gglib-link", ...NEW_TAB, href: /^https?:\/\//.test(url) ? url : null }, text);

/** A name in two parts; CSS truncates the first. @param {string} name @param {number} at */
const splitName = (name, at) => [h("span", { key: 1 }, name.slice(0, at)), h("span", { key: 2 }, name.slice(at))];

/** A path whose file name is not truncated. @param {string} path */
const splitPath = (path) => splitName(path, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);

/** The result of a call; the fallback if it throws, as storage and notifications do when they are disabled. @template T @param {() => T} call @param {T|null} fallback */
function attempt(call, fallback = null) {
  try {
    return call();
  } catch {
    return fallback;
  }
}

/** Copies to the clipboard. The fallback is for plain HTTP, as on some JupyterHubs, and for frames without permission. @param {string} text */
async function copy(text) {
  if (await navigator.clipboard?.writeText(text).then(() => true, () => false)) return;
  const area = document.body.appendChild(document.createElement("textarea"));
  area.value = text;
  area.select();
  document.execCommand("copy");
  area.remove();
}
