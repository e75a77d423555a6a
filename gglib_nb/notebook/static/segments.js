/**
 * A download's bar, divided into its files: how large each part is, how full, and in which state. Pure: no document.
 */

import { fraction } from "./formats.js";

/** @import { ShardState } from "./messages.js" */

/** More segments than this are no longer told apart; neighbours share one then. */
export const MOST_SEGMENTS = 40;

/** @typedef {{weight: number, part: number, status: string, isCompanion: boolean, count: number}} Segment */

/**
 * A download's files as parts of one bar, in their order and in proportion to their sizes; a file of unknown size is taken
 * for a usual one. Beyond `most` neighbours of the same sort are put together.
 * @param {ShardState[]} shards @returns {Segment[]}
 */
export function segmentsOf(shards, most = MOST_SEGMENTS) {
  const known = shards.flatMap(({ size_bytes }) => size_bytes ?? []);
  const usual = known.reduce((sum, one) => sum + one, 0) / known.length || 1;
  const models = shards.filter(({ kind }) => kind === "shard");
  const companions = shards.filter(({ kind }) => kind !== "shard");
  const together = Math.ceil(models.length / most);
  const groups = Array.from({ length: Math.ceil(models.length / together) || 0 }, (_, index) =>
    models.slice(index * together, (index + 1) * together),
  );
  return [...groups, ...companions.map((one) => [one])].map((files) => segmentOf(files, usual));
}

/** In so many steps of a file it is told where its bytes stand, as in the kernel's `domain.download`. */
export const BAR_STEPS = 128;

/** @typedef {{start: number, end: number}} Run */

/**
 * Where the bytes of a file stand, in parts of its length: its runs, and how far from the start it is verified. What came in
 * its order is one run.
 * @param {ShardState} shard @returns {{runs: Run[], verified: number}}
 */
export function mapOf({ status, size_bytes, downloaded_bytes, arrived_steps = [], verified_steps = 0 }) {
  if (status === "finished") return { runs: [{ start: 0, end: 1 }], verified: 1 };
  const part = fraction(downloaded_bytes, size_bytes) ?? 0;
  const runs = [];
  for (let at = 0; at + 1 < arrived_steps.length; at += 2) {
    const [start = 0, end = 0] = arrived_steps.slice(at, at + 2);
    runs.push({ start: start / BAR_STEPS, end: end / BAR_STEPS });
  }
  if (!runs.length && part > 0) runs.push({ start: 0, end: part });
  return { runs, verified: Math.min(verified_steps / BAR_STEPS, runs[0]?.start === 0 ? runs[0].end : 0) };
}

/** @param {ShardState[]} files @param {number} usual @returns {Segment} */
function segmentOf(files, usual) {
  const weight = files.reduce((sum, { size_bytes }) => sum + (size_bytes ?? usual), 0);
  const done = files.reduce(
    (sum, { status, size_bytes, downloaded_bytes }) =>
      sum + (status === "finished" ? (size_bytes ?? usual) : downloaded_bytes),
    0,
  );
  return {
    weight: Math.max(weight, 1),
    part: fraction(done, weight) ?? 0,
    status: commonStatus(files.map(({ status }) => status)),
    isCompanion: files[0]?.kind !== "shard",
    count: files.length,
  };
}

/** @param {string[]} statuses */
function commonStatus(statuses) {
  const [first = "queued"] = statuses;
  if (statuses.every((one) => one === first)) return first;
  return statuses.find((one) => one !== "finished" && one !== "queued") ?? "downloading";
}
