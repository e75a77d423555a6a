// The panel's pure functions: numbers, deltas, order, what is in sight, what is said.
// Its length is that of the list of these functions, a few lines for each.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as formats from "../../gglib_nb/notebook/static/formats.js";
import * as segments from "../../gglib_nb/notebook/static/segments.js";
import * as state from "../../gglib_nb/notebook/static/state.js";
import { modelsNamed } from "../../gglib_nb/notebook/static/models.js";
import { folderAddress } from "../../gglib_nb/notebook/static/places.js";
import { endingsOf } from "../../gglib_nb/notebook/static/notify.js";
import { Presses } from "../../gglib_nb/notebook/static/presses.js";
import { Undo } from "../../gglib_nb/notebook/static/undo.js";
import * as words from "../../gglib_nb/notebook/static/words.js";

const panel = { ...formats, ...segments, ...state, ...words };

const cases = JSON.parse(readFileSync(new URL("../unit/format_cases.json", import.meta.url), "utf-8"));

const item = (id, fields = {}) => ({
  id,
  repo_id: id.split(":")[0],
  name: id.split(":")[0].split("/")[1],
  quantization: id.split(":")[1] ?? null,
  revision: null,
  status: "queued",
  position: 0,
  downloaded_bytes: 0,
  total_bytes: 4096,
  bytes_per_second: null,
  eta_seconds: null,
  notice: null,
  notice_kind: null,
  error: null,
  help_url: null,
  can_retry: false,
  reason: "",
  path: null,
  is_verified: null,
  was_present: false,
  hosts: "",
  started_at_s: null,
  ended_at_s: null,
  shards: [],
  ...fields,
});

const queue = {
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
};

const stateOf = (...items) => ({
  rev: 1,
  seq: 0,
  queue,
  order: items.map(({ id }) => id),
  items: Object.fromEntries(items.map((one) => [one.id, one])),
});

for (const [name, rows] of Object.entries(cases)) {
  test(`every ${name} reads as the table shared with Python says`, () => {
    for (const [value, text] of rows) assert.equal(panel[name](value), text, `${name}(${value})`);
  });
}

test("a delta changes its fields and bars and leaves the old state as it was", () => {
  const shards = [
    { path: "a-1.gguf", kind: "shard", size_bytes: 9, downloaded_bytes: 1, status: "downloading" },
    { path: "a-2.gguf", kind: "shard", size_bytes: 9, downloaded_bytes: 0, status: "queued" },
  ];
  const before = stateOf(item("o/a", { shards }));

  const after = panel.applyDelta(before, {
    kind: "delta",
    rev: 2,
    seq: 1,
    queue: { active_count: 1 },
    items: { "o/a": { fields: { downloaded_bytes: 12 }, bars: [[1, 3, "downloading"]] } },
  });

  assert.equal(after.items["o/a"].downloaded_bytes, 12);
  assert.deepEqual(after.items["o/a"].shards[1], { ...shards[1], downloaded_bytes: 3, status: "downloading" });
  assert.equal(after.items["o/a"].shards[0], shards[0]);
  assert.equal(after.queue.active_count, 1);
  assert.equal(before.items["o/a"].shards[1].downloaded_bytes, 0);
});

test("a delta that was seen before changes nothing, and one after a gap is refused", () => {
  const state = { ...stateOf(), seq: 5 };
  const delta = (seq) => ({ kind: "delta", rev: 9, seq, queue: {}, items: {} });

  assert.equal(panel.applyDelta(state, delta(5)), state);
  assert.equal(panel.applyDelta(state, delta(7)), null);
});

test("what is no longer in the order is forgotten", () => {
  const state = stateOf(item("o/a"), item("o/b"));

  const after = panel.applyDelta(state, { kind: "delta", rev: 2, seq: 1, queue: {}, order: ["o/b"], items: {} });

  assert.deepEqual(Object.keys(after.items), ["o/b"]);
});

test("rows stand in sections: active, next, failed, done, cancelled", () => {
  const state = stateOf(
    item("o/done", { status: "completed" }),
    item("o/next"),
    item("o/bad", { status: "failed" }),
    item("o/now", { status: "downloading" }),
  );
  state.queue = { ...queue, resolving: ["o/asked"] };

  const shown = panel.entriesOf(state).map((entry) => entry.title ?? entry.text ?? entry.item.name);

  assert.deepEqual(shown, ["now", "Up next", "next", "o/asked", "Failed", "bad", "Done", "done"]);
});

test("a row that took something from this disk says so, also when it is done, and has no other note then", () => {
  const taken = { notice: "13.2 of 17.0 GB taken from Q4_K_M on this disk", notice_kind: "reused" };

  assert.equal(panel.noteOf(item("o/now", { status: "downloading", ...taken })), taken.notice);
  assert.equal(panel.noteOf(item("o/done", { status: "completed", ...taken })), taken.notice);
  assert.equal(panel.noteOf(item("o/here", { status: "completed", notice: "on disk already", notice_kind: "x" })), "");
});

test("without a kernel what ran has stopped, in its old place, and what is over stays as it was", () => {
  const shards = [
    { path: "1", kind: "shard", size_bytes: 8, downloaded_bytes: 8, status: "finished" },
    { path: "2", kind: "shard", size_bytes: 8, downloaded_bytes: 3, status: "downloading" },
  ];
  const now = item("o/now", { status: "downloading", downloaded_bytes: 11, total_bytes: 16, shards });
  const state = stateOf(now, item("o/done", { status: "completed" }));

  const last = panel.withoutKernel(state);

  assert.deepEqual(
    panel.entriesOf(last).map((entry) => entry.title ?? entry.item.status),
    ["stopped", "Done", "completed"],
  );
  assert.deepEqual(
    last.items["o/now"].shards.map(({ status }) => status),
    ["finished", "stopped"],
  );
  assert.equal(panel.noteOf(last.items["o/now"]), "stopped with the kernel");
  assert.equal(panel.factsOf(last.items["o/now"]).length, 1);
  assert.equal(last.items["o/done"], state.items["o/done"]);
});

test("of a kernel that does not answer nobody knows how fast it is, and what is over stays as it was", () => {
  const now = item("o/now", { status: "downloading", downloaded_bytes: 1024, bytes_per_second: 5e6, eta_seconds: 9 });
  const done = item("o/done", { status: "completed", bytes_per_second: 7e6, started_at_s: 0, ended_at_s: 2 });

  const last = panel.withoutPace(stateOf(now, done));

  assert.deepEqual(panel.factsOf(last.items["o/now"]), ["1.0 kB of 4.1 kB", "", "", ""]);
  assert.deepEqual(panel.factsOf(last.items["o/done"]), ["4.1 kB", "2 s", "7.0 MB/s"]);
  assert.equal(last.queue.bytes_per_second, null);
  assert.equal(last.queue.eta_seconds, null);
});

test("while the pointer is on the list nothing moves, and what is new comes last", () => {
  const entries = (...keys) => keys.map((key) => ({ key, item: item(key) }));

  const held = panel.heldOrder(entries("o/a", "o/b", "o/c"), entries("o/c", "o/new", "o/a"));

  assert.deepEqual(
    held.map(({ key }) => key),
    ["o/a", "o/c", "o/new"],
  );
});

test("a heading counts what is of its kind below it while nothing moves", () => {
  const shown = panel.entriesOf(stateOf(item("o/a", { status: "downloading" }), item("o/b"), item("o/c", { status: "completed" })));
  const next = panel.entriesOf(
    stateOf(item("o/b", { status: "downloading" }), item("o/a", { status: "failed" }), item("o/c", { status: "completed" })),
  );

  const held = panel.heldOrder(shown, next);

  assert.deepEqual(
    held.map((entry) => entry.item?.id ?? `${entry.title} ${entry.count}`),
    ["o/a", "Up next 0", "o/b", "Done 1", "o/c"],
  );
});

test("a list keeps room for what will be done, of three downloads at most, and none once all are", () => {
  const files = (count) => Array.from({ length: count }, () => file(10, 0));
  const running = item("o/a", { status: "downloading", shards: files(4) });
  const done = item("o/d", { status: "completed", shards: files(6) });

  assert.deepEqual(panel.roomOf([running, done]), { rows: 2, files: 4 });
  assert.deepEqual(panel.roomOf([running, item("o/b", { shards: files(9) }), item("o/c"), done]), { rows: 3, files: 4 });
  assert.deepEqual(panel.roomOf([done]), { rows: 0, files: 0 });
});

test("what was cancelled a moment ago stays among its old neighbours and is not counted elsewhere", () => {
  const shown = panel.entriesOf(stateOf(item("o/a"), item("o/b"), item("o/c")));
  const old = item("o/old", { status: "cancelled" });
  const next = panel.entriesOf(stateOf(item("o/a"), item("o/c"), item("o/b", { status: "cancelled" }), old));

  const entries = panel.withLingering(shown, next, (id) => id === "o/b");

  assert.deepEqual(
    entries.map((entry) => entry.item?.id ?? `${entry.title} ${entry.count}`),
    ["Up next 2", "o/a", "o/b", "o/c", "Cancelled 1", "o/old"],
  );
});

test("what lingers alone leaves no heading for nothing", () => {
  const shown = panel.entriesOf(stateOf(item("o/a")));
  const next = panel.entriesOf(stateOf(item("o/a", { status: "cancelled" })));

  assert.deepEqual(
    panel.withLingering(shown, next, () => true).map(({ key }) => key),
    ["o/a"],
  );
});

const at = (x, y, atMs) => ({ x, y, atMs });
const up = (key) => ({ key, action: "up" });
const cancel = (key) => ({ key, action: "cancel" });

test("a second press at the same place never reaches another row", () => {
  const presses = new Presses();
  const first = cancel("a");

  assert.equal(presses.meant(first, at(5, 5, 0)), first);
  assert.equal(presses.meant(cancel("b"), at(6, 5, 600)), null);
});

test("a second press on up is for the row that went up", () => {
  const presses = new Presses();
  presses.meant(up("c"), at(5, 5, 0));

  assert.deepEqual(presses.meant(up("b"), at(5, 5, 700)), up("c"));
  assert.deepEqual(presses.meant(up("a"), at(5, 5, 1400)), up("c"));
});

test("a press elsewhere, or after a while, is for what is there", () => {
  const presses = new Presses();
  const [other, later] = [cancel("b"), cancel("c")];
  presses.meant(cancel("a"), at(5, 5, 0));

  assert.equal(presses.meant(other, at(5, 60, 200)), other);
  assert.equal(presses.meant(later, at(5, 60, 2000)), later);
});

test("an undo lasts ten seconds and knows the old place; what ran stood before all that wait", () => {
  const undo = new Undo();
  undo.note({ id: "a", position: 3 }, 1000);
  undo.note({ id: "b", position: 0 }, 1000);

  assert.deepEqual([undo.positionOf("a", 10_999), undo.positionOf("b", 1000)], [3, 1]);
  assert.equal(undo.positionOf("a", 11_000), null);
  assert.deepEqual(undo.expired(11_000), ["a", "b"]);
  assert.deepEqual(undo.expired(11_000), []);
});

test("only the rows in sight are asked for, and the rest keeps its height", () => {
  const sight = panel.windowOf(Array(500).fill(50), 1000, 200);

  assert.deepEqual(sight, { first: 20, last: 24, above: 1000, below: 476 * 50 });
});

test("a list that fits is in sight as a whole", () => {
  assert.deepEqual(panel.windowOf([50, 80], -300, 1200), { first: 0, last: 2, above: 0, below: 0 });
});

test("starts, ends and failures are spoken; ticks are not", () => {
  const before = stateOf(
    item("o/a:Q4", { status: "downloading" }),
    item("o/b:Q4"),
    item("o/c:Q4", { status: "downloading" }),
  );
  const after = stateOf(
    item("o/a:Q4", { status: "completed" }),
    item("o/b:Q4", { status: "downloading" }),
    item("o/c:Q4", { status: "downloading", downloaded_bytes: 7 }),
    item("o/d:Q4", { status: "completed" }),
  );

  assert.deepEqual(panel.announcementsOf(before, after), ["a Q4 is complete.", "b Q4 started."]);
});

test("nothing is said of a rate that is unknown, and a stall is zero", () => {
  const moving = { status: "downloading", downloaded_bytes: 1024 };

  assert.deepEqual(panel.factsOf(item("o/a", moving)), ["1.0 kB of 4.1 kB", "", "", ""]);
  assert.deepEqual(panel.factsOf(item("o/a", { ...moving, bytes_per_second: 0 }))[1], "0 B/s");
});

const file = (size_bytes, downloaded_bytes, status = "downloading", kind = "shard") => ({
  path: "a.gguf",
  kind,
  size_bytes,
  downloaded_bytes,
  status,
});

test("a bar has a part for each file, as large as its share and as full as the file", () => {
  const parts = panel.segmentsOf([file(30, 30, "finished"), file(10, 5), file(5, 0, "queued", "mmproj")]);

  assert.deepEqual(
    parts.map(({ weight, part, status, isCompanion }) => [weight, part, status, isCompanion]),
    [
      [30, 1, "finished", false],
      [10, 0.5, "downloading", false],
      [5, 0, "queued", true],
    ],
  );
});

test("a file of unknown size is taken for a usual one, and shows no progress it cannot know", () => {
  const [known, unknown] = panel.segmentsOf([file(40, 10), file(null, 0, "queued")]);

  assert.deepEqual([known.weight, unknown.weight, unknown.part], [40, 40, 0]);
});

test("beyond forty files neighbours share a part, companions never", () => {
  const files = Array.from({ length: 100 }, (_, index) => file(10, index < 4 ? 10 : 0, index < 4 ? "finished" : "queued"));
  const parts = panel.segmentsOf([...files, file(3, 0, "queued", "mmproj")]);

  assert.equal(parts.length, 35);
  assert.deepEqual(
    parts.slice(0, 3).map(({ status, part, count }) => [status, part.toFixed(2), count]),
    [
      ["finished", "1.00", 3],
      ["downloading", "0.33", 3],
      ["queued", "0.00", 3],
    ],
  );
  assert.equal(
    parts.reduce((sum, { weight }) => sum + weight, 0),
    1003,
  );
});

test("a running row shows its files by itself where they are a few", () => {
  const shards = (count) => Array.from({ length: count }, () => file(1, 0));

  assert.deepEqual(
    [1, 2, 6, 7].map((count) => panel.isOpenByItself(item("o/a", { status: "downloading", shards: shards(count) }))),
    [false, true, true, false],
  );
  assert.equal(panel.isOpenByItself(item("o/a", { status: "completed", shards: shards(3) })), false);
});

test("a finished row says size, time and mean rate, or that it was here", () => {
  const done = {
    status: "completed",
    downloaded_bytes: 4096,
    started_at_s: 100,
    ended_at_s: 142,
    bytes_per_second: 97.5,
  };

  assert.deepEqual(panel.factsOf(item("o/a", done)), ["4.1 kB", "42 s", "98 B/s"]);
  assert.deepEqual(panel.factsOf(item("o/a", { ...done, was_present: true, hosts: "on gpu-1" })).at(-1), "on gpu-1");
  assert.deepEqual(panel.factsOf(item("o/a", { ...done, was_present: true })), ["4.1 kB", "was here already"]);
});

test("a run in which everything failed is summed up too", () => {
  const run = {
    started_at_s: 0,
    ended_at_s: 61,
    models_completed: 0,
    models_failed: 2,
    models_cancelled: 0,
    completed_bytes: 0,
  };

  assert.deepEqual(panel.runSummary(run), { text: "Nothing arrived: 2 failed after 1 min 01 s.", mood: "bad" });
});

test("a run says what it brought", () => {
  const run = {
    started_at_s: 0,
    ended_at_s: 90,
    models_completed: 2,
    models_failed: 1,
    models_cancelled: 0,
    completed_bytes: 1e9,
  };

  assert.deepEqual(panel.runSummary(run), {
    text: "Finished in 1 min 30 s: 2 models complete, 1.0 GB, 1 failed.",
    mood: "mixed",
  });
});

test("the loading code is Python, whatever stands in the path", () => {
  assert.equal(
    panel.loadingCode('C:\\models\\a "b".gguf').split("\n")[1],
    'llm = Llama(model_path="C:\\\\models\\\\a \\"b\\".gguf")',
  );
});

const barOf = (fields) => ({
  path: "m.gguf",
  kind: "shard",
  size_bytes: 1280,
  downloaded_bytes: 640,
  status: "downloading",
  arrived_steps: [],
  verified_steps: 0,
  ...fields,
});

test("what came out of order stands where it is, and its verified front is no longer than what arrived", () => {
  assert.deepEqual(panel.mapOf(barOf({ arrived_steps: [0, 32, 64, 96], verified_steps: 16 })), {
    runs: [
      { start: 0, end: 0.25 },
      { start: 0.5, end: 0.75 },
    ],
    verified: 0.125,
  });
  assert.equal(panel.mapOf(barOf({ arrived_steps: [8, 32], verified_steps: 16 })).verified, 0);
});

test("what came in its order is one run, and what is done is whole", () => {
  assert.deepEqual(panel.mapOf(barOf({ verified_steps: 64 })), { runs: [{ start: 0, end: 0.5 }], verified: 0.5 });
  assert.deepEqual(panel.mapOf(barOf({ status: "finished" })), { runs: [{ start: 0, end: 1 }], verified: 1 });
  assert.deepEqual(panel.mapOf(barOf({ downloaded_bytes: 0 })), { runs: [], verified: 0 });
});

test("where the bytes stand is kept until it is said anew", () => {
  const before = { ...stateOf(), order: ["o/a"], items: { "o/a": { id: "o/a", shards: [barOf({ arrived_steps: [0, 8] })] } } };
  const bars = [[0, 700], [0, 800, "verifying", 3, [0, 9]]];

  const [kept, told] = bars.map((bar) =>
    panel.applyDelta(before, { rev: 2, seq: before.seq + 1, queue: {}, items: { "o/a": { fields: {}, bars: [bar] } } }),
  );

  assert.deepEqual(kept.items["o/a"].shards[0], barOf({ downloaded_bytes: 700, arrived_steps: [0, 8] }));
  assert.deepEqual(
    told.items["o/a"].shards[0],
    barOf({ downloaded_bytes: 800, status: "verifying", arrived_steps: [0, 9], verified_steps: 3 }),
  );
});

test("a folder has an address in Jupyter where it is below the server's root", () => {
  const lab = { baseUrl: "/user/ada/", serverRoot: "/home/ada" };
  const addressOf = (path, settings = lab) => folderAddress(path, "/home/ada", settings);

  assert.equal(addressOf("/home/ada/models/o/m x/a.gguf"), "/user/ada/lab/tree/models/o/m%20x");
  assert.equal(addressOf("/home/ada/a.gguf"), "/user/ada/lab/tree");
  assert.equal(addressOf("/home/adam/models/a.gguf"), null);
  assert.equal(addressOf("/home/ada/models/a.gguf", {}), null);
});

test("a server's root below the home folder is written with a tilde", () => {
  const address = folderAddress("/home/ada/work/m/a.gguf", "/home/ada", { baseUrl: "/", serverRoot: "~/work" });

  assert.equal(address, "/lab/tree/m");
});

test("a folder that Jupyter hides has no address in it", () => {
  const lab = { baseUrl: "/", serverRoot: "/home/ada" };

  assert.equal(folderAddress("/home/ada/.local/share/models/a.gguf", "/home/ada", lab), null);
});

test("models are found by every word of what is typed", () => {
  const models = [{ id: "o/Smol-GGUF:Q4_K_M" }, { id: "o/Big-GGUF:Q4_K_M" }];

  assert.deepEqual(modelsNamed(models, "q4 SMOL"), [models[0]]);
  assert.deepEqual(modelsNamed(models, " "), models);
});

test("what was found says whether it fits, is here and is gated, and how old it is", () => {
  const repo = { likely_size_bytes: 4.9e9, fit: "fits", is_here: true, is_gated: true };

  assert.deepEqual(panel.suggestionTags(repo), [
    ["here already", "good"],
    ["~4.9 GB, fits", "good"],
    ["gated", "warn"],
  ]);
  assert.deepEqual(panel.suggestionTags({ likely_size_bytes: null, fit: "unknown", is_here: false, is_gated: false }), []);
  const now = Date.parse("2026-06-01");
  const ages = ["2026-05-31T12:00:00Z", "2026-05-01", "2025-06-01", "2020-01-01", null].map((date) => panel.ageOf(date, now));
  assert.deepEqual(ages, ["today", "31 days ago", "12 months ago", "6 years ago", ""]);
});

test("the end of a long download is worth a notification, that of a short or unseen one is not", () => {
  const running = stateOf(item("o/long:Q4", { status: "downloading" }), item("o/short:Q4", { status: "downloading" }));
  const ended = (id, seconds) => item(id, { status: "completed", started_at_s: 0, ended_at_s: seconds });

  const after = stateOf(ended("o/long:Q4", 90), ended("o/short:Q4", 5), ended("o/new:Q4", 90));

  assert.deepEqual(endingsOf(running, after), ["long Q4 is complete."]);
});

const past = (id, fields = {}) => ({
  id,
  repo_id: id.split(":")[0],
  quantization: id.split(":")[1] ?? null,
  outcome: "completed",
  total_bytes: 4e9,
  bytes_per_second: 50e6,
  took_s: 80,
  ended_at_s: 1000.25,
  was_present: false,
  error: "",
  ...fields,
});

test("what stands in a list of the queue is not said again of what ended earlier", () => {
  const shown = { items: { "a/b:Q8": item("a/b:Q8", { status: "completed", ended_at_s: 1000.25 }) } };
  const earlier = [past("a/b:Q8"), past("a/b:Q8", { ended_at_s: 900 }), past("a/c:Q8")];

  assert.deepEqual(panel.notAbove(earlier, shown), earlier.slice(1));
});

test("of what ended earlier its outcome, size, time and rate are said, and nothing that is not known", () => {
  const said = (fields) => panel.earlierFacts(past("a/b:Q8", fields)).slice(0, -1);

  assert.deepEqual(said({}), [["completed", "good"], ["4.0 GB", "plain"], ["1 min 20 s", "plain"], ["50.0 MB/s", "plain"]]);
  assert.deepEqual(said({ was_present: true, bytes_per_second: null }), [["was here already", "good"], ["4.0 GB", "plain"]]);
  assert.deepEqual(said({ outcome: "failed", took_s: null, bytes_per_second: null }), [["failed", "bad"], ["4.0 GB", "plain"]]);
});
