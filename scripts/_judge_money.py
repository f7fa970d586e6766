"""What a judge costs: the log of answers and money, and the limit that no request may pass.

The most that a request may cost is reserved, on disk, before it is sent, and replaced by its cost afterwards. Check and
reservation happen under one lock; requests that were in progress when a run died keep their reservation. So what all runs
into a folder have cost is never more than the limit, as long as the server keeps to `max_tokens` and counts no more tokens
than its tokenizer can make of the bytes of a prompt.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_chat.agents._endpoint_client import Answer
from model_chat.agents._endpoint_reply import Completion, RequestFailedError, Usage
from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.errors import ModelChatError
from model_chat.records.append_only_log import AppendOnlyLog
from model_chat.scripts._judge_prompt import TOKENS_PER_MESSAGE, estimated_tokens
from model_chat.serving.spend import dollars

TOKENS_WITHOUT_LIMIT = 4_000
"""For estimates: of an answer where `max_tokens` is 0."""
MOST_TOKENS_PER_MESSAGE = 32
"""What a server adds to each message at most: its role, and marks around it."""
ANSWER_LIMITS = ("max_tokens", "max_completion_tokens")
"""Fields of a request that limit its answer."""


class JudgeStoppedError(ModelChatError):
    """No more is asked; what was answered is saved."""


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens; None where the settings don't say."""

    prompt: float | None
    answer: float | None

    @classmethod
    def of(cls, settings: EndpointSettings) -> Prices:
        """Return those of a model's settings."""
        return cls(settings.usd_per_million_input_tokens, settings.usd_per_million_output_tokens)

    def cost(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """US dollars; None where no price is known."""
        if self.prompt is None and self.answer is None:
            return None
        return (prompt_tokens * (self.prompt or 0.0) + answer_tokens * (self.answer or 0.0)) / 1e6


def answer_limit(settings: EndpointSettings) -> int:
    """Tokens that an answer may have; 0 where the settings give no limit."""
    given = [settings.extra_body[name] for name in ANSWER_LIMITS if name in settings.extra_body]
    limits = [value for value in given if isinstance(value, int) and not isinstance(value, bool) and value > 0]
    if len(limits) < len(given):
        return 0
    return max([settings.max_tokens, *limits]) if settings.max_tokens or limits else 0


_Number = Annotated[int, Field(ge=0, le=2**53)]
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Entry(_Line):
    """One answer, as the log has it."""

    key: str
    """Hash of the prompt."""
    boxes: dict[str, bool] | None = None
    answers: dict[str, Any] | None = None
    """To items of the study flow."""
    ratings: list[int] | None = None
    missing: str | None = None
    """Why there is nothing of these."""
    is_final: bool = True
    """Whether it is not to be asked again: an answer came, if no good one."""
    served_model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: _Dollars | None = None
    has_requests: bool = False
    """Whether its requests have lines of their own, which count in place of `cost_usd`."""

    @property
    def is_answered(self) -> bool:
        """Whether a usable answer came."""
        return self.missing is None


class Reserved(_Line):
    """A request is about to be sent."""

    event: Literal["request"] = "request"
    request: _Number
    most_usd: _Dollars


class Settled(_Line):
    """What became of a request."""

    event: Literal["settled"] = "settled"
    request: _Number
    cost_usd: _Dollars
    """As far as it is known, or estimated."""
    most_usd: _Dollars
    """The most that it may have cost: more than `cost_usd` where the server counted no tokens, or no answer came."""


_EVENTS: dict[str, type[Reserved] | type[Settled]] = {"request": Reserved, "settled": Settled}


class JudgeLog:
    """Every answer and request so far. Thread-safe: ``_lock`` guards the file and all that is known of it.

    Args:
        path: the log's file, which need not exist.
        again: whether prompts without a usable answer count as not asked.
    """

    def __init__(self, path: Path, again: bool = False) -> None:
        self._lock = threading.Lock()
        self._log = AppendOnlyLog(path)
        self._entries: dict[str, Entry] = {}
        self._reserved: dict[int, float] = {}
        """Request -> the most that it may cost; those that nobody has settled."""
        self._spent = self._most = 0.0
        """US dollars of what is settled: as far as known, and at most."""
        last = 0
        for line in path.read_bytes().splitlines() if path.exists() else ():
            read = _line(line)
            if isinstance(read, Entry):
                read.is_final = read.is_answered or (read.is_final and not again)
                self._take(read)
            elif isinstance(read, Reserved):
                self._reserved[read.request] = read.most_usd
            elif isinstance(read, Settled):
                self._settle(read)
            last = max(last, getattr(read, "request", 0))
        self._numbers = count(last + 1)

    def _take(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        if not entry.has_requests:
            self._spent += entry.cost_usd or 0.0
            self._most += entry.cost_usd or 0.0

    def _settle(self, settled: Settled) -> None:
        self._reserved.pop(settled.request, None)
        self._spent += settled.cost_usd
        self._most += settled.most_usd

    @property
    def spent_usd(self) -> float:
        """US dollars of all requests that are settled."""
        with self._lock:
            return self._spent

    @property
    def most_usd(self) -> float:
        """US dollars that all requests may have cost or may still cost, those in progress included."""
        with self._lock:
            return self._most_usd()

    def _most_usd(self) -> float:
        return self._most + sum(self._reserved.values())

    def answer(self, key: str) -> Entry | None:
        """Return the last answer or failure of a prompt."""
        with self._lock:
            return self._entries.get(key)

    def is_answered(self, key: str) -> bool:
        """Whether a prompt is not to be asked again."""
        entry = self.answer(key)
        return entry is not None and entry.is_final

    def add(self, entry: Entry) -> None:
        """Save an answer; it is on disk when this returns.

        Raises:
            OSError: it can't be written.
        """
        with self._lock:
            self._log.append_lines(_bytes(entry), durable=True)
            self._take(entry)

    def reserve(self, most_usd: float, limit: float | None) -> int | None:
        """Reserve what a request may cost; it is on disk when this returns.

        Returns:
            the request's number; None where it may pass the limit, and then nothing is reserved.

        Raises:
            OSError: it can't be written, and is not reserved.
        """
        with self._lock:
            if limit is not None and self._most_usd() + most_usd > limit:
                return None
            number = next(self._numbers)
            self._log.append_lines(_bytes(Reserved(request=number, most_usd=most_usd)), durable=True)
            self._reserved[number] = most_usd
            return number

    def settle(self, request: int, cost_usd: float, most_usd: float) -> None:
        """Replace a reservation by what the request has cost.

        A line that a power cut takes leaves the reservation, which is not less.

        Raises:
            OSError: it can't be written; the reservation stays.
        """
        settled = Settled(request=request, cost_usd=cost_usd, most_usd=most_usd)
        with self._lock:
            self._log.append_lines(_bytes(settled), durable=False)
            self._settle(settled)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._log.close()


def _line(line: bytes) -> Entry | Reserved | Settled | None:
    """Read a line of the log; None for half a line, which a power cut has left."""
    try:
        loaded = orjson.loads(line)
        if not isinstance(loaded, dict):
            return None
        event = loaded.get("event")
        kind = Entry if event is None else _EVENTS.get(str(event))
        return None if kind is None else kind.model_validate(loaded)
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _bytes(line: _Line) -> bytes:
    return line.model_dump_json(exclude_defaults=isinstance(line, Entry)).encode() + b"\n"


class Budget:
    """Pays for requests: reserves before each what it may cost, and waits, or refuses it, where that may pass the limit.

    Used on the event loop of the endpoints alone, and without prices it counts nothing.

    Args:
        limit: US dollars that all requests in the log may cost; None: no limit.
    """

    def __init__(self, settings: EndpointSettings, log: JudgeLog, limit: float | None) -> None:
        self.prices = Prices.of(settings)
        self.limit = limit
        self._log = log
        self._extra = len(json.dumps(settings.extra_body).encode())
        self._answer = answer_limit(settings) or TOKENS_WITHOUT_LIMIT
        self._in_progress = 0
        self._settled = asyncio.Event()

    def highest_cost(self, messages: Sequence[Mapping[str, Any]], more_bytes: int = 0) -> float:
        """US dollars that one request may cost: a token for each byte sent, and as many of the answer as there may be.

        Args:
            more_bytes: of what is sent beside them, such as the format of the answer.
        """
        prompt = sum(len(str(message["content"]).encode("utf-8", "replace")) for message in messages)
        prompt += self._extra + more_bytes + MOST_TOKENS_PER_MESSAGE * (len(messages) + 1)
        return self.prices.cost(prompt, self._answer) or 0.0

    async def reserve(self, most_usd: float) -> int:
        """Reserve what a request may cost, when those in progress leave enough.

        Raises:
            JudgeStoppedError: it may pass the limit, and none is in progress whose end could change that.
            OSError: the log can't be written.
        """
        while (request := self._log.reserve(most_usd, self.limit)) is None:
            if not self._in_progress:
                raise JudgeStoppedError(
                    f"{dollars(self._log.most_usd)} of the {dollars(self.limit or 0.0)} of --max-spend-usd is spent, and "
                    f"the next request may cost {dollars(most_usd)}"
                )
            self._settled.clear()
            await self._settled.wait()
        self._in_progress += 1
        return request

    def settle(self, request: int, cost_usd: float, most_usd: float) -> None:
        """Say what a request has cost."""
        try:
            self._log.settle(request, cost_usd, most_usd)
        finally:
            self._in_progress -= 1
            self._settled.set()


class Meter:
    """Pays for the requests about one prompt (:class:`~model_chat.agents._endpoint_client.RequestMeter`).

    Args:
        more_bytes: see :meth:`Budget.highest_cost`.

    Attributes:
        cost_usd: of the requests so far, as far as known or estimated; None without prices.
    """

    def __init__(self, budget: Budget, more_bytes: int = 0) -> None:
        self._budget = budget
        self._more_bytes = more_bytes
        self.cost_usd = budget.prices.cost(0, 0)

    async def send(
        self, messages: Sequence[Mapping[str, Any]], request: Callable[[Usage], Awaitable[Answer]]
    ) -> Answer:
        """Send one request, when there is money for it.

        Raises:
            JudgeStoppedError: there is none.
        """
        usage = Usage()
        if self.cost_usd is None:
            return await request(usage)
        highest = self._budget.highest_cost(messages, self._more_bytes)
        number = await self._budget.reserve(highest)
        cost, most = 0.0, highest  # who is cancelled while a request runs may have to pay for it
        try:
            answer = await request(usage)
            cost, most = self._paid(messages, usage, answer, highest)
            return answer
        except RequestFailedError as error:
            cost, most = self._paid(messages, usage, error, highest)
            raise
        finally:
            self.cost_usd += cost
            self._budget.settle(number, cost, most)

    def _paid(
        self, messages: Sequence[Mapping[str, Any]], usage: Usage, answer: Answer, highest: float
    ) -> tuple[float, float]:
        """What a request has cost, and may have cost."""
        prices = self._budget.prices
        prompt, written = usage.prompt_tokens, usage.completion_tokens
        if prompt is not None and written is not None:
            known = prices.cost(prompt, written) or 0.0
            return known, known
        if isinstance(answer, RequestFailedError) and (answer.status is not None or _was_never_sent(answer)):
            return 0.0, 0.0  # nobody bills an error status
        if isinstance(answer, Completion):
            prompt = estimated_tokens(messages) if prompt is None else prompt
            text = answer.text + answer.reasoning
            written = (len(text.encode()) // 4 + TOKENS_PER_MESSAGE) if written is None else written
        estimate = prices.cost(prompt or 0, written or 0) or 0.0
        return estimate, max(estimate, highest)


def _was_never_sent(error: RequestFailedError) -> bool:
    import httpx

    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
