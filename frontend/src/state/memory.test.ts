import { expect, test } from "vitest";
import { RULES, Server, opened } from "../../test/updates";
import { initialState, reduce, type Pending } from "./conversation";
import { Memory } from "./memory";

const KINDS: Record<Pending["kind"], string> = {
  message: "a message",
  comparison: "a comparison of two replies",
  annotation: "the boxes of a finished conversation's reply",
  chat_done: "the end of a chat",
  final_rating: "final ratings",
  onboarding: "answers of the onboarding",
  page: "answers of a page of the study flow",
};

test.each(Object.entries(KINDS))("a reload does not forget what was on its way: %s (%s)", (kind) => {
  const memory = new Memory(window.sessionStorage);
  const before = opened(new Server());
  const state = reduce(before, { type: "typed", text: "I am fine.", at: 1 });
  const pending = { messageId: "m1", kind, turnIdx: 0, draft: state.draft, shownAt: 1, sentAt: 2 } as Pending;
  memory.keep("a1", { ...state, pending });
  const after = reduce(initialState(RULES), { type: "caught_up", log: before.log });
  expect(memory.recall("a1", after)?.pending).toEqual(pending);
});

test.each([["unknown"], ["toString"], [null], [3]])("what no page has kept is not restored: %s", (kind) => {
  const memory = new Memory(window.sessionStorage);
  const state = opened(new Server());
  const pending = { messageId: "m1", kind, turnIdx: 0, draft: state.draft, shownAt: 1, sentAt: 2 };
  memory.keep("a1", { ...state, pending: pending as unknown as Pending });
  expect(memory.recall("a1", state)?.pending).toBeNull();
});
