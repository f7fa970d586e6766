"""Models behind endpoints in whole tasks: run.py, the real wire, and servers that behave, misbehave, or are real."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.endpoint_server import (
    EndpointServer,
    Exchange,
    events,
    hang_up,
    reply,
    serving,
    silent,
    status,
    text_event,
)
from model_chat.tests.llama_server import GGUF, llama_server

Start = Callable[..., RunningTask]
KEY = "sk-whole-task-0123456789abcdef"
KEY_VARIABLE = "TEST_ENDPOINT_KEY"
TWO_TURNS = "mephisto.blueprint.num_turns=2"
PER_TOKEN = 1e6
"""US dollars for a million tokens at which each costs one."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with serving() as running:
        yield running


def models_file(folder: Path, url: str, **settings: Any) -> str:
    """Write the YAML file of models with one, `e`; return the flag that names it."""
    given = {"base_url": url, "endpoint_model": "asked-model", "api_key_env": KEY_VARIABLE, **settings}
    path = folder / "models.yaml"
    path.write_text(json.dumps({"e": given}), encoding="utf-8")
    return f"mephisto.blueprint.model_opt_path={path}"


def replies(chat: dict[str, Any]) -> list[dict[str, Any]]:
    """How the model's replies of a saved conversation were made."""
    return [line["generation"] for line in chat["dialog"] if line["agent_idx"] == 1]


def tokens(generation: dict[str, Any] | None) -> Counter[str]:
    names = ("prompt_tokens", "completion_tokens")
    return Counter({name: (generation or {}).get(name, 0) for name in names})


class Misbehaving:
    """Answers well, or in every wrong way that may pass; counts the tokens that it says were used.

    The first reply of a conversation comes in the end: who has said nothing leaves no record. Later, a few conversations get
    what can't pass.
    """

    def __init__(self) -> None:
        self._chance = random.Random(17)
        self._later = 0
        self.counted: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        said = sum(message["role"] == "user" for message in exchange.body["messages"])
        draw = self._chance.random()
        self._later += said > 1
        if said > 1 and self._later % 25 == 0:
            self.faults["401"] += 1
            await status(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})(exchange)
        elif draw < 0.4:
            name, fault = self._chance.choice(self._passing())
            self.faults[name] += 1
            await fault(exchange)
        else:
            self.count(10, 5)
            await reply(self._chance.choice(("Hello there.", f"My key is {KEY}.")), 10, 5)(exchange)

    def count(self, prompt: int, completion: int) -> None:
        self.counted.update(prompt_tokens=prompt, completion_tokens=completion)

    def _passing(self) -> list[tuple[str, Any]]:
        async def empty(exchange: Exchange) -> None:
            self.count(3, 1)
            used = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
            await events(text_event(" ", "stop"), used)(exchange)

        return [
            ("429", status(429, {"error": f"slow down, {KEY}"}, Retry_After="0")),
            ("500", status(500, "<html>traceback</html>", kind="text/html")),
            ("hang_up", hang_up),
            ("half", events(text_event("Half a"), finish=False)),
            ("error_event", events({"error": {"message": f"overloaded {KEY}"}})),
            ("no_json", events("{no json")),
            ("empty", empty),
            ("silent", silent),
            ("drip", events(*[item for word in ("slow ", "drip") for item in (text_event(word), 0.05)])),
        ]


def test_64_workers_through_a_misbehaving_endpoint_lose_nothing_and_learn_nothing(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    misbehaving = Misbehaving()
    server.then(reply("probe"))
    server.default = misbehaving
    prices = {"usd_per_million_input_tokens": PER_TOKEN, "usd_per_million_output_tokens": PER_TOKEN}
    flags = (
        TWO_TURNS,
        models_file(tmp_path, server.url, read_timeout=4.0, requests_at_once=24, **prices),
        "mephisto.blueprint.max_model_response_time=90",
        "mephisto.log_level=debug",
    )
    task = start_task(*flags, needed="e:64", forked=False)  # its arguments are looked at
    assert task.process is not None
    outcomes = asyncio.run(simulate(task.port, 64, [Behaviour(step_timeout=240)]))
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    task.__exit__()
    saved = task.conversations()
    assert len(misbehaving.faults) == 10, f"not every fault came up: {misbehaving.faults}"
    assert Counter(outcome.result for outcome in outcomes) == Counter(chat["status"] for chat in saved), task.log
    assert len(saved) == 64
    failed = [chat for chat in saved if chat["status"] == "incomplete"]
    assert misbehaving.faults["401"] <= len(failed) < 32
    assert all(chat["reason"].startswith("model failed: ") for chat in failed)
    assert set(task.agent_statuses()) == {"completed"}, "nobody loses pay"

    used = Counter[str]()
    for chat in saved:
        for generation in [*replies(chat), chat["failed_generation"]]:
            used.update(tokens(generation))
    assert used == misbehaving.counted
    assert f"models: ${used.total():,.2f} spent" in task.log

    assert server.open_at_most <= 24
    everything = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [path for path, data in everything.items() if KEY.encode() in data] == []
    told = json.dumps([outcome.packets for outcome in outcomes])
    assert "My key is [secret]." in told
    for secret in (
        KEY,
        "asked-model",
        server.url,
        "served-model",
        "Incorrect API key",
        "overloaded",
        "slow down",
        "traceback",
    ):
        assert secret not in told
    assert KEY not in processes


def test_at_the_limit_no_conversation_begins_and_the_one_that_goes_on_ends_well(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    server.default = reply(prompt=0, completion=1)
    prices = {"usd_per_million_input_tokens": 0, "usd_per_million_output_tokens": PER_TOKEN}
    file = models_file(tmp_path, server.url, **prices)
    limit = "mephisto.blueprint.max_model_spend_usd"
    task = start_task(TWO_TURNS, file, f"{limit}=5", needed="e:4")
    outcomes = [asyncio.run(simulate(task.port, 1, [Behaviour()], prefix=f"w{i}"))[0].result for i in range(2)]
    assert outcomes == ["complete", "complete"], "the second went over the limit, and to its end"
    assert task.wait() == 3, task.log
    assert "since its models have cost mephisto.blueprint.max_model_spend_usd ($5.00)" in task.log
    assert "2 of 4 conversations are collected" in task.log
    assert "models: $6.00 of $5.00 spent" in task.log

    with pytest.raises(AssertionError, match=r"(?s)have cost \$6\.00.*raise it.*Nothing was launched"):
        start_task(TWO_TURNS, file, f"{limit}=6", needed="e:4")

    again = start_task(TWO_TURNS, file, f"{limit}=7", needed="e:4")
    outcomes = [asyncio.run(simulate(again.port, 1, [Behaviour()], prefix=f"x{i}"))[0].result for i in range(1)]
    assert outcomes == ["complete"], "what the first run has cost counts"
    assert again.wait() == 3, again.log
    assert "3 of 4 conversations are collected" in again.log
    assert "models: $9.00 of $7.00 spent" in again.log


def test_who_comes_at_the_limit_while_a_conversation_goes_on_gets_no_work(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    server.default = reply(prompt=0, completion=1)
    prices = {"usd_per_million_input_tokens": 0, "usd_per_million_output_tokens": PER_TOKEN}
    task = start_task(
        TWO_TURNS, models_file(tmp_path, server.url, **prices), "mephisto.blueprint.max_model_spend_usd=1", needed="e:3"
    )
    (first,) = asyncio.run(simulate(task.port, 1, [Behaviour(stay_silent=True)], prefix="first"))
    assert first.result == "left", "in the middle of a conversation, which waits for an answer"
    (second,) = asyncio.run(simulate(task.port, 1, [Behaviour()], prefix="second"))
    assert second.result.startswith("no work"), task.log


def test_kill_9_loses_nothing_that_is_known_of_replies_and_the_page_gets_none_of_it(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    server.default = reply(prompt=7, completion=3)
    prices = {"usd_per_million_input_tokens": PER_TOKEN, "usd_per_million_output_tokens": PER_TOKEN}
    file = models_file(tmp_path, server.url, **prices)
    task = start_task(TWO_TURNS, file, needed="e:2")
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour(leave_after=1)]))
    assert task.process is not None
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.wait()
    told = json.dumps(outcome.packets)
    assert "generation" not in told and "served-model" not in told
    again = start_task(TWO_TURNS, file, "mephisto.blueprint.max_model_spend_usd=100", needed="e:2")
    (chat,) = again.conversations()
    assert chat["status"] == "incomplete"
    assert [generation["completion_tokens"] for generation in replies(chat)] == [3, 3]
    assert all(generation["served_model"] == "served-model" for generation in replies(chat))
    again.__exit__()
    assert "models: $20.00 of $100.00 spent" in again.log, "the recovered conversation has cost something, too"


def test_a_model_that_cannot_chat_is_found_before_the_launch(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    server.default = status(401)
    with pytest.raises(AssertionError) as refused:
        start_task(models_file(tmp_path, server.url), needed="e:1")
    said = str(refused.value)
    assert f"the model 'e': 'asked-model' at {server.url}" in said
    assert "the key in TEST_ENDPOINT_KEY is not accepted" in said
    assert "Nothing was launched." in said
    assert "Traceback" not in said and KEY not in said


def test_a_run_with_ray_asks_endpoints_from_this_process(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    file = models_file(tmp_path, server.url)
    task = start_task(TWO_TURNS, file, "mephisto.blueprint.serving=ray", needed="e:1")
    assert "Ray" not in task.log
    (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour()]))
    assert outcome.result == "complete"
    assert task.wait() == 0, task.log


@pytest.mark.slow
def test_a_whole_task_with_a_real_server(start_task: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not GGUF.is_file():
        pytest.skip("the demo model is not made (python scripts/make_demo_models.py --only demo/smollm2)")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with llama_server(tmp_path / "llama.log") as url:
        settings = {"max_tokens": 24, "extra_body": {"top_k": 20}, "temperature": 0.7, "system_prompt": "Be brief."}
        (tmp_path / "models" / "f").mkdir(parents=True, exist_ok=True)
        opt = {"model": ENDPOINT_AGENT, "base_url": url, "endpoint_model": "whole", "stream": False, "max_tokens": 24}
        (tmp_path / "models" / "f" / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
        task = start_task(TWO_TURNS, models_file(tmp_path, url, **settings), needed="e:3,f:3")
        outcomes = asyncio.run(simulate(task.port, 6, [Behaviour(step_timeout=240)]))
        assert Counter(outcome.result for outcome in outcomes) == {"complete": 6}, task.log
        assert task.wait() == 0, task.log
    for chat in task.conversations():
        streamed = chat["task_description"]["model_nickname"] == "e"
        for generation in replies(chat):
            assert generation["prompt_tokens"] > 5
            assert 0 < generation["completion_tokens"] <= 24
            assert generation["finish_reason"] in ("stop", "length")
            assert generation["served_model"]
            assert ("seconds_to_first_token" in generation) == streamed
            assert 0 < generation.get("seconds_to_first_token", 0.001) <= generation["seconds"]


def test_image_chat_sends_the_image_with_each_request(server: EndpointServer, tmp_path: Path) -> None:
    from model_chat.tests.e2e.running_image_task import NO_ANNOTATION, image_tasks

    with image_tasks(tmp_path) as start:
        flags = (models_file(tmp_path, server.url, takes_images=True), "mephisto.blueprint.image_models=e")
        task = start(TWO_TURNS, NO_ANNOTATION, *flags, images=1, conversations=1)
        (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour()]))
        assert outcome.result == "complete", task.log
        assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert all(generation["prompt_tokens"] == 10 for generation in replies(chat))
    *_, last = server.requests
    first, *others = [message for message in last.body["messages"] if message["role"] == "user"]
    text, image = first["content"]
    assert text["type"] == "text"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert all(isinstance(message["content"], str) for message in others)
    assert "base64" not in json.dumps(chat)


def test_image_chat_refuses_a_model_that_is_not_to_get_the_image(server: EndpointServer, tmp_path: Path) -> None:
    from model_chat.tests.e2e.running_image_task import image_tasks

    with image_tasks(tmp_path) as start, pytest.raises(AssertionError, match="the model 'e' takes no images"):
        start(models_file(tmp_path, server.url), "mephisto.blueprint.image_models=e", images=1)
