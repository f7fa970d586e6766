import { act, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState, type ReactElement } from "react";
import { describe, expect, it } from "vitest";
import { expectAccessible } from "../../../test/axe";
import { CONFIG, RULES, Server, play } from "../../../test/updates";
import type { Json } from "../../protocol";
import { initialState, reduce, toPacket, type Event, type State } from "../../state/conversation";
import { screenOf } from "../../state/screen";
import PageScreen from "./PageScreen";
import ReplyItems from "./ReplyItems";

const OPTIONS = ["tone", "facts", "speed"];
const ALL_KINDS = [
  { id: "scale", kind: "scale", question: "Scale?", points: 7, low: "low", high: "high", not_applicable: true },
  { id: "choice", kind: "choice", question: "Choice?", options: OPTIONS, other: true },
  { id: "many", kind: "choice", question: "Many?", options: OPTIONS, many: true },
  { id: "text", kind: "text", question: "Text?", min_chars: 3, max_chars: 100 },
  { id: "number", kind: "number", question: "Number?", min: 1, max: 9 },
  { id: "slider", kind: "slider", question: "Slider?", low: "cold", high: "warm" },
  { id: "ranking", kind: "ranking", question: "Ranking?", options: OPTIONS },
  { id: "ends", kind: "best_worst", question: "Ends?", options: OPTIONS },
  { id: "matrix", kind: "matrix", question: "Matrix?", rows: ["a", "b"], points: 5 },
];

function ask(server: Server, page: Json, idx = 0): ReturnType<Server["control"]> {
  return server.control("your_turn", { ask: "page", turn_idx: idx, page_idx: idx, num_pages: 3, seconds: 60, page });
}

function questions(items: Json[]): State {
  return play(initialState(RULES), ask(new Server(), { id: "p", kind: "questions", title: "About you", items }));
}

/** A page that lives: what the worker does goes through the reducer. */
function Live({ first, note }: { first: State; note: (state: State) => void }): ReactElement {
  const [state, setState] = useState(first);
  note(state);
  const apply = (event: Event): void => {
    setState((before) => reduce(before, event));
  };
  const { page } = state.view;
  if (page === null) return <p>no page</p>;
  return (
    <PageScreen
      config={CONFIG}
      state={state}
      page={page}
      connected
      justBack={false}
      dispatch={apply}
      onSend={() => {
        apply({ type: "sent", messageId: "m1", at: 1 });
      }}
      onMoreTime={() => undefined}
    />
  );
}

function open(first: State): { state: () => State; container: Element } {
  let last = first;
  const { container } = render(
    <Live
      first={first}
      note={(state) => {
        last = state;
      }}
    />,
  );
  return { state: () => last, container };
}

function card(id: string): HTMLElement {
  return screen.getByTestId(`item-${id}`);
}

function sentAnswers(state: State): unknown {
  if (state.pending === null) throw new Error("nothing was sent");
  return (toPacket(state.pending, state).task_data as Json).answers;
}

async function focusOn(user: ReturnType<typeof userEvent.setup>, element: HTMLElement): Promise<void> {
  for (let step = 0; step < 200 && document.activeElement !== element; step += 1) await user.tab();
  expect(element).toHaveFocus();
}

describe("a page of questions", () => {
  it("of all kinds is accessible, empty and with everything pointed out", async () => {
    const user = userEvent.setup();
    const { container } = open(questions(ALL_KINDS));
    await expectAccessible(container);
    await user.click(screen.getByTestId("continue"));
    expect(screen.getAllByText("Please answer this question.")).toHaveLength(9);
    expect(screen.getByText("9 questions still to answer.", { selector: "[data-testid=send-reason]" })).toBeVisible();
    await expectAccessible(container);
  });

  it("is answered with the keyboard alone", async () => {
    const user = userEvent.setup();
    const { state } = open(questions(ALL_KINDS));
    await focusOn(user, within(card("scale")).getByRole("radio", { name: "1, low" }));
    await user.keyboard(" {ArrowRight}{ArrowRight}");
    await focusOn(user, within(card("choice")).getByRole("radio", { name: "tone" }));
    await user.keyboard(" {ArrowDown}");
    await focusOn(user, within(card("many")).getByRole("checkbox", { name: "facts" }));
    await user.keyboard(" ");
    await focusOn(user, within(card("text")).getByRole("textbox"));
    await user.keyboard("Fine by me.");
    await focusOn(user, within(card("number")).getByRole("textbox"));
    await user.keyboard("7,5");
    await focusOn(user, within(card("slider")).getByRole("slider"));
    await user.keyboard(" ");
    await focusOn(user, within(card("ranking")).getByRole("button", { name: "Place “speed” as number 1" }));
    await user.keyboard("{Enter}");
    expect(within(card("ranking")).getByRole("button", { name: "Place “facts” as number 2" })).toHaveFocus();
    await user.keyboard("{Enter}{Enter}");
    expect(within(card("ranking")).getByRole("status")).toHaveTextContent("“tone” is number 3 of 3.");
    await user.click(within(card("ranking")).getByRole("button", { name: "Move “tone” up" }));
    await focusOn(user, within(card("ends")).getByRole("radio", { name: "Best: tone" }));
    await user.keyboard(" ");
    await user.click(within(card("ends")).getByRole("radio", { name: "Worst: speed" }));
    for (const row of ["a", "b"]) {
      await focusOn(
        user,
        within(card("matrix")).getAllByRole("radio", { name: "1" })[row === "a" ? 0 : 1] as HTMLElement,
      );
      await user.keyboard(" ");
    }
    await user.click(screen.getByTestId("continue"));
    expect(sentAnswers(state())).toEqual({
      scale: 3,
      choice: "facts",
      many: ["facts"],
      text: "Fine by me.",
      number: 7.5,
      slider: 50,
      ranking: ["speed", "tone", "facts"],
      ends: { best: "tone", worst: "speed" },
      matrix: { a: 1, b: 1 },
    });
  });

  it("takes number keys for the points of a scale, and for nothing else but text", async () => {
    const user = userEvent.setup();
    const pressed: boolean[] = [];
    const listen = (event: KeyboardEvent): void => {
      pressed.push(event.defaultPrevented);
    };
    document.addEventListener("keydown", listen);
    const { state } = open(questions(ALL_KINDS));
    act(() => {
      within(card("scale")).getByRole("radio", { name: "1, low" }).focus();
    });
    await user.keyboard("5");
    expect(within(card("scale")).getByRole("radio", { name: "5" })).toBeChecked();
    act(() => {
      within(card("many")).getByRole("checkbox", { name: "facts" }).focus();
    });
    await user.keyboard("2");
    expect(state().draft.forms["page:p"]).toEqual({ scale: 5 });
    await user.type(within(card("number")).getByRole("textbox"), "7");
    expect(state().draft.forms["page:p"]).toEqual({ scale: 5, number: "7" });
    document.removeEventListener("keydown", listen);
    expect(pressed).toEqual([true, true, false]);
  });

  it("leads to the first question without an answer", async () => {
    const user = userEvent.setup();
    open(questions(ALL_KINDS));
    await user.click(within(screen.getByTestId("item-scale")).getByRole("radio", { name: "4" }));
    await user.click(screen.getByTestId("continue"));
    expect(within(screen.getByTestId("item-choice")).getByRole("radio", { name: "tone" })).toHaveFocus();
  });

  it("shows a question only after the answer that it hangs on", async () => {
    const user = userEvent.setup();
    const { state } = open(
      questions([
        { id: "trained", kind: "choice", question: "Trained?", options: ["yes", "no"] },
        { id: "years", kind: "number", question: "Years?", show_if: { trained: ["yes"] } },
      ]),
    );
    expect(screen.queryByTestId("item-years")).toBeNull();
    await user.click(screen.getByRole("radio", { name: "yes" }));
    await user.type(screen.getByRole("textbox"), "3");
    await user.click(screen.getByRole("radio", { name: "no" }));
    expect(screen.queryByTestId("item-years")).toBeNull();
    await user.click(screen.getByTestId("continue"));
    expect(sentAnswers(state())).toEqual({ trained: "no" });
  });

  it("has no position of a slider that nobody has set", () => {
    open(questions([{ id: "s", kind: "slider", question: "Slider?" }]));
    expect(screen.getByRole("slider")).toHaveAttribute("aria-valuetext", "not set");
  });

  it("never has one option as best and worst", async () => {
    const user = userEvent.setup();
    const { state } = open(questions([{ id: "e", kind: "best_worst", question: "Ends?", options: OPTIONS }]));
    for (const name of ["Best: tone", "Worst: facts", "Best: facts", "Worst: speed"])
      await user.click(screen.getByRole("radio", { name }));
    await user.click(screen.getByTestId("continue"));
    expect(sentAnswers(state())).toEqual({ e: { best: "facts", worst: "speed" } });
  });

  it("keeps the answers and says why where the server refuses them", () => {
    const server = new Server();
    let state = play(
      initialState(RULES),
      ask(server, { id: "p", kind: "questions", items: [{ id: "s", kind: "scale", question: "Scale?" }] }),
    );
    state = reduce(state, { type: "entered", form: "page:p", item: "s", entry: 4 });
    state = reduce(state, { type: "sent", messageId: "m1", at: 1 });
    state = play(
      state,
      server.control("refused", { message_id: "m1", code: "answer_invalid", reason: "“Scale?” Please choose." }),
    );
    expect(state.pending).toBeNull();
    open(state);
    expect(screen.getByTestId("refusal")).toHaveTextContent("“Scale?” Please choose.");
    expect(screen.getByRole("radio", { name: "4" })).toBeChecked();
  });
});

describe("the way through the pages", () => {
  const text = { id: "t", kind: "text", text: "Read <b>this</b>.", items: [] };

  it("keeps a page in sight until the next one comes, and then shows the chat", () => {
    const server = new Server();
    let state = play(initialState(RULES), ask(server, text));
    const shown = (): string =>
      screenOf({
        phase: { kind: "live", agentId: "1", onboarding: null },
        config: CONFIG,
        state,
        connection: "connected",
        justBack: false,
        handIn: "none",
        gone: null,
        renewed: false,
      });
    state = reduce(state, { type: "sent", messageId: "m1", at: 1 });
    expect(shown()).toBe("page");
    state = play(state, server.control("page_done", { page: "t", message_id: "m1", answers: {} }));
    expect(state.pending).toBeNull();
    expect(shown()).toBe("page");
    state = play(state, server.start());
    expect(shown()).toBe("chat");
    state = play(state, server.control("rating_done", { message_id: "m2", final_rating: [1, 2] }));
    expect(shown()).toBe("loading");
    state = play(state, ask(server, { ...text, id: "t2" }, 2));
    expect(shown()).toBe("page");
  });

  it("drops what another tab has answered, without a word", () => {
    const server = new Server();
    let state = play(initialState(RULES), ask(server, text));
    state = reduce(state, { type: "sent", messageId: "mine", at: 1 });
    state = play(
      state,
      server.control("page_done", { page: "t", message_id: "theirs", answers: {} }),
      ask(server, { ...text, id: "t2" }, 1),
    );
    expect(state.pending).toBeNull();
    expect(state.notice).toBeNull();
  });

  it.each([
    ["accept", "accept"],
    ["decline", "decline"],
  ])("%ss a page of consent with one press", async (button, consent) => {
    const user = userEvent.setup();
    const page = { id: "c", kind: "consent", text: "We study chats.\n\nPlease.", items: [], decline: "No, thanks" };
    const { state, container } = open(play(initialState(RULES), ask(new Server(), page)));
    await expectAccessible(container);
    expect(screen.getByTestId("decline")).toHaveTextContent("No, thanks");
    await user.click(screen.getByTestId(button));
    expect(sentAnswers(state())).toEqual({ consent });
  });

  it("forgets what was entered once the worker has declined", () => {
    const server = new Server();
    let state = questions([{ id: "s", kind: "scale", question: "Scale?" }]);
    state = reduce(state, { type: "entered", form: "page:p", item: "s", entry: 4 });
    expect(state.draft.forms).not.toEqual({});
    server.control("x");
    state = play(state, server.control("ended", { outcome: "incomplete", cause: "declined", reason: "Fine." }));
    expect(state.draft.forms).toEqual({});
  });
});

describe("questions about a reply", () => {
  function chat(): State {
    const server = new Server();
    return play(
      initialState({ ...RULES, annotation: null }),
      server.control("reply_items", {
        every_reply: [
          { id: "trust", kind: "scale", question: "Trust?" },
          { id: "wrong", kind: "highlight", question: "Wrong?", required: false },
        ],
        last_reply: [{ id: "better", kind: "text", question: "Better?" }],
      }),
      server.start(),
      server.say(1, "I like tea 🍵 and milk."),
      server.control("your_turn", { ask: "message", turn_idx: 0, num_turns: 3, seconds: 60 }),
    );
  }

  function LiveReply({ note }: { note: (state: State) => void }): ReactElement {
    const [state, setState] = useState(chat);
    note(state);
    return (
      <ReplyItems
        state={state}
        pointedOut={false}
        dispatch={(event) => {
          setState((before) => reduce(before, event));
        }}
      />
    );
  }

  it("go with the next message, with spans counted in characters", async () => {
    const user = userEvent.setup();
    let state = chat();
    const { container } = render(
      <LiveReply
        note={(now) => {
          state = now;
        }}
      />,
    );
    expect(screen.queryByTestId("item-better")).toBeNull();
    await user.click(screen.getByRole("radio", { name: "2" }));
    await focusOn(user, screen.getByRole("button", { name: "I" }));
    await user.keyboard("{ArrowRight}{ArrowRight} {Shift>}{ArrowRight}{/Shift}");
    expect(screen.getByRole("button", { name: "tea" })).toHaveAttribute("aria-pressed", "true");
    await expectAccessible(container);
    state = reduce(state, { type: "typed", text: "Yes.", at: 1 });
    state = reduce(state, { type: "sent", messageId: "m1", at: 1 });
    const { pending } = state;
    expect(pending === null ? null : (toPacket(pending, state).task_data as Json).reply_answers).toEqual({
      trust: 2,
      wrong: [{ start: 7, end: 12 }],
    });
  });

  it("hold a message back until they are answered", () => {
    const state = reduce(chat(), { type: "typed", text: "Yes.", at: 1 });
    expect(reduce(state, { type: "sent", messageId: "m1", at: 1 }).pending).toBeNull();
  });
});
