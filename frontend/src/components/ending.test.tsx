import { act, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { expectAccessible } from "../../test/axe";
import type { Ending } from "../protocol";
import { EndingScreen } from "./EndingScreen";

const ENDING: Ending = {
  kind: "complete",
  code: "C1DONE88",
  url: "https://panel.example.org/done?cc=C1DONE88",
  seconds: 10,
  text: "Thank you! Your chat is saved.",
};

function show(more: Partial<Ending> = {}): ReturnType<typeof vi.fn> {
  const leave = vi.fn();
  render(<EndingScreen ending={{ ...ENDING, ...more }} leave={leave} />);
  return leave;
}

beforeEach(() => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
});

afterEach(() => {
  vi.useRealTimers();
});

test("the code is shown, can be copied, and the way back begins by itself, once", async () => {
  const leave = show();
  expect(screen.getByTestId("completion-code")).toHaveTextContent(/^C1DONE88$/);
  expect(screen.getByTestId("reason")).toHaveTextContent("Thank you! Your chat is saved.");
  const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
  await user.click(screen.getByTestId("copy-code"));
  expect(await navigator.clipboard.readText()).toBe("C1DONE88");
  expect(screen.getByRole("status")).toHaveTextContent("copied");
  expect(leave).not.toHaveBeenCalled();
  act(() => {
    vi.advanceTimersByTime(11_000);
  });
  expect(leave).toHaveBeenCalledExactlyOnceWith(ENDING.url);
  act(() => {
    vi.advanceTimersByTime(60_000);
  });
  expect(leave).toHaveBeenCalledOnce();
});

test("who stays is not led away, and can still go back", async () => {
  const leave = show();
  const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
  await user.click(screen.getByTestId("stay"));
  act(() => {
    vi.advanceTimersByTime(60_000);
  });
  expect(leave).not.toHaveBeenCalled();
  expect(screen.queryByTestId("return-in")).toBeNull();
  await user.click(screen.getByTestId("return"));
  expect(leave).toHaveBeenCalledExactlyOnceWith(ENDING.url);
});

test("a code that can't be copied is selected", async () => {
  show();
  const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
  vi.spyOn(navigator.clipboard, "writeText").mockRejectedValueOnce(new Error("not allowed"));
  await user.click(screen.getByTestId("copy-code"));
  expect(screen.getByRole("status")).toHaveTextContent("selected");
  expect(getSelection()?.toString()).toBe("C1DONE88");
});

test("without an address back there is none to press", () => {
  show({ url: null, seconds: 0 });
  expect(screen.queryByTestId("return")).toBeNull();
});

test("without a code there is the server's sentence alone", () => {
  show({ kind: "timed_out", code: null, url: null, seconds: 0, text: "Please return your submission on Prolific." });
  expect(screen.getByTestId("reason")).toHaveTextContent("Please return your submission on Prolific.");
  expect(screen.queryByTestId("completion-code")).toBeNull();
  expect(screen.queryByTestId("copy-code")).toBeNull();
});

test.each(["complete", "incomplete", "screened_out", "declined", "no_work", "model_failed", "timed_out", "blocked"])(
  "the ending %s has a title of its own, and is accessible",
  async (kind) => {
    vi.useRealTimers();
    const { container } = render(<EndingScreen ending={{ ...ENDING, kind }} leave={vi.fn()} />);
    expect(screen.getByRole("heading", { level: 1 })).toHaveFocus();
    await expectAccessible(container);
  },
);
