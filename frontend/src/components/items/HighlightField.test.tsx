import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState, type ReactElement } from "react";
import { expect, it } from "vitest";
import { expectAccessible } from "../../../test/axe";
import type { Entry } from "../../study/items";
import { HighlightField } from "./HighlightField";

function Live({ reply, disabled = false }: { reply: string; disabled?: boolean }): ReactElement {
  const [entry, setEntry] = useState<Entry>([]);
  return (
    <fieldset disabled={disabled}>
      <legend>Wrong?</legend>
      <HighlightField
        item={{ id: "wrong", kind: "highlight", question: "Wrong?", required: false, show_if: null }}
        reply={reply}
        entry={entry}
        invalid={false}
        describedBy={undefined}
        onEnter={setEntry}
      />
    </fieldset>
  );
}

it.each([
  ["أعتقد ذلك مثلا", "{ArrowLeft}", "ذلك"],
  ["I think so", "{ArrowRight}", "think"],
])("in '%s' the key %s leads to the next word", async (reply, key, next) => {
  const user = userEvent.setup();
  render(<Live reply={reply} />);
  await user.tab();
  await user.keyboard(key);
  expect(screen.getByRole("button", { name: next })).toHaveFocus();
});

it.each([" ", "{Enter}"])("the key '%s' marks a word and takes the mark back", async (key) => {
  const user = userEvent.setup();
  const { container } = render(<Live reply="I think so" />);
  await user.tab();
  await user.keyboard(key);
  expect(screen.getByRole("button", { name: "I" })).toHaveAttribute("aria-pressed", "true");
  await expectAccessible(container);
  await user.keyboard(key);
  expect(screen.getByRole("button", { name: "I" })).toHaveAttribute("aria-pressed", "false");
});

it("words are no blocks of the line, which would put those of the other direction in the wrong order", () => {
  const { container } = render(<Live reply="أعتقد Python 3.12" />);
  expect([...container.querySelectorAll(".word")].map((word) => word.tagName)).toEqual(["SPAN", "SPAN", "SPAN"]);
});

it("nothing is marked where the question is closed", async () => {
  const user = userEvent.setup();
  render(<Live reply="I think so" disabled />);
  await user.click(screen.getByRole("button", { name: "think" }));
  screen.getByRole("button", { name: "I" }).focus();
  await user.keyboard(" ");
  expect(screen.queryAllByRole("button", { pressed: true })).toEqual([]);
});
