import { useEffect, useRef, type ReactElement } from "react";
import type { Turn } from "../state/view";
import { texts } from "../texts";
import { useSecondsLeft } from "./hooks";
import { Icon } from "./Icon";

/** Seconds before the end of a turn at which more time is offered (WCAG 2.2, success criterion 2.2.1). */
export const WARNING_SECONDS = 20;

/** Warns before the time for a turn is up, and offers more of it where the server gives any. */
export function MoreTime({ turn, onAsk }: { turn: Turn | null; onAsk: () => void }): ReactElement {
  const place = useRef<HTMLDivElement>(null);
  const seconds = useSecondsLeft(turn?.deadline ?? null);
  const almostUp = turn !== null && seconds !== null && seconds > 0 && seconds <= WARNING_SECONDS;
  const offered = almostUp && turn.extensionsLeft > 0;
  const pressed = useRef(false);
  useEffect(() => {
    // The worker pressed the button and continues to write.
    if (!offered && pressed.current) place.current?.closest("main")?.querySelector("textarea")?.focus();
    pressed.current = false;
  }, [offered]);
  return (
    <div ref={place} className="more-time-place">
      {almostUp && (
        <p role="alert" className="more-time-text" data-testid="time-warning">
          <Icon name="clock" />
          <span>{offered ? texts.moreTime.offer : texts.moreTime.last}</span>
        </p>
      )}
      {offered && (
        <button
          type="button"
          className="quiet-button"
          data-testid="more-time"
          onClick={() => {
            pressed.current = true;
            onAsk();
          }}
        >
          {texts.moreTime.ask(turn.seconds)}
        </button>
      )}
      <p role="status" className="sr-only">
        {turn?.given ? texts.moreTime.given(Math.round(turn.given)) : ""}
      </p>
    </div>
  );
}
