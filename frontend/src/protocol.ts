/** What the server and the page say to each other (docs/protocol.md), as types, and the reading of what comes in. */

export interface Bucket {
  value: string;
  name: string;
  description: string;
}

export interface AnnotationConfig {
  question: string;
  show_line_breaks: boolean;
  buckets: Bucket[];
}

export type ReplyFormat = "text" | "markdown";

export interface TaskConfig {
  task_description: string;
  left_pane_text: string;
  chat_title: string;
  annotation: AnnotationConfig | null;
  final_rating_questions: string[];
  num_turns: number;
  max_resp_time: number;
  max_onboard_time: number;
  max_message_length: number;
  use_onboarding: boolean;
  block_mobile: boolean;
  image_chat: boolean;
  /** How the model's replies are shown. */
  reply_format: ReplyFormat;
  /** Whether links of a Markdown reply can be clicked. */
  reply_links: boolean;
  /** There are pages around the chat, or questions about replies. */
  study_flow: boolean;
  /** How messages are written is counted, with consent. */
  record_authenticity: boolean;
  /** Finished conversations are annotated: the worker writes no messages. */
  judging: boolean;
  /** The requester's preview, where a new chat begins with each change of the study's files. */
  is_preview: boolean;
}

/** A bucket with this key says that nothing is wrong; it excludes all others. */
export const NONE_ALL_GOOD = "none_all_good";
export const HUMAN = 0;
export const MODEL = 1;
export const LOWEST_RATING = 1;
export const HIGHEST_RATING = 5;

export interface ServerUpdate {
  update_id: string;
  /** Epoch seconds, on the server's clock. */
  timestamp: number;
  text: string;
  fake_start: boolean;
  task_data: Json;
}

export interface OnboardingUtterance {
  agent_idx: number;
  text: string;
}

export interface OnboardingData {
  dialogs: OnboardingUtterance[][];
  annotation: AnnotationConfig;
}

/** A reply of the onboarding form. */
export interface Place {
  dialog_idx: number;
  utterance_idx: number;
}

export interface Explanation extends Place {
  text: string;
}

/** How a panel participant's part has ended, as the server says. */
export interface Ending {
  kind: string;
  code: string | null;
  /** The way back; null without one. */
  url: string | null;
  /** After which the way back begins by itself. */
  seconds: number;
  text: string;
}

/** What `POST /request_agent` and `POST /submit_onboarding` answer. */
export interface AgentDetails {
  agent_id: string | null;
  failure_reason: string | null;
  /** Which reason it is that there is no work (section 5 of docs/protocol.md); null where only Mephisto's sentence says. */
  refusal: string | null;
  /** How a panel participant's part has ended; null while it goes on. */
  ending: Ending | null;
  /** What a browser that the server didn't know has been given; it asks again with it. */
  visitor: string | null;
  past_updates: ServerUpdate[];
  onboarding: OnboardingData | null;
  /** The server's clock less ours, in milliseconds; 0 where it is not known. */
  clock_offset: number;
}

export type Json = Record<string, unknown>;

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function text(value: unknown, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

export function number(value: unknown, otherwise: number): number {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function texts(value: unknown): string[] {
  return list(value).filter((entry): entry is string => typeof entry === "string");
}

export function readAnnotation(raw: unknown): AnnotationConfig | null {
  if (!isRecord(raw)) return null;
  const buckets = list(raw.buckets)
    .filter(isRecord)
    .map((bucket) => ({
      value: text(bucket.value),
      name: text(bucket.name, text(bucket.value)),
      description: text(bucket.description),
    }))
    .filter((bucket) => bucket.value !== "");
  if (buckets.length === 0) return null;
  return { question: text(raw.question), show_line_breaks: raw.show_line_breaks === true, buckets };
}

export function readTaskConfig(raw: unknown): TaskConfig {
  const config = isRecord(raw) ? raw : {};
  return {
    task_description: text(config.task_description),
    left_pane_text: text(config.left_pane_text),
    chat_title: text(config.chat_title),
    annotation: readAnnotation(config.annotation),
    final_rating_questions: texts(config.final_rating_questions),
    num_turns: number(config.num_turns, 0),
    max_resp_time: number(config.max_resp_time, 0),
    max_onboard_time: number(config.max_onboard_time, 0),
    max_message_length: number(config.max_message_length, 2000),
    use_onboarding: config.use_onboarding === true,
    block_mobile: config.block_mobile === true,
    image_chat: config.image_chat === true,
    reply_format: config.reply_format === "markdown" ? "markdown" : "text",
    reply_links: config.reply_links === true,
    study_flow: config.study_flow === true,
    record_authenticity: config.record_authenticity === true,
    judging: config.judging === true,
    is_preview: config.is_preview === true,
  };
}

/** Read one live update; null for what is none. */
export function readUpdate(raw: unknown): ServerUpdate | null {
  if (!isRecord(raw) || typeof raw.update_id !== "string") return null;
  return {
    update_id: raw.update_id,
    timestamp: number(raw.timestamp, 0),
    text: text(raw.text),
    fake_start: raw.fake_start === true,
    task_data: isRecord(raw.task_data) ? raw.task_data : {},
  };
}

export function readUpdates(raw: unknown): ServerUpdate[] {
  return list(raw)
    .map(readUpdate)
    .filter((update): update is ServerUpdate => update !== null);
}

function readOnboarding(raw: unknown): OnboardingData | null {
  if (!isRecord(raw)) return null;
  const annotation = readAnnotation(raw.annotation);
  if (annotation === null) return null;
  const dialogs = list(raw.dialogs).map((dialog) =>
    list(dialog)
      .filter(isRecord)
      .map((utterance) => ({ agent_idx: number(utterance.agent_idx, HUMAN), text: text(utterance.text) })),
  );
  return { dialogs, annotation };
}

export function readEnding(raw: unknown): Ending | null {
  if (!isRecord(raw) || typeof raw.kind !== "string") return null;
  const url = typeof raw.url === "string" && /^https?:\/\//.test(raw.url) ? raw.url : null;
  return {
    kind: raw.kind,
    code: typeof raw.code === "string" ? raw.code : null,
    url,
    seconds: number(raw.seconds, 0),
    text: text(raw.text),
  };
}

export function readAgentDetails(raw: unknown, clockOffset: number): AgentDetails {
  const data = isRecord(raw) && isRecord(raw.data) ? raw.data : {};
  const init = isRecord(data.init_task_data) ? data.init_task_data : {};
  const agentId = typeof data.agent_id === "string" ? data.agent_id : null;
  return {
    agent_id: agentId,
    failure_reason: typeof data.failure_reason === "string" ? data.failure_reason : null,
    refusal: typeof data.refusal === "string" ? data.refusal : null,
    ending: readEnding(data.ending),
    visitor: typeof data.visitor === "string" ? data.visitor : null,
    past_updates: readUpdates(init.past_live_updates),
    onboarding: agentId !== null && isOnboardingAgent(agentId) ? readOnboarding(init.task_data) : null,
    clock_offset: clockOffset,
  };
}

export function isOnboardingAgent(agentId: string): boolean {
  return agentId.startsWith("onboarding");
}
