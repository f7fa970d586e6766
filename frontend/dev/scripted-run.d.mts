/** Types of scripted-run.mjs, for the tests. */

import type { IncomingMessage, ServerResponse } from "node:http";

export interface ReceivedPacket {
  text: string;
  update_id: string;
  task_data: { message_id: string } & Record<string, unknown>;
}

export class Gone extends Error {}

export class ScriptedAgent {
  id: string;
  received: ReceivedPacket[];
  seen: Set<string>;
  submitted: boolean;
  failure: string | null;
  /** What a page that asks for work is answered. */
  details: () => unknown;
  say(agentIdx: number, text: string, more?: { fakeStart?: boolean } & Record<string, unknown>): void;
  control(control: string, taskData?: Record<string, unknown>): void;
  part(part: number, text: string, taskData?: Record<string, unknown>): void;
  take(data: ReceivedPacket): void;
  setStatus(status: string): void;
  receive(): Promise<ReceivedPacket>;
}

export interface Scenario {
  config: unknown;
  kind?: "chat" | "onboarding";
  initData?: Record<string, unknown>;
  run?: (agent: ScriptedAgent) => Promise<void>;
  /** What follows a passed onboarding. */
  next?: Scenario;
  /** Answers a request itself when it returns true. */
  http?: (path: string, tools: { request: IncomingMessage; response: ServerResponse }) => boolean;
}

export interface ScriptedRun {
  url: string;
  requests: { path: string; sent: unknown }[];
  agentOf(registration: string): ScriptedAgent | undefined;
  setDown(down: boolean): void;
  mute(): void;
  close(): Promise<void>;
}

export function startRun(options?: { port?: number; scenarios?: Record<string, Scenario> }): Promise<ScriptedRun>;
