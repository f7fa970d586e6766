"""Models behind an OpenAI-compatible endpoint, against a real HTTP server: what is sent, and what becomes of replies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model_chat.bot_agent import BotAgent
from model_chat.errors import ConfigurationError, ModelFailureError
from model_chat.records.schema import Generation
from model_chat.serving.catalogue import ModelSource, models_in_folder, models_in_opt_file, opt_faults
from model_chat.serving.loading import load_model
from model_chat.serving.pool import ModelPool
from model_chat.tests.agents.endpoint_models import KEY, failure, heard, make, say
from model_chat.tests.endpoint_server import (
    EndpointServer,
    Exchange,
    events,
    reply,
    status,
    text_event,
)

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_kind_of_an_answer_is_known_however_it_is_written(server: EndpointServer) -> None:
    async def shouting(exchange: Exchange) -> None:
        exchange.head(200, "TEXT/Event-Stream; charset=UTF-8")
        exchange.event(text_event("Hi.", "stop"))

    server.then(shouting)
    act = say(make(server))
    assert (act["text"], act["generation"]["retries"]) == ("Hi.", 0)


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


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Ponder."}]},
        {"type": "thinking", "thinking": "Ponder."},
        {"type": "reasoning", "text": "Ponder."},
        {"type": "reasoning", "reasoning": "Ponder."},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_among_the_parts_of_a_content_is_not_said(
    server: EndpointServer, part: dict[str, Any], stream: bool
) -> None:
    content = [part, {"type": "text", "text": "Hel"}, {"text": "lo."}, {"type": "image_url", "text": "x"}, "y"]
    choice = {"delta" if stream else "message": {"content": content}, "finish_reason": "stop"}
    server.then(events({"choices": [choice]}) if stream else status(200, {"choices": [choice]}))
    told: list[str] = []
    act = say(make(server, keep_reasoning=True), tell=told.append)
    assert (act["text"], act["generation"]["reasoning"]) == ("Hello.", "Ponder.")
    assert "Ponder" not in "".join(told)


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


def test_the_blueprint_is_imported_without_what_endpoints_need() -> None:
    code = "import sys, model_chat.model_chat_blueprint; print({'httpx', 'model_chat.agents.endpoint'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


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
