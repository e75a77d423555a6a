/**
 * A quiet notification of the browser when a long download ends while nobody looks. Off until a person turns it on here, which is
 * when the browser asks, once.
 */

import { h } from "./dom.js";
import { titleOf } from "./words.js";

/** @import { PanelState } from "./messages.js" */

const NOTIFIES = "gglib_nb notifies";
/** What ends sooner is still in mind. */
const LONG_S = 60;

/** The choice, and what comes of it. */
export class Notifier {
  constructor() {
    this.box = h("input", { type: "checkbox", checked: isWanted() });
    this.element = h("label", { class: "gglib-companion" }, this.box, "Tell me when a long download ends");
    this.element.hidden = typeof Notification === "undefined";
    this.box.addEventListener("change", async () => {
      const isAllowed = this.box.checked && (await Notification.requestPermission()) === "granted";
      this.box.checked = isAllowed;
      remember(isAllowed);
    });
  }

  /** @param {PanelState} before @param {PanelState} after */
  heard(before, after) {
    if (!document.hidden || !this.box.checked || typeof Notification === "undefined") return;
    for (const text of endingsOf(before, after)) new Notification("GGUF downloads", { body: text, silent: true, tag: text });
  }
}

/** What ended between two states after more than a minute, in words. @param {PanelState} before @param {PanelState} after */
export function endingsOf(before, after) {
  return Object.values(after.items).flatMap((item) => {
    const { status, started_at_s: start, ended_at_s: end } = item;
    const hasEnded = ["completed", "failed"].includes(status) && before.items[item.id]?.status !== status;
    if (!hasEnded || !before.items[item.id] || start === null || end === null || end - start < LONG_S) return [];
    return status === "completed" ? `${titleOf(item)} is complete.` : `${titleOf(item)} failed.`;
  });
}

function isWanted() {
  try {
    return localStorage.getItem(NOTIFIES) === "yes" && Notification.permission === "granted";
  } catch {
    return false;
  }
}

/** @param {boolean} isOn */
function remember(isOn) {
  try {
    localStorage.setItem(NOTIFIES, isOn ? "yes" : "no");
  } catch {
    // A host may forbid it; the choice holds in this view all the same.
  }
}
