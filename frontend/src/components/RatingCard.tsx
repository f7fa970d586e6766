import { useEffect, useId, useRef, type ReactElement, type ReactNode } from "react";
import { texts } from "../texts";
import { matches, useFocusOnMount } from "./hooks";

/** What surrounds the questions at the end. */
export function RatingCard({ title, children }: { title: string; children: ReactNode }): ReactElement {
  const heading = useFocusOnMount<HTMLHeadingElement>();
  return (
    <section className="rating-card" aria-labelledby="rating-title">
      <h2 id="rating-title" ref={heading} tabIndex={-1}>
        {title}
      </h2>
      <p>{texts.rating.intro}</p>
      {children}
    </section>
  );
}

/** The button below the questions, and why it does not send just now. */
export function RatingFoot({
  reason,
  strong,
  blocked,
  sending,
  label = texts.rating.send,
  focused = false,
  onSend,
}: {
  reason: string;
  strong: boolean;
  blocked: boolean;
  sending: boolean;
  /** Of the button. */
  label?: string;
  /** With a keyboard the button has the focus from the beginning: number keys tick, Enter goes on. */
  focused?: boolean;
  onSend: () => void;
}): ReactElement {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (focused && matches("(pointer: fine)")) button.current?.focus({ preventScroll: true });
  }, [focused]);
  return (
    <div className="rating-foot">
      <p id={id} className={strong ? "reason strong" : "reason"} role="status" data-testid="send-reason">
        {sending ? texts.rating.sending : reason}
      </p>
      <button
        ref={button}
        type="button"
        className="primary-button"
        data-testid="send"
        aria-disabled={blocked}
        aria-describedby={id}
        onClick={onSend}
      >
        {label}
      </button>
    </div>
  );
}
