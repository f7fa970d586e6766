import { describe, expect, test } from "vitest";
import { RULES, Server, logged, opened, play } from "../../test/updates";
import type { ServerUpdate } from "../protocol";
import { initialState, reduce, sendingBlock, type State } from "./conversation";
import { growingReply } from "./parts";

const server = new Server();
/** The worker has said something (utterance 2); utterance 3 is the model's. */
const waiting = play(opened(server), server.say(0, "Fine.", { message_id: "m1" }));
const reply = server.say(1, "Good to hear.");
const turn = server.yourTurn(1);

function part(number: unknown, text: unknown, more: Record<string, unknown> = {}): ServerUpdate {
  return server.control("reply_part", { utterance_idx: 3, side: null, part: number, text, ...more });
}

function seen(state: State, side: "left" | "right" | null = null): string | null {
  return growingReply(state.parts, side)?.text ?? null;
}

test("a reply grows with each part until it is there", () => {
  const first = play(waiting, part(1, "Go"));
  expect(seen(first)).toBe("Go");
  const second = play(first, part(2, "Good to"));
  expect(seen(second)).toBe("Good to");
  const whole = play(second, reply);
  expect(seen(whole)).toBeNull();
  expect(whole.view.messages.map((message) => message.text).at(-1)).toBe("Good to hear.");
});

test("parts are in no log, so that a reload doubles nothing and a draft is still that of its conversation", () => {
  const grown = play(waiting, part(1, "Go"), part(2, "Good to"));
  expect(grown.log).toBe(waiting.log);
  expect(grown.view).toBe(waiting.view);
  const reloaded = reduce(initialState(RULES), { type: "caught_up", log: grown.log });
  expect(seen(reloaded)).toBeNull();
  expect(seen(play(reloaded, part(7, "Good to he")))).toBe("Good to he");
  const history = [...grown.log, logged(part(8, "x")), logged(reply)];
  const caughtUp = reduce(grown, { type: "caught_up", log: history });
  expect(caughtUp.log.map((entry) => entry.update.update_id)).not.toContain(history.at(-2)?.update.update_id);
  expect(seen(caughtUp)).toBeNull();
  expect(caughtUp.view.messages).toHaveLength(4);
});

test("parts open no boxes, no turn and no field", () => {
  const grown = play(waiting, part(1, "Good to hear."));
  expect(sendingBlock(grown)).toBe("not_your_turn");
  expect(grown.draft).toBe(waiting.draft);
  expect(sendingBlock(play(grown, reply, turn))).toBe("annotation_missing");
});

test.each([
  ["repeated", [part(2, "Good"), part(2, "Good")], "Good"],
  ["out of order", [part(3, "Good to"), part(2, "Good")], "Good to"],
  ["of a reply that is generated again", [part(3, "Good to"), part(4, "W")], "W"],
  ["that begin again with nothing", [part(3, "Good to"), part(4, "")], null],
  ["of nothing that can be seen", [part(1, " \n\u200b")], null],
  ["without a side", [part(1, "Good", { side: undefined })], "Good"],
])("parts %s", (_, parts, text) => {
  expect(seen(play(waiting, ...parts))).toBe(text);
});

test.each([
  ["an utterance that has arrived", part(1, "x", { utterance_idx: 1 })],
  ["the worker's utterance", part(1, "x", { utterance_idx: 2 })],
  ["an utterance after the next", part(1, "x", { utterance_idx: 4 })],
  ["no utterance", part(1, "x", { utterance_idx: undefined })],
  ["an utterance that is no number", part(1, "x", { utterance_idx: "3" })],
  ["half an utterance", part(1, "x", { utterance_idx: 3.5 })],
  ["no number", part(undefined, "x")],
  ["a number that is none", part("1", "x")],
  ["a number below zero", part(-1, "x")],
  ["an endless number", part(Infinity, "x")],
  ["no text", part(1, undefined)],
  ["a text that is none", part(1, { toString: "x" })],
  ["a side that there is not", part(1, "x", { side: "middle" })],
  ["a text that is too long", part(1, "x".repeat(16 * 1024 + 1))],
])("a part with %s changes nothing", (_, update) => {
  expect(play(waiting, update)).toBe(waiting);
});

test("a part that comes after its reply changes nothing", () => {
  const whole = play(waiting, reply);
  expect(play(whole, part(9, "late"))).toBe(whole);
  const asked = play(whole, turn);
  expect(play(asked, part(9, "late"))).toBe(asked);
  expect(play(asked, part(9, "x", { utterance_idx: 4 }))).toBe(asked);
});

test("a part of the first reply is shown before anything was said", () => {
  const started = play(initialState(RULES), server.start());
  expect(seen(play(started, part(1, "Hel", { utterance_idx: 0 })))).toBe("Hel");
  expect(seen(play(initialState(RULES), part(1, "Hel", { utterance_idx: 0 })))).toBeNull();
});

test.each([
  ["the model fails", server.control("model_failed", { reason: "Broken." })],
  ["the chat ends", server.control("ended", { outcome: "incomplete", reason: "" })],
])("what has grown goes away when %s", (_, update) => {
  const over = play(waiting, part(1, "Go"), update);
  expect(over.parts).toEqual([]);
  expect(play(over, part(2, "Good"))).toBe(over);
});

describe("two replies of one turn", () => {
  test("grow beside each other, each with its own numbers", () => {
    const both = play(
      waiting,
      part(5, "Left", { side: "left" }),
      part(1, "Ri", { side: "right" }),
      part(2, "Right", { side: "right" }),
      part(4, "late", { side: "left" }),
    );
    expect(seen(both, "left")).toBe("Left");
    expect(seen(both, "right")).toBe("Right");
    expect(seen(both)).toBeNull();
    expect(play(both, reply).parts).toEqual([]);
  });
});
