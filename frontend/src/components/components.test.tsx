import { act, fireEvent, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState, type ReactElement } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { expectAccessible } from "../../test/axe";
import { Chat, ONBOARDING_RULES, Onboarding } from "../../test/screens";
import { ANNOTATION, RULES, Server, opened, play } from "../../test/updates";
import { initialState, reduce, setTick, type Event, type State } from "../state/conversation";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { Composer } from "./Composer";
import { Dialog } from "./Dialog";
import { ImagePanel } from "./ImagePanel";
import { PlainText } from "./PlainText";
import { RatingForm } from "./RatingForm";
import { Timer } from "./Timer";

describe("the boxes", () => {
  function Boxes({ lines = false }: { lines?: boolean }): ReactElement {
    const [ticked, setTicked] = useState<string[]>([]);
    return (
      <AnnotationBoxes
        config={{ ...ANNOTATION, show_line_breaks: lines }}
        ticked={ticked}
        onTick={(value, on) => {
          setTicked(setTick(ticked, value, on));
        }}
      />
    );
  }

  test.each([false, true])(
    "have the question as their legend, and axe finds nothing (one a line: %s)",
    async (lines) => {
      const { container } = render(<Boxes lines={lines} />);
      const group = screen.getByRole("group", { name: "Which of these apply?" });
      expect(within(group).getAllByRole("checkbox")).toHaveLength(3);
      await expectAccessible(container);
    },
  );

  test("exclude each other when one says that all is good", async () => {
    render(<Boxes />);
    const [contradiction, offTopic, good] = screen.getAllByRole("checkbox");
    if (!contradiction || !offTopic || !good) throw new Error("three boxes");
    await userEvent.click(contradiction);
    await userEvent.click(offTopic);
    await userEvent.click(good);
    expect([contradiction, offTopic, good].map((box) => (box as HTMLInputElement).checked)).toEqual([
      false,
      false,
      true,
    ]);
    await userEvent.click(offTopic);
    expect([contradiction, offTopic, good].map((box) => (box as HTMLInputElement).checked)).toEqual([
      false,
      true,
      false,
    ]);
  });

  test.each([false, true])("show a description by mouse and by keyboard (one a line: %s)", async (lines) => {
    render(<Boxes lines={lines} />);
    const button = screen.getByRole("button", { name: "What does “Off topic” mean?" });
    expect(screen.getByText("Does not react.", { exact: false })).not.toBeVisible();
    await userEvent.click(button);
    expect(button).toHaveAttribute("aria-expanded", "true");
    expect(screen.getByText("Does not react.", { exact: false })).toBeVisible();
    button.focus();
    await userEvent.keyboard("{Enter}");
    expect(screen.getByText("Does not react.", { exact: false })).not.toBeVisible();
  });

  test("tell screen readers the description without a press", () => {
    render(<Boxes />);
    expect(screen.getByRole("checkbox", { name: "Off topic" })).toHaveAccessibleDescription(
      "Off topic: Does not react.",
    );
  });

  test("have no button where there is no description", () => {
    render(<Boxes />);
    expect(screen.queryByRole("button", { name: /None, all good/ })).toBeNull();
  });
});

describe("the composer", () => {
  const props = { block: null, reason: "", maxLength: 40, onType: () => undefined, onSend: () => undefined };

  function field(): HTMLElement {
    return screen.getByRole("textbox", { name: "Your message" });
  }

  test("sends with Enter and makes a line with Shift and Enter", async () => {
    const onSend = vi.fn();
    const onType = vi.fn();
    render(<Composer {...props} text="Hello" onSend={onSend} onType={onType} />);
    await userEvent.type(field(), "{Shift>}{Enter}{/Shift}");
    expect(onSend).not.toHaveBeenCalled();
    expect(onType).toHaveBeenCalledWith("Hello\n", undefined);
    await userEvent.type(field(), "{Enter}");
    expect(onSend).toHaveBeenCalledTimes(1);
  });

  test("leaves Enter to an input method that composes a word", () => {
    const onSend = vi.fn();
    render(<Composer {...props} text="にほ" onSend={onSend} />);
    fireEvent.keyDown(field(), { key: "Enter", isComposing: true });
    fireEvent.keyDown(field(), { key: "Enter", keyCode: 229 });
    expect(onSend).not.toHaveBeenCalled();
  });

  test("stays writable while sending is blocked, and says why beside the button", async () => {
    const onType = vi.fn();
    render(<Composer {...props} text="" block="not_your_turn" reason="Wait for the reply." onType={onType} />);
    const button = screen.getByRole("button", { name: "Send" });
    expect(button).toHaveAttribute("aria-disabled", "true");
    expect(button).toHaveAccessibleDescription("Wait for the reply.");
    await userEvent.type(field(), "x");
    expect(onType).toHaveBeenCalledWith("x", undefined);
  });

  test("counts the characters near the limit only", () => {
    const { rerender } = render(<Composer {...props} text={"x".repeat(31)} />);
    expect(screen.queryByTestId("counter")).toBeNull();
    rerender(<Composer {...props} text={"x".repeat(32)} />);
    expect(screen.getByTestId("counter")).toHaveTextContent("32 of 40 characters");
    rerender(<Composer {...props} text={"x".repeat(41)} block="too_long" reason="Too long." />);
    expect(screen.getByTestId("counter")).toHaveClass("over");
    expect(field()).toBeInvalid();
  });

  test("has nothing that axe finds", async () => {
    const { container } = render(<Composer {...props} text={"x".repeat(41)} block="too_long" reason="Too long." />);
    await expectAccessible(container);
  });
});

describe("the final questions", () => {
  test("are radio groups from lowest to highest", async () => {
    const onRate = vi.fn();
    const { container } = render(
      <RatingForm questions={["How good?", "Once more?"]} ratings={[null, 2]} disabled={false} onRate={onRate} />,
    );
    const first = screen.getByRole("group", { name: "How good?" });
    expect(within(first).getAllByRole("radio")).toHaveLength(5);
    await userEvent.click(within(first).getByRole("radio", { name: "5, highest" }));
    expect(onRate).toHaveBeenCalledWith(0, 5);
    const second = screen.getByRole("group", { name: "Once more?" });
    expect(within(second).getByRole("radio", { name: "2" })).toBeChecked();
    await expectAccessible(container);
  });
});

describe("the time left", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  test("counts down to zero and tells screen readers at a few marks", () => {
    render(<Timer deadline={Date.now() + 62_000} />);
    const timer = screen.getByTestId("time-left");
    expect(timer).toHaveTextContent("1:02");
    expect(within(timer).getByRole("status")).toBeEmptyDOMElement();
    act(() => {
      vi.advanceTimersByTime(3_000);
    });
    expect(timer).toHaveTextContent("0:59");
    expect(within(timer).getByRole("status")).toHaveTextContent("Less than 1 minute left.");
    expect(timer).not.toHaveClass("urgent");
    act(() => {
      vi.advanceTimersByTime(30_000);
    });
    expect(timer).toHaveClass("urgent");
    act(() => {
      vi.advanceTimersByTime(60_000);
    });
    expect(timer).toHaveTextContent("0:00");
  });

  test("is not there without a deadline", () => {
    const { container } = render(<Timer deadline={null} />);
    expect(container).toBeEmptyDOMElement();
  });
});

describe("plain text", () => {
  test("is never markup", () => {
    const { container } = render(<PlainText text={'<img src=x onerror="x()"> & <b>b</b>\n  two'} />);
    expect(container.querySelector("img, b")).toBeNull();
    expect(container.textContent).toBe('<img src=x onerror="x()"> & <b>b</b>\n  two');
  });

  test("goes the way of its own script", () => {
    const { container } = render(<PlainText text="שלום" />);
    expect(container.querySelector("[dir=auto]")).not.toBeNull();
  });
});

test("a dialog closes by its button and by a click beside it", async () => {
  const onClose = vi.fn();
  render(
    <Dialog title="Task description" onClose={onClose}>
      <p>Text</p>
    </Dialog>,
  );
  const dialog = screen.getByRole("dialog", { name: "Task description" });
  await userEvent.click(screen.getByText("Text"));
  expect(onClose).not.toHaveBeenCalled();
  await userEvent.click(screen.getByRole("button", { name: "Close" }));
  expect(onClose).toHaveBeenCalledTimes(1);
  (dialog as HTMLDialogElement).showModal();
  await userEvent.click(dialog);
  expect(onClose).toHaveBeenCalledTimes(2);
});

test("the image has its description and can be enlarged", async () => {
  const { container } = render(<ImagePanel url="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="A hill" />);
  expect(screen.getByRole("img", { name: "A hill" })).toBeVisible();
  await userEvent.click(screen.getByRole("button", { name: /Enlarge the image/ }));
  expect(screen.getByRole("dialog", { name: "The image, enlarged" })).toBeVisible();
  await expectAccessible(container);
});

describe("the chat", () => {
  test("announces new messages and says who speaks", async () => {
    const { container } = render(<Chat state={opened(new Server())} />);
    const log = screen.getByRole("log", { name: "Conversation" });
    expect(log).toHaveAttribute("aria-live", "polite");
    expect(
      within(log)
        .getAllByTestId("message")
        .map((message) => message.textContent),
    ).toEqual(["Already said before you joinedYou said:Hi!", "Chat partner said:Hello, how are you?"]);
    await expectAccessible(container);
  });

  test("can't be sent before the last reply is marked, and says why", async () => {
    render(<Chat state={opened(new Server())} />);
    await userEvent.type(screen.getByTestId("composer"), "Fine.");
    expect(screen.getByTestId("send-reason")).toHaveTextContent("First tick at least one box for the last reply.");
    await userEvent.click(screen.getByTestId("send"));
    expect(screen.queryByTestId("pending-message")).toBeNull();
    expect(screen.getByTestId("annotation")).toHaveClass("missing");
    await userEvent.click(screen.getByTestId("bucket-bucket_0"));
    expect(screen.getByTestId("send-reason")).toBeEmptyDOMElement();
    await userEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("pending-message")).toHaveTextContent("Fine.Sending…");
    expect(screen.getByTestId("composer")).toHaveValue("");
  });

  test("works with the keyboard alone", async () => {
    render(<Chat state={opened(new Server())} />);
    screen.getByTestId("bucket-bucket_1").focus();
    await userEvent.keyboard(" ");
    screen.getByTestId("composer").focus();
    await userEvent.keyboard("Fine.{Enter}");
    expect(screen.getByTestId("pending-message")).toHaveTextContent("Fine.");
    expect(screen.getByTestId("composer")).toHaveFocus();
  });

  test("shows earlier marks, frozen", () => {
    const server = new Server();
    const state = play(
      opened(server),
      server.say(0, "Fine.", {
        message_id: "m1",
        problem_data: { bucket_0: true, bucket_1: true, none_all_good: false },
        annotated_utterance_idx: 1,
      }),
      server.say(1, "Good."),
      server.yourTurn(1),
    );
    render(<Chat state={state} />);
    expect(screen.getAllByTestId("frozen-annotation")).toHaveLength(1);
    expect(screen.getByTestId("frozen-annotation")).toHaveTextContent("Your marks: ContradictionOff topic");
    expect(screen.getAllByRole("group", { name: "Which of these apply?" })).toHaveLength(1);
    expect(screen.getByTestId("progress")).toHaveTextContent("Turn 2 of 3 · 1 turn to go after this");
  });

  test("shows that the model thinks, and offers no boxes meanwhile", () => {
    const server = new Server();
    render(<Chat state={play(opened(server), server.say(0, "Fine.", { message_id: "m1" }))} />);
    expect(screen.getByTestId("typing")).toHaveTextContent("Chat partner is writing");
    expect(screen.queryByTestId("annotation")).toBeNull();
    expect(screen.getByTestId("send-reason")).toHaveTextContent("You can send when your chat partner has replied.");
  });

  test("shows why a message was refused, with the message back in the field", () => {
    const server = new Server();
    const sent = [
      { type: "ticked", value: "bucket_0", on: true },
      { type: "typed", text: "Hm", at: 1 },
      { type: "sent", messageId: "m1", at: 2 },
    ] satisfies Event[];
    const state = play(
      sent.reduce<State>(reduce, opened(server)),
      server.control("refused", { message_id: "m1", code: "empty", reason: "Please write something." }),
    );
    render(<Chat state={state} />);
    expect(within(screen.getAllByRole("alert")[0] ?? document.body).getByText("Please write something.")).toBeVisible();
    expect(screen.getByTestId("composer")).toHaveValue("Hm");
    expect(screen.getByTestId("bucket-bucket_0")).toBeChecked();
  });

  test("tells of a lost connection and lets the worker continue to write", async () => {
    const { container } = render(<Chat state={opened(new Server())} connected={false} />);
    expect(screen.getByTestId("connection-banner")).toHaveTextContent("The connection is lost.");
    await userEvent.type(screen.getByTestId("composer"), "Still here");
    expect(screen.getByTestId("composer")).toHaveValue("Still here");
    await expectAccessible(container);
  });

  test("has the persona and the description beside it", async () => {
    const server = new Server();
    const state = play(initialState(RULES), server.start({ personas: ["I <i>cook</i>."] }), server.yourTurn(0));
    render(<Chat state={state} />);
    expect(screen.getByTestId("pane")).toHaveTextContent("I <i>cook</i>.");
    await userEvent.click(screen.getByTestId("description-button"));
    expect(within(screen.getByRole("dialog")).getByText("Chat.")).toBeVisible();
  });

  test("folds the side pane away on a phone", async () => {
    vi.stubGlobal("matchMedia", (query: string) => ({
      matches: query.includes("max-width"),
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    }));
    render(<Chat state={opened(new Server())} />);
    const toggle = screen.getByRole("button", { name: "Show task information" });
    expect(toggle).toHaveAttribute("aria-expanded", "false");
    expect(screen.getByTestId("pane")).not.toBeVisible();
    await userEvent.click(toggle);
    expect(screen.getByTestId("pane")).toBeVisible();
    expect(screen.getByRole("button", { name: "Hide task information" })).toHaveAttribute("aria-expanded", "true");
    vi.unstubAllGlobals();
  });

  test("remembers that the sound is off", async () => {
    localStorage.clear();
    const { unmount } = render(<Chat state={opened(new Server())} />);
    await userEvent.click(screen.getByRole("button", { name: "Sound on new replies: on" }));
    unmount();
    render(<Chat state={opened(new Server())} />);
    expect(screen.getByRole("button", { name: "Sound on new replies: off" })).toBeVisible();
  });

  test("ends with the questions and the boxes of the last reply", async () => {
    const server = new Server();
    const { container } = render(<Chat state={play(opened(server), server.yourTurn(3, { ask: "final_rating" }))} />);
    expect(screen.queryByTestId("composer")).toBeNull();
    expect(screen.getByRole("heading", { name: "The chat is over. How was it?" })).toHaveFocus();
    expect(screen.getByTestId("send-reason")).toHaveTextContent("First tick at least one box for the last reply.");
    await expectAccessible(container);
    await userEvent.click(screen.getByTestId("bucket-none_all_good"));
    expect(screen.getByTestId("send-reason")).toHaveTextContent("2 questions still to answer.");
    await userEvent.click(screen.getByTestId("rating-0-4"));
    await userEvent.click(screen.getByTestId("rating-1-5"));
    expect(screen.getByTestId("send-reason")).toBeEmptyDOMElement();
    await userEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason")).toHaveTextContent("Sending…");
  });
});

describe("onboarding", () => {
  test("has boxes under each reply only, and axe finds nothing", async () => {
    const server = new Server();
    const state = play(
      initialState(ONBOARDING_RULES),
      server.control("onboarding_start", { tries_left: 2, seconds: 300 }),
    );
    const { container } = render(<Onboarding state={state} />);
    expect(screen.getAllByRole("group", { name: "Which of these apply?" })).toHaveLength(2);
    expect(screen.getByTestId("send-reason")).toHaveTextContent("2 tries left · 0 of 2 replies marked");
    expect(screen.getByTestId("time-left")).toBeVisible();
    await expectAccessible(container);
  });

  test("points out what is missing instead of sending", async () => {
    render(<Onboarding state={initialState(ONBOARDING_RULES)} />);
    await userEvent.click(within(screen.getByTestId("onboarding-0-1")).getByTestId("bucket-bucket_0"));
    await userEvent.click(screen.getByTestId("onboarding-submit"));
    expect(screen.getByTestId("send-reason")).toHaveTextContent("1 reply still without a tick.");
    expect(within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-bucket_0")).toHaveFocus();
    await userEvent.click(within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-none_all_good"));
    await userEvent.click(screen.getByTestId("onboarding-submit"));
    expect(screen.getByTestId("send-reason")).toHaveTextContent("Checking…");
  });

  test("after a failed try it says so, how many are left, and explains where it was told to", async () => {
    const server = new Server();
    const state = play(
      initialState(ONBOARDING_RULES),
      server.control("onboarding_start", { tries_left: 2, seconds: 300 }),
    );
    const later = play(
      state,
      server.control("onboarding_retry", {
        tries_left: 1,
        reason: "Some answers differ.",
        explanations: [{ dialog_idx: 0, utterance_idx: 1, text: "A greeting was expected." }],
      }),
    );
    const { container, rerender } = render(<Onboarding state={state} />);
    rerender(<Onboarding state={later} />);
    expect(screen.getByTestId("onboarding-retry")).toHaveFocus();
    expect(screen.getByTestId("onboarding-retry")).toHaveTextContent("Some answers differ.");
    expect(screen.getByTestId("send-reason")).toHaveTextContent("This is your last try");
    expect(screen.getAllByTestId("explanation").map((text) => text.textContent)).toEqual([
      "Explanation: A greeting was expected.",
    ]);
    await expectAccessible(container);
  });

  test.each([
    ["wrong", [{ dialog_idx: 0, utterance_idx: 1 }], "verdict wrong"],
    ["right", [{ dialog_idx: 1, utterance_idx: 1 }], "verdict right"],
    ["one of which the server does not say whether it was right", undefined, "verdict"],
  ])("an explanation of a reply that was %s is drawn as that", (_, wrong, className) => {
    const server = new Server();
    const explanations = [{ dialog_idx: 0, utterance_idx: 1, text: "A greeting was expected." }];
    const state = play(
      initialState(ONBOARDING_RULES),
      server.control("onboarding_retry", { tries_left: 1, reason: "", explanations, wrong }),
    );
    render(<Onboarding state={state} />);
    expect(screen.getByTestId("explanation").parentElement).toHaveClass(className, { exact: true });
  });

  test("after a failed try the wrong replies are listed, each leads to its boxes, and all are marked", async () => {
    const server = new Server();
    const wrong = [{ dialog_idx: 1, utterance_idx: 1 }];
    const state = play(
      initialState(ONBOARDING_RULES),
      server.control("onboarding_retry", { tries_left: 1, reason: "Some differ.", explanations: [], wrong }),
    );
    const { container } = render(<Onboarding state={state} />);
    const link = screen.getByRole("button", { name: "Conversation 2" });
    expect(screen.getAllByTestId("wrong-reply")).toEqual([link]);
    expect(screen.getByTestId("verdict")).toHaveTextContent("ticked for this reply differed from the guidelines");
    await userEvent.click(link);
    expect(within(screen.getByTestId("onboarding-1-1")).getByTestId("bucket-bucket_0")).toHaveFocus();
    await expectAccessible(container);
  });
});
