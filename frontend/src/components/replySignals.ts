import { useEffect, useRef } from "react";
import { isSoundOn, playReplySound } from "../lib/sound";
import { texts } from "../texts";

/** A sound, and a mark in the title of a page that is not looked at, when a reply comes. */
export function useReplySignals(replies: number): void {
  const known = useRef(replies);
  useEffect(() => {
    if (replies <= known.current) return;
    known.current = replies;
    if (isSoundOn()) playReplySound();
    if (!document.hidden) return;
    const title = document.title;
    document.title = `● ${texts.log.titleOnReply}`;
    const restore = (): void => {
      document.title = title;
    };
    document.addEventListener("visibilitychange", restore, { once: true });
    return restore;
  }, [replies]);
}
