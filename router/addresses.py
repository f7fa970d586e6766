"""The local architect's flags about addresses, hosts and reverse proxies, and what is wrong with them."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from model_chat.errors import collecting
from model_chat.router.public_address import PublicAddress, public_address_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOOPBACK = "127.0.0.1"


def host_of(address: str) -> str:
    """Return the host's name in what Mephisto takes as ``hostname``: a name, perhaps with ``https://`` before it."""
    return address.partition("://")[2] or address


def entries_of(text: str | None) -> list[str]:
    """Return the entries of a comma-separated list."""
    return [entry.strip() for entry in str(text or "").split(",") if entry.strip()]


_HOST_PATTERN = re.compile(r"\*|\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)


def faults_of_addresses(architect: DictConfig) -> list[str]:
    """Say what is wrong with the local architect's flags about addresses and hosts, one sentence for each fault."""
    faults = []
    bind = str(architect.get("bind_address") or LOOPBACK)
    if not is_address(bind):
        faults.append(
            f"mephisto.architect.bind_address: '{bind:.80}' is not an IP address; give 0.0.0.0 for every network, or "
            f"{LOOPBACK} for this machine only."
        )
    faults += [
        f"mephisto.architect.allowed_hosts: '{host:.80}' is not a host name; give names like study.example.org, without "
        "http:// and port."
        for host in entries_of(architect.get("allowed_hosts"))
        if not _HOST_PATTERN.fullmatch(host)
    ]
    faults += [
        f"mephisto.architect.trusted_proxies: '{proxy:.80}' is neither an IP address nor a network; give entries like "
        "10.0.0.5 or 10.0.0.0/8."
        for proxy in entries_of(architect.get("trusted_proxies"))
        if not _is_network(proxy)
    ]
    return [*faults, *_public_faults(architect, bind)] if architect.get("public_url") else faults


def _public_faults(architect: DictConfig, bind: str) -> list[str]:
    """Say what is wrong with the public address, and with flags that contradict it."""
    faults: list[str] = []
    address: PublicAddress | None = None
    with collecting(faults):
        address = public_address_of(architect)
    host = None if address is None else address.host
    if host is not None:
        faults += [
            f"mephisto.architect.allowed_hosts: '{entry:.80}' is not the host of mephisto.architect.public_url, under which "
            "alone the page is answered; leave allowed_hosts out."
            for entry in entries_of(architect.get("allowed_hosts"))
            if entry.lower() != host
        ]
        hostname = host_of(str(architect.get("hostname") or "")).lower()
        if hostname not in ("", "localhost", host):
            faults.append(
                f"mephisto.architect.hostname: '{hostname:.80}' is not the host of mephisto.architect.public_url; leave "
                "hostname out."
            )
    if architect.get("server_source_path"):
        faults.append(
            "mephisto.architect.server_source_path: only the router that ships knows mephisto.architect.public_url; leave "
            "one of the two out."
        )
    proxies = [proxy for proxy in entries_of(architect.get("trusted_proxies")) if _is_network(proxy)]
    if not is_address(bind):
        return faults
    if not is_loopback(bind) and not entries_of(architect.get("trusted_proxies")):
        faults.append(
            f"mephisto.architect.trusted_proxies: is empty, but with mephisto.architect.public_url and bind_address={bind} "
            "the router has to know the reverse proxy's address, or all workers would share one address's limits; give it, "
            "such as 10.0.0.5 or 10.0.0.0/8."
        )
    elif is_loopback(bind) and proxies and not any(is_loopback(proxy) for proxy in proxies):
        faults.append(
            f"mephisto.architect.bind_address: {bind} is for this machine alone, which the reverse proxy at {proxies[0]} "
            "can't reach; give the address that the proxy asks, or leave trusted_proxies out if the proxy runs here."
        )
    return faults


def proxies_of(architect: DictConfig) -> list[str]:
    """Return the addresses and networks whose X-Forwarded-For is believed.

    With a public address and a router that listens on this machine alone, only the reverse proxy on this machine connects.
    """
    proxies = entries_of(architect.get("trusted_proxies"))
    if not proxies and architect.get("public_url") and is_loopback(str(architect.get("bind_address") or LOOPBACK)):
        return ["127.0.0.0/8", "::1"]
    return proxies


def is_loopback(text: str) -> bool:
    """Whether an address or a network is of this machine alone."""
    return ipaddress.ip_network(text, strict=False).is_loopback


def is_address(text: str) -> bool:
    """Whether a text is an IP address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text
