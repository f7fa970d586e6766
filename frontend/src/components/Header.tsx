import type { ReactElement, ReactNode, Ref } from "react";
import { texts } from "../texts";
import { Icon } from "./Icon";

/** The bar at the top: title, how far the chat is, time left, and a few switches. */
export function Header({
  title,
  headingRef,
  progress,
  left,
  children,
}: {
  title: string;
  headingRef?: Ref<HTMLHeadingElement>;
  progress?: ReactNode;
  left?: ReactNode;
  children?: ReactNode;
}): ReactElement {
  return (
    <header className="bar">
      {left}
      <div className="bar-title">
        <h1 ref={headingRef} tabIndex={-1}>
          {title}
        </h1>
        {progress}
      </div>
      <div className="bar-end">{children}</div>
    </header>
  );
}

/** How many turns are done, and how many are to go; of replies that are annotated likewise. */
export function Progress({
  done,
  all,
  rating,
  judging = false,
  label = "",
}: {
  done: number;
  all: number;
  rating: boolean;
  judging?: boolean;
  /** Which chat it is, where there are two. */
  label?: string;
}): ReactElement | null {
  if (all <= 0) return null;
  const current = Math.min(done + 1, all);
  const t = judging
    ? { now: texts.judging.reply, left: texts.judging.repliesLeft }
    : { now: texts.header.turns, left: texts.header.turnsLeft };
  return (
    <div className="progress" data-testid="progress">
      <span className="progress-dots" aria-hidden="true">
        {Array.from({ length: Math.min(all, 12) }, (_, index) => (
          <i key={index} className={progressClass(index, rating ? all : done, current, rating)} />
        ))}
      </span>
      <span>
        {label !== "" && <span>{`${label} · `}</span>}
        <span>{rating ? texts.header.rating : t.now(current, all)}</span>
        {!rating && <span className="progress-left">{` · ${t.left(all - current)}`}</span>}
      </span>
    </div>
  );
}

function progressClass(index: number, done: number, current: number, rating: boolean): string {
  if (index < done) return "done";
  return index === current - 1 && !rating ? "now" : "";
}

export function SoundSwitch({ on, onToggle }: { on: boolean; onToggle: () => void }): ReactElement {
  const label = on ? texts.header.soundOn : texts.header.soundOff;
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={label}
      title={label}
      data-testid="sound"
      onClick={onToggle}
    >
      <Icon name={on ? "soundOn" : "soundOff"} />
    </button>
  );
}

/** Says that the connection is lost, and for a moment that it is back. */
export function ConnectionBanner({ lost, back }: { lost: boolean; back: boolean }): ReactElement {
  return (
    <div role="status" className="banner-place" data-testid="connection-banner">
      {lost && (
        <p className="banner lost">
          <Icon name="offline" />
          <span>{texts.connection.lost}</span>
        </p>
      )}
      {!lost && back && (
        <p className="banner back">
          <Icon name="done" />
          <span>{texts.connection.back}</span>
        </p>
      )}
    </div>
  );
}
