/** Numbers, times and amounts as people read them. */

import { plain } from "./reveal";

const LOCALE = "en";
export const UNKNOWN = "–";

export function count(value: number | null): string {
  return value === null ? UNKNOWN : value.toLocaleString(LOCALE);
}

export function many(value: number, one: string, several: string): string {
  return value === 1 ? `1 ${one}` : `${count(value)} ${several}`;
}

/** An amount with its currency; one that `Intl` does not know (a panel's points) is written behind the number. */
export function money(value: number | null, currency: string): string {
  if (value === null) return UNKNOWN;
  try {
    return value.toLocaleString(LOCALE, { style: "currency", currency, currencyDisplay: "symbol" });
  } catch {
    return `${value.toLocaleString(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${currency}`.trim();
  }
}

/** Seconds, as exact as is useful: 0.84 s, 12 s, 3 min 20 s. */
export function seconds(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value < 10) return `${value.toLocaleString(LOCALE, { maximumFractionDigits: value < 1 ? 2 : 1 })} s`;
  const whole = Math.round(value);
  if (whole < 120) return `${whole} s`;
  return whole % 60 === 0 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

export function minutes(value: number | null): string {
  if (value === null) return UNKNOWN;
  return `${value.toLocaleString(LOCALE, { maximumFractionDigits: value < 10 ? 1 : 0 })} min`;
}

export function number(value: number | null, digits = 2): string {
  return value === null ? UNKNOWN : value.toLocaleString(LOCALE, { maximumFractionDigits: digits });
}

const DAY: Intl.DateTimeFormatOptions = { day: "numeric", month: "short" };
const TIME: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

function sameDay(one: Date, other: Date): boolean {
  return one.toDateString() === other.toDateString();
}

/** The reader's own time: the hour alone on the same day as `now`, with the day otherwise, with the year in another year. */
export function when(time: number | null, now: number = Date.now() / 1000): string {
  if (time === null) return UNKNOWN;
  const date = new Date(time * 1000);
  const today = new Date(now * 1000);
  if (sameDay(date, today)) return date.toLocaleTimeString(LOCALE, TIME);
  const year: Intl.DateTimeFormatOptions = date.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
  return date.toLocaleString(LOCALE, { ...DAY, ...year, ...TIME });
}

/** Day, year and time in full, for a title. */
export function exactly(time: number): string {
  return new Date(time * 1000).toLocaleString(LOCALE, { dateStyle: "full", timeStyle: "long" });
}

/** How long ago, in the largest unit that fits: 40 s, 12 min, 3 h, 5 days. */
export function ago(time: number, now: number): string {
  const passed = Math.max(0, now - time);
  if (passed < 60) return `${Math.floor(passed)} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  if (passed < 48 * 3600) return `${Math.floor(passed / 3600)} h`;
  return `${Math.floor(passed / 86400)} days`;
}

const GRAPHEMES = typeof Intl.Segmenter === "undefined" ? null : new Intl.Segmenter("en", { granularity: "grapheme" });

/** A name that fits a chart's axis: its end tells models apart better than its beginning (as in analysis/charts.py). */
export function short(given: string, most = 28): string {
  const name = plain(given);
  // A name of megabytes is cut before it is taken apart.
  const near = name.length > most * 40 ? name.slice(-most * 40) : name;
  const letters = GRAPHEMES === null ? Array.from(near) : Array.from(GRAPHEMES.segment(near), (part) => part.segment);
  return letters.length <= most && near === name ? name : `…${letters.slice(-(most - 1)).join("")}`;
}

/** A sentence or a name on at most two lines of `most` letters, for an axis. */
export function label(text: string, most: number): string[] {
  const lines = [""];
  for (const word of plain(text).split(/\s+/u)) {
    const last = lines.at(-1) ?? "";
    const longer = last === "" ? word : `${last} ${word}`;
    if (longer.length <= most) lines[lines.length - 1] = longer;
    else if (word.length > most) return [short(text, most)];
    else if (lines.length === 2) return [lines[0] ?? "", `${last.slice(0, most - 2)} …`];
    else lines.push(word);
  }
  return lines;
}

/** "left_early" as "left early", for codes of the server that have no words of their own. */
export function words(code: string): string {
  return code.replaceAll("_", " ");
}

/** An answer of any kind, as a reader takes it. */
export function answer(value: unknown): string {
  if (value === null || value === undefined || value === "") return UNKNOWN;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value);
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(answer).join(", ");
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([key, part]) => `${words(key)}: ${answer(part)}`)
      .join("; ");
  }
  return UNKNOWN;
}
