/**
 * What can be done with a model that is here: copy its path and the lines that load it, verify it anew, show its folder,
 * delete it. The same in a done row and in the list of models.
 */

import { copyButton, h, iconButton, iconLink, say } from "./dom.js";
import { percent, plural, size } from "./formats.js";
import { folderAddress } from "./places.js";
import { press } from "./kernel.js";

/** @import { View } from "./kernel.js" */
/** @import { DeletionReport, LoadingLines, VerifyReport, VerifyState } from "./messages.js" */

/** The buttons of one model, and what they bring up below it. */
export class ModelActions {
  #loading = /** @type {HTMLElement|null} */ (null);

  /**
   * @param {View} view @param {string} id @param {string} title @param {string} path @param {() => void} gone Its files were deleted.
   * @param {HTMLElement} [code] Copies the lines that load it; without, they are shown for each program.
   */
  constructor(view, id, title, path, gone, code) {
    this.view = view;
    this.id = id;
    this.title = title;
    this.gone = gone;
    this.message = h("p", { class: "gglib-message", role: "status" });
    this.below = h("div", { class: "gglib-below" });
    const folder = folderAddress(path, view.kernel.model.get("home"));
    this.buttons = h(
      "span",
      { class: "gglib-model-actions" },
      copyButton(`Copy the path of ${title}`, () => path),
      code ?? this.#button("code", `Lines that load ${title}, for each program`, (button) => this.#showLoading(button)),
      this.#button("verify", `Verify ${title} anew`, (button) => this.#verify(button)),
      ...(folder === null ? [] : [iconLink("folder", `Show the folder of ${title} in the file browser`, folder)]),
      this.#button("delete", `Delete ${title} from the disk`, (button) => this.#askDeletion(button)),
    );
  }

  /** @param {string} name @param {string} label @param {(button: HTMLElement) => void} act */
  #button(name, label, act) {
    const button = iconButton(name, label, `gglib-act gglib-do-${name}`);
    button.addEventListener("click", () => act(button));
    return button;
  }

  /** @param {HTMLElement} button */
  async #showLoading(button) {
    if (this.#loading !== null) {
      this.#loading.remove();
      this.#loading = null;
      return this.view.changed();
    }
    /** @type {LoadingLines[]|undefined} */
    const programs = await press(this.view, button, this.message, "loading", { id: this.id });
    if (!programs || this.#loading !== null) return;
    this.#loading = h("div", { class: "gglib-programs" }, ...programs.map((one) => programLines(this.title, one)));
    this.below.append(this.#loading);
    this.view.changed();
  }

  /** @param {HTMLElement} button */
  async #verify(button) {
    const heard = (/** @type {VerifyState} */ { done_bytes, total_bytes }) => {
      const part = total_bytes ? done_bytes / total_bytes : 1;
      say(this.message, `Verifying: ${percent(part)} of ${size(total_bytes)} read.`);
    };
    /** @type {VerifyReport|undefined} */
    const report = await press(this.view, button, this.message, "verify", { id: this.id }, { heard });
    if (!report) return;
    say(this.message, report.text);
    this.message.dataset.mood = report.is_right ? "good" : "refused";
    this.view.announce(report.text);
  }

  /** @param {HTMLElement} button */
  async #askDeletion(button) {
    /** @type {DeletionReport|undefined} */
    const preview = await press(this.view, button, this.message, "delete_preview", { id: this.id });
    if (!preview) return;
    const { deleted, freed_bytes, kept } = preview;
    const spared = kept.length ? ` ${plural(kept.length, "file")} stay: ${kept[0]?.reason}.` : "";
    const question = `Delete ${plural(deleted.length, "file")}? ${size(freed_bytes)} will be free again.${spared}`;
    const yes = h("button", { type: "button", class: "gglib-button gglib-danger gglib-act" }, "Delete");
    const no = h("button", { type: "button", class: "gglib-button" }, "Keep it");
    const box = h(
      "div",
      { class: "gglib-confirm", role: "group", "aria-label": `Delete ${this.title}?` },
      h("span", {}, question),
      yes,
      no,
    );
    const close = () => {
      box.remove();
      button.focus();
      this.view.changed();
    };
    no.addEventListener("click", close);
    box.addEventListener("keydown", (event) => event.key === "Escape" && close());
    yes.addEventListener("click", async () => {
      /** @type {DeletionReport|undefined} */
      const report = await press(this.view, yes, this.message, "delete_model", { id: this.id });
      if (!report) return;
      box.remove();
      say(this.message, `Deleted; ${size(report.freed_bytes)} are free again.`);
      this.view.announce(`${this.title} was deleted.`);
      this.buttons.hidden = true;
      this.gone();
    });
    this.below.querySelector(".gglib-confirm")?.remove();
    this.below.append(box);
    this.view.changed();
    no.focus();
  }
}

/** @param {string} title @param {LoadingLines} lines */
function programLines(title, { program, text }) {
  return h(
    "div",
    { class: "gglib-program" },
    h("strong", {}, program),
    h(
      "div",
      { class: "gglib-code" },
      h("pre", { tabIndex: 0, role: "group", "aria-label": `${program}: lines that load ${title}` }, text),
      copyButton(`Copy the lines for ${program} that load ${title}`, () => text),
    ),
  );
}
