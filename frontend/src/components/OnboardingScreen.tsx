import { useEffect, useId, useRef, useState, type ReactElement } from "react";
import { MODEL, type OnboardingData, type TaskConfig } from "../protocol";
import { onboardingMissing, sendingBlock, type Event, type State } from "../state/conversation";
import { texts } from "../texts";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { Bubble } from "./Bubble";
import { ConnectionBanner, Header } from "./Header";
import { useFocusOnMount } from "./hooks";
import { Icon } from "./Icon";
import { noticeText, reasonText } from "./reasons";
import { Timer } from "./Timer";

/** The practice before the task: conversations of which each reply is annotated. */
export function OnboardingScreen({
  config,
  data,
  state,
  connected,
  justBack,
  dispatch,
  onSend,
}: {
  config: TaskConfig;
  data: OnboardingData;
  state: State;
  connected: boolean;
  justBack: boolean;
  dispatch: (event: Event) => void;
  onSend: () => void;
}): ReactElement {
  const { onboarding } = state.view;
  const id = useId();
  const heading = useFocusOnMount<HTMLHeadingElement>();
  const form = useRef<HTMLDivElement>(null);
  const [pointedOut, setPointedOut] = useState(false);
  const block = sendingBlock(state);
  const sending = state.pending !== null;
  const all = data.dialogs.flat().filter((utterance) => utterance.agent_idx === MODEL).length;
  const done = all - onboardingMissing(state);
  const send = (): void => {
    setPointedOut(block === "onboarding_missing");
    if (block === "onboarding_missing") {
      const first = form.current?.querySelector<HTMLElement>('fieldset[data-empty="true"] input');
      first?.focus();
      first?.closest("li")?.scrollIntoView({ block: "center" });
    }
    onSend();
  };
  return (
    <div className="page-layout">
      <Header title={config.chat_title || texts.defaultTitle}>
        <Timer deadline={onboarding.deadline} />
      </Header>
      <ConnectionBanner lost={!connected} back={justBack} />
      <main className="page">
        <div className="column" ref={form}>
          <h2 className="page-title" ref={heading} tabIndex={-1}>
            {texts.onboarding.title}
          </h2>
          <p className="lead">{texts.onboarding.intro}</p>
          <details className="glossary" open>
            <summary>{texts.onboarding.glossary}</summary>
            <dl>
              {data.annotation.buckets.map((bucket) => (
                <div key={bucket.value}>
                  <dt>{bucket.name}</dt>
                  <dd>{bucket.description}</dd>
                </div>
              ))}
            </dl>
          </details>
          {onboarding.retry !== null && (
            <Retry key={onboarding.retry.key} reason={onboarding.retry.reason} triesLeft={onboarding.triesLeft} />
          )}
          {data.dialogs.map((dialog, dialogIdx) => (
            <section
              key={dialogIdx}
              className="card"
              aria-label={texts.onboarding.dialog(dialogIdx + 1, data.dialogs.length)}
            >
              <h3>{texts.onboarding.dialog(dialogIdx + 1, data.dialogs.length)}</h3>
              <ol className="messages">
                {dialog.map((utterance, utteranceIdx) => {
                  const ticked = state.draft.onboarding[dialogIdx]?.[utteranceIdx] ?? [];
                  const explanation = onboarding.retry?.explanations.find(
                    (entry) => entry.dialog_idx === dialogIdx && entry.utterance_idx === utteranceIdx,
                  );
                  return (
                    <li key={utteranceIdx} data-testid="onboarding-utterance">
                      <Bubble agentIdx={utterance.agent_idx} text={utterance.text} />
                      {utterance.agent_idx === MODEL && (
                        <div className="onboarding-boxes">
                          <AnnotationBoxes
                            config={data.annotation}
                            ticked={ticked}
                            disabled={sending}
                            missing={pointedOut && ticked.length === 0}
                            empty={ticked.length === 0}
                            testId={`onboarding-${dialogIdx}-${utteranceIdx}`}
                            onTick={(value, on) => {
                              dispatch({
                                type: "onboarding_ticked",
                                dialog: dialogIdx,
                                utterance: utteranceIdx,
                                value,
                                on,
                              });
                            }}
                          />
                          {explanation !== undefined && (
                            <p className="explanation" data-testid="explanation">
                              <strong>{texts.onboarding.explanation}:</strong> {explanation.text}
                            </p>
                          )}
                        </div>
                      )}
                    </li>
                  );
                })}
              </ol>
            </section>
          ))}
        </div>
      </main>
      <div className="foot">
        <div className="column">
          <div role="alert">
            {state.notice !== null && (
              <p className="alert" data-testid="refusal">
                <Icon name="warning" />
                {noticeText(state)}
              </p>
            )}
          </div>
          <div className="rating-foot">
            <p id={id} className="reason" role="status" data-testid="send-reason">
              {onboarding.triesLeft !== null && !sending && `${texts.onboarding.tries(onboarding.triesLeft)} · `}
              {sending
                ? texts.onboarding.checking
                : pointedOut && block === "onboarding_missing"
                  ? reasonText(state)
                  : texts.onboarding.progress(done, all)}
            </p>
            <button
              type="button"
              className="primary-button"
              data-testid="onboarding-submit"
              aria-disabled={block !== null}
              aria-describedby={id}
              onClick={send}
            >
              {texts.onboarding.submit}
            </button>
          </div>
        </div>
      </div>
    </div>
  );
}

/** What the server said of a try that did not pass. */
function Retry({ reason, triesLeft }: { reason: string; triesLeft: number | null }): ReactElement {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    ref.current?.focus({ preventScroll: true });
    ref.current?.scrollIntoView({ block: "center" });
  }, []);
  return (
    <div
      className="retry"
      ref={ref}
      tabIndex={-1}
      role="group"
      aria-labelledby="retry-title"
      data-testid="onboarding-retry"
    >
      <h3 id="retry-title">
        <Icon name="warning" />
        {texts.onboarding.retryTitle}
      </h3>
      <p>{reason || (triesLeft !== null ? texts.onboarding.tries(triesLeft) : "")}</p>
    </div>
  );
}
