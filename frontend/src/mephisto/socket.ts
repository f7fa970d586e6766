/**
 * The router's WebSocket side for one agent: connects, says who it is, keeps the connection alive, and connects again
 * after a loss, for as long as it takes.
 *
 * It keeps alive with `alive` packets and not with Mephisto's `heartbeat`: after its first heartbeat Mephisto's own router takes an
 * agent for gone for good that has been silent for 15 s. A tunnel, a sleeping laptop or a tab in the background (where
 * browsers let timers run once a minute) must not cost a worker the conversation; the time for the turn is what counts.
 * `alive` links the socket all the same, and the router answers each with the agent's status.
 */

import { uuid } from "../lib/uuid";
import { isRecord, readUpdate, type Json, type ServerUpdate } from "../protocol";

export const KEEP_ALIVE_INTERVAL = 5_000;
/** Without any packet for so long, the connection is taken for dead. */
export const SILENCE_LIMIT = 12_000;
const CONNECT_LIMIT = 8_000;
const RECONNECT_DELAYS = [300, 1_000, 2_000, 3_000, 5_000];

export interface SocketListener {
  onOpen: () => void;
  onLost: () => void;
  onStatus: (status: string) => void;
  onUpdate: (update: ServerUpdate) => void;
}

/** The part of the browser's WebSocket that is used; tests bring their own. */
export interface WebSocketLike {
  readyState: number;
  send: (data: string) => void;
  close: () => void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  onerror: (() => void) | null;
}

const OPEN = 1;

export function socketAddress(base: string): string {
  const url = new URL("./", base);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}

export class RouterSocket {
  private socket: WebSocketLike | null = null;
  private stopped = false;
  private attempts = 0;
  private timers = new Set<ReturnType<typeof setTimeout>>();
  private keepAlive: ReturnType<typeof setInterval> | null = null;
  private lastHeard = 0;
  private lastCheck = 0;

  constructor(
    private readonly address: string,
    private readonly agentId: string,
    private readonly listener: SocketListener,
    private readonly makeSocket: (address: string) => WebSocketLike = (url) =>
      new WebSocket(url) as unknown as WebSocketLike,
  ) {}

  start(): void {
    this.connect();
  }

  /** Close for good. */
  stop(): void {
    this.stopped = true;
    this.dropSocket();
  }

  /** Connect now rather than after the pause that is being waited for: the network is back, or the page is seen again. */
  retryNow(): void {
    if (this.stopped) return;
    if (this.isOpen) this.sendAlive();
    else this.connect();
  }

  /** The network is known to be gone: don't wait until silence shows it. */
  networkLost(): void {
    if (this.socket !== null) this.lose();
  }

  /** Send the worker's live update; false when there is no connection (the caller sends it again when there is). */
  sendUpdate(data: Json): boolean {
    return this.sendPacket("mephisto_bound_live_update", data);
  }

  private get isOpen(): boolean {
    return this.socket !== null && this.socket.readyState === OPEN;
  }

  private connect(): void {
    if (this.stopped) return;
    this.dropSocket();
    let socket: WebSocketLike;
    try {
      socket = this.makeSocket(this.address);
    } catch {
      this.reconnectLater();
      return;
    }
    this.socket = socket;
    const limit = this.after(CONNECT_LIMIT, () => {
      if (socket === this.socket && !this.isOpen) this.lose();
    });
    socket.onopen = () => {
      if (socket !== this.socket) return;
      this.cancel(limit);
      this.attempts = 0;
      this.lastHeard = this.lastCheck = Date.now();
      this.sendAlive();
      this.keepAlive = setInterval(() => {
        this.check();
      }, KEEP_ALIVE_INTERVAL);
      this.listener.onOpen();
    };
    socket.onmessage = (event) => {
      if (socket === this.socket) this.receive(event.data);
    };
    socket.onclose = socket.onerror = () => {
      if (socket === this.socket) this.lose();
    };
  }

  private check(): void {
    const now = Date.now();
    // In a sleeping machine or a tab in the background timers stand still: then silence proves nothing yet.
    const awake = now - this.lastCheck < 2 * KEEP_ALIVE_INTERVAL;
    this.lastCheck = now;
    if (awake && now - this.lastHeard > SILENCE_LIMIT) this.lose();
    else this.sendAlive();
  }

  private lose(): void {
    this.dropSocket();
    if (this.stopped) return;
    this.listener.onLost();
    this.reconnectLater();
  }

  private reconnectLater(): void {
    const delay = RECONNECT_DELAYS[Math.min(this.attempts, RECONNECT_DELAYS.length - 1)] ?? 0;
    this.attempts += 1;
    // Spread, so that all pages of a run don't come back in the same instant.
    this.after(delay * (0.75 + Math.random() / 2), () => {
      this.connect();
    });
  }

  private receive(data: unknown): void {
    this.lastHeard = Date.now();
    let packet: unknown;
    try {
      packet = JSON.parse(String(data));
    } catch {
      return;
    }
    if (!isRecord(packet) || packet.subject_id !== this.agentId) return;
    if (packet.packet_type === "update_status") {
      if (isRecord(packet.data) && typeof packet.data.status === "string") this.listener.onStatus(packet.data.status);
    } else if (packet.packet_type === "client_bound_live_update") {
      const update = readUpdate(packet.data);
      if (update !== null) this.listener.onUpdate(update);
    }
  }

  private sendAlive(): void {
    this.sendPacket("alive", { update_id: uuid() });
  }

  private sendPacket(packetType: string, data: Json): boolean {
    if (this.socket === null || !this.isOpen) return false;
    try {
      this.socket.send(
        JSON.stringify({
          packet_type: packetType,
          subject_id: this.agentId,
          data,
          client_timestamp: Date.now() / 1000,
        }),
      );
      return true;
    } catch {
      return false;
    }
  }

  private dropSocket(): void {
    const { socket } = this;
    this.socket = null;
    if (this.keepAlive !== null) clearInterval(this.keepAlive);
    this.keepAlive = null;
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    try {
      socket.close();
    } catch {
      // already closed
    }
  }

  private after(milliseconds: number, action: () => void): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  private cancel(timer: ReturnType<typeof setTimeout>): void {
    clearTimeout(timer);
    this.timers.delete(timer);
  }
}
