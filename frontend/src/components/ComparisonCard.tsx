import { useEffect, useId, useRef, type ReactElement } from "react";
import { MODEL, type AnnotationConfig } from "../protocol";
import { type Answer, type Choice, type Comparison, type Scale, type Side } from "../state/comparison";
import { texts } from "../texts";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { Bubble } from "./Bubble";
import { ChoiceList } from "./ChoiceList";
import { reveal } from "./guidance";
import { useFocusOnMount, useSideKeys } from "./hooks";

/** Two replies, beside each other or, on phones, one below the other. Nothing here tells which model has written which. */
export function ReplyPair({
  left,
  right,
  below,
}: {
  left: string;
  right: string;
  /** What is asked about each. */
  below?: ((side: Side, label: string) => ReactElement) | undefined;
}): ReactElement {
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
          {below?.(index === 0 ? "left" : "right", texts.comparison.reply(index + 1))}
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
  annotation = null,
  maxLength,
  onChoose,
  onReason,
  onTick,
  onSend,
}: {
  comparison: Comparison;
  /** Null until the server asks. */
  scale: Scale | null;
  choice: Choice;
  disabled: boolean;
  /** The question, or the boxes without a tick, are drawn as what still has to be done. */
  pointedOut: boolean;
  /** The boxes that are ticked for each reply, where the server asks for them. */
  annotation?: AnnotationConfig | null;
  /** Of the reason. */
  maxLength: number;
  onChoose: (answer: Answer) => void;
  onReason: (reason: string) => void;
  onTick?: (side: Side, value: string, on: boolean) => void;
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

  const boxes =
    scale?.boxes === true && annotation !== null
      ? (side: Side, label: string): ReactElement => (
          <AnnotationBoxes
            config={annotation}
            about={label}
            ticked={choice.boxes[side]}
            disabled={disabled}
            empty={choice.boxes[side].length === 0}
            missing={pointedOut && choice.boxes[side].length === 0}
            onTick={(value, on) => onTick?.(side, value, on)}
          />
        )
      : undefined;

  return (
    <section className="comparison" ref={card} aria-labelledby={`${id}-title`} data-testid="comparison">
      <h2 id={`${id}-title`} ref={heading} tabIndex={-1}>
        {texts.comparison.title}
      </h2>
      <ReplyPair left={comparison.left} right={comparison.right} below={boxes} />
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
