/** Items of a study flow (docs/study-flow.md): what the server asks, what the worker has entered, and whether that can be sent. */

import { isBlank } from "../lib/visibleText";
import { Formatter, readLanguage } from "../messages";
import { isRecord, list, number, text, type Json } from "../protocol";

export const NOT_APPLICABLE = "not_applicable";
export const SLIDER_MAX = 100;

interface Base {
  id: string;
  question: string;
  required: boolean;
  /** Shown only after these answers to items before it on the same page. */
  show_if: Record<string, unknown[]> | null;
}

export interface Scale {
  points: number;
  low: string;
  high: string;
  not_applicable: boolean;
}

export type Item = Base &
  (
    | ({ kind: "scale" } & Scale)
    | { kind: "choice"; options: string[]; many: boolean; other: boolean }
    | { kind: "text"; min_chars: number; max_chars: number }
    | { kind: "number"; min: number | null; max: number | null }
    | { kind: "slider"; low: string; high: string }
    | { kind: "ranking"; options: string[] }
    | { kind: "best_worst"; options: string[] }
    | ({ kind: "matrix"; rows: string[] } & Scale)
    | { kind: "highlight" }
  );

export type ItemOf<K extends Item["kind"]> = Extract<Item, { kind: K }>;

/** What the worker has entered for one item: its answer, or the way to it (a number as it is written, an order half made). */
export type Entry = unknown;
export type Entries = Readonly<Record<string, Entry>>;

export interface StudyPage {
  id: string;
  kind: "consent" | "questions" | "text";
  title: string;
  text: string;
  accept: string;
  decline: string;
  items: Item[];
  idx: number;
  all: number;
}

export interface Span {
  start: number;
  end: number;
}

export type Problem =
  "missing" | "too_short" | "too_long" | "not_a_number" | "out_of_range" | "rows_missing" | "other_missing";

// --- what the server says ---

export function readItems(raw: unknown): Item[] {
  return list(raw)
    .filter(isRecord)
    .map(readItem)
    .filter((item): item is Item => item !== null);
}

function readItem(raw: Json): Item | null {
  const base: Base = {
    id: text(raw.id),
    question: text(raw.question),
    required: raw.required !== false,
    show_if: isRecord(raw.show_if)
      ? Object.fromEntries(Object.entries(raw.show_if).map(([item, values]) => [item, list(values)]))
      : null,
  };
  if (base.id === "") return null;
  const scale: Scale = {
    points: number(raw.points, 5),
    low: text(raw.low),
    high: text(raw.high),
    not_applicable: raw.not_applicable === true,
  };
  switch (raw.kind) {
    case "scale":
      return { ...base, kind: "scale", ...scale };
    case "choice":
      return {
        ...base,
        kind: "choice",
        options: texts(raw.options),
        many: raw.many === true,
        other: raw.other === true,
      };
    case "text":
      return { ...base, kind: "text", min_chars: number(raw.min_chars, 0), max_chars: number(raw.max_chars, 1000) };
    case "number":
      return { ...base, kind: "number", min: numberOrNull(raw.min), max: numberOrNull(raw.max) };
    case "slider":
      return { ...base, kind: "slider", low: text(raw.low), high: text(raw.high) };
    case "ranking":
      return { ...base, kind: "ranking", options: texts(raw.options) };
    case "best_worst":
      return { ...base, kind: "best_worst", options: texts(raw.options) };
    case "matrix":
      return { ...base, kind: "matrix", rows: texts(raw.rows), ...scale };
    case "highlight":
      return { ...base, kind: "highlight" };
    default:
      return null;
  }
}

export function readPage(data: Json): StudyPage | null {
  const { page } = data;
  if (!isRecord(page) || typeof page.id !== "string") return null;
  const kind = page.kind === "consent" || page.kind === "text" ? page.kind : "questions";
  return {
    id: page.id,
    kind,
    title: text(page.title),
    text: text(page.text),
    accept: text(page.accept),
    decline: text(page.decline),
    items: readItems(page.items),
    idx: number(data.page_idx, 0),
    all: number(data.num_pages, 1),
  };
}

function texts(raw: unknown): string[] {
  return list(raw).filter((entry): entry is string => typeof entry === "string");
}

function numberOrNull(raw: unknown): number | null {
  return typeof raw === "number" ? raw : null;
}

// --- what the worker has entered ---

/** Whether an item is shown after the answers to those before it, as the server decides it. */
function isShown(item: Item, answers: Json): boolean {
  if (item.show_if === null) return true;
  return Object.entries(item.show_if).every(([id, values]) => {
    const answer = answers[id];
    if (answer === undefined) return false;
    const given = Array.isArray(answer) ? answer : [answer];
    return given.some((value) => values.includes(isRecord(value) ? "other" : value));
  });
}

export interface Checked {
  /** The items that are shown, in order. */
  shown: Item[];
  /** Answers as they are sent. */
  answers: Json;
  problems: Readonly<Record<string, Problem>>;
}

/** What can be sent of what was entered, and what can't be yet. */
export function checkEntries(items: readonly Item[], entries: Entries): Checked {
  const shown: Item[] = [];
  const answers: Json = {};
  const problems: Record<string, Problem> = {};
  for (const item of items) {
    if (!isShown(item, answers)) continue;
    shown.push(item);
    const { answer, problem } = answerOf(item, entries[item.id]);
    if (problem !== null) problems[item.id] = problem;
    else if (answer !== null) answers[item.id] = answer;
    else if (item.required) problems[item.id] = "missing";
  }
  return { shown, answers, problems };
}

interface Answer {
  /** Null: nothing was entered. */
  answer: unknown;
  problem: Problem | null;
}

const NOTHING: Answer = { answer: null, problem: null };

function found(answer: unknown): Answer {
  return { answer, problem: null };
}

function wrong(problem: Problem): Answer {
  return { answer: null, problem };
}

function answerOf(item: Item, entry: Entry): Answer {
  switch (item.kind) {
    case "scale":
    case "slider":
      return entry === undefined || entry === null ? NOTHING : found(entry);
    case "choice":
      return choiceOf(item, entry);
    case "text":
      return textOf(text(entry), item.min_chars, item.max_chars);
    case "number":
      return numberOf(item, text(entry).trim());
    case "ranking": {
      const order = list(entry);
      if (order.length === 0) return NOTHING;
      return order.length < item.options.length ? wrong("missing") : found(order);
    }
    case "best_worst": {
      if (!isRecord(entry) || (entry.best === undefined && entry.worst === undefined)) return NOTHING;
      return entry.best === undefined || entry.worst === undefined
        ? wrong("missing")
        : found({ best: entry.best, worst: entry.worst });
    }
    case "matrix": {
      const rows = isRecord(entry)
        ? Object.fromEntries(Object.entries(entry).filter(([row]) => item.rows.includes(row)))
        : {};
      const answered = Object.keys(rows).length;
      if (answered === 0) return NOTHING;
      return item.required && answered < item.rows.length ? wrong("rows_missing") : found(rows);
    }
    case "highlight":
      return list(entry).length === 0 ? NOTHING : found(entry);
  }
}

function choiceOf(item: ItemOf<"choice">, entry: Entry): Answer {
  const chosen = item.many ? list(entry) : entry === undefined || entry === null ? [] : [entry];
  if (chosen.length === 0) return NOTHING;
  const own = chosen.find(isRecord);
  if (own !== undefined && isBlank(text(own.other))) return wrong("other_missing");
  return found(item.many ? chosen : chosen[0]);
}

function textOf(entered: string, least: number, most: number): Answer {
  if (isBlank(entered)) return NOTHING;
  const length = Array.from(entered.trim()).length;
  if (length > most) return wrong("too_long");
  return length < least ? wrong("too_short") : found(entered.trim());
}

/**
 * A number as people write it, in the digits of any script; a comma may stand for the point.
 *
 * @param decimal - what stands between 1 and 5 in the language of the page: the other sign before three digits may separate
 *   thousands, so "1,000" is no number on an English page, and neither is "1.000" on a German one.
 */
export function parseNumber(written: string, decimal: string): number | null {
  const plain = written
    .replaceAll(/\p{Nd}/gu, digitOf)
    .replace("٫", ".")
    .replace("−", "-");
  const parts = /^[-+]?(?:\d+(?:([.,])(\d*))?|[.,]\d+)$/.exec(plain);
  if (parts === null || (parts[1] !== undefined && parts[1] !== decimal && parts[2]?.length === 3)) return null;
  return Number(plain.replace(",", "."));
}

/** A decimal digit of any script as 0 to 9: the digits of a script follow each other, in runs of ten. */
function digitOf(digit: string): string {
  const code = digit.codePointAt(0) ?? 0;
  let before = 0;
  while (/\p{Nd}/u.test(String.fromCodePoint(code - before - 1))) before += 1;
  return String(before % 10);
}

function numberOf(item: ItemOf<"number">, written: string): Answer {
  if (written === "") return NOTHING;
  const value = parseNumber(written, new Formatter(readLanguage(document).language).decimal);
  if (value === null || !Number.isFinite(value)) return wrong("not_a_number");
  const fits = (item.min === null || value >= item.min) && (item.max === null || value <= item.max);
  return fits ? found(value) : wrong("out_of_range");
}
