import {
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
  type ReactElement,
  type ReactNode,
  type RefObject,
} from "react";
import { isSoundOn, playReplySound, setSoundOn } from "../lib/sound";
import { HUMAN, MODEL, type TaskConfig } from "../protocol";
import { isTicked, mustAnnotate, sendingBlock, type Event, type State } from "../state/conversation";
import { isModelThinking } from "../state/view";
import { texts } from "../texts";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { ChatLog, PendingMessage, Typing } from "./ChatLog";
import { Composer } from "./Composer";
import { Dialog } from "./Dialog";
import { ConnectionBanner, Header, Progress, SoundSwitch } from "./Header";
import { matches, useFocusOnMount, useMedia } from "./hooks";
import { Icon } from "./Icon";
import { ImagePanel } from "./ImagePanel";
import { MoreTime } from "./MoreTime";
import { RatingForm } from "./RatingForm";
import { noticeText, reasonText } from "./reasons";
import { RichHtml } from "./RichHtml";
import { Timer } from "./Timer";

const NEAR_END = 80;

/** The chat: what was said, the boxes of the last reply, and the field to write in, or the questions at the end. */
export function ChatScreen({
  config,
  state,
  connected,
  justBack,
  dispatch,
  onSend,
  onMoreTime,
}: {
  config: TaskConfig;
  state: State;
  connected: boolean;
  justBack: boolean;
  dispatch: (event: Event) => void;
  onSend: () => void;
  onMoreTime: () => void;
}): ReactElement {
  const { view, draft, pending } = state;
  const rating = view.turn?.ask === "final_rating";
  const block = sendingBlock(state);
  const annotate = mustAnnotate(state) && pending === null && view.turn !== null;
  const [pointedOut, setPointedOut] = useState(false);
  const [describing, setDescribing] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const last = useRef<HTMLLIElement>(null);
  const scroll = useChatScroll(box, last, state);
  useReplySignals(view.messages.filter((message) => message.agentIdx === MODEL && !message.fakeStart).length);

  const exchanges = view.messages.filter(
    (message) => message.agentIdx === HUMAN && !message.fakeStart && !message.attentionCheck,
  ).length;
  const checking = view.messages.at(-1)?.attentionCheck === true;
  const waitingForReply = (view.turn === null || checking) && exchanges > 0;
  const done = waitingForReply ? exchanges - 1 : exchanges;
  const send = (): void => {
    setPointedOut(block !== null);
    onSend();
  };
  const missing = pointedOut && block === "annotation_missing";
  const boxes = annotate && config.annotation !== null && (
    <AnnotationBoxes
      config={config.annotation}
      ticked={Object.keys(draft.ticks).filter((value) => draft.ticks[value] === true)}
      missing={missing && !isTicked(draft)}
      onTick={(value, on) => {
        dispatch({ type: "ticked", value, on });
      }}
    />
  );

  return (
    <div className={view.image === null ? "chat-layout" : "chat-layout with-image"}>
      <PaneAndHeader
        config={config}
        state={state}
        progress={<Progress done={done} all={view.numTurns} rating={rating} />}
        onDescribe={() => {
          setDescribing(true);
        }}
      />
      <ConnectionBanner lost={!connected} back={justBack} />
      {view.image !== null && <ImagePanel {...view.image} />}
      <main className="chat">
        <div
          className="scroll"
          ref={box}
          tabIndex={0}
          role="region"
          aria-label={texts.log.label}
          onScroll={scroll.onScroll}
        >
          <div className="column">
            <ChatLog view={view} annotation={config.annotation} lastRef={last} />
            {pending?.kind === "message" && <PendingMessage pending={pending} connected={connected} />}
            {isModelThinking(view) && pending === null && <Typing />}
            {!rating && boxes}
            {rating && (
              <RatingCard>
                {boxes}
                <RatingForm
                  questions={config.final_rating_questions}
                  ratings={draft.ratings}
                  disabled={pending !== null}
                  onRate={(question, value) => {
                    dispatch({ type: "rated", question, rating: value });
                  }}
                />
              </RatingCard>
            )}
          </div>
        </div>
        {scroll.below && (
          <button type="button" className="jump" onClick={scroll.toEnd}>
            <Icon name="down" />
            <span>{texts.log.newReply}</span>
          </button>
        )}
        <div className="foot">
          <MoreTime turn={pending === null ? view.turn : null} onAsk={onMoreTime} />
          <div className="column">
            <div role="alert">
              {state.notice !== null && (
                <p className="alert" data-testid="refusal">
                  <Icon name="warning" />
                  {noticeText(state)}
                </p>
              )}
            </div>
            {rating ? (
              <RatingFoot
                reason={reasonText(state)}
                blocked={block !== null}
                sending={pending !== null}
                onSend={send}
              />
            ) : (
              <Composer
                text={draft.text}
                block={block}
                reason={reasonText(state)}
                maxLength={config.max_message_length}
                onType={(text) => {
                  dispatch({ type: "typed", text, at: Date.now() });
                }}
                onSend={send}
              />
            )}
          </div>
        </div>
      </main>
      {describing && (
        <Dialog
          title={texts.pane.descriptionTitle}
          onClose={() => {
            setDescribing(false);
          }}
        >
          <RichHtml html={config.task_description} />
        </Dialog>
      )}
    </div>
  );
}

function PaneAndHeader({
  config,
  state,
  progress,
  onDescribe,
}: {
  config: TaskConfig;
  state: State;
  progress: ReactElement;
  onDescribe: () => void;
}): ReactElement {
  const id = useId();
  const narrow = useMedia("(max-width: 819px)");
  const [open, setOpen] = useState(false);
  const [sound, setSound] = useState(isSoundOn);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // With a keyboard the focus goes to the field to write in; on a phone that would bring the keyboard up.
    if (!matches("(pointer: fine)")) heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <>
      <Header
        title={config.chat_title || texts.defaultTitle}
        headingRef={heading}
        progress={progress}
        left={
          narrow && (
            <button
              type="button"
              className="icon-button"
              aria-expanded={open}
              aria-controls={id}
              aria-label={open ? texts.header.hidePane : texts.header.showPane}
              data-testid="pane-toggle"
              onClick={() => {
                setOpen(!open);
              }}
            >
              <Icon name={open ? "close" : "panel"} />
            </button>
          )
        }
      >
        <Timer deadline={state.pending === null ? (state.view.turn?.deadline ?? null) : null} />
        <SoundSwitch
          on={sound}
          onToggle={() => {
            setSoundOn(!sound);
            setSound(!sound);
          }}
        />
      </Header>
      <aside
        id={id}
        className="pane"
        aria-label={texts.pane.label}
        data-testid="pane"
        hidden={narrow && !open}
        tabIndex={config.task_description === "" ? 0 : undefined}
        onKeyDown={(event) => {
          if (event.key === "Escape" && narrow) setOpen(false);
        }}
      >
        <h2>{texts.pane.heading}</h2>
        <RichHtml html={config.left_pane_text} personas={state.view.personas} />
        {config.task_description !== "" && (
          <button type="button" className="quiet-button" data-testid="description-button" onClick={onDescribe}>
            <Icon name="book" />
            {texts.pane.description}
          </button>
        )}
      </aside>
    </>
  );
}

function RatingCard({ children }: { children: ReactNode }): ReactElement {
  const heading = useFocusOnMount<HTMLHeadingElement>();
  return (
    <section className="rating-card" aria-labelledby="rating-title">
      <h2 id="rating-title" ref={heading} tabIndex={-1}>
        {texts.rating.title}
      </h2>
      <p>{texts.rating.intro}</p>
      {children}
    </section>
  );
}

function RatingFoot({
  reason,
  blocked,
  sending,
  onSend,
}: {
  reason: string;
  blocked: boolean;
  sending: boolean;
  onSend: () => void;
}): ReactElement {
  const id = useId();
  return (
    <div className="rating-foot">
      <p id={id} className="reason" role="status" data-testid="send-reason">
        {sending ? texts.rating.sending : reason}
      </p>
      <button
        type="button"
        className="primary-button"
        data-testid="send"
        aria-disabled={blocked}
        aria-describedby={id}
        onClick={onSend}
      >
        {texts.rating.send}
      </button>
    </div>
  );
}

/** A sound, and a mark in the title of a page that is not looked at, when a reply comes. */
function useReplySignals(replies: number): void {
  const known = useRef(replies);
  useEffect(() => {
    if (replies <= known.current) return;
    known.current = replies;
    if (isSoundOn()) playReplySound();
    if (!document.hidden) return;
    const title = document.title;
    document.title = `● ${texts.log.titleOnReply}`;
    const restore = (): void => {
      document.title = title;
    };
    document.addEventListener("visibilitychange", restore, { once: true });
    return restore;
  }, [replies]);
}

interface ChatScroll {
  /** Something new is out of sight. */
  below: boolean;
  onScroll: () => void;
  toEnd: () => void;
}

/**
 * Follows the conversation: to the end, but never past the beginning of a long reply. A worker who has scrolled up to read
 * is left in peace; a button shows that there is something new.
 */
function useChatScroll(box: RefObject<HTMLDivElement>, last: RefObject<HTMLLIElement>, state: State): ChatScroll {
  const atEnd = useRef(true);
  const first = useRef(true);
  const [below, setBelow] = useState(false);
  const { messages } = state.view;
  const pendingId = state.pending?.messageId;
  const thinking = isModelThinking(state.view);
  const asking = state.view.turn?.ask;
  const lastKey = messages.at(-1)?.key;

  const follow = (smooth: boolean): void => {
    const { current } = box;
    if (current === null) return;
    const end = current.scrollHeight - current.clientHeight;
    const start = last.current === null ? end : last.current.offsetTop - 20;
    const reply = messages.at(-1)?.agentIdx === MODEL && state.pending === null;
    const calm = !smooth || matches("(prefers-reduced-motion: reduce)");
    current.scrollTo({ top: reply ? Math.min(end, start) : end, behavior: calm ? "auto" : "smooth" });
    setBelow(false);
  };

  useLayoutEffect(() => {
    if (messages.length === 0 && pendingId === undefined) return;
    if (first.current || atEnd.current || pendingId !== undefined) follow(!first.current);
    else setBelow(true);
    first.current = false;
    // Only what adds something at the end moves the view, not every change of the state.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [lastKey, pendingId, thinking, asking]);

  return {
    below,
    onScroll: () => {
      const { current } = box;
      if (current === null) return;
      atEnd.current = current.scrollHeight - current.clientHeight - current.scrollTop < NEAR_END;
      if (atEnd.current) setBelow(false);
    },
    toEnd: () => {
      follow(true);
      atEnd.current = true;
    },
  };
}
