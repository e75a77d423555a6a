/**
 * Numbers as a person reads them. The kernel's text and HTML print the same ones: both follow the cases in
 * tests/unit/format_cases.json, and both round half up.
 */

export const UNKNOWN = "—";

/** @param {number} value @param {number} step @param {string[]} units @param {string} gap */
function scaled(value, step, units, gap = " ") {
  const whole = Math.max(0, Math.floor(value + 0.5));
  if (whole < step) return `${whole}${gap}${units[0]}`;
  let power = 0;
  let tenths = step * 10;
  while (tenths >= step * 10 && power < units.length - 1) {
    power += 1;
    tenths = Math.floor((value * 10) / step ** power + 0.5);
  }
  return `${Math.floor(tenths / 10)}.${tenths % 10}${gap}${units[power]}`;
}

const DECIMAL = ["B", "kB", "MB", "GB", "TB", "PB"];
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** On a disk or a line: decimal, as on the Hub's pages. @param {number|null} bytes */
export const size = (bytes) => (bytes === null ? UNKNOWN : scaled(bytes, 1000, DECIMAL));

/** Decimal too. 0 is a stall, null unknown. @param {number|null} bytesPerSecond */
export const rate = (bytesPerSecond) =>
  bytesPerSecond === null ? UNKNOWN : `${scaled(bytesPerSecond, 1000, DECIMAL)}/s`;

/** Of RAM or a GPU: binary, as in llama.cpp. @param {number|null} bytes */
export const memory = (bytes) => (bytes === null ? UNKNOWN : scaled(bytes, 1024, BINARY));

/** A large number in short. @param {number|null} number */
export function count(number) {
  return number === null ? UNKNOWN : scaled(number, 1000, ["", " k", " M", " B", " T"], "");
}

/** Never `0 s`, never above `99 h 59 min`. @param {number|null} seconds */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return UNKNOWN;
  const whole = Math.min((99 * 60 + 59) * 60, Math.max(1, Math.floor(seconds + 0.5)));
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** Rounded down: `100 %` is said of nothing unfinished. @param {number|null} fraction */
export function percent(fraction) {
  return fraction === null ? UNKNOWN : `${Math.floor(Math.min(1, Math.max(0, fraction)) * 100 + 1e-9)} %`;
}

/** @param {number} done @param {number|null} total @returns {number|null} 0 to 1; null unknown */
export function fraction(done, total) {
  return total === null ? null : total === 0 ? 1 : Math.min(1, done / total);
}

/** @param {number} number @param {string} noun */
export const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
