import { expect, test } from "vitest";
import { beginsToTheLeft, directionOf } from "./direction";

test.each([
  ["C++", "rtl", "auto"],
  ["How natural?", "rtl", "auto"],
  ["ما مدى ثقتك؟", "ltr", "auto"],
  ["18-29", "rtl", "auto"],
  ["", "rtl", "auto"],
  ["GPT-4 أفضل", "rtl", "rtl"],
  ["أفضل من GPT-4", "rtl", "rtl"],
  ["The word שלום here", "ltr", "ltr"],
  ["שלום (hello)", "ltr", "ltr"],
])("'%s' on a page that is written %s is %s", (text, page, direction) => {
  expect(directionOf(text, page)).toBe(direction);
});

test("the first letter decides how a text with dir=auto is written", () => {
  expect(beginsToTheLeft("(1) أعتقد Python")).toBe(true);
  expect(beginsToTheLeft("Python أعتقد")).toBe(false);
  expect(beginsToTheLeft("5 + 3")).toBe(false);
});
