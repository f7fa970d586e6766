/**
 * One worker's session on this page: registers the agent, keeps the connection, catches up, sends and sends again, goes
 * from onboarding to the task, and hands the work in. Holds the state that the components show; knows no React.
 *
 * The router sends an agent's updates to one socket only, the one heard from last. So the tabs of one worker tell each
 * other what they hear (BroadcastChannel), and every tab asks for the whole list of updates after each reconnection, when
 * it is looked at again, and when nothing has come for a while.
 */

import { uuid } from "./lib/uuid";
import { RequestError, type RouterHttp } from "./mephisto/http";
import type { RouterSocket, SocketListener } from "./mephisto/socket";
import {
  isOnboardingAgent,
  isRecord,
  readUpdate,
  type AgentDetails,
  type Ending,
  type OnboardingData,
  type ServerUpdate,
  type TaskConfig,
} from "./protocol";
import {
  initialState,
  isOver,
  reduce,
  sendingBlock,
  toMoreTimePacket,
  toPacket,
  type Event,
  type Rules,
  type State,
} from "./state/conversation";
import type { Memory } from "./state/memory";
import { isReplyPart } from "./state/parts";
import { isModelThinking, type Logged } from "./state/view";

export type Phase =
  | { kind: "loading" }
  | { kind: "preview" }
  | { kind: "mobile-blocked" }
  /** No answer from the server; it is asked again. */
  | { kind: "unreachable" }
  /** The server gives this worker no work; `reason` is the server's sentence. */
  | { kind: "turned-away"; reason: string; refusal: string | null; ending?: Ending }
  | { kind: "live"; agentId: string; onboarding: OnboardingData | null };

export interface Snapshot {
  phase: Phase;
  config: TaskConfig | null;
  state: State | null;
  connection: "connecting" | "connected" | "lost";
  /** The connection has come back a moment ago. */
  justBack: boolean;
  handIn: "none" | "sending" | "failed" | "done";
  /**
   * The run that this conversation belongs to is gone: "unreachable" while nothing has answered for a long time (the
   * conversation continues if something does), "over" when another run answers, or none takes part in it.
   */
  gone: "unreachable" | "over" | null;
  /** A new conversation has begun in place of the earlier one: the run was started again. */
  renewed: boolean;
}

export interface Channel {
  postMessage: (message: unknown) => void;
  onmessage: ((event: { data: unknown }) => void) | null;
  close: () => void;
}

export interface SessionParts {
  http: Pick<RouterHttp, "taskConfig" | "requestAgent" | "submitOnboarding" | "submitTask" | "logError">;
  makeSocket: (
    agentId: string,
    listener: SocketListener,
  ) => Pick<RouterSocket, "start" | "stop" | "retryNow" | "networkLost" | "sendUpdate">;
  memory: Memory;
  makeChannel: (name: string) => Channel | null;
  /** Run one at a time over all tabs. */
  exclusively: <T>(name: string, action: () => Promise<T>) => Promise<T>;
  preview: boolean;
  phone: boolean;
  /** Whether a crowd platform waits for the work, which leaves this page when it gets it. */
  hasPlatform: boolean;
  /** Whether participants come from a panel, or by a link: they are told an ending, and submit nothing here. */
  isPanel?: boolean;
  handInToProvider: (data: Record<string, unknown>) => void;
}

/** Milliseconds. */
export const TIMINGS = {
  watchInterval: 2_000,
  /** Silence after which the page asks what it may have missed: while it waits for something, and otherwise. */
  catchUpWaiting: 12_000,
  catchUpIdle: 60_000,
  /** A message that has not come back is sent again, with the same id: the server takes it once. */
  resendAfter: 8_000,
  /** How long another tab's message is waited for. */
  elsewhereLimit: 20_000,
  /** How long nothing may answer before the run is taken for gone: as a rule, and once the time for the turn is up. */
  goneAfter: 120_000,
  goneAfterTimeUp: 30_000,
  /** How long a run that is ending, or gone, is waited for when the work is handed in. */
  lastHandIn: 5_000,
  /** How long "connected again" is shown. */
  backFor: 4_000,
};
const RETRY_DELAYS = [1_000, 2_000, 4_000, 8_000];

export class Session {
  private snapshot: Snapshot = {
    phase: { kind: "loading" },
    config: null,
    state: null,
    connection: "connecting",
    justBack: false,
    handIn: "none",
    gone: null,
    renewed: false,
  };
  private readonly subscribers = new Set<() => void>();
  private socket: ReturnType<SessionParts["makeSocket"]> | null = null;
  private channel: Channel | null = null;
  private backTimer: ReturnType<typeof setTimeout> | undefined;
  private watcher: ReturnType<typeof setInterval> | null = null;
  private catchingUp: Promise<void> | null = null;
  private catchUpAgain = false;
  private lastNews = 0;
  private lastSend = 0;
  private elsewhereSince = 0;
  private leavingOnboarding = false;
  private lostSince: number | null = null;
  private failedHandIns = 0;
  private stopped = false;

  constructor(
    readonly parts: SessionParts,
    private readonly timings: typeof TIMINGS = TIMINGS,
  ) {}

  // --- for the components ---

  readonly subscribe = (subscriber: () => void): (() => void) => {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  };

  readonly getSnapshot = (): Snapshot => this.snapshot;

  /** Tell the state what the worker did. */
  readonly dispatch = (event: Event): void => {
    this.apply(event);
  };

  /** Send the draft. Nothing happens when it can't be sent (see `sendingBlock`). */
  readonly send = (): void => {
    const { state } = this.snapshot;
    if (state === null || sendingBlock(state) !== null) return;
    this.apply({ type: "sent", messageId: uuid(), at: Date.now() });
    const pending = this.snapshot.state?.pending;
    if (!pending) return;
    this.broadcast({ type: "sent", messageId: pending.messageId, turnIdx: pending.turnIdx });
    this.sendPending();
  };

  /** Ask the server for more time for this turn. */
  readonly askMoreTime = (): void => {
    const turn = this.snapshot.state?.view.turn;
    if (turn && turn.extensionsLeft > 0) this.socket?.sendUpdate(toMoreTimePacket(turn));
  };

  /** The worker knows that this is a new conversation. */
  readonly acceptRenewal = (): void => {
    this.update({ renewed: false });
  };

  /**
   * Hand the work in: the end of the unit. A run that is gone has saved what there is: then the crowd platform alone is
   * told, for it is the platform that pays.
   */
  readonly handIn = async (): Promise<void> => {
    const { phase, state, handIn, gone } = this.snapshot;
    if (handIn === "sending" || handIn === "done") return;
    if (phase.kind === "live" && state !== null) {
      this.update({ handIn: "sending" });
      const leaving = gone !== null || state.view.ended?.cause === "stopped";
      try {
        const submitted = this.parts.http.submitTask(phase.agentId, {});
        await (leaving ? within(submitted, this.timings.lastHandIn) : submitted);
      } catch {
        this.failedHandIns += 1;
        if (!leaving && this.failedHandIns < 2) {
          this.update({ handIn: "failed" });
          return;
        }
      }
      this.parts.memory.markHandedIn(phase.agentId, state);
    } else if (gone === null) {
      return;
    }
    this.parts.memory.forgetAgent();
    this.broadcast({ type: "handed_in" });
    this.update({ handIn: "done" });
    this.disconnect();
    this.parts.handInToProvider({});
  };

  /** The server has the work already, but the platform may not: the page is back though handing in should have left it. */
  readonly handInAgain = (): void => {
    this.parts.handInToProvider({});
  };

  /** Let the researchers know of an error on the page. */
  readonly reportError = (message: string): void => {
    const { phase } = this.snapshot;
    const agentId = phase.kind === "live" ? phase.agentId : null;
    this.parts.http.logError(agentId, { error: message }).catch(() => undefined);
  };

  // --- beginning ---

  async start(): Promise<void> {
    const config = await this.untilAnswered(() => this.parts.http.taskConfig());
    if (config === null) return;
    this.update({ config });
    if (this.parts.preview) {
      this.update({ phase: { kind: "preview" } });
    } else if (config.block_mobile && this.parts.phone) {
      this.update({ phase: { kind: "mobile-blocked" } }); // before an agent is made, so that no unit is used up
    } else {
      const details = await this.untilAnswered(() =>
        this.parts.exclusively("request_agent", () => this.parts.http.requestAgent()),
      );
      if (details !== null) this.enter(details);
    }
  }

  /** Stop everything (the page goes away, or a test ends). */
  stop(): void {
    this.stopped = true;
    this.disconnect();
  }

  /** The network is back, or the page is being looked at again. */
  readonly wake = (): void => {
    this.socket?.retryNow();
    void this.catchUp();
  };

  readonly networkLost = (): void => {
    this.socket?.networkLost();
  };

  private async untilAnswered<T>(ask: () => Promise<T>): Promise<T | null> {
    for (let attempt = 0; !this.stopped; attempt += 1) {
      try {
        const answer = await ask();
        if (this.snapshot.phase.kind === "unreachable") this.update({ phase: { kind: "loading" } });
        return answer;
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        if (attempt > 0) this.update({ phase: { kind: "unreachable" } });
        const delay = RETRY_DELAYS[Math.min(attempt, RETRY_DELAYS.length - 1)];
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
    }
    return null;
  }

  /** Begin, or begin anew, with what the server says about this worker's agent. */
  private enter(details: AgentDetails): void {
    const { config } = this.snapshot;
    if (this.stopped || config === null) return;
    this.disconnect();
    const { agent_id: agentId } = details;
    const before = this.parts.memory.recallAgent();
    if (agentId === null) {
      this.update({
        phase: {
          kind: "turned-away",
          reason: details.failure_reason ?? "",
          refusal: details.refusal,
          ...(details.ending === null ? {} : { ending: details.ending }),
        },
        state: null,
        // Nobody else than another run turns away a worker whose chat is open. A panel's participant is told an ending then.
        gone:
          !this.parts.isPanel && details.refusal !== null && before !== null && !isOnboardingAgent(before)
            ? "over"
            : null,
      });
      return;
    }
    const passed = before !== null && isOnboardingAgent(before) && !isOnboardingAgent(agentId);
    this.leavingOnboarding = false;
    this.failedHandIns = 0;
    this.lostSince = Date.now();
    let state = initialState(rulesOf(config, details.onboarding));
    state = reduce(state, { type: "caught_up", log: toLog(details) });
    const recalled = this.parts.memory.recall(agentId, state);
    if (recalled !== null) state = reduce(state, { type: "restored", ...recalled });
    const handedIn = this.parts.memory.wasHandedIn(agentId, state);
    this.update({
      phase: { kind: "live", agentId, onboarding: details.onboarding },
      state,
      connection: "connecting",
      justBack: false,
      handIn: handedIn ? "done" : "none",
      gone: null,
      renewed: before !== null && before !== agentId && !passed && !config.is_preview,
    });
    if (handedIn) return;
    this.parts.memory.keepAgent(agentId);
    this.lastNews = this.lastSend = Date.now();
    this.channel = this.parts.makeChannel(`model-chat:${agentId}`);
    if (this.channel !== null) {
      this.channel.onmessage = (event) => {
        this.hearFromTab(event.data);
      };
    }
    const reloaded = details.past_updates.length > 0 || details.onboarding !== null;
    let opened = false;
    this.socket = this.parts.makeSocket(agentId, {
      onOpen: () => {
        this.connected();
        // What was said while the router still knew the socket of before is lost to this one.
        if (opened || reloaded) void this.catchUp();
        opened = true;
        this.sendPending();
      },
      onLost: () => {
        this.lostSince ??= Date.now();
        this.update({ connection: "lost" });
      },
      onStatus: (status) => {
        this.hearStatus(status);
      },
      onUpdate: (update) => {
        this.hear(update, true);
      },
    });
    this.socket.start();
    this.watcher = setInterval(() => {
      this.watch();
    }, this.timings.watchInterval);
    this.afterNews();
  }

  private connected(): void {
    const back = this.snapshot.connection === "lost";
    this.lostSince = null;
    this.update({ connection: "connected", justBack: back, gone: null });
    if (!back) return;
    clearTimeout(this.backTimer);
    this.backTimer = setTimeout(() => {
      this.update({ justBack: false });
    }, this.timings.backFor);
  }

  private disconnect(): void {
    clearTimeout(this.backTimer);
    this.socket?.stop();
    this.socket = null;
    if (this.channel !== null) this.channel.onmessage = null;
    this.channel?.close();
    this.channel = null;
    if (this.watcher !== null) clearInterval(this.watcher);
    this.watcher = null;
  }

  // --- what comes in ---

  private hear(update: ServerUpdate, own: boolean): void {
    const { state } = this.snapshot;
    this.apply({ type: "update", logged: { update, receivedAt: Date.now() } });
    // Parts of a reply that this page does not wait for show that it has missed something: they are no news.
    if (!isReplyPart(update) || this.snapshot.state !== state) this.lastNews = Date.now();
    if (own) this.broadcast({ type: "update", update });
    this.afterNews();
  }

  private hearStatus(status: string): void {
    this.apply({ type: "status", status });
    // Only an onboarding that was passed waits: told even where the update about it was missed.
    if (status === "waiting" && this.isOnboarding) void this.leaveOnboarding();
  }

  private hearFromTab(message: unknown): void {
    if (!isRecord(message)) return;
    if (message.type === "update") {
      const update = readUpdate(message.update);
      if (update !== null) this.hear(update, false);
    } else if (message.type === "sent" && typeof message.messageId === "string") {
      this.elsewhereSince = Date.now();
      this.apply({
        type: "sent_elsewhere",
        messageId: message.messageId,
        turnIdx: typeof message.turnIdx === "number" ? message.turnIdx : -1,
      });
    } else if (message.type === "handed_in") {
      this.update({ handIn: "done" });
      this.disconnect();
    } else if (message.type === "agent_changed") {
      void this.catchUp();
    }
  }

  private afterNews(): void {
    if (this.snapshot.state?.view.ended?.ending) {
      void this.confirmEnding();
      return;
    }
    if (this.snapshot.state?.view.ended?.cause === "stopped") {
      // The run is about to go. A page that connected to the next one would be given a new conversation.
      this.socket?.stop();
      this.socket = null;
      return;
    }
    if (this.isOnboarding && this.snapshot.state?.view.onboarding.outcome === "passed") void this.leaveOnboarding();
  }

  /** The participant sees the ending: the run need not wait for this page any more. Nothing on the screen depends on it. */
  private async confirmEnding(): Promise<void> {
    for (let attempt = 0; !this.stopped; attempt += 1) {
      const { handIn } = this.snapshot;
      if (handIn === "sending" || handIn === "done") return;
      await this.handIn();
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAYS[Math.min(attempt, RETRY_DELAYS.length - 1)]));
    }
  }

  private get isOnboarding(): boolean {
    const { phase } = this.snapshot;
    return phase.kind === "live" && isOnboardingAgent(phase.agentId);
  }

  private async leaveOnboarding(): Promise<void> {
    const { phase } = this.snapshot;
    if (this.leavingOnboarding || phase.kind !== "live") return;
    this.leavingOnboarding = true;
    const { agentId } = phase;
    let answered = false;
    const details = await this.parts.exclusively("submit_onboarding", () =>
      this.untilLeft(async () => {
        // After a lost answer, or when another tab was first, the worker's agent is the task's already.
        if (answered) {
          const current = await this.parts.http.requestAgent();
          if (current.agent_id !== agentId) return current;
        }
        answered = true;
        return this.parts.http.submitOnboarding(agentId);
      }),
    );
    if (details === null || this.snapshot.phase !== phase) return;
    this.broadcast({ type: "agent_changed" });
    this.enter(details);
  }

  private async untilLeft(ask: () => Promise<AgentDetails>): Promise<AgentDetails | null> {
    for (let attempt = 0; !this.stopped; attempt += 1) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAYS[Math.min(attempt, RETRY_DELAYS.length - 1)]));
      }
    }
    return null;
  }

  // --- catching up ---

  /** Ask for everything that the server has said and merge it. One request at a time. */
  private catchUp(): Promise<void> {
    if (this.catchingUp !== null) {
      this.catchUpAgain = true;
      return this.catchingUp;
    }
    this.catchingUp = this.catchUpOnce().finally(() => {
      this.catchingUp = null;
      if (this.catchUpAgain) {
        this.catchUpAgain = false;
        void this.catchUp();
      }
    });
    return this.catchingUp;
  }

  private async catchUpOnce(): Promise<void> {
    const { phase, state: before } = this.snapshot;
    if (phase.kind !== "live" || this.socket === null || this.leavingOnboarding) return;
    if (before !== null && isOver(before)) return; // nothing more is said; a new run would give a new conversation
    let details: AgentDetails;
    try {
      details = await this.parts.http.requestAgent();
    } catch {
      return; // the connection's own retries show whether the server is there
    }
    // Something else may have happened to the session while the answer was on its way.
    if (!this.isStillIn(phase)) return;
    if (details.agent_id === null) {
      const { state } = this.snapshot;
      const knowsWhy = state !== null && (isOver(state) || state.view.onboarding.outcome !== null);
      if (!knowsWhy) this.enter(details);
      return;
    }
    if (details.agent_id !== phase.agentId) {
      this.enter(details);
      return;
    }
    this.lastNews = Date.now();
    this.apply({ type: "caught_up", log: toLog(details) });
    this.afterNews();
  }

  private isStillIn(phase: Phase): boolean {
    return !this.stopped && this.snapshot.phase === phase && !this.leavingOnboarding;
  }

  private watch(): void {
    const { state } = this.snapshot;
    if (state === null) return;
    const now = Date.now();
    const { pending, elsewhere } = state;
    if (elsewhere !== null && now - this.elsewhereSince > this.timings.elsewhereLimit) {
      this.apply({ type: "elsewhere_expired", messageId: elsewhere.messageId });
    }
    if (isOver(state)) return;
    if (this.snapshot.connection !== "connected") {
      this.watchLoss(state, now);
      return;
    }
    if (pending !== null && now - this.lastSend > this.timings.resendAfter) this.sendPending();
    const waiting = pending !== null || elsewhere !== null || isModelThinking(state.view) || !state.view.started;
    if (now - this.lastNews > (waiting ? this.timings.catchUpWaiting : this.timings.catchUpIdle)) {
      this.lastNews = now;
      void this.catchUp();
    }
  }

  private watchLoss(state: State, now: number): void {
    if (this.lostSince === null || this.snapshot.gone !== null) return;
    const { deadline } = state.view.turn ?? state.view.onboarding;
    const patience = deadline !== null && now > deadline ? this.timings.goneAfterTimeUp : this.timings.goneAfter;
    if (now - this.lostSince > patience) this.update({ gone: "unreachable" });
  }

  private sendPending(): void {
    const { state } = this.snapshot;
    if (state === null || state.pending === null) return;
    this.lastSend = Date.now();
    this.socket?.sendUpdate(toPacket(state.pending, state));
  }

  private broadcast(message: unknown): void {
    try {
      this.channel?.postMessage(message);
    } catch {
      // a closed channel: the other tabs catch up by themselves
    }
  }

  // --- state ---

  private apply(event: Event): void {
    const { state, phase } = this.snapshot;
    if (state === null || phase.kind !== "live") return;
    const next = reduce(state, event);
    if (next === state) return;
    this.update({ state: next });
    if (next.draft !== state.draft || next.pending !== state.pending || next.log[0] !== state.log[0]) {
      this.parts.memory.keep(phase.agentId, next);
    }
  }

  private update(change: Partial<Snapshot>): void {
    this.snapshot = { ...this.snapshot, ...change };
    for (const subscriber of this.subscribers) subscriber();
  }
}

async function within<T>(work: Promise<T>, milliseconds: number): Promise<T> {
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      setTimeout(() => {
        reject(new RequestError("no answer in time"));
      }, milliseconds);
    }),
  ]);
}

function rulesOf(config: TaskConfig, onboarding: OnboardingData | null): Rules {
  return {
    annotation: config.annotation,
    ratingQuestions: config.final_rating_questions.length,
    maxMessageLength: config.max_message_length,
    onboarding: onboarding?.dialogs.map((dialog) => dialog.map((utterance) => utterance.agent_idx)) ?? [],
    counting: config.record_authenticity,
  };
}

/** Updates of the past with the time, on the page's clock, at which they would have come. */
function toLog(details: AgentDetails): Logged[] {
  const now = Date.now();
  return details.past_updates.map((update) => ({
    update,
    receivedAt: update.timestamp > 0 ? Math.min(now, update.timestamp * 1000 - details.clock_offset) : now,
  }));
}
