/**
 * One download's row: title, bar, numbers, buttons, and what it opens to.
 */

import { cutPath, DividedBar, shardLine, updateShard } from "./bars.js";
import { aim, copyButton, h, icon, iconButton, ICONS, mark, pageLink, say } from "./dom.js";
import { press } from "./kernel.js";
import { ModelActions } from "./modelact.js";
import { ACTIVE, PENDING } from "./state.js";
import { digestOf, factsOf, loadingCode, measureOf, noteOf, originOf, titleOf } from "./words.js";

/** @import { View } from "./kernel.js" */
/** @import { ItemState, ShardState } from "./messages.js" */

/**
 * What a row is told besides its download: how many wait, whether any runs, whether a pointer is at work in the list, and
 * where it stood if it was cancelled here a moment ago.
 * @typedef {{pending: number, isBusy: boolean, isHeld: boolean, undoPosition: number|null}} Context
 */
/** @typedef {{name: string, label: string, shown: (item: ItemState, context: Context) => boolean,
 *   asks: (item: ItemState, context: Context) => [string, object],
 *   isOff?: (item: ItemState, context: Context) => boolean}} Action */
/**
 * What a row asks of its list.
 * @typedef {{toggled: (item: ItemState, isOpen: boolean) => void, cancelling: (item: ItemState) => void,
 *   refused: (item: ItemState) => void, moving: () => void, neighbour: (row: Row, step: number) => Row|undefined}} Host
 */

/** @param {string} name @param {string} label @param {string[]} statuses @returns {Action} */
const onStatus = (name, label, statuses) => ({
  name,
  label,
  shown: (item) => statuses.includes(item.status),
  asks: ({ id }) => [name, { id }],
});

/** @param {string} name @param {string} label @param {(item: ItemState) => number} position @returns {Action} */
const toPosition = (name, label, position) => ({
  name,
  label,
  shown: (item, { pending }) => item.position > 0 && pending > 1,
  isOff: (item, { pending }) => position(item) === item.position || position(item) > pending,
  asks: (item) => move(item, position(item)),
});

/** @param {string} name @param {string} label @param {boolean} isUndo @returns {Action} */
const anew = (name, label, isUndo) => ({
  name,
  label,
  shown: (item, { undoPosition }) => item.status === "cancelled" && (undoPosition !== null) === isUndo,
  asks: ({ repo_id, quantization, revision, shards }, { undoPosition }) => [
    "queue",
    {
      repo_id,
      quantization,
      revision,
      companions: companionsOf(shards),
      // Who asks for it once more wants it next, and not behind all that came since.
      position: undoPosition ?? 1,
    },
  ],
});

/** What a row offers, from left to right; the first three move it. @type {Action[]} */
const ACTIONS = [
  toPosition("top", "Move to top", () => 1),
  toPosition("up", "Move up", ({ position }) => Math.max(1, position - 1)),
  toPosition("down", "Move down", ({ position }) => position + 1),
  { ...onStatus("run_now", "Run now", PENDING), shown: ({ status }, { isBusy }) => PENDING.includes(status) && isBusy },
  onStatus("pause", "Pause", ["downloading", "queued"]),
  onStatus("resume", "Resume", ["paused"]),
  onStatus("retry", "Retry", ["failed"]),
  anew("undo", "Undo", true),
  anew("again", "Queue again", false),
  onStatus("cancel", "Cancel", ACTIVE),
  onStatus("remove", "Remove", PENDING),
  {
    name: "discard",
    label: "Delete what was kept of",
    shown: (item, { undoPosition }) =>
      item.status === "cancelled" && undoPosition === null && item.downloaded_bytes > 0,
    asks: ({ id }) => ["discard", { id }],
  },
  {
    name: "remove",
    label: "Dismiss",
    shown: (item) => item.status === "failed",
    asks: ({ id }) => ["dismiss", { id }],
  },
];

/** What a screen reader is told of what leaves no row to tell it. @type {Record<string, string>} */
const SAID = { dismiss: "is off the list.", discard: "has nothing left on the disk." };

/** Which control takes another back. @type {Record<string, string[]>} */
const BACK = {
  pause: ["resume"],
  resume: ["pause"],
  cancel: ["undo"],
  remove: ["undo"],
  undo: ["remove", "cancel"],
};

/** Buttons that say what they do, and their icons. @type {Record<string, string>} */
const WORDED = { retry: "retry", again: "retry", undo: "undo" };

/** @param {ItemState} item @param {number} position @returns {[string, object]} */
export const move = (item, position) => ["move", { id: item.id, position }];

/** The kinds that were fetched along. @param {ShardState[]} shards */
const companionsOf = (shards) => [...new Set(shards.map(({ kind }) => kind).filter((kind) => kind !== "shard"))];

/** One download. Built once, then patched: focus and selection survive a tick. */
export class Row {
  /** Where it will stand once the kernel has said so; null where it is not being moved. */
  #aim = /** @type {number|null} */ (null);
  /** What its controls were last shown for. */
  #offered = "";

  /** @param {View} view @param {ItemState} item @param {boolean} isOpen @param {Context} context @param {Host} host */
  constructor(view, item, isOpen, context, host) {
    this.view = view;
    this.item = item;
    this.host = host;
    this.context = context;
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
    this.opener.addEventListener("click", () => host.toggled(this.item, !this.isOpen));
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
      h(
        "div",
        { class: "gglib-actions", role: "toolbar", "aria-label": `Actions of ${this.title}` },
        moves, ...this.buttons.slice(3),
        this.opener,
      ),
      this.bar.element,
      h("div", { class: "gglib-line" }, this.facts, this.verified, this.note, this.link),
      this.path,
      this.message,
      this.details,
    );
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("focusin", ({ target }) => this.#stopAt(target));
    this.stop = /** @type {HTMLElement} */ (this.opener);
    this.update(item, isOpen, context);
  }

  /** @param {typeof ACTIONS[number]} action */
  #button(action) {
    const word = WORDED[action.name];
    const label = `${action.label} ${this.title}`;
    const button = word
      ? h("button", { type: "button", class: "gglib-button gglib-act", "aria-label": label }, icon(word), action.label)
      : iconButton(action.name, label, `gglib-act gglib-${action.name}`);
    button.title = action.label;
    button.dataset.action = action.name;
    button.addEventListener("click", () => this.#do(action, button));
    return button;
  }

  /** @param {Action} action @param {HTMLElement} button */
  async #do(action, button) {
    const item = this.#aim === null ? this.item : { ...this.item, position: this.#aim };
    if (action.isOff?.(item, this.context)) return;
    const [kind, fields] = action.asks(item, this.context);
    if (kind === "move") return this.moveTo(/** @type {{position: number}} */ (fields).position, button);
    const isLeaving = kind === "cancel" || kind === "remove";
    if (isLeaving) this.host.cancelling(item);
    const isDone = await press(this.view, button, this.message, kind, fields);
    if (isLeaving && !isDone) this.host.refused(item);
    if (isDone && SAID[kind]) this.view.announce(`${this.title} ${SAID[kind]}`);
  }

  /** To another place in the queue; what comes before the answer counts from there. @param {number} position @param {HTMLElement} button */
  async moveTo(position, button = this.grip) {
    if (button.getAttribute("aria-busy") === "true") return;
    this.#aim = position;
    this.host.moving();
    const isDone = await press(this.view, button, this.message, ...move(this.item, position));
    if (isDone) this.view.announce(`${this.title} is number ${position} now.`);
    else this.#aim = null;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { key, altKey, target } = event;
    const step = { ArrowUp: -1, ArrowDown: 1 }[key];
    if (target instanceof HTMLElement && target.tagName === "PRE") return;
    if (step !== undefined && altKey) this.#shift(step);
    else if (step !== undefined) this.host.neighbour(this, step)?.enter(this.stop.dataset.action);
    else if (!this.#walk(key)) return;
    event.preventDefault();
  }

  /** @param {number} step */
  #shift(step) {
    if (!PENDING.includes(this.item.status) || !this.view.isLive) return;
    const from = this.#aim ?? this.item.position;
    const position = Math.min(Math.max(1, from + step), this.context.pending);
    if (position !== from) void this.moveTo(position);
  }

  /** A row is one stop of the Tab key; the arrows lead from one of its controls to the next. @param {string} key */
  #walk(key) {
    const stops = this.#stops();
    const at = stops.indexOf(this.stop);
    const last = stops.length - 1;
    const to = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(last, at + 1), Home: 0, End: last }[key];
    if (to !== undefined) stops[to]?.focus();
    return to !== undefined;
  }

  #stops() {
    const all = /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll("button, a[href]"));
    return [...all].filter((node) => node.getClientRects().length > 0);
  }

  /** @param {EventTarget|null} target */
  #stopAt(target) {
    if (target instanceof HTMLElement && target.matches("button, a[href]")) this.stop = target;
    this.#markStops();
  }

  #markStops() {
    if (this.stop.closest("[hidden]") || !this.element.contains(this.stop)) this.stop = this.opener;
    for (const node of this.element.querySelectorAll("button, a[href]")) {
      mark(node, "tabindex", node === this.stop ? "0" : "-1");
    }
  }

  /** Takes the focus, on the control for an action where it has that. @param {string} [action] */
  enter(action) {
    const same = this.buttons.find((button) => !button.hidden && button.dataset.action === action);
    (same ?? this.stop).focus();
  }

  /** @param {ItemState} item @param {boolean} isOpen @param {Context} context */
  update(item, isOpen, context) {
    if (item.position !== this.item.position || item.status !== this.item.status) this.#aim = null;
    // What starts or ends while a pointer is at work in the list takes no more room until that has gone.
    if (!context.isHeld) mark(this.element, "data-terse", null);
    else if (item.status !== this.item.status) mark(this.element, "data-terse", "true");
    this.item = item;
    this.isOpen = isOpen;
    this.context = context;
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
    this.#showDetails(item);
    this.#offer(item, isOpen, context);
  }

  /** Controls change with few things, and at most ticks with none of them. @param {ItemState} item @param {boolean} isOpen @param {Context} context */
  #offer({ status, position, downloaded_bytes }, isOpen, context) {
    const offered = [status, position, downloaded_bytes > 0, isOpen, ...Object.values(context)].join(" ");
    if (offered === this.#offered) return;
    this.#offered = offered;
    this.#showButtons();
    this.#markStops();
  }

  /** What has the focus and goes hands it to what takes it back, else to what does nothing at a second press. */
  #showButtons() {
    const { activeElement } = /** @type {Document|ShadowRoot} */ (this.element.getRootNode());
    this.buttons.forEach((button, index) => {
      const { shown, isOff } = /** @type {Action} */ (ACTIONS[index]);
      button.hidden = !shown(this.item, this.context);
      mark(button, "data-off", isOff?.(this.item, this.context) ? "true" : null);
      mark(button, "aria-disabled", this.view.isLive && !button.hasAttribute("data-off") ? null : "true");
    });
    if (!(activeElement instanceof HTMLElement) || !this.element.contains(activeElement)) return;
    if (!activeElement.closest("[hidden]")) return;
    const back = BACK[activeElement.dataset.action ?? ""] ?? [];
    (this.buttons.find(({ hidden, dataset }) => !hidden && back.includes(dataset.action ?? "")) ?? this.opener).focus();
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
  #path({ id, path, status }) {
    if (status !== "completed" || path === null) this.path.replaceChildren();
    else if (!this.path.firstChild) {
      const text = h("code", { title: path }, ...cutPath(path));
      const code = copyButton(`Copy the lines that load ${this.title}`, () => this.#code(), "code");
      const actions = new ModelActions(this.view, id, this.title, path, () => this.view.changed(), code);
      this.path.append(text, actions.buttons, actions.message, actions.below);
    }
  }

  #code() {
    return loadingCode(this.item.path ?? "", this.item.projector_path);
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
      const code = item.status === "completed" && item.path !== null ? [codeBlock(this.title, this.#code())] : [];
      this.details.replaceChildren(...reason, ...code, ...this.bars);
    }
    this.bars.forEach((bar, index) => updateShard(bar, /** @type {ShardState} */ (item.shards[index])));
  }
}

/** @param {string} title @param {string} code */
function codeBlock(title, code) {
  const pre = h("pre", { tabIndex: 0, role: "group", "aria-label": `Python that loads ${title}` }, code);
  return h(
    "div",
    { class: "gglib-code" },
    pre,
    copyButton(`Copy the code that loads ${title}`, () => code),
  );
}
