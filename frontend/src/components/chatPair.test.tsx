import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import type { ReactElement } from "react";
import { afterEach, describe, expect, test } from "vitest";
import { expectAccessible } from "../../test/axe";
import { Chat } from "../../test/screens";
import { CONFIG, RULES, Server, play } from "../../test/updates";
import { initialState, reduce, sendingBlock, toPacket, type Rules, type State } from "../state/conversation";
import { Memory } from "../state/memory";
import { ChatScreen } from "./ChatScreen";

afterEach(cleanup);

const NO_BOXES = { ...RULES, annotation: null };
const QUESTIONS = ["Who was kinder?", "Who knew more?"];

function started(server: Server, rules: Rules = NO_BOXES): State {
  return play(
    initialState(rules),
    server.control("start", { num_turns: 1, num_chats: 2, agent_display_name: "Speaker 1" }),
  );
}

/** One exchange of a chat, up to the question whether the worker has read the last reply. */
function chatted(state: State, server: Server, chatIdx: number): State {
  const at = 3 * chatIdx;
  const told = { chat_idx: chatIdx };
  return play(
    state,
    server.say(1, `Opening ${chatIdx}.`, { ...told, utterance_idx: at }),
    server.yourTurn(chatIdx, { num_turns: 1 }),
    server.say(0, `Question ${chatIdx}?`, { ...told, utterance_idx: at + 1, message_id: `first-${chatIdx}` }),
    server.say(1, `Answer ${chatIdx}.`, { ...told, utterance_idx: at + 2 }),
    server.yourTurn(chatIdx + 1, { ask: "chat_done", num_turns: 1 }),
  );
}

const closed = (server: Server, chatIdx: number, messageId: string): Parameters<typeof play>[1] =>
  server.control("chat_done", { chat_idx: chatIdx, message_id: messageId });

function compared(more: Record<string, unknown> = {}, server = new Server()): State {
  let state = chatted(started(server), server, 0);
  state = play(state, closed(server, 0, "d0"));
  state = chatted(state, server, 1);
  return play(
    state,
    closed(server, 1, "d1"),
    server.control("comparison", { questions: QUESTIONS }),
    server.yourTurn(2, { ask: "comparison", questions: QUESTIONS, points: 2, ties: "both", reason: false, ...more }),
  );
}

const said = (): string[] => screen.queryAllByTestId("message").map((line) => line.textContent);

test("what is compared is no new reply, wherever the worker has scrolled to", () => {
  const server = new Server();
  const chat = chatted(started(server), server, 0);
  const page = (state: State): ReactElement => (
    <ChatScreen
      config={CONFIG}
      state={state}
      connected
      justBack={false}
      dispatch={() => undefined}
      onSend={() => undefined}
      onMoreTime={() => undefined}
    />
  );
  const { container, rerender } = render(page(chat));
  const box = container.querySelector(".scroll");
  if (box === null) throw new Error("nothing scrolls");
  Object.defineProperties(box, { scrollHeight: { value: 5000 }, clientHeight: { value: 500 } });
  fireEvent.scroll(box); // up, to read
  rerender(page(play(chat, server.say(1, "More.", { chat_idx: 0, utterance_idx: 9 }))));
  expect(screen.queryByText("New reply")).not.toBeNull();
  rerender(page(compared({}, server)));
  expect(screen.queryByTestId("chat-comparison")).not.toBeNull();
  expect(screen.queryByText("New reply")).toBeNull();
});

describe("the first of two chats", () => {
  test("says that there is another one, and which it is", () => {
    const server = new Server();
    render(<Chat state={play(started(server), server.say(1, "Opening 0.", { chat_idx: 0 }), server.yourTurn(0))} />);
    expect(screen.getByTestId("chat-number").textContent).toContain("Chat 1 of 2");
    expect(screen.getByTestId("progress").textContent).toContain("Chat 1 of 2");
  });

  test("ends with its last reply, and is closed by a button", () => {
    const server = new Server();
    render(<Chat state={chatted(started(server), server, 0)} />);
    expect(screen.queryByTestId("composer")).toBeNull();
    expect(screen.getByTestId("send-reason").textContent).toBe(
      "This chat is over. Read the last reply before you go on.",
    );
    expect(screen.getByTestId("send").textContent).toBe("Go on to the second chat");
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe("Sending…");
  });

  test("is not closed before its boxes are ticked", () => {
    const server = new Server();
    const state = chatted(started(server, RULES), server, 0);
    expect(sendingBlock(state)).toBe("annotation_missing");
    const sent = [
      { type: "ticked", value: "bucket_0", on: true } as const,
      { type: "sent", messageId: "d0", at: 1 } as const,
    ].reduce(reduce, state);
    if (sent.pending === null) throw new Error("nothing was sent");
    expect(toPacket(sent.pending, sent)).toMatchObject({
      text: "",
      task_data: { message_id: "d0", chat_done: true, turn_idx: 1, problem_data_for_prior_message: { bucket_0: true } },
    });
    sessionStorage.clear();
    const memory = new Memory(sessionStorage);
    memory.keep("7", sent);
    expect(memory.recall("7", sent)?.pending?.kind).toBe("chat_done");
    expect(play(sent, closed(server, 0, "d0")).pending).toBeNull();
  });

  test("makes room for the second one, with nothing of the first", () => {
    const server = new Server();
    const state = play(chatted(started(server), server, 0), closed(server, 0, "d0"));
    const { rerender } = render(<Chat state={state} />);
    expect(said()).toEqual([]);
    expect(screen.getByTestId("typing")).toBeTruthy();
    rerender(<Chat state={chatted(state, server, 1)} key="second" />);
    expect(said()).toHaveLength(3);
    expect(said().join()).not.toContain("Answer 0.");
    expect(screen.getByTestId("chat-number").textContent).toContain("Chat 2 of 2");
    expect(screen.getByTestId("send").textContent).toBe("Go on to the questions");
  });
});

describe("two chats", () => {
  test("stand side by side, each whole, above the questions about them", () => {
    render(<Chat state={compared()} />);
    for (const [number, text] of [
      [1, "Answer 0."],
      [2, "Answer 1."],
    ] as const) {
      const chat = screen.getByRole("region", { name: `Chat ${number}` });
      expect(within(chat).getByText(text)).toBeTruthy();
      expect(within(chat).getAllByRole("listitem")).toHaveLength(3);
    }
    expect(QUESTIONS.map((question) => screen.getByRole("group", { name: question }).tagName)).toEqual([
      "FIELDSET",
      "FIELDSET",
    ]);
    expect(screen.queryByTestId("composer")).toBeNull();
    expect(document.activeElement?.textContent).toBe("Compare the two chats");
  });

  test.each([
    [2, "none", ["Better in chat 1", "Better in chat 2"]],
    [3, "both", ["Better in chat 1", "About the same", "Better in chat 2", "Bad in both"]],
    [
      5,
      "tie",
      [
        "Much better in chat 1",
        "Slightly better in chat 1",
        "About the same",
        "Slightly better in chat 2",
        "Much better in chat 2",
      ],
    ],
  ])("are judged on %i points with ties %s", (points, ties, expected) => {
    render(<Chat state={compared({ points, ties })} />);
    const labels = within(screen.getByTestId("choices-0"))
      .getAllByRole("radio")
      .map((radio) => radio.closest("label")?.textContent ?? "");
    expect(labels).toEqual(expected);
  });

  test("are judged by number keys, question by question", () => {
    render(<Chat state={compared()} />);
    const checked = (question: number): string | undefined =>
      within(screen.getByTestId(`choices-${question}`))
        .getAllByRole<HTMLInputElement>("radio")
        .find((radio) => radio.checked)?.dataset.testid;
    fireEvent.keyDown(document.body, { key: "2" });
    expect([checked(0), checked(1)]).toEqual(["choice-right", undefined]);
    fireEvent.keyDown(document.body, { key: "1" });
    expect([checked(0), checked(1)]).toEqual(["choice-right", "choice-left"]);
    fireEvent.keyDown(screen.getAllByTestId("choice-right")[0] as HTMLElement, { key: "1" });
    expect([checked(0), checked(1)]).toEqual(["choice-left", "choice-left"]);
  });

  test("can't be sent before each question is answered, and the page leads to the first that is not", () => {
    render(
      <Chat state={reduce(compared(), { type: "chosen", question: 0, answer: { pick: "tie", strength: null } })} />,
    );
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe("1 question still to answer.");
    expect(screen.getByTestId("choices-1").contains(document.activeElement)).toBe(true);
  });

  test("are told apart by number alone", () => {
    render(<Chat state={compared()} />);
    const [first, second] = [screen.getByTestId("chat-1"), screen.getByTestId("chat-2")].map((chat) =>
      chat.outerHTML
        .replace(/(Opening|Question|Answer) [01]/g, "TEXT")
        .replace(/Chat [12]/, "Chat N")
        .replace(/chat-[12]/, "chat-N")
        .replace(/(id|aria-labelledby)="[^"]*"/g, ""),
    );
    expect(first).toBe(second);
  });

  test("have no accessibility problems", async () => {
    const { container } = render(<Chat state={compared({ points: 7, reason: true })} />);
    await expectAccessible(container);
  });
});

describe("the judgement of two chats", () => {
  function judged(state: State): State {
    return [
      { type: "chosen", question: 0, answer: { pick: "right", strength: 2 } } as const,
      { type: "reasoned", question: 0, reason: " Kinder. " } as const,
      { type: "chosen", question: 1, answer: { pick: "tie", strength: null } } as const,
      { type: "sent", messageId: "j1", at: 5_000 } as const,
    ].reduce(reduce, state);
  }

  test("is sent with an answer for each question, and has arrived when the server says it back", () => {
    const server = new Server();
    const state = judged(compared({ points: 5, reason: true }, server));
    if (state.pending === null) throw new Error("nothing was sent");
    expect(toPacket(state.pending, state)).toMatchObject({
      text: "",
      task_data: {
        message_id: "j1",
        turn_idx: 2,
        comparison: [
          { pick: "right", strength: 2, reason: "Kinder." },
          { pick: "tie", strength: null, reason: "" },
        ],
      },
    });
    expect(play(state, server.control("comparison_done", { judgements: [], message_id: "j1" })).pending).toBeNull();
  });

  test("comes back when it was refused", () => {
    const server = new Server();
    const state = play(
      judged(compared({ points: 5, reason: true }, server)),
      server.control("refused", { message_id: "j1", code: "comparison_invalid", reason: "Choose again." }),
    );
    expect(state.pending).toBeNull();
    expect(state.draft.choices.map((choice) => choice.pick)).toEqual(["right", "tie"]);
    expect(state.notice?.reason).toBe("Choose again.");
  });

  test("and both chats survive a reload", () => {
    sessionStorage.clear();
    const memory = new Memory(sessionStorage);
    const state = judged(compared({ points: 5, reason: true }));
    memory.keep("7", state);
    const reloaded = reduce(initialState(NO_BOXES), { type: "caught_up", log: state.log });
    expect(reloaded.view).toEqual(state.view);
    const kept = memory.recall("7", reloaded);
    if (kept === null) throw new Error("nothing was kept");
    const restored = reduce(reloaded, { type: "restored", ...kept });
    expect(restored.pending?.kind).toBe("comparison");
    expect(restored.draft.choices.map((choice) => choice.pick)).toEqual(["right", "tie"]);
  });

  test.each(["model_failed", "ended"])("ends with %s", (control) => {
    const server = new Server();
    expect(play(compared({}, server), server.control(control)).view.questions).toBeNull();
  });
});
