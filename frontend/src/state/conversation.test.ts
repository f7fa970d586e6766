import { describe, expect, test } from "vitest";
import { RULES, Server, logged, opened, play } from "../../test/updates";
import {
  initialState,
  lengthOf,
  onboardingMissing,
  reduce,
  sendingBlock,
  setTick,
  toPacket,
  type Event,
  type State,
} from "./conversation";
import { isModelThinking, utteranceToAnnotate } from "./view";

const AT = 1_700_000_100_000;

function all(state: State, ...events: Event[]): State {
  return events.reduce(reduce, state);
}

function write(state: State, text = "I am fine."): State {
  return all(state, { type: "ticked", value: "bucket_1", on: true }, { type: "typed", text, at: AT });
}

function send(state: State, messageId = "m1"): State {
  return all(write(state), { type: "sent", messageId, at: AT + 5_000 });
}

describe("what the server says", () => {
  test("an update that comes twice is applied once", () => {
    const server = new Server();
    const state = opened(server);
    const again = state.log.reduce((before, known) => reduce(before, { type: "update", logged: known }), state);
    expect(again).toBe(state);
    expect(again.view.messages.map((message) => message.text)).toEqual(["Hi!", "Hello, how are you?"]);
  });

  test("a reloaded page is rebuilt from the past updates alone", () => {
    const server = new Server();
    const before = play(
      opened(server),
      server.say(0, "Fine.", {
        message_id: "m1",
        problem_data: { bucket_0: false, bucket_1: true, none_all_good: false },
        annotated_utterance_idx: 1,
      }),
      server.say(1, "Good to hear."),
      server.yourTurn(1),
    );
    const after = reduce(initialState(RULES), { type: "caught_up", log: before.log });
    expect(after.view).toEqual(before.view);
    expect(after.view.annotations[1]).toEqual({ bucket_0: false, bucket_1: true, none_all_good: false });
    expect(after.view.turn?.turnIdx).toBe(1);
  });

  test("an attention check is in the place of a reply, asks for boxes only where configured, and is no exchange", () => {
    const server = new Server();
    const answer = { message_id: "m1", problem_data: { bucket_1: true }, annotated_utterance_idx: 1 };
    const said = play(opened(server), server.say(0, "Fine.", answer));
    const words = play(said, server.say(1, "Write: orange.", { attention_check: true, annotate: false }));
    expect(utteranceToAnnotate(words.view)).toBeNull();
    expect(sendingBlock(reduce(play(words, server.yourTurn(0)), { type: "typed", text: "orange", at: AT }))).toBeNull();
    const boxes = play(said, server.say(1, "Tick only the last box.", { attention_check: true }));
    expect(utteranceToAnnotate(boxes.view)?.text).toBe("Tick only the last box.");
    expect(boxes.view.messages.map((message) => message.attentionCheck)).toEqual([false, false, false, true]);
  });

  test("what was missed goes where it belongs, though later updates came first", () => {
    const server = new Server();
    const first = opened(server);
    const missed = [server.say(0, "Fine.", { message_id: "m1" }), server.say(1, "Good.")];
    const late = server.yourTurn(1);
    const gap = play(first, late);
    const whole = reduce(gap, { type: "caught_up", log: [...first.log, ...[...missed, late].map(logged)] });
    expect(whole.log.map((entry) => entry.update.update_id)).toEqual(["u1", "u2", "u3", "u4", "u5", "u6", "u7"]);
    expect(whole.view.messages.map((message) => message.text)).toEqual([
      "Hi!",
      "Hello, how are you?",
      "Fine.",
      "Good.",
    ]);
    expect(whole.view.turn?.turnIdx).toBe(1);
  });

  test("an update that came live and is not in the list of the past yet is kept", () => {
    const server = new Server();
    const first = opened(server);
    const live = play(first, server.say(0, "Fine.", { message_id: "m1" }));
    const merged = reduce(live, { type: "caught_up", log: first.log });
    expect(merged).toBe(live);
    expect(merged.view.messages.at(-1)?.text).toBe("Fine.");
  });

  test("the time for a turn runs from the arrival of the turn", () => {
    const server = new Server();
    const turn = server.yourTurn(0, { seconds: 45 });
    const state = reduce(initialState(RULES), { type: "update", logged: { update: turn, receivedAt: 5_000 } });
    expect(state.view.turn?.deadline).toBe(50_000);
  });

  test("an unknown control changes nothing that is shown", () => {
    const server = new Server();
    const state = opened(server);
    expect(play(state, server.control("something_new")).view).toEqual(state.view);
  });

  test("the model thinks from the worker's message until the next turn", () => {
    const server = new Server();
    let state = opened(server);
    expect(isModelThinking(state.view)).toBe(false);
    state = play(state, server.say(0, "Fine.", { message_id: "m1" }));
    expect(isModelThinking(state.view)).toBe(true);
    state = play(state, server.say(1, "Good."), server.yourTurn(1));
    expect(isModelThinking(state.view)).toBe(false);
  });
});

describe("sending", () => {
  test("a message is on its way until the server has said it back", () => {
    const server = new Server();
    const sent = send(opened(server));
    expect(sent.pending?.messageId).toBe("m1");
    expect(sent.draft.text).toBe("");
    expect(sent.view.messages).toHaveLength(2);
    expect(sendingBlock(sent)).toBe("pending");
    const back = play(sent, server.say(0, "I am fine.", { message_id: "m1" }));
    expect(back.pending).toBeNull();
    expect(back.view.messages).toHaveLength(3);
    expect(sendingBlock(back)).toBe("not_your_turn");
  });

  test("somebody else's message does not count as the own one", () => {
    const server = new Server();
    const state = play(send(opened(server)), server.say(0, "From another tab.", { message_id: "other" }));
    expect(state.pending?.messageId).toBe("m1");
  });

  test("a refused message goes back into the draft with its ticks, and the reason is shown", () => {
    const server = new Server();
    const state = play(
      send(opened(server)),
      server.control("refused", { message_id: "m1", code: "empty", reason: "Write something." }),
    );
    expect(state.pending).toBeNull();
    expect(state.notice).toEqual({ kind: "refused", reason: "Write something.", code: "empty" });
    expect(state.draft.text).toBe("I am fine.");
    expect(state.draft.ticks).toEqual({ bucket_1: true });
    expect(sendingBlock(state)).toBeNull();
  });

  test("what was typed while a message was on its way is kept when it is refused", () => {
    const server = new Server();
    const state = play(
      reduce(send(opened(server)), { type: "typed", text: "And more.", at: AT }),
      server.control("refused", { message_id: "m1", code: "empty", reason: "No." }),
    );
    expect(state.draft.text).toBe("I am fine.\nAnd more.");
  });

  test("a refusal of another message leaves the own one on its way", () => {
    const server = new Server();
    const state = play(
      send(opened(server)),
      server.control("refused", { message_id: "x", code: "empty", reason: "No." }),
    );
    expect(state.pending?.messageId).toBe("m1");
    expect(state.notice).toBeNull();
  });

  test("a message whose turn another tab has taken never becomes the next turn's message", () => {
    const server = new Server();
    const state = play(
      send(opened(server)),
      server.say(0, "From another tab.", { message_id: "other" }),
      server.say(1, "I see."),
      server.yourTurn(1),
    );
    expect(state.pending).toBeNull();
    expect(state.notice?.kind).toBe("overtaken");
    expect(state.draft.text).toBe("I am fine.");
    expect(state.draft.ticks).toEqual({}); // they were about an older reply
    expect(sendingBlock(state)).toBe("annotation_missing");
  });

  test("a turn that is being answered in another tab can't be answered here as well", () => {
    const server = new Server();
    const locked = reduce(write(opened(server)), { type: "sent_elsewhere", messageId: "other", turnIdx: 0 });
    expect(sendingBlock(locked)).toBe("elsewhere");
    expect(reduce(locked, { type: "sent", messageId: "m1", at: AT })).toBe(locked);
    const taken = play(locked, server.say(0, "There.", { message_id: "other" }));
    expect(taken.elsewhere).toBeNull();
    const expired = reduce(locked, { type: "elsewhere_expired", messageId: "other" });
    expect(sendingBlock(expired)).toBeNull();
  });

  test("news of another tab's message that the server has long taken does not lock the page", () => {
    const server = new Server();
    const state = play(opened(server), server.say(0, "There.", { message_id: "other" }));
    expect(reduce(state, { type: "sent_elsewhere", messageId: "other", turnIdx: 0 }).elsewhere).toBeNull();
  });

  test("the packet holds the text, every bucket, the turn and the times in seconds", () => {
    const server = new Server();
    const state = send(opened(server));
    if (state.pending === null) throw new Error("nothing was sent");
    expect(toPacket(state.pending, state)).toEqual({
      text: "I am fine.",
      id: "Speaker 1",
      episode_done: false,
      update_id: "m1",
      task_data: {
        message_id: "m1",
        turn_idx: 0,
        problem_data_for_prior_message: { bucket_0: false, bucket_1: true, none_all_good: false },
        timing: { shown: 1_700_000_003, first_key: 1_700_000_100, sent: 1_700_000_105 },
      },
    });
  });

  test("without annotation no boxes are asked for and none are sent", () => {
    const server = new Server();
    const rules = { ...RULES, annotation: null };
    const typed = reduce(opened(server, rules), { type: "typed", text: "Hello", at: AT });
    expect(sendingBlock(typed)).toBeNull();
    const state = reduce(typed, { type: "sent", messageId: "m1", at: AT });
    if (state.pending === null) throw new Error("nothing was sent");
    expect(toPacket(state.pending, state).task_data).not.toHaveProperty("problem_data_for_prior_message");
  });

  test("nothing can be sent after the end, and what was on its way is let go", () => {
    const server = new Server();
    const state = play(send(opened(server)), server.control("ended", { outcome: "incomplete", reason: "Over." }));
    expect(state.pending).toBeNull();
    expect(sendingBlock(state)).toBe("over");
    expect(state.view.ended).toEqual({ complete: false, reason: "Over.", cause: "" });
  });
});

describe("what has to be there before sending", () => {
  test("a box of the last reply, then a text that is not too long", () => {
    const server = new Server();
    let state = opened(server);
    expect(sendingBlock(state)).toBe("annotation_missing");
    state = reduce(state, { type: "ticked", value: "bucket_0", on: true });
    expect(sendingBlock(state)).toBe("empty");
    state = reduce(state, { type: "typed", text: "  \n ", at: AT });
    expect(sendingBlock(state)).toBe("empty");
    state = reduce(state, { type: "typed", text: "x".repeat(41), at: AT });
    expect(sendingBlock(state)).toBe("too_long");
    state = reduce(state, { type: "typed", text: ` ${"x".repeat(40)} `, at: AT });
    expect(sendingBlock(state)).toBeNull();
    state = reduce(state, { type: "ticked", value: "bucket_0", on: false });
    expect(sendingBlock(state)).toBe("annotation_missing");
  });

  test("a reply that was shown as already said is not annotated", () => {
    const server = new Server();
    const state = play(
      initialState(RULES),
      server.start(),
      server.say(0, "I like the sea.", {}, true),
      server.say(1, "So do I.", {}, true),
      server.yourTurn(0),
    );
    expect(utteranceToAnnotate(state.view)).toBeNull();
    expect(sendingBlock(reduce(state, { type: "typed", text: "Nice.", at: AT }))).toBeNull();
  });

  test("a new reply starts without ticks", () => {
    const server = new Server();
    const state = play(
      send(opened(server)),
      server.say(0, "I am fine.", { message_id: "m1" }),
      server.say(1, "Good."),
      server.yourTurn(1),
    );
    expect(state.draft.ticks).toEqual({});
    expect(state.draft.ticksFor).toBe(3);
  });

  test("“none, all good” excludes the other boxes, both ways", () => {
    expect(setTick(["bucket_0", "bucket_1"], "none_all_good", true)).toEqual(["none_all_good"]);
    expect(setTick(["none_all_good"], "bucket_0", true)).toEqual(["bucket_0"]);
    expect(setTick(["bucket_0"], "bucket_1", true)).toEqual(["bucket_0", "bucket_1"]);
    expect(setTick(["bucket_0"], "bucket_0", false)).toEqual([]);
  });

  test("at the end every question and the last reply's boxes", () => {
    const server = new Server();
    let state = play(opened(server), server.yourTurn(3, { ask: "final_rating" }));
    expect(sendingBlock(state)).toBe("annotation_missing");
    state = all(state, { type: "ticked", value: "none_all_good", on: true }, { type: "rated", question: 0, rating: 4 });
    expect(sendingBlock(state)).toBe("rating_missing");
    state = all(state, { type: "rated", question: 1, rating: 5 }, { type: "sent", messageId: "r1", at: AT });
    if (state.pending === null) throw new Error("nothing was sent");
    expect(toPacket(state.pending, state)).toMatchObject({
      text: "",
      task_data: {
        turn_idx: 3,
        final_rating: [4, 5],
        problem_data_for_prior_message: { bucket_0: false, bucket_1: false, none_all_good: true },
      },
    });
  });

  test.each([
    ["abc", 3],
    ["  abc \n", 3],
    ["👩‍👩‍👧", 5], // three people and two joiners, as the server counts
    ["日本", 2],
    ["", 0],
  ])("%j has %i characters", (text, length) => {
    expect(lengthOf(text)).toBe(length);
  });
});

describe("a reload", () => {
  test("gives the draft back", () => {
    const server = new Server();
    const before = write(opened(server));
    const after = all(
      initialState(RULES),
      { type: "caught_up", log: before.log },
      { type: "restored", draft: before.draft, pending: null },
    );
    expect(after.draft).toEqual(before.draft);
  });

  test("remembers what was on its way, unless it has arrived meanwhile", () => {
    const server = new Server();
    const before = send(opened(server));
    const remember: Event = { type: "restored", draft: before.draft, pending: before.pending };
    const lost = all(initialState(RULES), { type: "caught_up", log: before.log }, remember);
    expect(lost.pending?.messageId).toBe("m1");
    const arrived = [...before.log, logged(server.say(0, "I am fine.", { message_id: "m1" }))];
    expect(all(initialState(RULES), { type: "caught_up", log: arrived }, remember).pending).toBeNull();
  });

  test("drops ratings and answers of a form that looks different today", () => {
    const server = new Server();
    const state = opened(server);
    const draft = { ...state.draft, ratings: [1, 2, 3], onboarding: [[["bucket_0"]]] };
    const after = reduce(state, { type: "restored", draft, pending: null });
    expect(after.draft.ratings).toEqual([null, null]);
    expect(after.draft.onboarding).toEqual([]);
  });
});

describe("onboarding", () => {
  const rules = {
    ...RULES,
    onboarding: [
      [0, 1],
      [0, 1, 0, 1],
    ],
  };
  const tick = (dialog: number, utterance: number, value: string): Event => ({
    type: "onboarding_ticked",
    dialog,
    utterance,
    value,
    on: true,
  });
  const filled = (): State =>
    all(initialState(rules), tick(0, 1, "bucket_0"), tick(1, 1, "none_all_good"), tick(1, 3, "bucket_1"));

  test("every reply needs a tick, and the worker's own sentences none", () => {
    let state = initialState(rules);
    expect(onboardingMissing(state)).toBe(3);
    expect(sendingBlock(state)).toBe("onboarding_missing");
    state = all(state, tick(0, 1, "bucket_0"), tick(1, 1, "none_all_good"));
    expect(onboardingMissing(state)).toBe(1);
    expect(sendingBlock(filled())).toBeNull();
  });

  test("the answers have the form's shape, null for the worker's sentences", () => {
    const state = reduce(filled(), { type: "sent", messageId: "o1", at: AT });
    if (state.pending === null) throw new Error("nothing was sent");
    expect(toPacket(state.pending, state)).toEqual({
      text: "",
      id: "",
      episode_done: false,
      update_id: "o1",
      task_data: {
        message_id: "o1",
        onboarding_answers: [
          [null, ["bucket_0"]],
          [null, ["none_all_good"], null, ["bucket_1"]],
        ],
      },
    });
  });

  test("a failed try keeps the ticks, tells the tries left and allows another", () => {
    const server = new Server();
    const state = play(
      reduce(play(filled(), server.control("onboarding_start", { tries_left: 2, seconds: 300 })), {
        type: "sent",
        messageId: "o1",
        at: AT,
      }),
      server.control("onboarding_retry", {
        tries_left: 1,
        reason: "Not quite.",
        explanations: [{ dialog_idx: 0, utterance_idx: 1, text: "Because." }],
      }),
    );
    expect(state.pending).toBeNull();
    expect(state.view.onboarding).toMatchObject({ triesLeft: 1, retry: { reason: "Not quite." } });
    expect(state.view.onboarding.retry?.explanations).toEqual([{ dialog_idx: 0, utterance_idx: 1, text: "Because." }]);
    expect(state.draft.onboarding[0]?.[1]).toEqual(["bucket_0"]);
    expect(sendingBlock(state)).toBeNull();
  });

  test.each(["onboarding_passed", "onboarding_failed"])("%s ends it", (control) => {
    const server = new Server();
    const state = play(filled(), server.control(control, { reason: "Sorry." }));
    expect(state.view.onboarding.outcome).toBe(control.replace("onboarding_", ""));
    expect(sendingBlock(state)).toBe("over");
  });

  test("malformed answers are no try: the form stays open", () => {
    const server = new Server();
    const state = play(
      reduce(filled(), { type: "sent", messageId: "o1", at: AT }),
      server.control("refused", { message_id: "o1", code: "malformed", reason: "Damaged." }),
    );
    expect(state.notice?.reason).toBe("Damaged.");
    expect(sendingBlock(state)).toBeNull();
  });
});
