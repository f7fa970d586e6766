"""The address under which workers find a page that is behind a reverse proxy (``mephisto.architect.public_url``)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import idna

from model_chat.errors import ConfigurationError

FLAG = "mephisto.architect.public_url"
EXAMPLE = "https://study.example.org/pets/"
DEFAULT_PORTS = {"https": 443, "http": 80}
LAST_PORT = 65535
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Hosts whose connections don't leave the machine: these alone may be asked for without TLS."""
RESERVED = frozenset({"assets", "operator"})
"""First parts of the router's own paths: no prefix, for a path below it could be meant with the prefix or without it."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True)
class PublicAddress:
    """A public address whose parts are as browsers write them.

    Attributes:
        scheme: ``https``, or ``http`` for this machine alone.
        host: lower-case ASCII name or IP address; IPv6 without brackets.
        port: None: the scheme's own.
        prefix: the path, with a slash at both ends.
    """

    scheme: str
    host: str
    port: int | None
    prefix: str

    @property
    def origin(self) -> str:
        """What browsers send as ``Origin``, such as ``https://study.example.org``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port is None else f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The page's address, which ends in a slash."""
        return self.origin + self.prefix


def parse_public_url(text: str) -> PublicAddress:
    """Read the value of ``mephisto.architect.public_url``.

    Raises:
        ConfigurationError: with one sentence for each fault.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", text):  # urlsplit would leave some of them out
        raise ConfigurationError(f"{FLAG}: '{text:.80}' has a space or a line break in it; give {EXAMPLE}.")
    try:
        parts = urlsplit(text)
        port = parts.port
        hostname = parts.hostname
    except ValueError as error:  # a port that is none, brackets that don't match
        raise ConfigurationError(f"{FLAG}: '{_shown(text)}' is no address ({error}); give {EXAMPLE}.") from None
    ConfigurationError.raise_if(_faults(text, parts, hostname, port))
    host = _ascii_host(str(hostname))
    path = parts.path.rstrip("/") + "/"
    return PublicAddress(parts.scheme, str(host), None if port == DEFAULT_PORTS[parts.scheme] else port, path)


def _faults(text: str, parts: SplitResult, hostname: str | None, port: int | None) -> Iterator[str]:
    shown = _shown(text)
    if parts.scheme not in DEFAULT_PORTS:
        yield f"{FLAG}: '{shown}' does not begin with https://; give {EXAMPLE}."
    elif parts.scheme == "http" and hostname not in LOCAL_NAMES:
        yield f"{FLAG}: '{shown}' is not encrypted; give an address with https://; http:// is for localhost alone."
    if "@" in parts.netloc:
        yield f"{FLAG}: '{shown}' has a user name or a password in it; leave that out."
    if "?" in text or "#" in text:
        yield f"{FLAG}: '{shown}' has a query or a fragment (? or #); give the address up to the path."
    if not hostname and parts.scheme in DEFAULT_PORTS:
        yield f"{FLAG}: '{shown}' names no host; give {EXAMPLE}."
    elif hostname and "*" in hostname:
        yield f"{FLAG}: '{shown}' has a wildcard; give the one name under which workers find the page."
    elif hostname and _ascii_host(hostname) is None:
        yield f"{FLAG}: '{hostname:.80}' is no host name; give one like study.example.org."
    if port == 0 or (port is None and parts.netloc.endswith(":")):
        yield f"{FLAG}: '{shown}' has no usable port; give a number from 1 to {LAST_PORT}, or leave it out."
    segments = [segment for segment in parts.path.split("/") if segment]
    if "//" in parts.path or any(not _SEGMENT.fullmatch(segment) or set(segment) == {"."} for segment in segments):
        yield (
            f"{FLAG}: the path '{parts.path:.80}' is not plain; give letters, digits, '-', '.', '_' and '~' between single "
            "slashes, such as /pets/."
        )
    elif segments and segments[0] in RESERVED:
        yield f"{FLAG}: a path that begins with /{segments[0]}/ is the router's own; give another, such as /pets/."


def _ascii_host(host: str) -> str | None:
    """Return a host as browsers send it, or None if it is none."""
    try:
        return str(ipaddress.ip_address(host)) if "%" not in host else None
    except ValueError:
        pass
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return None
    labels = name.lower().split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return None
    return name.lower()


def _shown(text: str) -> str:
    """Return an address for a message: without a password, and not too long."""
    return f"{re.sub(r'//[^/?#]*@', '//…@', text):.80}"


def public_address_of(architect: Any) -> PublicAddress | None:
    """Return the public address of an architect's flags; None without one.

    Raises:
        ConfigurationError: it is faulty.
    """
    text = architect.get("public_url")
    return parse_public_url(str(text)) if text else None
