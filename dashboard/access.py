"""Who may see and do what: log-in, sessions, and limits of attempts."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from model_chat.dashboard.settings import Role

SESSION_SECONDS = 12 * 3600.0
"""A session ends when it was not used for so long."""
LONGEST_SESSION_SECONDS = 7 * 24 * 3600.0
MOST_SESSIONS = 500
LONGEST_NAME = 60
WINDOW_SECONDS = 300.0
FAILURES_OF_ADDRESS, FAILURES_OF_ALL = 10, 100
"""Failed log-ins within the window, from one address and from all; then nobody is let in by password for a while."""
MOST_ADDRESSES = 10_000


@dataclass
class Session:
    """One browser that has logged in.

    Attributes:
        csrf: goes with each act; no other site can read it.
    """

    name: str
    role: Role
    csrf: str
    began: float
    used: float
    streams: int = 0


class AttemptLimit:
    """Limits failed log-ins within a window of time. Used on the event loop only.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_address: dict[str, deque[float]] = {}
        self._of_all: deque[float] = deque()

    def wait(self, address: str) -> float:
        """Return how many seconds an address has to wait; 0 for none."""
        now = self._clock()
        longest = 0.0
        for failures, most in ((self._of_address.get(address), FAILURES_OF_ADDRESS), (self._of_all, FAILURES_OF_ALL)):
            if failures is None:
                continue
            while failures and now - failures[0] >= WINDOW_SECONDS:
                failures.popleft()
            if len(failures) >= most:
                longest = max(longest, WINDOW_SECONDS - (now - failures[0]))
        return longest

    def failed(self, address: str) -> None:
        """Count a failed log-in. Called after :meth:`wait` has said 0, so that what is kept is bounded."""
        now = self._clock()
        if address not in self._of_address and len(self._of_address) >= MOST_ADDRESSES:
            self._of_address = {
                key: times for key, times in self._of_address.items() if times and now - times[-1] < WINDOW_SECONDS
            }
        self._of_address.setdefault(address, deque(maxlen=FAILURES_OF_ADDRESS)).append(now)
        self._of_all.append(now)


@dataclass
class Access:
    """Knows the passwords and the link's token by their digests, and the sessions. Used on the event loop only.

    Attributes:
        passwords: password -> role.
        token: of the link that was printed; "" for none. It gives the role ``pay``.
        owner: what the holder of the link is called in the audit log.
    """

    passwords: Mapping[str, Role]
    token: str
    owner: str = "requester"
    clock: Callable[[], float] = time.monotonic
    limit: AttemptLimit = field(init=False)

    def __post_init__(self) -> None:
        self.limit = AttemptLimit(self.clock)
        self._passwords = [(_digest(password), role) for password, role in self.passwords.items()]
        self._token = _digest(self.token) if self.token else None
        self.passwords, self.token = {}, ""
        self._sessions: dict[bytes, Session] = {}

    @property
    def takes_passwords(self) -> bool:
        """Whether there is any password to log in with."""
        return bool(self._passwords)

    def log_in_by_token(self, token: str) -> tuple[str, Session] | None:
        """Return a new session and its id; None if the token is not the link's."""
        if self._token is None or not hmac.compare_digest(_digest(token), self._token):
            return None
        return self._begin(self.owner, Role.PAY)

    def log_in_by_password(self, password: str, name: str) -> tuple[str, Session] | None:
        """Return a new session and its id; None if there is no such password."""
        given = _digest(password)
        found: Role | None = None
        for digest, role in self._passwords:  # all are compared, so that the duration reveals nothing
            if hmac.compare_digest(given, digest):
                found = role
        return None if found is None else self._begin(name, found)

    def _begin(self, name: str, role: Role) -> tuple[str, Session]:
        now = self.clock()
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used)]
        session_id = secrets.token_urlsafe(32)
        session = Session(name, role, secrets.token_urlsafe(32), now, now)
        self._sessions[_digest(session_id)] = session
        return session_id, session

    @staticmethod
    def _is_over(session: Session, now: float) -> bool:
        return now - session.used > SESSION_SECONDS or now - session.began > LONGEST_SESSION_SECONDS

    def session(self, session_id: str | None) -> Session | None:
        """Return the session of a cookie; None if there is none, or it is over."""
        if not session_id:
            return None
        key = _digest(session_id)
        session = self._sessions.get(key)
        if session is None:
            return None
        now = self.clock()
        if self._is_over(session, now):
            del self._sessions[key]
            return None
        session.used = now
        return session

    def log_out(self, session_id: str | None) -> None:
        """End a session."""
        if session_id:
            self._sessions.pop(_digest(session_id), None)


def user_name() -> str:
    """Return who has started the program, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "requester"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
