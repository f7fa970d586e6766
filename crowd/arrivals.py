"""Who has come, by the address with which a participant's page was opened. The address is untrusted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from model_chat.crowd.panel_store import PanelStore
from model_chat.crowd.panels import Panel
from model_chat.errors import ModelChatError
from model_chat.quality.blocks import canonical_id
from model_chat.quality.refusals import Refusal

LONGEST_QUERY = 4096
"""Characters; the page sends no more of its address, the router takes no more."""
LONGEST_ID = 128
"""Characters of an id; the longest that a panel documents (docs/panels.md)."""
MOST_PARAMS = 50
_ID = re.compile(r"[A-Za-z0-9._~:@+/=-]+")
_PLACEHOLDER = re.compile(r"[{}%<>\[\]$]")
"""What stands around a name that a panel should have replaced by an id: {{%PROLIFIC_PID%}}, %SURVEY_CODE%, [%RID%]."""


class ArrivalRefusedError(ModelChatError):
    """An address that names nobody; its page is told what to do."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class NewVisitorError(ModelChatError):
    """A browser that the server doesn't know yet: it is given an id, and asks again with it."""

    def __init__(self, visitor: str) -> None:
        super().__init__("a new visitor")
        self.visitor = visitor


@dataclass(frozen=True)
class Arrival:
    """A participant, and the participation of theirs that the address names; None where it names none."""

    participant: str
    study: str | None = None
    session: str | None = None


class ChecksLinks(Protocol):
    """Checks signed addresses (:class:`model_chat.crowd.signed_links.SignedLinks`)."""

    def check(self, query: str, params: Mapping[str, str], arrival: Arrival, visitor: str) -> None:
        """Raise :class:`ArrivalRefusedError` unless the address is genuine and this browser's."""


def read_address(panel: Panel, query: str) -> tuple[Arrival, dict[str, str]]:
    """Read the ids in a page's address.

    Args:
        query: the part of the address from ``?`` on.

    Returns:
        who has come, and all parameters; of one that comes twice the last.

    Raises:
        ArrivalRefusedError: an id is missing, doubled, not filled in, or none.
    """
    if len(query) >= LONGEST_QUERY:
        raise ArrivalRefusedError(Refusal.INVALID_ID)
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMS)
    except ValueError:
        raise ArrivalRefusedError(Refusal.INVALID_ID) from None
    ids = [_read_id(pairs, name) for name in (panel.participant_param, panel.study_param, panel.session_param)]
    participant, study, session = ids
    if participant is None:
        raise ArrivalRefusedError(Refusal.NO_ID)
    return Arrival(canonical_id(panel.provider, participant), study, session), dict(pairs)


def _read_id(pairs: list[tuple[str, str]], name: str) -> str | None:
    """An id of an address, None where it has none."""
    values = [value for key, value in pairs if name and key == name]
    if not values:
        return None
    if len(values) > 1:
        raise ArrivalRefusedError(Refusal.DOUBLED_ID)
    (value,) = values
    if not value.strip():
        raise ArrivalRefusedError(Refusal.NO_ID)
    if _PLACEHOLDER.search(value):
        raise ArrivalRefusedError(Refusal.UNFILLED_ID)
    if len(value) > LONGEST_ID or not _ID.fullmatch(value):
        raise ArrivalRefusedError(Refusal.INVALID_ID)
    return value


class Visitors:
    """Ids that the server gives to browsers, signed so that nobody can make one up."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new(self) -> str:
        """Return a new id with its signature."""
        visitor = secrets.token_urlsafe(16)
        return f"{visitor}.{self._sign(visitor)}"

    def read(self, signed: Any) -> str | None:
        """Return the id that a browser has been given, None for anything else."""
        if not isinstance(signed, str) or not signed.isascii():
            return None
        visitor, _, signature = signed.partition(".")
        return visitor if visitor and hmac.compare_digest(signature, self._sign(visitor)) else None

    def _sign(self, visitor: str) -> str:
        digest = hmac.new(self._key, b"visitor:" + visitor.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:24]).decode()


class ArrivalChecker:
    """Finds out who has come, for one run.

    Args:
        links: checks signed addresses; None where addresses are not signed.
    """

    def __init__(self, panel: Panel, store: PanelStore, links: ChecksLinks | None = None) -> None:
        self._panel = panel
        self._links = links
        self._visitors = Visitors(store.key("visitors"))

    @property
    def names_participants(self) -> bool:
        """Whether the address says who has come; on a link, all addresses are the same."""
        return self._panel.provider != "link"

    def identify(self, query: Any, visitor: Any) -> Arrival:
        """Return who has come; may take as long as fetching the panel's keys takes.

        Args:
            query: the part of the page's address from ``?`` on, as the page says.
            visitor: the signed id that the browser was given before, as the page says, or None.

        Raises:
            ArrivalRefusedError: the address names nobody, or isn't theirs.
            NewVisitorError: the browser has no id yet and needs one.
        """
        if not isinstance(query, str):
            raise ArrivalRefusedError(Refusal.NO_ID)
        if self._panel.provider == "link":
            return Arrival(self._visitor(visitor))
        arrival, params = read_address(self._panel, query)
        if self._links is not None:
            self._links.check(query, params, arrival, self._visitor(visitor))
        return arrival

    def _visitor(self, signed: Any) -> str:
        visitor = self._visitors.read(signed)
        if visitor is None:
            raise NewVisitorError(self._visitors.new())
        return visitor
