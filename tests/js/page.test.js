// The page's scripts, joined as panel.py joins them, on a simulated document (happy-dom): the renderer, the state, the order of
// rows, the bars, and that untrusted text never becomes markup. User actions are tested in a browser.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";

import { Window } from "happy-dom";

const FOLDER = new URL("../../gglib_nb/notebook/static/", import.meta.url);
const NAMES = ["h", "patch", "unlessSame", "applied", "entriesOf", "heldOrder", "segmentsOf", "mapOf", "graphOf", "folderAddress", "Kernel", "Requests", "pageLink"];
const BROWSER = [
  "document", "Node", "Element", "HTMLElement", "HTMLInputElement", "IntersectionObserver", "MutationObserver", "ResizeObserver",
  "matchMedia", "navigator", "CSS", "sessionStorage", "localStorage",
];
const window = new Window({ url: "http://localhost/" });
let page;

before(async () => {
  for (const name of BROWSER) Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
  Object.assign(globalThis, { window: Object.assign(window, { setTimeout }), requestAnimationFrame: (paint) => setImmediate(paint), cancelAnimationFrame: clearImmediate });
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".js")).sort();
  const text = files.map((name) => readFileSync(new URL(name, FOLDER), "utf8")).join("\n");
  page = await import(`data:text/javascript,${encodeURIComponent(`${text}\nexport { ${NAMES.join(", ")} };`)}`);
});
beforeEach(() => window.document.body.replaceChildren());
after(() => window.happyDOM.abort());

const row = (id, fields = {}) => ({ id, title: id, name: id, ...fields });
const state = (rows = [], views = [{ id: "active", rows: rows.map(({ id }) => id) }]) => ({
  seq: 1,
  header: { counts: "1 active" },
  views,
  rows: Object.fromEntries(rows.map((one) => [one.id, one])),
  texts: { title: "Downloads", unanswered: "It stopped." },
  filters: [],
});

class Model {
  constructor(snapshot) {
    Object.assign(this, { snapshot, handlers: new Map(), sent: [] });
  }
  get() {
    return this.snapshot;
  }
  set(_name, value) {
    this.snapshot = value;
    this.emit("change:snapshot");
  }
  send(content) {
    this.sent.push(content);
  }
  on(event, handler) {
    this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]);
  }
  off(event, handler) {
    this.handlers.set(event, (this.handlers.get(event) ?? []).filter((known) => known !== handler));
  }
  emit(event, ...values) {
    for (const handler of this.handlers.get(event) ?? []) handler(...values);
  }
}

// The renderer

test("an element with the same key is kept when it moves", () => {
  const { h, patch } = page;
  const body = window.document.body;
  const list = (...names) => names.map((name) => h("p", { key: name }, name));
  patch(body, list("a", "b", "c"));
  const [a, b, c] = body.children;

  patch(body, list("c", "a", "d"));

  assert.deepEqual([body.children[0] === c, body.children[1] === a, body.textContent], [true, true, "cad"]);
  assert.equal(b.isConnected, false);
});

test("a conditional part does not reuse its neighbour's element", () => {
  const { h, patch } = page;
  const body = window.document.body;
  patch(body, [h("input", { class: "kept" })]);
  const input = body.firstChild;

  patch(body, [h("p", { class: "new" }, "x"), h("input", { class: "kept" })]);

  assert.equal(body.lastChild, input);
});

test("a component without changed inputs is not rendered again", () => {
  const { h, patch, unlessSame } = page;
  const body = window.document.body;
  const part = (memo, text) => [unlessSame("p", "1", memo, () => h("p", {}, text))];
  patch(body, part([1], "first"));

  patch(body, part([1], "second"));
  const before = body.textContent;
  patch(body, part([2], "third"));

  assert.deepEqual([before, body.textContent], ["first", "third"]);
});

test("an omitted attribute is removed", () => {
  const { h, patch } = page;
  const body = window.document.body;
  patch(body, [h("p", { "data-mood": "bad", hidden: true })]);

  patch(body, [h("p", {})]);

  assert.deepEqual([body.firstChild.getAttribute("data-mood"), body.firstChild.hidden], [null, false]);
});

test("a handler does not prevent default actions", () => {
  const { h, patch } = page;
  patch(window.document.body, [h("input", { onkeydown: () => false })]);
  const event = new window.KeyboardEvent("keydown", { key: "a", cancelable: true });

  window.document.body.firstChild.dispatchEvent(event);

  assert.equal(event.defaultPrevented, false);
});

test("untrusted text is shown as text, and only web addresses become links", () => {
  const { h, patch, pageLink } = page;
  const evil = '<img src=x onerror="window.hacked = true">';
  patch(window.document.body, [h("p", { title: evil }, evil), pageLink("javascript:window.hacked = true", "page")]);

  assert.equal(window.document.querySelector("img"), null);
  assert.equal(window.document.querySelector("a").hasAttribute("href"), false);
});

// The state

test("changes contain whole rows, and rows in no list are removed", () => {
  const before = state([row("a"), row("b")]);
  const next = page.applied(before, { kind: "changes", seq: 2, views: [{ id: "active", rows: ["a"] }], rows: JSON.stringify([row("a", { note: "new" })]) });

  assert.deepEqual(Object.keys(next.rows), ["a"]);
  assert.equal(next.rows.a.note, "new");
  assert.equal(next.header, before.header);
});

test("repeated changes change nothing, and a gap is detected", () => {
  const before = state();

  assert.equal(page.applied(before, { kind: "changes", seq: 1 }), before);
  assert.equal(page.applied(before, { kind: "changes", seq: 3 }), null);
});

test("a request without an answer is sent again with the same id until it is answered", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  window.setTimeout = setTimeout;
  const model = new Model(state());
  const kernel = new page.Kernel(model);
  const asked = kernel.ask("act", { action: "pause" });

  context.mock.timers.tick(4000);
  context.mock.timers.tick(8000);
  model.emit("msg:custom", { kind: "reply", cid: model.sent[0].cid, result: { text: "done" } });
  context.mock.timers.tick(100_000);

  assert.equal(model.sent.length, 3);
  assert.equal(new Set(model.sent.map(({ cid }) => cid)).size, 1);
  assert.deepEqual(await asked, { text: "done" });
});

test("a kernel that cannot receive messages answers no pending request", async () => {
  const model = new Model(state());
  let isLost = false;
  const kernel = new page.Kernel(model, () => (isLost = true));
  model.send = () => {
    throw new Error("Cannot send");
  };

  await assert.rejects(kernel.ask("act"), { message: "It stopped." });
  assert.equal(isLost, true);
});

test("a refusal disappears once its row has another state or place", async () => {
  const app = { texts: {}, schedulePaint() {}, kernel: { ask: () => Promise.reject(new Error("The queue is full.")) } };
  const requests = new page.Requests(app);
  await requests.send("failed a", "retry", {});

  for (const position of [0, 0]) requests.clearOutdated("failed a", row("a", { status: "failed", position }));
  assert.equal(requests.feedback("failed a").text, "The queue is full.");

  requests.clearOutdated("pending a", row("a", { status: "queued", position: 1 }));
  assert.equal(requests.feedback("failed a").text, "");
});

// The order of rows

const keysOf = (entries) => entries.map(({ key, count }) => (count === undefined ? key : `${key} ${count}`));
const lists = (views) => page.entriesOf(state(views.flatMap(({ rows }) => rows.map((id) => row(id))), views));

test("a list has a heading with its number of rows, except the active list", () => {
  const shown = lists([{ id: "active", rows: ["a"] }, { id: "pending", title: "Up next", rows: ["b", "c"] }]);

  assert.deepEqual(keysOf(shown), ["a", "§pending 2", "b", "c"]);
});

test("in held order nothing moves, new rows come last, and headings count the rows below them", () => {
  const shown = lists([{ id: "active", rows: ["a"] }, { id: "pending", title: "Up next", rows: ["b"] }, { id: "done", title: "Done", rows: ["c"] }]);
  const next = lists([{ id: "active", rows: ["b"] }, { id: "done", title: "Done", rows: ["a", "c"] }, { id: "failed", title: "Failed", rows: ["d"] }]);

  assert.deepEqual(keysOf(page.heldOrder(shown, next)), ["a", "§pending 0", "b", "§done 1", "c", "§failed 1", "d"]);
});

// Bars

const bar = (fields) => ({ name: "f", status: "downloading", amount: "", part: 0.5, percent: "", weight: 10, ...fields });

test("a bar is divided in proportion to its files, with separate companions at the end", () => {
  const segments = page.segmentsOf([bar({ part: 1, status: "finished" }), bar({ weight: 30 }), bar({ tag: "mmproj", weight: 5 })]);

  assert.deepEqual(segments.map(({ weight }) => weight), [10, 30, 5]);
  assert.deepEqual(segments.map(({ isCompanion }) => isCompanion), [false, false, true]);
});

test("a file of unknown size counts as one of average size", () => {
  assert.deepEqual(page.segmentsOf([bar(), bar({ weight: 0, part: null })]).map(({ weight }) => weight), [10, 10]);
});

test("with two hundred files, neighbours share a segment", () => {
  const half = Array.from({ length: 100 }, () => bar({ part: 1, status: "finished" }));
  const segments = page.segmentsOf([...half, ...half.map((one) => ({ ...one, part: 0, status: "queued" }))]);

  assert.equal(segments.length, 40);
  assert.equal(segments.filter(({ status }) => status === "finished").length, 20);
});

test("a byte map shows received ranges, and verified bytes only up to the first gap", () => {
  const [runs, proven] = page.mapOf(bar({ runs: [0, 32, 64, 96], verified: 64 }));

  assert.deepEqual(runs.children.map(({ props }) => props.style.inset), ["0 75.00% 0 0.00%", "0 25.00% 0 50.00%"]);
  assert.equal(proven.props.style.inset, "0 75.00% 0 0.00%");
});

test("the rate graph starts with the first data", () => {
  assert.equal(page.graphOf([0, 0, 0, 0]), null);
  assert.equal(page.graphOf([1, 2]), null);
  assert.match(page.graphOf([1, 2, 4]).line, /^M87 /);
});

// Folders

const LAB = { baseUrl: "/user/ada/", serverRoot: "~/work" };

test("a folder below the server's root has a URL in Jupyter", () => {
  assert.equal(page.folderAddress("~/work/models/a b", LAB), "/user/ada/lab/tree/models/a%20b");
  assert.equal(page.folderAddress("~/work/models", { ...LAB, appName: "Jupyter Notebook" }), "/user/ada/tree/models");
});

test("a folder that Jupyter does not show has no URL", () => {
  assert.deepEqual(["/data/models", "~/workshop", "~/work/.cache/x"].map((one) => page.folderAddress(one, LAB)), [null, null, null]);
  assert.equal(page.folderAddress("~/work/models", {}), null);
});
