"""What an OpenAI-compatible endpoint answers: replies, streamed or whole, and errors in all the shapes in use."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_chat.agents._event_stream import event_data
from model_chat.agents._reply_text import split_thoughts, without_open_thoughts
from model_chat.configuration.redaction import redacted
from model_chat.errors import ModelFailureError
from model_chat.records.visible_text import is_blank

if TYPE_CHECKING:
    from model_chat.agents.endpoint_settings import EndpointSettings

MAX_REPLY_CHARACTERS = 200_000
"""A reply that is longer is broken off."""
REST_SECONDS = 0.5
"""How long the end of a response is waited for after the last event."""
MAX_TOKENS = 1_000_000_000
"""A server that says that a request has used more is not believed."""
MAX_NAME_CHARACTERS = 200
"""Of what a server says its model is called."""
SECONDS_BETWEEN_TELLING = 0.2
"""At least, of one reply: nobody is shown more."""
TOLD_AT_ONCE = 4_000
"""Characters of a reply up to which all that is new is told; beyond, it is told each time it has grown by about a hundredth:
telling costs as much as the reply is long, and all endpoints' replies are read in one thread."""
_UNSAVEABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Control characters, which have no place in a chat."""

_SAID_TYPES = (None, "text", "output_text")
_REASONING_TYPES = ("thinking", "reasoning", "reasoning_text", "summary_text")

Tell = Callable[[str], None]
"""Called with the visible text so far; must not block."""


@dataclass
class Completion:
    """A reply of an endpoint.

    Attributes:
        text: what the model said, without its reasoning.
        reasoning: what it wrote for itself.
        served_model: the name that the server gave.
        finish_reason: the server's.
        prompt_tokens, completion_tokens: of all attempts, as far as the server counted them.
        seconds_to_first_token: from the request that brought this reply; None when the reply came whole.
        retries: requests before the one that brought it.
    """

    text: str = ""
    reasoning: str = ""
    served_model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds_to_first_token: float | None = None
    retries: int = 0


@dataclass
class Usage:
    """Tokens of all requests for one reply: a failed one may have cost something, too."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def add(self, usage: object) -> None:
        """Count what a server says a request has used."""
        if not isinstance(usage, Mapping):
            return
        for name in ("prompt_tokens", "completion_tokens"):
            tokens = usage.get(name)
            if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MAX_TOKENS:
                setattr(self, name, (getattr(self, name) or 0) + tokens)


class RequestFailedError(ModelFailureError):
    """A request brought no usable reply.

    Args:
        message: for the requester; never for a worker.
        retryable: whether the same request may succeed later.
        retry_after: seconds that the server asks to wait.
        unusable: whether a reply came, and can't be used.
        status: the HTTP status, where there is one.
    """

    def __init__(
        self,
        message: str,
        retryable: bool = False,
        retry_after: float | None = None,
        unusable: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(redacted(message))
        self.retryable = retryable
        self.retry_after = retry_after
        self.unusable = unusable
        self.status = status
        self.usage = Usage()
        """What the requests for the reply have used in all."""
        self.retries = 0
        """Requests before the last one."""
        self.generation: dict[str, Any] = {}
        """What is known of the failed generation, its cost among it."""


def error_detail(content: bytes) -> str:
    """Return the server's own words in an error, in any of the shapes in use, as one line of at most 300 characters."""
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError):
        return " ".join(content.decode("utf-8", errors="replace").split())[:200]
    for _ in range(3):
        if isinstance(data, Mapping):
            data = next((data[key] for key in ("error", "message", "detail") if data.get(key)), "")
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return _whole_characters(" ".join(text.split()))[:300].rstrip(".")


@dataclass
class _Reading:
    """A stream as far as it has been read."""

    completion: Completion = field(default_factory=Completion)
    usage: object = None


class _Teller:
    """Tells the visible text of a reply that grows: at once, and later the newest, at most every so often."""

    def __init__(self, completion: Completion, tell: Tell, begun_inside: bool) -> None:
        self._completion = completion
        self._tell = tell
        self._begun_inside = begun_inside
        self._told, self._told_length = "", 0
        self._next = 0.0
        self._later: asyncio.TimerHandle | None = None

    def grown(self) -> None:
        """Tell now or soon, if there is more to be told."""
        length = len(self._completion.text)
        if self._later is not None or length <= self._told_length + max(0, length - TOLD_AT_ONCE) // 100:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next:
            self._tell_newest()
        else:
            self._later = loop.call_at(self._next, self._tell_newest)

    def _tell_newest(self) -> None:
        self._later = None
        self._told_length = len(self._completion.text)
        visible = without_open_thoughts(_sayable(self._completion.text), self._begun_inside).strip()
        if visible != self._told and not is_blank(visible):
            self._told = visible
            self._next = asyncio.get_running_loop().time() + SECONDS_BETWEEN_TELLING
            self._tell(visible)

    def close(self) -> None:
        """Tell no more."""
        if self._later is not None:
            self._later.cancel()


async def read_stream(
    chunks: AsyncIterator[bytes],
    name: str,
    started: float,
    usage: Usage,
    tell: Tell | None,
    begun_inside: bool = False,
    gather: Callable[[int | None], None] = lambda _: None,
) -> Completion:
    """Read a streamed reply to its end.

    Args:
        chunks: the response's body, decoded.
        name: of the model, for error messages.
        started: when the request was sent, on :func:`time.monotonic`'s clock.
        usage: gets what the request has used, whatever becomes of it.
        tell: gets the visible text so far.
        begun_inside: whether the model's thoughts are not opened by a tag, only closed by one.
        gather: told that further events may be read somewhat later, together with those of others, by the length of one;
            None: no longer. They may between the first token and the reason of the end.

    Raises:
        RequestFailedError: the stream holds an error, no JSON, or too much text.
        EventTooLargeError: an event is too long.
    """
    import httpx

    reading = _Reading()
    completion, gathered = reading.completion, False
    teller = None if tell is None else _Teller(completion, tell, begun_inside)

    def set_gathered(event_bytes: int | None) -> None:
        nonlocal gathered
        if (event_bytes is not None) != gathered:
            gathered = not gathered
            gather(event_bytes)

    try:
        async for data in event_data(chunks):
            if data == "[DONE]":
                set_gathered(None)
                await _read_rest(chunks)
                break
            _take(reading, data, name, started)
            if teller is not None:
                teller.grown()
            flows = completion.seconds_to_first_token is not None and completion.finish_reason is None
            set_gathered(len(data) if flows else None)
            if len(completion.text) + len(completion.reasoning) > MAX_REPLY_CHARACTERS:
                raise RequestFailedError(
                    f"{name} gave a reply of more than {MAX_REPLY_CHARACTERS} characters that does not end.",
                    unusable=True,
                )
    except httpx.TransportError:
        if completion.finish_reason is None:
            raise
        # The connection broke off behind the end of the reply, which is whole and has been paid for.
    finally:
        set_gathered(None)
        if teller is not None:
            teller.close()
        usage.add(reading.usage)
    return completion


async def _read_rest(chunks: AsyncIterator[bytes]) -> None:
    """Read what follows the last event, which is nothing, so that the connection can be used again."""
    import httpx

    try:
        async with asyncio.timeout(REST_SECONDS):
            async for _ in chunks:
                pass
    except (TimeoutError, httpx.TransportError):
        return  # the server keeps the response open, or breaks it off; the connection is closed


def _take(reading: _Reading, data: str, name: str, started: float) -> None:
    try:
        event: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestFailedError(f"{name} sent an event that is not JSON.", retryable=True, unusable=True) from None
    if not isinstance(event, Mapping):
        return
    if event.get("usage"):
        reading.usage = event["usage"]  # the last one counts all tokens
    if event.get("error") or event.get("object") == "error":
        raise RequestFailedError(
            f"{name} broke the reply off: {error_detail(data.encode('utf-8', 'replace'))}.",
            retryable=True,
            unusable=True,
        )
    completion = reading.completion
    if isinstance(event.get("model"), str):
        completion.served_model = event["model"]
    choice = _first_choice(event)
    text, reasoning = _parts(choice.get("delta") or choice.get("message"))
    if (text or reasoning) and completion.seconds_to_first_token is None:
        completion.seconds_to_first_token = time.monotonic() - started
    completion.text += text
    completion.reasoning += reasoning
    if isinstance(choice.get("finish_reason"), str):
        completion.finish_reason = choice["finish_reason"]


def read_whole(content: bytes, name: str, usage: Usage) -> Completion:
    """Read a reply that was not streamed.

    Args:
        content: the body.
        name: of the model, for error messages.
        usage: gets what the request has used.

    Raises:
        RequestFailedError: it is no JSON, or an error.
    """
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise RequestFailedError(f"{name} sent something that is not JSON.", retryable=True, unusable=True) from None
    if not isinstance(data, Mapping) or data.get("error"):
        raise RequestFailedError(
            f"{name} answered with an error: {error_detail(content)}.", retryable=True, unusable=True
        )
    usage.add(data.get("usage"))
    choice = _first_choice(data)
    text, reasoning = _parts(choice.get("message"))
    reason, served = choice.get("finish_reason"), data.get("model")
    return Completion(
        text=text,
        reasoning=reasoning,
        served_model=served if isinstance(served, str) else None,
        finish_reason=reason if isinstance(reason, str) else None,
    )


def usable(completion: Completion, settings: EndpointSettings, name: str) -> Completion:
    """Return the completion if it can be said in a chat, its text without reasoning.

    Raises:
        RequestFailedError: it is filtered, cut off or empty.
    """
    reason = completion.finish_reason
    if reason is None:
        raise RequestFailedError(f"{name} broke the reply off before its end.", retryable=True, unusable=True)
    if reason == "content_filter":
        raise RequestFailedError(f"{name}: the reply was filtered by the provider.", retryable=True, unusable=True)
    if reason == "error":
        raise RequestFailedError(f"{name} ended the reply with an error.", retryable=True, unusable=True)
    said, thoughts = split_thoughts(completion.text)
    for mark in settings.stop or () if reason == "stop" else ():  # `transformers serve` leaves it at the end
        said = said.removesuffix(mark)
    completion.text = _sayable(said).strip()
    completion.reasoning = _whole_characters(completion.reasoning + thoughts)
    completion.served_model = _short(completion.served_model)
    completion.finish_reason = _short(reason)
    if is_blank(completion.text):
        if reason == "length":
            limit = f"all {settings.max_tokens} tokens" if settings.max_tokens else "all tokens that it may"
            raise RequestFailedError(f"{name} used {limit} before it said anything; raise 'max_tokens'.", unusable=True)
        raise RequestFailedError(f"{name} gave an empty reply.", retryable=True, unusable=True)
    return completion


def _sayable(text: str) -> str:
    return _UNSAVEABLE.sub("", _whole_characters(text))


def _short(text: str | None) -> str | None:
    return None if text is None else redacted(_whole_characters(text))[:MAX_NAME_CHARACTERS]


def _whole_characters(text: str) -> str:
    """Join halves of characters, which servers put into two events, and replace those without another half.

    No UTF-8 file holds a half.
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _first_choice(data: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, Mapping) else {}


def _parts(message: object) -> tuple[str, str]:
    """Text and reasoning of a message or a delta; servers call the latter `reasoning_content` or `reasoning`.

    Content that is a list has parts of several types; only `text` and `output_text`, or no type, are for people.
    """
    if not isinstance(message, Mapping):
        return "", ""
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        content = "".join(_text_of(part) for part in parts if part.get("type") in _SAID_TYPES)
        reasoning = reasoning or "".join(_text_of(part) for part in parts if part.get("type") in _REASONING_TYPES)
    return content if isinstance(content, str) else "", reasoning if isinstance(reasoning, str) else ""


def _text_of(part: Mapping[str, Any]) -> str:
    """Return the text of a part, which may be a list of parts itself (Mistral's `thinking`)."""
    text = part.get("text") or part.get("thinking") or part.get("reasoning")
    if isinstance(text, list):
        inner = (each.get("text") for each in text if isinstance(each, Mapping))
        text = "".join(each for each in inner if isinstance(each, str))
    return text if isinstance(text, str) else ""
