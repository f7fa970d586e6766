/**
 * What the dashboard's server says (dashboard/, docs/dashboard.md). Times are Unix seconds, amounts are in `currency`;
 * what isn't known is null.
 */

export type Role = "read" | "review" | "pay";

export interface StudyName {
  id: string;
  title: string;
  live: boolean;
}

export interface Session {
  name: string;
  role: Role;
  csrf: string;
  studies: StudyName[];
}

export interface ModelProgress {
  name: string;
  finished: number;
  wanted: number | null;
  chatting: number;
  replies: number;
  /** Seconds. */
  latency_p50: number | null;
  latency_p95: number | null;
  failures: number;
}

export interface CellProgress {
  name: string;
  finished: number;
  wanted: number | null;
  chatting: number;
}

export interface Chatting {
  worker: string;
  model: string | null;
  since: number;
  turn: number;
  turns: number;
}

export interface Money {
  currency: string;
  spent: number | null;
  committed: number | null;
  planned: number | null;
  hourly_wage: number | null;
  min_hourly_wage: number | null;
  /** Of one conversation. */
  reward?: number | null;
  /** What the models of this run have cost, in US dollars. */
  models_usd?: number | null;
  models_limit_usd?: number | null;
}

export interface Warning {
  code: string;
  text: string;
}

/** A value with its interval, of one model and one box or rating. */
export interface Estimate {
  model: string;
  box_or_rating: string;
  /** A rate is between 0 and 1. */
  kind?: string;
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface Overview {
  title: string;
  kind: string;
  live: boolean;
  blind: boolean;
  accepting: boolean;
  started: number | null;
  now: number;
  target: number | null;
  finished: number;
  models: ModelProgress[];
  cells: CellProgress[];
  workers: { chatting: number; onboarding: number; waiting: number; left: number; finished: number };
  now_chatting: Chatting[];
  left_at: { where: string; count: number }[];
  minutes: { median: number | null; p90: number | null };
  money: Money;
  forecast: { done_at: number | null; cost: number | null; assumption: string };
  warnings: Warning[];
  estimates: Estimate[];
  finished_by_hour: [number, number][];
}

export type Review = "pending" | "approved" | "rejected" | "none";

export interface Item {
  id: string;
  worker: string;
  model: string;
  cell: string | null;
  status: string;
  started: number | null;
  minutes: number | null;
  turns: number;
  review: Review;
  bonus: number | null;
  signals: string[];
  ratings: Record<string, unknown>;
  version: string;
  /** Why it ended before its end. */
  reason?: string | null;
  /** False where only a file has it, which no crowd platform knows. */
  reviewable?: boolean;
  /** The worker gets no more work. */
  blocked?: boolean;
  /** What an approval pays, in the study's currency. */
  pay?: number | null;
}

export const FACETS = ["model", "cell", "status", "review", "signal"] as const;
export type Facet = (typeof FACETS)[number];

export interface Page {
  total: number;
  offset: number;
  items: Item[];
  facets: Partial<Record<Facet, Record<string, number>>>;
  /** Whether texts are searched as well; in a study with very many conversations they are not. */
  searchable?: boolean;
}

export interface Reply {
  side: string;
  text: string;
  model: string | null;
  /** Where boxes were ticked for both replies; those of a single one are the turn's. */
  annotations?: Record<string, unknown> | null;
}

export interface Turn {
  who: "worker" | "model";
  /** Which of the compared models said it. */
  model?: string | null;
  /** Which of two compared chats it belongs to, from 0. */
  chat?: number | null;
  text: string;
  /** Part of the conversation's beginning, which neither has said. */
  said_before?: boolean;
  seconds: number | null;
  annotations?: Record<string, unknown> | null;
  side?: string | null;
  picked?: string | null;
  replies?: Reply[] | null;
  strength?: number | null;
  pick_reason?: string | null;
}

export interface Answer {
  page: string;
  id: string;
  question: string | null;
  answer: unknown;
  turn?: number | null;
}

export interface PastAct {
  when: number;
  who: string;
  act: string;
  before: unknown;
  after: unknown;
  reason: string | null;
  amount?: number | string | null;
  /** `done`, `begun` or `failed: …`. */
  outcome?: string | null;
}

export interface AttentionCheck {
  turn: number;
  text: string;
  answer: string;
  passed: boolean;
}

/** `turns` of an item is how many there are; of a transcript, what was said. */
export interface Transcript extends Omit<Item, "turns"> {
  num_turns?: number;
  turns: Turn[];
  /** Names of the boxes of `annotations`. */
  boxes?: Record<string, string>;
  personas?: string[][] | null;
  attention_checks?: AttentionCheck[] | null;
  answers: Answer[];
  timing: Record<string, unknown>;
  /** Counts of how the worker's messages were written; null where they were not recorded. */
  authenticity?: Record<string, number> | null;
  acts: PastAct[];
}

export type ActName = "approve" | "reject" | "bonus" | "block" | "unblock";

export interface ActRequest {
  act: ActName;
  ids: string[];
  versions: Record<string, string>;
  reason?: string;
  amount?: number;
  category?: string;
}

export interface ActResult {
  id: string;
  ok: boolean;
  error?: string | null;
  version?: string | null;
}

/** How many conversations one request may act on. */
export const MOST_IDS = 200;

/** Prolific's; a rejection there needs one. */
export const REJECT_CATEGORIES = [
  "TOO_QUICKLY",
  "TOO_SLOWLY",
  "FAILED_INSTRUCTIONS",
  "FAILED_CHECK",
  "LOW_EFFORT",
  "MALINGERING",
  "NO_CODE",
  "BAD_CODE",
  "NO_DATA",
  "UNSUPP_DEVICE",
  "INCOMP_LONGITUDINAL",
  "OTHER",
] as const;

export type RunAct = { act: "stop" } | { act: "resume" } | { act: "extend"; more: number };

export interface AuditItem extends PastAct {
  role: string;
  target: string | null;
  worker?: string | null;
}

export interface Audit {
  total: number;
  items: AuditItem[];
}

/** Which acts a role may do; the server decides again. */
export function may(role: Role, act: ActName | "run"): boolean {
  if (role === "pay") return true;
  return role === "review" && act !== "bonus" && act !== "run";
}
