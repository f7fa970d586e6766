"""Asking the judge: requests beside each other, each answer on disk before it counts, nothing asked twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from model_chat.agents._endpoint_client import LOOP, EndpointClient
from model_chat.agents._endpoint_reply import Completion, RequestFailedError, Usage
from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.errors import ModelChatError
from model_chat.records.append_only_log import AppendOnlyLog
from model_chat.scripts._judge_prompt import (
    Messages,
    WrongAnswerError,
    answer_format,
    asked_again,
    estimated_answer_tokens,
    estimated_tokens,
    read_answer,
)
from model_chat.serving.spend import dollars

ANSWER_SECONDS = 600.0
"""Time limit of one answer, with all waiting for a server that is busy."""
ATTEMPTS = 10
"""Requests for one answer, where the endpoint fails."""
MOST_FAILURES = 20
"""Replies in a row that got no answer before the judge is given up."""
TOKENS_WITHOUT_LIMIT = 4_000
"""For estimates: of an answer where `max_tokens` is 0."""
NO_RESPONSE_FORMAT = frozenset({400, 404, 415, 422, 501})
"""How servers answer that don't know a field of the request."""
LASTING = frozenset({401, 402, 403, 404})
"""Statuses that every other request would get, too: no key, no credit, no such model."""


class JudgeStoppedError(ModelChatError):
    """No more is asked; what was answered is saved."""


class Entry(BaseModel):
    """One answer, as the log has it."""

    key: str
    """Hash of the prompt."""
    boxes: dict[str, bool] | None = None
    missing: str | None = None
    """Why there are no boxes."""
    is_final: bool = True
    """Whether it is not to be asked again: an answer came, if no good one."""
    served_model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class JudgeLog:
    """Every answer so far, by its key; used by one thread.

    Args:
        path: the log's file, which need not exist.
        again: whether prompts without a usable answer count as not asked.
    """

    def __init__(self, path: Path, again: bool = False) -> None:
        self._log = AppendOnlyLog(path)
        self._entries: dict[str, Entry] = {}
        self.spent_usd = 0.0
        """Of all answers and failures in the log."""
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError:
                continue  # half a line, which a power cut has left
            entry.is_final = entry.boxes is not None or (entry.is_final and not again)
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self.spent_usd += entry.cost_usd or 0.0

    def answer(self, key: str) -> Entry | None:
        """Return the last answer or failure of a prompt."""
        return self._entries.get(key)

    def is_answered(self, key: str) -> bool:
        """Whether a prompt is not to be asked again."""
        entry = self._entries.get(key)
        return entry is not None and entry.is_final

    def add(self, entry: Entry) -> None:
        """Save an answer; it is on disk when this returns.

        Raises:
            OSError: it can't be written.
        """
        self._log.append_lines(entry.model_dump_json().encode() + b"\n", durable=True)
        self._take(entry)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


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


class Asker:
    """Asks one judge about replies, with one set of boxes.

    The first server that refuses `response_format` is asked without it from then on; :func:`ask_all` waits for the first
    answer before it sends requests beside each other, so this is found out once.
    """

    def __init__(self, settings: EndpointSettings, boxes: AnnotationsConfig) -> None:
        self.settings = settings
        self.boxes = boxes
        self.prices = Prices.of(settings)
        plain = settings.model_copy(update={"stream": False})
        self._plain = EndpointClient(plain)
        self._client: EndpointClient | None = self._plain if "response_format" in settings.extra_body else None
        body = {**settings.extra_body, "response_format": answer_format(boxes)}
        self._with_schema = EndpointClient(plain.model_copy(update={"extra_body": body}))

    def expected_cost(self, messages: Messages) -> float | None:
        """US dollars that an answer is likely to cost; None without prices."""
        return self.prices.cost(estimated_tokens(messages), estimated_answer_tokens(self.boxes))

    def highest_cost(self, messages: Messages) -> float:
        """US dollars that an answer may cost when it is asked for twice; 0 without prices."""
        longest = self.settings.max_tokens or TOKENS_WITHOUT_LIMIT
        return self.prices.cost(2 * estimated_tokens(messages) + longest, 2 * longest) or 0.0

    async def ask(self, key: str, messages: Messages) -> Entry:
        """Ask about one reply, and once more after an answer that can't be taken.

        Raises:
            JudgeStoppedError: the endpoint refuses every request.
        """
        usage, sent, is_final = Usage(), messages, True
        served: str | None = None
        missing: str | None = None
        boxes: dict[str, bool] | None = None
        for _ in range(2):
            try:
                completion = await self._complete(sent, usage)
            except RequestFailedError as error:
                if error.status in LASTING or (error.status == 429 and not error.retryable):
                    raise JudgeStoppedError(str(error)) from error
                missing, is_final = _reason(error), error.unusable
                break
            served = completion.served_model
            try:
                boxes, missing = read_answer(completion.text, self.boxes), None
                break
            except WrongAnswerError as wrong:
                missing = wrong.reason
                sent = asked_again(messages, completion.text, wrong, self.boxes)
        return Entry(
            key=key,
            boxes=boxes,
            missing=missing,
            is_final=is_final,
            served_model=served,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=self._cost(usage, messages, answered=served is not None or boxes is not None),
        )

    async def _complete(self, messages: Messages, usage: Usage) -> Completion:
        """Ask for a completion; ``usage`` gets the tokens of all requests."""
        client = self._client or self._with_schema
        try:
            completion = await self._tried(client, messages, usage)
        except RequestFailedError as refused:
            if self._client is not None or refused.status not in NO_RESPONSE_FORMAT:
                raise
            client = self._plain
            completion = await self._tried(client, messages, usage)
        self._client = client
        return completion

    async def _tried(self, client: EndpointClient, messages: Messages, usage: Usage) -> Completion:
        try:
            completion = await client.complete(messages, time.monotonic() + ANSWER_SECONDS, attempts=ATTEMPTS)
        except RequestFailedError as error:
            _add(usage, error.usage.prompt_tokens, error.usage.completion_tokens)
            raise
        _add(usage, completion.prompt_tokens, completion.completion_tokens)
        return completion

    def _cost(self, usage: Usage, messages: Messages, answered: bool) -> float | None:
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return self.expected_cost(messages) if answered else self.prices.cost(0, 0)
        return self.prices.cost(usage.prompt_tokens or 0, usage.completion_tokens or 0)


def _add(usage: Usage, prompt_tokens: int | None, completion_tokens: int | None) -> None:
    usage.add({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens})


def _reason(error: RequestFailedError) -> str:
    """What a reply without an answer is counted under."""
    if error.unusable:
        return "no_usable_reply"
    return "no_answer" if error.status is None else f"status_{error.status}"


def ask_all(
    asker: Asker,
    log: JudgeLog,
    prompts: Iterable[tuple[str, Messages]],
    most_usd: float | None = None,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Ask about everything that the log has no answer to; every answer is in the log as soon as it is there.

    Args:
        asker: the judge.
        log: gets the answers.
        prompts: key and messages of each; may hold a key twice.
        most_usd: what everything in the log may cost; nothing is asked that may exceed it.
        done: called after each answer.

    Raises:
        JudgeStoppedError: the limit is reached, or the endpoint does not answer.
        OSError: the log can't be written.
    """
    asking: dict[Future[Entry], tuple[str, float]] = {}
    failed_in_a_row, has_answered = 0, False

    def collect() -> None:
        """Wait for an answer, and save every one that is there."""
        nonlocal failed_in_a_row, has_answered
        finished, _ = wait(asking, return_when=FIRST_COMPLETED)
        stopped: JudgeStoppedError | None = None
        for future in finished:
            del asking[future]
            try:
                entry = future.result()
            except JudgeStoppedError as error:
                stopped = error  # the others that are there have been paid for
                continue
            log.add(entry)
            has_answered = True
            failed_in_a_row = 0 if entry.is_final else failed_in_a_row + 1
            done()
            if failed_in_a_row >= MOST_FAILURES:
                stopped = JudgeStoppedError(
                    f"the endpoint has failed for {failed_in_a_row} replies in a row (the last: {entry.missing})"
                )
        if stopped is not None:
            raise stopped

    try:
        for key, messages in prompts:
            if log.is_answered(key) or any(key == other for other, _ in asking.values()):
                continue
            while len(asking) >= (asker.settings.requests_at_once if has_answered else 1):
                collect()
            highest = asker.highest_cost(messages)
            if most_usd is not None:
                while asking and log.spent_usd + sum(cost for _, cost in asking.values()) + highest > most_usd:
                    collect()
                if log.spent_usd + highest > most_usd:
                    raise JudgeStoppedError(
                        f"{dollars(log.spent_usd)} of the {dollars(most_usd)} of --max-spend-usd is spent, and the next "
                        f"answer may cost {dollars(highest)}"
                    )
            if not log.is_answered(key):  # the same prompt may have been answered while we waited
                asking[LOOP.submit(asker.ask(key, messages))] = key, highest
        while asking:
            collect()
    except JudgeStoppedError:
        _collect_rest(asking, log, done)
        raise
    finally:
        for future in asking:
            future.cancel()


def _collect_rest(asking: dict[Future[Entry], tuple[str, float]], log: JudgeLog, done: Callable[[], None]) -> None:
    """Save the answers that are still to come: they are being paid for."""
    for future in list(asking):
        try:
            log.add(future.result())
        except JudgeStoppedError:
            pass
        else:
            done()
        del asking[future]
