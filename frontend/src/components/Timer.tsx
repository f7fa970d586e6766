import type { ReactElement } from "react";
import { texts } from "../texts";
import { useSecondsLeft } from "./hooks";
import { Icon } from "./Icon";

/** Seconds left at which screen readers are told, falling. */
const MARKS = [60, 30, 10];
const URGENT = 30;

/** Time left. The figures are for the eye; screen readers hear of them at a few marks only, and read them on demand. */
export function Timer({ deadline }: { deadline: number | null }): ReactElement | null {
  const seconds = useSecondsLeft(deadline);
  if (seconds === null) return null;
  const mark = MARKS.findLast((mark) => seconds <= mark);
  const said = seconds === 0 ? texts.time.over : mark === undefined ? "" : texts.time.runningOut(mark);
  return (
    <div className={seconds <= URGENT ? "timer urgent" : "timer"} data-testid="time-left">
      <Icon name="clock" />
      <span role="timer" aria-label={`${texts.time.left}: ${texts.time.spoken(seconds)}`}>
        <span aria-hidden="true" translate="no">
          {texts.time.short(seconds)}
        </span>
      </span>
      <span className="sr-only" role="status">
        {said}
      </span>
    </div>
  );
}
