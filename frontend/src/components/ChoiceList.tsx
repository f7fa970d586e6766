import { useId, type ReactElement } from "react";
import { takesText } from "../lib/keys";
import { answersOf, isChosen, type Answer, type Choice, type Scale } from "../state/comparison";
import { texts } from "../texts";
import { StudyText } from "./StudyText";

/** One question about two replies, or chats, with its answers from the first to the second. */
export function ChoiceList({
  question,
  scale,
  choice,
  label,
  testId,
  disabled,
  pointedOut,
  maxLength,
  keys = "",
  onChoose,
  onReason,
  onSend,
}: {
  question: string;
  scale: Scale;
  choice: Choice;
  /** In words. */
  label: (answer: Answer) => string;
  testId: string;
  disabled: boolean;
  /** It is drawn as what still has to be answered. */
  pointedOut: boolean;
  /** Of the reason. */
  maxLength: number;
  /** Which keys there are. */
  keys?: string;
  onChoose: (answer: Answer) => void;
  onReason: (reason: string) => void;
  onSend: () => void;
}): ReactElement {
  const id = useId();
  return (
    <fieldset
      className={pointedOut && choice.pick === null ? "choices missing" : "choices"}
      data-answers="comparison"
      data-empty={choice.pick === null}
      data-testid={testId}
      disabled={disabled}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !takesText(event.target)) onSend();
      }}
    >
      <legend>
        <StudyText>{question}</StudyText>
      </legend>
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
            <span>{label(answer)}</span>
          </label>
        ))}
      </div>
      {keys !== "" && (
        <p className="choice-keys" aria-hidden="true">
          {keys}
        </p>
      )}
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
  );
}
