import { useState, type ReactElement, type RefObject } from "react";
import type { Block } from "../state/conversation";

/** What the worker has to fill in before sending is possible. Elsewhere there is only waiting. */
const TARGETS: Partial<Record<Block, string>> = {
  annotation_missing: '[data-answers="boxes"]',
  boxes_missing: '[data-answers="boxes"][data-empty="true"]',
  onboarding_missing: '[data-answers="boxes"][data-empty="true"]',
  answers_missing: '[data-answers="item"][data-problem="true"]',
  comparison_missing: '[data-answers="comparison"]',
  choices_missing: '[data-answers="comparison"][data-empty="true"]',
  rating_missing: '[data-answers="rating"][data-empty="true"]',
};
const FIELDS = "input:not(:disabled), textarea:not(:disabled), button:not(:disabled):not([tabindex='-1'])";
const FIELD = "textarea";
const WAITING = '[data-testid="typing"], [data-testid="pending-message"]';

/** Put the focus on what blocks sending, and bring it into sight. */
export function leadTo(container: HTMLElement | null, block: Block): void {
  const selector = TARGETS[block];
  if (selector === undefined) {
    container?.querySelector<HTMLElement>(FIELD)?.focus({ preventScroll: true });
    container?.querySelector(WAITING)?.scrollIntoView({ block: "nearest" });
    return;
  }
  const target = container?.querySelector<HTMLElement>(selector) ?? null;
  target?.querySelector<HTMLElement>(FIELDS)?.focus({ preventScroll: true });
  if (target !== null) reveal(target);
}

/** Scroll to the middle of an element, or to its beginning where it is taller than what can be seen of it. */
export function reveal(element: HTMLElement): void {
  const room = element.closest("main")?.clientHeight ?? window.innerHeight;
  element.scrollIntoView({ block: element.offsetHeight > room * 0.8 ? "start" : "center" });
}

export interface Guidance {
  /** The worker has tried to send, and could not. */
  pointedOut: boolean;
  /** Say why sending is not possible, and lead to it. */
  point: (block: Block, reason: string) => void;
  /** Sending was possible. */
  clear: () => void;
  announcement: ReactElement;
}

/** What happens when the worker presses Send, or Enter, and something is missing. */
export function useGuidance(container: RefObject<HTMLElement>): Guidance {
  const [said, setSaid] = useState({ count: 0, text: "" });
  const [pointedOut, setPointedOut] = useState(false);
  return {
    pointedOut,
    point: (block, reason) => {
      setPointedOut(true);
      setSaid(({ count }) => ({ count: count + 1, text: reason }));
      leadTo(container.current, block);
    },
    clear: () => {
      setPointedOut(false);
      setSaid(({ count }) => ({ count, text: "" }));
    },
    announcement: (
      <div role="alert" className="sr-only" data-testid="announcement">
        {/* A new element each time: the same words are announced again. */}
        {said.text !== "" && <p key={said.count}>{said.text}</p>}
      </div>
    ),
  };
}
