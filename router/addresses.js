/** Where a request comes from, and which host and site it names. */
"use strict";

const ipaddr = require("ipaddr.js");
const net = require("net");
const proxyaddr = require("proxy-addr");
const { SETTINGS } = require("./settings");

const isTrusted =
  typeof SETTINGS.proxies === "number" ? (_address, hops) => hops < SETTINGS.proxies : proxyaddr.compile(SETTINGS.proxies);

/** The address that limits count for: X-Forwarded-For is believed as far as trusted proxies wrote it. */
function addressOf(request) {
  return toCounted(proxyaddr(request, isTrusted));
}

/** An address; of IPv6 the network of 64 bits, since a single subscriber has at least one such network. */
function toCounted(peer) {
  const address = String(peer).slice(0, 64);
  if (!net.isIP(address)) return address;
  const parsed = ipaddr.process(address.split("%")[0]);
  return parsed.kind() === "ipv6" ? `${parsed.parts.slice(0, 4).map((part) => part.toString(16)).join(":")}::/64` : parsed.toString();
}

/** Whether a connection comes from a trusted proxy, whose connections are those of many people. */
function isProxy(socket) {
  return typeof SETTINGS.proxies === "number" ? SETTINGS.proxies > 0 : isTrusted(socket.remoteAddress ?? "", 0);
}

/** The page's address behind a reverse proxy, or null; its `pathname` is the prefix, with a slash at both ends. */
const PUBLIC = SETTINGS.publicUrl ? new URL(SETTINGS.publicUrl) : null;

const HOST = /^(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::([0-9]{1,5}))?$/i;

/**
 * Whether the page may be asked for under this Host header. A name of another site that resolves to this machine (DNS
 * rebinding) would make this page that site's own; an IP address can't be rebound.
 */
function isAllowedHost(header) {
  if (PUBLIC !== null) return isPublicHost(header);
  const { name } = partsOf(header);
  return (
    isLocalHost(header) ||
    (name !== undefined &&
      SETTINGS.hosts.some((allowed) => {
        const pattern = allowed.toLowerCase();
        return pattern === "*" || pattern === name || (pattern.startsWith(".") && name.endsWith(pattern));
      }))
  );
}

/** The parts of a Host header: an IPv6 address or a name in lower case, and the port, where given; none of what is no Host. */
function partsOf(header) {
  const [, ipv6, name, port] = HOST.exec(header ?? "") ?? [];
  return { ipv6, name: name?.toLowerCase().replace(/\.$/, ""), port };
}

/** Whether a Host header is an IP address or `localhost`, which no other site can resolve to this machine. */
function isLocalHost(header) {
  const { ipv6, name } = partsOf(header);
  return ipv6 !== undefined ? net.isIPv6(ipv6) : name !== undefined && (net.isIPv4(name) || name === "localhost");
}

/** Whether a Host header is that of the public address; proxies may leave the port out, but name no other. */
function isPublicHost(header) {
  const { ipv6, name, port } = partsOf(header);
  if (ipv6 === undefined ? name !== PUBLIC.hostname : `[${ipv6.toLowerCase()}]` !== PUBLIC.hostname) return false;
  return port === undefined || port === (PUBLIC.port || (PUBLIC.protocol === "https:" ? "443" : "80"));
}

const namesOneHost = ({ rawHeaders }) =>
  rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host").length === 1;

/** Whether a request names exactly one host, an allowed one. */
function hasAllowedHost(request) {
  return namesOneHost(request) && isAllowedHost(request.headers.host);
}

/** Whether a request names exactly one host, an IP address or `localhost`: it comes from a program that knows the router itself. */
function hasLocalHost(request) {
  return namesOneHost(request) && isLocalHost(request.headers.host);
}

/** Whether a request comes from our own page, or from a program: browsers name the site that sends it. */
function isSameSite({ headers }) {
  if (headers.origin === undefined) return true;
  if (PUBLIC !== null) return headers.origin === PUBLIC.origin;
  try {
    return new URL(headers.origin).host === headers.host;
  } catch {
    return false;
  }
}

/** Which sockets the page may open, for the policy: those of its own address, and with TLS where the page has it. */
function socketSources(request) {
  if (PUBLIC !== null) return `${PUBLIC.protocol === "https:" ? "wss" : "ws"}://${PUBLIC.host}`;
  return `ws://${request.headers.host} wss://${request.headers.host}`;
}

/** A request's address below the prefix of the public address: proxies may pass the prefix on, or leave it out. */
function withoutPrefix(url) {
  return PUBLIC !== null && url.startsWith(PUBLIC.pathname) ? `/${url.slice(PUBLIC.pathname.length)}` : url;
}

/** Where a page whose address lacks the slash at the end of the prefix is to be found; null for any other request. */
function redirectOf(url) {
  const bare = PUBLIC === null ? "" : PUBLIC.pathname.slice(0, -1);
  return bare && (url === bare || url.startsWith(`${bare}?`)) ? `${bare}/${url.slice(bare.length)}` : null;
}

module.exports = {
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
};
