// @vitest-environment node
/** The whole connection over real HTTP and WebSockets on loopback, through the task's own router. */

import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import {
  startRun,
  type ScriptedAgent,
  type ScriptedRun,
  type ReceivedPacket,
  type Scenario,
} from "../dev/scripted-run.mjs";
import { CONFIG } from "../test/updates";
import { RouterHttp } from "./mephisto/http";
import { readProvider } from "./mephisto/provider";
import { RouterSocket, socketAddress, type WebSocketLike } from "./mephisto/socket";
import { Session, TIMINGS, type Channel, type SessionParts, type Snapshot } from "./session";
import { Memory } from "./state/memory";
import { screenOf } from "./state/screen";

let router: ScriptedRun;
const sessions: Session[] = [];

class MapStorage implements Storage {
  private readonly map = new Map<string, string>();
  get length(): number {
    return this.map.size;
  }
  clear(): void {
    this.map.clear();
  }
  getItem(key: string): string | null {
    return this.map.get(key) ?? null;
  }
  key(index: number): string | null {
    return [...this.map.keys()][index] ?? null;
  }
  removeItem(key: string): void {
    this.map.delete(key);
  }
  setItem(key: string, value: string): void {
    this.map.set(key, value);
  }
}

function scenario(run: (agent: ScriptedAgent) => void | Promise<void>, more: Partial<Scenario> = {}): Scenario {
  return { config: CONFIG, run: async (agent: ScriptedAgent) => run(agent), ...more };
}

async function routerWith(only: Scenario): Promise<void> {
  router = await startRun({ scenarios: { only } });
}

function open(storage: Storage = new MapStorage(), more: Partial<SessionParts> = {}, timings = TIMINGS): Session {
  const provider = readProvider({
    getWorkerName: () => "w",
    getAssignmentId: () => "1",
    getAgentRegistration: () => ({
      worker_name: "w",
      assignment_id: "1",
      agent_registration_id: "1-w",
      provider_type: "mock",
    }),
  });
  const session = new Session(
    {
      http: new RouterHttp(router.url, provider),
      makeSocket: (agentId, listener) =>
        new RouterSocket(
          socketAddress(router.url),
          agentId,
          listener,
          (address) => new WebSocket(address) as unknown as WebSocketLike,
        ),
      memory: new Memory(storage),
      makeChannel: () => null,
      exclusively: (_name, action) => action(),
      preview: false,
      phone: false,
      hasPlatform: false,
      handInToProvider: () => undefined,
      ...more,
    },
    timings,
  );
  sessions.push(session);
  void session.start();
  return session;
}

async function until(session: Session, holds: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  return vi.waitFor(
    () => {
      const snapshot = session.getSnapshot();
      if (!holds(snapshot)) throw new Error(`not yet: ${JSON.stringify(snapshot).slice(0, 2000)}`);
      return snapshot;
    },
    { timeout: 8_000, interval: 10 },
  );
}

function agent(): ScriptedAgent {
  const found = router.agentOf("1-w");
  if (found === undefined) throw new Error("there is no agent");
  return found;
}

const said = (snapshot: Snapshot): string[] => snapshot.state?.view.messages.map((message) => message.text) ?? [];
const connected = (snapshot: Snapshot): boolean => snapshot.connection === "connected";
const myTurn = (snapshot: Snapshot): boolean => connected(snapshot) && snapshot.state?.view.turn != null;

function opening(to: ScriptedAgent): void {
  to.setStatus("in task");
  to.control("start", { agent_display_name: "Speaker 1", personas: [], num_turns: 3 });
  to.say(0, "Hi!", { fakeStart: true });
  to.say(1, "Hello.");
  to.control("your_turn", { turn_idx: 0, num_turns: 3, seconds: 60, ask: "message" });
}

function answer(to: ScriptedAgent, packet: ReceivedPacket, turn = 1): void {
  to.say(0, packet.text, { message_id: packet.task_data.message_id });
  to.say(1, "I see.");
  to.control("your_turn", { turn_idx: turn, num_turns: 3, seconds: 60, ask: "message" });
}

function write(session: Session, text: string): void {
  session.dispatch({ type: "ticked", value: "none_all_good", on: true });
  session.dispatch({ type: "typed", text, at: Date.now() });
  session.send();
}

beforeEach(() => {
  sessions.length = 0;
});

afterEach(async () => {
  for (const session of sessions) session.stop();
  await router.close();
});

test("a reply grows over the wire, and is remembered by nobody", async () => {
  await routerWith(
    scenario(async (to) => {
      opening(to);
      const packet = await to.receive();
      to.say(0, packet.text, { message_id: packet.task_data.message_id });
      to.part(1, "I");
      to.part(2, "I see");
      await to.receive();
      to.say(1, "I see.");
    }),
  );
  const session = open();
  await until(session, myTurn);
  write(session, "Fine.");
  const grown = await until(session, (snapshot) => snapshot.state?.parts[0]?.text === "I see");
  expect(said(grown)).toEqual(["Hi!", "Hello.", "Fine."]);
  const reloaded = open();
  const again = await until(reloaded, (snapshot) => connected(snapshot) && said(snapshot).length === 3);
  expect(again.state?.parts).toEqual([]);
  agent().take({ text: "", update_id: "go on", task_data: { message_id: "go on" } });
  const whole = await until(reloaded, (snapshot) => said(snapshot).length === 4);
  expect(said(whole).at(-1)).toBe("I see.");
  expect(whole.state?.parts).toEqual([]);
});

test("parts of a reply that the page does not wait for don't keep it from asking what it has missed", async () => {
  await routerWith(
    scenario((to) => {
      opening(to);
    }),
  );
  const session = open(new MapStorage(), {}, { ...TIMINGS, watchInterval: 20, catchUpIdle: 150 });
  await until(session, myTurn);
  const asked = (): number => router.requests.filter((request) => request.path === "/request_agent").length;
  const before = asked();
  let part = 0;
  const sending = setInterval(() => {
    agent().part((part += 1), "x", { utterance_idx: 9 });
  }, 20);
  try {
    await vi.waitFor(
      () => {
        expect(asked()).toBeGreaterThan(before);
      },
      { timeout: 8_000 },
    );
  } finally {
    clearInterval(sending);
  }
});

test("a message goes out, comes back and is answered", async () => {
  await routerWith(
    scenario(async (to) => {
      opening(to);
      answer(to, await to.receive());
    }),
  );
  const session = open();
  await until(session, myTurn);
  write(session, "Nice to meet you.");
  expect(session.getSnapshot().state?.pending?.draft.text).toBe("Nice to meet you.");
  const after = await until(session, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
  expect(said(after)).toEqual(["Hi!", "Hello.", "Nice to meet you.", "I see."]);
  expect(after.state?.pending).toBeNull();
});

test("what was said while the connection was down is caught up with", async () => {
  await routerWith(scenario(opening));
  const session = open();
  await until(session, myTurn);
  router.setDown(true);
  await until(session, (snapshot) => snapshot.connection === "lost");
  agent().say(0, "From before.", { message_id: "earlier" });
  agent().say(1, "You were away.");
  router.setDown(false);
  const after = await until(session, (snapshot) => said(snapshot).length === 4);
  expect(said(after)).toEqual(["Hi!", "Hello.", "From before.", "You were away."]);
  expect(connected(after)).toBe(true);
  expect(after.justBack).toBe(true);
});

test("a message written while the connection is down goes out when it is back, and counts once", async () => {
  await routerWith(
    scenario(async (to) => {
      opening(to);
      answer(to, await to.receive());
    }),
  );
  const session = open();
  await until(session, myTurn);
  router.setDown(true);
  await until(session, (snapshot) => snapshot.connection === "lost");
  write(session, "Written in a tunnel.");
  const messageId = session.getSnapshot().state?.pending?.messageId;
  router.setDown(false);
  const after = await until(session, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
  expect(said(after)).toEqual(["Hi!", "Hello.", "Written in a tunnel.", "I see."]);
  expect(after.state?.view.messages[2]?.messageId).toBe(messageId);
});

test("a message that does not come back is sent again with the same id", async () => {
  const ids: string[] = [];
  await routerWith(
    scenario(async (to) => {
      opening(to);
      const packet = await to.receive(); // and is lost
      ids.push(packet.task_data.message_id);
      to.seen.clear();
      const again = await to.receive();
      ids.push(again.task_data.message_id);
      answer(to, again);
    }),
  );
  const session = open(new MapStorage(), {}, { ...TIMINGS, watchInterval: 20, resendAfter: 60 });
  await until(session, myTurn);
  write(session, "Again?");
  await until(session, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
  expect(ids).toHaveLength(2);
  expect(ids[0]).toBe(ids[1]);
});

test("a reload gives the conversation, the draft and the ticks back", async () => {
  await routerWith(scenario(opening));
  const storage = new MapStorage();
  const first = open(storage);
  await until(first, myTurn);
  first.dispatch({ type: "ticked", value: "bucket_0", on: true });
  first.dispatch({ type: "typed", text: "Half a sent", at: Date.now() });
  first.stop();
  const second = open(storage);
  const after = await until(second, myTurn);
  expect(said(after)).toEqual(["Hi!", "Hello."]);
  expect(after.state?.draft.text).toBe("Half a sent");
  expect(after.state?.draft.ticks).toEqual({ bucket_0: true });
});

test("a reload while a message is on its way sends it, once", async () => {
  const received: string[] = [];
  await routerWith(
    scenario(async (to) => {
      opening(to);
      for (;;) {
        const packet = await to.receive();
        received.push(packet.text);
        if (received.length === 1) answer(to, packet);
      }
    }),
  );
  const storage = new MapStorage();
  const first = open(storage);
  await until(first, myTurn);
  router.setDown(true);
  await until(first, (snapshot) => snapshot.connection === "lost");
  write(first, "Just before the reload.");
  first.stop();
  router.setDown(false);
  const second = open(storage);
  const after = await until(second, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
  expect(said(after).at(-2)).toBe("Just before the reload.");
  expect(received).toEqual(["Just before the reload."]);
});

test("a draft of another conversation under the same agent id is not taken over", async () => {
  await routerWith(scenario(opening));
  const storage = new MapStorage();
  const first = open(storage);
  await until(first, myTurn);
  first.dispatch({ type: "typed", text: "For somebody else", at: Date.now() });
  first.stop();
  await router.close();
  await routerWith(scenario(opening)); // a fresh database counts from 1 again
  const after = await until(open(storage), myTurn);
  expect(after.state?.draft.text).toBe("");
});

/** Two tabs of one browser, joined by a channel that works as BroadcastChannel does. */
function channels(): SessionParts["makeChannel"] {
  const open = new Map<string, Set<Channel>>();
  return (name) => {
    const peers = open.get(name) ?? new Set<Channel>();
    open.set(name, peers);
    const channel: Channel = {
      onmessage: null,
      postMessage: (message) => {
        const data: unknown = structuredClone(message);
        for (const peer of peers) if (peer !== channel) setTimeout(() => peer.onmessage?.({ data }), 0);
      },
      close: () => peers.delete(channel),
    };
    peers.add(channel);
    return channel;
  };
}

test("two tabs show the same conversation", async () => {
  await routerWith(
    scenario(async (to) => {
      opening(to);
      answer(to, await to.receive());
    }),
  );
  const makeChannel = channels();
  const one = open(new MapStorage(), { makeChannel });
  await until(one, myTurn);
  const two = open(new MapStorage(), { makeChannel });
  await until(two, myTurn);
  write(one, "From the first tab.");
  await until(two, (snapshot) => snapshot.state?.elsewhere != null || said(snapshot).length > 2);
  for (const tab of [one, two]) {
    const after = await until(tab, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
    expect(said(after)).toEqual(["Hi!", "Hello.", "From the first tab.", "I see."]);
  }
});

test("while one tab's message is on its way the other can't send for the same turn", async () => {
  await routerWith(scenario(opening));
  const makeChannel = channels();
  const one = open(new MapStorage(), { makeChannel });
  const two = open(new MapStorage(), { makeChannel });
  await until(one, myTurn);
  await until(two, myTurn);
  write(one, "First.");
  await until(two, (snapshot) => snapshot.state?.elsewhere != null);
  write(two, "Second.");
  expect(two.getSnapshot().state?.pending).toBeNull();
  expect(two.getSnapshot().state?.draft.text).toBe("Second.");
  await vi.waitFor(() => {
    expect(agent().received.map((packet) => packet.text)).toEqual(["First."]);
  });
});

test("a tab whose colleague never got through is free again", async () => {
  await routerWith(scenario(opening));
  const makeChannel = channels();
  const two = open(new MapStorage(), { makeChannel }, { ...TIMINGS, watchInterval: 20, elsewhereLimit: 80 });
  const { phase } = await until(two, myTurn);
  const agentId = phase.kind === "live" ? phase.agentId : "";
  makeChannel(`model-chat:${agentId}`)?.postMessage({ type: "sent", messageId: "lost", turnIdx: 0 });
  await until(two, (snapshot) => snapshot.state?.elsewhere != null);
  await until(two, (snapshot) => snapshot.state?.elsewhere === null);
});

test("waiting for a reply that was lost on the way ends with asking for it", async () => {
  await routerWith(
    scenario(async (to) => {
      opening(to);
      const packet = await to.receive();
      router.mute(); // what is sent to the page is lost from now on, and its socket stays open
      answer(to, packet);
    }),
  );
  const session = open(new MapStorage(), {}, { ...TIMINGS, watchInterval: 20, catchUpWaiting: 100 });
  await until(session, myTurn);
  write(session, "Hello?");
  const after = await until(session, (snapshot) => snapshot.state?.view.turn?.turnIdx === 1);
  expect(said(after)).toEqual(["Hi!", "Hello.", "Hello?", "I see."]);
});

test("handing in is told to the server once and to the platform after it", async () => {
  const handInToProvider = vi.fn();
  await routerWith(
    scenario((to) => {
      opening(to);
      to.control("ended", { outcome: "complete", reason: "", task_done: true });
    }),
  );
  const storage = new MapStorage();
  const session = open(storage, { handInToProvider });
  await until(session, (snapshot) => screenOf(snapshot) === "finished" && connected(snapshot));
  await Promise.all([session.handIn(), session.handIn()]);
  expect(session.getSnapshot().handIn).toBe("done");
  expect(router.requests.filter((request) => request.path === "/submit_task").map((request) => request.sent)).toEqual([
    expect.objectContaining({ USED_AGENT_ID: expect.stringMatching(/^1\./) as string, final_data: {} }),
  ]);
  expect(handInToProvider.mock.calls).toEqual([[{}]]);
  session.stop();
  const again = await until(open(storage), (snapshot) => snapshot.phase.kind === "live");
  expect(again.handIn).toBe("done");
});

test("handing in that fails can be tried again", async () => {
  await routerWith(
    scenario((to) => {
      to.control("ended", { outcome: "complete", reason: "", task_done: true });
    }),
  );
  const session = open();
  await until(session, (snapshot) => screenOf(snapshot) === "finished");
  router.setDown(true);
  await session.handIn();
  expect(session.getSnapshot().handIn).toBe("failed");
  router.setDown(false);
  await session.handIn();
  expect(session.getSnapshot().handIn).toBe("done");
});

const ONBOARDING = {
  kind: "onboarding",
  annotation: CONFIG.annotation,
  dialogs: [
    [
      { agent_idx: 0, text: "Hello!" },
      { agent_idx: 1, text: "Hi." },
    ],
  ],
};

function onboarding(run: (agent: ScriptedAgent) => Promise<void>): Scenario {
  return scenario(run, { kind: "onboarding", initData: { task_data: ONBOARDING }, next: scenario(opening) });
}

function fillIn(session: Session): void {
  session.dispatch({ type: "onboarding_ticked", dialog: 0, utterance: 1, value: "bucket_1", on: true });
  session.send();
}

test("a passed onboarding continues to the chat by itself", async () => {
  await routerWith(
    onboarding(async (to) => {
      to.control("onboarding_start", { tries_left: 2, seconds: 300 });
      await to.receive();
      to.control("onboarding_retry", { tries_left: 1, reason: "Not quite.", explanations: [] });
      const packet = await to.receive();
      expect(packet.task_data.onboarding_answers).toEqual([[null, ["bucket_1"]]]);
      to.control("onboarding_passed");
    }),
  );
  const session = open();
  await until(session, (snapshot) => snapshot.state?.view.onboarding.triesLeft === 2 && connected(snapshot));
  fillIn(session);
  await until(session, (snapshot) => snapshot.state?.view.onboarding.triesLeft === 1);
  session.send();
  const after = await until(session, myTurn);
  expect(screenOf(after)).toBe("chat");
  expect(after.phase).toMatchObject({ kind: "live", agentId: expect.stringMatching(/^2\./) as string });
});

test("an onboarding whose success was not heard of still continues: only one that was passed waits", async () => {
  await routerWith(
    onboarding(async (to) => {
      await to.receive();
      to.setStatus("waiting");
    }),
  );
  const session = open();
  await until(session, connected);
  fillIn(session);
  expect(screenOf(await until(session, myTurn))).toBe("chat");
});

test("when the answer to a passed onboarding is lost, the page asks for the agent it has by now", async () => {
  let lost = 0;
  await routerWith({
    ...onboarding(async (to) => {
      await to.receive();
      to.control("onboarding_passed");
    }),
    http: (path, { request, response }) => {
      if (path === "/submit_onboarding" && lost === 0) {
        lost += 1;
        response.end = () => request.socket.destroy() as unknown as ServerResponse; // taken, but the answer is lost
      }
      return false;
    },
  });
  const session = open();
  await until(session, connected);
  fillIn(session);
  expect(screenOf(await until(session, myTurn))).toBe("chat");
  expect(lost).toBe(1);
  expect(router.requests.filter((request) => request.path === "/submit_onboarding")).toHaveLength(1);
});

test("a worker who failed for good sees that, and no new form", async () => {
  await routerWith(
    onboarding(async (to) => {
      await to.receive();
      to.control("onboarding_failed", { reason: "Too many differences." });
      to.failure = "You are not currently qualified to work on this task...";
    }),
  );
  const session = open();
  await until(session, connected);
  fillIn(session);
  const after = await until(session, (snapshot) => screenOf(snapshot) === "failed");
  expect(after.state?.view.onboarding.failureReason).toBe("Too many differences.");
  session.wake(); // asks the server, which no longer knows this agent as one that may work
  await vi.waitFor(() => {
    expect(router.requests.filter((request) => request.path === "/request_agent").length).toBeGreaterThan(1);
  });
  expect(screenOf(session.getSnapshot())).toBe("failed");
});

test.each([
  ["You are not currently qualified to work on this task...", "blocked"],
  ["There is currently no available work, please try again later...", "no-work"],
  ["You appear to have already completed this task, or have disconnected long enough...", "disconnected"],
])("turned away with “%s”: the screen %s", async (reason, screen) => {
  await routerWith(
    scenario((to) => {
      to.failure = reason;
    }),
  );
  const after = await until(open(), (snapshot) => snapshot.phase.kind === "turned-away");
  expect(screenOf(after)).toBe(screen);
  expect(after.phase).toEqual({ kind: "turned-away", reason, refusal: null });
});

test("a phone is turned back before the server makes an agent of it", async () => {
  await routerWith({ ...scenario(opening), config: { ...CONFIG, block_mobile: true } });
  await until(open(new MapStorage(), { phone: true }), (snapshot) => screenOf(snapshot) === "mobile-blocked");
  expect(router.requests.map((request) => request.path)).toEqual(["/task_config.json"]);
});

test("a preview asks for no agent", async () => {
  await routerWith(scenario(opening));
  await until(open(new MapStorage(), { preview: true }), (snapshot) => screenOf(snapshot) === "preview");
  expect(router.requests.map((request) => request.path)).toEqual(["/task_config.json"]);
});

test("a server that can't be reached at first is asked again", async () => {
  await routerWith(scenario(opening));
  router.setDown(true);
  const session = open();
  await until(session, (snapshot) => screenOf(snapshot) === "lost");
  router.setDown(false);
  expect(screenOf(await until(session, myTurn))).toBe("chat");
});

test.each(["timeout", "disconnect", "returned", "expired"])("the status %s ends the chat", async (status) => {
  await routerWith(scenario(opening));
  const session = open();
  await until(session, myTurn);
  agent().setStatus(status);
  await until(session, (snapshot) => screenOf(snapshot) === (status === "timeout" ? "timeout" : "disconnected"));
});

test("a worker who has finished can hand in, whatever the status says afterwards", async () => {
  await routerWith(
    scenario((to) => {
      opening(to);
      to.control("ended", { outcome: "complete", reason: "", task_done: true });
      to.setStatus("timeout");
    }),
  );
  const session = open();
  await until(session, (snapshot) => snapshot.state?.agentStatus === "timeout");
  expect(screenOf(session.getSnapshot())).toBe("finished");
});
