/** What the server has said so far, folded into what can be shown. No React, no clock, no network. */

import {
  HUMAN,
  MODEL,
  isRecord,
  list,
  number,
  readEnding,
  text,
  type Ending,
  type Explanation,
  type Json,
  type Place,
  type ServerUpdate,
} from "../protocol";
import { readItems, readPage, type Item, type StudyPage } from "../study/items";
import { readComparison, readScale, type Comparison, type Scale } from "./comparison";

/** A server update and when it reached the page (epoch milliseconds, the page's clock). */
export interface Logged {
  update: ServerUpdate;
  receivedAt: number;
}

export type Ticks = Readonly<Record<string, boolean>>;

export interface Message {
  key: string;
  utteranceIdx: number;
  agentIdx: number;
  text: string;
  fakeStart: boolean;
  /** Boxes can be ticked for it, if it is the model's and the task has boxes. */
  annotate: boolean;
  /** An attention check, or the answer to one: no exchange of the chat. */
  attentionCheck: boolean;
  /** The page's own id of a message of the worker. */
  messageId: string | null;
  /** Which of two chats it belongs to; 0 where there is one. */
  chatIdx: number;
  receivedAt: number;
}

export type Ask = "message" | "comparison" | "annotation" | "chat_done" | "final_rating" | "page";

/** The worker may send. */
export interface Turn {
  /** Id of the update that began it. */
  key: string;
  ask: Ask;
  /** 0-based exchange. */
  turnIdx: number;
  numTurns: number;
  /** Seconds that the server gives for the turn; 0 when it did not say. */
  seconds: number;
  /** Epoch milliseconds on the page's clock. */
  deadline: number | null;
  /** How many times the worker may still ask for more time. */
  extensionsLeft: number;
  /** Seconds that the worker has got on request, from when they were given; null without. */
  given: number | null;
  /** How two replies, or chats, are compared; null when something else is asked. */
  scale: Scale | null;
}

/** Why a conversation ended before its end; "" where it did not, or the server does not say. */
export type Cause = "stopped" | "timeout" | "declined" | "";

export interface Refusal {
  messageId: string | null;
  code: string;
  reason: string;
}

export interface OnboardingView {
  triesLeft: number | null;
  seconds: number;
  deadline: number | null;
  /** Set after a try that did not pass. */
  retry: {
    key: string;
    reason: string;
    explanations: Explanation[];
    /** The replies whose boxes were wrong; null from a server that does not say. */
    wrong: Place[] | null;
  } | null;
  outcome: "passed" | "failed" | null;
  failureReason: string;
  /** Of a panel's participant who has failed. */
  ending?: Ending;
  /** How many tries the server has answered. */
  answered: number;
}

export interface View {
  started: boolean;
  displayName: string;
  personas: string[];
  numTurns: number;
  image: { url: string; alt: string } | null;
  messages: readonly Message[];
  /** Accepted annotations, by utterance index. */
  annotations: Readonly<Record<number, Ticks>>;
  turn: Turn | null;
  /** The page of the study flow that is shown; it stays until something else comes. */
  page: StudyPage | null;
  /** The final ratings have arrived, and a page follows. */
  awaitsPage: boolean;
  /** What is asked of every reply, and of the last one. */
  replyItems: { every: readonly Item[]; last: readonly Item[] };
  /** Two replies of which the worker is to say which is better. */
  comparison: Comparison | null;
  /** 2 where whole chats are compared. */
  numChats: number;
  /** The chat that goes on, 0-based; `numChats` when all are over. */
  chatIdx: number;
  /** What is asked about both chats; null before their end. */
  questions: readonly string[] | null;
  /** Ids of the worker's messages that the server has taken. */
  arrived: ReadonlySet<string>;
  refusals: readonly Refusal[];
  modelFailed: string | null;
  /** `ending`: how it has ended for a panel's participant. */
  ended: { complete: boolean; reason: string; cause: Cause; ending?: Ending } | null;
  onboarding: OnboardingView;
}

export const EMPTY_VIEW: View = {
  started: false,
  displayName: "",
  personas: [],
  numTurns: 0,
  image: null,
  messages: [],
  annotations: {},
  turn: null,
  page: null,
  awaitsPage: false,
  replyItems: { every: [], last: [] },
  comparison: null,
  numChats: 1,
  chatIdx: 0,
  questions: null,
  arrived: new Set(),
  refusals: [],
  modelFailed: null,
  ended: null,
  onboarding: {
    triesLeft: null,
    seconds: 0,
    deadline: null,
    retry: null,
    outcome: null,
    failureReason: "",
    answered: 0,
  },
};

/** Apply one update. The caller sees to it that each is applied once. */
export function applyUpdate(view: View, logged: Logged): View {
  const { update } = logged;
  const data = update.task_data;
  return typeof data.control === "string"
    ? applyControl(view, data.control, data, logged)
    : applyMessage(view, data, logged);
}

function applyMessage(view: View, data: Json, { update, receivedAt }: Logged): View {
  if (update.text === "" && data.agent_idx === undefined) return view;
  const agentIdx = number(data.agent_idx, MODEL);
  const messageId = typeof data.message_id === "string" ? data.message_id : null;
  const message: Message = {
    key: update.update_id,
    utteranceIdx: number(data.utterance_idx, view.messages.length),
    agentIdx,
    text: update.text,
    fakeStart: update.fake_start,
    annotate: !update.fake_start && data.annotate !== false,
    attentionCheck: data.attention_check === true,
    messageId,
    chatIdx: number(data.chat_idx, 0),
    receivedAt,
  };
  return {
    ...view,
    started: true,
    page: null,
    messages: [...view.messages, message],
    annotations: withAnnotation(view, data),
    arrived: messageId === null ? view.arrived : new Set([...view.arrived, messageId]),
    turn: agentIdx === HUMAN ? null : view.turn,
    comparison: null,
    chatIdx: Math.max(view.chatIdx, message.chatIdx),
  };
}

function withAnnotation(view: View, data: Json): View["annotations"] {
  if (!isRecord(data.problem_data) || typeof data.annotated_utterance_idx !== "number") return view.annotations;
  const ticks = Object.fromEntries(Object.entries(data.problem_data).map(([bucket, on]) => [bucket, on === true]));
  return { ...view.annotations, [data.annotated_utterance_idx]: ticks };
}

function applyControl(view: View, control: string, data: Json, { update, receivedAt }: Logged): View {
  const seconds = number(data.seconds, 0);
  const deadline = seconds > 0 ? receivedAt + seconds * 1000 : null;
  switch (control) {
    case "start":
      return {
        ...view,
        started: true,
        page: null,
        displayName: text(data.agent_display_name),
        personas: list(data.personas).filter((line): line is string => typeof line === "string"),
        numTurns: number(data.num_turns, view.numTurns),
        numChats: number(data.num_chats, 1),
        image: typeof data.image === "string" ? { url: data.image, alt: text(data.image_alt) } : null,
      };
    case "your_turn": {
      const numTurns = number(data.num_turns, view.numTurns);
      const page = data.ask === "page" ? readPage(data) : null;
      return {
        ...view,
        started: true,
        numTurns,
        page,
        awaitsPage: false,
        turn: {
          ask: page !== null ? "page" : isAsk(data.ask) ? data.ask : "message",
          scale: data.ask === "comparison" ? readScale(data) : null,
          turnIdx: number(data.turn_idx, 0),
          numTurns,
          seconds,
          key: update.update_id,
          deadline,
          extensionsLeft: number(data.extensions_left, 0),
          given: null,
        },
      };
    }
    case "more_time":
      if (view.turn === null || view.turn.turnIdx !== data.turn_idx) return view;
      return {
        ...view,
        turn: { ...view.turn, deadline, extensionsLeft: number(data.extensions_left, 0), given: seconds },
      };
    case "page_done":
      return { ...view, turn: null, arrived: withArrived(view, data) };
    case "rating_done":
      return {
        ...view,
        turn: null,
        awaitsPage: true,
        arrived: withArrived(view, data),
        annotations: withAnnotation(view, data),
      };
    case "annotated":
      return { ...view, turn: null, arrived: withArrived(view, data), annotations: withAnnotation(view, data) };
    case "reply_items":
      return { ...view, replyItems: { every: readItems(data.every_reply), last: readItems(data.last_reply) } };
    case "chat_done":
      return {
        ...view,
        turn: null,
        chatIdx: number(data.chat_idx, view.chatIdx) + 1,
        arrived: withArrived(view, data),
        annotations: withAnnotation(view, data),
      };
    case "comparison":
      return Array.isArray(data.questions)
        ? { ...view, started: true, turn: null, questions: data.questions.map((question) => text(question)) }
        : { ...view, started: true, turn: null, comparison: readComparison(data) };
    case "comparison_done":
      return {
        ...view,
        turn: null,
        awaitsPage: view.questions !== null,
        comparison: null,
        arrived: withArrived(view, data),
      };
    case "refused":
      return { ...view, refusals: [...view.refusals, readRefusal(data)] };
    case "model_failed":
      return { ...view, turn: null, comparison: null, questions: null, modelFailed: text(data.reason) };
    case "ended":
      return {
        ...view,
        turn: null,
        comparison: null,
        questions: null,
        ended: {
          complete: data.outcome === "complete",
          reason: text(data.reason),
          cause: readCause(data.cause),
          ...withEnding(data),
        },
      };
    case "onboarding_start":
      return withOnboarding(view, { triesLeft: tries(data), seconds, deadline });
    case "onboarding_retry":
      return withOnboarding(view, {
        triesLeft: tries(data),
        retry: {
          key: update.update_id,
          reason: text(data.reason),
          explanations: list(data.explanations).filter(isRecord).map(readExplanation),
          wrong: Array.isArray(data.wrong) ? data.wrong.filter(isRecord).map(readPlace) : null,
        },
        answered: view.onboarding.answered + 1,
      });
    case "onboarding_passed":
      return withOnboarding(view, { outcome: "passed", answered: view.onboarding.answered + 1 });
    case "onboarding_failed":
      return withOnboarding(view, {
        outcome: "failed",
        failureReason: text(data.reason),
        ...withEnding(data),
        answered: view.onboarding.answered + 1,
      });
    default:
      return view; // said by a newer server: nothing that this page could show
  }
}

function isAsk(ask: unknown): ask is "comparison" | "annotation" | "chat_done" | "final_rating" {
  return ask === "comparison" || ask === "annotation" || ask === "chat_done" || ask === "final_rating";
}

function withArrived(view: View, data: Json): View["arrived"] {
  return typeof data.message_id === "string" ? new Set([...view.arrived, data.message_id]) : view.arrived;
}

function withOnboarding(view: View, change: Partial<OnboardingView>): View {
  return { ...view, onboarding: { ...view.onboarding, ...change } };
}

function withEnding(data: Json): { ending?: Ending } {
  const ending = readEnding(data.ending);
  return ending === null ? {} : { ending };
}

function readCause(raw: unknown): Cause {
  return raw === "stopped" || raw === "timeout" || raw === "declined" ? raw : "";
}

function tries(data: Json): number | null {
  return typeof data.tries_left === "number" ? data.tries_left : null;
}

function readRefusal(data: Json): Refusal {
  return {
    messageId: typeof data.message_id === "string" ? data.message_id : null,
    code: text(data.code),
    reason: text(data.reason),
  };
}

function readPlace(raw: Json): Place {
  return { dialog_idx: number(raw.dialog_idx, -1), utterance_idx: number(raw.utterance_idx, -1) };
}

function readExplanation(raw: Json): Explanation {
  return { ...readPlace(raw), text: text(raw.text) };
}

/** The model's last reply, if the worker has to annotate it before continuing; else null. */
export function utteranceToAnnotate(view: View): Message | null {
  const last = view.messages.at(-1);
  if (last === undefined || last.agentIdx !== MODEL || !last.annotate) return null;
  return view.annotations[last.utteranceIdx] === undefined ? last : null;
}

/** The model's last reply and what is asked of it, if something is; else null. */
export function replyToAnswer(view: View): { reply: Message; items: readonly Item[] } | null {
  const reply = view.messages.at(-1);
  const { turn, replyItems } = view;
  if (reply === undefined || turn === null || turn.ask === "page" || turn.ask === "comparison") return null;
  if (reply.agentIdx !== MODEL || reply.fakeStart || reply.attentionCheck) return null;
  const isLast = turn.ask === "final_rating" || turn.ask === "chat_done";
  const items = isLast ? [...replyItems.every, ...replyItems.last] : replyItems.every;
  return items.length === 0 ? null : { reply, items };
}

/** The messages of the chat that goes on. */
export function messagesOfChat(view: View, chatIdx: number = view.chatIdx): readonly Message[] {
  return view.numChats < 2 ? view.messages : view.messages.filter((message) => message.chatIdx === chatIdx);
}

/** Whether the conversation is open and it is the model's turn. */
export function isModelThinking(view: View): boolean {
  return (
    view.started &&
    view.turn === null &&
    view.comparison === null &&
    view.questions === null &&
    view.ended === null &&
    view.modelFailed === null
  );
}
