"""A conversation with a model that runs elsewhere: the whole history is in each request, so that any copy can answer it.

A conversation here is a list of what an agent in this process would have been told. Elsewhere a fresh clone is told the
same, in the same order, and is then in the same state: ParlAI's agents keep their history by ``observe`` and
``self_observe`` alone. Agents that do more in ``act`` than to reply are described in ``docs/ray.md``.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from model_chat.errors import ModelChatError


class Event(NamedTuple):
    """Something that an agent is told.

    Attributes:
        said: whether the agent said it itself (``self_observe``); else it heard it (``observe``).
        message: a ParlAI message's entries.
    """

    said: bool
    message: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """All that a copy of a model needs to give one reply.

    Attributes:
        before: names the history. Who holds an agent under this name holds one that was told exactly this history.
        after: names what the history is to be once this turn has been answered.
    """

    conversation: str
    history: tuple[Event, ...]
    heard: tuple[dict[str, Any], ...]
    before: str
    after: str

    def again(self) -> Turn:
        """Return the turn to be asked once more: should the lost reply be known somewhere, it is not taken for the other."""
        return replace(self, after=uuid.uuid4().hex)


class Failure(NamedTuple):
    """Why there is no reply, in a form that travels.

    Attributes:
        error: the exception's ``repr``.
    """

    error: str
    trace: str


class RemoteError(ModelChatError):
    """An exception that an agent raised elsewhere; its ``repr`` is that of the exception there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.add_note(f"Where the model runs:\n{failure.trace}")

    def __repr__(self) -> str:
        return str(self)


class Conversation:
    """Stands for an agent that is elsewhere, in one conversation; remembers what that agent is to have been told.

    It belongs to one conversation, as an agent does, and so is used by one thread at a time.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self._events: list[Event] = []
        self._name = uuid.uuid4().hex

    def observe(self, message: Mapping[str, Any]) -> None:
        """Let the agent hear a message before its next turn."""
        self._tell(Event(False, dict(message)))

    def self_observe(self, message: Mapping[str, Any]) -> None:
        """Let the agent know that it has said a message."""
        self._tell(Event(True, dict(message)))

    def _tell(self, *events: Event, name: str | None = None) -> None:
        self._events.extend(events)
        self._name = name or uuid.uuid4().hex  # no agent has been told this yet

    def turn(self, heard: Sequence[Mapping[str, Any]]) -> Turn:
        """Return what asks for a reply to what was heard since the last one."""
        messages = tuple(dict(message) for message in heard)
        return Turn(self.id, tuple(self._events), messages, before=self._name, after=uuid.uuid4().hex)

    def answered(self, turn: Turn, act: Mapping[str, Any]) -> None:
        """Remember a turn's reply."""
        heard = (Event(False, message) for message in turn.heard)
        self._tell(*heard, Event(True, dict(act)), name=turn.after)


class Agents:
    """The agents of conversations that may continue: made again from the history when there is none, or one with another.

    Owner of the kept agents; ``_lock`` guards them. One that is taken belongs to whoever took it. Only a cache: a
    conversation continues also where nothing of it is kept.

    Args:
        most: how many are kept; the ones longest unused go first.
    """

    def __init__(self, make: Callable[[], Any], most: int) -> None:
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, Any]] = OrderedDict()

    def take(self, turn: Turn) -> Any:
        """Return an agent that has been told the turn's history, and nothing of what was heard since.

        Raises:
            BaseException: whatever the agent raises.
        """
        with self._lock:
            name, agent = self._kept.pop(turn.conversation, ("", None))
        return agent if name == turn.before else rebuilt(self._make(), turn.history)

    def keep(self, turn: Turn, agent: Any) -> None:
        """Keep an agent that has answered a turn."""
        with self._lock:
            self._kept[turn.conversation] = (turn.after, agent)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def rebuilt(agent: Any, history: Sequence[Event]) -> Any:
    """Tell a fresh agent a history; return it.

    Raises:
        BaseException: whatever the agent raises.
    """
    from parlai.core.message import Message

    for said, message in history:
        if not said:
            agent.observe(Message(message))
        elif hasattr(agent, "self_observe"):  # agents without it keep no history of what they said
            agent.self_observe(Message(message))
    return agent


def portable(act: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an act what plain types say: texts and numbers, and lists and dictionaries of them.

    What else agents put there (tensors on a GPU, metrics) can't be read by a process without the same packages and
    devices, and nobody here asks for it.
    """
    found = {str(key): _plain(value) for key, value in act.items()}
    return {key: value for key, value in found.items() if value is not _UNFIT}


_UNFIT = object()


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _UNFIT if any(item is _UNFIT for item in items) else items
    if isinstance(value, Mapping):
        entries = {key: _plain(item) for key, item in value.items() if type(key) in (int, str)}
        return _UNFIT if len(entries) < len(value) or any(item is _UNFIT for item in entries.values()) else entries
    return _UNFIT
