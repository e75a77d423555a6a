/**
 * Small builders of elements. Text from outside reaches the page through `textContent` only.
 */

import { percent } from "./formats.js";

/**
 * An element. Properties are set; `class`, `role`, `for` and what has a hyphen become attributes.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} properties @param {(Node|string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || ["class", "role", "for"].includes(name)) node.setAttribute(name, value);
    else /** @type {any} */ (node)[name] = value;
  }
  // Without the attribute JupyterLab takes the keys of a focused element for commands to the notebook: `b` adds a cell.
  if (node.tabIndex >= 0 || "tabIndex" in properties) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

/** Strokes on a grid of 16. @type {Record<string, string>} */
export const ICONS = {
  pause: "M5.5 3.5v9M10.5 3.5v9",
  paused: "M6 4.5v7M10 4.5v7",
  resume: "M5 3l7.5 5L5 13z",
  cancel: "M4 4l8 8M12 4l-8 8",
  run_now: "M3.5 3l5.5 5L3.5 13zM11.5 3.5v9",
  discard: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9M6.8 7v4M9.2 7v4",
  remove: "M4 4l8 8M12 4l-8 8",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2.2v3h-3",
  up: "M8 13V3.5M4 7.2L8 3.2l4 4",
  down: "M8 3v9.5M4 8.8l4 4 4-4",
  top: "M8 14V6M4.5 9.3L8 5.8l3.5 3.5M3.5 2.5h9",
  undo: "M3 8a5 5 0 1 0 1.6-3.7M3 2.2v3h3",
  open: "M4 6l4 4 4-4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  code: "M5.5 4.5L2 8l3.5 3.5M10.5 4.5L14 8l-3.5 3.5",
  check: "M3 8.5l3.4 3.4L13 4.6",
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

/** @param {string} name */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "gglib-icon");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/** A button that shows an icon and says its label. @param {string} name @param {string} label @param {string} kind */
export function iconButton(name, label, kind = "gglib-act") {
  return h(
    "button",
    { type: "button", class: `gglib-icon-button ${kind}`, title: label, "aria-label": label },
    icon(name),
  );
}

/** A link that shows an icon and says its label; it opens beside this page. @param {string} name @param {string} label @param {string} url */
export function iconLink(name, label, url) {
  const link = h("a", { class: "gglib-icon-button", target: "_blank", rel: "noopener noreferrer", title: label, "aria-label": label });
  link.href = url;
  link.append(icon(name));
  return link;
}

/** Writes only what changed, so that a tick repaints digits and nothing else. @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} name @param {string|null} value */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** @param {string} label */
export function progressBar(label) {
  return h(
    "div",
    { class: "gglib-bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" },
  );
}

/** How far it is, for who does not see it. @param {HTMLElement} bar @param {number|null} part */
export function sayPart(bar, part) {
  mark(bar, "aria-valuenow", part === null ? null : String(Math.floor(part * 100)));
  mark(bar, "aria-valuetext", part === null ? "unknown" : percent(part));
}

/** Only a web address becomes one. @param {HTMLAnchorElement} link @param {string} url */
export function aim(link, url) {
  if (/^https?:\/\//.test(url) && link.getAttribute("href") !== url) link.href = url;
}

/** @param {string} url @param {string} text */
export function pageLink(url, text = "Open its page") {
  const link = h("a", { class: "gglib-link", target: "_blank", rel: "noopener noreferrer" }, text);
  aim(link, url);
  return link;
}

/** The clipboard, also where a hub is served over plain HTTP. @param {string} text */
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = h("textarea", { value: text, class: "gglib-offscreen" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** @param {string} label @param {() => string} text @param {string} name Its icon. */
export function copyButton(label, text, name = "copy") {
  const button = iconButton(name, label, "gglib-copy");
  button.addEventListener("click", async () => {
    await copy(text());
    button.replaceChildren(icon("check"));
    mark(button, "aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon(name));
      mark(button, "aria-label", label);
    }, 1500);
  });
  return button;
}
