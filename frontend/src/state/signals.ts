/** Counts of how the message that is being written came about (docs/authenticity.md). */

import { isRecord, type Json } from "../protocol";

export interface Signals {
  /** Characters that were pasted or dropped. */
  pasted: number;
  /** Keys that write or delete; null where something else than keys has written, too. */
  keys: number | null;
  /** How often the worker left the page, and came back. */
  away: number;
}

export const NO_SIGNALS: Signals = { pasted: 0, keys: 0, away: 0 };

export function addSignals(one: Signals, other: Partial<Signals>): Signals {
  const { pasted = 0, keys = 0, away = 0 } = other;
  return {
    pasted: one.pasted + pasted,
    keys: one.keys === null || keys === null ? null : one.keys + keys,
    away: one.away + away,
  };
}

/** An emptied field begins again; who was away was away. */
export function ofEmptiedField(signals: Signals): Signals {
  return { ...NO_SIGNALS, away: signals.away };
}

/** Those of both drafts, where they are counted. */
export function sumOfDrafts(one: Signals | null, other: Signals | null): Signals | null {
  return one === null || other === null ? (one ?? other) : addSignals(one, other);
}

export function signalsToJson({ pasted, keys, away }: Signals): Json {
  return { pasted_characters: pasted, times_away: away, ...(keys === null ? {} : { keys }) };
}

/** From storage, which may hold anything; null where nothing is counted. */
export function readSignals(raw: unknown, counting: boolean): Signals | null {
  if (!counting) return null;
  const { pasted, keys, away } = isRecord(raw) ? raw : {};
  return {
    pasted: isCount(pasted) ? pasted : 0,
    keys: isCount(keys) ? keys : null,
    away: isCount(away) ? away : 0,
  };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
