"""Replies that grow, and their pace, in whole tasks: run.py, the real router, and an endpoint that writes on command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.configuration.redaction import SHORTEST
from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker
from model_chat.tests.e2e.running_task import RunningTask
from model_chat.tests.e2e.test_endpoint import KEY, KEY_VARIABLE, TWO_TURNS, models_file, replies
from model_chat.tests.endpoint_server import EndpointServer, Exchange, endless, reply, serving, status

Start = Callable[..., RunningTask]
STREAM = "mephisto.blueprint.stream_replies=true"
PLAIN = "mephisto.blueprint.annotations_config_path=''"
WORDS = ["I ", "like ", "茶 ", "and ", "😀", ", ", "do ", "you?"]
TEXT = "".join(WORDS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with serving() as running:
        running.then(reply("probe"))
        running.default = reply("Hello there.")
        yield running


class Dictation:
    """A reply whose words are sent as a test says."""

    def __init__(self, ends_well: bool = True) -> None:
        self._allowed = threading.Semaphore(0)
        self._ends_well = ends_well

    def say(self, count: int = 1) -> None:
        """Let so many further words be sent."""
        self._allowed.release(count)

    async def __call__(self, exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        for word in WORDS:
            while not self._allowed.acquire(blocking=False):
                await asyncio.sleep(0.005)
            exchange.delta(content=word)
            await exchange.writer.drain()
        while not self._allowed.acquire(blocking=False):
            await asyncio.sleep(0.005)
        if self._ends_well:
            exchange.delta("stop")
            exchange.event("[DONE]")


class Visitor(SimulatedWorker):
    """A worker who does what a test says."""

    details: dict[str, Any]
    """What the page was told when it came."""


@asynccontextmanager
async def at_the_task(task: RunningTask, name: str = "w") -> AsyncIterator[Visitor]:
    async with (
        httpx.AsyncClient(timeout=120) as http,
        Visitor(task.port, name, "1", Behaviour(), 1, http) as worker,
    ):
        worker.details = await worker.register()
        yield worker


async def until(worker: SimulatedWorker, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """What comes, up to what is wanted."""
    came = []
    async with asyncio.timeout(60):
        while True:
            came.append(await worker.next_update())
            assert control(came[-1]) != "refused", came[-1]
            if wanted(came[-1]):
                return came


def control(update: dict[str, Any]) -> str | None:
    name: str | None = (update.get("task_data") or {}).get("control")
    return name


def named(*names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda update: control(update) in names


def shows(text: str) -> Callable[[dict[str, Any]], bool]:
    """A part with this text; its end may be held back, for it could begin one of the run's random secrets."""

    def is_shown(update: dict[str, Any]) -> bool:
        said = update["task_data"]["text"] if control(update) == "reply_part" else ""
        return said != "" and text.startswith(said) and len(text) - len(said) < SHORTEST

    return is_shown


def is_reply(update: dict[str, Any]) -> bool:
    return "text" in update and bool(update["text"]) and update["task_data"].get("agent_idx") == 1


def parts(updates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [update["task_data"] for update in updates if control(update) == "reply_part"]


async def finish(worker: SimulatedWorker) -> None:
    """Say what is left to be said, and hand in."""
    while True:
        update = (await until(worker, named("your_turn", "ended")))[-1]
        if control(update) == "ended":
            await worker.post("submit_task", {"USED_AGENT_ID": worker.agent_id, "final_data": {}})
            return
        if update["task_data"]["ask"] == "message":
            await worker.send_update({}, text="Go on.")
        else:
            await worker.send_update({"final_rating": [4]})


def written(task: RunningTask) -> str:
    """Everything in the task's folders."""
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in task.folder.rglob("*") if path.is_file())


def test_a_reply_grows_is_reloaded_in_the_middle_and_is_recorded_once(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    dictation = Dictation()
    server.then(reply("Hi."), dictation)
    task = start_task(TWO_TURNS, STREAM, PLAIN, models_file(tmp_path, server.url), needed="e:1")

    async def live() -> None:
        async with at_the_task(task) as worker:
            config = await worker.load_config()
            assert config["stream_replies"] is True
            await until(worker, named("your_turn"))
            await worker.send_update({}, text="Hello!")
            grown = []
            for end in range(1, 5):
                dictation.say()
                grown += await until(worker, shows("".join(WORDS[:end]).strip()))
            await worker.disconnect()
            dictation.say()
            await asyncio.sleep(0.6)  # nobody is there to take the next part
            assert "reply_part" not in written(task)

            async with at_the_task(task) as again:
                past = again.details["init_task_data"]["past_live_updates"]
                assert len(past) > 3
                for _ in past:  # they are taken first; what comes by the socket follows
                    again._updates.get_nowait()
                assert parts(past) == []
                dictation.say()
                came = await until(again, shows("".join(WORDS[:6]).strip()))
                dictation.say(10)
                came += await until(again, named("your_turn"))
                (whole,) = [update for update in came if is_reply(update)]
                assert whole["text"] == TEXT
                shown = [*parts(grown), *parts(came)]
                assert [part["part"] for part in shown] == sorted({part["part"] for part in shown})
                assert all(TEXT.startswith(part["text"]) for part in shown)
                assert {(part["utterance_idx"], part["side"]) for part in shown} == {(3, None)}
                assert whole["task_data"]["utterance_idx"] == 3
                assert not parts(came[came.index(whole) :]), "the message is the last of it"
                again._updates.put_nowait(came[-1])
                await finish(again)

    asyncio.run(live())
    assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert [line["text"] for line in chat["dialog"]][2:4] == ["Hello!", TEXT]
    assert all("paced" not in generation for generation in replies(chat))
    assert written(task).count("reply_part") == 0


def test_half_a_reply_that_is_asked_for_again_is_replaced(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    broken, whole = Dictation(ends_well=False), Dictation()
    server.then(reply("Hi."), broken, whole)
    task = start_task(TWO_TURNS, STREAM, PLAIN, models_file(tmp_path, server.url), needed="e:1")

    async def live() -> list[dict[str, Any]]:
        async with at_the_task(task) as worker:
            await until(worker, named("your_turn"))
            await worker.send_update({}, text="Hello!")
            broken.say(8)
            came = await until(worker, shows(TEXT))
            broken.say()
            whole.say(2)
            came += await until(worker, shows("I like"))
            whole.say(8)
            came += await until(worker, is_reply)
            await finish(worker)
            return came

    came = asyncio.run(live())
    assert came[-1]["text"] == TEXT
    numbers = [part["part"] for part in parts(came)]
    assert numbers == sorted(set(numbers)), "what begins anew has a higher number"
    assert task.wait() == 0, task.log
    (chat,) = task.conversations()
    assert replies(chat)[1]["retries"] == 1


@pytest.mark.parametrize("end", ["refused", "too late"])
def test_a_model_that_fails_in_the_middle_of_a_reply_sends_no_part_afterwards(
    start_task: Start, server: EndpointServer, tmp_path: Path, end: str
) -> None:
    broken = Dictation(ends_well=False)
    server.then(reply("Hi."), *([broken, status(401)] if end == "refused" else [endless]))
    limit = "mephisto.blueprint.max_model_response_time=6"
    pace = "mephisto.blueprint.reply_first_seconds=1"
    task = start_task(TWO_TURNS, STREAM, PLAIN, pace, limit, models_file(tmp_path, server.url), needed="e:1")

    async def live() -> list[dict[str, Any]]:
        async with at_the_task(task) as worker:
            await until(worker, named("your_turn"))
            await worker.send_update({}, text="Hello!")
            broken.say(2)
            came = await until(worker, named("reply_part"))
            broken.say(10)
            came += await until(worker, named("model_failed"))
            await asyncio.sleep(0.6)
            while not worker._updates.empty():
                came.append(worker._updates.get_nowait())
            return came

    came = asyncio.run(live())
    failed = next(at for at, update in enumerate(came) if control(update) == "model_failed")
    assert parts(came[:failed])
    assert not parts(came[failed:])
    (chat,) = task.conversations()
    assert chat["reason"].startswith("model failed: ")
    assert "I like" not in json.dumps(chat)


def test_kill_9_in_the_middle_of_a_reply_leaves_nothing_of_it_on_disk(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    dictation = Dictation()
    server.then(reply("Hi."), dictation)
    flags = (TWO_TURNS, STREAM, PLAIN, models_file(tmp_path, server.url))
    task = start_task(*flags, needed="e:1")

    async def live() -> None:
        async with at_the_task(task) as worker:
            await until(worker, named("your_turn"))
            await worker.send_update({}, text="Hello!")
            dictation.say(2)
            await until(worker, shows("I like"))
            assert task.process is not None
            os.killpg(task.process.pid, signal.SIGKILL)
            task.process.wait()

    asyncio.run(live())
    assert "I like" not in written(task)
    assert "reply_part" not in written(task)
    server.then(reply("probe"))
    task = start_task(*flags, needed="e:1")
    (chat,) = task.conversations()
    assert [line["text"] for line in chat["dialog"]] == ["Hi!", "Hi.", "Hello!"]


def test_two_models_of_different_speed_are_never_shown_before_their_time(
    start_task: Start, server: EndpointServer, tmp_path: Path
) -> None:
    """That none is later than the pace is a matter of the machine: see the tests with a clock of their own."""
    first, rate = 1.5, 40.0
    flags = (
        "mephisto.blueprint.num_turns=1",
        STREAM,
        PLAIN,
        f"mephisto.blueprint.reply_first_seconds={first}",
        f"mephisto.blueprint.reply_chars_per_second={rate}",
    )
    text = "A reply that takes a while to be shown: fifty characters, and more."
    server.queue.clear()

    async def by_model(exchange: Exchange) -> None:
        await reply(text, wait=0.2 if exchange.body["model"] == "fast" else 1.0)(exchange)

    server.default = by_model
    given = {"base_url": server.url, "api_key_env": KEY_VARIABLE}
    models = {name: {**given, "endpoint_model": name} for name in ("fast", "slow")}
    path = tmp_path / "models.yaml"
    path.write_text(json.dumps(models), encoding="utf-8")
    task = start_task(*flags, f"mephisto.blueprint.model_opt_path={path}", needed="fast:1,slow:1")

    async def live(name: str) -> list[dict[str, Any]]:
        async with at_the_task(task, name) as worker:
            await until(worker, named("your_turn"))
            await worker.send_update({}, text="Hello!")
            await until(worker, lambda update: update.get("text") == "Hello!")
            came = await until(worker, is_reply)
            packets = {
                packet["data"]["update_id"]: packet
                for packet in worker.outcome.packets
                if packet.get("packet_type") == "client_bound_live_update"
            }
            await finish(worker)
            asked = next(
                packet["server_timestamp"] for packet in packets.values() if packet["data"]["text"] == "Hello!"
            )
            came = [update for update in came if "status" not in update]
            # Two clocks, one that may be set and one that may not: a hundredth of a second between them.
            sent = [packets[update["update_id"]]["router_outgoing_timestamp"] - asked + 0.01 for update in came]
            for update, at in zip(came[:-1], sent, strict=False):
                assert len(update["task_data"]["text"]) <= 1 + (at - first) * rate
            assert sent[-1] >= first + len(text) / rate
            return came

    async def both() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(live("one"), live("two"))

    for came in asyncio.run(both()):
        assert parts(came)
        assert came[-1]["text"] == text
    assert task.wait() == 0, task.log
    chats = task.conversations()
    assert {chat["task_description"]["model_nickname"] for chat in chats} == {"fast", "slow"}
    assert all(isinstance(generation["paced"], bool) for chat in chats for generation in replies(chat))
    for chat in chats:
        took = [generation["seconds"] for generation in replies(chat)]
        assert min(took) < first + len(text) / rate, "the pace is not counted as the model's time"
