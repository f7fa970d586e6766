import { useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { MODEL } from "../protocol";
import type { State } from "../state/conversation";
import { growingReply } from "../state/parts";
import { isModelThinking } from "../state/view";
import { matches } from "./hooks";

const NEAR_END = 80;

interface ChatScroll {
  /** Something new is out of sight. */
  below: boolean;
  onScroll: () => void;
  toEnd: () => void;
}

/**
 * Follows the conversation: to the end, but never past the beginning of a long reply, unless the worker has gone there.
 * A worker who has scrolled up to read is left in peace; a button shows that there is something new, once it is whole.
 */
export function useChatScroll(
  box: RefObject<HTMLDivElement>,
  last: RefObject<HTMLLIElement>,
  state: State,
): ChatScroll {
  const atEnd = useRef(true);
  const first = useRef(true);
  const lastTop = useRef(0);
  const [below, setBelow] = useState(false);
  const { messages } = state.view;
  const pendingId = state.pending?.messageId;
  const thinking = isModelThinking(state.view);
  const asking = state.view.turn?.ask;
  const lastKey = messages.at(-1)?.key;
  const growing = growingReply(state.parts);

  const follow = (smooth: boolean): void => {
    const { current } = box;
    if (current === null) return;
    const end = current.scrollHeight - current.clientHeight;
    const start = last.current === null ? end : last.current.offsetTop - 20;
    const reply = (growing !== null || messages.at(-1)?.agentIdx === MODEL) && state.pending === null;
    const beyond = current.scrollTop > start + 1;
    const calm = !smooth || matches("(prefers-reduced-motion: reduce)");
    current.scrollTo({ top: reply && !beyond ? Math.min(end, start) : end, behavior: calm ? "auto" : "smooth" });
    setBelow(false);
  };

  useLayoutEffect(() => {
    if (messages.length === 0 && pendingId === undefined) return;
    if (state.view.comparison !== null) return; // the two replies come into sight by themselves
    if (first.current || atEnd.current || pendingId !== undefined) follow(!first.current);
    else setBelow(true);
    first.current = false;
    // Only what adds something at the end moves the view, not every change of the state.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [lastKey, pendingId, thinking, asking]);

  useLayoutEffect(() => {
    // Line by line, so without animation: the next part comes before one would be over.
    const { current } = box;
    if (growing === null || current === null || !atEnd.current) return;
    // The event of a scroll that has just begun may still be to come.
    if (current.scrollTop >= lastTop.current - 1) follow(false);
    lastTop.current = current.scrollTop;
    // What grows moves no scroll bar, so no event tells that the end is out of sight by now.
    atEnd.current = isNearEnd(current);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- as above
  }, [growing?.text]);

  useEffect(() => {
    const { current } = box;
    if (current === null || typeof ResizeObserver === "undefined") return;
    // The field grows, or a phone's keyboard comes up: what was in sight at the end stays there.
    const observer = new ResizeObserver(() => {
      if (atEnd.current) current.scrollTop = current.scrollHeight;
    });
    observer.observe(current);
    return () => {
      observer.disconnect();
    };
  }, [box]);

  return {
    below,
    onScroll: () => {
      const { current } = box;
      if (current === null) return;
      atEnd.current = isNearEnd(current);
      lastTop.current = current.scrollTop;
      if (atEnd.current) setBelow(false);
    },
    toEnd: () => {
      follow(true);
      atEnd.current = true;
    },
  };
}

function isNearEnd(box: HTMLElement): boolean {
  return box.scrollHeight - box.clientHeight - box.scrollTop < NEAR_END;
}
