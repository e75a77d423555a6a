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
