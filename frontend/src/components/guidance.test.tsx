import { fireEvent, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Chat, ONBOARDING_RULES, Onboarding } from "../../test/screens";
import { Server, opened, play } from "../../test/updates";
import { initialState, reduce, type State } from "../state/conversation";

/** What was scrolled to, in order. */
let shown: Element[];

beforeEach(() => {
  shown = [];
  vi.spyOn(Element.prototype, "scrollIntoView").mockImplementation(function (this: Element) {
    shown.push(this);
  });
});

function rating(server: Server): State {
  return play(opened(server), server.yourTurn(3, { ask: "final_rating" }));
}

function announced(): Element | null {
  return screen.getByTestId("announcement").firstElementChild;
}

type Try = () => Promise<void>;
const byClick: Try = () => userEvent.click(screen.getByTestId("send"));
const byEnter: Try = () => userEvent.type(screen.getByTestId("composer"), "{Enter}");

describe.each([
  ["a click on Send", byClick],
  ["Enter", byEnter],
])("what blocks sending is announced, has the focus and is in sight after %s", (_, attempt) => {
  test("the boxes of the last reply", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.type(screen.getByTestId("composer"), "Fine.");
    await attempt();
    expect(announced()).toHaveTextContent("First tick at least one box for the last reply.");
    expect(screen.getByTestId("bucket-bucket_0")).toHaveFocus();
    expect(shown.at(-1)).toBe(screen.getByTestId("annotation"));
    expect(screen.getByTestId("send-reason")).toHaveClass("strong");
  });

  test.each([
    ["an empty message", "", "Write a message first."],
    ["a message of spaces", "   ", "Write a message first."],
    ["a message that is too long", "x".repeat(42), "2 characters too long."],
  ])("%s", async (_, text, reason) => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.click(screen.getByTestId("bucket-bucket_0"));
    fireEvent.change(screen.getByTestId("composer"), { target: { value: text } });
    await attempt();
    expect(announced()).toHaveTextContent(reason);
    expect(screen.getByTestId("composer")).toHaveFocus();
  });

  test("the reply that is still being written", async () => {
    const server = new Server();
    render(<Chat state={play(opened(server), server.say(0, "Fine.", { message_id: "m1" }))} />);
    await attempt();
    expect(announced()).toHaveTextContent("You can send when your chat partner has replied.");
    expect(screen.getByTestId("composer")).toHaveFocus();
    expect(shown.at(-1)).toBe(screen.getByTestId("typing"));
  });

  test("the message that is on its way", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.click(screen.getByTestId("bucket-bucket_0"));
    await userEvent.type(screen.getByTestId("composer"), "Fine.");
    await byClick();
    await attempt();
    expect(announced()).toHaveTextContent("Your message is on its way.");
    expect(shown.at(-1)).toBe(screen.getByTestId("pending-message"));
  });

  test("an answer from another tab", async () => {
    const state = reduce(opened(new Server()), { type: "sent_elsewhere", messageId: "m9", turnIdx: 0 });
    render(<Chat state={state} />);
    await attempt();
    expect(announced()).toHaveTextContent("You have just answered in another tab.");
  });
});

describe("at the end", () => {
  test("the boxes, then each question without an answer", async () => {
    render(<Chat state={rating(new Server())} />);
    await byClick();
    expect(announced()).toHaveTextContent("First tick at least one box for the last reply.");
    expect(screen.getByTestId("bucket-bucket_0")).toHaveFocus();
    await userEvent.click(screen.getByTestId("bucket-none_all_good"));
    await byClick();
    expect(announced()).toHaveTextContent("2 questions still to answer.");
    expect(screen.getByTestId("rating-0-1")).toHaveFocus();
    expect(screen.getByTestId("rating-0")).toHaveClass("missing");
    await userEvent.click(screen.getByTestId("rating-0-4"));
    await byClick();
    expect(announced()).toHaveTextContent("1 question still to answer.");
    expect(screen.getByTestId("rating-1-1")).toHaveFocus();
    expect(shown.at(-1)).toBe(screen.getByTestId("rating-1"));
    expect(screen.getByTestId("rating-0")).not.toHaveClass("missing");
  });

  test("the answers that are on their way", async () => {
    render(<Chat state={rating(new Server())} />);
    await userEvent.click(screen.getByTestId("bucket-none_all_good"));
    await userEvent.click(screen.getByTestId("rating-0-4"));
    await userEvent.click(screen.getByTestId("rating-1-5"));
    await byClick();
    expect(announced()).toBeNull();
    await byClick();
    expect(announced()).toHaveTextContent("Your message is on its way.");
  });
});

test("the same words are announced again at each attempt", async () => {
  render(<Chat state={opened(new Server())} />);
  await byClick();
  const first = announced();
  await byClick();
  expect(announced()).toHaveTextContent("First tick at least one box");
  expect(announced()).not.toBe(first);
  expect(screen.getByTestId("announcement")).toHaveAttribute("role", "alert");
});

test("in the onboarding each attempt leads to the first reply without a tick", async () => {
  render(<Onboarding state={initialState(ONBOARDING_RULES)} />);
  const submit = screen.getByTestId("onboarding-submit");
  await userEvent.click(submit);
  expect(announced()).toHaveTextContent("2 replies still without a tick.");
  expect(shown.at(-1)).toBe(screen.getByTestId("onboarding-0-1"));
  await userEvent.click(within(screen.getByTestId("onboarding-0-1")).getByTestId("bucket-bucket_0"));
  await userEvent.click(submit);
  expect(announced()).toHaveTextContent("1 reply still without a tick.");
  expect(within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-bucket_0")).toHaveFocus();
  await userEvent.click(within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-bucket_0"));
  await userEvent.click(submit);
  expect(announced()).toBeNull();
  await userEvent.click(submit);
  expect(announced()).toHaveTextContent("Your message is on its way.");
});

test.each([
  ["annotation_missing", "bucket-bucket_0"],
  ["annotation_unknown", "bucket-bucket_0"],
  ["rating_missing", "rating-0-1"],
  ["rating_range", "rating-0-1"],
])("a refusal by the server (%s) leads to what it is about", (code, testId) => {
  const server = new Server();
  const before = code.startsWith("rating") ? rating(server) : opened(server);
  const sent: State = {
    ...before,
    pending: {
      messageId: "m1",
      kind: "message",
      turnIdx: before.view.turn?.turnIdx ?? 0,
      draft: before.draft,
      shownAt: null,
      sentAt: 1,
    },
  };
  render(<Chat state={play(sent, server.control("refused", { message_id: "m1", code, reason: "Not so." }))} />);
  expect(screen.getByTestId("refusal")).toHaveTextContent("Not so.");
  expect(screen.getByTestId(testId)).toHaveFocus();
});

describe("the focus", () => {
  test("goes to the field after a click on Send, so that typing continues", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.click(screen.getByTestId("bucket-bucket_0"));
    await userEvent.type(screen.getByTestId("composer"), "Fine.");
    await byClick();
    expect(screen.getByTestId("composer")).toHaveFocus();
    await userEvent.keyboard("And you?");
    expect(screen.getByTestId("composer")).toHaveValue("And you?");
  });

  test("leaves the field with Escape, but not while an input method composes a word", () => {
    render(<Chat state={opened(new Server())} />);
    const field = screen.getByTestId("composer");
    field.focus();
    fireEvent.keyDown(field, { key: "Escape", isComposing: true });
    expect(field).toHaveFocus();
    fireEvent.keyDown(field, { key: "Escape" });
    expect(screen.getByRole("region", { name: "Conversation" })).toHaveFocus();
  });
});

describe("number keys", () => {
  function boxes(): boolean[] {
    return screen.getAllByRole("checkbox").map((box) => (box as HTMLInputElement).checked);
  }

  test("tick the boxes, which have the number on their labels", async () => {
    render(<Chat state={opened(new Server())} />);
    screen.getByRole("region", { name: "Conversation" }).focus();
    await userEvent.keyboard("2");
    expect(boxes()).toEqual([false, true, false]);
    expect(screen.getByTestId("bucket-bucket_1")).toHaveFocus();
    await userEvent.keyboard("1");
    expect(boxes()).toEqual([true, true, false]);
    await userEvent.keyboard("3");
    expect(boxes()).toEqual([false, false, true]);
    await userEvent.keyboard("3");
    expect(boxes()).toEqual([false, false, false]);
    await userEvent.keyboard("9");
    expect(boxes()).toEqual([false, false, false]);
    expect([...document.querySelectorAll("kbd")].map((key) => key.textContent)).toEqual(["1", "2", "3"]);
    expect(screen.getByTestId("bucket-bucket_1")).toHaveAttribute("aria-keyshortcuts", "2");
    expect(screen.getByRole("checkbox", { name: "Off topic" })).toBe(screen.getByTestId("bucket-bucket_1"));
  });

  test("write in the field", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.type(screen.getByTestId("composer"), "12");
    expect(boxes()).toEqual([false, false, false]);
    expect(screen.getByTestId("composer")).toHaveValue("12");
  });

  test.each(["ctrlKey", "altKey", "metaKey", "repeat", "isComposing"])("do nothing with %s", (modifier) => {
    render(<Chat state={opened(new Server())} />);
    fireEvent.keyDown(document.body, { key: "1", code: "Digit1", [modifier]: true });
    expect(boxes()).toEqual([false, false, false]);
  });

  test("work where the row of numbers needs Shift, and “!” is no 1", () => {
    render(<Chat state={opened(new Server())} />);
    fireEvent.keyDown(document.body, { key: "!", code: "Digit1", shiftKey: true });
    expect(boxes()).toEqual([false, false, false]);
    fireEvent.keyDown(document.body, { key: "&", code: "Digit1" });
    expect(boxes()).toEqual([true, false, false]);
    fireEvent.keyDown(document.body, { key: "2", code: "Digit2", shiftKey: true });
    expect(boxes()).toEqual([true, true, false]);
  });

  test("do nothing behind a dialog", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.click(screen.getByTestId("description-button"));
    fireEvent.keyDown(screen.getByRole("dialog"), { key: "1", code: "Digit1" });
    expect(document.querySelector<HTMLInputElement>("input")?.checked).toBe(false);
  });

  test("answer the question that has the focus, and no box", async () => {
    render(<Chat state={rating(new Server())} />);
    screen.getByTestId("rating-1-1").focus();
    await userEvent.keyboard("4");
    expect(screen.getByTestId("rating-1-4")).toBeChecked();
    expect(screen.getByTestId("rating-1-4")).toHaveFocus();
    expect(boxes()).toEqual([false, false, false]);
    await userEvent.keyboard("9");
    expect(boxes()).toEqual([false, false, false]);
  });

  test("tick boxes of the group with the focus where there are several", async () => {
    render(<Onboarding state={initialState(ONBOARDING_RULES)} />);
    await userEvent.keyboard("1");
    expect(boxes()).toEqual([false, false, false, false, false, false]);
    within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-bucket_0").focus();
    await userEvent.keyboard("2");
    expect(boxes()).toEqual([false, false, false, false, true, false]);
  });
});

test("the image can be folded away where there is little room, and shown again", async () => {
  const server = new Server();
  const state = play(opened(server), server.start({ image: "data:,", image_alt: "A hill" }));
  const { unmount } = render(<Chat state={state} />);
  expect(screen.queryByTestId("image-fold")).toBeNull();
  unmount();
  vi.stubGlobal("matchMedia", (query: string) => ({
    matches: query.includes("max-width"),
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  }));
  render(<Chat state={state} />);
  const fold = screen.getByRole("button", { name: "Hide the image" });
  expect(fold).toHaveAttribute("aria-expanded", "true");
  await userEvent.click(fold);
  expect(screen.getByAltText("A hill")).not.toBeVisible();
  expect(fold).toHaveAccessibleName("Show the image");
  expect(fold).toHaveAttribute("aria-expanded", "false");
  await userEvent.click(fold);
  expect(screen.getByAltText("A hill")).toBeVisible();
  vi.unstubAllGlobals();
});
