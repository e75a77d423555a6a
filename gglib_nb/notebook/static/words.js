/**
 * What is said of a download, a variant and a run, in words and numbers. Pure; computes no rate.
 */

import { duration, fraction, percent, plural, rate, size } from "./formats.js";
import { ACTIVE, PENDING } from "./state.js";

/** @import { ElsewhereState, ItemState, PanelState, PastItem, RunState, Suggestion, VariantChoice } from "./messages.js" */

/** @param {ItemState} item */
export const titleOf = (item) => (item.quantization ? `${item.name} ${item.quantization}` : item.name);

/** Whose it is, and of which revision where one was asked for. @param {ItemState} item */
export function originOf({ repo_id, revision }) {
  const owner = repo_id.slice(0, repo_id.indexOf("/"));
  return revision === null ? owner : `${owner} @ ${revision}`;
}

/** Nothing is said of what is not known yet. @param {number|null} value @param {(value: number) => string} say */
export const known = (value, say) => (value === null ? "" : say(value));

/** @param {number|null} seconds */
export const left = (seconds) => known(seconds, (some) => `${duration(some)} left`);

/** The number at a row's right end: how far it is, or how much it will be. @param {ItemState} item */
export function measureOf({ status, downloaded_bytes, total_bytes }) {
  if (!ACTIVE.includes(status) && !PENDING.includes(status)) return "";
  return status === "queued" && downloaded_bytes === 0 ? size(total_bytes) : percent(fraction(downloaded_bytes, total_bytes));
}

/** The line of numbers under a title, piece by piece; on a cluster its hosts come last. @param {ItemState} item @returns {string[]} */
export function factsOf(item) {
  return item.hosts ? [...numbersOf(item), item.hosts] : numbersOf(item);
}

/** @param {ItemState} item @returns {string[]} */
function numbersOf(item) {
  const { downloaded_bytes: done, total_bytes: total } = item;
  const amount = done === 0 || done === total ? size(total) : `${size(done)} of ${size(total)}`;
  switch (item.status) {
    case "downloading":
      return [`${size(done)} of ${size(total)}`, known(item.bytes_per_second, rate), left(item.eta_seconds), filesDone(item)];
    case "completed": {
      if (item.was_present) return [size(total), "was here already"];
      const { started_at_s: start, ended_at_s: end, bytes_per_second: mean } = item;
      const time = start === null || end === null ? [] : [duration(end - start)];
      return [size(total), ...time, ...(mean === null ? [] : [rate(mean)])];
    }
    case "failed":
    case "cancelled":
      return [done === 0 ? size(total) : `${amount} kept`];
    case "queued":
      return done === 0 ? [] : [amount];
    default:
      return [amount];
  }
}

/** How many of its files are done, in words; empty of a download in one file. @param {ItemState} item */
export function filesDone({ shards }) {
  const done = shards.filter(({ status }) => status === "finished").length;
  return shards.length > 1 ? `${done} of ${plural(shards.length, "file")} done` : "";
}

/** What goes on with it, in words; empty where the numbers say it all. @param {ItemState} item */
export function noteOf(item) {
  if (item.status === "failed") return item.error ?? "It failed for an unknown reason.";
  if (item.status === "completed") return ["reused", "unregistered"].includes(item.notice_kind ?? "") ? (item.notice ?? "") : "";
  if (item.notice) return item.notice;
  return item.status === "downloading" || item.status === "queued" || item.status === "cancelled" ? "" : item.status;
}

/** @param {ItemState} item */
export function digestOf(item) {
  if (item.status !== "completed" || item.is_verified === null) return "";
  return item.is_verified ? "SHA-256 verified" : "unverified: the Hub states no SHA-256";
}

/** Which kernel has it. @param {ElsewhereState} item */
export const whoseIs = ({ owner, is_left }) => (is_left ? `left by ${owner}` : owner);

/** How far a download of another kernel is, and what goes on with it. @param {ElsewhereState} item */
export function elsewhereOf(item) {
  const { downloaded_bytes: done, total_bytes: total, bytes_per_second: pace } = item;
  const amount = done === 0 || done === total ? size(total) : `${size(done)} of ${size(total)}`;
  if (item.is_left) return `${amount} · its kernel is gone; %gguf takes it up`;
  if (pace === null) return `${amount} · ${item.notice ?? item.status}`;
  return [amount, rate(pace), left(item.eta_seconds)].filter(Boolean).join(" · ");
}

/** What ended and stands in no list of the queue. @param {PastItem[]} past @param {PanelState} state */
export function notAbove(past, { items }) {
  return past.filter(({ id, ended_at_s }) => items[id]?.ended_at_s !== ended_at_s);
}

/** What is said of a download that ended before, piece by piece, with its mood. @param {PastItem} item @returns {[string, string][]} */
export function earlierFacts({ outcome, was_present, total_bytes, took_s, bytes_per_second, ended_at_s }) {
  const mood = { completed: "good", failed: "bad" }[outcome] ?? "plain";
  const minute = new Date(ended_at_s * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  /** @type {[string, string][]} */
  const facts = [
    [was_present ? "was here already" : outcome, mood],
    [size(total_bytes), "plain"],
    [was_present ? "" : known(took_s, duration), "plain"],
    [known(bytes_per_second, rate), "plain"],
    [minute, "plain"],
  ];
  return facts.filter(([text]) => text);
}

/** @param {RunState} run @returns {{text: string, mood: "good"|"mixed"|"bad"}} */
export function runSummary(run) {
  const { models_completed: done, models_failed: failed, models_cancelled: cancelled } = run;
  const time = duration(run.ended_at_s - run.started_at_s);
  const bytes = run.completed_bytes ? `, ${size(run.completed_bytes)}` : "";
  const parts = [`${plural(done, "model")} complete${bytes}`];
  if (failed) parts.push(`${failed} failed`);
  if (cancelled) parts.push(`${cancelled} cancelled`);
  if (!done && failed) return { text: `Nothing arrived: ${parts.slice(1).join(", ")} after ${time}.`, mood: "bad" };
  if (!done) return { text: `Stopped after ${time}: ${parts.slice(1).join(", ") || "nothing ended"}.`, mood: "mixed" };
  return { text: `Finished in ${time}: ${parts.join(", ")}.`, mood: failed ? "mixed" : "good" };
}

/** What speaks for and against a variant, with its mood. @param {VariantChoice} variant @returns {[string, string][]} */
export function tagsOf(variant) {
  /** @type {[string, string, boolean][]} */
  const tags = [
    ["recommended", "good", variant.is_recommended],
    ["here already", "good", variant.is_present],
    ["in the queue", "plain", variant.is_queued],
    ["incomplete on the Hub", "bad", !variant.is_complete],
    ["disk too full", "bad", variant.free_bytes_after !== null && variant.free_bytes_after < 0],
    [variant.fit, variant.mood, variant.fit !== ""],
  ];
  return tags.flatMap(([text, mood, holds]) => (holds ? [[text, mood]] : []));
}

/** @param {VariantChoice} variant */
export function variantFacts({ bits_per_weight: bits, file_count: files, bytes_to_go: rest, size_bytes: all, why }) {
  const facts = [bits === null ? "" : `${bits.toFixed(1)} bits`, files > 1 ? plural(files, "file") : ""];
  return [...facts, rest && rest !== all ? `${size(rest)} to go` : "", why].filter(Boolean).join(" · ");
}

/** How long ago something was, in one unit. @param {string|null} date @param {number} nowMs */
export function ageOf(date, nowMs) {
  const days = date === null ? NaN : (nowMs - Date.parse(date)) / 86_400_000;
  if (!Number.isFinite(days)) return "";
  if (days < 1) return "today";
  if (days < 60) return `${plural(Math.floor(days), "day")} ago`;
  return days < 730 ? `${Math.floor(days / 30.4)} months ago` : `${Math.floor(days / 365)} years ago`;
}

/** What speaks for and against a repository that was found, with its mood. @param {Suggestion} repo @returns {[string, string][]} */
export function suggestionTags(repo) {
  const about = repo.likely_size_bytes === null ? "" : `~${size(repo.likely_size_bytes)}`;
  const fit = { fits: "fits", tight: "tight in memory", "too large": "too large for memory" }[repo.fit];
  const mood = { fits: "good", tight: "warn", "too large": "bad" }[repo.fit] ?? "plain";
  /** @type {[string, string][]} */
  const tags = [
    [repo.is_here ? "here already" : "", "good"],
    [[about, fit].filter(Boolean).join(", "), mood],
    [repo.is_gated ? "gated" : "", "warn"],
  ];
  return tags.filter(([text]) => text);
}

/**
 * The lines that open a model, with its projector where it came along. A JSON string is a Python string too.
 * @param {string} path @param {string|null} projector
 */
export function loadingCode(path, projector = null) {
  const model = `model_path=${JSON.stringify(path)}`;
  if (projector === null) return `from llama_cpp import Llama\nllm = Llama(${model})`;
  return [
    "from llama_cpp import Llama",
    "from llama_cpp.llama_chat_format import Llava15ChatHandler",
    `eyes = Llava15ChatHandler(clip_model_path=${JSON.stringify(projector)})`,
    `llm = Llama(${model}, chat_handler=eyes)`,
  ].join("\n");
}

/** What a screen reader is told between two states: starts and ends, not ticks. @param {PanelState} before @param {PanelState} after */
export function announcementsOf(before, after) {
  return Object.values(after.items).flatMap((item) => {
    const old = before.items[item.id]?.status;
    if (old === item.status || (old === undefined && !ACTIVE.includes(item.status))) return [];
    if (item.status === "downloading") return `${titleOf(item)} started.`;
    if (item.status === "completed") return `${titleOf(item)} is complete.`;
    if (item.status === "failed") return `${titleOf(item)} failed: ${item.error}`;
    if (item.status === "paused") return `${titleOf(item)} is paused.`;
    if (item.status === "queued" && old !== undefined) return `${titleOf(item)} waits in the queue again.`;
    return item.status === "cancelled" ? `${titleOf(item)} was cancelled.` : [];
  });
}
