import { cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test } from "vitest";
import { expectAccessible } from "../../test/axe";
import { Chat } from "../../test/screens";
import { ANNOTATION, CONFIG, RULES, Server, play } from "../../test/updates";
import { initialState, reduce, sendingBlock, toPacket, type State } from "../state/conversation";

afterEach(cleanup);

const JUDGING = { ...CONFIG, judging: true };
const TICKED = { bucket_0: true, bucket_1: false, none_all_good: false };

/** A finished conversation of three replies, the first of which is to be annotated. */
function opened(server: Server, rules = RULES): State {
  return play(
    initialState(rules),
    server.start({ num_turns: 2 }),
    server.say(0, "Is it raining?"),
    server.say(1, "No."),
    server.yourTurn(0, { ask: "annotation", num_turns: 2 }),
  );
}

function next(server: Server, state: State, reply: string, turn: number, ask: string): State {
  return play(
    state,
    server.control("annotated", {
      turn_idx: turn - 1,
      message_id: "m1",
      problem_data: TICKED,
      annotated_utterance_idx: 1,
    }),
    server.say(0, "And now?"),
    server.say(1, reply),
    server.yourTurn(turn, { ask, num_turns: 2 }),
  );
}

describe("a finished conversation", () => {
  test("is somebody else's, and there is nothing to write", async () => {
    const { container } = render(<Chat state={opened(new Server())} config={JUDGING} />);
    expect(screen.getByText("The person said:")).toBeTruthy();
    expect(screen.queryByText("You said:")).toBeNull();
    expect(screen.queryByTestId("composer")).toBeNull();
    expect(screen.queryByTestId("typing")).toBeNull();
    expect(screen.getByTestId("progress").textContent).toBe("Reply 1 of 3 · 2 replies to go after this");
    await expectAccessible(container);
  });

  test("is annotated by keys alone: a number ticks, Enter goes on", async () => {
    render(<Chat state={opened(new Server())} config={JUDGING} />);
    const send = screen.getByTestId("send");
    send.focus(); // jsdom has no pointer, by which the page decides
    await userEvent.keyboard("{Enter}");
    expect(screen.getByTestId("send-reason").textContent).toBe("First tick at least one box for the last reply.");
    await userEvent.keyboard("1");
    expect(screen.getAllByRole<HTMLInputElement>("checkbox").map((box) => box.checked)).toEqual([true, false, false]);
    send.focus();
    await userEvent.keyboard("{Enter}");
    expect(screen.getByTestId("send-reason").textContent).toBe("Sending…");
  });

  test("is sent as an annotation without a text, and what the worker had ticked stays beside the reply", () => {
    const server = new Server();
    const ticked = reduce(opened(server), { type: "ticked", value: "bucket_0", on: true });
    const sent = reduce(ticked, { type: "sent", messageId: "m1", at: 1 });
    if (sent.pending === null) throw new Error("nothing was sent");
    expect(toPacket(sent.pending, sent)).toMatchObject({
      text: "",
      task_data: { message_id: "m1", turn_idx: 0, problem_data_for_prior_message: TICKED },
    });
    const after = next(server, sent, "Yes.", 1, "annotation");
    expect(after.pending).toBeNull();
    expect(after.draft.ticks).toEqual({});
    render(<Chat state={after} config={JUDGING} />);
    expect(within(screen.getByTestId("frozen-annotation")).getByText("Contradiction")).toBeTruthy();
    expect(screen.getByTestId("progress").textContent).toBe("Reply 2 of 3 · 1 reply to go after this");
  });

  test("shows no reason for waiting between two replies", () => {
    const server = new Server();
    const between = play(opened(server), server.control("annotated", { turn_idx: 0, message_id: "x" }));
    render(<Chat state={between} config={JUDGING} />);
    expect(screen.queryByTestId("typing")).toBeNull();
    expect(screen.getByTestId("send-reason").textContent).toBe("");
  });

  test("ends with the ratings, and the boxes of the last reply", async () => {
    const server = new Server();
    const last = next(server, opened(server), "Bye.", 2, "final_rating");
    const { container } = render(<Chat state={last} config={JUDGING} />);
    expect(screen.getByRole("heading", { name: "That was the conversation. How was it?" })).toBeTruthy();
    expect(screen.getByTestId("progress").textContent).toBe("Final questions");
    expect(screen.getAllByRole("checkbox")).toHaveLength(ANNOTATION.buckets.length);
    await expectAccessible(container);
  });

  test("can be read through where there are no boxes", () => {
    const state = opened(new Server(), { ...RULES, annotation: null });
    expect(sendingBlock(state)).toBeNull();
  });

  test("says what was shown to the person as already said", () => {
    const server = new Server();
    const seeded = play(initialState(RULES), server.start(), server.say(0, "Hi!", {}, true), server.say(1, "Hello."));
    render(<Chat state={seeded} config={JUDGING} />);
    expect(screen.getByText("Said before the conversation began")).toBeTruthy();
  });
});
