import { useEffect, useState, type ReactElement } from "react";
import { texts } from "../texts";
import { useSecondsLeft } from "./hooks";
import { Icon } from "./Icon";

/** Seconds left at which screen readers are told. */
const MARKS = [60, 30, 10];
const URGENT = 30;

/** Time left. The figures are for the eye; screen readers hear of them at a few marks only, and read them on demand. */
export function Timer({ deadline }: { deadline: number | null }): ReactElement | null {
  const seconds = useSecondsLeft(deadline);
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (seconds === null) setSaid("");
    else if (seconds === 0) setSaid(texts.time.over);
    else if (MARKS.includes(seconds)) setSaid(texts.time.runningOut(seconds));
  }, [seconds]);
  if (seconds === null) return null;
  return (
    <div className={seconds <= URGENT ? "timer urgent" : "timer"} data-testid="time-left">
      <Icon name="clock" />
      <span role="timer" aria-label={`${texts.time.left}: ${texts.time.spoken(seconds)}`}>
        <span aria-hidden="true">{texts.time.short(seconds)}</span>
      </span>
      <span className="sr-only" role="status">
        {said}
      </span>
    </div>
  );
}
