import { useEffect, useId, useRef, type ReactElement } from "react";
import { MODEL, type OnboardingData, type OnboardingUtterance, type Place, type TaskConfig } from "../protocol";
import { onboardingMissing, sendingBlock, type Event, type State } from "../state/conversation";
import type { OnboardingView } from "../state/view";
import { texts } from "../texts";
import { Alert } from "./Alert";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { Bubble } from "./Bubble";
import { reveal, useGuidance } from "./guidance";
import { ConnectionBanner, Header } from "./Header";
import { useFocusOnMount } from "./hooks";
import { Icon } from "./Icon";
import { noticeText, reasonText } from "./reasons";
import { Timer } from "./Timer";
import { StudyText } from "./StudyText";

type RetryView = NonNullable<OnboardingView["retry"]>;

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
  const { retry } = onboarding;
  const id = useId();
  const heading = useFocusOnMount<HTMLHeadingElement>();
  const form = useRef<HTMLDivElement>(null);
  const guidance = useGuidance(form);
  const block = sendingBlock(state);
  const sending = state.pending !== null;
  const all = data.dialogs.flat().filter((utterance) => utterance.agent_idx === MODEL).length;
  const done = all - onboardingMissing(state);
  const missing = guidance.pointedOut && block === "onboarding_missing";
  const send = (): void => {
    if (block !== null) {
      guidance.point(block, reasonText(state));
      return;
    }
    guidance.clear();
    onSend();
  };
  const status = sending
    ? texts.onboarding.checking
    : missing
      ? reasonText(state)
      : texts.onboarding.progress(done, all);
  const tries = onboarding.triesLeft === null || sending ? [] : [texts.onboarding.tries(onboarding.triesLeft)];
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
                  <dt>
                    <StudyText>{bucket.name}</StudyText>
                  </dt>
                  <dd>
                    <StudyText>{bucket.description}</StudyText>
                  </dd>
                </div>
              ))}
            </dl>
          </details>
          {retry !== null && (
            <Retry
              key={retry.key}
              retry={retry}
              dialogs={data.dialogs}
              triesLeft={onboarding.triesLeft}
              onGoTo={(place) => {
                const boxes = form.current?.querySelector<HTMLElement>(`[data-testid="${boxesAt(place)}"]`);
                boxes?.querySelector("input")?.focus({ preventScroll: true });
                if (boxes) reveal(boxes);
              }}
            />
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
                  const place = { dialog_idx: dialogIdx, utterance_idx: utteranceIdx };
                  return (
                    <li key={utteranceIdx} data-testid="onboarding-utterance">
                      <Bubble agentIdx={utterance.agent_idx} text={utterance.text} />
                      {utterance.agent_idx === MODEL && (
                        <div className="onboarding-boxes">
                          <AnnotationBoxes
                            config={data.annotation}
                            ticked={ticked}
                            disabled={sending}
                            missing={missing && ticked.length === 0}
                            empty={ticked.length === 0}
                            testId={boxesAt(place)}
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
                          {retry !== null && <Verdict retry={retry} place={place} />}
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
          <Alert text={noticeText(state)} testId="refusal" />
          {guidance.announcement}
          <div className="rating-foot">
            <p id={id} className={missing ? "reason strong" : "reason"} role="status" data-testid="send-reason">
              {[...tries, status].join(" · ")}
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

function boxesAt({ dialog_idx, utterance_idx }: Place): string {
  return `onboarding-${dialog_idx}-${utterance_idx}`;
}

function isSame(one: Place, other: Place): boolean {
  return one.dialog_idx === other.dialog_idx && one.utterance_idx === other.utterance_idx;
}

/** What the server said of a try that did not pass, with the way to each reply that was wrong. */
function Retry({
  retry,
  dialogs,
  triesLeft,
  onGoTo,
}: {
  retry: RetryView;
  dialogs: readonly (readonly OnboardingUtterance[])[];
  triesLeft: number | null;
  onGoTo: (place: Place) => void;
}): ReactElement {
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
        <span>{texts.onboarding.retryTitle}</span>
      </h3>
      <p>{retry.reason || (triesLeft !== null ? texts.onboarding.tries(triesLeft) : "")}</p>
      {retry.wrong !== null && retry.wrong.length > 0 && (
        <>
          <p>{texts.onboarding.wrongReplies}</p>
          <ul>
            {retry.wrong.map((place) => {
              const dialog = dialogs[place.dialog_idx] ?? [];
              const isReply = (utterance: OnboardingUtterance): boolean => utterance.agent_idx === MODEL;
              const reply = dialog.slice(0, place.utterance_idx + 1).filter(isReply).length;
              return (
                <li key={boxesAt(place)}>
                  <button
                    type="button"
                    className="link-button"
                    data-testid="wrong-reply"
                    onClick={() => {
                      onGoTo(place);
                    }}
                  >
                    {texts.onboarding.wrongReply(place.dialog_idx + 1, reply, dialog.filter(isReply).length)}
                  </button>
                </li>
              );
            })}
          </ul>
        </>
      )}
    </div>
  );
}

/** Whether one reply was marked as the guidelines say in the last try, and why. */
function Verdict({ retry, place }: { retry: RetryView; place: Place }): ReactElement | null {
  const explanation = retry.explanations.find((entry) => isSame(entry, place));
  const wrong = retry.wrong === null ? null : retry.wrong.some((entry) => isSame(entry, place));
  if (explanation === undefined && wrong !== true) return null;
  return (
    <div className={wrong === null ? "verdict" : wrong ? "verdict wrong" : "verdict right"} data-testid="verdict">
      {wrong !== null && (
        <p>
          <Icon name={wrong ? "warning" : "done"} />
          <strong>{wrong ? texts.onboarding.wrong : texts.onboarding.right}</strong>
        </p>
      )}
      {explanation !== undefined && <p data-testid="explanation">{texts.onboarding.explanation(explanation.text)}</p>}
    </div>
  );
}
