"""People played by a model, over the wire: marked in the record, refused where people are paid, not counted."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_chat.scripts._played_people import Persona, PlayedPeople
from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests import preloaded
from model_chat.tests.e2e.running_task import ROOT, RunningTask
from model_chat.tests.endpoint_server import reply, serving
from model_chat.tests.llama_server import GGUF, llama_server

Start = Callable[..., RunningTask]
TWO_TURNS = "mephisto.blueprint.num_turns=2"
ANNA = Persona("anna", "You are Anna, a nurse who likes hiking.")


@contextmanager
def people(folder: Path, url: str, **settings: object) -> Iterator[PlayedPeople]:
    path = folder / "people.yaml"
    path.write_text(json.dumps({"played": {"base_url": url, "endpoint_model": "m", **settings}}), "utf-8")
    made = PlayedPeople(str(path), [ANNA])
    try:
        yield made
    finally:
        made.close()


def compiled(folder: Path, task: RunningTask, *flags: str) -> str:
    command = [sys.executable, "analysis/compile_results.py", "--results-folders", str(task.chats)]
    command += ["--output-folder", str(folder / "results"), "--problem-buckets", "none", "--no-report", *flags]
    return preloaded.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=250).stdout


def test_the_model_speaks_as_the_persona_and_the_record_says_who_played(start_task: Start, tmp_path: Path) -> None:
    task = start_task(TWO_TURNS, needed="a:1")
    with serving() as server:
        server.default = reply("I walked in the hills today, it was lovely.")
        prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 1.0}
        with people(tmp_path, server.url, **prices) as played:
            (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour()], people=played))
            assert outcome.result == "complete", task.log
            assert "2 messages, 43 characters on average" in played.sentence()
            assert played.cost_usd > 0
        asked = [request.body["messages"] for request in server.requests]
    assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert chat["simulated"] == {"model": "played", "persona": "anna"}
    said = [line["text"] for line in chat["dialog"] if line["agent_idx"] == 0 and not line.get("fake_start")]
    assert said == ["I walked in the hills today, it was lovely."] * 2
    *_, last = asked
    assert ANNA.text in last[0]["content"]
    heard = [message["content"] for message in last if message["role"] == "user"]
    assert heard[-2:] == ["Reply of the first one."] * 2
    assert [message["role"] for message in last[-3:]] == ["user", "assistant", "user"]
    left_out = compiled(tmp_path, task)
    assert "1 conversations found, 0 counted" in left_out
    assert "simulated" in left_out
    assert "1 conversations found, 1 counted" in compiled(tmp_path, task, "--include-simulated")


def test_where_people_are_paid_they_are_refused_and_take_no_place(start_task: Start, tmp_path: Path) -> None:
    task = start_task(TWO_TURNS, "mephisto/provider=link", "mephisto.provider.codes.complete=C1DONE88", needed="a:1")
    with serving() as server, people(tmp_path, server.url) as played:
        (refused,) = asyncio.run(simulate(task.port, 1, [Behaviour()], address="?", people=played))
        assert "provider=mock only" in refused.result
        (person,) = asyncio.run(simulate(task.port, 1, [Behaviour()], address="?", prefix="person"))
        assert person.result == "complete", task.log
    (chat,) = task.conversations()
    assert chat["simulated"] is None


def test_a_model_that_fails_ends_its_person_and_nobody_else(start_task: Start, tmp_path: Path) -> None:
    task = start_task(TWO_TURNS, needed="a:1")
    with serving() as server:
        server.default = reply("Hello.")
        with people(tmp_path, server.url) as played:
            server.default = reply("")
            outcomes = asyncio.run(simulate(task.port, 1, [Behaviour()], people=played))
    assert outcomes[0].result.startswith("error: the model that plays the person failed"), outcomes[0].result


@pytest.mark.slow
def test_a_real_server_plays_a_person(start_task: Start, tmp_path: Path) -> None:
    if not GGUF.is_file():
        pytest.skip("the demo model is not made (python scripts/make_demo_models.py --only demo/smollm2)")
    task = start_task(TWO_TURNS, needed="a:1")
    with (
        llama_server(tmp_path / "llama.log") as url,
        people(tmp_path, url, max_tokens=24, temperature=0.7) as played,
    ):
        (outcome,) = asyncio.run(simulate(task.port, 1, [Behaviour(step_timeout=240)], people=played))
        assert outcome.result == "complete", task.log
    assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert chat["simulated"]["persona"] == "anna"
