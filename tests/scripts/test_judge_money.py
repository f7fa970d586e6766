"""What scripts/judge.py costs, and the limit that no request may pass."""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

import pytest

from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.scripts import judge
from model_chat.scripts._judge_money import JudgeLog, answer_limit
from model_chat.tests import preloaded
from model_chat.tests.endpoint_server import EndpointServer, Exchange, hang_up, silent, status
from model_chat.tests.scripts.judge_study import GOOD, Study, says, server, study

__all__ = ["server", "study"]  # fixtures


# --- money ---


def with_prices(study: Study) -> None:
    study.settings |= {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 10.0, "max_tokens": 30}


def test_the_cost_is_told_before_and_after(
    study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_prices(study)
    study.add(1)
    assert study.run("--estimate") == 0
    assert server.requests == []
    assert not study.output.exists()
    assert "To ask: 2 prompts, about" in capsys.readouterr().out
    server.default = says(GOOD, prompt=1000, completion=100)
    assert study.run() == 0
    assert "$0.0040 spent in all." in capsys.readouterr().out
    assert study.lines[0]["usage"]["cost_usd"] == pytest.approx(0.002)
    assert study.run("--estimate") == 0
    assert (
        "To ask: 0 prompts, about 0 tokens in and 0 out, about $0.00; $0.0040 is spent already."
        in capsys.readouterr().out
    )


def test_where_no_tokens_are_counted_the_cost_is_estimated(study: Study, server: EndpointServer) -> None:
    async def uncounted(exchange: Exchange) -> None:
        message = {"content": json.dumps(GOOD)}
        exchange.whole(200, {"choices": [{"message": message, "finish_reason": "stop"}]})

    with_prices(study)
    study.add(1, replies=1)
    server.default = uncounted
    assert study.run() == 0
    assert study.lines[0]["usage"]["prompt_tokens"] is None
    assert 0.0001 < study.lines[0]["usage"]["cost_usd"] < 0.001


def test_nothing_is_asked_when_the_estimate_is_above_the_limit(
    study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_prices(study)
    study.add(1)
    assert study.run("--max-spend-usd", "0.0001") == 2
    assert "--max-spend-usd is 0.0001, and the judge is likely to cost $0.00" in capsys.readouterr().err
    assert server.requests == []


class Biller:
    """A server that counts a token for each byte and uses all tokens of each answer, and what it has billed.

    Args:
        study: whose prices are billed.
        wrong: share of the answers that can't be taken.
        unusable: share of the replies that are empty.
    """

    def __init__(self, study: Study, wrong: float = 0.0, unusable: float = 0.0) -> None:
        self.settings = study.settings
        self.chance = random.Random(5)
        self.wrong, self.unusable = wrong, unusable
        self.usd = 0.0
        self.requests = 0

    async def __call__(self, exchange: Exchange) -> None:
        prompt = sum(len(message["content"].encode()) for message in exchange.body["messages"])
        prompt += len(json.dumps(exchange.body.get("response_format", "")).encode())
        answer = exchange.body["max_tokens"]
        prices = self.settings["usd_per_million_input_tokens"], self.settings["usd_per_million_output_tokens"]
        self.usd += (prompt * prices[0] + answer * prices[1]) / 1e6
        self.requests += 1
        drawn = self.chance.random()
        text = "" if drawn < self.unusable else "no" if drawn < self.unusable + self.wrong else json.dumps(GOOD)
        await says(text, prompt=prompt, completion=answer)(exchange)


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize(("wrong", "unusable"), [(0.0, 0.0), (0.9, 0.0), (0.3, 0.5)])
def test_the_bill_is_never_above_the_limit_whatever_is_asked_again(
    study: Study, server: EndpointServer, at_once: int, wrong: float, unusable: float
) -> None:
    with_prices(study)
    study.settings["requests_at_once"] = at_once
    for number in range(12):
        study.add(number)
    biller = server.default = Biller(study, wrong, unusable)
    for limit in (0.02, 0.03):  # the second run counts what the first has cost
        assert study.run("--max-spend-usd", str(limit)) in (1, 2)  # 2: not even begun, by the estimate of the rest
        assert 0.01 < biller.usd <= limit
    log = JudgeLog(study.output / "judge_log.jsonl")
    assert log.spent_usd == log.most_usd == pytest.approx(biller.usd)
    biller.wrong = biller.unusable = 0.0
    assert study.run("--max-spend-usd", "9", "--retry-missing") == 0
    assert [line["boxes"] for line in study.lines] == [GOOD] * 24


def test_requests_wait_for_those_that_hold_the_rest_of_the_money(study: Study, server: EndpointServer) -> None:
    """Each may cost much more than it does: with a limit for one and a half at once, all are asked, one after another."""
    with_prices(study)
    study.settings |= {"max_tokens": 1000, "requests_at_once": 8}
    for number in range(3):
        study.add(number)
    server.default = says(GOOD, prompt=1, completion=1)
    assert study.run("--max-spend-usd", "0.018") == 0
    assert server.open_at_most == 1
    assert len(study.lines) == 6


def test_the_sentence_names_what_is_spent_and_what_the_next_may_cost(
    study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_prices(study)
    study.settings |= {"max_tokens": 1000, "requests_at_once": 1}
    study.add(1, replies=4)
    server.default = says(GOOD, prompt=0, completion=1000)
    assert study.run("--max-spend-usd", "0.03") == 1
    said = capsys.readouterr().err
    assert "$0.0100 of the $0.0300 of --max-spend-usd is spent, and the next request may cost $0.0" not in said
    assert "$0.0200 of the $0.0300 of --max-spend-usd is spent, and the next request may cost $0.01" in said
    assert study.run("--max-spend-usd", "0.0201") == 2, "what earlier runs have cost counts"
    assert len(server.requests) == 2


def test_what_was_in_progress_when_a_run_died_counts_as_spent(study: Study, server: EndpointServer) -> None:
    with_prices(study)
    study.add(1, replies=1)
    server.default = silent
    process = preloaded.Popen(
        [sys.executable, judge.__file__, *study.arguments("--max-spend-usd", "0.01")],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        server.wait_for_requests(1)
    finally:
        process.kill()
        process.wait()
    most = JudgeLog(study.output / "judge_log.jsonl").most_usd
    assert most > 0.001
    server.default = says(GOOD)
    assert study.run("--max-spend-usd", f"{1.5 * most:.6f}") == 1, "the same request once more may pass the limit"
    assert len(server.requests) == 1
    assert study.run("--max-spend-usd", "0.01") == 0


@pytest.mark.parametrize(
    ("behaviour", "counts"),
    [(hang_up, True), (None, True), (status(503), False), (status(429, Retry_After="0"), False)],
    ids=["lost", "uncounted", "unavailable", "busy"],
)
def test_what_may_have_been_billed_counts_and_what_was_refused_does_not(
    study: Study, server: EndpointServer, behaviour: Any, counts: bool
) -> None:
    async def uncounted(exchange: Exchange) -> None:
        choice = {"message": {"content": json.dumps(GOOD)}, "finish_reason": "stop"}
        exchange.whole(200, {"choices": [choice]})

    with_prices(study)
    study.add(1, replies=1)
    server.then(behaviour or uncounted)
    server.default = says(GOOD, prompt=0, completion=0)
    assert study.run() == 0
    log = JudgeLog(study.output / "judge_log.jsonl")
    assert (log.most_usd > 0.001) is counts
    assert log.most_usd >= log.spent_usd


@pytest.mark.parametrize("usage", [{"prompt_tokens": 10**400, "completion_tokens": 1}, {"prompt_tokens": -5}, "x", [1]])
def test_a_count_that_is_none_is_no_cost_and_does_no_harm(study: Study, server: EndpointServer, usage: object) -> None:
    async def nonsense(exchange: Exchange) -> None:
        choice = {"message": {"content": json.dumps(GOOD)}, "finish_reason": "stop"}
        exchange.whole(200, {"choices": [choice], "usage": usage})

    with_prices(study)
    study.add(1, replies=1)
    server.default = nonsense
    assert study.run() == 0
    assert 0 < study.lines[0]["usage"]["cost_usd"] < JudgeLog(study.output / "judge_log.jsonl").most_usd < 0.01


def test_a_reservation_is_made_only_where_it_fits_beside_the_others(tmp_path: Any) -> None:
    log = JudgeLog(tmp_path / "log.jsonl")
    assert log.reserve(6.0, 10.0) == 1
    assert log.reserve(5.0, 10.0) is None, "with the one in progress"
    log.settle(1, 1.0, 2.0)
    assert log.reserve(9.0, 10.0) is None, "with what the settled one may have cost"
    assert log.reserve(8.0, 10.0) == 2, "as much as is left"
    assert log.reserve(100.0, None) == 3
    log.close()
    again = JudgeLog(tmp_path / "log.jsonl")
    assert (again.spent_usd, again.most_usd) == (1.0, 110.0)
    assert again.reserve(0.0, None) == 4, "numbers go on"


def test_a_log_of_an_earlier_version_counts_its_answers(study: Study, server: EndpointServer) -> None:
    with_prices(study)
    study.add(1, replies=1)
    study.output.mkdir()
    line = {"key": "0" * 64, "boxes": GOOD, "is_final": True, "cost_usd": 0.5}
    (study.output / "judge_log.jsonl").write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    assert study.run("--max-spend-usd", "0.5") == 2
    assert study.run("--max-spend-usd", "0.6") == 0
    assert len(server.requests) == 1


def test_a_limit_needs_a_longest_answer(
    study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_prices(study)
    study.settings["max_tokens"] = 0
    study.add(1)
    assert study.run("--max-spend-usd", "1") == 2
    assert "nothing limits how long an answer of 'judge' may be; set max_tokens" in capsys.readouterr().err
    assert study.run() == 0, "without a limit it is the server's choice"


@pytest.mark.parametrize(
    ("max_tokens", "body", "limit"),
    [
        (30, {}, 30),
        (30, {"max_tokens": 50}, 50),
        (0, {"max_completion_tokens": 70}, 70),
        (30, {"max_tokens": None}, 0),
        (0, {}, 0),
    ],
)
def test_the_longest_answer_is_what_the_request_says(max_tokens: int, body: dict[str, Any], limit: int) -> None:
    settings = EndpointSettings(base_url="http://a/v1", endpoint_model="b", max_tokens=max_tokens, extra_body=body)
    assert answer_limit(settings) == limit


def test_a_limit_needs_prices(study: Study, server: EndpointServer, capsys: pytest.CaptureFixture[str]) -> None:
    study.add(1)
    assert study.run("--max-spend-usd", "1") == 2
    assert "has no usd_per_million_input_tokens and no usd_per_million_output_tokens" in capsys.readouterr().err
