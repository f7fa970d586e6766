/**
 * The router between workers' pages and the run script. It speaks Mephisto's protocol on both sides, and takes nobody's
 * word for who they are:
 *
 * - The operator (the run script) connects at an address that holds a secret, which only it and this process know. Nobody
 *   else receives workers' packets, sends to pages, sets statuses or answers requests for work.
 * - The page never learns an agent's id as the operator knows it (small counting numbers). It gets the id together with its
 *   signature, `7.<HMAC>`, and can speak, listen and hand in only for an id whose signature is right. That outlives a
 *   restart of this process, since the key comes from outside.
 *
 * Settings (environment): PORT, MODEL_CHAT_ROUTER_KEY (the secret, at least 32 characters), MODEL_CHAT_ROUTER_LIMITS (JSON,
 * see LIMITS), MODEL_CHAT_PARENT=stdin (end when the standard input ends, that is, when the run
 * script is gone, however it went). On a hosted server, the file `router.json` beside this one: the `key`, and how many
 * `proxies` stand before this process, each of which adds to X-Forwarded-For from where a request came to it.
 * It runs on Node.js 16 as well, which is what Mephisto installs on EC2.
 */
"use strict";

const crypto = require("crypto");
const express = require("express");
const fs = require("fs");
const http = require("http");
const path = require("path");
const { WebSocket, WebSocketServer } = require("ws");

const SYSTEM = "mephisto";
const STATIC = path.join(__dirname, "static");
const FINAL_STATUSES = new Set(["completed", "timeout", "expired", "returned", "approved", "soft_rejected", "rejected"]);

const LIMITS = {
  packetBytes: 786432, // of one packet of a page; Python's side of the operator's socket takes 1 MiB
  bodyBytes: 262144, // of one request
  packetsPerSecond: 30, // of one socket, in the long run
  packetsAtOnce: 300,
  bytesPerSecond: 131072,
  bytesAtOnce: 2097152,
  requestsPerSecond: 100, // for work or handing in, from one address (many workers may share one)
  requestsAtOnce: 2000,
  errorsPerSecond: 0.2, // error reports of pages, from one address: each is a line in the requester's log
  errorsAtOnce: 20,
  sockets: 4000,
  socketsOfAgent: 8, // tabs
  waitingForAgent: 500, // packets kept for a page that is away; it asks for all that was said when it is back
  secondsToSayWho: 15,
  secondsForWork: 90, // the operator's time to answer a request for work
  waitingForOperator: 5000,
  minutesIdle: 15,
  ...JSON.parse(process.env.MODEL_CHAT_ROUTER_LIMITS || "{}"),
};
const { key: KEY, proxies: PROXIES } = readSettings();

function readSettings() {
  let settings = { key: process.env.MODEL_CHAT_ROUTER_KEY, proxies: 0 };
  delete process.env.MODEL_CHAT_ROUTER_KEY;
  const file = path.join(__dirname, "router.json");
  if (!settings.key && fs.existsSync(file)) settings = JSON.parse(fs.readFileSync(file, "utf8"));
  if (typeof settings.key !== "string" || settings.key.length < 32)
    throw new Error("MODEL_CHAT_ROUTER_KEY is missing, or shorter than 32 characters");
  return settings;
}

// ---- who is who ----

function sign(text) {
  return crypto.createHmac("sha256", KEY).update(text).digest("base64url").slice(0, 32);
}

function isSame(one, other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

/** The id under which a page knows an agent. */
function toPageId(agentId) {
  return `${agentId}.${sign(`agent:${agentId}`)}`;
}

/** The operator's id of an agent, or null if the page has not been given this one. */
function fromPageId(pageId) {
  if (typeof pageId !== "string" || pageId.length > 200) return null;
  const dot = pageId.lastIndexOf(".");
  const agentId = pageId.slice(0, Math.max(dot, 0));
  return agentId && isSame(pageId, agents.get(agentId)?.pageId ?? toPageId(agentId)) ? agentId : null;
}

const OPERATOR_PATH = `/operator/${sign("operator")}`;

// ---- limits ----

class Bucket {
  constructor(perSecond, atOnce) {
    Object.assign(this, { perSecond, atOnce, left: atOnce, at: performance.now() });
  }

  take(amount = 1) {
    const now = performance.now();
    this.left = Math.min(this.atOnce, this.left + ((now - this.at) / 1000) * this.perSecond);
    this.at = now;
    if (this.left < amount) return false;
    this.left -= amount;
    return true;
  }

  get isFull() {
    return this.left + ((performance.now() - this.at) / 1000) * this.perSecond >= this.atOnce;
  }
}

/** One bucket for each address. */
class Buckets {
  constructor(perSecond, atOnce) {
    Object.assign(this, { perSecond, atOnce, byAddress: new Map() });
    setInterval(() => {
      for (const [address, bucket] of this.byAddress) if (bucket.isFull) this.byAddress.delete(address);
    }, 60_000).unref();
  }

  take(address) {
    let bucket = this.byAddress.get(address);
    if (!bucket) this.byAddress.set(address, (bucket = new Bucket(this.perSecond, this.atOnce)));
    return bucket.take();
  }
}

/** From where a request comes: as the outermost of our own proxies saw it, for whatever stands before that anyone can write. */
function addressOf(request) {
  const via = PROXIES > 0 ? (request.headers["x-forwarded-for"] ?? "").split(",") : [];
  return via[via.length - PROXIES]?.trim().slice(0, 64) || request.socket.remoteAddress;
}

const requestBuckets = new Buckets(LIMITS.requestsPerSecond, LIMITS.requestsAtOnce);
const errorBuckets = new Buckets(LIMITS.errorsPerSecond, LIMITS.errorsAtOnce);

// ---- packets ----

const seconds = () => Date.now() / 1000;
const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const timeOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

let operator = null;
const forOperator = [];
const waitingRequests = new Map();
const agents = new Map();

function agentOf(agentId) {
  let agent = agents.get(agentId);
  if (!agent) {
    agent = { id: agentId, pageId: toPageId(agentId), status: "none", sockets: new Set(), waiting: [] };
    agents.set(agentId, agent);
  }
  agent.touched = Date.now();
  return agent;
}

/** Let go of what nobody has used for a while: agents that are over, sockets whose other end is gone. */
setInterval(() => {
  const longAgo = Date.now() - LIMITS.minutesIdle * 60_000;
  for (const agent of agents.values()) if (agent.sockets.size === 0 && agent.touched < longAgo) agents.delete(agent.id);
  for (const socket of forPages.clients) if (socket.heard < longAgo) socket.terminate();
}, 60_000).unref();

/** Text of a packet, or null if it can't be sent (nested too deep, or it grew beyond what the other side takes). */
function textOf(packet) {
  try {
    return JSON.stringify({ ...packet, router_outgoing_timestamp: seconds() });
  } catch (error) {
    log("dropped a packet that can't be written", error);
    return null;
  }
}

function sendToOperator(packet) {
  const text = textOf(packet);
  if (text === null || Buffer.byteLength(text) > 1_000_000) return;
  if (operator?.readyState === WebSocket.OPEN) operator.send(text, () => {});
  else if (forOperator.length < LIMITS.waitingForOperator) forOperator.push(text);
}

function sendToAgent(agent, packet) {
  const text = textOf({ ...packet, subject_id: agent.pageId });
  if (text === null) return;
  let sent = false;
  for (const socket of agent.sockets) {
    if (socket.readyState !== WebSocket.OPEN) continue;
    // A page that does not read is away; what it missed it asks for when it is back.
    if (socket.bufferedAmount > 8_000_000) socket.terminate();
    else {
      socket.send(text, () => {});
      sent = true;
    }
  }
  if (!sent) {
    agent.waiting.push(text);
    if (agent.waiting.length > LIMITS.waitingForAgent) agent.waiting.shift();
  }
}

function sendStatus(agent) {
  sendToAgent(agent, { packet_type: "update_status", data: { status: agent.status } });
}

function log(what, error) {
  // JSON keeps control characters, and with them everything that a terminal would obey, out of the log.
  console.log(what, error === undefined ? "" : JSON.stringify(String(error).slice(0, 300)));
}

// ---- the operator's packets ----

function onOperatorPacket(packet) {
  switch (packet.packet_type) {
    case "alive":
      return;
    case "request_statuses": {
      const statuses = {};
      for (const agent of agents.values()) {
        // Silence ends nobody's part: that is for the time of the turn, which the run script keeps. Who has come to an end makes no difference to the operator, which would look at each of them every time.
        if (!FINAL_STATUSES.has(agent.status)) statuses[agent.id] = agent.status;
      }
      sendToOperator({
        packet_type: "return_statuses",
        subject_id: SYSTEM,
        data: statuses,
        client_timestamp: packet.server_timestamp,
        router_incoming_timestamp: seconds(),
      });
      return;
    }
    case "update_status": {
      const agent = agentOf(String(packet.subject_id));
      if (packet.data?.status !== undefined) agent.status = packet.data.status;
      sendToAgent(agent, packet);
      return;
    }
    case "client_bound_live_update":
      sendToAgent(agentOf(String(packet.subject_id)), packet);
      return;
    case "agent_details": {
      const requestId = packet.data?.request_id ?? packet.subject_id;
      const answer = waitingRequests.get(requestId);
      if (!answer) return;
      const agentId = packet.data?.agent_id;
      const known = agentId !== null && agentId !== undefined;
      if (known) agentOf(String(agentId));
      answer({ ...packet, data: { ...packet.data, agent_id: known ? toPageId(String(agentId)) : null } });
      return;
    }
    default:
      log("the operator sent a packet of an unknown type", packet.packet_type);
  }
}

// ---- a page's packets ----

function onPagePacket(socket, packet) {
  const agentId = fromPageId(packet.subject_id);
  if (agentId === null) return false;
  const agent = agentOf(agentId);
  switch (packet.packet_type) {
    case "alive":
      link(socket, agent);
      sendStatus(agent);
      return true;
    case "mephisto_bound_live_update":
      if (packet.data === undefined) return true;
      sendToOperator({
        packet_type: packet.packet_type,
        subject_id: agentId,
        data: packet.data,
        client_timestamp: timeOf(packet.client_timestamp),
        router_incoming_timestamp: seconds(),
      });
      return true;
    case "log_error":
      reportError(socket.address, agentId, packet.data);
      return true;
    default:
      return true; // a page has nothing else to say
  }
}

function link(socket, agent) {
  if (socket.agent && socket.agent !== agent) socket.agent.sockets.delete(socket);
  socket.agent = agent;
  clearTimeout(socket.sayWho);
  if (!agent.sockets.has(socket)) {
    agent.sockets.add(socket);
    if (agent.sockets.size > LIMITS.socketsOfAgent) {
      const [oldest] = agent.sockets;
      agent.sockets.delete(oldest);
      oldest.close(1008, "too many connections");
    }
  }
  // In order, and before anything newer.
  for (const text of agent.waiting.splice(0)) socket.send(text, () => {});
}

function reportError(address, agentId, data) {
  if (!errorBuckets.take(address)) return;
  const text = (JSON.stringify(data) ?? "").slice(0, 2000);
  sendToOperator({ packet_type: "log_error", subject_id: agentId, data: { error_type: "page", text } });
}

// ---- sockets ----

const app = express();
const server = http.createServer(app);
server.headersTimeout = 15_000;
server.requestTimeout = 30_000;
server.maxHeadersCount = 100;

const forPages = new WebSocketServer({ noServer: true, maxPayload: LIMITS.packetBytes, perMessageDeflate: false });
const forRun = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 * 1024, perMessageDeflate: false });

server.on("upgrade", (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  const { url = "/", headers } = request;
  if (url.startsWith("/operator/")) {
    if (!isSame(url, OPERATOR_PATH) || headers.origin !== undefined) return refuse(socket, "403 Forbidden");
    return forRun.handleUpgrade(request, socket, head, onOperator);
  }
  // Browsers always name the page that opens a socket; programs name none.
  if (headers.origin !== undefined && !isOwnOrigin(headers.origin, headers.host)) return refuse(socket, "403 Forbidden");
  if (forPages.clients.size >= LIMITS.sockets) return refuse(socket, "503 Service Unavailable");
  return forPages.handleUpgrade(request, socket, head, (webSocket) => onPage(webSocket, addressOf(request)));
});

function refuse(socket, status) {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function isOwnOrigin(origin, host) {
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}

function onOperator(webSocket) {
  if (operator) operator.close(1000);
  operator = webSocket;
  console.log("The operator is connected.");
  for (const text of forOperator.splice(0)) webSocket.send(text, () => {});
  webSocket.on("error", (error) => log("the operator's socket failed", error));
  webSocket.on("close", () => {
    if (operator === webSocket) operator = null;
  });
  webSocket.on("message", (raw) => {
    try {
      const packet = JSON.parse(raw);
      if (isRecord(packet)) onOperatorPacket(packet);
    } catch (error) {
      log("a packet of the operator could not be handled", error);
    }
  });
}

function onPage(webSocket, address) {
  webSocket.address = address;
  webSocket.heard = Date.now();
  const packets = new Bucket(LIMITS.packetsPerSecond, LIMITS.packetsAtOnce);
  const bytes = new Bucket(LIMITS.bytesPerSecond, LIMITS.bytesAtOnce);
  let strangePackets = 0;
  webSocket.sayWho = setTimeout(() => webSocket.close(1008, "no agent"), LIMITS.secondsToSayWho * 1000);
  webSocket.on("error", () => webSocket.terminate());
  webSocket.on("close", () => {
    clearTimeout(webSocket.sayWho);
    webSocket.agent?.sockets.delete(webSocket);
  });
  webSocket.on("message", (raw) => {
    if (webSocket.readyState !== WebSocket.OPEN) return;
    webSocket.heard = Date.now();
    if (!packets.take() || !bytes.take(raw.length)) {
      webSocket.close(1008, "too much");
      return;
    }
    try {
      const packet = JSON.parse(raw);
      // Whoever tries ids that are not theirs is slowed down by having to connect anew.
      if (isRecord(packet) && !onPagePacket(webSocket, packet) && (strangePackets += 1) > 20)
        webSocket.close(1008, "no such agent");
    } catch {
      // no JSON, or nested too deep: a page never sends that
    }
  });
}

// ---- requests ----

app.disable("x-powered-by");
app.set("query parser", "simple");

const ANCESTORS = "'self' https://mturk.com https://*.mturk.com https://*.mturkcontent.com";
const HANDING_IN = "'self' https://www.mturk.com https://workersandbox.mturk.com https://*.mturk.com";
const SAFE_HOST = /^[a-z0-9.-]+(:[0-9]{1,5})?$|^\[[0-9a-f:]+\](:[0-9]{1,5})?$/i;

app.use((request, response, next) => {
  const host = SAFE_HOST.test(request.headers.host ?? "") ? request.headers.host : "";
  const sockets = host ? ` ws://${host} wss://${host}` : "";
  response.set({
    "Content-Security-Policy":
      // style-src-attr: the requester's task description may have style="…"; no text of a worker or a model is ever markup.
      `default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data: https:; media-src 'self' data:; ` +
      `font-src 'self'; connect-src 'self'${sockets}; base-uri 'none'; object-src 'none'; ` +
      `form-action ${HANDING_IN}; frame-ancestors ${ANCESTORS}`,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer", // the address holds the worker's id
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": request.path.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-store",
  });
  next();
});

app.post(
  ["/request_agent", "/submit_onboarding", "/submit_task", "/submit_metadata", "/log_error"],
  (request, response, next) => {
    const { origin, host } = request.headers;
    if (origin !== undefined && !isOwnOrigin(origin, host)) return response.status(403).json({ error: "another site" });
    if (!requestBuckets.take(addressOf(request)))
      return response.status(429).set("Retry-After", "5").json({ error: "too many requests" });
    // Only JSON: a form of another site can't send it without asking first.
    if (!request.is("application/json")) return response.status(415).json({ error: "JSON only" });
    return next();
  },
  express.json({ limit: LIMITS.bodyBytes }),
);

/** Ask the operator, and answer the page with what it says. */
function askOperator(response, packetType, subjectId, data, clientTimestamp) {
  const requestId = crypto.randomUUID();
  if (waitingRequests.size >= LIMITS.waitingForOperator) return response.status(503).json({ error: "busy" });
  const done = () => {
    clearTimeout(timer);
    waitingRequests.delete(requestId);
  };
  const timer = setTimeout(() => {
    done();
    response.status(504).json({ error: "no answer" });
  }, LIMITS.secondsForWork * 1000);
  waitingRequests.set(requestId, (answer) => {
    done();
    response.json(answer);
  });
  response.on("close", done);
  sendToOperator({
    packet_type: packetType,
    subject_id: subjectId ?? requestId,
    data: { ...data, request_id: requestId },
    client_timestamp: timeOf(clientTimestamp),
    router_incoming_timestamp: seconds(),
  });
  return undefined;
}

const TEXT_LIMIT = 256;
const isId = (value) => typeof value === "string" && value.length > 0 && value.length <= TEXT_LIMIT && !/[\p{Cc}\p{Cs}]/u.test(value);

app.post("/request_agent", (request, response) => {
  const provider = request.body?.provider_data;
  if (!isRecord(provider)) return response.status(400).json({ error: "provider_data is missing" });
  for (const key of ["worker_name", "agent_registration_id", "assignment_id"])
    if (!isId(provider[key])) return response.status(400).json({ error: `${key} is missing, or no id` });
  return askOperator(response, "register_agent", undefined, { provider_data: provider }, request.body.client_timestamp);
});

app.post("/submit_onboarding", (request, response) => {
  const { USED_AGENT_ID: pageId, ...provider } = isRecord(request.body?.provider_data) ? request.body.provider_data : {};
  const agentId = fromPageId(pageId);
  if (agentId === null) return response.status(403).json({ error: "no such agent" });
  const data = { ...provider, onboarding_data: isRecord(provider.onboarding_data) ? provider.onboarding_data : {} };
  askOperator(response, "submit_onboarding", agentId, data, request.body.client_timestamp);
  forget(agentId);
  return undefined;
});

app.post("/submit_task", (request, response) => {
  const { USED_AGENT_ID: pageId, final_data: finalData, client_timestamp: time } = request.body ?? {};
  const agentId = fromPageId(pageId);
  if (agentId === null) return response.status(403).json({ error: "no such agent" });
  // `files` would make the run script copy files of that name; pages upload none.
  const { files: _, ...data } = isRecord(finalData) ? finalData : {};
  sendToOperator({
    packet_type: "submit_unit",
    subject_id: agentId,
    data,
    client_timestamp: timeOf(time),
    router_incoming_timestamp: seconds(),
  });
  response.json({ status: "Submitted!" });
  forget(agentId);
  return undefined;
});

app.post("/submit_metadata", (request, response) => {
  const { USED_AGENT_ID: pageId, metadata, client_timestamp: time } = request.body ?? {};
  const agentId = fromPageId(pageId);
  if (agentId === null) return response.status(403).json({ error: "no such agent" });
  if (isRecord(metadata))
    sendToOperator({
      packet_type: "submit_metadata",
      subject_id: agentId,
      data: metadata,
      client_timestamp: timeOf(time),
      router_incoming_timestamp: seconds(),
    });
  return response.json({ status: "Submitted metadata" });
});

app.post("/log_error", (request, response) => {
  const agentId = fromPageId(request.body?.USED_AGENT_ID);
  reportError(addressOf(request), agentId ?? "unknown", request.body?.error_data);
  response.json({ status: "Error log sent!" });
});

function forget(agentId) {
  agents.delete(agentId);
}

app.get("/is_alive", (_request, response) => response.json({ status: "Alive!" }));
app.get("/get_timestamp", (_request, response) => response.json({ timestamp: Date.now() }));
app.use(express.static(STATIC, { dotfiles: "deny", redirect: false, cacheControl: false }));
app.use((_request, response) => response.status(404).type("text/plain").send("Not found"));
app.use((error, _request, response, _next) => {
  const status = Number.isInteger(error.status) && error.status >= 400 && error.status < 500 ? error.status : 500;
  if (status === 500) log("a request failed", error);
  if (!response.headersSent) response.status(status).json({ error: status === 413 ? "too large" : "bad request" });
});

server.listen(Number(process.env.PORT || 3000), () => console.log(`Listening on ${server.address().port}`));

if (process.env.MODEL_CHAT_PARENT === "stdin") {
  process.stdin.on("error", () => process.exit(0));
  process.stdin.on("end", () => process.exit(0)).resume();
}
