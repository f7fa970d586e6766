import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { KEEP_ALIVE_INTERVAL, RouterSocket, SILENCE_LIMIT, socketAddress, type WebSocketLike } from "./socket";

/** A socket in the hands of the test; timing is what these tests are about, so nothing here goes over a network. */
class TestSocket implements WebSocketLike {
  static all: TestSocket[] = [];
  readyState = 0;
  sent: Record<string, unknown>[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;

  constructor() {
    TestSocket.all.push(this);
  }

  static get latest(): TestSocket {
    const socket = TestSocket.all.at(-1);
    if (socket === undefined) throw new Error("no socket was opened");
    return socket;
  }

  send(data: string): void {
    this.sent.push(JSON.parse(data) as Record<string, unknown>);
  }

  close(): void {
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  receive(packet: unknown): void {
    this.onmessage?.({ data: typeof packet === "string" ? packet : JSON.stringify(packet) });
  }
}

const listener = { onOpen: vi.fn(), onLost: vi.fn(), onStatus: vi.fn(), onUpdate: vi.fn() };
let socket: RouterSocket;

beforeEach(() => {
  vi.useFakeTimers();
  TestSocket.all = [];
  for (const spy of Object.values(listener)) spy.mockClear();
  socket = new RouterSocket("ws://test/", "7", listener, () => new TestSocket());
  socket.start();
});

afterEach(() => {
  socket.stop();
  vi.useRealTimers();
});

function alive(): void {
  TestSocket.latest.receive({ packet_type: "update_status", subject_id: "7", data: { status: "in task" } });
}

test("an open connection says which agent it is, and again every few seconds", () => {
  TestSocket.latest.open();
  vi.advanceTimersByTime(KEEP_ALIVE_INTERVAL * 2);
  expect(TestSocket.latest.sent.map((packet) => [packet.packet_type, packet.subject_id])).toEqual([
    ["alive", "7"],
    ["alive", "7"],
    ["alive", "7"],
  ]);
  expect(listener.onOpen).toHaveBeenCalledTimes(1);
});

test("no heartbeat is ever sent, since the router ends agents that stop sending them", () => {
  TestSocket.latest.open();
  for (let second = 0; second < 60; second += 5) {
    vi.advanceTimersByTime(5_000);
    alive();
  }
  expect(TestSocket.latest.sent.filter((packet) => packet.packet_type === "heartbeat")).toEqual([]);
});

test("a closed connection is reported lost and opened again", () => {
  TestSocket.latest.open();
  TestSocket.latest.onclose?.();
  expect(listener.onLost).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(1_000);
  expect(TestSocket.all).toHaveLength(2);
  TestSocket.latest.open();
  expect(listener.onOpen).toHaveBeenCalledTimes(2);
});

test("it keeps trying for as long as it takes, with pauses that grow to a few seconds and no further", () => {
  for (let attempt = 0; attempt < 6; attempt += 1) {
    TestSocket.latest.onerror?.();
    vi.advanceTimersByTime(6_300); // the longest pause is 5 s, give or take a quarter
    expect(TestSocket.all).toHaveLength(attempt + 2);
  }
  TestSocket.latest.onerror?.();
  vi.advanceTimersByTime(3_000);
  expect(TestSocket.all).toHaveLength(7);
  vi.advanceTimersByTime(4_000);
  expect(TestSocket.all).toHaveLength(8);
});

test("a connection that has fallen silent is taken for dead", () => {
  TestSocket.latest.open();
  vi.advanceTimersByTime(SILENCE_LIMIT - 1);
  expect(listener.onLost).not.toHaveBeenCalled();
  vi.advanceTimersByTime(KEEP_ALIVE_INTERVAL + 1);
  expect(listener.onLost).toHaveBeenCalledTimes(1);
});

test("a machine that wakes up asks before it takes the connection for dead", () => {
  TestSocket.latest.open();
  vi.advanceTimersByTime(KEEP_ALIVE_INTERVAL);
  alive();
  vi.setSystemTime(Date.now() + 3_600_000);
  vi.advanceTimersByTime(KEEP_ALIVE_INTERVAL);
  expect(listener.onLost).not.toHaveBeenCalled();
});

test("an attempt that neither opens nor fails is given up", () => {
  vi.advanceTimersByTime(10_000);
  expect(TestSocket.all.length).toBeGreaterThan(1);
});

test("when the network is back it does not wait for the end of the pause", () => {
  socket.networkLost();
  expect(listener.onLost).toHaveBeenCalledTimes(1);
  socket.retryNow();
  expect(TestSocket.all).toHaveLength(2);
});

test("what an old socket still says is not listened to", () => {
  const old = TestSocket.latest;
  old.open();
  const { onmessage } = old;
  old.onclose?.();
  vi.advanceTimersByTime(1_000);
  onmessage?.({ data: JSON.stringify({ packet_type: "update_status", subject_id: "7", data: { status: "late" } }) });
  expect(listener.onStatus).not.toHaveBeenCalled();
});

test("updates and statuses of this agent are passed on, and nothing else", () => {
  const { latest } = TestSocket;
  latest.open();
  latest.receive({ packet_type: "client_bound_live_update", subject_id: "7", data: { update_id: "u1", text: "Hi" } });
  latest.receive({ packet_type: "client_bound_live_update", subject_id: "8", data: { update_id: "u2", text: "Ho" } });
  latest.receive({ packet_type: "client_bound_live_update", subject_id: "7", data: { text: "without an id" } });
  latest.receive({ packet_type: "something_else", subject_id: "7" });
  latest.receive("no JSON");
  latest.receive("null");
  alive();
  expect(listener.onUpdate.mock.calls.map(([update]: { update_id: string }[]) => update?.update_id)).toEqual(["u1"]);
  expect(listener.onStatus.mock.calls).toEqual([["in task"]]);
});

test("sending without a connection reports it", () => {
  expect(socket.sendUpdate({ text: "Hi" })).toBe(false);
  TestSocket.latest.open();
  expect(socket.sendUpdate({ text: "Hi" })).toBe(true);
  expect(TestSocket.latest.sent.at(-1)).toMatchObject({
    packet_type: "mephisto_bound_live_update",
    subject_id: "7",
    data: { text: "Hi" },
  });
});

test("after stopping nothing is opened any more", () => {
  TestSocket.latest.open();
  socket.stop();
  vi.advanceTimersByTime(60_000);
  expect(TestSocket.all).toHaveLength(1);
  expect(listener.onLost).not.toHaveBeenCalled();
});

test.each([
  ["http://host:3000/?worker_id=x#y", "ws://host:3000/"],
  ["https://host/task/index.html?a=b", "wss://host/task/"],
])("the socket of %s is %s", (page, address) => {
  expect(socketAddress(page)).toBe(address);
});
