import { useEffect, useRef, useState, type RefObject } from "react";

/** Moves the focus to a heading when its screen appears, so that screen readers say where one is. */
export function useFocusOnMount<T extends HTMLElement>(): RefObject<T> {
  const ref = useRef<T>(null);
  useEffect(() => {
    ref.current?.focus();
  }, []);
  return ref;
}

/** Whole seconds until `deadline` (epoch milliseconds), counted down to 0; null without one. */
export function useSecondsLeft(deadline: number | null): number | null {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (deadline === null) return;
    const tick = (): void => {
      setNow(Date.now());
    };
    tick();
    const timer = setInterval(tick, 500);
    return () => {
      clearInterval(timer);
    };
  }, [deadline]);
  return deadline === null ? null : Math.max(0, Math.ceil((deadline - now) / 1000));
}

/** Whether a media query holds; false where there are none. */
export function useMedia(query: string): boolean {
  const [holds, setHolds] = useState(() => matches(query));
  useEffect(() => {
    if (typeof matchMedia === "undefined") return;
    const media = matchMedia(query);
    const change = (): void => {
      setHolds(media.matches);
    };
    change();
    media.addEventListener("change", change);
    return () => {
      media.removeEventListener("change", change);
    };
  }, [query]);
  return holds;
}

export function matches(query: string): boolean {
  return typeof matchMedia !== "undefined" && matchMedia(query).matches;
}
