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
 * Settings (environment): PORT, MODEL_CHAT_ROUTER_KEY (the secret, at least 32 characters), MODEL_CHAT_ROUTER_SETTINGS and
 * MODEL_CHAT_ROUTER_LIMITS (JSON, see settings.js), MODEL_CHAT_PARENT=stdin (end when the standard
 * input ends, that is, when the run script is gone, however it went). On a hosted server, the file `router.json` beside this
 * one holds the key and the settings. It runs on Node.js 16 as well, which is what Mephisto installs on EC2.
 */
"use strict";

const crypto = require("crypto");
const express = require("express");
const http = require("http");
const path = require("path");
const { WebSocket, WebSocketServer } = require("ws");
const {
  PUBLIC,
  addressOf,
  hasAllowedHost,
  hasLocalHost,
  isProxy,
  isSameSite,
  redirectOf,
  socketSources,
  toCounted,
  withoutPrefix,
} = require("./addresses");
const { compressedFiles } = require("./compressedFiles");
const { onlyFilesOf } = require("./files");
const { hasOnly, isRecord, parse, toPrintable } = require("./json");
const { Bucket, Buckets, Counts } = require("./limits");
const { LIMITS, SETTINGS } = require("./settings");

const SYSTEM = "mephisto";
const STATIC = path.join(__dirname, "static");
const ONBOARDING = "onboarding_"; // the beginning of the ids of agents in onboarding
const FINAL_STATUSES = new Set(["completed", "timeout", "expired", "returned", "approved", "soft_rejected", "rejected"]);

// ---- who is who ----

function sign(text) {
  return crypto.createHmac("sha256", SETTINGS.key).update(text).digest("base64url").slice(0, 32);
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

const requestBuckets = new Buckets(LIMITS.requestsPerSecond, LIMITS.requestsAtOnce);
const errorBuckets = new Buckets(LIMITS.errorsPerSecond, LIMITS.errorsAtOnce);
const workerBuckets = new Buckets(LIMITS.requestsOfWorkerPerSecond, LIMITS.requestsOfWorkerAtOnce);
const handInBuckets = new Buckets(LIMITS.handInsOfAgentPerSecond, LIMITS.handInsOfAgentAtOnce);
const connectionsOf = new Counts(LIMITS.connectionsOfAddress);
const socketsOf = new Counts(LIMITS.socketsOfAddress);
const newSocketsOf = new Counts(LIMITS.newSocketsOfAddress);
const pendingOfAddress = new Counts(LIMITS.pendingOfAddress);
const pendingOfWorker = new Counts(LIMITS.pendingOfWorker);

// ---- packets ----

const seconds = () => Date.now() / 1000;
const timeOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

let operator = null;
let operatorHeard = 0; // when, in milliseconds
const forOperator = { packets: [], bytes: 0, ofAgent: new Map() };
const waitingRequests = new Map();
const agents = new Map();

function agentOf(agentId) {
  let agent = agents.get(agentId);
  if (!agent) {
    agent = { id: agentId, pageId: toPageId(agentId), status: "none", sockets: new Set(), waiting: [], waitingBytes: 0 };
    agents.set(agentId, agent);
  }
  agent.touched = Date.now();
  return agent;
}

/** Let go of what nobody has used for a while: agents that are over, sockets whose other end is gone. */
setInterval(() => {
  const [idle, silent] = [LIMITS.minutesIdle, LIMITS.minutesSilent].map((minutes) => Date.now() - minutes * 60_000);
  for (const agent of agents.values()) if (agent.sockets.size === 0 && agent.touched < idle) agents.delete(agent.id);
  for (const socket of forPages.clients) if (socket.heard < silent) socket.terminate();
}, Math.min(60, LIMITS.minutesIdle * 60, LIMITS.minutesSilent * 60) * 1000).unref();

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
  else keepForOperator(packet.subject_id, text);
}

/** Keep a packet until the operator is back; what is beyond the limits, of one agent or in all, is dropped. */
function keepForOperator(subjectId, text) {
  const { packets, bytes, ofAgent } = forOperator;
  const count = ofAgent.get(subjectId) ?? 0;
  if (packets.length >= LIMITS.waitingForOperator || bytes + text.length > LIMITS.waitingBytesForOperator) return;
  if (count >= LIMITS.waitingForOperatorOfAgent) return;
  packets.push(text);
  forOperator.bytes += text.length;
  ofAgent.set(subjectId, count + 1);
}

function takeForOperator() {
  const { packets } = forOperator;
  Object.assign(forOperator, { packets: [], bytes: 0, ofAgent: new Map() });
  return packets;
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
    agent.waitingBytes += text.length;
    while (agent.waiting.length > LIMITS.waitingForAgent || agent.waitingBytes > LIMITS.waitingBytesForAgent)
      agent.waitingBytes -= agent.waiting.shift().length;
  }
}

const isPart = (packet) => packet.data?.task_data?.control === "reply_part";

/** Send a part of a reply that is still being made. It holds the whole text so far: who can't take it gets a later one. */
function sendPart(agent, packet) {
  const open = [...(agent?.sockets ?? [])].filter(
    (socket) => socket.readyState === WebSocket.OPEN && socket.bufferedAmount <= LIMITS.bufferedBytesForParts,
  );
  const text = open.length > 0 ? textOf({ ...packet, subject_id: agent.pageId }) : null;
  if (text !== null) for (const socket of open) socket.send(text, () => {});
}

function sendStatus(agent) {
  sendToAgent(agent, { packet_type: "update_status", data: { status: agent.status } });
}

function log(what, error) {
  console.log(what, error === undefined ? "" : toPrintable(String(error), 300));
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
      if (isPart(packet)) sendPart(agents.get(String(packet.subject_id)), packet);
      else sendToAgent(agentOf(String(packet.subject_id)), packet);
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

const PACKET_KEYS = ["packet_type", "subject_id", "data", "client_timestamp"];

/** Handle a packet; return whether it is one that a page sends, of an agent that it has been given. */
function onPagePacket(socket, packet) {
  if (!hasOnly(packet, PACKET_KEYS) || !isRecord(packet.data)) return false;
  const agentId = fromPageId(packet.subject_id);
  if (agentId === null) return false;
  const agent = agentOf(agentId);
  switch (packet.packet_type) {
    case "alive":
      link(socket, agent);
      sendStatus(agent);
      return true;
    case "mephisto_bound_live_update":
      sendToOperator({
        packet_type: packet.packet_type,
        subject_id: agentId,
        data: packet.data,
        client_timestamp: timeOf(packet.client_timestamp),
        router_incoming_timestamp: seconds(),
      });
      return true;
    default:
      return false; // a page sends nothing else
  }
}

function link(socket, agent) {
  if (socket.agent && socket.agent !== agent) socket.agent.sockets.delete(socket);
  socket.agent = agent;
  clearTimeout(socket.sayWho);
  socket.leaveNew();
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
  agent.waitingBytes = 0;
}

function reportError(address, agentId, data) {
  if (!errorBuckets.take(address)) return;
  const text = toPrintable(data, 2000).slice(0, 2000);
  sendToOperator({ packet_type: "log_error", subject_id: agentId, data: { error_type: "page", text } });
}

// ---- sockets ----

const app = express();
const server = http.createServer(
  { maxHeaderSize: 16384, connectionsCheckingInterval: Math.min(5, LIMITS.secondsForHeaders) * 1000 },
  (request, response) => {
    if (!isOnlyRequestOf(request.socket, response)) return;
    request.url = withoutPrefix(request.url);
    app(request, response);
  },
);
server.headersTimeout = LIMITS.secondsForHeaders * 1000;
server.requestTimeout = LIMITS.secondsForRequest * 1000;
server.maxHeadersCount = 100;
server.maxConnections = LIMITS.connections;
server.setTimeout(LIMITS.secondsWithoutTraffic * 1000);

server.on("connection", (socket) => {
  if (isProxy(socket)) return;
  const leave = connectionsOf.enter(toCounted(socket.remoteAddress));
  if (leave === null) socket.destroy();
  else socket.on("close", leave);
});

const busy = new WeakSet();

/** Whether a connection has no other request that waits for its answer; browsers and proxies send one after the other. */
function isOnlyRequestOf(socket, response) {
  if (socket.destroyed || busy.has(socket)) {
    socket.destroy();
    return false;
  }
  busy.add(socket);
  response.on("close", () => busy.delete(socket));
  return true;
}

const WEBSOCKETS = {
  noServer: true,
  perMessageDeflate: false, // a small packet can't become a large one
  maxFragments: LIMITS.fragments,
  closeTimeout: LIMITS.secondsToClose * 1000,
};
const forPages = new WebSocketServer({ ...WEBSOCKETS, maxPayload: LIMITS.packetBytes });
const forRun = new WebSocketServer({ ...WEBSOCKETS, maxPayload: 64 * 1024 * 1024, maxFragments: 65536 });

server.on("upgrade", (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  const { headers } = request;
  const url = withoutPrefix(request.url ?? "/");
  if (busy.has(socket)) return socket.destroy(); // a request on this connection waits for its answer
  const isForOperator = url.startsWith("/operator/");
  // The run script connects at the router's own address, whatever name pages have for it.
  if (!hasAllowedHost(request) && !(isForOperator && hasLocalHost(request)))
    return refuse(socket, "421 Misdirected Request");
  if (isForOperator) {
    if (!isSame(url, OPERATOR_PATH) || headers.origin !== undefined) return refuse(socket, "403 Forbidden");
    return forRun.handleUpgrade(request, socket, head, onOperator);
  }
  if (!isSameSite(request)) return refuse(socket, "403 Forbidden");
  if (forPages.clients.size >= LIMITS.sockets) return refuse(socket, "503 Service Unavailable");
  const address = addressOf(request);
  const leave = socketsOf.enter(address);
  if (leave === null) return refuse(socket, "429 Too Many Requests");
  socket.on("close", leave);
  const leaveNew = newSocketsOf.enter(address);
  if (leaveNew === null) return refuse(socket, "429 Too Many Requests");
  socket.on("close", leaveNew);
  return forPages.handleUpgrade(request, socket, head, (webSocket) => onPage(webSocket, address, leaveNew));
});

function refuse(socket, status) {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

function onOperator(webSocket) {
  if (operator) operator.close(1000);
  operator = webSocket;
  operatorHeard = Date.now();
  console.log("The operator is connected.");
  for (const text of takeForOperator()) webSocket.send(text, () => {});
  webSocket.on("error", (error) => log("the operator's socket failed", error));
  webSocket.on("close", () => {
    if (operator === webSocket) operator = null;
  });
  webSocket.on("message", (raw) => {
    operatorHeard = Date.now();
    try {
      const packet = JSON.parse(raw);
      if (isRecord(packet)) onOperatorPacket(packet);
    } catch (error) {
      log("a packet of the operator could not be handled", error);
    }
  });
}

function onPage(webSocket, address, leaveNew) {
  webSocket.leaveNew = leaveNew;
  webSocket.heard = Date.now();
  const packets = new Bucket(LIMITS.packetsPerSecond, LIMITS.packetsAtOnce);
  const bytes = new Bucket(LIMITS.bytesPerSecond, LIMITS.bytesAtOnce);
  let invalidPackets = 0;
  webSocket.sayWho = setTimeout(() => webSocket.close(1008, "no agent"), LIMITS.secondsToSayWho * 1000);
  webSocket.on("error", () => webSocket.terminate());
  webSocket.on("close", () => {
    clearTimeout(webSocket.sayWho);
    webSocket.agent?.sockets.delete(webSocket);
  });
  const isWithinLimits = (length) => {
    if (webSocket.readyState !== WebSocket.OPEN) return false;
    if (packets.take() && bytes.take(length)) return true;
    webSocket.close(1008, "too much");
    return false;
  };
  // ws answers a ping before it reports it: whoever doesn't read the answers is cut off.
  for (const kind of ["ping", "pong"])
    webSocket.on(kind, (raw) => {
      if (isWithinLimits(raw.length) && webSocket.bufferedAmount > 1_000_000) webSocket.terminate();
    });
  webSocket.on("message", (raw, isBinary) => {
    if (!isWithinLimits(raw.length)) return;
    if (isBinary) {
      webSocket.close(1003, "text only");
      return;
    }
    // An invalid packet does not count as a sign of life. Whoever tries ids that are not theirs has to connect anew.
    if (isValidPacket(webSocket, raw)) webSocket.heard = Date.now();
    else if ((invalidPackets += 1) > LIMITS.invalidPackets) webSocket.close(1008, "no such agent");
  });
}

function isValidPacket(webSocket, raw) {
  try {
    return onPagePacket(webSocket, parse(raw));
  } catch {
    return false;
  }
}

// ---- requests ----

const HEALTH_PATHS = new Set(["/is_alive", "/healthz"]); // asked for by programs on this machine, too

app.disable("x-powered-by");
app.set("query parser", "simple");

const ANCESTORS = "'self' https://mturk.com https://*.mturk.com https://*.mturkcontent.com";
const HANDING_IN = "'self' https://www.mturk.com https://workersandbox.mturk.com https://*.mturk.com";
app.use((request, response, next) => {
  const isAllowed = hasAllowedHost(request);
  const sockets = isAllowed ? ` ${socketSources(request)}` : "";
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
  if (isAllowed || (HEALTH_PATHS.has(request.path) && hasLocalHost(request))) return next();
  return response
    .status(421)
    .type("text/plain")
    .send(
      PUBLIC === null
        ? "This server doesn't answer to that name. Its owner can allow the name with mephisto.architect.allowed_hosts.\n"
        : `This server answers as ${PUBLIC.host} alone (mephisto.architect.public_url). A reverse proxy must pass the Host header on.\n`,
    );
});
app.use((request, response, next) => {
  const elsewhere = redirectOf(request.url);
  return elsewhere === null ? next() : response.redirect(308, elsewhere);
});

const JSON_TYPE = /^application\/json(?:\s*;\s*charset="?utf-8"?)?$/i;

app.post(
  ["/request_agent", "/submit_onboarding", "/submit_task", "/log_error"],
  (request, response, next) => {
    if (!isSameSite(request)) return response.status(403).json({ error: "another site" });
    if (!requestBuckets.take(addressOf(request))) return tooMany(response);
    // Only JSON: a form of another site can't send it without asking first. Not compressed: a small body stays small.
    if (!JSON_TYPE.test(request.headers["content-type"] ?? "")) return response.status(415).json({ error: "JSON only" });
    return next();
  },
  express.raw({ type: () => true, limit: LIMITS.bodyBytes, inflate: false }),
  (request, response, next) => {
    try {
      request.body = parse(request.body);
    } catch {
      return response.status(400).json({ error: "no JSON, or nested too deep" });
    }
    if (!isRecord(request.body)) return response.status(400).json({ error: "no JSON object" });
    return next();
  },
);

function tooMany(response) {
  return response.status(429).set("Retry-After", "5").json({ error: "too many requests" });
}

/** Ask the operator, and answer the page with what it says; what can not be asked now is refused, and that returned. */
function askOperator(request, response, packetType, who, subjectId, data) {
  const requestId = crypto.randomUUID();
  if (waitingRequests.size >= LIMITS.waitingForOperator) return response.status(503).json({ error: "busy" });
  const address = addressOf(request);
  const counted = [pendingOfAddress.enter(address), pendingOfWorker.enter(`${address} ${who}`)];
  const leave = () => counted.forEach((leaves) => leaves?.());
  if (counted.includes(null)) {
    leave();
    return tooMany(response);
  }
  const done = () => {
    clearTimeout(timer);
    waitingRequests.delete(requestId);
    leave();
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
    client_timestamp: timeOf(request.body.client_timestamp),
    router_incoming_timestamp: seconds(),
  });
  return undefined;
}

const TEXT_LIMIT = 256;
const isId = (value) => typeof value === "string" && value.length > 0 && value.length <= TEXT_LIMIT && !/[\p{Cc}\p{Cs}]/u.test(value);
const REQUIRED = ["worker_name", "agent_registration_id", "assignment_id"];
const OPTIONAL = ["hit_id", "provider_type", "simulated"];
const invalid = (response, error) => response.status(400).json({ error });

const QUERY_LIMIT = 4096; // as LONGEST_QUERY of crowd/arrivals.py
const ARRIVAL = ["provider_type", "query", "visitor", "simulated"];
const isQuery = (value) => typeof value === "string" && value.length <= QUERY_LIMIT && !/[\p{Cc}\p{Cs}]/u.test(value);

/** A page whose participant comes from a panel or by a link: the run script finds out who that is. */
function onArrival(request, response, provider) {
  const { query, visitor = null, provider_type: type = null, simulated = null } = provider;
  if (!isQuery(query)) return invalid(response, "query is no query of an address");
  if (visitor !== null && !isId(visitor)) return invalid(response, "visitor is no id");
  if (type !== null && !isId(type)) return invalid(response, "provider_type is no id");
  if (simulated !== null && !isId(simulated)) return invalid(response, "simulated is no id");
  // Of those who come by a link for the first time nothing is known; for them the limits of their address count.
  const known = visitor !== null || query.length > 1;
  const page = known ? crypto.createHash("sha256").update(JSON.stringify([query, visitor])).digest("base64") : crypto.randomUUID();
  if (known && !workerBuckets.take(`${addressOf(request)} page ${page}`)) return tooMany(response);
  const ids = simulated === null ? { query, visitor } : { query, visitor, simulated };
  return askOperator(request, response, "register_agent", `page ${page}`, undefined, { provider_data: ids });
}

app.post("/request_agent", (request, response) => {
  const { provider_data: provider, ...others } = request.body;
  if (!isRecord(provider)) return invalid(response, "provider_data is missing");
  const keys = provider.query === undefined ? [...REQUIRED, ...OPTIONAL] : ARRIVAL;
  if (!hasOnly(others, ["client_timestamp"]) || !hasOnly(provider, keys)) return invalid(response, "unknown keys");
  if (provider.query !== undefined) return onArrival(request, response, provider);
  for (const key of REQUIRED) if (!isId(provider[key])) return invalid(response, `${key} is missing, or no id`);
  for (const key of OPTIONAL)
    if ((provider[key] ?? null) !== null && !isId(provider[key])) return invalid(response, `${key} is no id`);
  const worker = provider.worker_name;
  if (!workerBuckets.take(`${addressOf(request)} ${worker}`)) return tooMany(response);
  return askOperator(request, response, "register_agent", `worker ${worker}`, undefined, { provider_data: provider });
});

app.post("/submit_onboarding", (request, response) => {
  const { provider_data: provider, ...others } = request.body;
  if (!hasOnly(others, ["client_timestamp"]) || !hasOnly(provider, ["USED_AGENT_ID", "onboarding_data"]))
    return invalid(response, "unknown keys");
  const agentId = fromPageId(provider.USED_AGENT_ID);
  if (!agentId?.startsWith(ONBOARDING)) return response.status(403).json({ error: "no such agent" });
  if (!handInBuckets.take(agentId)) return tooMany(response);
  // The answers were sent, and graded, before: there is nothing to be handed in.
  const refusal = askOperator(request, response, "submit_onboarding", `agent ${agentId}`, agentId, { onboarding_data: {} });
  if (refusal === undefined) forget(agentId);
  return refusal;
});

app.post("/submit_task", (request, response) => {
  const { USED_AGENT_ID: pageId, final_data: finalData, client_timestamp: time, ...others } = request.body;
  if (!hasOnly(others, [])) return invalid(response, "unknown keys");
  const agentId = fromPageId(pageId);
  if (agentId === null || agentId.startsWith(ONBOARDING)) return response.status(403).json({ error: "no such agent" });
  if (!handInBuckets.take(agentId)) return tooMany(response);
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

app.post("/log_error", (request, response) => {
  const { USED_AGENT_ID: pageId, error_data: data, client_timestamp: _, ...others } = request.body;
  if (!hasOnly(others, [])) return invalid(response, "unknown keys");
  reportError(addressOf(request), fromPageId(pageId) ?? "unknown", data);
  return response.json({ status: "Error log sent!" });
});

function forget(agentId) {
  agents.delete(agentId);
}

app.get("/is_alive", (_request, response) => response.json({ status: "Alive!" }));
app.get("/healthz", (_request, response) => {
  const hears = Date.now() - operatorHeard < LIMITS.secondsOperatorSilent * 1000;
  const hasOperator = operator?.readyState === WebSocket.OPEN && hears;
  return response
    .status(hasOperator ? 200 : 503)
    .json({ status: hasOperator ? "ok" : "unavailable", router: true, operator: hasOperator });
});
app.use(onlyFilesOf(STATIC));
app.use(compressedFiles(STATIC));
app.use(express.static(STATIC, { dotfiles: "deny", redirect: false, cacheControl: false }));
app.use((_request, response) => response.status(404).type("text/plain").send("Not found"));
app.use((error, _request, response, _next) => {
  const status = Number.isInteger(error.status) && error.status >= 400 && error.status < 500 ? error.status : 500;
  if (status === 500) log("a request failed", error);
  if (!response.headersSent) response.status(status).json({ error: status === 413 ? "too large" : "bad request" });
});

server.listen(Number(process.env.PORT || 3000), SETTINGS.bind || undefined, () => console.log(`Listening on ${server.address().port}`));

if (process.env.MODEL_CHAT_PARENT === "stdin") {
  process.stdin.on("error", end);
  process.stdin.on("end", end).resume();
}
process.on("SIGTERM", end);

/** End; what has been said to pages still goes out, and their connections are closed and not cut off. */
function end() {
  server.close();
  for (const socket of forPages.clients) socket.close(1001, "the run has ended");
  setTimeout(() => process.exit(0), 300);
}
