import { useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { numberOf, takesText } from "../lib/keys";
import { answerFor, type Answer, type Scale } from "../state/comparison";

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

/**
 * Lets the keys 1 and 2 choose the left or the right one, except where the worker writes.
 * `choose` gets where the key was pressed, and returns whether there was something to choose.
 */
export function useSideKeys(
  scale: Scale | null,
  disabled: boolean,
  choose: (answer: Answer, target: EventTarget | null) => boolean,
): void {
  useLayoutEffect(() => {
    if (scale === null || disabled) return;
    const press = (event: KeyboardEvent): void => {
      // In a group of boxes the number keys tick boxes.
      const number = event.defaultPrevented || takesText(event.target) ? null : numberOf(event);
      if (number !== 1 && number !== 2) return;
      if (choose(answerFor(number === 1 ? "left" : "right", scale), event.target)) event.preventDefault();
    };
    document.addEventListener("keydown", press);
    return () => {
      document.removeEventListener("keydown", press);
    };
  }, [scale, disabled, choose]);
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
