import { act, cleanup, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { HOSTILE, scenarios, Study } from "../../dev/dashboard-server.mjs";
import { expectAccessible } from "../../test/axe";
import { openDashboard, type Opened } from "../../test/dashboard";
import { textsWithSiblings } from "../../test/texts";
import type { Role } from "./types";

const SOON = { timeout: 20_000 };
let opened: Opened | null = null;

async function open(studies: Study[], role: Role | null = "pay", hash = ""): Promise<Opened> {
  opened = await openDashboard(studies, role, hash);
  return opened;
}

/** jsdom has no media queries: the window is as wide as said. */
function windowIsWide(wide: boolean): void {
  vi.stubGlobal("matchMedia", () => ({
    matches: wide,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  }));
}

function sent(server: Opened["server"], path: string): unknown[] {
  return server.received.filter((one) => one.path.endsWith(path)).map((one) => one.body as unknown);
}

async function openFirst(): Promise<void> {
  await screen.findAllByTestId("row", {}, SOON);
  await userEvent.keyboard("j");
  await screen.findByRole("article", {}, SOON);
}

beforeEach(() => {
  windowIsWide(true);
});
afterEach(() => {
  cleanup();
  opened?.close();
  opened = null;
  location.hash = "";
  localStorage.clear();
  vi.unstubAllGlobals();
});

describe("log-in", () => {
  test("a wrong password is said, the right one leads to where the address points", async () => {
    await open([new Study("s", 3)], null, "#/study/s/audit");
    await userEvent.type(await screen.findByLabelText("Your name", {}, SOON), "Ana");
    await userEvent.type(screen.getByLabelText("Password"), "nonsense");
    await userEvent.click(screen.getByRole("button", { name: "Log in" }));
    expect(await screen.findByText("The password is wrong.", {}, SOON)).toBeVisible();
    await userEvent.clear(screen.getByLabelText("Password"));
    await userEvent.type(screen.getByLabelText("Password"), "read-password");
    await userEvent.click(screen.getByRole("button", { name: "Log in" }));
    expect(await screen.findByRole("heading", { name: "Audit log" }, SOON)).toBeVisible();
    expect(screen.getByText("may read")).toBeVisible();
  });

  test("without a name nothing is sent: the audit log needs one", async () => {
    const { server } = await open([new Study("s", 0)], null);
    await userEvent.type(await screen.findByLabelText("Password", {}, SOON), "pay-password");
    await userEvent.click(screen.getByRole("button", { name: "Log in" }));
    expect(await screen.findByText(/Write your name/)).toBeVisible();
    expect(server.received).toEqual([]);
  });

  test("a session that ends keeps what was being written", async () => {
    const { endSessions, server } = await open([new Study("s", 3)], "review", "#/study/s/conversations");
    await openFirst();
    await userEvent.keyboard("r");
    await userEvent.type(screen.getByRole("textbox", { name: /Reason/ }), "Copied answers.");
    endSessions();
    await userEvent.click(screen.getByRole("button", { name: "Reject 1" }));
    expect(await screen.findByText("Log in again to go on where you were.", {}, SOON)).toBeVisible();
    await userEvent.type(screen.getByLabelText("Password"), "review-password");
    await userEvent.click(screen.getByRole("button", { name: "Log in" }));
    await waitFor(() => {
      expect(screen.queryByText("Log in again to go on where you were.")).toBeNull();
    }, SOON);
    expect(screen.getByRole("article")).toBeVisible();
    expect(server.studies[0]?.chats[0]?.review).toBe("pending");
  });

  test("a server that can't be reached is said, and tried again on request", async () => {
    const { server } = await openDashboard([new Study("s", 0)], "read", "", "/api").then((made) => (opened = made));
    expect(
      await screen.findByRole("heading", { name: "The dashboard's server can't be reached." }, SOON),
    ).toBeVisible();
    server.unreachable = "none";
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByRole("navigation", { name: "Study" }, SOON)).toBeInTheDocument();
  });
});

describe("overview", () => {
  test("says what is known, with warnings before the rest", async () => {
    const study = scenarios().live;
    if (study === undefined) throw new Error("no study");
    study.change({ warnings: [{ code: "low_wage", text: "The work pays too little." }] });
    const { container } = await open([study]);
    const warning = await screen.findByText("The work pays too little.", {}, SOON);
    const tiles = screen.getByText("Will be complete");
    expect(warning.compareDocumentPosition(tiles) & Node.DOCUMENT_POSITION_FOLLOWING).toBeTruthy();
    expect(screen.getByText("in 2 h")).toBeVisible();
    expect(screen.getByText("for $131.00 in all")).toBeVisible();
    expect(screen.getByText(/as in the last hour/)).toBeVisible();
    expect(screen.getByRole("img", { name: /Bar chart of finished conversations per hour/ })).toBeVisible();
    expect(screen.getByText("not chosen yet")).toBeVisible();
    await expectAccessible(container);
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test("changes by itself while the study runs, and a new warning is told", async () => {
    const study = new Study("s", 2, { live: true, accepting: true, target: 50 });
    await open([study]);
    await screen.findByText("2 of 50", {}, SOON);
    await waitFor(() => {
      expect(study.streams.size).toBe(1);
    }, SOON);
    study.change({ finished: 3, warnings: [{ code: "no_arrivals", text: "Nobody has come for an hour." }] });
    expect(await screen.findByText("3 of 50", {}, SOON)).toBeVisible();
    expect(await screen.findByText("New warning: Nobody has come for an hour.", {}, SOON)).toBeInTheDocument();
  });

  test("a lost connection is said, and the page comes back by itself", async () => {
    const study = new Study("s", 2, { live: true, target: 50 });
    const { server } = await open([study]);
    await screen.findByText("2 of 50", {}, SOON);
    await waitFor(() => {
      expect(study.streams.size).toBe(1);
    }, SOON);
    server.unreachable = "/api";
    for (const stream of study.streams) stream.destroy();
    expect(await screen.findByText(/connection is lost/, {}, SOON)).toBeVisible();
    expect(screen.getByText("2 of 50")).toBeVisible();
    server.unreachable = "none";
    await waitFor(() => {
      expect(screen.queryByText(/connection is lost/)).toBeNull();
    }, SOON);
  });

  test("a hidden tab leaves its connection to others", async () => {
    const study = new Study("s", 2, { live: true });
    await open([study]);
    await waitFor(() => {
      expect(study.streams.size).toBe(1);
    }, SOON);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    act(() => {
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await waitFor(() => {
      expect(study.streams.size).toBe(0);
    }, SOON);
    hidden.mockReturnValue(false);
    act(() => {
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await waitFor(() => {
      expect(study.streams.size).toBe(1);
    }, SOON);
  });

  test("a study without conversations says that, and what it waits for", async () => {
    const { empty } = scenarios();
    if (empty === undefined) throw new Error("no study");
    const { container } = await open([empty]);
    expect(await screen.findByText(/Nobody has come yet/, {}, SOON)).toBeVisible();
    await expectAccessible(container);
  });

  test("stopping is asked about once more; more conversations say how many that makes", async () => {
    const study = new Study("s", 2, { live: true, accepting: true, target: 50 });
    const { server } = await open([study]);
    await userEvent.click(await screen.findByRole("button", { name: "Take no new workers…" }, SOON));
    expect(sent(server, "/run")).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: "Take no new workers" }));
    expect(await screen.findByText("Running, takes no new workers", {}, SOON)).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "More conversations…" }));
    const field = screen.getByLabelText("How many more");
    await userEvent.clear(field);
    await userEvent.type(field, "1.5");
    await userEvent.click(screen.getByRole("button", { name: "Ask for more" }));
    expect(sent(server, "/run")).toEqual([{ act: "stop" }]);
    await userEvent.clear(field);
    await userEvent.type(field, "25");
    expect(screen.getByText(/25 more conversations/)).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Ask for 25 more" }));
    await waitFor(() => {
      expect(sent(server, "/run")).toEqual([{ act: "stop" }, { act: "extend", more: 25 }]);
    }, SOON);
  });

  test.each(["read", "review"] as const)("the role %s sees no buttons that act on the run", async (role) => {
    await open([new Study("s", 2, { live: true, accepting: true })], role);
    await screen.findByText("Running", {}, SOON);
    expect(screen.queryByRole("button", { name: /workers…|conversations…/ })).toBeNull();
  });

  test("several studies stand side by side, each with a link", async () => {
    const { container } = await open([new Study("first", 3), new Study("second", 5)]);
    await screen.findAllByText("Paid per hour", {}, SOON);
    const links = screen.getAllByRole("link").map((link) => link.getAttribute("href"));
    expect(links).toContain("#/study/first");
    expect(links).toContain("#/study/second");
    await expectAccessible(container);
    expect(textsWithSiblings(container)).toEqual([]);
  });
});

describe("conversations", () => {
  test("of 5,000, fifty are shown; filters, search and order are the server's, and part of the address", async () => {
    const { many } = scenarios();
    if (many === undefined) throw new Error("no study");
    await open([many], "read", "#/study/many/conversations");
    expect(await screen.findAllByTestId("row", {}, SOON)).toHaveLength(50);
    expect(screen.getByText("1–50 of 5,000")).toBeVisible();
    await userEvent.selectOptions(screen.getByLabelText("Review"), "approved");
    await screen.findByText("1–50 of 1,111", {}, SOON);
    await userEvent.click(screen.getByText("Next"));
    await screen.findByText("51–100 of 1,111", {}, SOON);
    await userEvent.click(screen.getByTestId("search"));
    await userEvent.paste("message 4995");
    await screen.findByText("1–1 of 1", {}, SOON);
    expect(location.hash).toContain("review=approved");
    expect(location.hash).toContain("q=message+4995");
    await userEvent.click(screen.getByText("Clear filters"));
    await screen.findByText("1–50 of 5,000", {}, SOON);
    expect(screen.getByTestId("search")).toHaveValue("");
  });

  test("a transcript has boxes, both replies with the pick, timing and answers", async () => {
    const { container } = await open([new Study("s", 1)], "read", "#/study/s/conversations/c0");
    const article = await screen.findByRole("article", {}, SOON);
    expect(within(article).getByText("Is rude")).toBeVisible();
    expect(within(article).queryByText("Nothing is wrong")).toBeNull();
    expect(within(article).getByText("The right one.")).toBeVisible();
    expect(within(article).getByText("picked, strength 2")).toBeVisible();
    expect(within(article).getByText("It answers.")).toBeVisible();
    expect(within(article).getByText("41")).toBeVisible();
    expect(within(article).getByText("5 min")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Approve" })).toBeNull();
    await expectAccessible(container);
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test("of two chats that were compared, each has its heading and its model", async () => {
    const study = new Study("s", 1);
    const turn = { seconds: null, annotations: {} };
    for (const chat of study.chats) {
      chat.turns = [
        { ...turn, who: "worker", chat: 0, text: "One." },
        { ...turn, who: "model", chat: 0, model: "beta", text: "Two." },
        { ...turn, who: "worker", chat: 1, text: "Three." },
        { ...turn, who: "model", chat: 1, model: "alpha", text: "Four." },
      ];
    }
    const { container } = await open([study], "read", "#/study/s/conversations/c0");
    const list = within(await screen.findByRole("list", { name: "What was said" }, SOON));
    const lines = list.getAllByRole("listitem").map((line) => line.textContent);
    expect(lines).toEqual([
      "First chat",
      "WorkerOne.",
      "ModelbetaTwo.",
      "Second chat",
      "WorkerThree.",
      "ModelalphaFour.",
    ]);
    await expectAccessible(container);
    expect(textsWithSiblings(container)).toEqual([]);
  });

  test("keys go from one to the next, approve, and tick", async () => {
    const study = new Study("s", 60);
    const { server } = await open([study], "review", "#/study/s/conversations");
    await openFirst();
    expect(location.hash).toContain("/c0");
    await userEvent.keyboard("a");
    await waitFor(() => {
      expect(study.chats[0]?.review).toBe("approved");
    }, SOON);
    await within(screen.getByRole("article")).findByText("Approved", {}, SOON);
    await userEvent.keyboard("a");
    expect(sent(server, "/acts")).toHaveLength(1);
    await userEvent.keyboard("j");
    await screen.findByRole("article", { name: "Conversation c1" }, SOON);
    await userEvent.keyboard("x");
    expect(screen.getByText("Ticked: 1 conversation of 1 worker")).toBeVisible();
    await userEvent.keyboard("k");
    await screen.findByRole("article", { name: "Conversation c0" }, SOON);
    await userEvent.keyboard("?");
    expect(screen.getByText("approve it")).toBeVisible();
  });

  test("a dialog that is opened while an earlier act is still being looked up stays open", async () => {
    const study = new Study("s", 4);
    const { hold } = await open([study], "pay", "#/study/s/conversations");
    await openFirst();
    const release = hold("/conversations/c0");
    await userEvent.keyboard("a");
    await waitFor(() => {
      expect(study.chats[0]?.review).toBe("approved");
    }, SOON);
    await screen.findByText("1 conversation approved.", {}, SOON);
    await userEvent.keyboard("j");
    await screen.findByRole("article", { name: "Conversation c1" }, SOON);
    await userEvent.keyboard("b");
    expect(screen.getByLabelText(/Amount for each/)).toHaveFocus();
    release();
    await waitFor(() => {
      expect(within(screen.getAllByTestId("row")[0] as HTMLElement).getByText("Approved")).toBeVisible();
    }, SOON);
    expect(screen.getByLabelText(/Amount for each/)).toBeVisible();
  });

  test("keys do nothing while something is written, and can be switched off", async () => {
    const { server } = await open([new Study("s", 3)], "review", "#/study/s/conversations");
    await openFirst();
    await userEvent.type(screen.getByTestId("search"), "a");
    await userEvent.clear(screen.getByTestId("search"));
    await userEvent.click(screen.getByRole("button", { name: "Keys" }));
    await userEvent.click(screen.getByLabelText("Keys are on"));
    await userEvent.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Close" }));
    screen.getByTestId("search").blur();
    await userEvent.keyboard("a");
    expect(sent(server, "/acts")).toEqual([]);
  });

  test("j after the last of a page opens the first of the next, though reviewed ones have left the list", async () => {
    const study = new Study("s", 200);
    const { server } = await open([study], "review", "#/study/s/conversations?review=pending");
    const rows = await screen.findAllByTestId("row", {}, SOON);
    expect(rows).toHaveLength(50);
    const pending = study.chats.filter((chat) => chat.review === "pending").map((chat) => chat.id);
    const last = pending[49];
    const after = pending[50];
    act(() => {
      location.hash = `#/study/s/conversations/${String(last)}?review=pending`;
    });
    await screen.findByRole("article", { name: `Conversation ${String(last)}` }, SOON);
    await userEvent.keyboard("a");
    await waitFor(() => {
      expect(server.studies[0]?.chats.find((chat) => chat.id === last)?.review).toBe("approved");
    }, SOON);
    await within(screen.getByRole("article")).findByText("Approved", {}, SOON);
    await userEvent.keyboard("j");
    await screen.findByRole("article", { name: `Conversation ${String(after)}` }, SOON);
  });

  test("a bonus says what is paid to how many before it is paid", async () => {
    const study = new Study("s", 4);
    const { server } = await open([study], "pay", "#/study/s/conversations");
    await screen.findAllByTestId("row", {}, SOON);
    await userEvent.click(screen.getByLabelText("Tick all on this page"));
    await userEvent.click(screen.getByRole("button", { name: "Bonus…" }));
    const amount = screen.getByLabelText(/Amount for each/);
    expect(amount).toHaveFocus();
    await userEvent.type(amount, "0.105");
    await userEvent.click(screen.getByRole("button", { name: "Pay" }));
    expect(screen.getByText(/at most two decimals/)).toBeVisible();
    await userEvent.clear(amount);
    await userEvent.type(amount, "0,35");
    expect(screen.getByTestId("consequence")).toHaveTextContent(
      "$0.35 for each of 4 conversations of 4 workers: $1.40 in all",
    );
    await userEvent.click(screen.getByRole("button", { name: "Pay $1.40" }));
    expect(screen.getByText("Write a reason.")).toBeVisible();
    expect(sent(server, "/acts")).toEqual([]);
    await userEvent.type(screen.getByRole("textbox", { name: /Reason/ }), "Thank you.");
    await userEvent.click(screen.getByRole("button", { name: "Pay $1.40" }));
    await waitFor(() => {
      expect(study.chats.map((chat) => chat.bonus)).toEqual([0.35, 0.35, 0.35, 0.35]);
    }, SOON);
    expect(sent(server, "/acts")).toMatchObject([
      { act: "bonus", amount: 0.35, reason: "Thank you.", versions: { c0: "1" } },
    ]);
    expect(await screen.findByText("4 conversations paid a bonus.", {}, SOON)).toBeInTheDocument();
  });

  test("approving ticked ones says what that pays in all", async () => {
    const { container } = await open([new Study("s", 3)], "review", "#/study/s/conversations");
    await screen.findAllByTestId("row", {}, SOON);
    await userEvent.click(screen.getByLabelText("Tick all on this page"));
    await expectAccessible(container);
    expect(textsWithSiblings(container)).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: "Approve…" }));
    expect(screen.getByTestId("consequence")).toHaveTextContent("3 conversations of 3 workers: $4.50 in all");
    expect(screen.getByRole("button", { name: "Approve 3 and pay $4.50" })).toHaveFocus();
  });

  test("what another reviewer has done first is said at its row, and the others are done", async () => {
    const study = new Study("s", 3);
    await open([study], "review", "#/study/s/conversations");
    await screen.findAllByTestId("row", {}, SOON);
    await userEvent.click(screen.getByLabelText("Tick all on this page"));
    study.act("Ben", "review", { act: "reject", ids: ["c1"], versions: { c1: "1" } });
    await userEvent.click(screen.getByRole("button", { name: "Approve…" }));
    await userEvent.click(screen.getByRole("button", { name: /^Approve 3/ }));
    const row = (await screen.findAllByTestId("row", {}, SOON))[1];
    if (row === undefined) throw new Error("no row");
    expect(await within(row).findByText("Already rejected by Ben at 14:02.", {}, SOON)).toBeVisible();
    expect(await within(row).findByText("Rejected", {}, SOON)).toBeVisible();
    expect(study.chats.map((chat) => chat.review)).toEqual(["approved", "rejected", "approved"]);
    expect(screen.getByText("1 conversation was left as it is")).toBeVisible();
    expect(screen.getByText("Ticked: 1 conversation of 1 worker")).toBeVisible();
  });

  test("an open one that another reviewer has changed is shown as it is now", async () => {
    const study = new Study("s", 3);
    await open([study], "review", "#/study/s/conversations");
    await openFirst();
    study.act("Ben", "review", { act: "reject", ids: ["c0"], versions: { c0: "1" } });
    await userEvent.keyboard("a");
    const article = screen.getByRole("article");
    expect(await within(article).findByText("Already rejected by Ben at 14:02.", {}, SOON)).toBeVisible();
    expect(await within(article).findByText("Rejected", {}, SOON)).toBeVisible();
    expect(study.chats[0]?.review).toBe("rejected");
  });

  test("an act whose answer is lost is neither called done nor refused", async () => {
    const { server } = await open([new Study("s", 3)], "review", "#/study/s/conversations");
    await openFirst();
    server.unreachable = "/api/studies/s/acts";
    await userEvent.keyboard("a");
    expect(
      await within(screen.getByRole("article")).findByText(/isn’t known whether this was done/, {}, SOON),
    ).toBeVisible();
  });

  test("on a phone an open conversation takes the place of the list, and leads back to it", async () => {
    windowIsWide(false);
    const { container } = await open([new Study("s", 3)], "review", "#/study/s/conversations");
    await openFirst();
    expect(screen.queryAllByTestId("row")).toEqual([]);
    await expectAccessible(container);
    await userEvent.click(screen.getByRole("button", { name: "Back to the list" }));
    expect(await screen.findAllByTestId("row", {}, SOON)).toHaveLength(3);
  });

  test("what people and models write is text, whatever it is", async () => {
    const { hostile } = scenarios();
    if (hostile === undefined) throw new Error("no study");
    const { container } = await open([hostile], "pay", "#/study/hostile/conversations");
    await openFirst();
    expect(screen.getByRole("article")).toHaveTextContent(HOSTILE.html);
    for (const address of ["#/study/hostile", "#/study/hostile/conversations/c2", "#/studies"]) {
      act(() => {
        location.hash = address;
      });
      await screen.findAllByText((_, element) => element?.tagName === "BDI" || element?.tagName === "H1", {}, SOON);
      expect(container.querySelector("img, script")).toBeNull();
      expect(container.innerHTML).not.toContain("\u202E");
    }
  });

  test("an address of a study that isn't shown here says so", async () => {
    await open([new Study("s", 1)], "read", "#/study/%E0%A4%A/conversations");
    expect(await screen.findByRole("heading", { name: "There is no such study" }, SOON)).toBeVisible();
  });
});

test("the audit log says who did what, and why", async () => {
  const study = new Study("s", 3);
  study.act("Ben", "review", { act: "reject", ids: ["c1"], versions: { c1: "1" }, reason: "Copied." });
  const { container } = await open([study], "read", "#/study/s/audit");
  const row = (await screen.findByText("Copied.", {}, SOON)).closest("tr");
  expect(row).toHaveTextContent(/Ben.*review.*reject.*c1.*pending.*rejected/);
  expect(screen.getByText("1–1 of 1 act")).toBeVisible();
  await expectAccessible(container);
  expect(textsWithSiblings(container)).toEqual([]);
});
