"""Asking an OpenAI-compatible endpoint for a reply: requests beside each other, retries, deadlines, usage.

All requests of a process run on one event loop in one thread, whatever the number of models. httpx is imported with the
first model.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from model_chat.agents._endpoint_connection import EndpointConnection
from model_chat.agents._endpoint_reply import (
    MAX_REPLY_CHARACTERS,
    Completion,
    RequestFailedError,
    Tell,
    Usage,
    error_detail,
    read_stream,
    read_whole,
    usable,
)
from model_chat.agents._event_stream import EventTooLargeError
from model_chat.agents._gathered_reads import GatheredReads
from model_chat.agents._reply_text import begins_inside_thoughts
from model_chat.configuration.http import is_loopback, retry_after
from model_chat.configuration.redaction import learn_secrets

if TYPE_CHECKING:
    import httpx

    from model_chat.agents.endpoint_settings import EndpointSettings

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before the first retry, and at most before any; each is doubled, and shortened at random by up to a half."""
RETRY_AFTER_JITTER = 0.25
"""Part of the wait that a server asks for by which it is lengthened at random, so that not all come back at once."""
MAX_REPLIES_ASKED_AGAIN = 2
"""How often a reply is asked for again that came, but is empty, filtered or cut off: each costs tokens."""
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
NO_CREDIT = ("insufficient_quota", "exceeded your current quota")
"""What providers say in a 429 that waiting doesn't help against."""
OTHER_MAX_TOKENS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_Result = TypeVar("_Result")
Answer = Completion | RequestFailedError
"""What one request brings: a reply, or the error that stands for an answer other than 200."""


class RequestMeter(Protocol):
    """Is asked before each single HTTP request, and told what became of it: for limits that no request may pass."""

    async def send(
        self, messages: Sequence[Mapping[str, Any]], request: Callable[[Usage], Awaitable[Answer]]
    ) -> Answer:
        """Send one request by awaiting ``request``, which adds what it has used to the usage that it is given.

        Args:
            messages: that are sent.
            request: raises :class:`RequestFailedError` where no answer came, or one that can't be read.
        """


class _Loop:
    """The event loop of all endpoint requests of the process, started at first use. ``_lock`` guards the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reads = GatheredReads()

    def submit(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Run a coroutine on the loop; cancelling the future cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="model-endpoints", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


LOOP = _Loop()


@dataclass(frozen=True)
class _Dialect:
    """What a server wants to be asked in another way than most."""

    max_tokens_field: str
    asks_for_usage: bool = True


class EndpointClient:
    """One model behind an endpoint, shared by all its conversations.

    Everything but :meth:`submit` runs on the thread of :data:`LOOP`, which therefore owns the state. Each request that runs
    has an HTTP client to itself, with one connection that is kept for the next: the work of httpx's pool of connections
    grows with the cube of their number when many are free at the same time.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._free: list[tuple[httpx.AsyncClient, EndpointConnection]] = []
        self._make_client: Callable[[], httpx.AsyncClient] | None = None
        self._address: httpx.URL | str = ""
        self._slots: asyncio.Semaphore | None = None
        self._starts: deque[float] = deque()
        self._dialect = _Dialect(settings.max_tokens_field)
        self.served_models: list[str] = []
        self._begins_inside_thoughts = False
        """Seen in a reply, that to the request before the launch included: then only what follows the tag is told."""

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
        meter: RequestMeter | None = None,
        more_body: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Ask until a usable reply comes or the deadline is near.

        Args:
            messages: of the chat, as the API has them.
            deadline: on :func:`time.monotonic`'s clock.
            tell: gets the text so far, while it grows; an attempt that fails is followed by a text that begins anew.
            attempts: requests at most; None: as many as the deadline allows.
            meter: through which each single request is sent; what it raises ends the asking.
            more_body: further fields of the request, beside those of the settings.

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
                        completion = await self._ask(messages, usage, tell, meter, more_body or {})
            except TimeoutError:
                before = f"; before, {last}" if last is not None else "."
                last = RequestFailedError(f"{self._name()} gave no whole reply in time{before}")
            except RequestFailedError as error:
                last = error
                unusable += error.unusable
            else:
                completion.retries = retries
                completion.prompt_tokens, completion.completion_tokens = usage.prompt_tokens, usage.completion_tokens
                self._note_served_model(completion.served_model)
                return completion
            pause = _pause(retries)
            if last.retry_after:  # a server that says 0 seconds, or a date that is over, would be asked without a pause
                pause = last.retry_after * random.uniform(1, 1 + RETRY_AFTER_JITTER)
            if (
                not last.retryable
                or unusable > MAX_REPLIES_ASKED_AGAIN
                or (attempts is not None and retries + 1 >= attempts)
                or time.monotonic() + pause >= deadline
            ):
                last.usage, last.retries = usage, retries
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

    async def _ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        usage: Usage,
        tell: Tell | None,
        meter: RequestMeter | None,
        more_body: Mapping[str, Any],
    ) -> Completion:
        """Ask once, and again at once in another dialect where the server refuses a field of the request.

        A dialect is kept for later requests when it has brought an answer.

        Raises:
            RequestFailedError: see :meth:`complete`.
        """
        dialect, tried = self._dialect, set[_Dialect]()
        while True:
            send = partial(self._send, {**self._body(messages, dialect), **more_body}, tell=tell)
            answer = await (send(usage) if meter is None else _metered(meter, messages, send, usage))
            if isinstance(answer, Completion):
                self._dialect = dialect
                self._begins_inside_thoughts |= begins_inside_thoughts(answer.text)
                return usable(answer, self._settings, self._name())
            tried.add(dialect)
            other = self._other_dialect(dialect, answer)
            if other is None or other in tried:
                raise answer
            dialect = other

    def _other_dialect(self, dialect: _Dialect, refused: RequestFailedError) -> _Dialect | None:
        if refused.status not in (400, 422):
            return None
        if "stream_options" in str(refused) and dialect.asks_for_usage:
            return _Dialect(dialect.max_tokens_field, asks_for_usage=False)
        if dialect.max_tokens_field in str(refused) and self._settings.max_tokens:
            return _Dialect(OTHER_MAX_TOKENS[dialect.max_tokens_field], dialect.asks_for_usage)
        return None

    async def _send(self, body: Mapping[str, Any], usage: Usage, tell: Tell | None) -> Answer:
        """Send one request.

        Returns:
            what came, or the error that stands for an answer other than 200.

        Raises:
            RequestFailedError: no answer came, or one that can't be read.
        """
        import httpx

        name, started = self._name(), time.monotonic()
        try:
            with self._client() as (client, connection):
                extensions = {"trace": connection.trace}
                async with client.stream("POST", self._address, json=body, extensions=extensions) as response:
                    if response.status_code != 200:
                        return self._refusal(response, error_detail(await _read_limited(response)))
                    if "text/event-stream" in response.headers.get("content-type", "").lower():
                        return await read_stream(
                            response.aiter_bytes(),
                            name,
                            started,
                            usage,
                            tell,
                            self._begins_inside_thoughts,
                            gather=connection.gather,
                        )
                    return read_whole(await _read_limited(response), name, usage)
        except httpx.TimeoutException as error:
            raise RequestFailedError(f"{name} does not answer ({_words(error)}).", retryable=True) from error
        except httpx.HTTPError as error:
            lasting = _tls_fault(error)
            raise RequestFailedError(
                f"{name} can't be reached: {_words(error)}{lasting}.", retryable=not lasting
            ) from error
        except EventTooLargeError as error:
            raise RequestFailedError(f"{name}: {error}", retryable=True, unusable=True) from error

    @contextmanager
    def _client(self) -> Iterator[tuple[httpx.AsyncClient, EndpointConnection]]:
        """Lend a client: the one that was used last, whose connection is most likely still open, or a new one."""
        if self._make_client is None:
            self._make_client = self._client_maker()
        lent = self._free.pop() if self._free else (self._make_client(), EndpointConnection(LOOP.reads))
        try:
            yield lent
        finally:
            self._free.append(lent)

    def _client_maker(self) -> Callable[[], httpx.AsyncClient]:
        """Return what makes clients; certificates are read once."""
        import httpx

        settings = self._settings
        headers = settings.headers()
        learn_secrets({f"{name}_secret": value.removeprefix("Bearer ") for name, value in headers.items()})
        self._address = httpx.URL(f"{settings.base_url.rstrip('/')}/chat/completions")  # parsed once
        # A proxy of the environment is for the world outside; one's own machine is asked directly.
        trust_env = not is_loopback(urlsplit(settings.base_url).hostname or "")
        return partial(
            httpx.AsyncClient,
            headers=headers,
            # The deadline of the whole is asyncio.timeout's.
            timeout=httpx.Timeout(None, connect=settings.connect_timeout, read=settings.read_timeout),
            verify=settings.tls_context() or httpx.create_ssl_context(trust_env=trust_env),
            trust_env=trust_env,
        )

    def _body(self, messages: Sequence[Mapping[str, Any]], dialect: _Dialect) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.endpoint_model, "messages": list(messages)}
        for name in ("temperature", "top_p", "seed", "stop"):
            if getattr(settings, name) is not None:
                body[name] = getattr(settings, name)
        if settings.max_tokens:
            body[dialect.max_tokens_field] = settings.max_tokens
        if settings.stream:
            body["stream"] = True
            if dialect.asks_for_usage:
                body["stream_options"] = {"include_usage": True}
        return body | settings.extra_body

    def _refusal(self, response: httpx.Response, detail: str) -> RequestFailedError:
        """Return the error that an answer other than 200 stands for."""
        status = response.status_code
        no_credit = status == 429 and any(words in detail for words in NO_CREDIT)
        meaning = _meaning(402 if no_credit else status, self._settings)
        return RequestFailedError(
            f"{self._name()} answered {status}{meaning}{f': {detail}' if detail else ''}.",
            retryable=status in RETRIED_STATUSES
            and not no_credit
            and response.headers.get("x-should-retry") != "false",
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


async def _metered(
    meter: RequestMeter,
    messages: Sequence[Mapping[str, Any]],
    send: Callable[[Usage], Awaitable[Answer]],
    usage: Usage,
) -> Answer:
    """Send one request through the meter, which is told of this request's tokens alone."""
    own = Usage()

    async def request(used: Usage) -> Answer:
        nonlocal own
        own = used
        return await send(used)

    try:
        return await meter.send(messages, request)
    finally:
        usage.add({"prompt_tokens": own.prompt_tokens, "completion_tokens": own.completion_tokens})


def _pause(retries: int) -> float:
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(retries, 10))
    return longest * random.uniform(0.5, 1)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After``."""
    try:
        milliseconds = float(headers["retry-after-ms"])
        if milliseconds == milliseconds:
            return max(0.0, milliseconds / 1000)
    except (KeyError, ValueError):
        pass
    return retry_after(headers)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _tls_fault(error: BaseException) -> str:
    """Say what to do about a fault of TLS that no later request gets around; "" for any other error."""
    import ssl

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return " (set 'ca_file' for a certificate authority of your own)"
    if isinstance(cause, ssl.SSLError) and cause.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
    ):
        return " (the server does not speak TLS; is 'base_url' to begin with http://?)"
    return ""


_MEANINGS = {402: " (no credit)", 403: " (the key may not use this model)", 404: " (no such model or address)"}


def _meaning(status: int, settings: EndpointSettings) -> str:
    if status == 401:
        if settings.api_key_env is None:
            return " (it wants a key: set 'api_key_env')"
        return f" (the key in {settings.api_key_env} is not accepted)"
    if 300 <= status < 400:
        return " (it names another address: set 'base_url' to that)"
    return _MEANINGS.get(status, "")


async def _read_limited(response: httpx.Response, limit: int = 4 * MAX_REPLY_CHARACTERS) -> bytes:
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > limit:
            break
    return content
