/** What is counted of how a message is written, with the events that browsers send; and who is not suspected. */

import { createEvent, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Chat } from "../../test/screens";
import { CONFIG, RULES, Server, opened, play } from "../../test/updates";
import type { Json } from "../protocol";
import PageScreen from "./items/PageScreen";
import { Memory } from "../state/memory";
import { initialState, reduce, toPacket, type Event, type Rules, type State } from "../state/conversation";

const COUNTING = { ...CONFIG, record_authenticity: true, annotation: null };
const RULES_COUNTING = { ...RULES, annotation: null, counting: true };
const NOTHING = { pasted_characters: 0, times_away: 0, keys: 0 };

function begun(rules: Rules = RULES_COUNTING): State {
  const before = opened(new Server());
  return reduce(initialState(rules), { type: "caught_up", log: before.log });
}

/** A chat whose events are kept; `sent` is what a message would carry now. */
function open(
  state = begun(),
  config = COUNTING,
): { field: HTMLTextAreaElement; sent: () => unknown; last: () => State } {
  let now = state;
  render(
    <Chat
      state={state}
      config={config}
      spy={(event: Event) => {
        now = reduce(now, event);
      }}
    />,
  );
  return { field: screen.getByTestId("composer"), last: () => now, sent: () => countsOf(now) };
}

function countsOf(state: State): unknown {
  const at = Date.now();
  // Something has to be there to be sent; it is not counted here.
  const ready = state.draft.text === "" ? { ...state, draft: { ...state.draft, text: "x" } } : state;
  const after = reduce(ready, { type: "sent", messageId: "m1", at });
  if (after.pending === null) throw new Error("nothing was sent");
  return (toPacket(after.pending, after).task_data as Json).authenticity;
}

/** A change of the field as a browser tells it: a key perhaps, what is about to be put in, and that it was. */
function insert(field: HTMLTextAreaElement, inputType: string, data: string | null, text = data ?? ""): void {
  field.dispatchEvent(new InputEvent("beforeinput", { inputType, data, bubbles: true, cancelable: true }));
  const { value, selectionStart, selectionEnd } = field;
  fireEvent(
    field,
    createEvent.input(field, {
      inputType,
      data,
      target: { value: value.slice(0, selectionStart) + text + value.slice(selectionEnd) },
    }),
  );
}

function leave(): void {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
  fireEvent(document, new Event("visibilitychange"));
}

function comeBack(): void {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("visible");
  fireEvent(document, new Event("visibilitychange"));
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("typing", () => {
  test("counts keys that write or delete, and no others", async () => {
    const { field, sent } = open();
    await userEvent.type(field, "Helo{Backspace}lo{ArrowLeft}{ArrowRight}{Home}{End}!{Shift>}{Enter}{/Shift}A");
    expect(field.value).toBe("Hello!\nA");
    expect(sent()).toEqual({ ...NOTHING, keys: 10 });
  });

  test("counts no shortcut, no modifier and no Escape, but letters with AltGr", () => {
    const { field, sent } = open();
    for (const key of ["Shift", "Control", "Alt", "Meta", "Escape", "Tab", "F5", "PageDown"])
      fireEvent.keyDown(field, { key });
    for (const key of ["c", "v", "z"]) fireEvent.keyDown(field, { key, ctrlKey: true });
    fireEvent.keyDown(field, { key: "ArrowDown", ctrlKey: true, altKey: true });
    expect(sent()).toEqual(NOTHING);
    fireEvent.keyDown(field, { key: "@", ctrlKey: true, altKey: true, modifierAltGraph: true });
    insert(field, "insertText", "@");
    expect(sent()).toEqual({ ...NOTHING, keys: 1 });
  });

  test("never sends which keys were pressed", async () => {
    const { field, last } = open();
    await userEvent.type(field, "secret{Backspace}{Backspace}{Backspace}{Backspace}{Backspace}{Backspace}ok");
    expect(JSON.stringify(last().draft.signals)).toBe('{"pasted":0,"keys":2,"away":0}');
    expect(JSON.stringify(countsOf(last()))).toBe('{"pasted_characters":0,"times_away":0,"keys":2}');
  });
});

describe("pasting", () => {
  test("is counted in characters, as the server counts them", async () => {
    const { field, sent } = open();
    await userEvent.type(field, "I: ");
    await userEvent.paste("tea 🍵!");
    expect(field.value).toBe("I: tea 🍵!");
    expect(sent()).toEqual({ pasted_characters: 6, times_away: 0, keys: 3 });
  });

  test.each(["insertFromPaste", "insertFromDrop", "insertFromYank", "insertFromPasteAsQuotation"])(
    "by %s counts, with line ends of every kind as one",
    (inputType) => {
      const { field, sent } = open();
      insert(field, inputType, "a\r\nb\rc\nd");
      expect(sent()).toEqual({ ...NOTHING, pasted_characters: 7 });
    },
  );

  test("is counted by the growth of the field where the browser does not say what was pasted", () => {
    const { field, sent } = open();
    insert(field, "insertText", "w"); // no key: an input method, say
    field.setSelectionRange(0, 1);
    insert(field, "insertFromPaste", null, "pasted");
    expect(sent()).toEqual({ pasted_characters: 6, times_away: 0 });
  });

  test.each(["cut", "copy", "dragstart"])("of what was moved by %s within the field is not counted", (how) => {
    const { field, sent } = open();
    insert(field, "insertFromPaste", "first last");
    field.setSelectionRange(0, 6);
    fireEvent(field, new Event(how, { bubbles: true }));
    field.setSelectionRange(10, 10);
    insert(field, "insertFromPaste", "first ");
    expect(sent()).toEqual({ ...NOTHING, pasted_characters: 10 });
    insert(field, "insertFromPaste", "other");
    expect(sent()).toEqual({ ...NOTHING, pasted_characters: 15 });
  });

  test("of something that was removed again altogether is forgotten", () => {
    const { field, sent } = open();
    insert(field, "insertFromPaste", "by mistake");
    field.setSelectionRange(0, 10);
    insert(field, "deleteContentBackward", null);
    expect(field.value).toBe("");
    fireEvent.keyDown(field, { key: "H" });
    insert(field, "insertText", "H");
    expect(sent()).toEqual({ ...NOTHING, keys: 1 });
  });
});

describe("nobody is suspected for how they write", () => {
  const COMPOSED = { pasted_characters: 0, times_away: 0 };

  test("an input method: its keys and its words are no keys and no pasting", () => {
    const { field, sent } = open();
    fireEvent.keyDown(field, { key: "Process", keyCode: 229 });
    fireEvent.compositionStart(field);
    for (const part of ["n", "ni", "你"]) {
      fireEvent.keyDown(field, { key: "Process", keyCode: 229, isComposing: true });
      insert(field, "insertCompositionText", part, "");
    }
    fireEvent.compositionEnd(field, { data: "你" });
    insert(field, "insertFromComposition", "你好");
    expect(sent()).toEqual(COMPOSED);
  });

  test.each([
    ["dictation, word by word", "insertText", "Hello there "],
    ["dictation of a single letter, without a key", "insertText", "I"],
    ["autocorrect", "insertReplacementText", "their"],
    ["a word suggested by a phone's keyboard", "insertCompositionText", "their"],
    ["assistive technology that sets the text", "", null],
    ["a kind of change of tomorrow", "insertBySpell", "abracadabra"],
  ])("%s makes the keys unknown, and is no pasting", (_name, inputType, data) => {
    const { field, sent } = open();
    fireEvent.keyDown(field, { key: "O" });
    insert(field, "insertText", "O");
    insert(field, inputType, data, "put in");
    fireEvent.keyDown(field, { key: "k" });
    insert(field, "insertText", "k");
    expect(sent()).toEqual(COMPOSED);
  });

  test("an input event without a kind, as extensions send it, makes the keys unknown", () => {
    const { field, sent } = open();
    fireEvent.input(field, { target: { value: "All at once" } });
    expect(sent()).toEqual(COMPOSED);
  });

  test("the next message's keys are known again", () => {
    const { field, last } = open();
    insert(field, "insertText", "Dictated text");
    const after = reduce(last(), { type: "sent", messageId: "m1", at: 1 });
    expect(after.draft.signals).toEqual({ pasted: 0, keys: 0, away: 0 });
  });

  test("a screen reader that browses the page and moves the focus counts nothing", () => {
    const { field, sent } = open();
    for (const key of ["ArrowDown", "ArrowUp", "h", "k", "b"]) fireEvent.keyDown(document.body, { key });
    for (let times = 0; times < 5; times += 1) {
      fireEvent.blur(field);
      fireEvent.blur(window);
      fireEvent.focus(window);
      fireEvent.focus(field);
    }
    fireEvent.keyDown(field, { key: "ArrowRight", ctrlKey: true, altKey: true });
    fireEvent.keyDown(field, { key: "CapsLock" });
    expect(sent()).toEqual(NOTHING);
  });
});

describe("leaving the page", () => {
  test("counts once for each time that the worker comes back, a locked phone included", () => {
    const { sent } = open();
    leave();
    expect(sent()).toEqual(NOTHING); // a page that is closed or reloaded is hidden, too
    comeBack();
    comeBack();
    leave();
    leave();
    comeBack();
    expect(sent()).toEqual({ ...NOTHING, times_away: 2 });
  });

  test("while the reply is awaited does not count", () => {
    const waiting = reduce(reduce(begun(), { type: "typed", text: "Hello.", at: 1 }), {
      type: "sent",
      messageId: "m1",
      at: 2,
    });
    const { last } = open(waiting);
    leave();
    comeBack();
    expect(last().draft.signals).toEqual({ pasted: 0, keys: 0, away: 0 });
  });

  test("stays counted where the field is emptied", async () => {
    const { field, sent } = open();
    leave();
    comeBack();
    await userEvent.type(field, "a{Backspace}b");
    expect(sent()).toEqual({ pasted_characters: 0, times_away: 1, keys: 1 });
  });
});

describe("counts go with their message", () => {
  function written(at = 5): State {
    return reduce(begun(), { type: "typed", text: "Hello.", at, counted: { pasted: 4, keys: 2 } });
  }

  test("once: what is sent again is the same, and the next message begins at 0", () => {
    const sent = reduce(written(), { type: "sent", messageId: "m1", at: 6 });
    if (sent.pending === null) throw new Error("nothing was sent");
    const first = toPacket(sent.pending, sent);
    const later = reduce(reduce(sent, { type: "typed", text: "Next", at: 7, counted: { keys: 4 } }), {
      type: "returned",
    });
    expect(toPacket(sent.pending, later)).toEqual(first);
    expect(later.draft.signals).toEqual({ pasted: 0, keys: 4, away: 1 });
  });

  test("come back with a message that was refused, added to those of what was written since", () => {
    const server = new Server();
    const state = reduce(initialState(RULES_COUNTING), { type: "caught_up", log: opened(server).log });
    const sent = [
      { type: "typed", text: "Hello.", at: 5, counted: { pasted: 4, keys: 2 } },
      { type: "sent", messageId: "m1", at: 6 },
      { type: "typed", text: "More", at: 7, counted: { keys: 4 } },
    ].reduce((before, event) => reduce(before, event as Event), state);
    const refused = play(sent, server.control("refused", { message_id: "m1", code: "too_long", reason: "Too long." }));
    expect(refused.draft).toMatchObject({ text: "Hello.\nMore", signals: { pasted: 4, keys: 6, away: 0 } });
  });

  test("are neither lost nor doubled by a reload, in the draft and on their way", () => {
    const storage = new Map<string, string>();
    const memory = new Memory({
      getItem: (key: string) => storage.get(key) ?? null,
      setItem: (key: string, value: string) => storage.set(key, value),
    } as unknown as Storage);
    const sent = reduce(reduce(written(), { type: "sent", messageId: "m1", at: 6 }), {
      type: "typed",
      text: "Next",
      at: 7,
      counted: { keys: 4 },
    });
    memory.keep("7", sent);
    const fresh = reduce(initialState(RULES_COUNTING), { type: "caught_up", log: sent.log });
    const kept = memory.recall("7", fresh);
    if (kept?.pending == null) throw new Error("nothing was kept");
    const back = reduce(fresh, { type: "restored", ...kept });
    expect(back.draft.signals).toEqual({ pasted: 0, keys: 4, away: 0 });
    if (sent.pending === null) throw new Error("nothing was sent");
    expect(toPacket(kept.pending, back)).toEqual(toPacket(sent.pending, sent));
  });

  test.each([undefined, null, 7, {}, { pasted: -1, keys: 1.5, away: "2" }, { pasted: 1e300, keys: {}, away: NaN }])(
    "a draft from storage with the counts %j is read as one whose keys are not known",
    (signals) => {
      const before = written();
      const draft = { ...before.draft, signals } as unknown as State["draft"];
      const state = reduce(before, { type: "restored", draft, pending: null });
      expect(state.draft.signals).toEqual({ pasted: 0, keys: null, away: 0 });
    },
  );
});

describe("without the flag", () => {
  test("nothing is counted and nothing is sent", async () => {
    const rules = { ...RULES, annotation: null };
    const { field, sent, last } = open(begun(rules), { ...COUNTING, record_authenticity: false });
    await userEvent.type(field, "Hi");
    await userEvent.paste(" there");
    leave();
    comeBack();
    expect(last().draft.signals).toBeNull();
    expect(sent()).toBeUndefined();
  });

  test("counts in storage from before are dropped", () => {
    const rules = { ...RULES, annotation: null };
    const draft = { ...begun(rules).draft, signals: { pasted: 1, keys: 1, away: 1 } };
    expect(reduce(begun(rules), { type: "restored", draft, pending: null }).draft.signals).toBeNull();
  });
});

test("only messages carry counts: neither ratings nor pages do", () => {
  const server = new Server();
  const state = play(
    reduce(initialState(RULES_COUNTING), { type: "caught_up", log: opened(server).log }),
    server.control("your_turn", { ask: "final_rating", turn_idx: 3, num_turns: 3, seconds: 60 }),
  );
  const rated = [0, 1].reduce((before, question) => reduce(before, { type: "rated", question, rating: 4 }), state);
  const sent = reduce(reduce(rated, { type: "returned" }), { type: "sent", messageId: "m1", at: 1 });
  if (sent.pending === null) throw new Error("nothing was sent");
  expect(toPacket(sent.pending, sent).task_data).not.toHaveProperty("authenticity");
});

describe("the page of consent", () => {
  const consent = (server: Server): ReturnType<Server["control"]> =>
    server.control("your_turn", {
      ask: "page",
      turn_idx: 0,
      page_idx: 0,
      num_pages: 2,
      seconds: 60,
      page: { id: "agree", kind: "consent", text: "We study chats.", items: [] },
    });

  function show(state: State, config = COUNTING): void {
    if (state.view.page === null) throw new Error("no page");
    render(
      <PageScreen
        config={config}
        state={state}
        page={state.view.page}
        connected
        justBack={false}
        dispatch={() => undefined}
        onSend={() => undefined}
        onMoreTime={() => undefined}
      />,
    );
  }

  test("says what is counted before the worker decides", () => {
    show(play(initialState(RULES_COUNTING), consent(new Server())));
    const note = screen.getByTestId("authenticity");
    expect(note).toHaveTextContent("counts how many characters you paste");
    expect(note.compareDocumentPosition(screen.getByTestId("accept"))).toBe(Node.DOCUMENT_POSITION_FOLLOWING);
  });

  test("has no sentence about it where nothing is counted", () => {
    show(play(initialState(RULES), consent(new Server())), { ...COUNTING, record_authenticity: false });
    expect(screen.queryByTestId("authenticity")).toBeNull();
  });

  test("has no sentence about it after the chat, where all has been counted", () => {
    const server = new Server();
    show(play(reduce(initialState(RULES_COUNTING), { type: "caught_up", log: opened(server).log }), consent(server)));
    expect(screen.queryByTestId("authenticity")).toBeNull();
  });
});
