import { useEffect, useId, useRef, type ReactElement } from "react";
import { MODEL } from "../protocol";
import { type Answer, type Choice, type Comparison, type Scale } from "../state/comparison";
import { texts } from "../texts";
import { Bubble } from "./Bubble";
import { ChoiceList } from "./ChoiceList";
import { reveal } from "./guidance";
import { useFocusOnMount, useSideKeys } from "./hooks";

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
  useSideKeys(scale, disabled, (answer) => {
    onChoose(answer);
    return true;
  });

  return (
    <section className="comparison" ref={card} aria-labelledby={`${id}-title`} data-testid="comparison">
      <h2 id={`${id}-title`} ref={heading} tabIndex={-1}>
        {texts.comparison.title}
      </h2>
      <ReplyPair left={comparison.left} right={comparison.right} />
      {scale !== null && (
        <ChoiceList
          question={texts.comparison.question}
          scale={scale}
          choice={choice}
          label={({ pick, strength }) => texts.comparison.answer(pick, strength, scale.points)}
          testId="choices"
          disabled={disabled}
          pointedOut={pointedOut}
          maxLength={maxLength}
          keys={texts.comparison.keys}
          onChoose={onChoose}
          onReason={onReason}
          onSend={onSend}
        />
      )}
    </section>
  );
}
