import axe from "axe-core";
import { expect } from "vitest";

/** Expects that axe finds nothing. Contrast and scrolling can't be judged in jsdom: a real browser does that. */
export async function expectAccessible(container: Element): Promise<void> {
  const { violations } = await axe.run(container, {
    rules: { "color-contrast": { enabled: false }, region: { enabled: false } },
  });
  const found = violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(" ")}`);
  expect(found).toEqual([]);
}
