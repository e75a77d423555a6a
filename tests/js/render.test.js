// The widget on a document that is none (happy-dom): what is built, and that nothing from outside becomes markup.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import { Window } from "happy-dom";

const window = new Window({ url: "http://localhost/" });
const globals = [
  "document",
  "Element",
  "HTMLElement",
  "HTMLInputElement",
  "IntersectionObserver",
  "MutationObserver",
  "ResizeObserver",
  "matchMedia",
  "navigator",
];
let widgetOf;

class Model {
  constructor(snapshot) {
    this.snapshot = snapshot;
    this.handlers = new Map();
    this.sent = [];
    this.saved = 0;
  }
  get() {
    return this.snapshot;
  }
  set(_name, value) {
    this.snapshot = value;
    this.emit("change:snapshot");
  }
  save_changes() {
    this.saved += 1;
  }
  send(content) {
    this.sent.push(content);
  }
  on(event, handler) {
    this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]);
  }
  off(event, handler) {
    this.handlers.set(
      event,
      (this.handlers.get(event) ?? []).filter((known) => known !== handler),
    );
  }
  emit(event, ...values) {
    for (const handler of this.handlers.get(event) ?? []) handler(...values);
  }
}

const state = (items = {}, fields = {}) => ({
  rev: 1,
  seq: 0,
  queue: {
    pending_count: 0,
    active_count: 0,
    max_size: 10,
    max_concurrent: 1,
    max_connections: 16,
    bandwidth_limit_bytes_per_second: null,
    download_hours: null,
    waits_until: null,
    bytes_per_second: null,
    eta_seconds: null,
    resolving: [],
    last_run: null,
    notices: [],
    elsewhere: [],
  },
  order: Object.keys(items),
  items,
  ...fields,
});

const evil = '<img src=x onerror="window.hacked = true">';
const item = (id, fields) => ({
  id,
  repo_id: `owner/${evil}`,
  name: evil,
  quantization: evil,
  revision: null,
  status: "failed",
  position: 0,
  downloaded_bytes: 0,
  total_bytes: null,
  bytes_per_second: null,
  eta_seconds: null,
  notice: evil,
  notice_kind: null,
  error: evil,
  help_url: "javascript:window.hacked = true",
  can_retry: true,
  reason: evil,
  path: null,
  is_verified: null,
  was_present: false,
  hosts: "",
  started_at_s: null,
  ended_at_s: null,
  shards: [{ path: evil, kind: evil, size_bytes: 1, downloaded_bytes: 0, status: evil }],
  ...fields,
});

before(async () => {
  for (const name of globals)
    Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
  Object.assign(globalThis, {
    window,
    requestAnimationFrame: (paint) => setImmediate(paint),
    cancelAnimationFrame: clearImmediate,
  });
  widgetOf = (await import("../../gglib_nb/notebook/static/panel.js")).default;
});
beforeEach(() => window.document.body.replaceChildren());
after(() => window.happyDOM.abort());

function show(snapshot) {
  const model = new Model(snapshot);
  const closing = new AbortController();
  const el = window.document.body.appendChild(window.document.createElement("div"));
  const panel = widgetOf();
  panel.initialize({ model, signal: closing.signal });
  panel.render({ model, el, signal: closing.signal });
  return { model, el, panel, close: () => closing.abort() };
}

const painted = () => new Promise((done) => setImmediate(() => setImmediate(done)));

test("text from outside stays text", () => {
  const { el, close } = show(state({ a: item("a") }));

  el.querySelector('[aria-label^="Details"]').click();

  assert.equal(el.querySelectorAll("img").length, 0);
  assert.match(el.textContent, /<img src=x/);
  close();
});

test("what is queued again takes along what it took along before", async () => {
  const shards = ["shard", "shard", "mmproj"].map((kind) => ({
    path: kind,
    kind,
    size_bytes: 1,
    downloaded_bytes: 0,
    status: "queued",
  }));
  const { el, model, close } = show(
    state({ a: item("a", { repo_id: "owner/a", quantization: "Q4_K_M", status: "cancelled", shards }) }),
  );
  await painted();

  el.querySelector('[aria-label^="Queue again"]').click();

  const { cid, ...asked } = model.sent.at(-1);
  assert.deepEqual(asked, {
    kind: "queue",
    repo_id: "owner/a",
    quantization: "Q4_K_M",
    revision: null,
    companions: ["mmproj"],
    position: 1,
  });
  close();
});

test("only a web address becomes a link", () => {
  const { el, close } = show(state({ a: item("a") }));

  assert.equal(el.querySelector("a").getAttribute("href"), null);
  close();
});

test("a gap in the deltas makes the page ask for everything", async () => {
  const { model, close } = show(state());
  model.sent.length = 0;

  model.emit("msg:custom", { kind: "delta", rev: 9, seq: 4, queue: {}, items: {} });
  const [asked] = model.sent;
  const current = state({ b: item("b", { status: "queued" }) }, { rev: 9, seq: 4 });
  model.emit("msg:custom", { kind: "reply", cid: asked.cid, ok: true, result: current });
  await painted();

  assert.equal(asked.kind, "sync");
  assert.equal(model.snapshot, current);
  close();
});

test("the page never saves changes", async () => {
  const { model, el, close } = show(state());

  model.emit("msg:custom", { kind: "delta", rev: 2, seq: 1, queue: { active_count: 1 }, items: {} });
  await painted();

  assert.match(el.textContent, /1 active/);
  assert.equal(model.saved, 0);
  close();
});

test("a closed view leaves no listener behind", () => {
  const { model, el, close } = show(state());

  close();

  assert.equal(el.childElementCount, 0);
  assert.equal((model.handlers.get("change:snapshot") ?? []).length, 0);
  assert.equal((model.handlers.get("msg:custom") ?? []).length, 0);
});

test("an empty panel teaches the first command", () => {
  const { el, close } = show(state());

  assert.match(el.querySelector(".gglib-empty").textContent, /%gguf queue owner\/repo/);
  close();
});

const elsewhere = (fields = {}) => ({
  owner: evil,
  is_left: false,
  id: "o/m:Q4",
  name: "m",
  quantization: "Q4",
  status: "downloading",
  downloaded_bytes: 25,
  total_bytes: 100,
  bytes_per_second: 5e6,
  eta_seconds: 15,
  notice: null,
  ...fields,
});

test("downloads of other kernels are rows without buttons", () => {
  const queue = { ...state().queue, elsewhere: [elsewhere(), elsewhere({ id: "o/n:Q8", is_left: true })] };
  const { el, close } = show(state({}, { queue }));

  const rows = [...el.querySelectorAll(".gglib-peer")];
  assert.deepEqual(
    rows.map((row) => row.querySelector(".gglib-line").textContent),
    ["25 B of 100 B · 5.0 MB/s · 15 s left", "25 B of 100 B · its kernel is gone; %gguf takes it up"],
  );
  assert.equal(rows[0].querySelector(".gglib-owner").textContent, evil);
  assert.equal(rows[0].querySelector("[role=progressbar]").getAttribute("aria-valuenow"), "25");
  assert.equal(el.querySelectorAll(".gglib-peer button").length, 0);
  close();
});

test("a line about the queue is text, and what lies about is queued again by its button", () => {
  const notices = [
    { kind: "adopted", text: evil },
    { kind: "partials", text: "2 partial downloads lie in the models folder." },
  ];
  const { model, el, close } = show(state({}, { queue: { ...state().queue, notices } }));

  const lines = [...el.querySelectorAll(".gglib-notices p")];
  assert.deepEqual(
    lines.map((line) => line.firstElementChild.textContent),
    [evil, "2 partial downloads lie in the models folder."],
  );
  lines[1].querySelector("button").click();
  assert.equal(model.sent.at(-1).kind, "queue_partials");
  close();
});

/** One more view of a widget, in an element that the host has not put into the page yet. */
function another({ model, panel }) {
  const closing = new AbortController();
  const el = window.document.createElement("div");
  panel.render({ model, el, signal: closing.signal });
  return { el, close: () => closing.abort() };
}

test("a view whose element was dropped goes on in the next one, and ends with that", async () => {
  const first = show(state({ a: item("a", { status: "completed" }) }));
  first.el.querySelector(".gglib-adder input").value = "owner/na";
  await painted();
  const root = first.el.querySelector(".gglib-panel");

  first.el.parentElement.textContent = "Loading widget...";
  const second = another(first);
  window.document.body.replaceChildren(second.el);
  first.close();
  first.model.set("snapshot", state({ b: item("b", { name: "later", status: "completed" }) }));
  await painted();

  assert.equal(second.el.firstElementChild, root);
  assert.equal(second.el.querySelector(".gglib-adder input").value, "owner/na");
  assert.match(root.textContent, /later/);
  second.close();
  assert.equal(second.el.childElementCount, 0);
});

test("a view that is in the page, or not there yet, is not taken for another", async () => {
  const first = show(state({ a: item("a") }));
  await painted();

  const second = another(first);
  const third = another(first);

  for (const { el } of [first, second, third]) assert.equal(el.querySelectorAll(".gglib-panel").length, 1);
  for (const { close } of [first, second, third]) close();
});

test("a view that was taken off the page with the cell around it keeps its place there", async () => {
  const first = show(state({ a: item("a") }));
  const cell = window.document.body.appendChild(window.document.createElement("div"));
  cell.className = "jp-Cell";
  cell.append(first.el);
  await painted();
  cell.remove();

  const second = another(first);

  for (const { el } of [first, second]) assert.equal(el.querySelectorAll(".gglib-panel").length, 1);
  for (const { close } of [first, second]) close();
});
