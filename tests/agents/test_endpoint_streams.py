"""Replies of endpoints that are streamed: what is told while they grow, and how their connections are read."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from model_chat.agents import _endpoint_reply
from model_chat.errors import ConfigurationError
from model_chat.tests.agents.endpoint_models import make, say
from model_chat.tests.endpoint_server import (
    EndpointServer,
    Exchange,
    events,
    kept_open,
    reply,
    status,
    text_event,
)


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


@pytest.mark.parametrize("end", ["[DONE]", "no JSON", ""])
def test_a_stream_without_a_reason_of_its_end_is_read_at_once_again(end: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield f"data: {json.dumps(text_event('a'))}\n\ndata: {end}\n\n".encode()

    seen: list[object] = []
    read = _endpoint_reply.read_stream(chunks(), "m", 0.0, _endpoint_reply.Usage(), None, gather=seen.append)
    with suppress(_endpoint_reply.RequestFailedError):
        asyncio.run(read)
    assert len(seen) == 2 and seen[1] is None


async def transformers_serve(exchange: Exchange) -> None:
    """The dialect of `transformers serve`, as 5.24.0 was seen to speak it.

    Strict fields; no reason, not even null, before the last event, which brings the usage, asked for or not; no [DONE]. What
    a reply stops at is its end.
    """
    known = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "stop"}
    unexpected = exchange.body.keys() - known
    if unexpected:
        await status(422, {"detail": f"Unexpected fields in the request: {unexpected}"})(exchange)
        return
    exchange.head(200, "text/event-stream; charset=utf-8")
    stop = "".join(exchange.body.get("stop", [])[:1])
    for delta in ({"role": "assistant"}, {"content": "Hel"}, {"content": f"lo.{stop}"}):
        exchange.event({"model": "m@main", "choices": [{"index": 0, "delta": delta}]})
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


def test_what_a_reply_stops_at_is_no_part_of_it(server: EndpointServer) -> None:
    server.default = transformers_serve
    assert say(make(server, stop=["\nUser:", "###"]))["text"] == "Hello."
    server.then(events(text_event("Press ###", "length")))
    assert say(make(server, stop=["###"], whole_sentences=False))["text"] == "Press ###", "it did not stop there"
