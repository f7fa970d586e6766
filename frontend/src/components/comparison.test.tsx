import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, test, vi } from "vitest";
import { expectAccessible } from "../../test/axe";
import { Chat } from "../../test/screens";
import { RULES, Server, opened, play } from "../../test/updates";
import { initialState, mustAnnotate, reduce, sendingBlock, toPacket, type State } from "../state/conversation";
import { Memory } from "../state/memory";

afterEach(cleanup);

const NO_BOXES = { ...RULES, annotation: null };

function asked(more: Record<string, unknown> = {}, server = new Server()): State {
  return play(
    opened(server, NO_BOXES),
    server.say(0, "One.", { message_id: "first" }),
    server.control("comparison", {
      turn_idx: 0,
      utterance_idx: 3,
      left: { text: "It is fine." },
      right: { text: "It is quite fine, I would say." },
    }),
    server.yourTurn(0, { ask: "comparison", points: 2, ties: "both", reason: false, ...more }),
  );
}

const done = (server: Server): Parameters<typeof play>[1][] => [
  server.control("comparison_done", {
    turn_idx: 0,
    utterance_idx: 3,
    pick: "right",
    continued_with: "right",
    message_id: "m1",
  }),
  server.raw({
    text: "It is quite fine, I would say.",
    id: "Speaker 2",
    task_data: { utterance_idx: 3, agent_idx: 1 },
  }),
  server.yourTurn(1),
];

function choices(): string[] {
  return within(screen.getByTestId("choices"))
    .getAllByRole("radio")
    .map((radio) => radio.closest("label")?.textContent ?? "");
}

describe("two replies", () => {
  test("are both there, named by number, and the field to write in makes room", () => {
    render(<Chat state={asked()} />);
    expect(within(screen.getByRole("region", { name: "Reply 1" })).getByText("It is fine.")).toBeTruthy();
    expect(within(screen.getByRole("region", { name: "Reply 2" })).getByText(/quite fine/)).toBeTruthy();
    expect(screen.queryByTestId("composer")).toBeNull();
    expect(screen.queryByTestId("typing")).toBeNull();
    expect(document.activeElement?.textContent).toBe("Your chat partner has two replies");
  });

  test.each([
    [2, "none", ["Reply 1 is better", "Reply 2 is better"]],
    [2, "both", ["Reply 1 is better", "About the same", "Reply 2 is better", "Both are bad"]],
    [2, "both_bad", ["Reply 1 is better", "Reply 2 is better", "Both are bad"]],
    [3, "tie", ["Reply 1 is better", "About the same", "Reply 2 is better"]],
    [
      5,
      "tie",
      [
        "Reply 1 is much better",
        "Reply 1 is slightly better",
        "About the same",
        "Reply 2 is slightly better",
        "Reply 2 is much better",
      ],
    ],
  ])("are judged on %i points with ties %s", (points, ties, expected) => {
    render(<Chat state={asked({ points, ties })} />);
    expect(choices()).toEqual(expected);
  });

  test("are judged on seven points, each once", () => {
    render(<Chat state={asked({ points: 7, ties: "both" })} />);
    expect(new Set(choices()).size).toBe(8);
  });

  test("are chosen by number keys outside of fields", () => {
    render(<Chat state={asked({ reason: true })} />);
    fireEvent.keyDown(document.body, { key: "2" });
    expect(screen.getByTestId<HTMLInputElement>("choice-right").checked).toBe(true);
    fireEvent.keyDown(screen.getByTestId("choice-reason"), { key: "1" });
    expect(screen.getByTestId<HTMLInputElement>("choice-left").checked).toBe(false);
    fireEvent.keyDown(document.body, { key: "1" });
    expect(screen.getByTestId<HTMLInputElement>("choice-left").checked).toBe(true);
  });

  test("can't be sent without a choice, and the page leads to it", () => {
    const spy = vi.fn();
    render(<Chat state={asked()} spy={spy} />);
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe("First choose which reply is better.");
    expect(document.activeElement).toBe(screen.getByTestId("choice-left"));
    fireEvent.click(screen.getByTestId("choice-tie"));
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe("Sending…");
    expect(screen.getByTestId<HTMLFieldSetElement>("choices").disabled).toBe(true);
  });

  test("tell nothing but their texts and numbers", () => {
    render(<Chat state={asked()} />);
    const [first, second] = [screen.getByTestId("reply-1"), screen.getByTestId("reply-2")].map((reply) =>
      reply.outerHTML
        .replace(/It is fine\.|It is quite fine, I would say\./, "TEXT")
        .replace(/Reply [12]/, "Reply N")
        .replace(/reply-[12]/, "reply-N")
        .replace(/(id|aria-labelledby)="[^"]*"/g, ""),
    );
    expect(first).toBe(second);
  });

  test("have no accessibility problems", async () => {
    const { container } = render(<Chat state={asked({ points: 7, reason: true })} />);
    await expectAccessible(container);
  });
});

describe("boxes of both replies", () => {
  const server = new Server();
  function withBoxes(): State {
    return play(
      opened(server, RULES),
      server.say(0, "One.", { message_id: "first", problem_data: { bucket_0: true }, annotated_utterance_idx: 1 }),
      server.control("comparison", {
        turn_idx: 0,
        utterance_idx: 3,
        left: { text: "It is fine." },
        right: { text: "It is quite fine, I would say." },
      }),
      server.yourTurn(0, { ask: "comparison", points: 2, ties: "both", reason: false, boxes: true }),
    );
  }
  const box = (reply: number, bucket: string): HTMLInputElement =>
    within(screen.getByTestId(`reply-${reply}`)).getByTestId<HTMLInputElement>(`bucket-${bucket}`);

  test("are asked for only where the server asks, and are named after their reply", () => {
    const { unmount } = render(<Chat state={asked()} />);
    expect(screen.queryByTestId("annotation")).toBeNull();
    unmount();
    render(<Chat state={withBoxes()} />);
    const names = screen.getAllByTestId("annotation").map((group) => group.querySelector("legend")?.textContent);
    expect(names).toEqual(["Reply 1 Which of these apply?", "Reply 2 Which of these apply?"]);
  });

  test("must be ticked for each, and the page leads to the reply without any", () => {
    render(<Chat state={withBoxes()} />);
    fireEvent.click(screen.getByTestId("choice-left"));
    fireEvent.click(box(1, "bucket_0"));
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe(
      "First tick at least one box for each of the two replies.",
    );
    expect(document.activeElement).toBe(box(2, "bucket_0"));
    fireEvent.click(box(2, "bucket_0"));
    fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByTestId("send-reason").textContent).toBe("Sending…");
  });

  test("are ticked by number keys inside of a group, which then choose no reply", () => {
    render(<Chat state={withBoxes()} />);
    const second = box(2, "bucket_0");
    second.focus();
    fireEvent.keyDown(second, { key: "1" });
    expect(second.checked).toBe(true);
    expect(box(1, "bucket_0").checked).toBe(false);
    expect(screen.getByTestId<HTMLInputElement>("choice-left").checked).toBe(false);
    fireEvent.keyDown(document.body, { key: "1" });
    expect(screen.getByTestId<HTMLInputElement>("choice-left").checked).toBe(true);
  });

  test("are sent for each side, survive a reload, and are shown at the reply that goes on", () => {
    sessionStorage.clear();
    const memory = new Memory(sessionStorage);
    const state = [
      { type: "compared_ticked", side: "left", value: "bucket_0", on: true } as const,
      { type: "compared_ticked", side: "right", value: "bucket_0", on: true } as const,
      { type: "compared_ticked", side: "right", value: "none_all_good", on: true } as const,
      { type: "chosen", answer: { pick: "right", strength: null } } as const,
      { type: "sent", messageId: "m1", at: 5_000 } as const,
    ].reduce(reduce, withBoxes());
    memory.keep("7", state);
    const reloaded = reduce(initialState(RULES), { type: "caught_up", log: state.log });
    const kept = memory.recall("7", reloaded);
    if (kept === null) throw new Error("nothing was kept");
    const restored = reduce(reloaded, { type: "restored", ...kept });
    if (restored.pending === null) throw new Error("nothing was sent");
    const ticks = { bucket_0: false, none_all_good: true };
    expect(toPacket(restored.pending, restored).task_data).toMatchObject({
      problem_data_of_replies: { left: { bucket_0: true, none_all_good: false }, right: ticks },
    });
    expect(toPacket(restored.pending, restored).task_data).not.toHaveProperty("problem_data_for_prior_message");
    const [judged, said, turn] = done(server);
    if (judged === undefined || said === undefined || turn === undefined) throw new Error("there are three");
    const next = play(
      restored,
      judged,
      server.raw({
        text: "It is quite fine, I would say.",
        id: "Speaker 2",
        task_data: { utterance_idx: 3, agent_idx: 1, problem_data: ticks, annotated_utterance_idx: 3 },
      }),
      turn,
    );
    expect(mustAnnotate(next)).toBe(false);
    expect(next.view.annotations[3]).toEqual(ticks);
    expect(next.draft.choice.boxes).toEqual(restored.draft.choice.boxes);
    const later = play(
      next,
      server.say(0, "Two.", { message_id: "m2", utterance_idx: 4 }),
      server.control("comparison", { turn_idx: 1, utterance_idx: 5, left: { text: "a" }, right: { text: "b" } }),
    );
    expect(later.draft.choice.boxes).toEqual({ left: [], right: [] });
  });

  test("have no accessibility problems", async () => {
    const { container } = render(<Chat state={withBoxes()} />);
    await expectAccessible(container);
  });
});

describe("a choice", () => {
  function chosen(state = asked({ points: 5, reason: true })): State {
    return [
      { type: "chosen", answer: { pick: "right", strength: 2 } } as const,
      { type: "reasoned", reason: " Kinder. " } as const,
      { type: "sent", messageId: "m1", at: 5_000 } as const,
    ].reduce(reduce, state);
  }

  test("is sent with its strength and reason", () => {
    const state = chosen();
    if (state.pending === null) throw new Error("nothing was sent");
    const packet = toPacket(state.pending, state);
    expect(packet.text).toBe("");
    expect(packet.task_data).toMatchObject({
      message_id: "m1",
      turn_idx: 0,
      comparison: { pick: "right", strength: 2, reason: "Kinder." },
    });
  });

  test("that is none of the answers can't be sent", () => {
    const two = reduce(asked(), { type: "chosen", answer: { pick: "right", strength: 1 } });
    expect(sendingBlock(two)).toBe("comparison_missing");
    const noTies = reduce(asked({ ties: "none" }), { type: "chosen", answer: { pick: "tie", strength: null } });
    expect(sendingBlock(noTies)).toBe("comparison_missing");
  });

  test("has arrived when the server says it back; the reply that goes on is the chat's, and the next choice is empty", () => {
    const server = new Server();
    const state = play(chosen(asked({ points: 5, reason: true }, server)), ...done(server));
    expect(state.pending).toBeNull();
    expect(state.view.comparison).toBeNull();
    expect(state.view.messages.map((message) => message.text).at(-1)).toBe("It is quite fine, I would say.");
    const next = play(
      state,
      server.say(0, "Two.", { message_id: "m2", utterance_idx: 4 }),
      server.control("comparison", { turn_idx: 1, utterance_idx: 5, left: { text: "a" }, right: { text: "b" } }),
    );
    expect(next.draft.choice).toMatchObject({ target: 5, pick: null, reason: "" });
  });

  test("that was refused comes back, and what was being written stays once", () => {
    const server = new Server();
    const writing = reduce(asked({ points: 5, reason: true }, server), { type: "typed", text: "Next", at: 1 });
    const state = play(
      chosen(writing),
      server.control("refused", { message_id: "m1", code: "comparison_invalid", reason: "Choose again." }),
    );
    expect(state.pending).toBeNull();
    expect(state.draft.text).toBe("Next");
    expect(state.draft.choice).toMatchObject({ pick: "right", strength: 2 });
    expect(state.notice?.reason).toBe("Choose again.");
  });

  test("and its replies survive a reload at every point", () => {
    sessionStorage.clear();
    const memory = new Memory(sessionStorage);
    const state = chosen();
    memory.keep("7", state);
    const reloaded = reduce(initialState(NO_BOXES), { type: "caught_up", log: state.log });
    expect(reloaded.view.comparison).toEqual(state.view.comparison);
    const kept = memory.recall("7", reloaded);
    if (kept === null) throw new Error("nothing was kept");
    const restored = reduce(reloaded, { type: "restored", ...kept });
    expect(restored.pending?.kind).toBe("comparison");
    expect(restored.draft.choice).toMatchObject({ pick: "right", strength: 2, reason: " Kinder. " });
  });

  test("made in another tab takes the place of this one", () => {
    const server = new Server();
    const state = play(
      chosen(asked({ points: 5, reason: true }, server)),
      server.control("comparison_done", { turn_idx: 0, utterance_idx: 3, pick: "left", message_id: "other" }),
      server.raw({ text: "It is fine.", id: "Speaker 2", task_data: { utterance_idx: 3, agent_idx: 1 } }),
      server.yourTurn(1),
    );
    expect(state.pending).toBeNull();
    expect(state.notice?.kind).toBe("overtaken");
  });

  test.each(["model_failed", "ended"])("ends with %s", (control) => {
    const server = new Server();
    expect(play(asked({}, server), server.control(control)).view.comparison).toBeNull();
  });
});
