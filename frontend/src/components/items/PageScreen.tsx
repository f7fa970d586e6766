import { useEffect, useId, useRef, type ReactElement } from "react";
import type { TaskConfig } from "../../protocol";
import { CONSENT, checkForm, formOf, sendingBlock, type Event, type State } from "../../state/conversation";
import type { StudyPage } from "../../study/items";
import { texts } from "../../texts";
import { Alert } from "../Alert";
import { leadTo, useGuidance } from "../guidance";
import { ConnectionBanner, Header } from "../Header";
import { MoreTime } from "../MoreTime";
import { noticeText, placeOfNotice, reasonText } from "../reasons";
import { RichHtml } from "../RichHtml";
import { Timer } from "../Timer";
import { ItemList } from "./ItemList";
import { StudyText } from "../StudyText";

export interface PageScreenProps {
  config: TaskConfig;
  state: State;
  page: StudyPage;
  connected: boolean;
  justBack: boolean;
  dispatch: (event: Event) => void;
  onSend: () => void;
  onMoreTime: () => void;
}

const TITLES = {
  consent: texts.study.consentTitle,
  questions: texts.study.questionsTitle,
  text: texts.study.textTitle,
};

/** A page of the study flow: consent, questions, or a text. */
export default function PageScreen({
  config,
  state,
  page,
  connected,
  justBack,
  dispatch,
  onSend,
  onMoreTime,
}: PageScreenProps): ReactElement {
  const { view, draft, pending, notice } = state;
  const id = useId();
  const column = useRef<HTMLDivElement>(null);
  const main = useRef<HTMLElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const guidance = useGuidance(column);
  const block = sendingBlock(state);
  const form = formOf(state);
  // Between two pages nothing is asked; what was answered stays in sight.
  const shown = form ?? { key: `page:${page.id}`, items: page.items, reply: null };
  const busy = pending !== null || form === null;
  const { clear } = guidance;

  useEffect(() => {
    heading.current?.focus();
    main.current?.scrollTo({ top: 0 });
    clear();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- once for each page
  }, [page.id]);
  useEffect(() => {
    const place = placeOfNotice(notice);
    if (place !== null) leadTo(column.current, place);
  }, [notice]);

  const send = (): void => {
    if (block !== null) {
      guidance.point(block, reasonText(state));
      return;
    }
    guidance.clear();
    onSend();
  };
  const answer = (consent: "accept" | "decline"): void => {
    if (busy) return;
    dispatch({ type: "entered", form: shown.key, item: CONSENT, entry: consent });
    onSend();
  };
  const missing = guidance.pointedOut && block === "answers_missing";
  return (
    <div className="page-layout study-page" data-page={page.id}>
      <Header
        title={config.chat_title || texts.defaultTitle}
        progress={
          <p className="progress" data-testid="step">
            {texts.study.step(page.idx + 1, page.all)}
          </p>
        }
      >
        <Timer deadline={pending === null ? (view.turn?.deadline ?? null) : null} />
      </Header>
      <ConnectionBanner lost={!connected} back={justBack} />
      <main className="page" ref={main} tabIndex={0} aria-labelledby={id}>
        <div className="column" ref={column}>
          <h2 className="page-title" id={id} ref={heading} tabIndex={-1}>
            <StudyText>{page.title || TITLES[page.kind]}</StudyText>
          </h2>
          {page.text !== "" && <PageText text={page.text} card={page.kind !== "questions"} />}
          {page.kind === "consent" && config.record_authenticity && view.messages.length === 0 && (
            <section className="card" data-testid="authenticity">
              <p>{texts.study.authenticity}</p>
            </section>
          )}
          {page.items.length > 0 && (
            <ItemList
              key={page.id}
              checked={checkForm(state, shown)}
              entries={draft.forms[shown.key] ?? {}}
              reply={null}
              disabled={busy}
              pointedOut={guidance.pointedOut}
              onEnter={(item, entry) => {
                dispatch({ type: "entered", form: shown.key, item, entry });
              }}
            />
          )}
        </div>
      </main>
      <div className="foot">
        <MoreTime turn={pending === null ? view.turn : null} onAsk={onMoreTime} />
        <div className="column">
          <Alert text={noticeText(state)} testId="refusal" />
          {guidance.announcement}
          <div className="rating-foot">
            <p
              id={`${id}-reason`}
              className={missing ? "reason strong" : "reason"}
              role="status"
              data-testid="send-reason"
            >
              {busy ? texts.study.saving : page.kind === "consent" ? "" : reasonText(state)}
            </p>
            {page.kind === "consent" ? (
              <div className="consent-buttons">
                <button
                  type="button"
                  className="quiet-button"
                  data-testid="decline"
                  aria-disabled={busy}
                  onClick={() => {
                    answer("decline");
                  }}
                >
                  <StudyText>{page.decline || texts.study.decline}</StudyText>
                </button>
                <button
                  type="button"
                  className="primary-button"
                  data-testid="accept"
                  aria-disabled={busy}
                  onClick={() => {
                    answer("accept");
                  }}
                >
                  <StudyText>{page.accept || texts.study.accept}</StudyText>
                </button>
              </div>
            ) : (
              <button
                type="button"
                className="primary-button"
                data-testid="continue"
                aria-disabled={block !== null}
                aria-describedby={`${id}-reason`}
                onClick={send}
              >
                {texts.study.next}
              </button>
            )}
          </div>
        </div>
      </div>
    </div>
  );
}

/** A text of the requester: HTML, or plain text with its line breaks. */
function PageText({ text, card }: { text: string; card: boolean }): ReactElement {
  const isHtml = /<[a-z]+[\s/>]/i.test(text);
  const content = isHtml ? <RichHtml html={text} /> : <p className="plain-text">{text}</p>;
  return card ? <section className="card">{content}</section> : <div className="lead">{content}</div>;
}
