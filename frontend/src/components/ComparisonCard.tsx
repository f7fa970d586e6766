import { useEffect, useId, useRef, type ReactElement } from "react";
import { numberOf, takesText } from "../lib/keys";
import { MODEL } from "../protocol";
import {
  answerFor,
  answersOf,
  isChosen,
  type Answer,
  type Choice,
  type Comparison,
  type Scale,
} from "../state/comparison";
import { texts } from "../texts";
import { Bubble } from "./Bubble";
import { reveal } from "./guidance";
import { useFocusOnMount } from "./hooks";

/** Two replies, beside each other or, on phones, one below the other. Nothing here tells which model has written which. */
export function ReplyPair({ left, right }: { left: string; right: string }): ReactElement {
  const id = useId();
  return (
    <div className="reply-pair">
      {[left, right].map((reply, index) => (
        <section
          key={index}
          className="reply-option"
          aria-labelledby={`${id}-${index}`}
          data-testid={`reply-${index + 1}`}
        >
          <h3 id={`${id}-${index}`}>{texts.comparison.reply(index + 1)}</h3>
          <Bubble agentIdx={MODEL} text={reply} />
        </section>
      ))}
    </div>
  );
}

/** Two replies, and the question which of them is better. */
export function ComparisonCard({
  comparison,
  scale,
  choice,
  disabled,
  pointedOut,
  maxLength,
  onChoose,
  onReason,
  onSend,
}: {
  comparison: Comparison;
  /** Null until the server asks. */
  scale: Scale | null;
  choice: Choice;
  disabled: boolean;
  /** The question is drawn as what still has to be answered. */
  pointedOut: boolean;
  /** Of the reason. */
  maxLength: number;
  onChoose: (answer: Answer) => void;
  onReason: (reason: string) => void;
  onSend: () => void;
}): ReactElement {
  const id = useId();
  const heading = useFocusOnMount<HTMLHeadingElement>();
  const card = useRef<HTMLElement>(null);
  const asked = scale !== null;
  useEffect(() => {
    if (card.current !== null) reveal(card.current);
  }, [asked]);
  useEffect(() => {
    if (scale === null || disabled) return;
    const press = (event: KeyboardEvent): void => {
      const number = takesText(event.target) ? null : numberOf(event);
      if (number !== 1 && number !== 2) return;
      event.preventDefault();
      onChoose(answerFor(number === 1 ? "left" : "right", scale));
    };
    document.addEventListener("keydown", press);
    return () => {
      document.removeEventListener("keydown", press);
    };
  }, [scale, disabled, onChoose]);

  return (
    <section className="comparison" ref={card} aria-labelledby={`${id}-title`} data-testid="comparison">
      <h2 id={`${id}-title`} ref={heading} tabIndex={-1}>
        {texts.comparison.title}
      </h2>
      <ReplyPair left={comparison.left} right={comparison.right} />
      {scale !== null && (
        <fieldset
          className={pointedOut && choice.pick === null ? "choices missing" : "choices"}
          data-answers="comparison"
          data-testid="choices"
          disabled={disabled}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !takesText(event.target)) onSend();
          }}
        >
          <legend>{texts.comparison.question}</legend>
          <div className={`choice-row${answersOf(scale).length > 4 ? " many" : ""}`}>
            {answersOf(scale).map((answer) => (
              <label key={`${answer.pick}-${answer.strength}`} className="choice">
                <input
                  type="radio"
                  name={`${id}-choice`}
                  data-testid={`choice-${answer.pick}${answer.strength === null ? "" : `-${answer.strength}`}`}
                  checked={isChosen(choice, answer)}
                  onChange={() => {
                    onChoose(answer);
                  }}
                />
                <span>{texts.comparison.answer(answer.pick, answer.strength, scale.points)}</span>
              </label>
            ))}
          </div>
          <p className="choice-keys" aria-hidden="true">
            {texts.comparison.keys}
          </p>
          {scale.reason && (
            <div className="choice-reason">
              <label htmlFor={`${id}-reason`}>{texts.comparison.reason}</label>
              <textarea
                id={`${id}-reason`}
                data-testid="choice-reason"
                rows={2}
                dir="auto"
                maxLength={maxLength}
                value={choice.reason}
                onChange={(event) => {
                  onReason(event.target.value);
                }}
              />
            </div>
          )}
        </fieldset>
      )}
    </section>
  );
}
