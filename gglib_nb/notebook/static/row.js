/**
 * One download's row: title, bar, numbers, buttons, and what it opens to.
 */

import { cutName, DividedBar, shardLine, updateShard } from "./bars.js";
import { aim, copyButton, h, icon, iconButton, ICONS, mark, pageLink, say } from "./dom.js";
import { press } from "./kernel.js";
import { ACTIVE, PENDING } from "./state.js";
import { digestOf, factsOf, loadingCode, measureOf, noteOf, originOf, titleOf } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { ItemState, ShardState } from "./messages.js" */

/** @typedef {{name: string, label: string, shown: (item: ItemState, pending: number) => boolean,
 *   asks: (item: ItemState) => [string, object]}} Action */

/** @param {string} name @param {string} label @param {string[]} statuses @returns {Action} */
const onStatus = (name, label, statuses) => ({
  name,
  label,
  shown: (item) => statuses.includes(item.status),
  asks: ({ id }) => [name, { id }],
});

/** What a row offers, from left to right. @type {Action[]} */
const ACTIONS = [
  { name: "top", label: "Move to top", shown: (item) => item.position > 1, asks: (item) => move(item, 1) },
  { name: "up", label: "Move up", shown: (item) => item.position > 1, asks: (item) => move(item, item.position - 1) },
  {
    name: "down",
    label: "Move down",
    shown: (item, pending) => item.position > 0 && item.position < pending,
    asks: (item) => move(item, item.position + 1),
  },
  onStatus("pause", "Pause", ["downloading", "queued"]),
  onStatus("resume", "Resume", ["paused"]),
  onStatus("retry", "Retry", ["failed"]),
  {
    name: "again",
    label: "Queue again",
    shown: (item) => item.status === "cancelled",
    asks: ({ repo_id, quantization, revision, shards }) => [
      "queue",
      { repo_id, quantization, revision, companions: companionsOf(shards) },
    ],
  },
  onStatus("cancel", "Cancel", ACTIVE),
  onStatus("remove", "Remove", PENDING),
  {
    name: "remove",
    label: "Dismiss",
    shown: (item) => item.status === "failed",
    asks: ({ id }) => ["dismiss", { id }],
  },
];

/** @param {ItemState} item @param {number} position @returns {[string, object]} */
export const move = (item, position) => ["move", { id: item.id, position }];

/** The kinds that were fetched along. @param {ShardState[]} shards */
const companionsOf = (shards) => [...new Set(shards.map(({ kind }) => kind).filter((kind) => kind !== "shard"))];

/** One download. Built once, then patched: focus and selection survive a tick. */
export class Row {
  /** @param {View} view @param {ItemState} item @param {boolean} isOpen @param {(isOpen: boolean) => void} toggled */
  constructor(view, item, isOpen, toggled) {
    this.view = view;
    this.item = item;
    this.title = titleOf(item);
    this.grip = iconButton(
      "grip",
      `Reorder ${this.title}: drag, or press Alt with an arrow key`,
      "gglib-act gglib-grip",
    );
    this.badge = h("span", { class: "gglib-badge" });
    this.measure = h("span", { class: "gglib-measure" });
    this.bar = new DividedBar(`Progress of ${this.title}`);
    this.facts = h("span", { class: "gglib-facts" });
    this.note = h("span", { class: "gglib-note" });
    this.link = pageLink("");
    this.verified = h("span", { class: "gglib-verified" });
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.path = h("div", { class: "gglib-path" });
    this.details = h("div", { class: "gglib-details" });
    this.bars = /** @type {HTMLElement[]} */ ([]);
    this.opener = iconButton("open", `Details of ${this.title}`, "gglib-open");
    this.opener.addEventListener("click", () => toggled(!this.isOpen));
    this.isOpen = isOpen;
    this.buttons = ACTIONS.map((action) => this.#button(action));
    const moves = h("span", { class: "gglib-moves" }, ...this.buttons.slice(0, 3));
    const chip = item.quantization ? [h("span", { class: "gglib-chip" }, item.quantization)] : [];
    const owner = h("span", { class: "gglib-owner" }, originOf(item));
    this.element = h(
      "div",
      { class: "gglib-row", role: "listitem", "data-key": item.id },
      h("div", { class: "gglib-lead" }, this.badge, this.grip),
      h("div", { class: "gglib-title" }, h("span", { class: "gglib-name", title: item.id }, item.name), ...chip, owner),
      this.measure,
      h("div", { class: "gglib-actions" }, moves, ...this.buttons.slice(3), this.opener),
      this.bar.element,
      h("div", { class: "gglib-line" }, this.facts, this.verified, this.note, this.link),
      this.path,
      this.message,
      this.details,
    );
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.update(item, isOpen, 0);
  }

  /** @param {typeof ACTIONS[number]} action */
  #button(action) {
    const isWord = action.name === "retry" || action.name === "again";
    const label = `${action.label} ${this.title}`;
    const button = isWord
      ? h(
          "button",
          { type: "button", class: "gglib-button gglib-act", "aria-label": label },
          icon("retry"),
          action.label,
        )
      : iconButton(action.name, label, `gglib-act gglib-${action.name}`);
    button.title = action.label;
    button.dataset.action = action.name;
    button.addEventListener("click", () => press(this.view, button, this.message, ...action.asks(this.item)));
    return button;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = event.altKey ? { ArrowUp: -1, ArrowDown: 1 }[event.key] : undefined;
    if (step === undefined || !PENDING.includes(this.item.status) || !this.view.isLive) return;
    event.preventDefault();
    const position = Math.max(1, this.item.position + step);
    void press(this.view, this.grip, this.message, ...move(this.item, position));
  }

  /** @param {ItemState} item @param {boolean} isOpen @param {number} pending */
  update(item, isOpen, pending) {
    this.item = item;
    this.isOpen = isOpen;
    this.pending = pending;
    const isActive = ACTIVE.includes(item.status);
    const isPending = PENDING.includes(item.status);
    mark(this.element, "data-status", item.status);
    mark(this.element, "data-notice", isActive ? item.notice_kind : null);
    this.#lead(item, isPending);
    say(this.measure, measureOf(item));
    this.bar.element.hidden = !isActive && !(item.downloaded_bytes > 0 && item.status !== "completed");
    this.bar.update(item);
    this.#facts(factsOf(item));
    say(this.note, noteOf(item));
    this.link.hidden = item.status !== "failed" || item.help_url === null;
    if (item.help_url !== null) aim(this.link, item.help_url);
    say(this.verified, digestOf(item));
    mark(this.verified, "data-good", String(item.is_verified === true));
    this.#path(item);
    this.buttons.forEach((button, index) => (button.hidden = !ACTIONS[index]?.shown(item, pending)));
    this.#showDetails(item);
  }

  /** @param {ItemState} item @param {boolean} isPending */
  #lead(item, isPending) {
    this.grip.hidden = !isPending;
    const shown = isPending && item.status !== "paused" ? String(item.position) : item.status;
    if (this.badge.dataset.shown === shown) return;
    this.badge.dataset.shown = shown;
    this.badge.replaceChildren(shown in ICONS || !isPending ? icon(shown in ICONS ? shown : "downloading") : shown);
  }

  /** @param {string[]} facts */
  #facts(facts) {
    while (this.facts.children.length > facts.length) this.facts.lastElementChild?.remove();
    facts.forEach((fact, index) => say(this.facts.children[index] ?? this.facts.appendChild(h("span")), fact));
  }

  /** @param {ItemState} item */
  #path({ path, status }) {
    if (status !== "completed" || path === null) this.path.replaceChildren();
    else if (!this.path.firstChild) {
      const text = h(
        "code",
        { title: path },
        ...cutName(path, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1),
      );
      this.path.append(
        text,
        copyButton(`Copy the path of ${this.title}`, () => this.item.path ?? ""),
        copyButton(`Copy the lines that load ${this.title}`, () => loadingCode(this.item.path ?? ""), "code"),
      );
    }
  }

  /** @param {ItemState} item */
  #showDetails(item) {
    mark(this.opener, "aria-expanded", String(this.isOpen));
    this.element.classList.toggle("is-open", this.isOpen);
    this.details.hidden = !this.isOpen;
    if (!this.isOpen) return;
    const built = `${item.shards.length} ${item.status === "completed"} ${item.reason}`;
    if (this.details.dataset.built !== built) {
      this.details.dataset.built = built;
      const isTold = item.status === "completed" && item.shards.length === 1;
      this.bars = isTold ? [] : item.shards.map((shard) => shardLine(shard));
      const reason = item.reason ? [h("p", { class: "gglib-reason" }, item.reason)] : [];
      const code = item.status === "completed" && item.path !== null ? [codeBlock(this.title, item.path)] : [];
      this.details.replaceChildren(...reason, ...code, ...this.bars);
    }
    this.bars.forEach((bar, index) => updateShard(bar, /** @type {ShardState} */ (item.shards[index])));
  }
}

/** @param {string} title @param {string} path */
function codeBlock(title, path) {
  const code = loadingCode(path);
  const pre = h("pre", { tabIndex: 0, role: "group", "aria-label": `Python that loads ${title}` }, code);
  return h(
    "div",
    { class: "gglib-code" },
    pre,
    copyButton(`Copy the code that loads ${title}`, () => code),
  );
}
