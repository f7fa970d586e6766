"""Signed addresses: Prolific signs a study's address for each participant, so that nobody can type another's id.

The address has a JSON Web Token (RFC 7519), signed with RS256 by a key that Prolific publishes; the facts, and what is not
documented, are in docs/panels.md. A token is valid for two minutes: it is checked when a browser first comes with it. From
then on the browser is known by the id that the server gave it, so that a page may be loaded again later, and a copied
address opens nothing in another browser.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from model_chat.crowd.arrivals import Arrival, ArrivalRefusedError
from model_chat.crowd.json_web_tokens import ExpiredTokenError, TokenError, read_key, verify_token
from model_chat.crowd.panel_store import PanelStore
from model_chat.crowd.panels import Panel
from model_chat.errors import ConfigurationError, ModelChatError
from model_chat.quality.refusals import Refusal

logger = logging.getLogger(__name__)

KEYS_SECONDS = 24 * 3600.0
"""How long keys are used before they are fetched again; Prolific asks for "at least daily"."""
RETRY_SECONDS = 30.0
"""Between two fetches, whatever happens: an unknown key can be named by anybody."""
FETCH_SECONDS = 10.0
MOST_KEYS_BYTES = 262_144
LONGEST_TOKEN = 4_000
PARAMS_CLAIM = "prolific"
"""Claim with the address' parameters."""


class KeysUnavailableError(ModelChatError):
    """The panel's keys can't be fetched, and none are known."""


@dataclass(frozen=True)
class LinkSettings:
    """What a token must say.

    Attributes:
        keys_url: where the panel publishes its keys (a JSON Web Key Set).
        audience: the study's address; scheme, host and path count.
        study: the panel's id of the study; "" for any.
    """

    keys_url: str
    issuer: str
    audience: str
    token_param: str
    study: str = ""


class PanelKeys:
    """A panel's public keys, fetched when they are needed and kept. ``_lock`` guards them: one thread fetches.

    Args:
        clock: seconds, as :func:`time.monotonic`.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._fetched: float | None = None
        self._tried: float | None = None

    def find(self, key_id: str) -> Any | None:
        """Return a key, None if the panel has none of this name.

        Raises:
            KeysUnavailableError: no keys are known, and they can't be fetched.
        """
        with self._lock:
            now = self._clock()
            is_old = self._fetched is None or now - self._fetched > KEYS_SECONDS
            may_try = self._tried is None or now - self._tried > RETRY_SECONDS
            if (is_old or key_id not in self._keys) and may_try:
                self._fetch(now)
            if self._fetched is None:
                raise KeysUnavailableError("The panel's keys are not known.")
            return self._keys.get(key_id)

    def _fetch(self, now: float) -> None:
        self._tried = now
        try:
            self._keys, self._fetched = fetch_keys(self._url), now
        except KeysUnavailableError as error:
            logger.error(
                "%s; %s", error, "the earlier ones are used" if self._keys else "participants are asked to wait"
            )


def fetch_keys(url: str) -> dict[str, Any]:
    """Fetch a key set.

    Returns:
        the keys for signatures, by their ids.

    Raises:
        KeysUnavailableError: it does not answer, or what it answers holds no such key.
    """
    try:
        keys = dict(filter(None, map(_usable_key, json.loads(_download(url))["keys"])))
        if not keys:
            raise ValueError("it has no RSA key for signatures")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeysUnavailableError(f"The panel's keys can't be read from {url} ({error!r:.200})") from error
    return keys


def _download(url: str) -> bytes:
    """Return what is at an address, which may send no more than :data:`MOST_KEYS_BYTES`."""
    content = bytearray()
    with (
        httpx.Client(timeout=FETCH_SECONDS, follow_redirects=False) as client,
        client.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > MOST_KEYS_BYTES:
                raise ValueError("it is too long")
    return bytes(content)


def _usable_key(key: Any) -> tuple[str, Any] | None:
    """Read one entry of a key set. One that is malformed, or too weak, is left out (RFC 7517, section 5)."""
    try:
        return read_key(key)
    except TokenError as error:
        logger.warning("A key of the panel's is not used: %s", error)
        return None


class SignedLinks:
    """Checks signed addresses of one run."""

    def __init__(self, settings: LinkSettings, panel: Panel, store: PanelStore, keys: PanelKeys | None = None) -> None:
        self._settings = settings
        self._panel = panel
        self._store = store
        self._keys = keys or PanelKeys(settings.keys_url)

    def check(self, query: str, params: Mapping[str, str], arrival: Arrival, visitor: str) -> None:
        """Take an address if it is genuine, and if no other browser came with it.

        Args:
            query: the part of the address from ``?`` on.
            visitor: the browser's id, which the server gave it.

        Raises:
            ArrivalRefusedError: it is not taken.
        """
        token = params.get(self._settings.token_param, "")
        if not token or len(token) > LONGEST_TOKEN or query.count(f"{self._settings.token_param}=") != 1:
            raise ArrivalRefusedError(Refusal.LINK_INVALID)
        participation = (arrival.participant, arrival.study or "", arrival.session or "")
        try:
            claims = verify_token(token, self._keys.find, self._settings.issuer)
        except ExpiredTokenError:
            # A page that is loaded again; its signature was right, or the store would not know this browser.
            if self._store.has_used_link(*participation, visitor):
                return
            raise ArrivalRefusedError(Refusal.LINK_EXPIRED) from None
        except TokenError as error:
            logger.warning("A signed link was refused: %s", error)
            raise ArrivalRefusedError(Refusal.LINK_INVALID) from None
        except KeysUnavailableError:
            if self._store.has_used_link(*participation, visitor):
                return
            raise ArrivalRefusedError(Refusal.TECHNICAL) from None
        self._compare(claims, arrival)
        if not self._store.use_link(hashlib.sha256(token.encode()).hexdigest(), *participation, visitor):
            raise ArrivalRefusedError(Refusal.LINK_USED)

    def _compare(self, claims: Mapping[str, Any], arrival: Arrival) -> None:
        """Refuse a token that is for another study, or another participant, than its address says."""
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        signed = claims.get(PARAMS_CLAIM)
        panel, settings = self._panel, self._settings
        named = {panel.study_param: arrival.study, panel.session_param: arrival.session}
        right = (
            any(isinstance(one, str) and is_same_address(one, settings.audience) for one in audiences)
            and isinstance(signed, Mapping)
            and str(signed.get(panel.participant_param, "")).lower() == arrival.participant.lower()
            # An id that was signed can't be left out of the address either: it would be another participation.
            and all(signed.get(name) == value for name, value in named.items() if name)
            and (arrival.session is None or claims.get("sub", arrival.session) == arrival.session)
            and (not settings.study or arrival.study == settings.study)
        )
        if not right:
            logger.warning("A signed link was refused: it is not for this study, or names another participant")
            raise ArrivalRefusedError(Refusal.LINK_INVALID)


def is_same_address(one: str, other: str) -> bool:
    """Whether two addresses lead to the same place: scheme, host, port and path, whatever their parameters are."""
    try:
        places = [urlsplit(address) for address in (one, other)]
        first, second = ((place.scheme, place.hostname, place.port or _port(place.scheme)) for place in places)
    except ValueError:
        return False
    paths = [place.path.rstrip("/") for place in places]
    return first == second and bool(first[1]) and paths[0] == paths[1]


def _port(scheme: str) -> int | None:
    return {"https": 443, "http": 80}.get(scheme)


def check_keys(settings: LinkSettings) -> PanelKeys:
    """Fetch the panel's keys before a launch.

    Raises:
        ConfigurationError: they can't be fetched: nobody could take part.
    """
    keys = PanelKeys(settings.keys_url)
    try:
        keys.find("")
    except KeysUnavailableError:
        raise ConfigurationError(
            f"mephisto.provider.link_keys_url: no keys can be read from '{settings.keys_url}', so that no "
            "participant's link could be checked; look at the network, or switch mephisto.provider.verify_links off."
        ) from None
    return keys
