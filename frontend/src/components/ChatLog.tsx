import type { ReactElement, Ref } from "react";
import { HUMAN, MODEL, type AnnotationConfig } from "../protocol";
import type { Pending } from "../state/conversation";
import type { ReplyPart } from "../state/parts";
import type { Message, Ticks, View } from "../state/view";
import { texts } from "../texts";
import { Bubble } from "./Bubble";
import { Icon } from "./Icon";

/**
 * The conversation so far, as the server has said it; new messages are announced to screen readers. A reply that is still
 * growing is seen only: it is announced when it is whole.
 */
export function ChatLog({
  view,
  annotation,
  growing = null,
  judging = false,
  lastRef,
}: {
  view: View;
  annotation: AnnotationConfig | null;
  growing?: ReplyPart | null;
  /** Somebody else's conversation is shown. */
  judging?: boolean;
  lastRef: Ref<HTMLLIElement>;
}): ReactElement {
  const seeded = view.messages.some((message) => message.fakeStart);
  const lines = view.messages.map((message, index) => {
    const marks = view.annotations[message.utteranceIdx];
    return (
      <li
        key={keyOf(message, index, view.messages)}
        ref={index === view.messages.length - 1 && growing === null ? lastRef : undefined}
        data-testid="message"
        data-agent={message.agentIdx}
        data-fake-start={message.fakeStart}
      >
        {seeded && message.fakeStart && index === 0 && (
          <p className="divider">{judging ? texts.judging.alreadySaid : texts.log.alreadySaid}</p>
        )}
        <Bubble agentIdx={message.agentIdx} text={message.text} quiet={message.fakeStart} judging={judging}>
          {marks !== undefined && annotation !== null && <Marks marks={marks} annotation={annotation} />}
        </Bubble>
      </li>
    );
  });
  if (growing !== null) {
    lines.push(
      <li key={`${growing.utteranceIdx}`} ref={lastRef} data-testid="growing-reply" aria-hidden="true">
        {false}
        <Bubble agentIdx={MODEL} text={growing.text} growing />
      </li>,
    );
  }
  return (
    <>
      {/* The headings of replies are below it. */}
      <h2 className="sr-only">{texts.log.label}</h2>
      <div role="log" aria-label={texts.log.label} aria-live="polite" aria-relevant="additions">
        <ol className="messages">{lines}</ol>
      </div>
    </>
  );
}

/** The same for a reply while it grows and when it has arrived, so that its elements stay. */
function keyOf({ utteranceIdx, key }: Message, index: number, messages: readonly Message[]): string {
  const first = messages.findIndex((message) => message.utteranceIdx === utteranceIdx);
  return first === index ? `${utteranceIdx}` : key;
}

/** The accepted annotation of a reply: small, and no longer to be changed. */
function Marks({ marks, annotation }: { marks: Ticks; annotation: AnnotationConfig }): ReactElement | null {
  const names = annotation.buckets.filter((bucket) => marks[bucket.value] === true).map((bucket) => bucket.name);
  if (names.length === 0) return null;
  return (
    <div className="marks" data-testid="frozen-annotation">
      <span className="sr-only">{`${texts.log.yourAnnotation} `}</span>
      <ul>
        {names.map((name) => (
          <li key={name}>
            <Icon name="check" />
            <span>{name}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** What the worker has sent and the server has not said back yet. */
export function PendingMessage({ pending, connected }: { pending: Pending; connected: boolean }): ReactElement {
  return (
    <div className="messages" data-testid="pending-message">
      <Bubble agentIdx={HUMAN} text={pending.draft.text.trim()} quiet>
        <p className="sending" role="status">
          {connected ? texts.log.sending : texts.log.sendingOffline}
        </p>
      </Bubble>
    </div>
  );
}

/** Three dots while the model thinks; only the words for screen readers once something of its reply is seen. */
export function Typing({ hidden = false }: { hidden?: boolean }): ReactElement {
  return (
    <div className={hidden ? undefined : "turn partner typing"} data-testid={hidden ? undefined : "typing"}>
      <p className="sr-only" role="status">
        {texts.log.thinking}
      </p>
      {!hidden && (
        <div className="bubble" aria-hidden="true">
          <span />
          <span />
          <span />
        </div>
      )}
    </div>
  );
}
