/**
 * The state of one agent's page: what the server has said, what the worker is writing, and what is on its way.
 *
 * A pure reducer. The view comes from the server's updates alone; a message is "pending" from the moment it is sent until
 * the server has said it back, refused it, or gone on without it.
 */

import { isBlank } from "../lib/visibleText";
import {
  HIGHEST_RATING,
  LOWEST_RATING,
  MODEL,
  NONE_ALL_GOOD,
  isRecord,
  list,
  type AnnotationConfig,
  type Json,
} from "../protocol";
import {
  NO_CHOICE,
  SIDES,
  areBoxesMissing,
  isAnswer,
  readChoice,
  toJson,
  type Answer,
  type Choice,
  type Side,
} from "./comparison";
import { isReplyPart, settledParts, withPart, type ReplyPart } from "./parts";
import {
  NO_SIGNALS,
  addSignals,
  ofEmptiedField,
  readSignals,
  signalsToJson,
  sumOfDrafts,
  type Signals,
} from "./signals";
import { checkEntries, type Checked, type Entries, type Entry, type Item } from "../study/items";
import {
  EMPTY_VIEW,
  applyUpdate,
  replyToAnswer,
  utteranceToAnnotate,
  type Logged,
  type Ticks,
  type Turn,
  type View,
} from "./view";

/** The item under which the answer to a page of consent is sent. */
export const CONSENT = "consent";

/** What of the task's configuration decides what may be sent. */
export interface Rules {
  annotation: AnnotationConfig | null;
  ratingQuestions: number;
  /** Characters (code points, as the server counts). */
  maxMessageLength: number;
  /** `agent_idx` of each utterance of each onboarding dialogue; empty when this is no onboarding. */
  onboarding: readonly (readonly number[])[];
  /** How messages are written is counted. */
  counting?: boolean;
}

/** What the worker has written or chosen and not sent. Times are epoch milliseconds. */
export interface Draft {
  text: string;
  /** The utterance that `ticks` are about. */
  ticksFor: number | null;
  ticks: Ticks;
  ratings: readonly (number | null)[];
  choice: Choice;
  /** About two chats, one a question; empty before that is asked. */
  choices: readonly Choice[];
  firstKeyAt: number | null;
  /** Ticked bucket values by dialogue and utterance. */
  onboarding: readonly (readonly (readonly string[])[])[];
  /** What was entered into forms of the study flow, by form (`page:<id>`, `reply:<utterance>`) and item. */
  forms: Readonly<Record<string, Entries>>;
  /** How the text was written; null where that is not counted. */
  signals: Signals | null;
}

/** What is to be filled in just now: a page of the study flow, or what is asked of the last reply. */
export interface Form {
  key: string;
  items: readonly Item[];
  /** The reply that the items are about. */
  reply: string | null;
}

/** Something sent, of which the server has not said yet that it has arrived. */
export interface Pending {
  messageId: string;
  kind: "message" | "comparison" | "annotation" | "chat_done" | "final_rating" | "onboarding" | "page";
  turnIdx: number;
  draft: Draft;
  /** Epoch milliseconds. */
  shownAt: number | null;
  sentAt: number;
  /** Answers to the study flow's items, and the page that they are of (null: of the last reply). */
  answers?: { page: string | null; values: Json };
}

export type NoticeKind = "refused" | "overtaken";

export interface State {
  rules: Rules;
  log: readonly Logged[];
  view: View;
  /** Replies that are still growing; never of one that has arrived. */
  parts: readonly ReplyPart[];
  draft: Draft;
  pending: Pending | null;
  /** Another tab of the same worker has sent something for this turn. */
  elsewhere: { messageId: string; turnIdx: number } | null;
  /** Why the last thing sent was not taken. */
  notice: { kind: NoticeKind; reason: string; code: string } | null;
  agentStatus: string | null;
}

export type Event =
  | { type: "update"; logged: Logged }
  | { type: "caught_up"; log: readonly Logged[] }
  | { type: "status"; status: string }
  /** `counted`: how, since the last change. */
  | { type: "typed"; text: string; at: number; counted?: Partial<Signals> | undefined }
  /** The worker has come back to the page that they left while they wrote. */
  | { type: "returned" }
  | { type: "ticked"; value: string; on: boolean }
  | { type: "rated"; question: number; rating: number }
  | { type: "entered"; form: string; item: string; entry: Entry }
  /** `question`: which of those about two chats. */
  | { type: "chosen"; answer: Answer; question?: number }
  | { type: "reasoned"; reason: string; question?: number }
  /** A box of one of two replies that are compared. */
  | { type: "compared_ticked"; side: Side; value: string; on: boolean }
  | { type: "onboarding_ticked"; dialog: number; utterance: number; value: string; on: boolean }
  | { type: "sent"; messageId: string; at: number }
  | { type: "sent_elsewhere"; messageId: string; turnIdx: number }
  | { type: "elsewhere_expired"; messageId: string }
  | { type: "restored"; draft: Draft; pending: Pending | null };

/** Why sending is not possible just now, the most important first; null when it is. */
export type Block =
  | "over"
  | "pending"
  | "elsewhere"
  | "not_your_turn"
  | "annotation_missing"
  | "boxes_missing"
  | "too_long"
  | "empty"
  | "rating_missing"
  | "answers_missing"
  | "comparison_missing"
  | "choices_missing"
  | "onboarding_missing";

export function emptyDraft(rules: Rules): Draft {
  return {
    text: "",
    ticksFor: null,
    ticks: {},
    ratings: Array.from({ length: rules.ratingQuestions }, () => null),
    choice: NO_CHOICE,
    choices: [],
    firstKeyAt: null,
    onboarding: rules.onboarding.map((dialog) => dialog.map(() => [])),
    forms: {},
    signals: rules.counting === true ? NO_SIGNALS : null,
  };
}

export function initialState(rules: Rules): State {
  return {
    rules,
    log: [],
    view: EMPTY_VIEW,
    parts: [],
    draft: emptyDraft(rules),
    pending: null,
    elsewhere: null,
    notice: null,
    agentStatus: null,
  };
}

export function reduce(state: State, event: Event): State {
  switch (event.type) {
    case "update":
      return withUpdate(state, event.logged);
    case "caught_up":
      return withHistory(state, event.log);
    case "status":
      return state.agentStatus === event.status ? state : { ...state, agentStatus: event.status };
    case "typed":
      return typed(state, event.text, event.at, event.counted ?? {});
    case "returned":
      return counted(state, { away: 1 });
    case "ticked":
      return ticked(state, event.value, event.on);
    case "rated":
      return rated(state, event.question, event.rating);
    case "entered":
      return entered(state, event.form, event.item, event.entry);
    case "chosen":
      return withChoice(state, event.answer, event.question);
    case "reasoned":
      return withChoice(state, { reason: event.reason }, event.question);
    case "compared_ticked":
      return comparedTicked(state, event.side, event.value, event.on);
    case "onboarding_ticked":
      return onboardingTicked(state, event.dialog, event.utterance, event.value, event.on);
    case "sent":
      return sent(state, event.messageId, event.at);
    case "sent_elsewhere":
      return settle({ ...state, elsewhere: { messageId: event.messageId, turnIdx: event.turnIdx } });
    case "elsewhere_expired":
      return state.elsewhere?.messageId === event.messageId ? { ...state, elsewhere: null } : state;
    case "restored":
      return settle({ ...state, draft: fitDraft(event.draft, state.rules), pending: event.pending });
  }
}

// --- what the server says ---

function withUpdate(state: State, logged: Logged): State {
  if (isReplyPart(logged.update)) {
    const parts = withPart(state.parts, state.view, logged.update);
    return parts === state.parts ? state : { ...state, parts };
  }
  if (state.log.some((known) => known.update.update_id === logged.update.update_id)) return state;
  return settle({ ...state, log: [...state.log, logged], view: applyUpdate(state.view, logged) });
}

/**
 * Merge the whole list of what the server has said so far. Its order is the order of the conversation, so updates that
 * had been missed go where they belong; those that came live and are not in the list yet stay at the end.
 */
function withHistory(state: State, history: readonly Logged[]): State {
  const known = new Map(state.log.map((logged) => [logged.update.update_id, logged]));
  const inHistory = new Set<string>();
  const merged: Logged[] = [];
  for (const logged of history) {
    const id = logged.update.update_id;
    if (inHistory.has(id) || isReplyPart(logged.update)) continue;
    inHistory.add(id);
    merged.push(known.get(id) ?? logged);
  }
  merged.push(...state.log.filter((logged) => !inHistory.has(logged.update.update_id)));
  const unchanged = merged.length === state.log.length && merged.every((logged, index) => logged === state.log[index]);
  if (unchanged) return state;
  return settle({ ...state, log: merged, view: merged.reduce(applyUpdate, EMPTY_VIEW) });
}

/** Bring what is local into line with what the server has said. */
function settle(state: State): State {
  return settleForms(settleChoice(settleTicks(settleElsewhere(settlePending(settleParts(state))))));
}

function settleParts(state: State): State {
  const parts = settledParts(state.parts, state.view);
  return parts === state.parts ? state : { ...state, parts };
}

/** Nothing of what somebody entered who declined to take part stays on their machine. */
function settleForms(state: State): State {
  const declined = state.view.ended?.cause === "declined" && Object.keys(state.draft.forms).length > 0;
  return declined ? { ...state, draft: { ...state.draft, forms: {} } } : state;
}

function settlePending(state: State): State {
  const { pending, view } = state;
  if (pending === null) return state;
  if (view.arrived.has(pending.messageId)) return { ...state, pending: null, notice: null };
  const refusal = view.refusals.findLast((refused) => refused.messageId === pending.messageId);
  if (refusal !== undefined) {
    return takeBack(state, pending, { kind: "refused", reason: refusal.reason, code: refusal.code });
  }
  if (view.ended !== null || view.modelFailed !== null) return { ...state, pending: null };
  if (pending.kind === "onboarding") {
    const answered = view.onboarding.answered > pending.turnIdx || view.onboarding.outcome !== null;
    return answered ? { ...state, pending: null, notice: null } : state;
  }
  if (view.turn !== null && (pending.kind === "page" || view.turn.ask === "page")) {
    // A page of which another tab has sent the answers; there is nothing to take back.
    return view.turn.ask === "page" && `page:${view.page?.id}` === formOfPending(pending)
      ? state
      : { ...state, pending: null };
  }
  if (view.turn !== null && (view.turn.turnIdx !== pending.turnIdx || view.turn.ask !== pending.kind)) {
    // The turn was taken by a message from another tab; this one must not become the next turn's message.
    return takeBack(state, pending, { kind: "overtaken", reason: "", code: "overtaken" });
  }
  return state;
}

function formOfPending(pending: Pending): string {
  return `page:${pending.answers?.page}`;
}

/** Give the worker back what was not taken, ahead of what has been typed since. */
function takeBack(state: State, pending: Pending, notice: State["notice"]): State {
  const { draft } = state;
  const same = draft.ticksFor === null || draft.ticksFor === pending.draft.ticksFor;
  return {
    ...state,
    pending: null,
    notice,
    draft: {
      ...pending.draft,
      text: [pending.draft.text, draft.text].filter((text) => text !== "").join("\n"),
      ticksFor: same ? pending.draft.ticksFor : draft.ticksFor,
      ticks: same ? pending.draft.ticks : draft.ticks,
      // Only a message has taken its counts with it.
      signals: pending.kind === "message" ? sumOfDrafts(pending.draft.signals, draft.signals) : draft.signals,
    },
  };
}

function settleElsewhere(state: State): State {
  const { elsewhere, view } = state;
  if (elsewhere === null) return state;
  const over =
    view.arrived.has(elsewhere.messageId) ||
    view.refusals.some((refused) => refused.messageId === elsewhere.messageId) ||
    view.ended !== null ||
    view.modelFailed !== null ||
    onboardingOutcomeAfter(view, elsewhere.turnIdx, state.rules) ||
    (state.rules.onboarding.length === 0 && view.turn !== null && view.turn.turnIdx !== elsewhere.turnIdx);
  return over ? { ...state, elsewhere: null } : state;
}

function onboardingOutcomeAfter(view: View, answered: number, rules: Rules): boolean {
  return rules.onboarding.length > 0 && view.onboarding.answered > answered;
}

/** Ticks belong to one reply; a new reply starts with none. */
function settleTicks(state: State): State {
  if (state.pending !== null) return state;
  const target = targetOfTicks(state);
  if (state.draft.ticksFor === target) return state;
  if (target === null) return state; // between two replies: nothing to tick, nothing lost
  return { ...state, draft: { ...state.draft, ticksFor: target, ticks: {} } };
}

/** A choice belongs to two replies; the next two begin without one. */
function settleChoice(state: State): State {
  const { questions } = state.view;
  if (state.pending === null && questions !== null && state.draft.choices.length !== questions.length) {
    return { ...state, draft: { ...state.draft, choices: questions.map(() => NO_CHOICE) } };
  }
  const target = state.view.comparison?.utteranceIdx ?? null;
  if (state.pending !== null || target === null || state.draft.choice.target === target) return state;
  return { ...state, draft: { ...state.draft, choice: { ...NO_CHOICE, target } } };
}

function targetOfTicks(state: State): number | null {
  if (state.rules.annotation === null) return null;
  return utteranceToAnnotate(state.view)?.utteranceIdx ?? null;
}

// --- what the worker does ---

function typed(state: State, text: string, at: number, since: Partial<Signals>): State {
  const firstKeyAt = state.draft.firstKeyAt ?? (text === "" ? null : at);
  const { draft } = counted(state, since);
  const signals = draft.signals !== null && text === "" ? ofEmptiedField(draft.signals) : draft.signals;
  return { ...state, draft: { ...draft, text, firstKeyAt, signals } };
}

function counted(state: State, more: Partial<Signals>): State {
  const { draft } = state;
  return draft.signals === null ? state : { ...state, draft: { ...draft, signals: addSignals(draft.signals, more) } };
}

/** Set one box. "None, all good" and the other boxes exclude each other. */
export function setTick(ticked: readonly string[], value: string, on: boolean): string[] {
  const rest = ticked.filter((other) => other !== value);
  if (!on) return rest;
  if (value === NONE_ALL_GOOD) return [value];
  return [...rest.filter((other) => other !== NONE_ALL_GOOD), value];
}

function ticked(state: State, value: string, on: boolean): State {
  const before = Object.keys(state.draft.ticks).filter((bucket) => state.draft.ticks[bucket] === true);
  const after = setTick(before, value, on);
  return {
    ...state,
    draft: {
      ...state.draft,
      ticksFor: targetOfTicks(state),
      ticks: Object.fromEntries(after.map((bucket) => [bucket, true])),
    },
  };
}

function rated(state: State, question: number, rating: number): State {
  const ratings = state.draft.ratings.map((old, index) => (index === question ? rating : old));
  return { ...state, draft: { ...state.draft, ratings } };
}

function entered(state: State, form: string, item: string, entry: Entry): State {
  const { forms } = state.draft;
  return { ...state, draft: { ...state.draft, forms: { ...forms, [form]: { ...forms[form], [item]: entry } } } };
}

function withChoice(state: State, change: Partial<Choice>, question?: number): State {
  if (state.pending !== null) return state;
  if (question !== undefined) {
    const choices = state.draft.choices.map((choice, index) =>
      index === question ? { ...choice, ...change } : choice,
    );
    return { ...state, draft: { ...state.draft, choices } };
  }
  if (state.view.comparison === null) return state;
  return { ...state, draft: { ...state.draft, choice: { ...state.draft.choice, ...change } } };
}

function comparedTicked(state: State, side: Side, value: string, on: boolean): State {
  const { boxes } = state.draft.choice;
  return withChoice(state, { boxes: { ...boxes, [side]: setTick(boxes[side], value, on) } });
}

function onboardingTicked(state: State, dialog: number, utterance: number, value: string, on: boolean): State {
  const onboarding = state.draft.onboarding.map((row, dialogIdx) =>
    dialogIdx === dialog
      ? row.map((ticks, utteranceIdx) => (utteranceIdx === utterance ? setTick(ticks, value, on) : ticks))
      : row,
  );
  return { ...state, draft: { ...state.draft, onboarding } };
}

function sent(state: State, messageId: string, at: number): State {
  if (sendingBlock(state) !== null) return state;
  const kind = state.rules.onboarding.length > 0 ? "onboarding" : (state.view.turn?.ask ?? "message");
  const form = formOf(state);
  const lastReply = state.view.messages.findLast((message) => message.agentIdx === MODEL);
  const pending: Pending = {
    messageId,
    kind,
    turnIdx: kind === "onboarding" ? state.view.onboarding.answered : (state.view.turn?.turnIdx ?? 0),
    draft: {
      ...state.draft,
      ...(targetOfTicks(state) === null ? { ticksFor: null, ticks: {} } : {}),
      ...(kind === "comparison" || kind === "chat_done" ? { text: "" } : {}), // what is being written stays where it is
    },
    shownAt: lastReply?.receivedAt ?? null,
    sentAt: at,
    ...(form === null
      ? {}
      : { answers: { page: state.view.page?.id ?? null, values: checkForm(state, form).answers } }),
  };
  const draft =
    kind === "message"
      ? { ...state.draft, text: "", firstKeyAt: null, signals: state.draft.signals && NO_SIGNALS }
      : state.draft;
  return { ...state, pending, draft, notice: null };
}

// --- what follows from the state ---

/** What is to be filled in beside, or in place of, a message; null where nothing is. */
export function formOf(state: State): Form | null {
  const { turn, page } = state.view;
  if (turn?.ask === "page") return page === null ? null : { key: `page:${page.id}`, items: page.items, reply: null };
  const asked = replyToAnswer(state.view);
  return asked === null
    ? null
    : { key: `reply:${asked.reply.utteranceIdx}`, items: asked.items, reply: asked.reply.text };
}

export function checkForm(state: State, form: Form): Checked {
  const entries = state.draft.forms[form.key] ?? {};
  // The answer to a page of consent is no item.
  if (state.view.page?.kind === "consent") {
    const given = entries[CONSENT] !== undefined;
    return { shown: [], answers: { ...entries }, problems: given ? {} : { [CONSENT]: "missing" } };
  }
  return checkEntries(form.items, entries);
}

/** How many items of the form are not answered yet. */
export function answersMissing(state: State): number {
  const form = formOf(state);
  return form === null ? 0 : Object.keys(checkForm(state, form).problems).length;
}

/** How many questions about two chats are not answered yet. */
export function choicesMissing(state: State): number {
  const scale = state.view.turn?.scale ?? null;
  return scale === null ? 0 : state.draft.choices.filter((choice) => !isAnswer(choice, scale)).length;
}

/** Whether the worker has nothing more to do but hand in. */
export function isOver(state: State): boolean {
  return state.view.ended !== null || state.view.modelFailed !== null;
}

/** The live update that asks for more time; the same for each press of the button until the server has given it. */
export function toMoreTimePacket(turn: Turn): Json {
  const messageId = `more-time:${turn.key}:${turn.extensionsLeft}`;
  return {
    text: "",
    episode_done: false,
    update_id: messageId,
    task_data: { message_id: messageId, control: "more_time", turn_idx: turn.turnIdx },
  };
}

/** Characters as the server counts them: code points, without space at the ends; none if the text shows nothing. */
export function lengthOf(text: string): number {
  return isBlank(text) ? 0 : Array.from(text.trim()).length;
}

/** Whether the worker has to tick a box before sending. */
export function mustAnnotate(state: State): boolean {
  return targetOfTicks(state) !== null;
}

export function isTicked(draft: Draft): boolean {
  return Object.values(draft.ticks).some(Boolean);
}

/** How many model utterances of the onboarding form have no box ticked. */
export function onboardingMissing(state: State): number {
  return state.rules.onboarding.reduce(
    (sum, dialog, dialogIdx) =>
      sum +
      dialog.filter(
        (agentIdx, utteranceIdx) =>
          agentIdx === MODEL && (state.draft.onboarding[dialogIdx]?.[utteranceIdx] ?? []).length === 0,
      ).length,
    0,
  );
}

export function sendingBlock(state: State): Block | null {
  const { view, draft, rules } = state;
  if (view.ended !== null || view.modelFailed !== null || view.onboarding.outcome !== null) return "over";
  if (state.pending !== null) return "pending";
  if (state.elsewhere !== null) return "elsewhere";
  if (rules.onboarding.length > 0) return onboardingMissing(state) > 0 ? "onboarding_missing" : null;
  if (view.turn === null) return "not_your_turn";
  if (view.turn.ask !== "page" && mustAnnotate(state) && !isTicked(draft)) return "annotation_missing";
  if (answersMissing(state) > 0) return "answers_missing";
  if (view.turn.ask === "page" || view.turn.ask === "annotation") return null;
  if (view.turn.ask === "final_rating") {
    const complete = draft.ratings.every(
      (rating) => rating !== null && rating >= LOWEST_RATING && rating <= HIGHEST_RATING,
    );
    return complete ? null : "rating_missing";
  }
  if (view.turn.ask === "chat_done") return null;
  if (view.turn.scale !== null && view.questions !== null) return choicesMissing(state) > 0 ? "choices_missing" : null;
  if (view.turn.scale !== null) {
    if (view.turn.scale.boxes && areBoxesMissing(draft.choice)) return "boxes_missing";
    return isAnswer(draft.choice, view.turn.scale) ? null : "comparison_missing";
  }
  const length = lengthOf(draft.text);
  if (length === 0) return "empty";
  return length > rules.maxMessageLength ? "too_long" : null;
}

/** A draft from storage, made to fit today's configuration. */
function fitDraft(draft: Draft, rules: Rules): Draft {
  const empty = emptyDraft(rules);
  const sameForm =
    draft.onboarding.length === empty.onboarding.length &&
    draft.onboarding.every((row, index) => row.length === empty.onboarding[index]?.length);
  return {
    ...draft,
    ratings: draft.ratings.length === empty.ratings.length ? draft.ratings : empty.ratings,
    choice: readChoice(draft.choice),
    choices: list(draft.choices).filter(isRecord).map(readChoice),
    onboarding: sameForm ? draft.onboarding : empty.onboarding,
    signals: readSignals(draft.signals, rules.counting === true),
  };
}

/** The live update that carries a pending message to the server; the same again for every resend. */
export function toPacket(pending: Pending, state: State): Json {
  const { draft } = pending;
  const taskData: Json = { message_id: pending.messageId };
  if (pending.kind === "page") {
    taskData.page = pending.answers?.page ?? null;
    taskData.answers = pending.answers?.values ?? {};
  } else if (pending.kind === "onboarding") {
    taskData.onboarding_answers = state.rules.onboarding.map((dialog, dialogIdx) =>
      dialog.map((agentIdx, utteranceIdx) =>
        agentIdx === MODEL ? (draft.onboarding[dialogIdx]?.[utteranceIdx] ?? []) : null,
      ),
    );
  } else {
    taskData.turn_idx = pending.turnIdx;
    if (state.rules.annotation !== null && draft.ticksFor !== null && isTicked(draft)) {
      taskData.problem_data_for_prior_message = Object.fromEntries(
        state.rules.annotation.buckets.map((bucket) => [bucket.value, draft.ticks[bucket.value] === true]),
      );
    }
    if (pending.answers !== undefined) taskData.reply_answers = pending.answers.values;
    if (pending.kind === "comparison") {
      taskData.comparison = draft.choices.length > 0 ? draft.choices.map(toJson) : toJson(draft.choice);
      const { buckets } = state.rules.annotation ?? { buckets: [] };
      if (SIDES.some((side) => draft.choice.boxes[side].length > 0)) {
        taskData.problem_data_of_replies = Object.fromEntries(
          SIDES.map((side) => [
            side,
            Object.fromEntries(buckets.map(({ value }) => [value, draft.choice.boxes[side].includes(value)])),
          ]),
        );
      }
    }
    if (pending.kind === "chat_done") taskData.chat_done = true;
    if (pending.kind === "final_rating") taskData.final_rating = draft.ratings;
    if (pending.kind === "message" && draft.signals !== null) taskData.authenticity = signalsToJson(draft.signals);
    taskData.timing = {
      shown: inSeconds(pending.shownAt),
      first_key: inSeconds(draft.firstKeyAt),
      sent: inSeconds(pending.sentAt),
    };
  }
  return {
    text: pending.kind === "message" ? draft.text.trim() : "",
    id: state.view.displayName,
    episode_done: false,
    update_id: pending.messageId,
    task_data: taskData,
  };
}

function inSeconds(milliseconds: number | null): number | null {
  return milliseconds === null ? null : milliseconds / 1000;
}
