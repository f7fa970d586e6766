/**
 * A stand-in for Mephisto's node router with a scripted server behind it, for looking at the page and for its tests. It
 * speaks the same protocol and has the router's habits: an agent's updates go to the socket heard from last, what is sent
 * while that socket is closed is lost, and a repeated update id is dropped.
 *
 *     node dev/fake-router.mjs --port 3100        then open the address that it prints
 */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { scenarios as allScenarios } from "./scenarios.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
};

/** The worker stops taking part: what a script gets instead of the next packet. */
export class Gone extends Error {}

/** One agent as the server sees it. */
export class FakeAgent {
  constructor(id, initData = {}) {
    this.id = id;
    this.initData = initData;
    this.updates = [];
    this.status = "none";
    this.socket = null;
    this.received = [];
    this.seen = new Set();
    this.waiting = null;
    this.submitted = false;
    this.failure = null;
  }

  say(agentIdx, text, { fakeStart = false, ...taskData } = {}) {
    const utterance_idx = this.updates.filter((update) => update.task_data.control === undefined).length;
    this.send({
      id: agentIdx === 0 ? "Speaker 1" : "Speaker 2",
      text,
      ...(fakeStart ? { fake_start: true } : {}),
      task_data: { utterance_idx, agent_idx: agentIdx, ...taskData },
    });
  }

  control(control, taskData = {}) {
    this.send({ id: "System", text: "", task_data: { control, ...taskData } });
  }

  send(update) {
    const data = { episode_done: false, update_id: randomUUID(), timestamp: Date.now() / 1000, ...update };
    this.updates.push(data);
    this.packet("client_bound_live_update", data);
  }

  /** A part of the reply that comes next: kept nowhere, as by the router. */
  part(part, text, taskData = {}) {
    const utterance_idx = this.updates.filter((update) => update.task_data.control === undefined).length;
    this.packet("client_bound_live_update", {
      update_id: `part-${part}`,
      text: "",
      task_data: { control: "reply_part", utterance_idx, side: null, part, text, ...taskData },
    });
  }

  setStatus(status) {
    this.status = status;
    this.packet("update_status", { status });
  }

  packet(packet_type, data) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify({ packet_type, subject_id: this.id, data }));
  }

  take(data) {
    if (this.seen.has(data.update_id)) return;
    this.seen.add(data.update_id);
    if (this.waiting !== null) {
      const { resolve } = this.waiting;
      this.waiting = null;
      resolve(data);
    } else {
      this.received.push(data);
    }
  }

  /** The next packet of the worker. */
  receive() {
    if (this.received.length > 0) return Promise.resolve(this.received.shift());
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  stop() {
    this.waiting?.reject(new Gone());
    this.waiting = null;
  }

  details() {
    return this.failure !== null
      ? { agent_id: null, failure_reason: this.failure }
      : {
          worker_id: "1",
          agent_id: this.id,
          init_task_data: { ...this.initData, past_live_updates: this.updates },
        };
  }
}

/**
 * Start the router on a free port, or on `port`.
 * @param {{port?: number, scenarios?: Record<string, any>}} [options]
 */
export async function startRouter({ port = 0, scenarios = allScenarios } = {}) {
  /** @type {Map<string, FakeAgent>} */
  const byRegistration = new Map();
  /** @type {Map<string, FakeAgent>} */
  const agents = new Map();
  const requests = [];
  let count = 0;
  let down = false;

  function newAgent(prefix, initData) {
    count += 1;
    const agent = new FakeAgent(`${prefix}${count}`, initData);
    agents.set(agent.id, agent);
    return agent;
  }

  function begin(registration, scenario) {
    const { kind = "chat", initData = {} } = scenario;
    const agent = newAgent(kind === "onboarding" ? "onboarding_" : "", initData);
    agent.registration = registration;
    agent.scenario = scenario;
    byRegistration.set(registration, agent);
    scenario.run?.(agent).catch((error) => {
      if (!(error instanceof Gone)) throw error;
    });
    return agent;
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    if (down) {
      request.socket.destroy();
      return;
    }
    const json = (body, status = 200) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const name = url.searchParams.get("scenario") ?? "";
    const scenario = scenarios[name] ?? Object.values(scenarios)[0];
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const sent = request.method === "POST" ? JSON.parse(body) : null;
    requests.push({ path: url.pathname, sent });
    if (scenario.http?.(url.pathname, sent, { json, request, response }) === true) return;
    switch (url.pathname) {
      case "/wrap_crowd_source.js":
        response.writeHead(200, { "Content-Type": "text/javascript" });
        response.end(WRAPPER);
        return;
      case "/task_config.json":
        json(scenario.config);
        return;
      case "/request_agent": {
        const registration = sent.provider_data.agent_registration_id;
        const agent = byRegistration.get(registration) ?? begin(registration, scenario);
        json({ data: agent.details() });
        return;
      }
      case "/submit_onboarding": {
        const old = agents.get(sent.provider_data.USED_AGENT_ID);
        if (old === undefined || byRegistration.get(old.registration) !== old) return; // never answered, as by Mephisto
        json({ data: begin(old.registration, old.scenario.next).details() });
        return;
      }
      case "/submit_task": {
        const agent = agents.get(sent.USED_AGENT_ID);
        if (agent !== undefined) agent.submitted = true;
        json({ status: "Submitted!" });
        return;
      }
      case "/log_error":
        json({});
        return;
      case "/scenarios":
        response.writeHead(200, { "Content-Type": "text/html" });
        response.end(index(Object.keys(scenarios)));
        return;
    }
    const path = normalize(url.pathname === "/" ? "/index.html" : url.pathname);
    try {
      const content = await readFile(join(DIST, path));
      response.writeHead(200, {
        "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
        "Content-Security-Policy":
          "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws:",
      });
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  });

  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket) => {
    if (down) {
      socket.terminate();
      return;
    }
    socket.on("message", (raw) => {
      const packet = JSON.parse(String(raw));
      const agent = agents.get(packet.subject_id);
      if (agent === undefined) return;
      if (packet.packet_type === "alive") {
        agent.socket = socket;
        agent.packet("update_status", { status: agent.status });
      } else if (packet.packet_type === "mephisto_bound_live_update") {
        agent.take(packet.data);
      }
    });
  });

  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : port}/`;
  return {
    url,
    agents,
    /** Every HTTP request so far. */
    requests,
    agentOf: (registration) => byRegistration.get(registration),
    /** Take the network away, or give it back. */
    setDown(value) {
      down = value;
      if (down) for (const socket of sockets.clients) socket.terminate();
    },
    async close() {
      for (const agent of agents.values()) agent.stop();
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const WRAPPER = `
function param(name) { return new URLSearchParams(window.location.search).get(name); }
function getWorkerName() { return param("worker_id"); }
function getAssignmentId() { return param("assignment_id"); }
function getAgentRegistration() {
  return { worker_name: getWorkerName(), agent_registration_id: getAssignmentId() + "-" + getWorkerName(),
    assignment_id: getAssignmentId(), provider_type: "mock" };
}
function getProviderURLParams() { return { scenario: param("scenario") || "" }; }
function handleSubmitToProvider(data) { alert("The task has been submitted! Data: " + JSON.stringify(data)); }
`;

function index(names) {
  const links = names.map((name) => {
    const worker = name.startsWith("preview") ? "" : `&worker_id=${name}-${Date.now()}&assignment_id=1`;
    return `<li><a href="/?scenario=${name}${worker}">${name}</a></li>`;
  });
  return `<!doctype html><title>Scenarios</title><ul>${links.join("")}</ul>`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.lastIndexOf("--port");
  const router = await startRouter({ port: at > 0 ? Number(process.argv[at + 1]) : 3100 });
  console.log(`${router.url}scenarios`);
}
