/** The page in a language without Latin letters: no English text is left on any of its screens. */

import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";

// The texts are read when the page's program starts: they are put into the document before anything is imported.
await vi.hoisted(async () => {
  const { PSEUDO } = await import("../test/pseudo");
  const data = document.createElement("script");
  data.type = "application/json";
  data.id = "model-chat-texts";
  data.textContent = JSON.stringify(PSEUDO);
  document.head.append(data);
});

import { App } from "./App";
import { readTaskConfig, type AgentDetails, type Json, type ServerUpdate } from "./protocol";
import { Session, type SessionParts } from "./session";
import type { SocketListener } from "./mephisto/socket";
import { Memory } from "./state/memory";
import { disguise, latinTexts } from "../test/pseudo";
import { ANNOTATION, CONFIG, Server } from "../test/updates";
import { ONBOARDING } from "../test/screens";

const CONFIGURED = readTaskConfig(disguise({ ...CONFIG, study_flow: true }));
const OPTIONS = ["tone", "facts", "speed"];
const ITEMS = [
  { id: "scale", kind: "scale", question: "Scale?", points: 7, low: "low", high: "high", not_applicable: true },
  { id: "choice", kind: "choice", question: "Choice?", options: OPTIONS, other: true },
  { id: "text", kind: "text", question: "Text?", min_chars: 3, max_chars: 100 },
  { id: "wish", kind: "text", question: "Wish?", required: false, max_chars: 100 },
  { id: "n0", kind: "number", question: "Number?", min: 1, max: 9 },
  { id: "n1", kind: "number", question: "Number?", min: 1 },
  { id: "n2", kind: "number", question: "Number?", max: 9 },
  { id: "n3", kind: "number", question: "Number?" },
  { id: "slider", kind: "slider", question: "Slider?" },
  { id: "ranking", kind: "ranking", question: "Ranking?", options: OPTIONS },
  { id: "ends", kind: "best_worst", question: "Ends?", options: OPTIONS },
  { id: "matrix", kind: "matrix", question: "Matrix?", rows: ["a", "b"], points: 5, not_applicable: true },
];

let socket: SocketListener | null = null;
const sessions: Session[] = [];

afterEach(() => {
  for (const session of sessions.splice(0)) session.stop();
  socket = null;
});

function details(updates: ServerUpdate[], more: Partial<AgentDetails> = {}): AgentDetails {
  const past_updates = updates.map((update) => ({
    ...update,
    text: disguise(update.text),
    task_data: disguise(update.task_data),
  }));
  return {
    agent_id: "1",
    failure_reason: null,
    refusal: null,
    ending: null,
    visitor: null,
    past_updates,
    onboarding: null,
    clock_offset: 0,
    ...more,
  };
}

async function show(answer: AgentDetails, more: Partial<SessionParts> = {}): Promise<HTMLElement> {
  const session = new Session({
    http: {
      taskConfig: () => Promise.resolve(CONFIGURED),
      requestAgent: () => Promise.resolve(answer),
      submitOnboarding: () => new Promise(() => undefined),
      submitTask: () => Promise.resolve(),
      logError: vi.fn(() => Promise.resolve()),
    },
    makeSocket: (_agentId, listener) => {
      socket = listener;
      return {
        start: () => undefined,
        stop: () => undefined,
        retryNow: () => undefined,
        networkLost: () => undefined,
        sendUpdate: () => true,
      };
    },
    memory: new Memory(null),
    makeChannel: () => null,
    exclusively: (_name, action) => action(),
    preview: false,
    phone: false,
    hasPlatform: true,
    handInToProvider: () => undefined,
    ...more,
  });
  sessions.push(session);
  const { container } = render(<App session={session} />);
  expect(latinTexts(container)).toEqual([]); // before the server has answered
  void session.start();
  await waitFor(() => {
    expect(session.getSnapshot().phase.kind).not.toBe("loading");
  });
  return container;
}

function opening(server: Server): ServerUpdate[] {
  return [
    server.start({ personas: ["I hike."], image: "data:image/png;base64,AAAA", image_alt: "" }),
    server.say(0, "Hi!", {}, true),
    server.say(1, "Hello."),
    server.yourTurn(0, { extensions_left: 1, seconds: 10 }),
  ];
}

function page(server: Server, content: Json): ServerUpdate {
  return server.control("your_turn", {
    ask: "page",
    turn_idx: 0,
    page_idx: 0,
    num_pages: 3,
    seconds: 60,
    page: content,
  });
}

test("the page says its language and its direction", async () => {
  const container = await show(details(opening(new Server())));
  expect(container.firstElementChild).toHaveAttribute("lang", "uk");
  expect(container.firstElementChild).toHaveAttribute("dir", "rtl");
});

describe("no English text is left", () => {
  test("in a chat, in what keeps from sending, in a refusal, and in a lost connection", async () => {
    const server = new Server();
    const refused = server.control("refused", { message_id: "x", code: "too_long", reason: "Too long." });
    const container = await show(details([...opening(server), refused]));
    expect(latinTexts(container)).toEqual([]);
    fireEvent.click(screen.getByTestId("send"));
    expect(latinTexts(container)).toEqual([]);
    fireEvent.change(screen.getByTestId("composer"), { target: { value: "ж".repeat(60) } });
    expect(latinTexts(container)).toEqual([]);
    act(() => socket?.onLost());
    expect(latinTexts(container)).toEqual([]);
  });

  test("in the final questions", async () => {
    const server = new Server();
    const container = await show(details([...opening(server), server.yourTurn(3, { ask: "final_rating" })]));
    await screen.findByTestId("rating-0");
    expect(latinTexts(container)).toEqual([]);
    fireEvent.click(screen.getByTestId("send"));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each([2, 5, 7])("in a comparison on %i points", async (points) => {
    const server = new Server();
    const container = await show(
      details([
        ...opening(server),
        server.say(0, "One."),
        server.control("comparison", { turn_idx: 0, utterance_idx: 3, left: { text: "A" }, right: { text: "B" } }),
        server.yourTurn(0, { ask: "comparison", points, ties: "both", reason: true }),
      ]),
    );
    await screen.findByTestId("choices");
    expect(latinTexts(container)).toEqual([]);
    fireEvent.click(screen.getByTestId("send"));
    expect(latinTexts(container)).toEqual([]);
  });

  test("on a page of questions of all kinds, empty, pointed out and being filled in", async () => {
    const user = userEvent.setup();
    const server = new Server();
    const container = await show(details([page(server, { id: "p", kind: "questions", items: ITEMS })]));
    await screen.findByTestId("item-scale");
    expect(latinTexts(container)).toEqual([]);
    await user.click(screen.getByTestId("continue"));
    expect(latinTexts(container)).toEqual([]);
    const ranking = screen.getByTestId("item-ranking");
    for (const option of ranking.querySelectorAll(".unranked-option")) await user.click(option);
    await user.click(screen.getByTestId("item-choice").querySelectorAll("input[type=radio]")[3] as Element);
    await user.type(screen.getByTestId("item-text").querySelector("textarea") as Element, "ж");
    await user.type(screen.getByTestId("item-n0").querySelector("input") as Element, "99");
    await user.click(screen.getByTestId("continue"));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each(["consent", "text", "questions"])("on a page of the kind %s without titles of its own", async (kind) => {
    const container = await show(details([page(new Server(), { id: "p", kind, text: "<p>ж</p>", items: [] })]));
    await screen.findByTestId("step");
    expect(latinTexts(container)).toEqual([]);
  });

  test("in questions about a reply, words to be marked among them", async () => {
    const server = new Server();
    const items = [{ id: "wrong", kind: "highlight", question: "Wrong?" }];
    const container = await show(
      details([server.control("reply_items", { every_reply: items, last_reply: [] }), ...opening(server)]),
    );
    await screen.findByTestId("item-wrong");
    expect(latinTexts(container)).toEqual([]);
  });

  test("in onboarding, before and after a try", async () => {
    const server = new Server();
    const onboarding = disguise({ annotation: ANNOTATION, dialogs: ONBOARDING.dialogs });
    const container = await show(
      details(
        [
          server.control("onboarding_start", { tries_left: 2, seconds: 60 }),
          server.control("onboarding_retry", {
            tries_left: 1,
            reason: "Not quite.",
            explanations: [{ dialog_idx: 0, utterance_idx: 1, text: "Because." }],
            wrong: [{ dialog_idx: 0, utterance_idx: 1 }],
          }),
        ],
        { agent_id: "onboarding_1", onboarding },
      ),
    );
    await screen.findByTestId("onboarding-retry");
    expect(latinTexts(container)).toEqual([]);
    fireEvent.click(screen.getByTestId("onboarding-submit"));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each(["passed", "failed"])("when onboarding is %s", async (outcome) => {
    const onboarding = disguise({ annotation: ANNOTATION, dialogs: ONBOARDING.dialogs });
    const told = new Server().control(`onboarding_${outcome}`, { reason: "" });
    const container = await show(details([told], { agent_id: "onboarding_1", onboarding }));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each<[string, (server: Server) => ServerUpdate]>([
    ["complete", (server) => server.control("ended", { outcome: "complete", reason: "" })],
    ["incomplete", (server) => server.control("ended", { outcome: "incomplete", reason: "A fault." })],
    ["stopped", (server) => server.control("ended", { outcome: "incomplete", cause: "stopped", reason: "" })],
    ["timed out", (server) => server.control("ended", { outcome: "incomplete", cause: "timeout", reason: "Over." })],
    ["declined", (server) => server.control("ended", { outcome: "incomplete", cause: "declined", reason: "Fine." })],
    ["broken", (server) => server.control("model_failed", { reason: "" })],
  ])("at the end of a chat that is %s, and when it is handed in", async (_what, end) => {
    const server = new Server();
    const container = await show(details([...opening(server), end(server)]));
    expect(latinTexts(container)).toEqual([]);
    const submit = screen.queryByTestId("submit");
    if (submit !== null) {
      fireEvent.click(submit);
      await waitFor(() => {
        expect(latinTexts(container)).toEqual([]);
      });
    }
  });

  test.each(["timeout", "disconnect", "returned", "expired"])("when Mephisto says %s", async (status) => {
    const container = await show(details(opening(new Server())));
    act(() => socket?.onStatus(status));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each([
    "acceptability",
    "attention",
    "blocked",
    "not_invited",
    "onboarding",
    "nothing_new",
    "maximum",
    "concurrent",
    "trouble",
    "all_taken",
    "all_done",
    "stopped",
    "practising",
    "no_id",
    "unfilled_id",
    "doubled_id",
    "invalid_id",
    "link_invalid",
    "link_expired",
    "link_used",
    "ended",
    "technical",
    "a newer server's",
  ])("when a worker is refused for %s", async (refusal) => {
    const container = await show(details([], { agent_id: null, failure_reason: "ж", refusal }));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each([
    "You are not currently qualified to work on this task",
    "You appear to have already completed this task",
    "There is currently no available work",
  ])("when Mephisto's own sentence is “%s…”", async (failure_reason) => {
    const container = await show(details([], { agent_id: null, failure_reason }));
    expect(latinTexts(container)).toEqual([]);
  });

  test.each(["complete", "incomplete", "screened_out", "declined", "no_work", "model_failed", "timed_out", "blocked"])(
    "at the ending %s of a panel",
    async (kind) => {
      const ending = {
        kind,
        code: "77",
        url: "https://example.org/",
        seconds: 10,
        text: "ж",
      } as AgentDetails["ending"];
      const container = await show(details([], { agent_id: null, failure_reason: "ж", refusal: "ended", ending }), {
        isPanel: true,
      });
      await screen.findByTestId("completion-code");
      expect(latinTexts(container)).toEqual([]);
    },
  );

  test("in the preview of a platform", async () => {
    expect(latinTexts(await show(details([]), { preview: true }))).toEqual([]);
  });
});
