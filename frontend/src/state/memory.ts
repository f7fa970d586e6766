/**
 * What a tab remembers over a reload: the draft, and what was on its way. Kept in the tab's own session storage, so that
 * two tabs of one worker don't write over each other's drafts.
 */

import { isRecord, list, number } from "../protocol";
import { readChoice } from "./comparison";
import { readSignals } from "./signals";
import { emptyDraft, type Draft, type Pending, type Rules, type State } from "./conversation";

interface Kept {
  /** Agent ids are counted anew in every database: a draft is only taken back into the conversation it was made for. */
  conversation: string | null;
  draft: Draft;
  pending: Pending | null;
}

const PREFIX = "model-chat:";

function conversationOf(state: State): string | null {
  return state.log[0]?.update.update_id ?? null;
}

export class Memory {
  /** `assignment`: which work of which worker this page is for; a tab may show several, one after the other. */
  constructor(
    private readonly storage: Storage | null,
    private readonly assignment = "",
  ) {}

  /** Remember which agent does this work, until it is handed in. */
  keepAgent(agentId: string): void {
    this.write(`${PREFIX}agent:${this.assignment}`, agentId);
  }

  forgetAgent(): void {
    this.write(`${PREFIX}agent:${this.assignment}`, null);
  }

  /** The agent that did this work before a reload, or before the run was started again; null if it was handed in. */
  recallAgent(): string | null {
    const agentId = this.read(`${PREFIX}agent:${this.assignment}`);
    return typeof agentId === "string" ? agentId : null;
  }

  keep(agentId: string, state: State): void {
    const kept: Kept = { conversation: conversationOf(state), draft: state.draft, pending: state.pending };
    this.write(`${PREFIX}draft:${agentId}`, kept);
  }

  recall(agentId: string, state: State): { draft: Draft; pending: Pending | null } | null {
    const kept = this.read(`${PREFIX}draft:${agentId}`);
    if (!isRecord(kept) || !isRecord(kept.draft)) return null;
    if ((kept.conversation ?? null) !== conversationOf(state)) return null;
    return { draft: readDraft(kept.draft, state.rules), pending: readPending(kept.pending, state.rules) };
  }

  markHandedIn(agentId: string, state: State): void {
    this.write(`${PREFIX}handed-in:${agentId}`, conversationOf(state));
  }

  wasHandedIn(agentId: string, state: State): boolean {
    const conversation = conversationOf(state);
    return conversation !== null && this.read(`${PREFIX}handed-in:${agentId}`) === conversation;
  }

  private write(key: string, value: unknown): void {
    try {
      this.storage?.setItem(key, JSON.stringify(value));
    } catch {
      // Full or forbidden: the page works without, only a reload loses the draft.
    }
  }

  private read(key: string): unknown {
    try {
      return JSON.parse(this.storage?.getItem(key) ?? "null");
    } catch {
      return null;
    }
  }
}

function readDraft(raw: Record<string, unknown>, rules: Rules): Draft {
  const draft = { ...emptyDraft(rules), ...(raw as Partial<Draft>) };
  return {
    ...draft,
    choice: readChoice(draft.choice),
    choices: list(draft.choices).map(readChoice),
    forms: isRecord(draft.forms) ? draft.forms : {},
    signals: readSignals(draft.signals, rules.counting === true),
  };
}

/** An object, so that the compiler asks for every kind. */
const PENDING_KINDS: Readonly<Record<Pending["kind"], true>> = {
  message: true,
  comparison: true,
  annotation: true,
  chat_done: true,
  final_rating: true,
  onboarding: true,
  page: true,
};

function isPendingKind(kind: unknown): kind is Pending["kind"] {
  return typeof kind === "string" && Object.hasOwn(PENDING_KINDS, kind);
}

function readPending(raw: unknown, rules: Rules): Pending | null {
  if (!isRecord(raw) || typeof raw.messageId !== "string" || !isRecord(raw.draft)) return null;
  const kind = raw.kind;
  if (!isPendingKind(kind)) return null;
  const { answers } = raw;
  return {
    messageId: raw.messageId,
    kind,
    turnIdx: number(raw.turnIdx, 0),
    draft: readDraft(raw.draft, rules),
    shownAt: typeof raw.shownAt === "number" ? raw.shownAt : null,
    sentAt: number(raw.sentAt, 0),
    ...(isRecord(answers) && isRecord(answers.values)
      ? { answers: { page: typeof answers.page === "string" ? answers.page : null, values: answers.values } }
      : {}),
  };
}
