"""Endpoints that refuse, break off, hang, lie or do not speak HTTP: what is asked again, what is said, and what is not."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from model_chat.agents import _endpoint_client, _endpoint_reply
from model_chat.errors import ConfigurationError, ModelFailureError
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.model import StoppedError
from model_chat.serving.opt_export import exportable_opt
from model_chat.serving.pool import ModelPool
from model_chat.tests.agents.endpoint_models import KEY, failure, heard, make, say
from model_chat.tests.endpoint_server import (
    EndpointServer,
    endless,
    events,
    hang_up,
    reply,
    serving,
    silent,
    status,
    text_event,
)


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


@pytest.mark.parametrize("wait", ["0", "-5", "Sun, 09 Sep 2001 01:46:30 GMT"])
def test_a_server_that_asks_for_no_wait_is_not_asked_without_a_pause(
    server: EndpointServer, wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(_endpoint_client, name, 1000.0)
    server.default = status(429, Retry_After=wait)
    assert "answered 429" in failure(make(server))
    assert len(server.requests) == 1, "its pause would be longer than the time limit"


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


def test_an_error_of_the_connection_ends_with_one_full_stop(server: EndpointServer) -> None:
    server.default = hang_up
    said = failure(make(server), seconds=1.5)
    assert said.endswith(".") and not said.endswith("..")


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
