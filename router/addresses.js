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

const HOST = /^(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::[0-9]{1,5})?$/i;

/**
 * Whether the page may be asked for under this Host header. A name of another site that resolves to this machine (DNS
 * rebinding) would make this page that site's own; an IP address can't be rebound.
 */
function isAllowedHost(header) {
  const [, ipv6, name] = HOST.exec(header ?? "") ?? [];
  if (ipv6 !== undefined) return net.isIPv6(ipv6);
  if (name === undefined) return false;
  const host = name.toLowerCase().replace(/\.$/, "");
  return (
    net.isIPv4(host) ||
    host === "localhost" ||
    SETTINGS.hosts.some((allowed) => {
      const pattern = allowed.toLowerCase();
      return pattern === "*" || pattern === host || (pattern.startsWith(".") && host.endsWith(pattern));
    })
  );
}

/** Whether a request names exactly one host, an allowed one. */
function hasAllowedHost(request) {
  const names = request.rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host");
  return names.length === 1 && isAllowedHost(request.headers.host);
}

/** Whether a request comes from our own page, or from a program: browsers name the site that sends it. */
function isSameSite({ headers }) {
  if (headers.origin === undefined) return true;
  try {
    return new URL(headers.origin).host === headers.host;
  } catch {
    return false;
  }
}

module.exports = { addressOf, hasAllowedHost, isProxy, isSameSite, toCounted };
