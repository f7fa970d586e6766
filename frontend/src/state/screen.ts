/** Which screen the page shows. */

import { isOnboardingAgent, type Ending } from "../protocol";
import type { Snapshot } from "../session";
import { isOver, type State } from "./conversation";

export type Screen =
  | "preview"
  | "loading"
  | "onboarding"
  | "page"
  | "chat"
  | "rating"
  | "finished"
  | "ending"
  | "failed"
  | "no-work"
  | "blocked"
  | "timeout"
  | "stopped"
  | "gone"
  | "disconnected"
  | "model-failed"
  | "mobile-blocked"
  | "lost";

/** Beginnings of the sentences with which Mephisto turns workers away (`WorkerFailureReasons`). */
const NOT_QUALIFIED = "You are not currently qualified";
const TASK_MISSING = "You appear to have already completed";
const NO_WORK = "There is currently no available work";

/** Why a worker is turned away, in the server's words; "" for a sentence of Mephisto's, which says no more than the page. */
export function reasonOf(phase: Snapshot["phase"]): string {
  if (phase.kind !== "turned-away") return "";
  const ofMephisto = [NOT_QUALIFIED, TASK_MISSING, NO_WORK].some((beginning) => phase.reason.startsWith(beginning));
  return phase.refusal === null && ofMephisto ? "" : phase.reason;
}

/** Refusals that last, whatever work there is. */
const CLOSED: ReadonlySet<string> = new Set(["acceptability", "attention", "blocked", "not_invited", "onboarding"]);

/** How a panel participant's part has ended, once the server has said so; null before, and without a panel. */
export function endingOf({ phase, state }: Snapshot): Ending | null {
  if (phase.kind === "turned-away") return phase.ending ?? null;
  if (phase.kind !== "live" || state === null) return null;
  return state.view.ended?.ending ?? state.view.onboarding.ending ?? null;
}

export function screenOf(snapshot: Snapshot): Screen {
  const { phase, state, handIn } = snapshot;
  if (endingOf(snapshot) !== null) return "ending";
  switch (phase.kind) {
    case "loading":
    case "preview":
    case "mobile-blocked":
      return phase.kind;
    case "unreachable":
      return "lost";
    case "turned-away":
      if (handIn === "done") return "finished";
      if (snapshot.gone !== null) return "gone";
      if (phase.refusal !== null) return CLOSED.has(phase.refusal) ? "blocked" : "no-work";
      if (phase.reason.startsWith(NOT_QUALIFIED)) return "blocked";
      return phase.reason.startsWith(TASK_MISSING) ? "disconnected" : "no-work";
    case "live":
      if (handIn === "done") return "finished";
      if (state === null) return "loading";
      if (state.view.ended?.cause === "stopped") return "stopped";
      if (snapshot.gone !== null && !isOver(state)) return "gone";
      return isOnboardingAgent(phase.agentId) ? onboardingScreen(state) : chatScreen(state);
  }
}

function onboardingScreen(state: State): Screen {
  const { outcome } = state.view.onboarding;
  if (outcome === "failed") return "failed";
  if (outcome === "passed") return "loading";
  return endedByStatus(state.agentStatus) ?? (state.agentStatus === "rejected" ? "failed" : "onboarding");
}

function chatScreen(state: State): Screen {
  const { view, agentStatus } = state;
  // What the conversation itself says comes first: a worker who has finished can hand in, whatever the status.
  if (view.modelFailed !== null) return "model-failed";
  if (view.ended !== null) return view.ended.cause === "timeout" ? "timeout" : "finished";
  const ended = endedByStatus(agentStatus);
  if (ended !== null) return ended;
  if (!view.started) return "loading";
  if (view.page !== null) return "page";
  if (view.awaitsPage) return "loading";
  return view.turn?.ask === "final_rating" ? "rating" : "chat";
}

function endedByStatus(status: string | null): Screen | null {
  if (status === "timeout") return "timeout";
  if (status === "disconnect" || status === "partner disconnect" || status === "returned" || status === "expired") {
    return "disconnected";
  }
  return null;
}
