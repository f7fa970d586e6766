import { useEffect, useId, useLayoutEffect, useRef, type ReactElement } from "react";
import { lengthOf, type Block } from "../state/conversation";
import type { Counted } from "../lib/inputSignals";
import { texts } from "../texts";
import { useAuthenticity } from "./authenticity";
import { matches } from "./hooks";
import { Icon } from "./Icon";

/** From this share of the longest message on the characters are counted. */
const COUNT_FROM = 0.8;

/** Where the worker writes. It never blocks writing; why sending is not possible stands beside the button. */
export function Composer({
  text,
  block,
  reason,
  strong = false,
  hasBoxes = false,
  maxLength,
  counting = false,
  writing = false,
  onType,
  onReturn,
  onSend,
  onLeave,
}: {
  text: string;
  block: Block | null;
  reason: string;
  /** The worker has tried to send: the reason is drawn so that it is seen. */
  strong?: boolean;
  /** There are boxes that number keys tick outside of the field. */
  hasBoxes?: boolean;
  maxLength: number;
  /** How the text is written is counted. */
  counting?: boolean;
  /** It is the worker's turn to write. */
  writing?: boolean;
  onType: (text: string, counted?: Counted) => void;
  /** The worker has come back to the page that they left while they wrote. */
  onReturn?: () => void;
  onSend: () => void;
  /** Escape leaves the field. */
  onLeave?: () => void;
}): ReactElement {
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const takeCounts = useAuthenticity(field, counting, writing, onReturn);
  const length = lengthOf(text);
  const keys = hasBoxes ? texts.composer.keysWithBoxes : texts.composer.keys;

  useLayoutEffect(() => {
    const area = field.current;
    if (area === null) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  }, [text]);

  useEffect(() => {
    // On a phone the keyboard would cover the chat before it has been read.
    if (matches("(pointer: fine)")) field.current?.focus({ preventScroll: true });
  }, []);

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        onSend();
      }}
    >
      <div className="composer-field">
        <label className="sr-only" htmlFor={`${id}-text`}>
          {texts.composer.label}
        </label>
        <textarea
          ref={field}
          id={`${id}-text`}
          data-testid="composer"
          rows={1}
          dir="auto"
          value={text}
          placeholder={texts.composer.placeholder}
          aria-describedby={`${id}-reason ${id}-keys`}
          aria-invalid={block === "too_long"}
          enterKeyHint="send"
          autoComplete="off"
          onChange={(event) => {
            onType(event.target.value, takeCounts());
          }}
          onKeyDown={(event) => {
            // While an input method composes a word, Enter belongs to it (229 is how Safari reports it).
            // eslint-disable-next-line @typescript-eslint/no-deprecated -- there is no other way to ask Safari
            const composing = event.nativeEvent.isComposing || event.keyCode === 229;
            if (event.key === "Enter" && !event.shiftKey && !composing) {
              event.preventDefault();
              onSend();
            } else if (event.key === "Escape" && !composing) {
              onLeave?.();
            }
          }}
        />
        <button
          type="submit"
          className="send"
          data-testid="send"
          aria-disabled={block !== null}
          aria-describedby={`${id}-reason`}
        >
          <span>{texts.composer.send}</span>
          <Icon name="send" />
        </button>
      </div>
      <div className="composer-foot">
        <p
          id={`${id}-reason`}
          className={strong || block === "too_long" ? "reason strong" : "reason"}
          role="status"
          data-testid="send-reason"
        >
          {reason}
        </p>
        {length >= maxLength * COUNT_FROM ? (
          <p className={length > maxLength ? "counter over" : "counter"} data-testid="counter">
            {texts.composer.counter(length, maxLength)}
          </p>
        ) : (
          <p className="keys" aria-hidden="true">
            {keys}
          </p>
        )}
        <span id={`${id}-keys`} className="sr-only">
          {keys}
        </span>
      </div>
    </form>
  );
}
