"""Asking the judge: requests beside each other, each answer on disk before it counts, nothing asked twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from model_chat.agents._endpoint_client import LOOP, EndpointClient
from model_chat.agents._endpoint_reply import Completion, RequestFailedError, Usage
from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.scripts._judge_items import Schema
from model_chat.scripts._judge_money import Budget, Entry, JudgeLog, JudgeStoppedError, Meter
from model_chat.scripts._judge_prompt import (
    Filled,
    Messages,
    Questions,
    WrongAnswerError,
    answer_format,
    asked_again,
    read_answer,
)

ANSWER_SECONDS = 600.0
"""Time limit of one answer, with all waiting for a server that is busy."""
ATTEMPTS = 10
"""Requests for one answer, where the endpoint fails."""
MOST_FAILURES = 20
"""Replies in a row that got no answer before the judge is given up."""
NO_RESPONSE_FORMAT = frozenset({400, 404, 415, 422, 501})
"""How servers answer that don't know a field of the request."""
LASTING = frozenset({401, 402, 403, 404})
"""Statuses that every other request would get, too: no key, no credit, no such model."""


@dataclass(frozen=True)
class Prompt:
    """One prompt to be sent.

    Attributes:
        reply: the text of the last message, which quotes are looked up in.
    """

    key: str
    messages: Messages
    questions: Questions
    reply: str


class Asker:
    """Asks one judge.

    The first server that refuses `response_format` is asked without it from then on; :func:`ask_all` waits for the first
    answer before it sends requests beside each other, so this is found out once.

    Args:
        most_usd: what everything in the log may cost; None: no limit.
    """

    def __init__(self, settings: EndpointSettings, log: JudgeLog, most_usd: float | None = None) -> None:
        self.settings = settings
        self.budget = Budget(settings, log, most_usd)
        self._client = EndpointClient(settings.model_copy(update={"stream": False}))
        self._sends_schema = "response_format" not in settings.extra_body
        self._takes_schema = False
        """Whether an answer to a request with a schema has come."""

    async def ask(self, prompt: Prompt) -> Entry:
        """Ask one prompt, and once more after an answer that can't be taken.

        Raises:
            JudgeStoppedError: the endpoint refuses every request, or another one may pass the limit.
        """
        usage, sent, is_final = Usage(), prompt.messages, True
        served: str | None = None
        missing: str | None = None
        filled = Filled()
        schema = {"response_format": answer_format(prompt.questions)}
        meter = Meter(self.budget, len(json.dumps(schema).encode()))
        for _ in range(2):
            try:
                completion = await self._complete(sent, schema, meter, usage)
            except RequestFailedError as error:
                if error.status in LASTING or (error.status == 429 and not error.retryable):
                    raise JudgeStoppedError(str(error)) from error
                missing, is_final = _reason(error), error.unusable
                break
            served = completion.served_model
            try:
                filled, missing = read_answer(completion.text, prompt.questions, prompt.reply), None
                break
            except WrongAnswerError as wrong:
                missing = wrong.reason
                sent = asked_again(prompt.messages, completion.text, wrong, prompt.questions)
        return Entry(
            key=prompt.key,
            boxes=filled.boxes,
            answers=filled.answers,
            ratings=filled.ratings,
            missing=missing,
            is_final=is_final,
            served_model=served,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=meter.cost_usd,
            has_requests=meter.cost_usd is not None,
        )

    async def _complete(self, messages: Messages, schema: Schema, meter: Meter, usage: Usage) -> Completion:
        """Ask for a completion; ``usage`` gets the tokens of all requests."""
        if self._sends_schema:
            try:
                completion = await self._tried(messages, schema, meter, usage)
            except RequestFailedError as refused:
                if self._takes_schema or refused.status not in NO_RESPONSE_FORMAT:
                    raise
            else:
                self._takes_schema = True
                return completion
        completion = await self._tried(messages, {}, meter, usage)
        self._sends_schema = False
        return completion

    async def _tried(self, messages: Messages, more: Schema, meter: Meter, usage: Usage) -> Completion:
        try:
            completion = await self._client.complete(
                messages, time.monotonic() + ANSWER_SECONDS, attempts=ATTEMPTS, meter=meter, more_body=more
            )
        except RequestFailedError as error:
            _add(usage, error.usage.prompt_tokens, error.usage.completion_tokens)
            raise
        _add(usage, completion.prompt_tokens, completion.completion_tokens)
        return completion


def _add(usage: Usage, prompt_tokens: int | None, completion_tokens: int | None) -> None:
    usage.add({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens})


def _reason(error: RequestFailedError) -> str:
    """What a reply without an answer is counted under."""
    if error.unusable:
        return "no_usable_reply"
    return "no_answer" if error.status is None else f"status_{error.status}"


def ask_all(asker: Asker, log: JudgeLog, prompts: Iterable[Prompt], done: Callable[[], None] = lambda: None) -> None:
    """Ask about everything that the log has no answer to; every answer is in the log as soon as it is there.

    Args:
        prompts: may hold a key twice.

    Raises:
        JudgeStoppedError: the limit is reached, or the endpoint does not answer.
        OSError: the log can't be written.
    """
    asking: dict[Future[Entry], str] = {}
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
        for prompt in prompts:
            if log.is_answered(prompt.key) or prompt.key in asking.values():
                continue
            while len(asking) >= (asker.settings.requests_at_once if has_answered else 1):
                collect()
            if not log.is_answered(prompt.key):  # the same prompt may have been answered while we waited
                asking[LOOP.submit(asker.ask(prompt))] = prompt.key
        while asking:
            collect()
    except JudgeStoppedError:
        _collect_rest(asking, log, done)
        raise
    finally:
        for future in asking:
            future.cancel()


def _collect_rest(asking: dict[Future[Entry], str], log: JudgeLog, done: Callable[[], None]) -> None:
    """Save the answers that are still to come: they are being paid for."""
    for future in list(asking):
        try:
            log.add(future.result())
        except JudgeStoppedError:
            pass
        else:
            done()
        del asking[future]
