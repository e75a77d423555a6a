/**
 * One view of the panel: its life on the page, what it hears and asks, and its picture, painted once per frame at most.
 */

const SILENCE_MS = 3000;
/** While something runs there is news every second: a rate that is older is not shown any more. */
const STALE_MS = 2500;
const BUSY_MS = 5000;
const IDLE_MS = 20_000;
const COPIED_MS = 1500;
const MOST_SPOKEN = 8;
const MOST_OPENED = 200;
const OPENED = "gglib_nb opened rows";

class PanelView {
  isLive = true;
  /** Rates and remaining times are true now. */
  isFresh = true;
  isModels = false;
  isLimits = false;
  isClosed = false;
  banner = "";
  copied = "";
  notifies = mayNotify();
  graph = /** @type {{start: number, line: string}|null} */ (null);
  #rates = /** @type {number[]} */ ([]);
  #opened = new Map(recalled());
  #frame = 0;
  #focusNext = "";
  #heardMs = performance.now();
  #askedMs = 0;
  #patienceMs = BUSY_MS;
  #isSilent = false;
  #isOnScreen = true;
  /** What the kernel was told last; null before. @type {boolean|null} */
  #isLookedAt = null;
  #isPlaced = false;
  #id = Math.random().toString(36).slice(2);
  #scrolled = /** @type {Map<Element, number>} */ (new Map());
  #mostHeight = 0;
  #closing = new AbortController();

  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.root = document.createElement("section");
    this.root.className = "gglib-panel";
    this.root.setAttribute("aria-label", this.texts.label ?? "");
    this.body = this.root.appendChild(document.createElement("div"));
    this.news = this.root.appendChild(document.createElement("div"));
    this.news.className = "gglib-offscreen";
    this.news.setAttribute("aria-live", "polite");
    this.kernel = new Kernel(model, () => this.#checkLife());
    this.hold = new Hold(() => this.changed());
    this.keys = new Keys(this, this.root);
    this.asking = new Asking(this);
    this.adder = new Adder(this);
    this.lists = new Lists(this);
  }

  get state() {
    return this.model.get("snapshot");
  }

  get texts() {
    return this.state.texts;
  }

  /** A text of the kernel with a name in it. @param {string} key @param {string} name */
  say(key, name) {
    return (this.texts[key] ?? "").replace(/\{\w+\}/, () => name);
  }

  // Its life ----------------------------------------------------------------------------------------------------

  open() {
    const { model, root } = this;
    const { signal } = this.#closing;
    const hears = {
      "msg:custom": (/** @type {Changes|Reply|Progress} */ message) => this.#hear(message.kind === "changes" ? (message.news ?? []) : []),
      "change:snapshot": () => this.#hear([]),
      comm_live_update: () => this.#checkLife(true),
    };
    this.#stand(this.el);
    for (const [event, hear] of Object.entries(hears)) model.on(event, hear);
    const second = setInterval(() => this.#tick(), 1000);
    const sight = new IntersectionObserver((entries) => {
      this.#isOnScreen = entries.some(({ isIntersecting }) => isIntersecting);
      this.#look();
    });
    const size = new ResizeObserver(() => this.#keepHeight());
    sight.observe(root);
    size.observe(root);
    document.addEventListener("visibilitychange", () => this.#look(), { signal });
    for (const event of ["pointerdown", "keydown"]) root.addEventListener(event, () => this.release(), { signal });
    const scrolled = (/** @type {Event} */ { target }) => target instanceof Element && this.#scrolled.set(target, target.scrollTop);
    root.addEventListener("scroll", scrolled, { capture: true, passive: true, signal });
    signal.addEventListener("abort", () => {
      clearInterval(second);
      cancelAnimationFrame(this.#frame);
      sight.disconnect();
      size.disconnect();
      for (const [event, hear] of Object.entries(hears)) model.off(event, hear);
      this.kernel.close();
      root.remove();
    });
    this.#checkLife(true);
    this.#paint();
    void this.lists.askEarlier();
  }

  close() {
    if (this.isLive) void this.kernel.ask("look", { view: this.#id, is_shown: false }).catch(() => {});
    this.isClosed = true;
    this.#closing.abort();
  }

  /** Its element was taken off the page, and not with all of its cell, as JupyterLab does to one that is out of sight. */
  get isStray() {
    return this.#isPlaced && !this.el.isConnected && !this.el.closest(".jp-Cell");
  }

  /** Goes on in another element, with all that a person has opened and typed. @param {HTMLElement} el */
  moveTo(el) {
    this.#stand(el);
    this.changed();
    // In that very moment: the next key would go to the notebook, and with two of them it deletes a cell.
    const arrival = new MutationObserver(() => {
      if (!el.isConnected) return;
      arrival.disconnect();
      // What a page forgets of what is taken out of it and put in again.
      for (const [element, top] of this.#scrolled) element.scrollTop = top;
      this.keys.restore();
    });
    arrival.observe(document, { childList: true, subtree: true });
  }

  /** @param {HTMLElement} el */
  #stand(el) {
    this.el = el;
    this.#isPlaced = false;
    el.classList.add("gglib-panel-host");
    el.append(this.root);
  }

  /** JupyterLab marks the views of a widget whose kernel is gone with a class, and sends nothing to one that was shut down. @param {boolean} isNew */
  #checkLife(isNew = false) {
    if (isNew) this.kernel.isLost = false;
    this.isLive = !this.el.closest(".jupyter-widgets-disconnected") && !this.kernel.isLost;
    this.isFresh = this.isLive;
    this.#isSilent = false;
    this.banner = (this.isLive ? "" : this.texts[this.state.header.has_work ? "gone_at_work" : "gone"]) ?? "";
    this.root.dataset.live = String(this.isLive);
    if (!this.isLive) this.kernel.abandon();
    else if (isNew) {
      this.#isLookedAt = null;
      this.#greet();
      this.#look();
    }
    this.changed();
  }

  // News --------------------------------------------------------------------------------------------------------

  /** @param {News[]} news */
  #hear(news) {
    // Not when it is painted: a hidden page is not.
    for (const { text, is_end } of news) if (is_end && document.hidden && this.notifies) notify(this.texts.notification ?? "", text);
    if (news.length) {
      this.announce(news.map(({ text }) => text).join(" "));
      this.lists.expire();
    }
    this.#heardMs = performance.now();
    this.#patienceMs = this.state.header.is_busy ? BUSY_MS : IDLE_MS;
    this.#fallSilent(false);
  }

  /** @param {boolean} isSilent */
  #fallSilent(isSilent) {
    if (this.isLive) {
      this.#isSilent = isSilent;
      this.isFresh = !isSilent;
      this.banner = isSilent ? (this.texts.silent ?? "") : "";
    }
    this.changed();
  }

  /** What is shown may be old: the kernel is asked, and its silence is said. */
  #greet() {
    this.#askedMs = performance.now();
    const silence = setTimeout(() => this.#fallSilent(true), SILENCE_MS);
    this.kernel.sync().then(
      () => {
        clearTimeout(silence);
        this.#hear([]);
      },
      () => clearTimeout(silence),
    );
  }

  /**
   * Once a second. Without news the last message was dropped on the way, or the kernel was ended from elsewhere: it is asked, and
   * more and more rarely again.
   */
  #tick() {
    if (this.hold.isDue) this.changed();
    if (!this.isLive || !this.#isShown) return;
    const { is_busy, bytes_per_second } = this.state.header;
    this.#rates = [...this.#rates, is_busy && !this.#isSilent ? (bytes_per_second ?? 0) : 0].slice(-SAMPLES);
    this.graph = graphOf(this.#rates);
    if (this.graph) this.changed();
    const nowMs = performance.now();
    const quietMs = nowMs - this.#heardMs;
    if (is_busy && this.isFresh && quietMs > STALE_MS) {
      this.isFresh = false;
      this.changed();
    }
    if (Math.min(quietMs, nowMs - this.#askedMs) > this.#patienceMs) {
      this.#patienceMs *= 2;
      this.#greet();
    }
    if (this.isModels) void this.lists.askModels();
  }

  get #isShown() {
    return this.#isOnScreen && !document.hidden && !this.isClosed;
  }

  /** The kernel sends no counters to views that nobody sees; before one is seen again it is asked for them. */
  #look() {
    const isShown = this.#isShown;
    if (!isShown) this.release();
    if (isShown === this.#isLookedAt || !this.isLive) return;
    const isBack = isShown && this.#isLookedAt === false;
    this.#isLookedAt = isShown;
    void this.kernel.ask("look", { view: this.#id, is_shown: isShown }).catch(() => {});
    if (!isBack) return;
    this.isFresh = false;
    this.changed();
    this.#greet();
  }

  /** Says it to a screen reader, after what was said before, which it may still be reading. @param {string} text */
  announce(text) {
    this.news.append(Object.assign(document.createElement("p"), { textContent: text }));
    if (this.news.childElementCount > MOST_SPOKEN) this.news.firstElementChild?.remove();
  }

  // What a person does ------------------------------------------------------------------------------------------

  /** @param {boolean} isOn */
  showModels(isOn) {
    this.isModels = isOn;
    this.lists.expire();
    if (isOn) void this.lists.askModels();
    this.changed();
  }

  toggleLimits() {
    this.isLimits = !this.isLimits;
    this.changed();
  }

  /** A row nobody touched is open as the kernel says, but opens and closes nothing under a pointer. @param {Row} row */
  isOpen({ id, is_open = false }) {
    const shown = rowElement(this.root, id);
    const byItself = this.hold.isHeld && shown ? shown.classList.contains("is-open") : is_open;
    return this.#opened.get(id) ?? byItself;
  }

  /** @param {Row} row @param {boolean} isOpen */
  toggle({ id }, isOpen) {
    this.#opened.delete(id);
    this.#opened.set(id, isOpen);
    remember("sessionStorage", OPENED, JSON.stringify([...this.#opened].slice(-MOST_OPENED)));
    this.hold.free();
  }

  /** @param {string} label @param {string} text */
  async copy(label, text) {
    await copy(text);
    this.copied = label;
    this.changed();
    setTimeout(() => {
      this.copied = "";
      this.changed();
    }, COPIED_MS);
  }

  /** @param {PointerEvent} event @param {Row} row @param {string} at */
  async drag(event, row, at) {
    const list = /** @type {HTMLElement} */ (/** @type {HTMLElement} */ (event.currentTarget).closest(".gglib-list"));
    if (!this.isLive) return;
    const position = await this.hold.drag(event, row, list);
    this.hold.free();
    if (position !== null) await this.asking.send(at, "top", { action: "move", id: row.id, position });
  }

  /** @param {Event} event */
  async askToNotify({ target }) {
    const box = /** @type {HTMLInputElement} */ (target);
    this.notifies = box.checked && (await Notification.requestPermission()) === "granted";
    box.checked = this.notifies;
    remember("localStorage", NOTIFIES, this.notifies ? "yes" : "no");
  }

  // Painting ----------------------------------------------------------------------------------------------------

  changed() {
    if (!this.isClosed) this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** What is true of facts now: without news, what changes all the time is left out. @param {Fact[]} facts */
  fresh(facts) {
    return this.isFresh ? facts : facts.filter(({ is_live }) => !is_live);
  }

  /** After the next paint this gets the focus. @param {string} selector */
  focusNext(selector) {
    this.#focusNext = selector;
    this.changed();
  }

  #paint() {
    this.#frame = 0;
    this.#isPlaced ||= this.el.isConnected;
    const rows = /** @type {HTMLElement[]} */ ([...this.root.querySelectorAll(".gglib-list .gglib-row")]);
    const entries = this.hold.order(entriesOf(this.state), rows);
    this.keys.around(() => patch(this.body, panelOf(this, entries)));
    this.#makeRoom();
    const target = this.#focusNext && this.root.querySelector(this.#focusNext);
    this.#focusNext = "";
    if (target instanceof HTMLElement) target.focus();
  }

  /** A panel that is short gets as long as its suggestions: outside of it they would not be seen. */
  #makeRoom() {
    const options = this.root.querySelector(".gglib-options:not([hidden])");
    if (!options && !this.root.style.paddingBottom) return;
    this.root.style.paddingBottom = "";
    const missing = options ? options.getBoundingClientRect().bottom + 8 - this.root.getBoundingClientRect().bottom : 0;
    if (missing > 0) this.root.style.paddingBottom = `${missing}px`;
  }

  /**
   * A panel that gets shorter by itself would pull the cells below it up while somebody reads them: it keeps its height until a
   * person does something to it, or until it is out of sight.
   */
  #keepHeight() {
    const { height } = this.root.getBoundingClientRect();
    if (height <= this.#mostHeight) return;
    this.#mostHeight = height;
    this.root.style.minHeight = `${height}px`;
  }

  release() {
    this.#mostHeight = 0;
    this.root.style.minHeight = "";
  }
}

/** Rows that were opened and closed before in this tab. @returns {[string, boolean][]} */
function recalled() {
  try {
    return JSON.parse(sessionStorage.getItem(OPENED) ?? "[]");
  } catch {
    return [];
  }
}
