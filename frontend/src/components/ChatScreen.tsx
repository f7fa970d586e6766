import { Suspense, useCallback, useEffect, useRef, useState, type ReactElement } from "react";
import { HUMAN, MODEL, type TaskConfig } from "../protocol";
import { formOf, isTicked, mustAnnotate, sendingBlock, type Event, type State } from "../state/conversation";
import { growingReply } from "../state/parts";
import type { Answer } from "../state/comparison";
import { isModelThinking, messagesOfChat, type View } from "../state/view";
import { texts } from "../texts";
import { Alert } from "./Alert";
import { AnnotationBoxes } from "./AnnotationBoxes";
import { ChatNumber, ChatPairCard } from "./ChatPairCard";
import { ComparisonCard, ReplyPair } from "./ComparisonCard";
import { ChatLog, PendingMessage, Typing } from "./ChatLog";
import { useChatScroll } from "./chatScroll";
import { Composer } from "./Composer";
import { Dialog } from "./Dialog";
import { leadTo, useGuidance } from "./guidance";
import { ConnectionBanner, Progress } from "./Header";
import { Icon } from "./Icon";
import { ImagePanel } from "./ImagePanel";
import { ReplyItems } from "./items/lazily";
import { MoreTime } from "./MoreTime";
import { PaneAndHeader } from "./PaneAndHeader";
import { RatingCard, RatingFoot } from "./RatingCard";
import { RatingForm } from "./RatingForm";
import { noticeText, placeOfNotice, reasonText } from "./reasons";
import { useReplySignals } from "./replySignals";
import { RichHtml } from "./RichHtml";

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
  const { view, draft, pending, notice } = state;
  const rating = view.turn?.ask === "final_rating";
  const comparing = view.comparison !== null;
  const { judging } = config;
  const { questions } = view;
  const chat = messagesOfChat(view);
  const closing = view.turn?.ask === "chat_done";
  const block = sendingBlock(state);
  const asked = formOf(state) !== null && pending === null && view.turn !== null;
  const annotate = mustAnnotate(state) && pending === null && view.turn !== null;
  const [describing, setDescribing] = useState(false);
  const main = useRef<HTMLElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const last = useRef<HTMLLIElement>(null);
  const growing = growingReply(state.parts);
  const [left, right] = [growingReply(state.parts, "left"), growingReply(state.parts, "right")];
  const sides = left === null && right === null ? null : { left, right };
  const scroll = useChatScroll(box, last, state);
  const guidance = useGuidance(main);
  const checking = view.messages.at(-1)?.attentionCheck === true;
  const said = view.messages.filter((message) => message.agentIdx === MODEL && !message.fakeStart);
  const replies = said.filter((message) => !message.attentionCheck).length;
  // Replies of a finished conversation come when the worker asks for them: no sound.
  useReplySignals(judging ? 0 : said.length + (comparing ? 1 : 0));

  useEffect(() => {
    const place = placeOfNotice(notice);
    if (place !== null) leadTo(main.current, place);
  }, [notice]);

  const exchanges = chat.filter(
    (message) => message.agentIdx === HUMAN && !message.fakeStart && !message.attentionCheck,
  ).length;
  const waitingForReply = (view.turn === null || checking || comparing) && exchanges > 0;
  const done = judging ? replies - 1 : waitingForReply ? exchanges - 1 : exchanges;
  const reason = judging && block === "not_your_turn" ? "" : reasonText(state);
  const send = (): void => {
    if (block !== null) {
      guidance.point(block, reasonText(state));
      return;
    }
    guidance.clear();
    onSend();
    // The worker pressed the button and continues to write.
    main.current?.querySelector("textarea")?.focus({ preventScroll: true });
  };
  const choose = useCallback(
    (question: number, answer: Answer) => {
      dispatch({ type: "chosen", question, answer });
    },
    [dispatch],
  );
  const strong = guidance.pointedOut && block !== null;
  const boxes = annotate && config.annotation !== null && (
    <AnnotationBoxes
      config={config.annotation}
      ticked={Object.keys(draft.ticks).filter((value) => draft.ticks[value] === true)}
      missing={guidance.pointedOut && block === "annotation_missing" && !isTicked(draft)}
      empty={!isTicked(draft)}
      keys="page"
      onTick={(value, on) => {
        dispatch({ type: "ticked", value, on });
      }}
    />
  );

  const items = asked && (
    <Suspense fallback={null}>
      <ReplyItems state={state} pointedOut={guidance.pointedOut && block === "answers_missing"} dispatch={dispatch} />
    </Suspense>
  );

  return (
    <div className={view.image === null ? "chat-layout" : "chat-layout with-image"}>
      <PaneAndHeader
        config={config}
        state={state}
        progress={
          <Progress
            done={done}
            all={judging ? view.numTurns + 1 : view.numTurns}
            rating={rating || questions !== null}
            judging={judging}
            label={view.numChats > 1 && questions === null ? texts.chats.number(view.chatIdx + 1, view.numChats) : ""}
          />
        }
        onDescribe={() => {
          setDescribing(true);
        }}
      />
      <ConnectionBanner lost={!connected} back={justBack} />
      {view.image !== null && <ImagePanel {...view.image} />}
      <main className="chat" ref={main}>
        <div
          className="scroll"
          ref={box}
          tabIndex={0}
          role="region"
          aria-label={texts.log.label}
          onScroll={scroll.onScroll}
        >
          <div className={questions === null ? "column" : "column wide"}>
            {view.numChats > 1 && view.chatIdx < view.numChats && (
              <ChatNumber key={`number-${view.chatIdx}`} chatIdx={view.chatIdx} all={view.numChats} />
            )}
            {questions !== null && (
              <ChatPairCard
                chats={[messagesOfChat(view, 0), messagesOfChat(view, 1)]}
                questions={questions}
                scale={view.turn?.scale ?? null}
                choices={draft.choices}
                disabled={pending !== null}
                pointedOut={guidance.pointedOut && block === "choices_missing"}
                maxLength={config.max_message_length}
                onChoose={choose}
                onReason={(question, reason) => {
                  dispatch({ type: "reasoned", question, reason });
                }}
                onSend={send}
              />
            )}
            <ChatLog
              key={view.chatIdx}
              view={{ ...view, messages: chat }}
              annotation={config.annotation}
              growing={growing}
              judging={judging}
              lastRef={last}
            />
            {pending?.kind === "message" && <PendingMessage pending={pending} connected={connected} />}
            {isModelThinking(view) && pending === null && !judging && (
              <Typing hidden={growing !== null || sides !== null} />
            )}
            {sides !== null && (
              <div className="comparison" aria-hidden="true">
                <h2>{texts.comparison.title}</h2>
                <ReplyPair left={sides.left?.text ?? ""} right={sides.right?.text ?? ""} />
              </div>
            )}
            {view.comparison !== null && (
              <ComparisonCard
                comparison={view.comparison}
                scale={view.turn?.scale ?? null}
                choice={draft.choice}
                disabled={pending !== null}
                pointedOut={guidance.pointedOut && (block === "comparison_missing" || block === "boxes_missing")}
                annotation={config.annotation}
                maxLength={config.max_message_length}
                onChoose={(answer) => {
                  dispatch({ type: "chosen", answer });
                }}
                onReason={(reason) => {
                  dispatch({ type: "reasoned", reason });
                }}
                onTick={(side, value, on) => {
                  dispatch({ type: "compared_ticked", side, value, on });
                }}
                onSend={send}
              />
            )}
            {!rating && boxes}
            {!rating && items}
            {rating && (
              <RatingCard title={judging ? texts.judging.ratingTitle : texts.rating.title}>
                {boxes}
                {items}
                <RatingForm
                  questions={config.final_rating_questions}
                  ratings={draft.ratings}
                  disabled={pending !== null}
                  pointedOut={guidance.pointedOut && block === "rating_missing"}
                  onRate={(question, value) => {
                    dispatch({ type: "rated", question, rating: value });
                  }}
                />
              </RatingCard>
            )}
          </div>
        </div>
        {scroll.below && questions === null && (
          <div className="jump-row">
            <button type="button" className="jump" onClick={scroll.toEnd}>
              <Icon name="down" />
              <span>{texts.log.newReply}</span>
            </button>
          </div>
        )}
        <div className="foot">
          <MoreTime turn={pending === null ? view.turn : null} onAsk={onMoreTime} />
          <div className="column">
            <Alert text={noticeText(state)} testId="refusal" />
            {guidance.announcement}
            {rating || comparing || judging || closing || questions !== null ? (
              <RatingFoot
                focused={judging && !rating}
                label={judging && !rating ? texts.judging.next : sendLabel(view)}
                reason={reason || (closing ? texts.chats.over : "")}
                strong={strong}
                blocked={block !== null}
                sending={pending !== null}
                onSend={send}
              />
            ) : (
              <Composer
                text={draft.text}
                block={block}
                reason={reasonText(state)}
                strong={strong}
                hasBoxes={config.annotation !== null}
                maxLength={config.max_message_length}
                counting={config.record_authenticity}
                writing={view.turn?.ask === "message" && pending === null}
                onType={(text, counted) => {
                  dispatch({ type: "typed", text, at: Date.now(), counted });
                }}
                onReturn={() => {
                  dispatch({ type: "returned" });
                }}
                onSend={send}
                onLeave={() => box.current?.focus({ preventScroll: true })}
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

function sendLabel(view: View): string {
  if (view.comparison !== null) return texts.comparison.send;
  if (view.questions !== null) return texts.chats.send;
  if (view.turn?.ask !== "chat_done") return texts.rating.send;
  return view.chatIdx + 1 < view.numChats ? texts.chats.toSecond : texts.chats.toQuestions;
}
