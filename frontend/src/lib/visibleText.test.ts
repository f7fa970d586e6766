import { expect, test } from "vitest";
import { isBlank } from "./visibleText";

// The same texts as in tests/records/test_visible_text.py: page and server have one idea of an empty text.
test.each([
  "",
  " \n\t",
  "\u00a0",
  "\u200b",
  "\u2060\ufeff",
  "\u3164",
  "\u115f\u1160",
  "\uffa0",
  "\u2800",
  "\u00ad",
  "\ufe0f",
  "\u034f",
  "\u{e0020}",
  "\ue000",
])("%j shows nothing", (text) => {
  expect(isBlank(text)).toBe(true);
});

test.each([".", "0", "\u200bx", "\u4f60", "\u{1f642}", "\u2764\ufe0f", "\u{1fae8}", "\u0e2a\u0e27\u0e31"])(
  "%j shows something",
  (text) => {
    expect(isBlank(text)).toBe(false);
  },
);
