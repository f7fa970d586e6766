import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { App } from "./App";
import { RequestError } from "./mephisto/http";
import type { SocketListener } from "./mephisto/socket";
import { Session, type SessionParts } from "./session";
import { Memory } from "./state/memory";
import { expectAccessible } from "../test/axe";
import { textsWithSiblings } from "../test/texts";
import { ANNOTATION, CONFIG, Server } from "../test/updates";
import type { AgentDetails, ServerUpdate } from "./protocol";

let server: Server;
let socket: SocketListener | null;
const sessions: Session[] = [];

beforeEach(() => {
  server = new Server();
  socket = null;
});

afterEach(() => {
  for (const session of sessions.splice(0)) session.stop();
});

function details(updates: ServerUpdate[] = [], more: Partial<AgentDetails> = {}): AgentDetails {
  return {
    agent_id: "1",
    failure_reason: null,
    refusal: null,
    ending: null,
    visitor: null,
    past_updates: updates,
    onboarding: null,
    clock_offset: 0,
    ...more,
  };
}

/** The page with what the server answers; the connection itself has tests of its own. */
function show(
  answer: AgentDetails,
  more: Partial<SessionParts> = {},
  config = CONFIG,
): { container: HTMLElement; session: Session } {
  const session = new Session({
    http: {
      taskConfig: () => Promise.resolve(config),
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
    hasPlatform: false,
    handInToProvider: () => undefined,
    ...more,
  });
  sessions.push(session);
  const { container } = render(<App session={session} />);
  void session.start();
  return { container, session };
}

async function onScreen(container: HTMLElement, name: string): Promise<void> {
  await waitFor(() => {
    expect(container.firstElementChild).toHaveAttribute("data-screen", name);
  });
}

const opening = (): ServerUpdate[] => [
  server.start(),
  server.say(0, "Hi!", {}, true),
  server.say(1, "Hello."),
  server.yourTurn(0),
];

test.each<[string, string, () => AgentDetails, string | null]>([
  ["loading", "Preparing your chat…", () => details(), null],
  ["chat", "A chat", () => details(opening()), null],
  ["rating", "A chat", () => details([...opening(), server.yourTurn(3, { ask: "final_rating" })]), null],
  [
    "finished",
    "All done. Thank you!",
    () => details([...opening(), server.control("ended", { outcome: "complete", reason: "" })]),
    null,
  ],
  [
    "finished",
    "The chat has ended",
    () => details([...opening(), server.control("ended", { outcome: "incomplete", reason: "A fault." })]),
    null,
  ],
  [
    "finished",
    "There is no chat left for you",
    () => details([server.control("ended", { outcome: "incomplete", reason: "All are given out." })]),
    null,
  ],
  [
    "model-failed",
    "The chat can’t continue",
    () =>
      details([
        ...opening(),
        server.control("model_failed", { reason: "It broke." }),
        server.control("ended", { outcome: "incomplete", reason: "" }),
      ]),
    null,
  ],
  ["timeout", "The time is up", () => details(opening()), "timeout"],
  ["disconnected", "The chat has ended", () => details(opening()), "disconnect"],
  ["disconnected", "You have returned this task", () => details(opening()), "returned"],
  ["disconnected", "This task has expired", () => details(opening()), "expired"],
  [
    "blocked",
    "This task isn’t open to you",
    () => details([], { agent_id: null, failure_reason: "You are not currently qualified to work on this task..." }),
    null,
  ],
  [
    "blocked",
    "This task isn’t open to you",
    () => details([], { agent_id: null, failure_reason: "Closed for your account.", refusal: "blocked" }),
    null,
  ],
  [
    "no-work",
    "You have done your share",
    () => details([], { agent_id: null, failure_reason: "As many as one person may do.", refusal: "maximum" }),
    null,
  ],
  [
    "no-work",
    "There is no work at the moment",
    () => details([], { agent_id: null, failure_reason: "A newer server's reason.", refusal: "unheard_of" }),
    null,
  ],
  [
    "no-work",
    "There is no work at the moment",
    () => details([], { agent_id: null, failure_reason: "There is currently no available work..." }),
    null,
  ],
  [
    "failed",
    "Thank you for trying",
    () =>
      details([server.control("onboarding_failed", { reason: "Too different." })], {
        agent_id: "onboarding_1",
        onboarding: { annotation: ANNOTATION, dialogs: [] },
      }),
    null,
  ],
  [
    "loading",
    "Well done!",
    () =>
      details([server.control("onboarding_passed")], {
        agent_id: "onboarding_1",
        onboarding: { annotation: ANNOTATION, dialogs: [] },
      }),
    null,
  ],
])("the screen “%s” with the heading “%s”", async (name, heading, answer, status) => {
  const { container } = show(answer());
  if (status !== null) {
    await waitFor(() => {
      expect(socket).not.toBeNull();
    });
    act(() => socket?.onStatus(status));
  }
  await onScreen(container, name);
  expect(screen.getByRole("heading", { level: 1 })).toHaveTextContent(heading);
  expect(textsWithSiblings(container)).toEqual([]);
  await expectAccessible(container);
});

test("a preview shows the description and says that the task has to be accepted", async () => {
  const { container } = show(details(), { preview: true });
  await onScreen(container, "preview");
  expect(screen.getByRole("banner")).toHaveTextContent("Accept the task on the platform to start.");
  expect(screen.getByRole("heading", { name: "What to do" })).toBeVisible();
  await expectAccessible(container);
});

test("a server that can't be reached has a screen of its own, which goes away by itself", async () => {
  let answers = 0;
  const { container } = show(details(), {
    http: {
      taskConfig: () => {
        answers += 1;
        return answers < 3 ? Promise.reject(new RequestError("no answer")) : Promise.resolve(CONFIG);
      },
      requestAgent: () => Promise.resolve(details(opening())),
      submitOnboarding: () => new Promise(() => undefined),
      submitTask: () => Promise.resolve(),
      logError: () => Promise.resolve(),
    },
  });
  await waitFor(
    () => {
      expect(container.firstElementChild).toHaveAttribute("data-screen", "lost");
    },
    { timeout: 3_000 },
  );
  await waitFor(
    () => {
      expect(container.firstElementChild).toHaveAttribute("data-screen", "chat");
    },
    { timeout: 5_000 },
  );
});

test("the focus goes to the heading of a screen that appears", async () => {
  const { container } = show(details(opening()));
  await onScreen(container, "chat");
  act(() => socket?.onUpdate(server.control("ended", { outcome: "complete", reason: "" })));
  expect(screen.getByRole("heading", { level: 1, name: "All done. Thank you!" })).toHaveFocus();
});

test("submitting ends on a screen that confirms it", async () => {
  const { container } = show(details([server.control("ended", { outcome: "complete", reason: "" })]));
  await onScreen(container, "finished");
  await userEvent.click(screen.getByTestId("submit"));
  expect(await screen.findByTestId("submitted")).toBeVisible();
  expect(screen.getByRole("heading", { level: 1, name: "Your work is handed in" })).toHaveFocus();
  expect(screen.queryByTestId("submit")).toBeNull();
  await expectAccessible(container);
});

test("on a platform that did not leave the page the work can be handed over again", async () => {
  const handInToProvider = vi.fn();
  const { container } = show(details([server.control("ended", { outcome: "complete", reason: "" })]), {
    hasPlatform: true,
    handInToProvider,
  });
  await onScreen(container, "finished");
  await userEvent.click(screen.getByTestId("submit"));
  await userEvent.click(await screen.findByRole("button", { name: /Submit to the platform again/ }));
  expect(handInToProvider).toHaveBeenCalledTimes(2);
});

test("an error of the page is shown as one and reported, not left blank", async () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined); // React's own report of the error
  const quiet = (event: Event): void => {
    event.preventDefault(); // and jsdom's
  };
  window.addEventListener("error", quiet);
  const noBuckets = { question: "", show_line_breaks: false } as unknown as typeof ANNOTATION;
  const { container, session } = show(details(), {
    http: {
      taskConfig: () => Promise.resolve({ ...CONFIG, annotation: noBuckets }),
      requestAgent: () => Promise.resolve(details(opening())),
      submitOnboarding: () => new Promise(() => undefined),
      submitTask: () => Promise.resolve(),
      logError: vi.fn(() => Promise.resolve()),
    },
  });
  expect(await screen.findByRole("heading", { name: "Something went wrong on this page" })).toBeVisible();
  expect(session.parts.http.logError).toHaveBeenCalledTimes(1);
  await expectAccessible(container);
  window.removeEventListener("error", quiet);
});

test("a study with Markdown shows its chat once the page can render it, links as the study says", async () => {
  const reply = server.say(1, "**Bold** [x](https://e.org/)");
  const config = { ...CONFIG, reply_format: "markdown" as const, reply_links: true };
  const { container } = show(details([server.start(), reply, server.yourTurn(0)]), {}, config);
  await onScreen(container, "chat");
  await waitFor(
    () => {
      expect(container.querySelector("[data-testid=message] strong")).toHaveTextContent("Bold");
    },
    { timeout: 15_000 },
  );
  expect(container.querySelector("[data-testid=message] a")).toHaveAttribute("rel", "noopener noreferrer nofollow");
});

test("a study without keeps replies as they are", async () => {
  const { container } = show(details([server.start(), server.say(1, "**Bold**"), server.yourTurn(0)]));
  await onScreen(container, "chat");
  expect(container.querySelector("[data-testid=message]")).toHaveTextContent("**Bold**");
});

const ENDING = { kind: "complete", code: "C1DONE88", url: null, seconds: 0, text: "Thank you!" };

test("a panel's participant sees the ending in place of a submit button, and the run is told that they do", async () => {
  const submitTask = vi.fn(() => Promise.resolve());
  const ended = server.control("ended", { outcome: "complete", reason: "", ending: ENDING });
  const { container, session } = show(details([...opening(), ended]), { isPanel: true });
  session.parts.http.submitTask = submitTask;
  await onScreen(container, "ending");
  expect(screen.getByTestId("completion-code")).toHaveTextContent("C1DONE88");
  expect(screen.queryByTestId("submit")).toBeNull();
  await waitFor(() => {
    expect(submitTask).toHaveBeenCalledOnce();
  });
  await onScreen(container, "ending");
});

test.each([
  ["a participant who comes again", { refusal: "ended", ending: ENDING }],
  ["one for whom there is nothing", { refusal: "all_done", ending: { ...ENDING, kind: "no_work" } }],
])("%s is told the ending by the answer", async (_who, more) => {
  const { container } = show(details([], { agent_id: null, failure_reason: "Over.", ...more }), { isPanel: true });
  await onScreen(container, "ending");
  expect(screen.getByTestId("completion-code")).toHaveTextContent("C1DONE88");
});

test("who fails onboarding is told the ending with it", async () => {
  const failed = server.control("onboarding_failed", { reason: "No.", ending: { ...ENDING, kind: "screened_out" } });
  const { container } = show(
    details([failed], { agent_id: "onboarding_1", onboarding: { dialogs: [], annotation: ANNOTATION } }),
    { isPanel: true },
  );
  await onScreen(container, "ending");
});

test("an address that leads back is one of the web, whatever the server says", async () => {
  const ending = { ...ENDING, url: "javascript:alert(1)", seconds: 1 };
  const { container } = show(
    details([...opening(), server.control("ended", { outcome: "complete", reason: "", ending })]),
    { isPanel: true },
  );
  await onScreen(container, "ending");
  expect(screen.queryByTestId("return")).toBeNull();
});
