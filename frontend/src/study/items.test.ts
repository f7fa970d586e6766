import { describe, expect, it } from "vitest";
import { checkEntries, parseNumber, readItems, readPage, type Item } from "./items";

const OPTIONS = ["tone", "facts", "speed"];

function item(kind: string, settings: Record<string, unknown> = {}): Item {
  const [read] = readItems([{ id: "x", kind, question: "X?", ...settings }]);
  if (read === undefined) throw new Error(`no item of the kind ${kind}`);
  return read;
}

function check(one: Item, entry: unknown): { answer: unknown; problem: string | undefined } {
  const { answers, problems } = checkEntries([one], { x: entry });
  return { answer: answers.x, problem: problems.x };
}

describe("what was entered", () => {
  it.each([
    [item("scale"), 3, 3],
    [item("slider"), 0, 0],
    [item("choice", { options: OPTIONS }), "tone", "tone"],
    [item("choice", { options: OPTIONS, many: true }), ["tone", "speed"], ["tone", "speed"]],
    [item("choice", { options: OPTIONS, other: true }), { other: "wit" }, { other: "wit" }],
    [item("text", { min_chars: 3 }), "  abc ", "abc"],
    [item("number", { min: 18 }), " 18,5 ", 18.5],
    [item("ranking", { options: OPTIONS }), ["speed", "tone", "facts"], ["speed", "tone", "facts"]],
    [item("best_worst", { options: OPTIONS }), { best: "tone", worst: "facts" }, { best: "tone", worst: "facts" }],
    [item("matrix", { rows: ["a", "b"] }), { a: 1, b: 5 }, { a: 1, b: 5 }],
    [item("highlight"), [{ start: 0, end: 2 }], [{ start: 0, end: 2 }]],
  ])("is an answer: %#", (one, entry, answer) => {
    expect(check(one, entry)).toEqual({ answer, problem: undefined });
  });

  it.each([
    [item("scale"), undefined, "missing"],
    [item("slider"), undefined, "missing"],
    [item("choice", { options: OPTIONS }), undefined, "missing"],
    [item("choice", { options: OPTIONS, many: true }), [], "missing"],
    [item("choice", { options: OPTIONS, other: true }), { other: "  " }, "other_missing"],
    [item("choice", { options: OPTIONS, many: true, other: true }), ["tone", { other: "" }], "other_missing"],
    [item("text", { min_chars: 3 }), "ab", "too_short"],
    [item("text", { max_chars: 3 }), "abcd", "too_long"],
    [item("text"), " \n", "missing"],
    [item("number"), "many", "not_a_number"],
    [item("number", { min: 18 }), "17.9", "out_of_range"],
    [item("number", { max: 18 }), "18.1", "out_of_range"],
    [item("ranking", { options: OPTIONS }), ["tone"], "missing"],
    [item("best_worst", { options: OPTIONS }), { best: "tone" }, "missing"],
    [item("best_worst", { options: OPTIONS }), { worst: "tone" }, "missing"],
    [item("matrix", { rows: ["a", "b"] }), { a: 1 }, "rows_missing"],
    [item("highlight"), [], "missing"],
  ])("is no answer yet: %#", (one, entry, problem) => {
    expect(check(one, entry)).toEqual({ answer: undefined, problem });
  });

  it("may be missing where an item is not required, but not be half made", () => {
    expect(check(item("text", { required: false }), "")).toEqual({ answer: undefined, problem: undefined });
    expect(check(item("ranking", { options: OPTIONS, required: false }), ["tone"]).problem).toBe("missing");
    expect(check(item("matrix", { rows: ["a", "b"], required: false }), { a: 1 }).answer).toEqual({ a: 1 });
  });

  it("counts characters as the server does", () => {
    expect(check(item("text", { max_chars: 2 }), "🍵🍵").problem).toBeUndefined();
  });
});

it("shows an item after the answers that it names, and sends nothing of a hidden one", () => {
  const items = readItems([
    { id: "uses", kind: "choice", question: "?", options: OPTIONS, many: true, other: true },
    { id: "more", kind: "text", question: "?", show_if: { uses: ["tone", "other"] } },
  ]);
  const hidden = checkEntries(items, { uses: ["speed"], more: "kept" });
  expect(hidden.shown.map((one) => one.id)).toEqual(["uses"]);
  expect(hidden.answers).toEqual({ uses: ["speed"] });
  expect(hidden.problems).toEqual({});
  expect(checkEntries(items, { uses: [{ other: "wit" }], more: "kept" }).answers.more).toBe("kept");
  expect(checkEntries(items, { more: "kept" }).shown).toHaveLength(1);
});

it("reads numbers as people write them", () => {
  const read = (written: string[], decimal = "."): unknown => written.map((one) => parseNumber(one, decimal));
  expect(read(["7", "-7", "+7", "7.5", "7,5", ".5", ",5", "7.", "−7"])).toEqual([7, -7, 7, 7.5, 7.5, 0.5, 0.5, 7, -7]);
  expect(read(["", "-", "1e5", "0x10", "1.2.3", "NaN", "Infinity", "7 8", "²", "Ⅳ"])).toEqual(Array(10).fill(null));
  expect(read(["٣٫٥", "۱۹", "１２", "९.५", "𝟘𝟡"])).toEqual([3.5, 19, 12, 9.5, 9]);
});

it("takes no separator of thousands for a decimal sign", () => {
  expect(["1,000", "12,345", "1.000", "1.0005", "1,0005"].map((one) => parseNumber(one, "."))).toEqual([
    null,
    null,
    1,
    1.0005,
    1.0005,
  ]);
  expect(["1.000", "1,000"].map((one) => parseNumber(one, ","))).toEqual([null, 1]);
});

it("reads whatever a server says without failing", () => {
  expect(readItems(null)).toEqual([]);
  expect(readItems([7, {}, { id: "x" }, { id: "x", kind: "stars" }, { kind: "scale" }])).toEqual([]);
  expect(readPage({})).toBeNull();
  expect(readPage({ page: { id: "p", kind: "unheard of" } })).toMatchObject({ id: "p", kind: "questions", items: [] });
});
