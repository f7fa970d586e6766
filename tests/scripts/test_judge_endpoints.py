"""scripts/judge.py against endpoints that fail, and after it was stopped: no answer is lost, none is paid for twice."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import pytest

from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.records.llm_judgments import REPLY
from model_chat.records.locks import hold
from model_chat.records.reading import parse_conversation
from model_chat.scripts import _judge_asking, judge
from model_chat.scripts._judge_prompt import Questions, messages_for, prompt_hash
from model_chat.tests import preloaded
from model_chat.tests.analysis.conftest import make_conversation
from model_chat.tests.endpoint_server import Behaviour, EndpointServer, endless, silent, status
from model_chat.tests.scripts.judge_study import BOXES, CONFIG, GOOD, KEY, Study, prompts, says, server, study

__all__ = ["server", "study"]  # fixtures


# --- endpoints ---


@pytest.mark.parametrize("refusal", [400, 422])
def test_an_endpoint_without_response_format_is_asked_without(
    study: Study, server: EndpointServer, refusal: int
) -> None:
    study.add(1, replies=3)
    server.then(status(refusal, {"detail": "Unexpected fields: response_format"}))
    assert study.run() == 0
    assert ["response_format" in exchange.body for exchange in server.requests] == [True, False, False, False]
    assert len(study.lines) == 3


def test_a_response_format_of_the_settings_is_left_alone(study: Study, server: EndpointServer) -> None:
    study.add(1, replies=1)
    study.settings["extra_body"] = {"response_format": {"type": "json_object"}}
    assert study.run() == 0
    assert server.requests[0].body["response_format"] == {"type": "json_object"}


def test_a_busy_endpoint_is_asked_again(study: Study, server: EndpointServer) -> None:
    study.add(1, replies=1)
    server.then(status(429, Retry_After="0"), status(503))
    assert study.run() == 0
    assert study.lines[0]["boxes"] == GOOD


@pytest.mark.parametrize(
    "refusal",
    [status(401), status(404), status(429, {"error": {"message": "insufficient_quota"}})],
    ids=["key", "model", "credit"],
)
def test_an_endpoint_that_refuses_everything_is_given_up_at_once(
    study: Study, server: EndpointServer, refusal: Behaviour, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        study.add(number)
    server.default = refusal
    assert study.run() == 1
    assert len(server.requests) <= 2
    assert "The judge was stopped: 'big' at" in capsys.readouterr().err
    assert study.lines == []
    server.default = says(GOOD)
    assert study.run() == 0
    assert len(study.lines) == 10


def test_an_endpoint_that_keeps_failing_is_given_up(
    study: Study, server: EndpointServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_judge_asking, "MOST_FAILURES", 3)
    study.add(1, replies=8)
    study.settings["requests_at_once"] = 1
    server.then(says(GOOD), *[status(413)] * 2, says(GOOD))
    server.default = status(413)
    assert study.run() == 1
    assert "failed for 3 replies in a row (the last: status_413)" in capsys.readouterr().err
    assert [line["missing"] for line in study.lines] == [None, "status_413", "status_413", None, *["status_413"] * 3]
    server.default = says(GOOD)
    assert study.run() == 0
    assert [line["boxes"] for line in study.lines] == [GOOD] * 8, "what failed is asked again"


def test_a_server_that_changes_its_model_is_recorded_with_each_answer(
    study: Study, server: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    study.add(1, replies=3)
    study.settings["requests_at_once"] = 1
    server.then(says(GOOD, model="big-1"), says(GOOD, model="big-1"), says(GOOD, model="big-2"))
    assert study.run() == 0
    assert [line["judge"]["served_model"] for line in study.lines] == ["big-1", "big-1", "big-2"]
    assert "the server now answers as 'big-2', and answered as 'big-1' before" in caplog.text


def test_a_server_that_drips_is_given_up_and_asked_again(
    study: Study, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_judge_asking, "ANSWER_SECONDS", 2.0)
    study.add(1, replies=1)
    server.default = endless
    assert study.run() == 1
    assert study.lines[0]["missing"] in ("no_answer", "no_usable_reply")
    monkeypatch.setattr(_judge_asking, "ANSWER_SECONDS", 600.0)
    server.default = says(GOOD)
    assert study.run("--retry-missing") == 0
    assert study.lines[0]["boxes"] == GOOD


def test_no_more_requests_at_once_than_the_settings_say(study: Study, server: EndpointServer) -> None:
    for number in range(4):
        study.add(number, replies=3)
    study.settings["requests_at_once"] = 3
    server.default = says(GOOD, wait=0.05)
    assert study.run() == 0
    assert 2 <= server.open_at_most <= 3
    assert [line["utterance_idx"] for line in study.lines] == [1, 3, 5] * 4


def test_the_key_is_in_no_file_and_in_no_message(
    study: Study, server: EndpointServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    study.settings["api_key_env"] = "JUDGE_KEY"
    study.add(1)
    server.then(says(f"not json, but {KEY}"), says(GOOD, model=KEY), status(401, {"error": f"wrong key {KEY}"}))
    assert study.run() == 1
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert len(study.log) == 1
    assert [path for path in study.output.iterdir() if KEY in path.read_text(encoding="utf-8")] == []
    assert KEY not in "".join(capsys.readouterr())


# --- resuming ---


def test_a_second_run_asks_nothing_and_writes_the_same(study: Study, server: EndpointServer) -> None:
    study.add(1)
    assert study.run() == 0
    before = (study.output / "judgments.jsonl").read_bytes()
    (study.output / "judgments.jsonl").unlink()
    assert study.run() == 0
    assert (study.output / "judgments.jsonl").read_bytes() == before
    assert len(server.requests) == 2
    study.add(2)
    assert study.run() == 0
    assert len(server.requests) == 4


def test_after_a_kill_nothing_is_asked_twice(study: Study, server: EndpointServer) -> None:
    for number in range(3):
        study.add(number)
    study.settings["requests_at_once"] = 1
    server.then(*[says(GOOD)] * 3, silent)
    command = [sys.executable, judge.__file__, *study.arguments()]
    process = preloaded.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        end = time.monotonic() + 60
        while len(server.requests) < 4:
            assert process.poll() is None and time.monotonic() < end, "it has not asked"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    answered = prompts(server)[:3]
    assert not (study.output / "judgments.jsonl").exists()
    with (study.output / "judge_log.jsonl").open("ab") as log:
        log.write(b'{"key": "half a li')  # what a power cut may leave
    assert study.run() == 0
    assert set(answered).isdisjoint(prompts(server)[4:])
    assert len(server.requests) == 7, "the one whose answer had not come is asked again"
    assert len(study.lines) == 6


def test_another_setting_or_box_asks_anew_and_another_key_or_pace_does_not() -> None:
    dialog = parse_conversation(make_conversation()).dialog
    messages = messages_for(dialog, BOXES)
    settings = EndpointSettings(base_url="http://a/v1", endpoint_model="big")

    def key(**changes: Any) -> str:
        return prompt_hash(messages, BOXES, settings.model_copy(update=changes))

    same = key()
    assert same == key(api_key_env="OTHER", requests_at_once=1, read_timeout=5.0, usd_per_million_input_tokens=1.0)
    others = [key(temperature=0.5), key(endpoint_model="b"), key(base_url="http://b/v1"), key(extra_body={"top_k": 1})]
    fewer = Questions(
        REPLY, AnnotationsConfig.model_validate({"config": {**CONFIG["config"], "odd": {"name": "Strange"}}})
    )
    others.append(prompt_hash(messages_for(dialog, fewer), fewer, settings))
    others.append(prompt_hash(messages_for(dialog[:1], BOXES), BOXES, settings))
    assert len({same, *others}) == 7


def test_two_replies_with_the_same_chat_are_one_prompt(study: Study, server: EndpointServer) -> None:
    for worker in ("w1", "w2"):
        conversation = make_conversation(worker=worker, model=f"model of {worker}")
        conversation["task_description"]["annotations_config"] = json.dumps(CONFIG)
        study.write(conversation)
    assert study.run() == 0
    assert len(server.requests) == 1
    one, other = study.lines
    assert one["prompt_sha256"] == other["prompt_sha256"]
    assert one["item"] != other["item"], "of two models"


def test_two_commands_do_not_write_into_one_folder(
    study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add(1)
    study.output.mkdir()
    with hold(study.output, alone=True):
        assert study.run() == 2
    assert "another judge.py is writing" in capsys.readouterr().err
    assert server.requests == []
