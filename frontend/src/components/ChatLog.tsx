import type { ReactElement, Ref } from "react";
import { HUMAN, type AnnotationConfig } from "../protocol";
import type { Pending } from "../state/conversation";
import type { Ticks, View } from "../state/view";
import { texts } from "../texts";
import { Bubble } from "./Bubble";
import { Icon } from "./Icon";

/** The conversation so far, as the server has said it; new messages are announced to screen readers. */
export function ChatLog({
  view,
  annotation,
  lastRef,
}: {
  view: View;
  annotation: AnnotationConfig | null;
  lastRef: Ref<HTMLLIElement>;
}): ReactElement {
  const seeded = view.messages.some((message) => message.fakeStart);
  return (
    <div role="log" aria-label={texts.log.label} aria-live="polite" aria-relevant="additions">
      <ol className="messages">
        {view.messages.map((message, index) => {
          const opensSeed = seeded && message.fakeStart && index === 0;
          const marks = view.annotations[message.utteranceIdx];
          return (
            <li
              key={message.key}
              ref={index === view.messages.length - 1 ? lastRef : undefined}
              data-testid="message"
              data-agent={message.agentIdx}
              data-fake-start={message.fakeStart}
            >
              {opensSeed && <p className="divider">{texts.log.alreadySaid}</p>}
              <Bubble agentIdx={message.agentIdx} text={message.text} quiet={message.fakeStart}>
                {marks !== undefined && annotation !== null && <Marks marks={marks} annotation={annotation} />}
              </Bubble>
            </li>
          );
        })}
      </ol>
    </div>
  );
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

/** Three dots while the model thinks. */
export function Typing(): ReactElement {
  return (
    <div className="turn partner typing" data-testid="typing">
      <p className="sr-only" role="status">
        {texts.log.thinking}
      </p>
      <div className="bubble" aria-hidden="true">
        <span />
        <span />
        <span />
      </div>
    </div>
  );
}
