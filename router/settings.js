/** Settings of the router, and the limits that hold for pages. See server.js for where they come from. */
"use strict";

const fs = require("fs");
const path = require("path");

const LIMITS = {
  packetBytes: 262144, // of one packet of a page; Python's side of the operator's socket takes 1 MiB
  packetsPerSecond: 30, // of one socket, in the long run; pings and pongs count
  packetsAtOnce: 300,
  bytesPerSecond: 131072,
  bytesAtOnce: 2097152,
  fragments: 256, // of one packet; browsers fragment large packets, if any, into pieces of kilobytes
  invalidPackets: 20, // before a socket is closed
  bodyBytes: 32768, // of one request
  depth: 16, // of nested arrays and objects in JSON; pages need 6
  values: 20000, // in one packet or body
  connections: 8000,
  connectionsOfAddress: 2000, // TCP connections of one address that is no trusted proxy
  sockets: 4000,
  socketsOfAddress: 1000, // many workers may share one address
  newSocketsOfAddress: 256, // that have not said yet which agent they belong to
  socketsOfAgent: 8, // tabs
  secondsToSayWho: 5,
  secondsToClose: 2, // for the other end to agree to a close
  minutesSilent: 5, // of a socket; pages say something every 5 s, in a background tab once a minute
  secondsOperatorSilent: 60, // before /healthz reports it as gone; it asks for statuses every few seconds
  minutesIdle: 15, // of an agent without a socket
  requestsPerSecond: 100, // for work or handing in, from one address
  requestsAtOnce: 1000,
  requestsOfWorkerPerSecond: 1, // for work, of one worker's name from one address
  requestsOfWorkerAtOnce: 60,
  pendingOfAddress: 512, // requests that wait for the operator
  pendingOfWorker: 4, // likewise, of one worker's name, or one agent, from one address
  handInsOfAgentPerSecond: 0.2,
  handInsOfAgentAtOnce: 10,
  errorsPerSecond: 0.2, // error reports of pages, from one address: each is a line in the requester's log
  errorsAtOnce: 20,
  addresses: 100000, // that are remembered for the limits above
  waitingForAgent: 500, // packets kept for a page that is away; it asks for all that was said when it is back
  waitingBytesForAgent: 4194304,
  bufferedBytesForParts: 65536, // that a page has not read yet; with more, parts of replies are dropped
  waitingForOperator: 5000, // packets kept while the operator's connection is down
  waitingBytesForOperator: 67108864,
  waitingForOperatorOfAgent: 100,
  secondsForWork: 90, // the operator's time to answer a request for work
  secondsForHeaders: 10,
  secondsForRequest: 20,
  secondsWithoutTraffic: 120, // of a connection in the middle of a request; longer than secondsForWork
  ...JSON.parse(process.env.MODEL_CHAT_ROUTER_LIMITS || "{}"),
};

/**
 * key: the secret, at least 32 characters. bind: the address to listen on; "": all. hosts: names, besides `localhost` and IP
 * addresses, under which the page may be asked for; ".example.org" stands for all names below it, "*" for any. proxies:
 * how many reverse proxies stand before this process, or the addresses and networks of those that are trusted. publicUrl: the
 * page's address behind a reverse proxy, as browsers write it, with a slash at the end; then no other host or site is answered.
 */
function readSettings() {
  let settings = JSON.parse(process.env.MODEL_CHAT_ROUTER_SETTINGS || "{}");
  const key = process.env.MODEL_CHAT_ROUTER_KEY;
  delete process.env.MODEL_CHAT_ROUTER_KEY;
  const file = path.join(__dirname, "router.json");
  if (key) settings.key = key;
  else if (fs.existsSync(file)) settings = JSON.parse(fs.readFileSync(file, "utf8"));
  if (typeof settings.key !== "string" || settings.key.length < 32)
    throw new Error("MODEL_CHAT_ROUTER_KEY is missing, or shorter than 32 characters");
  return { bind: "127.0.0.1", hosts: [], proxies: [], publicUrl: null, ...settings };
}

module.exports = { LIMITS, SETTINGS: readSettings() };
