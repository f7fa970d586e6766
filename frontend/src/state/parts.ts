/**
 * Replies that are still growing. A part is decoration: it may be lost, repeated, late or wrong without any harm. It is in no
 * log, is not remembered over a reload, and decides nothing but what is seen until the whole reply is there.
 */

import { isBlank } from "../lib/visibleText";
import { text, type ServerUpdate } from "../protocol";
import { isModelThinking, type View } from "./view";

/** Which of two replies that are compared; null: the turn has one reply. */
export type Side = "left" | "right" | null;

/** A reply as far as it has been generated, addressed by `(utteranceIdx, side)`. */
export interface ReplyPart {
  utteranceIdx: number;
  side: Side;
  /** Counted by the server; a higher one replaces a lower one. */
  part: number;
  /** The whole text so far. */
  text: string;
}

/** Code units; a server sends no part that is longer than half of that. */
const LONGEST = 16 * 1024;

export function isReplyPart(update: ServerUpdate): boolean {
  return update.task_data.control === "reply_part";
}

function readPart({ task_data: data }: ServerUpdate): ReplyPart | null {
  const { utterance_idx: utteranceIdx, part } = data;
  const side = data.side ?? null;
  if (!isCount(utteranceIdx) || !isCount(part)) return null;
  if (side !== null && side !== "left" && side !== "right") return null;
  if (typeof data.text !== "string" || data.text.length > LONGEST) return null;
  return { utteranceIdx, side, part, text: text(data.text) };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** The index of the utterance that the model is about to say; null where it is about to say none. */
function nextReply(view: View): number | null {
  if (!isModelThinking(view)) return null;
  return view.messages.reduce((last, message) => Math.max(last, message.utteranceIdx), -1) + 1;
}

/** Take a part, if it is of the reply that is waited for and newer than what is shown; else nothing changes. */
export function withPart(parts: readonly ReplyPart[], view: View, update: ServerUpdate): readonly ReplyPart[] {
  const part = readPart(update);
  if (part === null || part.utteranceIdx !== nextReply(view)) return parts;
  const isSame = (other: ReplyPart): boolean => other.utteranceIdx === part.utteranceIdx && other.side === part.side;
  const shown = parts.find(isSame);
  if (shown !== undefined && shown.part >= part.part) return parts;
  return [...parts.filter((other) => !isSame(other)), part];
}

/** Drop what the server's messages have overtaken. */
export function settledParts(parts: readonly ReplyPart[], view: View): readonly ReplyPart[] {
  const next = nextReply(view);
  return parts.every((part) => part.utteranceIdx === next) ? parts : parts.filter((part) => part.utteranceIdx === next);
}

/** The growing reply of one side, once there is anything to be seen of it. */
export function growingReply(parts: readonly ReplyPart[], side: Side = null): ReplyPart | null {
  const part = parts.find((other) => other.side === side);
  return part === undefined || isBlank(part.text) ? null : part;
}
