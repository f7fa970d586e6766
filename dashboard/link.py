"""The pipes between a run and its dashboard, which is a process of its own: JSON lines.

The run says who the dashboard is for (:class:`Start`), then its counters again and again (``{"state": …}``), and answers
(``{"answer": 1, "fault": ""}``). The dashboard asks (``{"ask": 1, "act": "stop", "more": null}``). When the run's end of the
pipe closes, the dashboard ends; when the dashboard's does, the run goes on without one.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import IO

import orjson
from pydantic import ValidationError

from model_chat.dashboard.live import DashboardMessage, LiveState, RunAct
from model_chat.dashboard.study import StudyInfo

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0


class Start(DashboardMessage):
    """The first line.

    Attributes:
        socket: descriptor of the socket that listens.
        passwords: what ``dashboard_password_env`` says.
    """

    study: StudyInfo
    socket: int
    token: str
    passwords: str | None = None


class Ask(DashboardMessage, strict=True):
    """One thing that the dashboard asks of the run."""

    ask: int
    act: RunAct
    more: int | None = None


class Answer(DashboardMessage):
    """What came of it; ``fault`` is a sentence, or empty."""

    answer: int
    fault: str


def line_of(message: DashboardMessage | dict[str, object]) -> bytes:
    """Return a message as a line."""
    content = message.model_dump(mode="json") if isinstance(message, DashboardMessage) else message
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


class RunLink:
    """The run (:class:`~model_chat.dashboard.live.Run`), seen from the dashboard's process. ``_lock`` guards requests."""

    def __init__(self, to_run: IO[bytes]) -> None:
        self._to_run = to_run
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[threading.Event, list[str]]] = {}
        self.state: LiveState | None = None

    def follow(self, lines: Iterable[bytes], ended: Callable[[], None]) -> None:
        """Take in what the run says until it says no more; then call ``ended``."""
        for line in lines:
            try:
                content = orjson.loads(line)
                if "state" in content:
                    self.state = LiveState.model_validate(content["state"])
                else:
                    self._take(Answer.model_validate(content))
            except (orjson.JSONDecodeError, ValidationError, TypeError):
                logger.error("The run has sent its dashboard something that it does not understand")
        ended()

    def _take(self, answer: Answer) -> None:
        with self._lock:
            waiting = self._waiting.get(answer.answer)
        if waiting is not None:
            waiting[1].append(answer.fault)
            waiting[0].set()

    def ask(self, act: RunAct, more: int | None) -> str:
        """See :class:`~model_chat.dashboard.live.Run`."""
        done, faults = threading.Event(), list[str]()
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = done, faults
            try:
                self._to_run.write(line_of(Ask(ask=number, act=act, more=more)))
                self._to_run.flush()
            except (OSError, ValueError):
                del self._waiting[number]
                return "The run has ended."
        try:
            done.wait(ANSWER_SECONDS)
        finally:
            with self._lock:
                del self._waiting[number]
        return faults[0] if faults else "The run has not answered; look whether it is done."
