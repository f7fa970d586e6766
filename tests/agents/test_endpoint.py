"""Models behind an OpenAI-compatible endpoint, against a real HTTP server that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from parlai.core.message import Message

from model_chat.agents import _endpoint_client, _endpoint_reply
from model_chat.agents._gathering_selector import GatheringSelector
from model_chat.bot_agent import BotAgent
from model_chat.errors import ConfigurationError, ModelFailureError
from model_chat.records.schema import Generation
from model_chat.serving.catalogue import ModelSource, models_in_folder, models_in_opt_file, opt_faults
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.model import StoppedError
from model_chat.serving.opt_export import exportable_opt
from model_chat.serving.pool import ModelPool
from model_chat.tests.endpoint_server import (
    EndpointServer,
    Exchange,
    endless,
    events,
    hang_up,
    kept_open,
    reply,
    serving,
    silent,
    status,
    text_event,
)

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setattr(_endpoint_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("TEST_ENDPOINT_KEY", KEY)
    with serving() as running:
        yield running


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event that brings something new is told, without a pause."""
    monkeypatch.setattr(_endpoint_reply, "SECONDS_BETWEEN_TELLING", 0.0)


def make(server: EndpointServer, **settings: Any) -> LoadedModel:
    given = {"base_url": server.url, "endpoint_model": "asked-model", "api_key_env": "TEST_ENDPOINT_KEY", **settings}
    return load_model(ModelSource("m", endpoint=given), False)


def say(model: LoadedModel, text: str = "Hi!", seconds: float = 20, **more: Any) -> dict[str, Any]:
    pool = ModelPool([model], 1, seconds)
    try:
        act = pool.reply("m", model.clone(), [heard(text)], **more)
        return {**act, "generation": act["generation"].model_dump()}
    finally:
        pool.shutdown()


def heard(text: str, **more: Any) -> Message:
    return Message({"id": "Speaker 1", "text": text, "episode_done": False, **more})


def failure(model: LoadedModel, seconds: float = 20) -> str:
    with pytest.raises(ModelFailureError) as raised:
        say(model, seconds=seconds)
    return str(raised.value)


def test_a_reply_comes_with_what_is_known_of_it(server: EndpointServer) -> None:
    act = say(make(server, usd_per_million_input_tokens=100, usd_per_million_output_tokens=1000.0))
    assert act["text"] == "Hello there."
    generation = act["generation"]
    assert generation["served_model"] == "served-model"
    assert generation["finish_reason"] == "stop"
    assert (generation["prompt_tokens"], generation["completion_tokens"], generation["retries"]) == (10, 5, 0)
    assert generation["cost_usd"] == pytest.approx(10 * 100 / 1e6 + 5 * 1000 / 1e6)
    assert 0 <= generation["seconds_to_first_token"] <= generation["seconds"]
    assert generation["reasoning"] is None


def test_what_is_sent_is_what_was_set_and_nothing_else(server: EndpointServer) -> None:
    say(make(server, temperature=0.5, max_tokens=7, extra_body={"top_k": 20}, system_prompt="Be brief."))
    sent = server.requests[0]
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.body == {
        "model": "asked-model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 20,
    }


def test_the_history_holds_persona_and_both_sides(server: EndpointServer) -> None:
    model = make(server, system_prompt="Be brief.")
    pool, clone = ModelPool([model], 1, 20), model.clone()
    pool.reply("m", clone, [heard("your persona: I am a cat.\nTea", id="persona"), heard("Hi!")])
    pool.reply("m", clone, [heard("And then?")])
    pool.shutdown()
    system, *turns = server.requests[1].body["messages"]
    assert system["content"].startswith("Be brief.") and "- I am a cat." in system["content"]
    assert "The conversation is about: Tea" in system["content"]
    assert turns == [
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "And then?"},
    ]


def test_roles_take_turns_where_the_model_has_the_first_word(server: EndpointServer) -> None:
    model = make(server)
    pool, clone = ModelPool([model], 1, 20), model.clone()
    pool.reply("m", clone, [heard("")])
    pool.reply("m", clone, [heard("one"), heard("two")])
    pool.shutdown()
    assert [message["role"] for message in server.requests[1].body["messages"]] == ["user", "assistant", "user"]
    assert server.requests[1].body["messages"][-1]["content"] == "one\n\ntwo"


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_asked_for_again(server: EndpointServer, code: int) -> None:
    server.then(status(code), status(code))
    act = say(make(server))
    assert act["text"] == "Hello there."
    assert act["generation"]["retries"] == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "answered 400: said 400"),
        (401, "the key in TEST_ENDPOINT_KEY is not accepted"),
        (402, "no credit"),
        (403, "the key may not use this model"),
        (404, "no such model or address"),
        (422, "answered 422"),
    ],
)
def test_what_cannot_pass_is_not_asked_for_again(server: EndpointServer, code: int, words: str) -> None:
    server.then(status(code))
    assert words in failure(make(server))
    assert len(server.requests) == 1


def test_a_server_says_how_long_to_wait(server: EndpointServer) -> None:
    server.then(status(429, retry_after_ms="400"))
    begun = time.monotonic()
    assert say(make(server))["generation"]["retries"] == 1
    assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:45 GMT"}, 5),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:30 GMT"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Fri, 01 Jan 999999 00:00:00 GMT"}, None),
        ({"retry-after": "Fri, 99 Jan 99999999999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(
    headers: dict[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)  # 2001-09-09 01:46:40 UTC
    assert _endpoint_client._retry_after(headers) == seconds


def test_a_retry_after_beyond_the_time_limit_fails_at_once_with_its_reason(server: EndpointServer) -> None:
    server.then(status(429, Retry_After="3600"))
    begun = time.monotonic()
    assert "answered 429" in failure(make(server), seconds=100)
    assert time.monotonic() - begun < 60, "it does not wait for its time to be up"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (hang_up, "can't be reached"),
        (events(text_event("Half a"), finish=False), "broke the reply off"),
        (events(text_event("Half a")), "broke the reply off"),
        (events("{no json"), "not JSON"),
        (events({"error": {"message": "overloaded"}}), "overloaded"),
        (events({"error": "just text"}), "just text"),
        (events({"object": "error", "message": "the engine died"}), "the engine died"),
        (events(text_event("", "stop")), "empty reply"),
        (events(text_event("\u200b \u00a0", "stop")), "empty reply"),
        (events(text_event("No", "content_filter")), "filtered"),
        (status(200, "<html>busy</html>"), "not JSON"),
        (status(200, {"choices": []}), "broke the reply off"),
        (status(200, [1, 2]), "answered with an error"),
    ],
)
def test_an_unusable_reply_is_asked_for_again_a_few_times_and_then_fails(
    server: EndpointServer, fault: Any, words: str
) -> None:
    server.then(fault)
    assert say(make(server))["text"] == "Hello there."
    server.queue.clear()
    server.default = fault
    begun = len(server.requests)
    assert words in failure(make(server), seconds=1.5 if fault is hang_up else 60)
    if fault is not hang_up:
        assert len(server.requests) - begun == 1 + _endpoint_client.MAX_REPLIES_ASKED_AGAIN


def test_tokens_of_failed_attempts_are_counted(server: EndpointServer) -> None:
    used = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    server.then(events(text_event("", "stop"), used))
    act = say(make(server, usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0))
    assert (act["generation"]["prompt_tokens"], act["generation"]["completion_tokens"]) == (20, 7)
    server.default = events(text_event("", "stop"), used)
    model = make(server, usd_per_million_input_tokens=1e6, usd_per_million_output_tokens=1e6)
    pool = ModelPool([model], 1, 20)
    with pytest.raises(ModelFailureError):
        pool.reply("m", model.clone(), [heard("Hi!")])
    assert pool.spent_usd() == {"m": 3 * 12}
    pool.shutdown()


def test_a_number_of_tokens_that_no_request_uses_is_not_believed(server: EndpointServer) -> None:
    """No record and no amount of money has room for it."""
    used = {"choices": [], "usage": {"prompt_tokens": 10**400, "completion_tokens": 10**9 + 1}}
    server.then(events(text_event("Hi.", "stop"), used), reply(prompt=10**9, completion=0))
    model = make(server, usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0)
    first, second = (say(model) for _ in range(2))
    assert first["text"] == "Hi."
    assert [first["generation"][name] for name in ("prompt_tokens", "completion_tokens", "cost_usd")] == [None] * 3
    assert (second["generation"]["prompt_tokens"], second["generation"]["cost_usd"]) == (10**9, 1000.0)


def test_the_kind_of_an_answer_is_known_however_it_is_written(server: EndpointServer) -> None:
    async def shouting(exchange: Exchange) -> None:
        exchange.head(200, "TEXT/Event-Stream; charset=UTF-8")
        exchange.event(text_event("Hi.", "stop"))

    server.then(shouting)
    act = say(make(server))
    assert (act["text"], act["generation"]["retries"]) == ("Hi.", 0)


@pytest.mark.parametrize("fault", [silent, endless])
def test_the_time_limit_holds_for_the_whole_reply_and_closes_the_connection(server: EndpointServer, fault: Any) -> None:
    server.default = fault
    end = time.monotonic() + 60
    failure(make(server), seconds=0.7)
    while server.open_now:
        assert time.monotonic() < end, "the connection stays open"
        time.sleep(0.01)


def test_a_stream_that_never_ends_is_broken_off(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_endpoint_reply, "MAX_REPLY_CHARACTERS", 1000)
    server.default = endless
    assert "does not end" in failure(make(server), seconds=20)


def test_the_end_of_the_run_ends_requests(server: EndpointServer) -> None:
    server.default = silent
    model = make(server)
    pool = ModelPool([model], 1, 60)

    def stop() -> None:
        while not server.requests:
            time.sleep(0.01)
        pool.shutdown()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises((ModelFailureError, StoppedError), match="The run ended"):
        pool.reply("m", model.clone(), [heard("Hi!")])
    end = time.monotonic() + 60
    while server.open_now:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_run_beside_each_other_up_to_the_limit(server: EndpointServer) -> None:
    async def until_three_are_open(exchange: Exchange) -> None:
        while len(server.requests) < 3:
            await asyncio.sleep(0.01)
        await reply(wait=0.1)(exchange)  # a fourth would come meanwhile

    server.default = until_three_are_open
    model = make(server, requests_at_once=3)
    pool = ModelPool([model], 1, 30)
    threads = [threading.Thread(target=pool.reply, args=("m", model.clone(), [heard("Hi!")])) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.open_at_most == 3, "max_concurrent_responses, here 1, is for models of this machine"
    assert len(server.requests) == 9
    pool.shutdown()


def test_requests_per_minute_hold_a_request_back(server: EndpointServer) -> None:
    model = make(server, requests_per_minute=2)
    pool = ModelPool([model], 1, 30)
    for _ in range(2):
        pool.reply("m", model.clone(), [heard("Hi!")])
    pool._response_timeout = 0.5  # for the third one
    with pytest.raises(ModelFailureError):
        pool.reply("m", model.clone(), [heard("Hi!")])
    assert len(server.requests) == 2
    pool.shutdown()


def test_reasoning_is_never_part_of_the_reply_and_is_kept_where_asked_for(server: EndpointServer) -> None:
    thought = events(
        {"choices": [{"delta": {"reasoning_content": "The user "}}]},
        {"choices": [{"delta": {"reasoning": "greets."}}]},
        text_event("<think>more</think>Hello."),
        text_event("", "stop"),
    )
    server.then(thought)
    act = say(make(server, keep_reasoning=True))
    assert act["text"] == "Hello."
    assert "The user greets." in act["generation"]["reasoning"] and "more" in act["generation"]["reasoning"]
    server.then(thought)
    assert say(make(server))["generation"]["reasoning"] is None


def test_reasoning_that_uses_all_tokens_is_a_failure_with_its_remedy(server: EndpointServer) -> None:
    server.then(events({"choices": [{"delta": {"reasoning": "Hm"}, "finish_reason": "length"}]}))
    assert "raise 'max_tokens'" in failure(make(server))


def test_a_reply_at_the_token_limit_ends_with_a_sentence(server: EndpointServer) -> None:
    server.then(events(text_event("I like tea. And I also", "length")), events(text_event("I like tea. And", "length")))
    assert say(make(server))["text"] == "I like tea."
    assert say(make(server, whole_sentences=False))["text"] == "I like tea. And"


def test_dialects_of_servers_are_learnt_once(server: EndpointServer) -> None:
    unsupported = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    server.then(status(400, unsupported), status(422, {"detail": "Unexpected fields {'stream_options'}"}))
    model = make(server)
    assert say(model)["text"] == "Hello there."
    say(model)
    assert len(server.requests) == 4, "the second reply needs one request"
    last = server.requests[-1].body
    assert "max_tokens" not in last and last["max_completion_tokens"] == 300
    assert "stream_options" not in last


def test_a_server_that_does_not_stream_is_read_as_well(server: EndpointServer) -> None:
    assert say(make(server, stream=False))["text"] == "Hello there."
    assert "stream" not in server.requests[0].body
    whole = {"choices": [{"message": {"content": [{"type": "text", "text": "Parts."}]}, "finish_reason": "stop"}]}
    server.then(status(200, whole))
    assert say(make(server))["text"] == "Parts."


def test_another_served_model_in_mid_study_is_reported(
    server: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(server)
    for name in ("v1", "v1", "v2"):
        server.then(reply(model=name))
        say(model)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "'v2'" in warnings[0] and "'v1'" in warnings[0]


@pytest.mark.usefixtures("told_at_once")
def test_the_text_so_far_is_told_while_it_grows(server: EndpointServer) -> None:
    told: list[str] = []
    say(make(server), tell=told.append)
    assert told[0] == "Hello" and told[-1] == "Hello there."


@pytest.mark.usefixtures("told_at_once")
def test_reasoning_is_not_told_while_it_is_streamed(server: EndpointServer) -> None:
    pieces = ["<thi", "nk>Hm, ", "what?</th", "ink>Yes", " <3"]
    server.then(events(*map(text_event, pieces), text_event("", "stop")))
    told: list[str] = []
    act = say(make(server, keep_reasoning=True), tell=told.append)
    assert act["text"] == "Yes <3"
    assert act["generation"]["reasoning"] == "Hm, what?", "the thoughts alone, without what was said"
    assert told == ["Yes", "Yes <3"]


@pytest.mark.usefixtures("told_at_once")
def test_reasoning_that_no_tag_opens_is_not_told_once_a_reply_has_shown_it(server: EndpointServer) -> None:
    """As of models whose chat template opens their thoughts; the request before the launch shows it."""
    pieces = ["Hm, ", "what?</th", "ink>Yes", "."]
    for _ in range(2):
        server.then(events(*map(text_event, pieces), text_event("", "stop")))
    model = make(server)
    model.probe()
    told: list[str] = []
    assert say(model, tell=told.append)["text"] == "Yes."
    assert told == ["Yes", "Yes."]


def test_half_a_stream_that_is_asked_for_again_is_told_anew_from_its_beginning(server: EndpointServer) -> None:
    server.then(events(text_event("Half a"), finish=False), reply("Whole."))
    told: list[str] = []
    assert say(make(server), tell=told.append)["text"] == "Whole."
    assert told == ["Half a", "Whole."]


@pytest.mark.usefixtures("told_at_once")
def test_nothing_is_told_that_the_reply_will_not_hold(server: EndpointServer) -> None:
    server.then(events(text_event("\n I"), text_event(" li\x00ke"), text_event(" tea.\n"), text_event("", "stop")))
    told: list[str] = []
    assert say(make(server), tell=told.append)["text"] == "I like tea."
    assert told == ["I", "I like", "I like tea."]


def test_halves_of_a_character_in_two_events_are_one(server: EndpointServer) -> None:
    server.then(events(b'data: {"choices": [{"delta": {"content": "Hi \\ud83d"}}]}\n\n', text_event("\ude00!", "stop")))
    assert say(make(server))["text"] == "Hi \U0001f600!"
    server.then(events(text_event("Half \ud83d", "stop")))
    assert say(make(server))["text"].encode() == "Half \ufffd".encode(), "no file can hold a half"
    server.then(events(text_event("a\x00b\x1b[2Jc", "stop")))
    assert say(make(server))["text"] == "ab[2Jc"


def test_a_compressed_stream_is_read(server: EndpointServer) -> None:
    async def compressed(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", Content_Encoding="gzip")
        exchange.send(gzip.compress(f"data: {json.dumps(text_event('Small.', 'stop'))}\n\n".encode()))

    async def damaged(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", Content_Encoding="gzip")
        exchange.send(b"no gzip at all")

    server.then(damaged, compressed)
    act = say(make(server))
    assert act["text"] == "Small."
    assert act["generation"]["retries"] == 1


def test_a_connection_is_kept_for_the_next_reply(server: EndpointServer) -> None:
    server.default = kept_open
    model = make(server)
    for _ in range(3):
        say(model)
    assert len(server.requests) == 3
    assert server.connections == 1


def test_a_response_that_stays_open_after_its_end_holds_no_reply_back(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_endpoint_reply, "REST_SECONDS", 0.05)
    server.default = events(text_event("Done.", "stop"), "[DONE]", 30.0)
    assert say(make(server), seconds=15)["text"] == "Done."


@pytest.mark.parametrize("marker", [True, False], ids=["after [DONE]", "after the reason of the end"])
def test_a_connection_that_breaks_behind_a_whole_reply_costs_no_second_one(
    server: EndpointServer, marker: bool
) -> None:
    async def broken(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", Content_Length="1000000")
        exchange.event(text_event("Whole.", "stop"))
        if marker:
            exchange.event("[DONE]")
        await exchange.writer.drain()

    server.default = broken
    act = say(make(server))
    assert (act["text"], act["generation"]["retries"], len(server.requests)) == ("Whole.", 0, 1)


def test_a_connection_that_breaks_before_the_end_of_a_reply_is_asked_again(server: EndpointServer) -> None:
    async def broken(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", Content_Length="1000000")
        exchange.event(text_event("Half"))
        await exchange.writer.drain()

    server.then(broken)
    act = say(make(server))
    assert (act["text"], act["generation"]["retries"]) == ("Hello there.", 1)


@pytest.mark.usefixtures("told_at_once")
def test_a_reply_of_many_events_is_told_often_and_not_each_time_at_full_length() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20_000):
            yield f"data: {json.dumps(text_event('a '))}\n\n".encode()
        yield f"data: {json.dumps(text_event('', 'stop'))}\n\n".encode()

    told: list[int] = []
    read = _endpoint_reply.read_stream(chunks(), "m", 0.0, _endpoint_reply.Usage(), lambda text: told.append(len(text)))
    assert len(asyncio.run(read).text) == 40_000
    short = [length for length in told if length <= _endpoint_reply.TOLD_AT_ONCE]
    assert len(short) == _endpoint_reply.TOLD_AT_ONCE // 2
    assert max(after / before for before, after in pairwise(told[len(short) :])) < 1.02
    assert sum(told) < 20_000_000  # each time at full length, it would be 400 million characters


def test_between_two_tellings_is_a_pause_and_the_newest_text_is_told_after_it(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the model falls silent meanwhile: the last event before the silence is told without another one."""
    monkeypatch.setattr(_endpoint_reply, "SECONDS_BETWEEN_TELLING", 0.01)
    told: list[str] = []
    newest = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if text == "a b c":
            newest.set()

    async def falls_silent(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        for text in ("a", " b", " c"):
            exchange.event(text_event(text))
        await exchange.writer.drain()
        await asyncio.get_running_loop().run_in_executor(None, newest.wait, 60)
        exchange.event(text_event(" d", "stop"))

    server.then(falls_silent)
    assert say(make(server), seconds=60, tell=tell)["text"] == "a b c d"
    assert newest.is_set()
    assert told[0] == "a", "the first text is told at once"


@pytest.mark.parametrize("ends_well", [True, False])
def test_after_the_end_of_a_reply_nothing_is_told(monkeypatch: pytest.MonkeyPatch, ends_well: bool) -> None:
    monkeypatch.setattr(_endpoint_reply, "SECONDS_BETWEEN_TELLING", 3600.0)

    async def chunks() -> AsyncIterator[bytes]:
        for data in (text_event("a"), text_event("b"), text_event("", "stop") if ends_well else "no JSON"):
            yield f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()

    async def read() -> None:
        told: list[str] = []
        later: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def noting(*args: Any) -> asyncio.TimerHandle:
            later.append(call_at(*args))
            return later[-1]

        monkeypatch.setattr(loop, "call_at", noting)
        try:
            await _endpoint_reply.read_stream(chunks(), "m", 0.0, _endpoint_reply.Usage(), told.append)
        except _endpoint_reply.RequestFailedError:
            assert not ends_well
        assert told == ["a"]
        assert [handle.cancelled() for handle in later] == [True]

    asyncio.run(read())


def test_a_stream_is_read_together_with_others_between_its_first_token_and_its_end() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        sent: list[object] = [{"choices": []}, text_event("a"), text_event("b"), text_event("", "stop"), {"usage": {}}]
        for data in sent:
            seen.append("event")
            yield f"data: {json.dumps(data)}\n\n".encode()

    seen: list[object] = []
    read = _endpoint_reply.read_stream(chunks(), "m", 0.0, _endpoint_reply.Usage(), None, gather=seen.append)
    assert asyncio.run(read).text == "ab"
    length = len(json.dumps(text_event("a")))
    assert seen == ["event", "event", length, "event", "event", None, "event"]


def test_the_connection_of_a_stream_is_known_to_the_event_loop(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, every stream would be read token by token, which nothing else would show."""
    asked: list[tuple[int, int | None]] = []
    gather = GatheringSelector.gather

    def noting(selector: GatheringSelector, descriptor: int, event_bytes: int | None) -> None:
        asked.append((descriptor, event_bytes))
        gather(selector, descriptor, event_bytes)

    monkeypatch.setattr(GatheringSelector, "gather", noting)
    assert say(make(server))["text"] == "Hello there."
    (descriptor, length), again = asked
    assert length is not None and length > 0
    assert again == (descriptor, None)


@pytest.mark.parametrize("end", ["[DONE]", "no JSON", ""])
def test_a_stream_without_a_reason_of_its_end_is_read_at_once_again(end: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield f"data: {json.dumps(text_event('a'))}\n\ndata: {end}\n\n".encode()

    seen: list[object] = []
    read = _endpoint_reply.read_stream(chunks(), "m", 0.0, _endpoint_reply.Usage(), None, gather=seen.append)
    with suppress(_endpoint_reply.RequestFailedError):
        asyncio.run(read)
    assert len(seen) == 2 and seen[1] is None


def test_a_silent_connection_is_given_up_and_asked_again(server: EndpointServer) -> None:
    server.then(silent)
    act = say(make(server, read_timeout=4.0))
    assert act["text"] == "Hello there."
    assert act["generation"]["retries"] == 1


def test_a_slow_drip_is_no_silence(server: EndpointServer) -> None:
    drip = [item for letter in "drizzle" for item in (text_event(letter), 0.75)]  # longer than the limit in all
    server.then(events(*drip, text_event("", "stop")))
    act = say(make(server, read_timeout=5.0))
    assert act["text"] == "drizzle"
    assert act["generation"]["retries"] == 0


def test_no_credit_is_not_waited_for_though_its_status_is_that_of_too_many_requests(server: EndpointServer) -> None:
    server.default = status(
        429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    )
    assert "no credit" in failure(make(server))
    assert len(server.requests) == 1


def test_all_requests_at_once_learn_a_dialect(server: EndpointServer) -> None:
    async def strict(exchange: Exchange) -> None:
        if "max_tokens" in exchange.body:
            while len(server.requests) < 4:  # until all have asked
                await asyncio.sleep(0.01)
            await status(400, {"error": {"message": "Unsupported parameter: 'max_tokens'."}})(exchange)
        else:
            await reply()(exchange)

    server.default = strict
    model = make(server)
    pool = ModelPool([model], 1, 20)
    with ThreadPoolExecutor(4) as threads:
        acts = [threads.submit(pool.reply, "m", model.clone(), [heard("Hi!")]) for _ in range(4)]
    assert [act.result()["text"] for act in acts] == ["Hello there."] * 4
    pool.shutdown()


def test_a_dialect_that_helps_no_more_than_the_other_is_tried_once(server: EndpointServer) -> None:
    server.default = status(400, {"error": {"message": "max_tokens and max_completion_tokens are too large"}})
    assert "too large" in failure(make(server))
    assert len(server.requests) == 2


def test_what_was_used_before_the_time_was_up_is_counted(server: EndpointServer) -> None:
    used = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    server.then(events(text_event("", "stop"), used), silent)
    model = make(server, usd_per_million_input_tokens=1e6)
    pool = ModelPool([model], 1, 4.0)
    with pytest.raises(ModelFailureError, match=r"no whole reply in time; before, .* empty reply"):
        pool.reply("m", model.clone(), [heard("Hi!")])
    assert pool.spent_usd() == {"m": 10}
    pool.shutdown()


def test_a_redirect_is_said_and_not_followed(server: EndpointServer) -> None:
    server.default = status(308, "", location="http://127.0.0.1:9/v1")
    assert "answered 308 (it names another address" in failure(make(server))


def test_an_address_without_tls_is_said(server: EndpointServer) -> None:
    wrong = server.url.replace("http:", "https:")
    assert "does not speak TLS" in failure(
        load_model(ModelSource("m", endpoint={"base_url": wrong, "endpoint_model": "x"}), False)
    )


def test_what_an_agent_calls_its_generation_may_be_anything() -> None:
    for odd in ("text", {"prompt_tokens": "many", "retries": 1}, [1], None):
        assert isinstance(Generation.of(odd), Generation)
    assert Generation.of({"prompt_tokens": "many", "retries": 1}) == Generation(retries=1)


def test_an_image_goes_along_with_the_first_message(server: EndpointServer) -> None:
    from PIL import Image

    model = make(server, takes_images=True)
    pool, clone, image = ModelPool([model], 1, 20), model.clone(), Image.new("RGB", (4, 4), "red")
    pool.reply("m", clone, [heard("", image=image)])
    pool.reply("m", clone, [heard("What is it?", image=image)])
    pool.shutdown()
    first, *others = server.requests[1].body["messages"]
    assert [part["type"] for part in first["content"]] == ["text", "image_url"]
    assert first["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert all(isinstance(message["content"], str) for message in others)
    assert model.opt["image_mode"] == "raw"


async def transformers_serve(exchange: Exchange) -> None:
    """The dialect of `transformers serve`: strict fields, no [DONE], usage in the last chunk with the reason."""
    known = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "stop"}
    unexpected = exchange.body.keys() - known
    if unexpected:
        await status(422, {"detail": f"Unexpected fields in the request: {unexpected}"})(exchange)
        return
    exchange.head(200, "text/event-stream")
    exchange.delta(role="assistant")
    exchange.delta(content="Hello.")
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    exchange.event({"model": "m@main", "choices": [last], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})


def test_a_stream_without_its_last_mark_and_with_strict_fields(server: EndpointServer) -> None:
    server.default = transformers_serve
    act = say(make(server))
    assert act["text"] == "Hello."
    assert (act["generation"]["prompt_tokens"], act["generation"]["completion_tokens"]) == (9, 2)
    assert act["generation"]["served_model"] == "m@main"
    with pytest.raises(ConfigurationError, match=r"answered 422: Unexpected fields in the request: .*top_k"):
        make(server, extra_body={"top_k": 20}).probe()


def test_the_blueprint_is_imported_without_what_endpoints_need() -> None:
    code = "import sys, model_chat.model_chat_blueprint; print({'httpx', 'model_chat.agents.endpoint'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


def test_the_key_is_in_no_error_no_opt_and_no_log(server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    server.then(status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    model = make(server)
    assert KEY not in failure(model)
    assert KEY not in json.dumps(exportable_opt(model.opt))
    assert KEY not in caplog.text
    assert exportable_opt(model.opt)["api_key_env"] == "TEST_ENDPOINT_KEY", "the variable's name is no secret"


def test_a_probe_says_what_is_wrong(server: EndpointServer) -> None:
    make(server).probe()
    server.default = status(401)
    with pytest.raises(ConfigurationError, match="the key in TEST_ENDPOINT_KEY is not accepted"):
        make(server).probe()
    server.default = status(200, {"object": "list", "data": []})
    with pytest.raises(ConfigurationError):
        make(server).probe()
    closed = load_model(ModelSource("m", endpoint={"base_url": "http://127.0.0.1:9/v1", "endpoint_model": "x"}), False)
    with pytest.raises(ConfigurationError, match="can't be reached"):
        closed.probe()


def test_a_wrong_certificate_is_said_and_one_of_ones_own_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with serving(certificate) as running:
        model = load_model(ModelSource("m", endpoint={"base_url": running.url, "endpoint_model": "x"}), False)
        assert "ca_file" in failure(model)
        trusting = {"base_url": running.url, "endpoint_model": "x", "ca_file": str(certificate[0])}
        assert say(load_model(ModelSource("m", endpoint=trusting), False))["text"] == "Hello there."


def self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


# --- settings (their faults: test_endpoint_settings.py) ---


def test_models_of_the_yaml_file_and_of_folders(tmp_path: Path, server: EndpointServer) -> None:
    (tmp_path / "models.yaml").write_text(
        f"a:\n  base_url: {server.url}/\n  endpoint_model: x\n  requests_per_minute: null\nb: '--model fixed_response'\n"
    )
    sources = models_in_opt_file("f", str(tmp_path / "models.yaml"))
    assert [source.is_endpoint for source in sources.values()] == [True, False]
    assert say_with(sources["a"]) == "Hello there."
    folder = tmp_path / "models" / "c"
    folder.mkdir(parents=True)
    opt = {"model": "model_chat.agents.endpoint:EndpointAgent", "base_url": server.url, "endpoint_model": "x"}
    (folder / "model.opt").write_text(json.dumps(opt))
    source = models_in_folder("f", str(tmp_path / "models"))["c"]
    assert source.is_endpoint and opt_faults("f", source) == []
    assert say_with(source) == "Hello there."
    (folder / "model.opt").write_text(json.dumps({**opt, "api_key": "x"}))
    assert "api_key_env" in opt_faults("f", source)[0]


def test_settings_may_be_flags(server: EndpointServer) -> None:
    flags = (
        f"--model model_chat.agents.endpoint:EndpointAgent --base-url {server.url} --endpoint-model x --temperature 0.5 "
        """--extra-body '{"top_k": 3}' --stop '["END"]' --seed 7 --stream false --max-tokens 9"""
    )
    source = ModelSource("m", flags=flags)
    assert source.is_endpoint
    assert say_with(source) == "Hello there."
    body = server.requests[0].body
    assert {key: value for key, value in body.items() if key not in ("messages", "model")} == {
        "temperature": 0.5,
        "top_k": 3,
        "stop": ["END"],
        "seed": 7,
        "max_tokens": 9,
    }
    with pytest.raises(ConfigurationError, match="'temperature'"):
        load_model(ModelSource("m", flags=flags.replace("0.5", "-0.5")), False)


def test_a_reply_is_shown_as_the_model_wrote_it_unless_it_is_to_be_normalised(server: EndpointServer) -> None:
    server.default = reply("i wrote `code` , so")
    for settings, text in (({}, "i wrote `code` , so"), ({"dict_lower": True}, "I wrote `code`, so")):
        pool = ModelPool([make(server, **settings)], 1, 20)
        bot = BotAgent(pool, "m")
        bot.observe({"id": "Speaker 1", "text": "Hi!"})
        assert bot.act().text == text
        pool.shutdown()


def say_with(source: ModelSource) -> str:
    model = load_model(source, False)
    pool = ModelPool([model], 1, 20)
    text: str = pool.reply(model.nickname, model.clone(), [heard("Hi!")])["text"]
    pool.shutdown()
    return text
