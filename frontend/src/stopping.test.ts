// @vitest-environment node
/** How a page ends when its run does: stopped, gone, or started again; over real HTTP and WebSockets on loopback. */

import { afterEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { startRun, type ScriptedAgent, type ScriptedRun } from "../dev/scripted-run.mjs";
import { CONFIG } from "../test/updates";
import { RouterHttp } from "./mephisto/http";
import { readProvider } from "./mephisto/provider";
import { RouterSocket, socketAddress, type WebSocketLike } from "./mephisto/socket";
import { Session, TIMINGS, type Snapshot } from "./session";
import { Memory } from "./state/memory";
import { screenOf, type Screen } from "./state/screen";

let router: ScriptedRun;
const sessions: Session[] = [];
const QUICK = { ...TIMINGS, watchInterval: 20, goneAfter: 300, goneAfterTimeUp: 100, lastHandIn: 200 };

function storage(): Storage {
  const map = new Map<string, string>();
  return {
    getItem: (key: string) => map.get(key) ?? null,
    setItem: (key: string, value: string) => void map.set(key, value),
  } as Storage;
}

async function run(script: (agent: ScriptedAgent) => void, port = 0, config: object = CONFIG): Promise<void> {
  const only = {
    config,
    run: (agent: ScriptedAgent) => {
      script(agent);
      return Promise.resolve();
    },
  };
  router = await startRun({ port, scenarios: { only } });
}

function open(
  kept = storage(),
  handInToProvider = vi.fn(),
): { session: Session; handInToProvider: typeof handInToProvider } {
  const provider = readProvider({
    getWorkerName: () => "w",
    getAssignmentId: () => "1",
    getAgentRegistration: () => ({
      worker_name: "w",
      assignment_id: "1",
      agent_registration_id: "1-w",
      provider_type: "mturk",
    }),
  });
  const session = new Session(
    {
      http: new RouterHttp(router.url, provider),
      makeSocket: (agentId, listener) =>
        new RouterSocket(socketAddress(router.url), agentId, listener, (address) => {
          const socket = new WebSocket(address);
          socket.on("error", () => undefined); // of one that is closed before it is open
          return socket as unknown as WebSocketLike;
        }),
      memory: new Memory(kept, "1-w"),
      makeChannel: () => null,
      exclusively: (_name, action) => action(),
      preview: false,
      phone: false,
      hasPlatform: true,
      handInToProvider,
    },
    QUICK,
  );
  sessions.push(session);
  void session.start();
  return { session, handInToProvider };
}

async function until(session: Session, holds: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  return vi.waitFor(
    () => {
      const snapshot = session.getSnapshot();
      if (!holds(snapshot)) throw new Error(`not yet: ${JSON.stringify(snapshot).slice(0, 1500)}`);
      return snapshot;
    },
    { timeout: 8_000, interval: 10 },
  );
}

const onScreen =
  (screen: Screen) =>
  (snapshot: Snapshot): boolean =>
    screenOf(snapshot) === screen;

function opening(to: ScriptedAgent, seconds = 60): void {
  to.setStatus("in task");
  to.control("start", { agent_display_name: "Speaker 1", personas: [], num_turns: 3 });
  to.say(0, "Hi!", { fakeStart: true });
  to.say(1, "Hello.");
  to.control("your_turn", { turn_idx: 0, num_turns: 3, seconds, ask: "message", extensions_left: 1 });
}

function agent(): ScriptedAgent {
  const found = router.agentOf("1-w");
  if (found === undefined) throw new Error("there is no agent");
  return found;
}

afterEach(async () => {
  for (const session of sessions.splice(0)) session.stop();
  await router.close();
});

test("a study that was stopped: the reason is shown, and the platform gets the work though the server is gone", async () => {
  await run(opening);
  const { session, handInToProvider } = open();
  await until(session, onScreen("chat"));
  agent().control("ended", { outcome: "incomplete", cause: "stopped", reason: "Stopped.", task_done: true });
  const snapshot = await until(session, onScreen("stopped"));
  expect(snapshot.state?.view.ended?.reason).toBe("Stopped.");
  router.setDown(true);
  await session.handIn();
  expect(handInToProvider).toHaveBeenCalledTimes(1);
  expect(screenOf(session.getSnapshot())).toBe("finished");
});

test("an onboarding that was stopped ends in the same screen", async () => {
  const onboarding = { dialogs: [[{ agent_idx: 1, text: "Hello." }]], annotation: CONFIG.annotation };
  router = await startRun({
    scenarios: {
      only: {
        config: CONFIG,
        kind: "onboarding",
        initData: { task_data: onboarding },
        run: (to: ScriptedAgent) => {
          to.setStatus("onboarding");
          to.control("onboarding_start", { tries_left: 1, seconds: 60 });
          return Promise.resolve();
        },
      },
    },
  });
  const { session, handInToProvider } = open();
  await until(session, onScreen("onboarding"));
  agent().control("ended", { outcome: "incomplete", cause: "stopped", reason: "Stopped.", task_done: true });
  agent().setStatus("disconnect");
  await until(session, onScreen("stopped"));
  await session.handIn();
  expect(handInToProvider).toHaveBeenCalledTimes(1);
});

test("after the end nothing of the next run reaches the page, and no unit of it is used up", async () => {
  await run(opening);
  const { session } = open();
  await until(session, onScreen("chat"));
  agent().control("ended", { outcome: "incomplete", cause: "stopped", reason: "Stopped.", task_done: true });
  await until(session, onScreen("stopped"));
  const { port } = new URL(router.url);
  await router.close();
  await run(opening, Number(port));
  session.wake();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(router.requests).toEqual([]);
  expect(screenOf(session.getSnapshot())).toBe("stopped");
});

test("a server that answers no more ends in a screen with a way to hand in", async () => {
  await run(opening);
  const { session, handInToProvider } = open();
  await until(session, onScreen("chat"));
  router.setDown(true);
  const snapshot = await until(session, onScreen("gone"));
  expect(snapshot.gone).toBe("unreachable");
  await session.handIn();
  expect(handInToProvider).toHaveBeenCalledTimes(1);
  expect(screenOf(session.getSnapshot())).toBe("finished");
});

test("a server that answers again lets the chat continue", async () => {
  await run(opening);
  const { session } = open();
  await until(session, onScreen("chat"));
  router.setDown(true);
  await until(session, onScreen("gone"));
  router.setDown(false);
  session.wake();
  const snapshot = await until(session, onScreen("chat"));
  expect(snapshot.renewed).toBe(false);
});

test("a page that comes back to a new run says that the chat is a new one", async () => {
  await run(opening);
  const { session } = open();
  await until(session, onScreen("chat"));
  const { port } = new URL(router.url);
  await router.close();
  await run((to) => {
    to.id = "another";
    opening(to);
  }, Number(port));
  session.wake();
  const snapshot = await until(session, (now) => now.renewed);
  expect(snapshot.phase).toMatchObject({ kind: "live", agentId: expect.stringMatching(/^another\./) as string });
  session.acceptRenewal();
  expect(session.getSnapshot().renewed).toBe(false);
});

test("so does one that was loaded again, unless the work before was handed in", async () => {
  await run(opening);
  const kept = storage();
  const first = open(kept);
  await until(first.session, onScreen("chat"));
  first.session.stop();
  agent().id = "another";
  await until(open(kept).session, (now) => now.renewed);
  const again = open(kept);
  await until(again.session, onScreen("chat"));
  expect(again.session.getSnapshot().renewed).toBe(false);
  await again.session.handIn();
  agent().id = "third";
  const next = open(kept);
  await until(next.session, onScreen("chat"));
  expect(next.session.getSnapshot().renewed).toBe(false);
});

test("in the requester's preview a new chat is nothing to be said", async () => {
  await run(opening, 0, { ...CONFIG, is_preview: true });
  const kept = storage();
  const first = open(kept);
  await until(first.session, onScreen("chat"));
  first.session.stop();
  agent().id = "another";
  const next = open(kept);
  await until(next.session, onScreen("chat"));
  expect(next.session.getSnapshot().renewed).toBe(false);
});

test("a run that has no work for a worker whose chat was cut off leaves them a way to hand in", async () => {
  await run(opening);
  const kept = storage();
  const first = open(kept);
  await until(first.session, onScreen("chat"));
  first.session.stop();
  const { id } = agent();
  const found = agent();
  found.details = () => ({ agent_id: null, failure_reason: "All done.", refusal: "all_done" });
  const { session, handInToProvider } = open(kept);
  const snapshot = await until(session, onScreen("gone"));
  expect(snapshot.gone).toBe("over");
  expect(id).toBe("1");
  await session.handIn();
  expect(handInToProvider).toHaveBeenCalledTimes(1);
  expect(screenOf(session.getSnapshot())).toBe("finished");
});

test("a worker who was never in is turned away as before", async () => {
  await run(() => undefined);
  const provider = open();
  await until(provider.session, (snapshot) => snapshot.phase.kind === "live");
  provider.session.stop();
  agent().details = () => ({ agent_id: null, failure_reason: "All done.", refusal: "all_done" });
  const { session } = open(storage());
  await until(session, onScreen("no-work"));
});

test("more time is asked for once for each press, and moves the deadline when the server gives it", async () => {
  await run((to) => {
    opening(to, 10);
  });
  const { session } = open();
  await until(session, (now) => onScreen("chat")(now) && now.connection === "connected");
  const before = session.getSnapshot().state?.view.turn;
  session.askMoreTime();
  session.askMoreTime();
  const packet = await agent().receive();
  expect(packet.task_data).toMatchObject({ control: "more_time", turn_idx: 0 });
  agent().control("more_time", { turn_idx: 0, seconds: 70, extensions_left: 0 });
  const { state } = await until(session, (now) => now.state?.view.turn?.given === 70);
  expect(agent().received).toEqual([]);
  expect(state?.view.turn?.extensionsLeft).toBe(0);
  expect(state?.view.turn?.deadline ?? 0).toBeGreaterThan((before?.deadline ?? 0) + 50_000);
  session.askMoreTime();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(agent().received).toEqual([]);
});

test("who runs out of time can hand in", async () => {
  await run(opening);
  const { session, handInToProvider } = open();
  await until(session, onScreen("chat"));
  agent().control("ended", { outcome: "incomplete", cause: "timeout", reason: "Too late.", task_done: true });
  await until(session, onScreen("timeout"));
  await session.handIn();
  expect(agent().submitted).toBe(true);
  expect(handInToProvider).toHaveBeenCalledTimes(1);
});
