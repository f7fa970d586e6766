import { useEffect, useId, useRef, type ReactElement } from "react";
import { type Answer, type Choice, type Scale } from "../state/comparison";
import type { Message } from "../state/view";
import { texts } from "../texts";
import { Bubble } from "./Bubble";
import { ChoiceList } from "./ChoiceList";
import { useFocusOnMount, useSideKeys } from "./hooks";

/** What is said at the beginning of each of two chats. */
export function ChatNumber({ chatIdx, all }: { chatIdx: number; all: number }): ReactElement {
  const heading = useFocusOnMount<HTMLHeadingElement>();
  return (
    <div className="chat-number" data-testid="chat-number">
      <h2 ref={chatIdx > 0 ? heading : undefined} tabIndex={-1}>
        {texts.chats.number(chatIdx + 1, all)}
      </h2>
      <p>{chatIdx === 0 ? texts.chats.first : texts.chats.second}</p>
    </div>
  );
}

/** Two whole chats side by side or, on phones, one below the other, and the questions about both. */
export function ChatPairCard({
  chats,
  questions,
  scale,
  choices,
  disabled,
  pointedOut,
  maxLength,
  onChoose,
  onReason,
  onSend,
}: {
  chats: readonly (readonly Message[])[];
  questions: readonly string[];
  /** Null until the server asks. */
  scale: Scale | null;
  choices: readonly Choice[];
  disabled: boolean;
  /** What is not answered is drawn as what still has to be done. */
  pointedOut: boolean;
  /** Of a reason. */
  maxLength: number;
  onChoose: (question: number, answer: Answer) => void;
  onReason: (question: number, reason: string) => void;
  onSend: () => void;
}): ReactElement {
  const id = useId();
  const heading = useFocusOnMount<HTMLHeadingElement>();
  const card = useRef<HTMLElement>(null);
  const asked = scale !== null;
  useEffect(() => {
    card.current?.scrollIntoView({ block: "start" });
  }, [asked]);
  useSideKeys(scale, disabled, (answer, target) => {
    const at = target instanceof HTMLElement ? target.closest("[data-question]") : null;
    const question =
      at === null ? choices.findIndex((choice) => choice.pick === null) : Number(at.getAttribute("data-question"));
    if (question >= 0) onChoose(question, answer);
    return question >= 0;
  });

  return (
    <section className="comparison of-chats" ref={card} aria-labelledby={`${id}-title`} data-testid="chat-comparison">
      <h2 id={`${id}-title`} ref={heading} tabIndex={-1}>
        {texts.chats.title}
      </h2>
      <p>{texts.chats.intro}</p>
      <div className="chat-pair">
        {chats.map((messages, index) => (
          <section
            key={index}
            className="compared-chat"
            tabIndex={0}
            aria-labelledby={`${id}-${index}`}
            data-testid={`chat-${index + 1}`}
          >
            <h3 id={`${id}-${index}`}>{texts.chats.chat(index + 1)}</h3>
            <ol className="messages">
              {messages
                .filter((message) => !message.attentionCheck)
                .map((message) => (
                  <li key={message.key} data-agent={message.agentIdx}>
                    <Bubble agentIdx={message.agentIdx} text={message.text} quiet={message.fakeStart} />
                  </li>
                ))}
            </ol>
          </section>
        ))}
      </div>
      {scale !== null &&
        questions.map((question, index) => {
          const choice = choices[index];
          return choice === undefined ? null : (
            <div key={index} data-question={index}>
              <ChoiceList
                question={question}
                scale={scale}
                choice={choice}
                label={({ pick, strength }) => texts.chats.answer(pick, strength, scale.points)}
                testId={`choices-${index}`}
                disabled={disabled}
                pointedOut={pointedOut}
                maxLength={maxLength}
                keys={index === 0 ? texts.chats.keys : ""}
                onChoose={(answer) => {
                  onChoose(index, answer);
                }}
                onReason={(reason) => {
                  onReason(index, reason);
                }}
                onSend={onSend}
              />
            </div>
          );
        })}
    </section>
  );
}
