import { describe, expect, it } from "vitest";
import { markedWords, piecesOf, readSpans, spansOf } from "./words";

const words = (text: string): string[] =>
  piecesOf(text)
    .filter((piece) => piece.isWord)
    .map((piece) => piece.text);

describe("words of a reply", () => {
  it("are cut at spaces, with their punctuation", () => {
    expect(words("I like tea, and you?")).toEqual(["I", "like", "tea,", "and", "you?"]);
  });

  it("are found without spaces, too", () => {
    expect(words("茶が好きです").length).toBeGreaterThan(1);
    expect(words("茶が好きです").join("")).toBe("茶が好きです");
  });

  it("keep every character in place, counted as the server counts", () => {
    const text = "Tea 🍵 is 👩‍👩‍👧 fine.\n\nYes";
    const characters = Array.from(text);
    for (const piece of piecesOf(text)) expect(characters.slice(piece.start, piece.end).join("")).toBe(piece.text);
    expect(
      piecesOf(text)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(text);
  });
});

it("joins words that follow each other to one span, and finds them again", () => {
  const pieces = piecesOf("I like tea and milk.");
  const at = (word: string): number => pieces.findIndex((piece) => piece.text === word);
  const marked = new Set([at("like"), at("tea"), at("milk.")]);
  const spans = spansOf(pieces, marked);
  expect(spans).toEqual([
    { start: 2, end: 10 },
    { start: 15, end: 20 },
  ]);
  expect(markedWords(pieces, spans)).toEqual(marked);
});

it("reads what was stored, whatever it is", () => {
  expect(readSpans([{ start: 1, end: 2 }, 7, { start: "1", end: 2 }])).toEqual([{ start: 1, end: 2 }]);
  expect(readSpans("junk")).toEqual([]);
});
