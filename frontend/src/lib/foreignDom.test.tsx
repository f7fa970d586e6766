import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { Chat, ONBOARDING_RULES, Onboarding } from "../../test/screens";
import { textsWithSiblings } from "../../test/texts";
import { Server, opened, play } from "../../test/updates";
import { initialState } from "../state/conversation";
import { tolerateForeignChanges } from "./foreignDom";

/** An element whose methods are those that the page uses. */
function tolerant(html: string): HTMLElement {
  const element = document.createElement("div");
  element.innerHTML = html;
  const methods = { removeChild: element.removeChild, insertBefore: element.insertBefore }; // eslint-disable-line @typescript-eslint/unbound-method -- given an element below
  tolerateForeignChanges(methods);
  return Object.assign(element, methods);
}

function child(element: HTMLElement, selector: string): HTMLElement {
  const found = element.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(selector);
  return found;
}

describe("removing a node", () => {
  test("that is where it was made", () => {
    const element = tolerant("<i></i><b></b>");
    const removed = child(element, "i");
    expect(element.removeChild(removed)).toBe(removed);
    expect(element.innerHTML).toBe("<b></b>");
  });

  test("that was wrapped removes it from its wrapper", () => {
    const element = tolerant("<font><i></i></font><b></b>");
    const removed = child(element, "i");
    expect(element.removeChild(removed)).toBe(removed);
    expect(element.innerHTML).toBe("<font></font><b></b>");
  });

  test("that is in no document any more does nothing", () => {
    const element = tolerant("<b></b>");
    const removed = document.createElement("i");
    expect(element.removeChild(removed)).toBe(removed);
    expect(element.innerHTML).toBe("<b></b>");
  });
});

describe("inserting a node", () => {
  test.each([
    ["before a sibling", "<i></i><b></b>", "b", "<i></i><u></u><b></b>"],
    [
      "before a sibling that was wrapped",
      "<i></i><p><font><b></b></font></p>",
      "b",
      "<i></i><u></u><p><font><b></b></font></p>",
    ],
    ["at the end", "<i></i>", null, "<i></i><u></u>"],
  ])("%s", (_, html, before, after) => {
    const element = tolerant(html);
    const node = document.createElement("u");
    expect(element.insertBefore(node, before === null ? null : child(element, before))).toBe(node);
    expect(element.innerHTML).toBe(after);
  });

  test("before one that has gone puts it at the end", () => {
    const element = tolerant("<i></i>");
    element.insertBefore(document.createElement("u"), document.createElement("b"));
    expect(element.innerHTML).toBe("<i></i><u></u>");
  });

  test("into itself is still an error", () => {
    const element = tolerant("<i></i>");
    expect(() => element.insertBefore(element, null)).toThrow();
  });
});

describe("every text is the only child of its element", () => {
  const seed = (server: Server): ReturnType<typeof opened> => opened(server);
  const annotated = { problem_data: { bucket_0: true }, annotated_utterance_idx: 1, message_id: "m1" };

  test.each([
    ["the first turn", (server: Server) => seed(server)],
    [
      "a later turn",
      (server: Server) =>
        play(seed(server), server.say(0, "Fine.", annotated), server.say(1, "Good."), server.yourTurn(1)),
    ],
    ["waiting", (server: Server) => play(seed(server), server.say(0, "```\ncode\n```\nand text", annotated))],
    ["the end", (server: Server) => play(seed(server), server.yourTurn(3, { ask: "final_rating" }))],
    ["an image", (server: Server) => play(seed(server), server.start({ image: "data:,", image_alt: "A hill" }))],
  ])("in the chat: %s", async (_, state) => {
    const { container } = render(<Chat state={state(new Server())} connected={false} />);
    await userEvent.click(screen.getByTestId("send"));
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test.each([
    ["at first", (server: Server) => [server.control("onboarding_start", { tries_left: 2, seconds: 300 })]],
    [
      "after a failed try",
      (server: Server) => [
        server.control("onboarding_retry", {
          tries_left: 1,
          reason: "Some differ.",
          explanations: [{ dialog_idx: 0, utterance_idx: 1, text: "A greeting." }],
          wrong: [{ dialog_idx: 0, utterance_idx: 1 }],
        }),
      ],
    ],
  ])("in the onboarding: %s", async (_, updates) => {
    const server = new Server();
    const { container } = render(<Onboarding state={play(initialState(ONBOARDING_RULES), ...updates(server))} />);
    await userEvent.click(screen.getByTestId("onboarding-submit"));
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test("which therefore changes, whatever a translation has put there", async () => {
    render(<Chat state={opened(new Server())} />);
    const reason = screen.getByTestId("send-reason");
    act(() => {
      reason.innerHTML = "<font><font>Zuerst ein Kästchen</font></font>";
    });
    await userEvent.click(screen.getByTestId("bucket-bucket_0"));
    await waitFor(() => {
      expect(reason.textContent).toBe("Write a message first.");
    });
  });
});
