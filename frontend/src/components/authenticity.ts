import { useCallback, useEffect, useRef, type RefObject } from "react";
import { InputSignals, type Counted } from "../lib/inputSignals";

/**
 * Count how the text of a field is written.
 *
 * `writing`: whether it is the worker's turn. Who leaves while they wait for the reply is not away, and only who comes
 * back is counted: a page that is closed or reloaded is hidden, too.
 *
 * Returns what gives the counts since the last change of the text; undefined where nothing is counted.
 */
export function useAuthenticity(
  field: RefObject<HTMLTextAreaElement | null>,
  counting: boolean,
  writing: boolean,
  onReturn: (() => void) | undefined,
): () => Counted | undefined {
  const signals = useRef<InputSignals | null>(null);
  const latest = useRef({ writing, onReturn });
  useEffect(() => {
    latest.current = { writing, onReturn };
  });

  useEffect(() => {
    const area = field.current;
    if (!counting || area === null) return;
    const listening = new InputSignals(area);
    signals.current = listening;
    let left = false;
    const look = (): void => {
      if (document.visibilityState === "hidden") {
        left = latest.current.writing;
      } else if (left) {
        left = false;
        latest.current.onReturn?.();
      }
    };
    document.addEventListener("visibilitychange", look);
    return () => {
      listening.stop();
      signals.current = null;
      document.removeEventListener("visibilitychange", look);
    };
  }, [counting, field]);

  return useCallback(() => signals.current?.take(), []);
}
