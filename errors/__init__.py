"""The base of every exception that model-chat raises, and those that several packages use.

The others are defined in the module that raises them::

    ModelChatError
    ├── ConfigurationError (ValueError)
    │   └── CannotComposeError          launch.command_line
    ├── RefusedError (ValueError)
    │   └── AnnotationRefusedError      configuration.annotations
    ├── ModelFailureError (RuntimeError)
    │   └── RequestFailedError          agents._endpoint_reply
    ├── RemoteError                     serving.histories
    ├── StoppedError                    serving.model
    ├── NoReservationLeftError (RuntimeError) conversation.quota
    ├── PlatformError (RuntimeError)    crowd.platform
    │   └── ProlificError               crowd.prolific_api
    │       ├── RefusedByProlificError
    │       └── NoAnswerError
    ├── ArrivalRefusedError             crowd.arrivals
    ├── NewVisitorError                 crowd.arrivals
    ├── KeysUnavailableError            crowd.signed_links
    ├── TokenError (ValueError)         crowd.json_web_tokens
    │   └── ExpiredTokenError           crowd.json_web_tokens
    ├── AllocationError (ValueError)    conversation.allocation
    ├── JudgeStoppedError               scripts._judge_money
    ├── PersonFailedError               scripts._simulated_person
    ├── WrongAnswerError                scripts._judge_prompt
    ├── LockedError                     records.locks
    ├── StackWriteError (OSError)       images.stack
    ├── UnreadableError                 records.reading
    ├── LogError (ValueError)           records.conversation_logs
    ├── MalformedError (ValueError)     records.legacy
    ├── DamagedJournalError (ValueError)     images._journal
    ├── UnreadablePictureError (ValueError)  images.pictures
    └── EventTooLargeError (ValueError)      agents._event_stream

scripts/setup_env.py has an exception of its own, for it runs before this package can be imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any


class ModelChatError(Exception):
    """The base of all exceptions of this package."""


class ConfigurationError(ModelChatError, ValueError):
    """Something the requester gave is not usable; the message is made of sentences for them.

    Each sentence names the flag or file, the value, and what would be right. All faults that can be found are reported
    together, so that nobody has to fix them one start at a time.

    Args:
        faults: one sentence each.
    """

    def __init__(self, *faults: str) -> None:
        self.faults: tuple[str, ...] = faults
        super().__init__("\n".join(faults))

    @classmethod
    def raise_if(cls, faults: Iterable[str]) -> None:
        """Raise one error with all ``faults``, unless there are none."""
        found = tuple(faults)
        if found:
            raise cls(*found)


@contextmanager
def collecting(faults: list[str]) -> Iterator[None]:
    """Add the faults of a :class:`ConfigurationError` raised inside to ``faults`` instead of letting it through."""
    try:
        yield
    except ConfigurationError as error:
        faults += error.faults


class ModelFailureError(ModelChatError, RuntimeError):
    """A model gave no usable reply. The message is for the requester and never goes to a worker.

    Attributes:
        generation: what is known of the reply that failed (:class:`model_chat.records.schema.Generation`), perhaps nothing.
    """

    generation: Mapping[str, Any] = MappingProxyType({})


class RefusedError(ModelChatError, ValueError):
    """A packet that is not taken; it is still the worker's turn.

    Args:
        code: one of the `refused` codes of docs/protocol.md.
        reason: a sentence for the worker.
        message_id: the page's id of the packet, where it had a usable one.
    """

    def __init__(self, code: str, reason: str, message_id: str | None = None) -> None:
        self.code = code
        self.reason = reason
        self.message_id = message_id
        super().__init__(reason)
