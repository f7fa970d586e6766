import { act, render, screen } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { expectAccessible } from "../../test/axe";
import { Chat, ONBOARDING_RULES, Onboarding } from "../../test/screens";
import { textsWithSiblings } from "../../test/texts";
import { Server, opened, play } from "../../test/updates";
import { renderMarkdown } from "../lib/markdown";
import { playReplySound } from "../lib/sound";
import { initialState, type State } from "../state/conversation";
import { ChatScreen } from "./ChatScreen";
import { Reply, ReplyFormat } from "./Reply";
import { CONFIG } from "../../test/updates";
import type { ReactElement } from "react";

vi.mock("../lib/sound", () => ({ isSoundOn: () => true, playReplySound: vi.fn(), setSoundOn: vi.fn() }));

const MARKDOWN = { render: renderMarkdown, links: false };
const TEXT = "# Title\n\nSome **bold** text.\n\n```python\nx = 1\n```";

let server: Server;
let waiting: State;

beforeEach(() => {
  vi.mocked(playReplySound).mockClear();
  server = new Server();
  waiting = play(opened(server), server.say(0, "**Fine.**", { message_id: "m1" }));
});

function part(number: number, text: string): Parameters<typeof play>[1] {
  return server.control("reply_part", { utterance_idx: 3, side: null, part: number, text });
}

function Page({ state, format = MARKDOWN }: { state: State; format?: typeof MARKDOWN | null }): ReactElement {
  return (
    <ReplyFormat.Provider value={format}>
      <ChatScreen
        config={CONFIG}
        state={state}
        connected
        justBack={false}
        dispatch={() => undefined}
        onSend={() => undefined}
        onMoreTime={() => undefined}
      />
    </ReplyFormat.Provider>
  );
}

describe("Markdown", () => {
  test("is what the model says, in the opening lines, too, and never what the worker says", () => {
    const seeded = play(
      initialState(waiting.rules),
      server.start(),
      server.say(0, "*mine*", {}, true),
      server.say(1, "*theirs*", {}, true),
      server.say(0, "*mine, too*", { message_id: "m2" }),
      server.say(1, "*an answer*"),
      server.yourTurn(1),
    );
    const { container } = render(<Page state={seeded} />);
    expect([...container.querySelectorAll("em")].map((element) => element.textContent)).toEqual([
      "theirs",
      "an answer",
    ]);
    expect(container).toHaveTextContent("*mine, too*");
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test("is what the model says in the practice", () => {
    const state = play(
      initialState(ONBOARDING_RULES),
      server.control("onboarding_start", { tries_left: 2, seconds: 300 }),
    );
    const { container } = render(
      <ReplyFormat.Provider value={MARKDOWN}>
        <Onboarding state={state} />
      </ReplyFormat.Provider>,
    );
    expect(container.querySelectorAll(".partner .markdown")).toHaveLength(2);
    expect(container.querySelectorAll(".own .markdown")).toHaveLength(0);
  });

  test("is plain text where the study has not asked for it, or where it can't be rendered", () => {
    const { container, rerender } = render(<Reply text={TEXT} />);
    expect(container.querySelector("h3")).toBeNull();
    expect(container.textContent).toBe(TEXT);
    rerender(
      <ReplyFormat.Provider value={{ render: () => null, links: true }}>
        <Reply text={TEXT} />
      </ReplyFormat.Provider>,
    );
    expect(container.textContent).toBe(TEXT);
  });

  test("has nothing that axe finds", async () => {
    const { container } = render(<Page state={play(waiting, server.say(1, TEXT), server.yourTurn(1))} />);
    await expectAccessible(container);
  });

  test("is told browsers not to translate, and changes whatever a translation has put there", () => {
    const { container, rerender } = render(<Page state={play(waiting, part(1, "One *two*"))} />);
    const reply = container.querySelector(".markdown");
    expect(reply).toHaveAttribute("translate", "no");
    expect(reply).toHaveAttribute("lang", "en");
    act(() => {
      for (const element of container.querySelectorAll(".markdown .block")) {
        element.innerHTML = "<p><font><font>Eins zwei</font></font></p>";
      }
    });
    rerender(<Page state={play(waiting, part(1, "One *two*"), part(2, "One *two* three"))} />);
    expect(container.querySelector("[data-testid=growing-reply] .markdown")?.textContent.trim()).toBe("One two three");
  });

  test("gives the keyboard what is wider than the bubble, once the reply is whole", () => {
    vi.spyOn(HTMLElement.prototype, "scrollWidth", "get").mockReturnValue(500);
    const grown = play(waiting, part(1, TEXT));
    const { container, rerender } = render(<Page state={grown} />);
    expect(container.querySelector("pre")).toHaveAttribute("tabindex", "-1");
    rerender(<Page state={play(grown, server.say(1, TEXT), server.yourTurn(1))} />);
    expect(container.querySelector("pre")).toHaveAttribute("tabindex", "0");
  });
});

describe.each([
  ["plain text", null],
  ["Markdown", MARKDOWN],
])("a reply that grows, as %s", (_, format) => {
  test("takes the place of the three dots, and is for the eye alone until it is whole", () => {
    const { rerender } = render(<Page state={waiting} format={format} />);
    const status = screen.getByText("Chat partner is writing");
    expect(screen.getByTestId("typing")).toBeInTheDocument();
    const grown = play(waiting, part(1, "Good"));
    rerender(<Page state={grown} format={format} />);
    expect(screen.queryByTestId("typing")).toBeNull();
    expect(screen.getByText("Chat partner is writing")).toBe(status); // or it would be announced again
    expect(screen.getByTestId("growing-reply")).toHaveAttribute("aria-hidden", "true");
    expect(screen.getByTestId("growing-reply")).toHaveTextContent("Good");
    expect(screen.queryByTestId("annotation")).toBeNull();
    rerender(<Page state={play(grown, server.say(1, "Good to hear."), server.yourTurn(1))} format={format} />);
    expect(screen.queryByTestId("growing-reply")).toBeNull();
    expect(screen.getAllByTestId("message").at(-1)).not.toHaveAttribute("aria-hidden");
    expect(screen.getAllByText("Good to hear.")).toHaveLength(1);
    expect(screen.getByTestId("annotation")).toBeInTheDocument();
  });

  test("keeps its elements when the whole reply comes, so that what is selected stays", () => {
    const grown = play(waiting, part(1, "One.\n\nTwo."));
    const { rerender } = render(<Page state={grown} format={format} />);
    const line = screen.getByTestId("growing-reply");
    const node = line.querySelector(".bubble :is(p, span)")?.firstChild;
    const more = play(grown, part(2, "One.\n\nTwo. Three."));
    rerender(<Page state={more} format={format} />);
    if (format !== null) expect(line.querySelector(".bubble p")?.firstChild).toBe(node);
    rerender(<Page state={play(more, server.say(1, "One.\n\nTwo. Three."), server.yourTurn(1))} format={format} />);
    expect(screen.getAllByTestId("message").at(-1)).toBe(line);
    expect(line.querySelector(".bubble :is(p, span)")?.firstChild).toBe(node);
  });

  test("is signalled once, when it is whole", () => {
    const { rerender } = render(<Page state={waiting} format={format} />);
    const grown = play(waiting, part(1, "Good"), part(2, "Good to"));
    rerender(<Page state={grown} format={format} />);
    expect(playReplySound).not.toHaveBeenCalled();
    rerender(<Page state={play(grown, server.say(1, "Good to hear."), server.yourTurn(1))} format={format} />);
    expect(playReplySound).toHaveBeenCalledTimes(1);
  });
});

describe("while a reply grows, the view", () => {
  let scrolledTo: number[];
  let height: number;

  /** A box of 400 pixels, with a reply that begins at 300. */
  function place(box: HTMLElement, top: number): void {
    Object.defineProperty(box, "clientHeight", { configurable: true, value: 400 });
    Object.defineProperty(box, "scrollHeight", { configurable: true, get: () => height });
    box.scrollTop = top;
    box.dispatchEvent(new Event("scroll", { bubbles: true }));
    vi.spyOn(box, "scrollTo").mockImplementation(((options: ScrollToOptions) => {
      scrolledTo.push(options.top ?? -1);
      expect(options.behavior).toBe("auto");
    }) as typeof box.scrollTo);
  }

  beforeEach(() => {
    scrolledTo = [];
    vi.spyOn(HTMLElement.prototype, "offsetTop", "get").mockReturnValue(320);
  });

  test.each([
    ["follows to the end", 500, 100, 540, 140],
    ["stops at the beginning of the reply", 700, 300, 1000, 300],
    ["stays at the end below the beginning, where the worker has gone", 900, 500, 940, 540],
  ])("%s", (_, before, top, after, expected) => {
    height = before;
    const grown = play(waiting, part(1, "a"));
    const { container, rerender } = render(<Page state={grown} />);
    const box = container.querySelector<HTMLElement>(".scroll");
    if (box === null) throw new Error("no box");
    place(box, top);
    height = after;
    rerender(<Page state={play(grown, part(2, "a b"))} />);
    expect(scrolledTo).toEqual([expected]);
  });

  test("stays where the worker reads, and no button offers what is not whole", () => {
    height = 900;
    const grown = play(waiting, part(1, "a"));
    const { container, rerender } = render(<Page state={grown} />);
    const box = container.querySelector<HTMLElement>(".scroll");
    if (box === null) throw new Error("no box");
    place(box, 50);
    const more = play(grown, part(2, "a b"));
    rerender(<Page state={more} />);
    expect(scrolledTo).toEqual([]);
    expect(screen.queryByRole("button", { name: "New reply" })).toBeNull();
    rerender(<Page state={play(more, server.say(1, "a b c"), server.yourTurn(1))} />);
    expect(scrolledTo).toEqual([]);
    expect(screen.getByRole("button", { name: "New reply" })).toBeInTheDocument();
  });
});

test("the whole screen still works without a format", () => {
  render(<Chat state={play(waiting, part(1, "*a*"))} />);
  expect(screen.getByTestId("growing-reply")).toHaveTextContent("*a*");
});
