/**
 * A run whose conversations are scripts: the task's own router, an operator that plays the scripts, and before the router
 * the network, which can be taken away. For looking at the page, and for its tests.
 *
 *     node dev/scripted-run.mjs --port 3100        then open the address that it prints
 */

import { spawn } from "node:child_process";
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { scenarios as allScenarios } from "./scenarios.mjs";

const ROUTER = fileURLToPath(new URL("../../router", import.meta.url));
const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const WRAPPER = fileURLToPath(new URL("../../preview/page/wrap_crowd_source.js", import.meta.url));

/** The worker stops taking part: what a script gets instead of the next packet. */
export class Gone extends Error {}

/** One agent as the server sees it. */
export class ScriptedAgent {
  constructor(id, initData, send) {
    this.id = id;
    this.initData = initData;
    this.sendPacket = send;
    this.updates = [];
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
    this.sendPacket("client_bound_live_update", this.id, data);
  }

  /** A part of the reply that comes next: kept nowhere. */
  part(part, text, taskData = {}) {
    const utterance_idx = this.updates.filter((update) => update.task_data.control === undefined).length;
    this.sendPacket("client_bound_live_update", this.id, {
      update_id: `part-${part}`,
      text: "",
      task_data: { control: "reply_part", utterance_idx, side: null, part, text, ...taskData },
    });
  }

  setStatus(status) {
    this.sendPacket("update_status", this.id, { status });
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

/** Start the task's router; it ends with this process. With `page`, it serves the built page from a copy of its own. */
async function startRouter(page) {
  const key = randomBytes(32).toString("base64url");
  let folder = ROUTER;
  if (page) {
    folder = mkdtempSync(join(tmpdir(), "model_chat_scripted_"));
    cpSync(ROUTER, folder, { recursive: true, filter: (path) => !/node_modules|static|\.py|__pycache__/.test(path) });
    symlinkSync(join(ROUTER, "node_modules"), join(folder, "node_modules"));
    cpSync(DIST, join(folder, "static"), { recursive: true });
    writeFileSync(join(folder, "static/wrap_crowd_source.js"), readFileSync(WRAPPER) + SCENARIO_PARAM);
  }
  const child = spawn("node", ["server.js"], {
    cwd: folder,
    env: { ...process.env, PORT: "0", MODEL_CHAT_ROUTER_KEY: key, MODEL_CHAT_PARENT: "stdin" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const port = await new Promise((resolve, reject) => {
    createInterface(child.stdout).on("line", (line) => {
      const listening = /^Listening on (\d+)$/.exec(line);
      if (listening) resolve(Number(listening[1]));
    });
    void ended.then(() => reject(new Error("The router did not start.")));
  });
  const path = createHmac("sha256", key).update("operator").digest("base64url").slice(0, 32);
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
    if (page) rmSync(folder, { recursive: true });
  };
  return { port, operatorUrl: `ws://127.0.0.1:${port}/operator/${path}`, stop };
}

/** Plays scripts as the router's operator. */
class Operator {
  constructor(url, scenarioOf) {
    this.scenarioOf = scenarioOf;
    this.byRegistration = new Map();
    this.agents = [];
    this.socket = new WebSocket(url);
    this.socket.on("message", (raw) => this.handle(JSON.parse(String(raw))));
    this.opened = new Promise((resolve, reject) => this.socket.once("open", resolve).once("error", reject));
  }

  send(packet_type, subject_id, data) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ packet_type, subject_id, data }));
  }

  begin(registration, scenario) {
    const { kind = "chat", initData = {} } = scenario;
    const id = `${kind === "onboarding" ? "onboarding_" : ""}${this.agents.length + 1}`;
    const agent = new ScriptedAgent(id, initData, (...packet) => this.send(...packet));
    Object.assign(agent, { registration, scenario });
    this.agents.push(agent);
    this.byRegistration.set(registration, agent);
    scenario.run?.(agent).catch((error) => {
      if (!(error instanceof Gone)) throw error;
    });
    return agent;
  }

  handle({ packet_type, subject_id, data }) {
    const agent = this.agents.find((one) => one.id === subject_id);
    const answer = (of) =>
      this.send("agent_details", data.request_id, { ...of.details(), request_id: data.request_id });
    if (packet_type === "register_agent") {
      const registration = data.provider_data.agent_registration_id;
      answer(this.byRegistration.get(registration) ?? this.begin(registration, this.scenarioOf(registration)));
    } else if (packet_type === "submit_onboarding") {
      // An onboarding that is over is never answered, as by Mephisto.
      if (agent !== undefined && this.byRegistration.get(agent.registration) === agent)
        answer(this.begin(agent.registration, agent.scenario.next));
    } else if (packet_type === "submit_unit") agent.submitted = true;
    else if (packet_type === "mephisto_bound_live_update") agent?.take(data);
  }

  close() {
    for (const agent of this.agents) agent.stop();
    this.socket.terminate();
  }
}

/**
 * Start a run on a free port, or on `port`.
 * @param {{port?: number, scenarios?: Record<string, any>, page?: boolean}} [options]
 */
export async function startRun({ port = 0, scenarios = allScenarios, page = false } = {}) {
  const router = await startRouter(page);
  const chosen = new Map();
  const operator = new Operator(router.operatorUrl, (registration) => chosen.get(registration));
  await operator.opened;
  const requests = [];
  const sockets = new Set();
  let [down, muted] = [false, false];

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const scenario = scenarios[url.searchParams.get("scenario") ?? ""] ?? Object.values(scenarios)[0];
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const sent = request.method === "POST" ? JSON.parse(String(body)) : null;
    requests.push({ path: url.pathname, sent });
    if (url.pathname === "/request_agent") chosen.set(sent.provider_data.agent_registration_id, scenario);
    if (scenario.http?.(url.pathname, { request, response }) === true) return;
    if (url.pathname === "/task_config.json") return response.end(JSON.stringify(scenario.config));
    if (url.pathname === "/scenarios") return response.end(index(Object.keys(scenarios)));
    const { method, url: path, headers } = request;
    const forwarded = httpRequest({ port: router.port, method, path, headers, agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => response.writeHead(answer.statusCode, answer.headers).end(Buffer.concat(parts)));
    });
    forwarded.on("error", () => request.socket.destroy());
    return forwarded.end(body);
  });

  server.on("connection", (socket) => {
    if (down) return socket.destroy();
    sockets.add(socket);
    return socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
  });
  server.on("upgrade", ({ method, url, rawHeaders }, socket, head) => {
    const lines = rawHeaders.map((text, place) => (place % 2 === 0 ? `\r\n${text}: ` : text));
    const forwarded = connect(router.port, "127.0.0.1");
    forwarded.write(`${method} ${url} HTTP/1.1${lines.join("")}\r\n\r\n`);
    forwarded.write(head);
    forwarded.on("data", (data) => muted || socket.write(data));
    socket.pipe(forwarded);
    socket.on("close", () => forwarded.destroy());
    forwarded.on("error", () => socket.destroy()).on("close", () => socket.destroy());
  });

  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    /** Every HTTP request so far. */
    requests,
    agentOf: (registration) => operator.byRegistration.get(registration),
    /** Take the network away, or give it back. */
    setDown(value) {
      down = value;
      if (down) for (const socket of sockets) socket.destroy();
    },
    /** Lose what is sent to pages from now on, though their connections stay open. */
    mute() {
      muted = true;
    },
    async close() {
      operator.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await router.stop();
    },
  };
}

const SCENARIO_PARAM = `
function getProviderURLParams() { return { scenario: previewParam("scenario") || "" }; }
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
  const run = await startRun({ port: at > 0 ? Number(process.argv[at + 1]) : 3100, page: true });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => void run.close().then(() => process.exit(0)));
  console.log(`${run.url}scenarios`);
}
