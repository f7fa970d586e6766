/** The words of a reply, for marking spans of it. Offsets on the wire count characters (code points), as the server does. */

import { isRecord, list } from "../protocol";
import type { Entry, Span } from "./items";

export interface Piece {
  text: string;
  /** Code points from the beginning. */
  start: number;
  end: number;
  /** Something that can be marked; else space or punctuation between. */
  isWord: boolean;
}

/** Cut a text into words and what is between them. Punctuation belongs to the word that it follows. */
export function piecesOf(text: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const { segment, isWordLike } of segments(text)) {
    const length = Array.from(segment).length;
    const last = pieces.at(-1);
    const isSpace = /^\s+$/u.test(segment);
    if (isWordLike !== true && !isSpace && last?.isWord === true && last.end === at) {
      last.text += segment;
      last.end += length;
    } else {
      pieces.push({ text: segment, start: at, end: at + length, isWord: !isSpace });
    }
    at += length;
  }
  return pieces;
}

function segments(text: string): Iterable<{ segment: string; isWordLike?: boolean }> {
  if (typeof Intl.Segmenter === "function") return new Intl.Segmenter(undefined, { granularity: "word" }).segment(text);
  return (text.match(/\s+|\S+/gu) ?? []).map((segment) => ({ segment, isWordLike: /\S/u.test(segment) }));
}

export function readSpans(entry: Entry): Span[] {
  return list(entry)
    .filter(isRecord)
    .filter((span) => typeof span.start === "number" && typeof span.end === "number")
    .map((span) => ({ start: span.start as number, end: span.end as number }));
}

/** Which words are marked, by their place in `pieces`. */
export function markedWords(pieces: readonly Piece[], spans: readonly Span[]): ReadonlySet<number> {
  const marked = new Set<number>();
  pieces.forEach((piece, index) => {
    if (piece.isWord && spans.some((span) => span.start <= piece.start && piece.end <= span.end)) marked.add(index);
  });
  return marked;
}

/** Spans of marked words; words that follow each other are one span, with the space between them. */
export function spansOf(pieces: readonly Piece[], marked: ReadonlySet<number>): Span[] {
  const spans: Span[] = [];
  let open: Span | null = null;
  pieces.forEach((piece, index) => {
    if (!piece.isWord) return;
    if (!marked.has(index)) {
      open = null;
    } else if (open === null) {
      open = { start: piece.start, end: piece.end };
      spans.push(open);
    } else {
      open.end = piece.end;
    }
  });
  return spans;
}
