"""What a hostile or broken page can send into live conversations: all of them still finish, and what is saved is clean."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from websockets.exceptions import ConnectionClosed

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker
from model_chat.tests.e2e.running_task import ROOT, RunningTask

Start = Callable[..., RunningTask]
ANNOTATION = f"mephisto.blueprint.annotations_config_path={ROOT}/task_config/dummy/annotations_config.json"
BUCKETS = [*(f"bucket_{number}" for number in range(5)), "none_all_good"]
GOOD_TICKS = {bucket: bucket == "bucket_1" for bucket in BUCKETS}
MARK = "HOSTILE"
"""Stands in every hostile text; none of it may be saved."""
WORKERS = 8

WRONG_TYPES: list[Any] = [None, True, False, 0, -1, 3.5, 10**400, "text", "", [], [1], {}, {"a": 1}, [[]], "\ud800"]


def hostile_updates() -> list[dict[str, Any]]:
    """Contents of live updates that must not be taken while a message with an annotation is expected."""

    def update(text: Any = MARK, **task_data: Any) -> dict[str, Any]:
        return {
            "text": text,
            "id": "Speaker 1",
            "episode_done": False,
            "task_data": {"message_id": str(uuid4()), "problem_data_for_prior_message": GOOD_TICKS, **task_data},
        }

    table: list[dict[str, Any]] = []
    # texts
    table += [update(text) for text in WRONG_TYPES if not (isinstance(text, str) and text.strip() and text != "\ud800")]
    table += [
        update(text) for text in ("", " ", "\n\t ", "\u200b\u200b", "\x00\x01", "\u2028", "x" * 2001, MARK * 20_000)
    ]
    # annotations
    table += [update(problem_data_for_prior_message=ticks) for ticks in WRONG_TYPES]
    table += [
        update(problem_data_for_prior_message=ticks)
        for ticks in (
            dict.fromkeys(BUCKETS, False),
            dict.fromkeys(BUCKETS, True),
            {"bucket_0": True, "none_all_good": True},
            {"bucket_0": 1},
            {"bucket_0": "true"},
            {"bucket_0": None},
            {"bucket_99": True},
            {"bucket_0": True, "unknown": False},
            {"__proto__": True},
            {"bucket_0": {"$ne": False}},
            {"bucket_0 ": True},
            {"BUCKET_0": True},
        )
    ]
    # ratings that come early (the router makes null, which is no rating, of a number that JavaScript has not)
    table += [
        update(final_rating=rating)
        for rating in [*(value for value in WRONG_TYPES[1:] if value != 10**400), [5], [0], [6], ["5"], "5", [5, 5]]
    ]
    # message ids
    table += [update(message_id=value) for value in [*WRONG_TYPES[:7], [], {}, "x" * 65, "new\nline", "\x00"]]
    # task_data and the update as a whole
    table += [{"text": MARK, "id": "Speaker 1", "task_data": value} for value in WRONG_TYPES]
    table += [{}, {"text": MARK}, {"task_data": {}}, {"unrelated": [MARK] * 50}, {"WORLD_DATA": {"custom_data": MARK}}]
    table += [
        {**update(), "text": {"$where": MARK}},
        {**update(None), "id": "Speaker 2", "agent_idx": 1},
        {"id": "SUBMIT_WORLD_DATA", "WORLD_DATA": {"custom_data": {"dialog": [MARK]}}, "text": "", "task_data": {}},
        {"final_chat_data": MARK, "task_data": {"message_id": "m"}},
    ]
    return table


def hostile_packets(agent_id: str) -> list[str]:
    """Raw frames that are no live update, or a broken one."""
    base = {"packet_type": "mephisto_bound_live_update", "subject_id": agent_id, "data": {"text": MARK}}
    frames = [json.dumps({**base, key: value}) for key in ("data", "subject_id") for value in WRONG_TYPES[:14]]
    frames += [json.dumps({name: value for name, value in base.items() if name != key}) for key in base]
    frames += [json.dumps({**base, "data": {"update_id": value, "text": MARK}}) for value in ([], {}, 1, True)]
    frames += [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "{}",
        "NaN",
        "\x00",
        '{"packet_type": "no such thing"}',
        "x" * 100_000,
    ]
    frames += [
        '{"packet_type": "mephisto_bound_live_update", "subject_id": "'
        + agent_id
        + '", "data": '
        + "[" * depth
        + "]" * depth
        + "}"
        for depth in (50, 5_000)
    ]
    frames += [json.dumps({**base, "subject_id": "999999"}), json.dumps({**base, "subject_id": "onboarding_999"})]
    return frames


class HostileWorker(SimulatedWorker):
    """Sends its share of the table whenever it is asked for a message, and then a proper one."""

    share: list[dict[str, Any]]
    raw_share: int = 0

    async def run_hostile(self, turns: int) -> str:
        await self.load_config()
        await self.register()
        parts = [self.share[number::turns] for number in range(turns)]
        said = 0
        while True:
            update = await self.next_update()
            data = update.get("task_data") or {}
            control = data.get("control")
            if control == "refused":
                assert data["reason"], data
                self.outcome.refused[data["code"]] += 1
            elif control == "your_turn" and data["ask"] == "message":
                for content in parts[said]:
                    await self.send_packet("mephisto_bound_live_update", content)
                if said == 0:
                    for frame in hostile_packets(str(self.agent_id))[self.raw_share :: WORKERS]:
                        assert self._socket is not None
                        await self._socket.send(frame)
                said += 1
                await self.send_update({"problem_data_for_prior_message": GOOD_TICKS}, text=f"Proper message {said}.")
            elif control == "your_turn":
                for rating in (None, [], [0], [6], [5, 5], ["5"], "5", [True], [4.0], {}, [None], 10**400):
                    await self.send_update({"problem_data_for_prior_message": GOOD_TICKS, "final_rating": rating})
                await self.send_update({"problem_data_for_prior_message": GOOD_TICKS, "final_rating": [2]}, text=MARK)
                await self.send_update({"problem_data_for_prior_message": GOOD_TICKS, "final_rating": [4]})
            elif control == "ended":
                await self.post("submit_task", {"USED_AGENT_ID": self.agent_id, "final_data": {}})
                return str(data["outcome"])


def test_no_hostile_packet_harms_a_conversation_and_none_of_it_is_saved(start_task: Start) -> None:
    turns = 3
    table = hostile_updates()
    count = len(table) + len(hostile_packets("1")) + WORKERS * 13
    assert count >= 200
    task = start_task(f"mephisto.blueprint.num_turns={turns}", ANNOTATION, needed=f"a:{WORKERS}")

    async def live() -> tuple[list[str], Counter[str]]:
        async with httpx.AsyncClient(timeout=120) as http:
            workers = []
            for number in range(WORKERS):
                worker = HostileWorker(task.port, f"hostile{number}", str(number), Behaviour(), number, http)
                worker.share = table[number::WORKERS]
                worker.raw_share = number
                workers.append(worker)
            try:
                results = await asyncio.gather(*(worker.run_hostile(turns) for worker in workers))
            finally:
                for worker in workers:
                    with contextlib.suppress(ConnectionClosed):
                        await worker.disconnect()
            return results, sum((worker.outcome.refused for worker in workers), Counter[str]())

    results, refused = asyncio.run(live())
    assert results == ["complete"] * WORKERS, task.log
    assert task.wait() == 0, task.log
    saved = task.conversations()
    assert len(saved) == WORKERS
    for record in saved:
        assert MARK not in json.dumps(record)
        chat = Conversation.from_dict(record)
        texts = [utterance.text for utterance in chat.dialog if utterance.agent_idx == 0]
        assert texts == ["Hi!", *(f"Proper message {number}." for number in range(1, turns + 1))]
        assert chat.dialog[-1].final_rating == "4"
        assert all(utterance.problem_data == GOOD_TICKS for utterance in chat.dialog if utterance.agent_idx == 1)
    assert MARK not in json.dumps(task.world_data())
    states = [path.read_text(encoding="utf-8") for path in task.data.glob("data/runs/*/*/*/*/state.json")]
    assert states
    assert not any(MARK in state for state in states)
    # every kind of refusal that a page can provoke in such a conversation was provoked, and told
    for code in ("malformed", "empty", "too_long", "annotation_missing", "annotation_unknown", "annotation_conflict"):
        assert refused[code] > 0, refused
    for code in ("rating_early", "rating_missing", "rating_count", "rating_range"):
        assert refused[code] > 0, refused
