/**
 * One view of the panel: its lifecycle, its connection to the kernel, and painting, at most once per frame.
 */

const UNRESPONSIVE_MS = 3000;
/** During downloads the kernel sends changes every second; an older rate is not shown. */
const STALE_MS = 2500;
const BUSY_POLL_MS = 5000;
const IDLE_POLL_MS = 20_000;
const COPIED_MS = 1500;
const MAX_ANNOUNCEMENTS = 8;
const MAX_OPEN_ROWS = 200;
const OPEN_ROWS_KEY = "gglib_nb opened rows";

class PanelView {
  isLive = true;
  /** Whether rates and remaining times are current. */
  isFresh = true;
  isModels = false;
  isLimits = false;
  isClosed = false;
  banner = "";
  copied = "";
  notifies = canNotify();
  graph = /** @type {{start: number, line: string}|null} */ (null);
  #rates = /** @type {number[]} */ ([]);
  #openRows = new Map(storedOpenRows());
  #frame = 0;
  #focusNext = "";
  #receivedMs = performance.now();
  #requestedMs = 0;
  #pollAfterMs = BUSY_POLL_MS;
  #isUnresponsive = false;
  #isInViewport = true;
  /** The visibility that the kernel knows; null before the first report. @type {boolean|null} */
  #reportedVisible = null;
  #wasAttached = false;
  #id = Math.random().toString(36).slice(2);
  #scrollTops = /** @type {Map<Element, number>} */ (new Map());
  #reservedHeight = 0;
  #controller = new AbortController();
  #viewport = new IntersectionObserver((entries) => this.#onViewport(entries));

  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.root = document.createElement("section");
    // The texts are English, whatever the page's language is.
    Object.assign(this.root, { className: "gglib-panel", lang: "en", dir: "ltr" });
    this.root.setAttribute("aria-label", this.texts.label ?? "");
    this.body = this.root.appendChild(document.createElement("div"));
    this.news = this.root.appendChild(document.createElement("div"));
    this.news.className = "gglib-offscreen";
    this.news.setAttribute("aria-live", "polite");
    this.kernel = new Kernel(model, () => this.#updateConnection());
    this.hold = new Hold(() => this.schedulePaint());
    this.keys = new Keys(this, this.root);
    this.requests = new Requests(this);
    this.adder = new Adder(this);
    this.lists = new Lists(this);
  }

  get state() {
    return this.model.get("snapshot");
  }

  get texts() {
    return this.state.texts;
  }

  /** A text of the kernel with its placeholder replaced by a name. @param {string} key @param {string} name */
  text(key, name) {
    return (this.texts[key] ?? "").replace(/\{\w+\}/, () => name);
  }

  // Lifecycle ---------------------------------------------------------------------------------------------------

  open() {
    const { model, root } = this;
    const { signal } = this.#controller;
    const listeners = {
      "msg:custom": (/** @type {Changes|Reply|Progress} */ message) => this.#onMessage(message.kind === "changes" ? (message.news ?? []) : []),
      "change:snapshot": () => this.#onMessage([]),
      comm_live_update: () => this.#updateConnection(true),
    };
    this.#attach(this.el);
    for (const [event, listener] of Object.entries(listeners)) model.on(event, listener);
    const timer = setInterval(() => this.#tick(), 1000);
    const resize = new ResizeObserver(() => this.#keepHeight());
    this.#viewport.observe(root);
    resize.observe(root);
    document.addEventListener("visibilitychange", () => this.#reportVisibility(), { signal });
    for (const event of ["pointerdown", "keydown"]) root.addEventListener(event, () => this.releaseHeight(), { signal });
    const scrolled = (/** @type {Event} */ { target }) => target instanceof Element && this.#scrollTops.set(target, target.scrollTop);
    root.addEventListener("scroll", scrolled, { capture: true, passive: true, signal });
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      cancelAnimationFrame(this.#frame);
      this.#viewport.disconnect();
      resize.disconnect();
      for (const [event, listener] of Object.entries(listeners)) model.off(event, listener);
      this.kernel.close();
      root.remove();
    });
    this.#updateConnection(true);
    this.#paint();
    void this.lists.requestEarlier();
  }

  close() {
    if (this.isLive) void this.kernel.ask("look", { view: this.#id, is_shown: false }).catch(() => {});
    this.isClosed = true;
    this.#controller.abort();
  }

  /** Whether its element was removed from the page without its cell (JupyterLab removes whole cells that are out of view). */
  get isDetached() {
    return this.#wasAttached && !this.el.isConnected && !this.el.closest(".jp-Cell");
  }

  /** Moves the view into another element; input and open rows are kept. @param {HTMLElement} el */
  moveTo(el) {
    this.#attach(el);
    this.schedulePaint();
    // Restore the focus at once: otherwise the next keys go to the notebook, where `d d` deletes a cell.
    const insertion = new MutationObserver(() => {
      if (!el.isConnected) return;
      insertion.disconnect();
      // Removing an element from the page resets its scroll position.
      for (const [element, top] of this.#scrollTops) element.scrollTop = top;
      this.keys.restore();
    });
    insertion.observe(document, { childList: true, subtree: true });
  }

  /** @param {HTMLElement} el */
  #attach(el) {
    this.el = el;
    this.#wasAttached = false;
    el.classList.add("gglib-panel-host");
    el.append(this.root);
  }

  /** Updates `isLive`. JupyterLab adds a class to views without a kernel, and refuses to send to one that was shut down. @param {boolean} isNewConnection */
  #updateConnection(isNewConnection = false) {
    if (isNewConnection) this.kernel.isLost = false;
    this.isLive = !this.el.closest(".jupyter-widgets-disconnected") && !this.kernel.isLost;
    this.isFresh = this.isLive;
    this.banner = (this.isLive ? "" : this.texts[this.state.header.has_work ? "gone_at_work" : "gone"]) ?? "";
    this.root.dataset.live = String(this.isLive);
    if (!this.isLive) this.kernel.rejectAll();
    else if (isNewConnection) {
      this.#reportedVisible = null;
      this.#requestState();
      this.#reportVisibility();
    }
    this.schedulePaint();
  }

  // Kernel ------------------------------------------------------------------------------------------------------

  /** @param {News[]} news */
  #onMessage(news) {
    // Notify here, not in the paint: hidden pages are not painted.
    for (const { text, is_end } of news) if (is_end && document.hidden && this.notifies) notify(this.texts.label ?? "", text);
    if (news.length) {
      this.announce(news.map(({ text }) => text).join(" "));
      this.lists.expire();
    }
    this.#receivedMs = performance.now();
    this.#pollAfterMs = this.state.header.is_busy ? BUSY_POLL_MS : IDLE_POLL_MS;
    this.#setUnresponsive(false);
  }

  /** @param {boolean} isUnresponsive */
  #setUnresponsive(isUnresponsive) {
    if (this.isLive) {
      this.#isUnresponsive = isUnresponsive;
      this.isFresh = !isUnresponsive;
      this.banner = isUnresponsive ? (this.texts.silent ?? "") : "";
    }
    this.schedulePaint();
  }

  /** Requests the current state; without a reply, shows that the kernel does not respond. */
  #requestState() {
    this.#requestedMs = performance.now();
    const timeout = setTimeout(() => this.#setUnresponsive(true), UNRESPONSIVE_MS);
    this.kernel.sync().then(
      () => {
        clearTimeout(timeout);
        this.#onMessage([]);
      },
      () => clearTimeout(timeout),
    );
  }

  /**
   * Called every second. If no message arrives, a message was lost or the kernel was shut down elsewhere: requests the state, with
   * doubling intervals.
   */
  #tick() {
    if (this.hold.isOver) this.schedulePaint();
    if (!this.isLive || !this.#isVisible) return;
    const { is_busy, bytes_per_second } = this.state.header;
    this.#rates = [...this.#rates, is_busy && !this.#isUnresponsive ? (bytes_per_second ?? 0) : 0].slice(-SAMPLES);
    this.graph = graphOf(this.#rates);
    if (this.graph) this.schedulePaint();
    const nowMs = performance.now();
    const sinceMessageMs = nowMs - this.#receivedMs;
    if (is_busy && this.isFresh && sinceMessageMs > STALE_MS) {
      this.isFresh = false;
      this.schedulePaint();
    }
    if (Math.min(sinceMessageMs, nowMs - this.#requestedMs) > this.#pollAfterMs) {
      this.#pollAfterMs *= 2;
      this.#requestState();
    }
    if (this.isModels) void this.lists.requestModels();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onViewport(entries) {
    for (const { target, isIntersecting } of entries) {
      if (target === this.root) this.#isInViewport = isIntersecting;
      else if (isIntersecting) renderedOutOfView.delete(target);
      else renderedOutOfView.set(target, performance.now());
    }
    this.#reportVisibility();
    this.schedulePaint();
  }

  get #isVisible() {
    return this.#isInViewport && !document.hidden && !this.isClosed;
  }

  /** Reports visibility: the kernel sends no counters without a visible view. A view that becomes visible requests the state. */
  #reportVisibility() {
    const isShown = this.#isVisible;
    if (!isShown) this.releaseHeight();
    if (isShown === this.#reportedVisible || !this.isLive) return;
    const isVisibleAgain = isShown && this.#reportedVisible === false;
    this.#reportedVisible = isShown;
    void this.kernel.ask("look", { view: this.#id, is_shown: isShown }).catch(() => {});
    if (!isVisibleAgain) return;
    this.isFresh = false;
    this.schedulePaint();
    this.#requestState();
  }

  /** Appends a text to the live region, where a screen reader may still be reading earlier ones. @param {string} text */
  announce(text) {
    this.news.append(Object.assign(document.createElement("p"), { textContent: text }));
    if (this.news.childElementCount > MAX_ANNOUNCEMENTS) this.news.firstElementChild?.remove();
  }

  // User actions ------------------------------------------------------------------------------------------------

  /** @param {boolean} isOn */
  showModels(isOn) {
    this.isModels = isOn;
    this.lists.expire();
    if (isOn) void this.lists.requestModels();
    this.schedulePaint();
  }

  toggleLimits() {
    this.isLimits = !this.isLimits;
    this.requests.clear("limits");
    this.schedulePaint();
  }

  /** The user's choice, else the kernel's `is_open`; while rows are held, the kernel's value changes nothing. @param {Row} row */
  isOpen({ id, is_open = false }) {
    // Finding an element takes longer than all else in a paint.
    const shown = this.hold.isHeld ? rowElement(this.root, id) : null;
    return this.#openRows.get(id) ?? shown?.classList.contains("is-open") ?? is_open;
  }

  /** @param {Row} row @param {boolean} isOpen */
  toggle({ id }, isOpen) {
    this.#openRows.delete(id);
    this.#openRows.set(id, isOpen);
    store("sessionStorage", OPEN_ROWS_KEY, JSON.stringify([...this.#openRows].slice(-MAX_OPEN_ROWS)));
    this.hold.suspend();
  }

  /** @param {string} label @param {string} text */
  async copy(label, text) {
    await copy(text);
    this.copied = label;
    this.schedulePaint();
    setTimeout(() => {
      this.copied = "";
      this.schedulePaint();
    }, COPIED_MS);
  }

  /** @param {PointerEvent} event @param {Row} row @param {string} at */
  async drag(event, row, at) {
    const list = /** @type {HTMLElement} */ (/** @type {HTMLElement} */ (event.currentTarget).closest(".gglib-list"));
    if (!this.isLive) return;
    const position = await this.hold.drag(event, row, list);
    this.hold.suspend();
    if (position !== null) await this.requests.send(at, "top", { action: "move", id: row.id, position });
  }

  /** @param {Event} event */
  async askToNotify({ target }) {
    const box = /** @type {HTMLInputElement} */ (target);
    this.notifies = box.checked && (await Notification.requestPermission()) === "granted";
    box.checked = this.notifies;
    store("localStorage", NOTIFY_KEY, this.notifies ? "yes" : "no");
  }

  // Painting ----------------------------------------------------------------------------------------------------

  schedulePaint() {
    if (!this.isClosed) this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** The facts that are still valid: without recent messages, live facts are left out. @param {Fact[]} facts */
  fresh(facts) {
    return this.isFresh ? facts : facts.filter(({ is_live }) => !is_live);
  }

  /** Focuses an element after the next paint. @param {string} selector */
  focusNext(selector) {
    this.#focusNext = selector;
    this.schedulePaint();
  }

  #paint() {
    this.#frame = 0;
    this.#wasAttached ||= this.el.isConnected;
    const entries = this.hold.order(entriesOf(this.state), rowElements(this.root));
    this.keys.keepFocus(() => patch(this.body, panelOf(this, entries)));
    for (const row of rowElements(this.root)) this.#viewport.observe(row);
    this.#fitSuggestions();
    const target = this.#focusNext && this.root.querySelector(this.#focusNext);
    this.#focusNext = "";
    if (target instanceof HTMLElement) target.focus();
  }

  /** Makes the panel tall enough for its suggestions, which the output would clip. */
  #fitSuggestions() {
    const options = this.root.querySelector(".gglib-options:not([hidden])");
    if (!options && !this.root.style.paddingBottom) return;
    this.root.style.paddingBottom = "";
    const missing = options ? options.getBoundingClientRect().bottom + 8 - this.root.getBoundingClientRect().bottom : 0;
    if (missing > 0) this.root.style.paddingBottom = `${missing}px`;
  }

  /**
   * A panel that shrinks would move the cells below it while the user reads them. It keeps its height until the user interacts with
   * it or it is out of view.
   */
  #keepHeight() {
    const { height } = this.root.getBoundingClientRect();
    if (height <= this.#reservedHeight) return;
    this.#reservedHeight = height;
    this.root.style.minHeight = `${height}px`;
  }

  releaseHeight() {
    this.#reservedHeight = 0;
    this.root.style.minHeight = "";
  }
}

/** The open and closed rows stored in this tab. @returns {[string, boolean][]} */
const storedOpenRows = () => attempt(() => JSON.parse(sessionStorage.getItem(OPEN_ROWS_KEY) ?? "[]"), []);
