import { act, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Turn } from "../state/view";
import { MoreTime, WARNING_SECONDS } from "./MoreTime";

const NOW = 1_700_000_000_000;

function turn(secondsLeft: number, more: Partial<Turn> = {}): Turn {
  return {
    key: "u1",
    ask: "message",
    turnIdx: 0,
    numTurns: 3,
    seconds: 180,
    deadline: NOW + secondsLeft * 1000,
    extensionsLeft: 1,
    given: null,
    scale: null,
    ...more,
  };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.setSystemTime(NOW);
});

afterEach(() => {
  vi.useRealTimers();
});

describe("more time", () => {
  test("is offered with at least 20 seconds left to ask for it, and not before", () => {
    const onAsk = vi.fn();
    render(<MoreTime turn={turn(WARNING_SECONDS + 5)} onAsk={onAsk} />);
    expect(screen.queryByTestId("more-time")).toBeNull();
    act(() => {
      vi.advanceTimersByTime(5_000);
    });
    expect(screen.getByRole("alert").textContent).toContain("almost up");
    fireEvent.click(screen.getByTestId("more-time"));
    expect(onAsk).toHaveBeenCalledTimes(1);
  });

  test("is not offered when none is left: the warning says that the chat ends", () => {
    render(<MoreTime turn={turn(10, { extensionsLeft: 0 })} onAsk={() => undefined} />);
    expect(screen.queryByTestId("more-time")).toBeNull();
    expect(screen.getByTestId("time-warning").textContent).toContain("After that the chat ends");
  });

  test("is announced when it was given, and the field to write in gets the focus", () => {
    const view = (given: Turn) => (
      <main>
        <MoreTime turn={given} onAsk={() => undefined} />
        <textarea />
      </main>
    );
    const { rerender, container } = render(view(turn(10)));
    fireEvent.click(screen.getByTestId("more-time"));
    rerender(view(turn(190, { extensionsLeft: 0, given: 190 })));
    expect(screen.getByRole("status").textContent).toContain("3 minutes 10 seconds");
    expect(document.activeElement).toBe(container.querySelector("textarea"));
  });

  test.each([null, turn(0), turn(-5), turn(100, { deadline: null })])(
    "is no matter without time running: %j",
    (given) => {
      render(<MoreTime turn={given} onAsk={() => undefined} />);
      expect(screen.queryByTestId("time-warning")).toBeNull();
      expect(screen.queryByTestId("more-time")).toBeNull();
    },
  );
});
