import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const FILES = ["styles.css", "comparison.css", "markdown.css", "components/items/items.css"];
/** What depends on left and right where it should depend on the direction of writing. */
const PHYSICAL = new RegExp(
  [
    "(^|[^-\\w])(left|right): ",
    "(margin|padding|border|scroll-margin|scroll-padding)-(left|right)",
    "border-(top|bottom)-(left|right)-radius",
    "(float|clear|text-align): (left|right)",
    "translateX\\(",
    "border-radius:( [^ ;]+){4};",
  ].join("|"),
);
const FOUR_SIDES = /(margin|padding|inset|border-width): \S+ (\S+) \S+ (\S+);/;

test.each(FILES)("%s lays everything out in the direction of writing", (name) => {
  const found = readFileSync(new URL(name, import.meta.url), "utf8")
    // The columns of a table are aligned as the model's Markdown says.
    .replace(/\.markdown \.(left|right) \{[^}]*\}/g, "")
    .split("\n")
    .filter((line) => PHYSICAL.test(line) || unequalSides(line));
  expect(found).toEqual([]);
});

function unequalSides(line: string): boolean {
  const sides = FOUR_SIDES.exec(withoutFunctions(line));
  return sides !== null && sides[2] !== sides[3];
}

/** `max(12px, env(x))` is one value. */
function withoutFunctions(line: string): string {
  const inner = line.replace(/[\w-]+\([^()]*\)/g, "x");
  return inner === line ? line : withoutFunctions(inner);
}
