/** Two replies to one message, of which the worker says which is better. */

import { isRecord, list, number, text, type Json } from "../protocol";

export type Side = "left" | "right";
export type Pick = Side | "tie" | "both_bad";
export const SIDES = ["left", "right"] as const;

/** Both replies, whole. */
export interface Comparison {
  utteranceIdx: number;
  left: string;
  right: string;
}

/** Which answers there are. */
export interface Scale {
  points: number;
  tie: boolean;
  bothBad: boolean;
  /** Whether the worker may say why. */
  reason: boolean;
  /** Whether boxes are ticked for both replies. */
  boxes: boolean;
}

/** What the worker has chosen; `target` is the utterance that the replies compete for. */
export interface Choice {
  target: number | null;
  pick: Pick | null;
  /** How much better, from 1 up; null without degrees. */
  strength: number | null;
  reason: string;
  /** Values of the boxes that are ticked for each reply; empty where none are asked for. */
  boxes: Readonly<Record<Side, readonly string[]>>;
}

export interface Answer {
  pick: Pick;
  strength: number | null;
}

export const NO_CHOICE: Choice = {
  target: null,
  pick: null,
  strength: null,
  reason: "",
  boxes: { left: [], right: [] },
};

/** A choice out of the browser's storage, where an earlier version of the page may have kept it. */
export function readChoice(kept: unknown): Choice {
  const choice = { ...NO_CHOICE, ...(isRecord(kept) ? (kept as Partial<Choice>) : {}) };
  const boxes: Json = isRecord(choice.boxes) ? choice.boxes : {};
  const of = (side: Side): string[] => list(boxes[side]).filter((value): value is string => typeof value === "string");
  return { ...choice, boxes: { left: of("left"), right: of("right") } };
}

export function readComparison(data: Json): Comparison | null {
  if (!isRecord(data.left) || !isRecord(data.right)) return null;
  return { utteranceIdx: number(data.utterance_idx, -1), left: text(data.left.text), right: text(data.right.text) };
}

export function readScale(data: Json): Scale {
  return {
    points: number(data.points, 2),
    tie: data.ties === "tie" || data.ties === "both",
    bothBad: data.ties === "both_bad" || data.ties === "both",
    reason: data.reason === true,
    boxes: data.boxes === true,
  };
}

/** The degrees of "better" on each side; none where the scale has two points. */
function levelsOf(scale: Scale): number {
  return Math.max(0, Math.floor((scale.points - 1) / 2));
}

/** All answers, from the first reply to the second, and then that both are bad. */
export function answersOf(scale: Scale): Answer[] {
  const levels = levelsOf(scale);
  const degrees = levels === 0 ? [null] : Array.from({ length: levels }, (_, index) => index + 1);
  const answers: Answer[] = [
    ...[...degrees].reverse().map((strength): Answer => ({ pick: "left", strength })),
    ...(scale.tie ? [{ pick: "tie", strength: null } as const] : []),
    ...degrees.map((strength): Answer => ({ pick: "right", strength })),
  ];
  return scale.bothBad ? [...answers, { pick: "both_bad", strength: null }] : answers;
}

export function isChosen({ pick, strength }: Choice, answer: Answer): boolean {
  return pick === answer.pick && strength === answer.strength;
}

/** Whether a choice is an answer that can be sent. */
export function isAnswer(choice: Choice, scale: Scale): boolean {
  return answersOf(scale).some((answer) => isChosen(choice, answer));
}

/** The mildest answer for a side. */
export function answerFor(side: Side, scale: Scale): Answer {
  return { pick: side, strength: levelsOf(scale) === 0 ? null : 1 };
}

/** Whether a box is still to be ticked for one of the two replies. */
export function areBoxesMissing({ boxes }: Choice): boolean {
  return SIDES.some((side) => boxes[side].length === 0);
}

/** What of a choice the server is sent. */
export function toJson({ pick, strength, reason }: Choice): Json {
  return { pick, strength, reason: reason.trim() };
}
