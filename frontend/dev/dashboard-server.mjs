// @ts-check
/**
 * The dashboard's interface with made-up studies: for looking at the page, and for its tests. Nothing is kept.
 *
 *     node dev/dashboard-server.mjs --port 3200        then open the address that it prints
 */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

/** @typedef {import("../src/dashboard/types.ts").Overview} Overview */
/** @typedef {import("../src/dashboard/types.ts").Transcript} Transcript */
/** @typedef {import("../src/dashboard/types.ts").Role} Role */

const DIST = join(import.meta.dirname, "../dist");
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Seconds; the clock of the made-up studies. */
export const NOW = 1_790_000_000;
/** What people who attack the page would write. */
export const HOSTILE = {
  html: `<img src=x onerror="window.attacked=1"><script>window.attacked=1</script>`,
  reversed: "user\u202Egnp.exe",
  long: "W".repeat(3000),
};

/** @param {number} index @param {string[]} models @returns {Transcript} */
function conversation(index, models) {
  const model = models[index % models.length] ?? "model 1";
  const status = index % 9 === 4 ? "left" : "complete";
  return {
    id: `c${index}`,
    worker: `worker-${index % 700}`,
    model,
    cell: null,
    status,
    started: NOW - 600 * (index + 1),
    minutes: 4 + (index % 11),
    review: status === "left" ? "none" : index % 4 === 3 ? "approved" : "pending",
    reviewable: true,
    blocked: false,
    pay: 1.5,
    bonus: 0,
    signals: index % 6 === 1 ? ["too_fast"] : [],
    ratings: { "How good was it?": (index % 5) + 1 },
    version: "1",
    turns: [
      { who: "worker", text: `Message ${index}`, seconds: 12 },
      {
        who: "model",
        text: `Reply to ${index}`,
        seconds: 0.8,
        annotations: { rude: index % 3 === 0, none_all_good: index % 3 !== 0 },
      },
      { who: "worker", text: "And then?", seconds: 9 },
      {
        who: "model",
        text: "The left one.",
        seconds: 1.2,
        side: "left",
        picked: "left",
        strength: 2,
        pick_reason: "It answers.",
        replies: [
          { side: "left", text: "The left one.", model },
          { side: "right", text: "The right one.", model: "other" },
        ],
      },
    ],
    boxes: { rude: "Is rude", none_all_good: "Nothing is wrong" },
    answers: [{ page: "after", id: "age", question: "How old are you?", answer: 41 }],
    timing: { onboarding: 80, total: 300 },
    acts: [],
  };
}

/** @param {Transcript[]} chats @param {Partial<Overview>} changes @returns {Overview} */
function overview(chats, changes) {
  const finished = chats.filter((chat) => chat.status === "complete");
  const names = [...new Set(chats.map((chat) => chat.model))].sort();
  /** @type {Map<number, number>} */
  const hours = new Map();
  for (const chat of finished) {
    const hour = Math.floor((chat.started ?? 0) / 3600) * 3600;
    hours.set(hour, (hours.get(hour) ?? 0) + 1);
  }
  return {
    title: "A study",
    kind: "text",
    live: false,
    blind: false,
    accepting: false,
    started: chats.length === 0 ? null : NOW - 86400,
    now: NOW,
    target: Math.max(10, chats.length),
    finished: finished.length,
    models: names.map((name) => ({
      name,
      finished: finished.filter((chat) => chat.model === name).length,
      wanted: Math.ceil(Math.max(10, chats.length) / names.length),
      chatting: 0,
      replies: finished.length * 2,
      latency_p50: 0.8,
      latency_p95: 2.4,
      failures: 0,
    })),
    cells: [],
    workers: {
      chatting: 0,
      onboarding: 0,
      waiting: 0,
      left: chats.length - finished.length,
      finished: finished.length,
    },
    now_chatting: [],
    left_at: chats.length === finished.length ? [] : [{ where: "turn 2", count: chats.length - finished.length }],
    minutes: { median: finished.length === 0 ? null : 8.2, p90: finished.length === 0 ? null : 13 },
    money: {
      currency: "USD",
      spent: finished.length * 1.5,
      committed: 0,
      planned: Math.max(10, chats.length) * 1.5,
      hourly_wage: finished.length === 0 ? null : 10.97,
      min_hourly_wage: null,
    },
    forecast: { done_at: null, cost: null, assumption: "The study is not running." },
    warnings: [],
    estimates: [],
    finished_by_hour: [...hours].sort((one, other) => one[0] - other[0]),
    ...changes,
  };
}

/** A made-up study. */
export class Study {
  /** @param {string} id @param {number} size @param {Partial<Overview>} [changes] @param {string[]} [models] */
  constructor(id, size, changes = {}, models = ["alpha", "beta"]) {
    this.id = id;
    this.chats = Array.from({ length: size }, (_, index) => conversation(index, models));
    this.changes = changes;
    /** @type {import("../src/dashboard/types.ts").AuditItem[]} */
    this.audit = [];
    /** @type {Set<import("node:http").ServerResponse>} */
    this.streams = new Set();
  }

  /** @returns {Overview} */
  overview() {
    return overview(this.chats, { title: this.id, ...this.changes });
  }

  /** Something happens: every open page is told. @param {Partial<Overview>} changes */
  change(changes) {
    this.changes = { ...this.changes, ...changes };
    for (const stream of this.streams) stream.write(`event: overview\ndata: ${JSON.stringify(this.overview())}\n\n`);
  }

  /** @param {URLSearchParams} query */
  list(query) {
    const given = (/** @type {string} */ name) => query.get(name) ?? "";
    const fits = (/** @type {Transcript} */ chat) =>
      ["model", "cell", "status", "review", "worker"].every(
        (name) => given(name) === "" || String(/** @type {any} */ (chat)[name]) === given(name),
      ) &&
      (given("signal") === "" || chat.signals.includes(given("signal"))) &&
      (given("q") === "" ||
        JSON.stringify([chat.id, chat.worker, chat.turns]).toLowerCase().includes(given("q").toLowerCase()));
    const found = this.chats.filter(fits);
    const sort = given("sort") || "-started";
    const key = sort.replace("-", "");
    const of = (/** @type {Transcript} */ chat) =>
      key === "turns" ? chat.turns.length : /** @type {any} */ (chat)[key];
    found.sort(
      (one, other) => (of(one) < of(other) ? -1 : of(one) > of(other) ? 1 : 0) * (sort.startsWith("-") ? -1 : 1),
    );
    /** @type {Record<string, Record<string, number>>} */
    const facets = { model: {}, cell: {}, status: {}, review: {}, signal: {} };
    for (const chat of this.chats) {
      for (const [name, counts] of Object.entries(facets)) {
        const values = name === "signal" ? chat.signals : [/** @type {any} */ (chat)[name]];
        for (const value of values) if (value !== null) counts[value] = (counts[value] ?? 0) + 1;
      }
    }
    const offset = Number(given("offset"));
    const items = found
      .slice(offset, offset + Number(given("limit") || 50))
      .map((chat) => ({ ...chat, turns: chat.turns.length }));
    return { total: found.length, offset, items, facets };
  }

  /** What somebody does, here or in another window. @param {string} who @param {Role} role @param {any} asked */
  act(who, role, asked) {
    return asked.ids.map((/** @type {string} */ id) => {
      const chat = this.chats.find((one) => one.id === id);
      if (chat === undefined) return { id, ok: false, error: "There is no such conversation.", version: null };
      if (asked.versions[id] !== chat.version) {
        const last = chat.acts.at(-1);
        return {
          id,
          ok: false,
          error: `Already ${chat.review} by ${last?.who ?? "somebody"} at 14:02.`,
          version: chat.version,
        };
      }
      const before = { review: chat.review, bonus: chat.bonus };
      if (asked.act === "approve") chat.review = "approved";
      if (asked.act === "reject") chat.review = "rejected";
      if (asked.act === "bonus") chat.bonus = (chat.bonus ?? 0) + asked.amount;
      if (asked.act.endsWith("block")) chat.blocked = asked.act === "block";
      chat.version = String(Number(chat.version) + 1);
      const done = {
        when: NOW,
        who,
        act: asked.act,
        before,
        after: { review: chat.review, bonus: chat.bonus },
        reason: asked.reason ?? null,
      };
      chat.acts.push(done);
      this.audit.unshift({ ...done, role, target: id });
      return { id, ok: true, version: chat.version };
    });
  }
}

/** One of each kind that the page must bear. @returns {Record<string, Study>} */
export function scenarios() {
  const running = {
    live: true,
    accepting: true,
    target: 80,
    workers: { chatting: 2, onboarding: 1, waiting: 0, left: 4, finished: 36 },
    now_chatting: [
      { worker: "worker-77", model: "alpha", since: NOW - 95, turn: 2, turns: 4 },
      { worker: "worker-78", model: null, since: NOW - 20, turn: 1, turns: 4 },
    ],
    forecast: {
      done_at: NOW + 7200,
      cost: 131,
      assumption: "Conversations keep finishing as in the last hour (22 an hour).",
    },
  };
  const hostile = new Study("hostile", 3, { live: true, accepting: true, title: HOSTILE.html }, [
    HOSTILE.html,
    HOSTILE.long,
    HOSTILE.reversed,
  ]);
  for (const [index, text] of Object.values(HOSTILE).entries()) {
    const chat = hostile.chats[index];
    if (chat === undefined) continue;
    chat.worker = text;
    chat.signals = [text];
    chat.turns = [{ who: "model", text, seconds: null, annotations: { [text]: true } }];
  }
  return {
    empty: new Study("empty", 0, { live: true, accepting: true }),
    one: new Study("one", 1),
    many: new Study("many", 5000),
    blind: new Study("blind", 30, { blind: true }, ["model 1", "model 2"]),
    live: new Study("live", 40, running),
    hostile,
  };
}

/** @typedef {{ name: string, role: Role, csrf: string }} Session */

export class DashboardServer {
  /** @param {Study[]} studies */
  constructor(studies) {
    this.studies = studies;
    /** @type {Map<string, Session>} */
    this.sessions = new Map();
    /** What the page sent, newest last. @type {{ path: string, body: any }[]} */
    this.received = [];
    /** Answer requests whose path begins with this by breaking the connection. */
    this.unreachable = "none";
    this.server = createServer((request, response) => void this.answer(request, response));
  }

  /** @param {number} [port] @returns {Promise<string>} the address */
  listen(port = 0) {
    return new Promise((resolve) => {
      this.server.listen(port, "127.0.0.1", () => {
        const at = this.server.address();
        resolve(`http://127.0.0.1:${typeof at === "object" && at !== null ? at.port : port}/`);
      });
    });
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }

  /** @param {string} name @param {Role} role */
  begin(name, role) {
    const id = randomUUID();
    this.sessions.set(id, { name, role, csrf: randomUUID() });
    return id;
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async answer(request, response) {
    const url = new URL(request.url ?? "/", "http://localhost");
    const say = (/** @type {number} */ status, /** @type {any} */ body) => {
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
    };
    let text = "";
    for await (const part of request) text += String(part);
    const body = text === "" ? null : JSON.parse(text);
    if (url.pathname.startsWith(this.unreachable)) {
      request.socket.destroy();
      return;
    }
    if (body !== null) this.received.push({ path: url.pathname, body });
    const session = this.sessions.get(/session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "");
    const asRole = (/** @type {string | null} */ word) =>
      /** @type {const} */ (["read", "review", "pay"]).find((role) => role === word);
    if (url.pathname === "/login") {
      const role = asRole(url.searchParams.get("token"));
      const cookie =
        role === undefined
          ? {}
          : { "Set-Cookie": `session=${this.begin("requester", role)}; HttpOnly; SameSite=Strict; Path=/` };
      response.writeHead(303, { Location: "./", ...cookie }).end();
    } else if (url.pathname === "/api/login") {
      const role = asRole(body?.password.replace("-password", ""));
      if (role === undefined) say(401, { error: "The password is wrong." });
      else {
        response.setHeader("Set-Cookie", `session=${this.begin(body.name, role)}; HttpOnly; SameSite=Strict; Path=/`);
        say(200, {});
      }
    } else if (!url.pathname.startsWith("/api/")) this.file(url.pathname, response);
    else if (session === undefined) say(401, { error: "Log in first." });
    else if (request.method === "POST" && request.headers["x-csrf-token"] !== session.csrf)
      say(403, { error: "The request lacks its token." });
    else this.api(url, body, session, response, say);
  }

  /**
   * @param {URL} url @param {any} body @param {Session} session @param {import("node:http").ServerResponse} response
   * @param {(status: number, body: any) => void} say
   */
  api(url, body, session, response, say) {
    const [, , where, id, what, chat] = url.pathname.split("/").map(decodeURIComponent);
    if (where === "logout") {
      this.sessions.clear();
      say(200, {});
      return;
    }
    if (where === "session") {
      say(200, {
        ...session,
        studies: this.studies.map((one) => ({ id: one.id, title: one.overview().title, live: one.overview().live })),
      });
      return;
    }
    const study = this.studies.find((one) => one.id === id);
    if (study === undefined) say(404, { error: "There is no such study." });
    else if (what === "overview") say(200, study.overview());
    else if (what === "audit")
      say(200, {
        total: study.audit.length,
        items: study.audit.slice(Number(url.searchParams.get("offset"))).slice(0, 50),
      });
    else if (what === "events") {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(`event: overview\ndata: ${JSON.stringify(study.overview())}\n\n`);
      study.streams.add(response);
      response.on("close", () => study.streams.delete(response));
    } else if (what === "run") {
      if (body.act === "extend") study.change({ target: (study.overview().target ?? 0) + body.more });
      else study.change({ accepting: body.act === "resume" });
      say(200, { ok: true });
    } else if (what === "acts") say(200, { results: study.act(session.name, session.role, body) });
    else if (chat === undefined) say(200, study.list(url.searchParams));
    else {
      const found = study.chats.find((one) => one.id === chat);
      if (found === undefined) say(404, { error: "There is no such conversation." });
      else say(200, found);
    }
  }

  /** @param {string} path @param {import("node:http").ServerResponse} response */
  file(path, response) {
    const name = join(DIST, normalize(path === "/" ? "/dashboard.html" : path));
    try {
      const type = /** @type {Record<string, string>} */ (TYPES)[extname(name)] ?? "text/plain";
      const content = readFileSync(name);
      response.writeHead(200, { "Content-Type": type, "Content-Security-Policy": POLICY }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  }
}

if (process.argv[1] === import.meta.filename) {
  const at = process.argv.lastIndexOf("--port");
  const address = await new DashboardServer(Object.values(scenarios())).listen(
    at < 0 ? 0 : Number(process.argv[at + 1]),
  );
  process.stdout.write(`${address}login?token=pay\n`);
}
