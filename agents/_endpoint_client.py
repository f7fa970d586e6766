"""Asking an OpenAI-compatible endpoint for a reply: requests beside each other, retries, deadlines, usage.

All requests of a process run on one event loop in one thread, whatever the number of models. httpx is imported with the
first model.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from model_chat.agents._event_stream import EventTooLargeError, event_data
from model_chat.configuration.redaction import learn_secrets, redacted
from model_chat.errors import ModelFailureError

if TYPE_CHECKING:
    import httpx

    from model_chat.agents.endpoint_settings import EndpointSettings

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before the first retry, and at most before any; each is doubled, and shortened at random by up to a half."""
MAX_REPLIES_ASKED_AGAIN = 2
"""How often a reply is asked for again that came, but is empty, filtered or cut off: each costs tokens."""
MAX_REPLY_CHARACTERS = 200_000
"""A reply that is longer is broken off."""
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_Result = TypeVar("_Result")

Tell = Callable[[str], None]
"""Called with the visible text so far; must not block."""


class _Loop:
    """The event loop of all endpoint requests of the process, started at first use. ``_lock`` guards the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Run a coroutine on the loop; cancelling the future cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="model-endpoints", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


LOOP = _Loop()


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
            if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0:
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
        self.generation: dict[str, Any] = {}
        """What is known of the failed generation, its cost among it."""


class EndpointClient:
    """One model behind an endpoint, shared by all its conversations.

    Everything but :meth:`submit` runs on the thread of :data:`LOOP`, which therefore owns the state.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._http: httpx.AsyncClient | None = None
        self._slots: asyncio.Semaphore | None = None
        self._starts: deque[float] = deque()
        self._max_tokens_field: str = settings.max_tokens_field
        self._asks_for_usage = True
        self.served_models: list[str] = []

    def submit(
        self, messages: Sequence[Mapping[str, Any]], deadline: float, tell: Tell | None = None
    ) -> Future[Completion]:
        """Ask for a reply; cancelling the future closes the connection.

        Args:
            messages: of the chat, as the API has them.
            deadline: on :func:`time.monotonic`'s clock.
            tell: gets the text so far, while it grows.

        Returns:
            a future that may raise :class:`RequestFailedError`.
        """
        return LOOP.submit(self.complete(messages, deadline, tell))

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        deadline: float,
        tell: Tell | None = None,
        attempts: int | None = None,
    ) -> Completion:
        """Ask until a usable reply comes or the deadline is near.

        Raises:
            RequestFailedError: with the reason of the last request.
        """
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._settings.requests_at_once)
        usage, retries, unusable = Usage(), 0, 0
        last: RequestFailedError | None = None
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    async with self._slots:
                        await self._wait_for_the_minute()
                        completion = await self._ask(messages, usage, tell)
            except TimeoutError:
                raise last or RequestFailedError(f"{self._name()} gave no whole reply in time.") from None
            except RequestFailedError as error:
                last = error
                unusable += error.unusable
            else:
                completion.retries = retries
                completion.prompt_tokens, completion.completion_tokens = usage.prompt_tokens, usage.completion_tokens
                self._note_served_model(completion.served_model)
                return completion
            pause = last.retry_after if last.retry_after is not None else _pause(retries)
            if (
                not last.retryable
                or unusable > MAX_REPLIES_ASKED_AGAIN
                or (attempts is not None and retries + 1 >= attempts)
                or time.monotonic() + pause >= deadline
            ):
                last.usage = usage
                raise last
            retries += 1
            logger.info("%s: asked again in %.1f s (%s)", self._name(), pause, last)
            await asyncio.sleep(pause)

    async def _wait_for_the_minute(self) -> None:
        """Keep to ``requests_per_minute``."""
        limit = self._settings.requests_per_minute
        while limit is not None:
            now = time.monotonic()
            while self._starts and now - self._starts[0] >= 60:
                self._starts.popleft()
            if len(self._starts) < limit:
                self._starts.append(now)
                return
            await asyncio.sleep(60 - (now - self._starts[0]))

    async def _ask(self, messages: Sequence[Mapping[str, Any]], usage: Usage, tell: Tell | None) -> Completion:
        import httpx

        client = self._client()
        name, started = self._name(), time.monotonic()
        try:
            async with client.stream("POST", "/chat/completions", json=self._body(messages)) as response:
                if response.status_code != 200:
                    return await self._refused(response, messages, usage, tell)
                if "text/event-stream" in response.headers.get("content-type", ""):
                    completion = await _read_stream(response.aiter_raw(), started, usage, tell)
                else:
                    completion = _read_whole(await _read_limited(response), name, usage)
        except httpx.TimeoutException as error:
            raise RequestFailedError(f"{self._name()} does not answer ({_words(error)}).", retryable=True) from error
        except httpx.TransportError as error:
            certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
            remedy = " (set 'ca_file' for a certificate authority of your own)" if certificate else ""
            raise RequestFailedError(
                f"{self._name()} can't be reached: {_words(error)}{remedy}.", retryable=not certificate
            ) from error
        except EventTooLargeError as error:
            raise RequestFailedError(f"{self._name()}: {error}", retryable=True, unusable=True) from error
        return _usable(completion, self._settings, name)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import ssl

            import httpx

            settings = self._settings
            key = os.environ.get(settings.api_key_env, "").strip() if settings.api_key_env else ""
            headers = {name: os.environ.get(variable, "").strip() for name, variable in settings.headers_env.items()}
            learn_secrets({"api_key": key}, {f"{name}_secret": value for name, value in headers.items()})
            if key:
                headers["Authorization"] = f"Bearer {key}"
            at_once = settings.requests_at_once
            verify = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
            self._http = httpx.AsyncClient(
                base_url=settings.base_url,
                headers=headers,
                # The deadline of the whole is asyncio.timeout's.
                timeout=httpx.Timeout(None, connect=settings.connect_timeout),
                limits=httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once),
                verify=verify,
                # A proxy of the environment is for the world outside; one's own machine is asked directly.
                trust_env=not _is_loopback(settings.base_url),
            )
        return self._http

    def _body(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.endpoint_model, "messages": list(messages)}
        for name in ("temperature", "top_p", "seed", "stop"):
            if getattr(settings, name) is not None:
                body[name] = getattr(settings, name)
        if settings.max_tokens:
            body[self._max_tokens_field] = settings.max_tokens
        if settings.stream:
            body["stream"] = True
            if self._asks_for_usage:
                body["stream_options"] = {"include_usage": True}
        return body | settings.extra_body

    async def _refused(
        self, response: httpx.Response, messages: Sequence[Mapping[str, Any]], usage: Usage, tell: Tell | None
    ) -> Completion:
        """Deal with an answer other than 200: adapt the request once to what the server says, or raise."""
        detail = _detail(await _read_limited(response))
        status = response.status_code
        if status in (400, 422):
            other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[
                self._max_tokens_field
            ]
            if other in detail and self._max_tokens_field == self._settings.max_tokens_field:
                self._max_tokens_field = other
                return await self._ask(messages, usage, tell)
            if "stream_options" in detail and self._asks_for_usage:
                self._asks_for_usage = False
                return await self._ask(messages, usage, tell)
        raise RequestFailedError(
            f"{self._name()} answered {status}{_meaning(status, self._settings)}{f': {detail}' if detail else ''}.",
            retryable=status in RETRIED_STATUSES and response.headers.get("x-should-retry") != "false",
            retry_after=_retry_after(response.headers),
            status=status,
        )

    def _name(self) -> str:
        return f"'{self._settings.endpoint_model}' at {self._settings.base_url}"

    def _note_served_model(self, name: str | None) -> None:
        if name is None or name in self.served_models:
            return
        if self.served_models:
            logger.warning(
                "%s: the server now answers as '%s', and answered as '%s' before; replies of both are in this study.",
                self._name(),
                name,
                self.served_models[-1],
            )
        self.served_models.append(name)


def _pause(retries: int) -> float:
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**retries)
    return longest * random.uniform(0.5, 1)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (RFC 9110, section 10.2.3: seconds or a date)."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - time.time()
    return max(0.0, seconds) if seconds == seconds else None


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_MEANINGS = {402: " (no credit)", 403: " (the key may not use this model)", 404: " (no such model or address)"}


def _meaning(status: int, settings: EndpointSettings) -> str:
    if status == 401:
        if settings.api_key_env is None:
            return " (it wants a key: set 'api_key_env')"
        return f" (the key in {settings.api_key_env} is not accepted)"
    return {402: " (no credit)", 403: " (the key may not use this model)", 404: " (no such model or address)"}.get(
        status, ""
    )


async def _read_limited(response: httpx.Response, limit: int = 4 * MAX_REPLY_CHARACTERS) -> bytes:
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > limit:
            break
    return content


def _detail(content: bytes) -> str:
    """The server's own words in an error, in any of the shapes in use; one line."""
    try:
        data: Any = json.loads(content)
    except ValueError:
        return " ".join(content.decode("utf-8", errors="replace").split())[:200]
    for _ in range(3):
        if isinstance(data, Mapping):
            data = next((data[key] for key in ("error", "message", "detail") if data.get(key)), "")
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return " ".join(text.split())[:300].rstrip(".")


def _first_choice(data: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, Mapping) else {}


def _parts(message: object) -> tuple[str, str]:
    """Text and reasoning of a message or a delta; servers call the latter `reasoning_content` or `reasoning`."""
    if not isinstance(message, Mapping):
        return "", ""
    content = message.get("content")
    if isinstance(content, list):  # parts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return content if isinstance(content, str) else "", reasoning if isinstance(reasoning, str) else ""


@dataclass
class _Reading:
    """A stream as far as it has been read."""

    completion: Completion = field(default_factory=Completion)
    usage: object = None
    is_done: bool = False


async def _read_stream(chunks: AsyncIterator[bytes], started: float, usage: Usage, tell: Tell | None) -> Completion:
    """Read a streamed reply to its end.

    Raises:
        RequestFailedError: the stream holds an error or no JSON.
    """
    reading = _Reading()
    try:
        async for data in event_data(chunks):
            if data == "[DONE]":
                reading.is_done = True
                break
            _take(reading, data, started)
            if tell is not None and reading.completion.text:
                tell(reading.completion.text)
            if len(reading.completion.text) + len(reading.completion.reasoning) > MAX_REPLY_CHARACTERS:
                raise RequestFailedError(
                    f"A reply has more than {MAX_REPLY_CHARACTERS} characters and does not end.", unusable=True
                )
    finally:
        usage.add(reading.usage)
    return reading.completion


def _take(reading: _Reading, data: str, started: float) -> None:
    try:
        event: Any = json.loads(data)
    except ValueError:
        raise RequestFailedError(
            "The endpoint sent an event that is not JSON.", retryable=True, unusable=True
        ) from None
    if not isinstance(event, Mapping):
        return
    if event.get("error") or event.get("object") == "error":
        raise RequestFailedError(
            f"The endpoint broke the reply off: {_detail(data.encode())}.", retryable=True, unusable=True
        )
    completion = reading.completion
    if isinstance(event.get("model"), str):
        completion.served_model = event["model"]
    if event.get("usage"):
        reading.usage = event["usage"]  # the last one counts all tokens
    choice = _first_choice(event)
    text, reasoning = _parts(choice.get("delta") or choice.get("message"))
    if (text or reasoning) and completion.seconds_to_first_token is None:
        completion.seconds_to_first_token = time.monotonic() - started
    completion.text += text
    completion.reasoning += reasoning
    if isinstance(choice.get("finish_reason"), str):
        completion.finish_reason = choice["finish_reason"]


def _read_whole(content: bytes, name: str, usage: Usage) -> Completion:
    try:
        data: Any = json.loads(content)
    except ValueError:
        raise RequestFailedError(f"{name} sent something that is not JSON.", retryable=True, unusable=True) from None
    if not isinstance(data, Mapping) or data.get("error"):
        raise RequestFailedError(f"{name} answered with an error: {_detail(content)}.", retryable=True, unusable=True)
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


def _usable(completion: Completion, settings: EndpointSettings, name: str) -> Completion:
    """Return the completion if it can be said in a chat.

    Raises:
        RequestFailedError: it is filtered, cut off or empty.
    """
    from model_chat.agents._reply_text import without_thoughts

    reason = completion.finish_reason
    if reason is None:
        raise RequestFailedError(f"{name} broke the reply off before its end.", retryable=True, unusable=True)
    if reason == "content_filter":
        raise RequestFailedError(f"{name}: the reply was filtered by the provider.", retryable=True, unusable=True)
    said = without_thoughts(completion.text, begun_inside=False)
    if said != completion.text:
        completion.reasoning += completion.text
    completion.text = said.strip()
    if not any(not sign.isspace() for sign in completion.text):
        if reason == "length":
            raise RequestFailedError(
                f"{name} used all {settings.max_tokens} tokens before it said anything; raise 'max_tokens'.",
                unusable=True,
            )
        raise RequestFailedError(f"{name} gave an empty reply.", retryable=True, unusable=True)
    return completion
