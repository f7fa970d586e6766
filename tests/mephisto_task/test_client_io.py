"""What the run script takes from the router: nothing that no page sends, and nothing without bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from mephisto.data_model.packet import Packet

from model_chat.mephisto_task import client_io
from model_chat.mephisto_task.client_io import MOST_REQUESTS, MOST_SUBMITTED_BYTES, MOST_WAITING_BYTES, BoundedClientIO
from model_chat.quality import refusals
from model_chat.quality.refusals import MOST_WAITING
from model_chat.tests.mephisto_run import Run

LIVE = "mephisto_bound_live_update"


class Pool:
    """Takes note of who asks for work, and answers nobody."""

    def __init__(self) -> None:
        self.agents: dict[str, Any] = {}
        self.onboarding_agents: dict[str, Any] = {}
        self.final_onboardings: dict[str, Any] = {}
        self.onboarding_infos: dict[str, Any] = {}
        self.asked: list[str] = []
        self.reconnected: list[str] = []

    def get_agent_for_id(self, agent_id: str) -> Any:
        return self.agents.get(agent_id) or self.onboarding_agents.get(agent_id)

    async def register_worker(self, crowd_data: dict[str, Any], request_id: str) -> None:
        self.asked.append(crowd_data["worker_name"])

    async def reconnect_agent(self, agent_id: str, request_id: str) -> None:
        self.reconnected.append(agent_id)

    async def hand_in_again(self, onboarding_id: str, request_id: str) -> None:
        self.asked.append(onboarding_id)

    async def push_status_update(self, agent: Any) -> None:
        pass


class Loop:
    """An event loop that a test runs until nothing is left to be done."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: list[Any] = []

    def execute_coro(self, coroutine: Any) -> None:
        self.tasks.append(self.loop.create_task(coroutine))

    def run(self) -> None:
        while self.tasks:
            self.loop.run_until_complete(self.tasks.pop(0))


class Channel:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def enqueue_send(self, packet: Any) -> bool:
        self.sent.append(packet)
        return True


@pytest.fixture
def io(mephisto_run: Run) -> Iterator[Any]:
    handler: Any = BoundedClientIO(mephisto_run.db)
    handler.pool, handler.channels = Pool(), {"router": Channel()}
    loop = Loop()
    handler.register_run(
        SimpleNamespace(worker_pool=handler.pool, loop_wrap=loop, provider=SimpleNamespace(PROVIDER_TYPE="mock"))
    )
    yield handler
    loop.loop.close()


def take(io: Any, packet: Packet) -> None:
    io._on_channel_message("router", packet)
    io.get_live_run().loop_wrap.run()


def receive(io: Any, kind: Any, subject: Any, data: Any, **more: Any) -> None:
    take(io, Packet(kind, subject, data, **more))


def ask(io: Any, worker: Any, request_id: Any, registration: Any = None) -> None:
    ids = {
        "worker_name": worker,
        "agent_registration_id": registration or f"{request_id}-{worker}",
        "assignment_id": "1",
    }
    receive(io, "register_agent", "r", {"request_id": request_id, "provider_data": ids})


def chatting(io: Any, run: Run, agent_id: str = "1") -> Any:
    agent = run.agent()
    agent.update_status("in task")
    io.pool.agents[agent_id] = agent
    return agent


# --- parts of replies ---


def test_a_part_is_made_when_its_turn_to_be_sent_has_come(io: Any) -> None:
    io.agent_id_to_channel_id["7"] = "router"
    text = "I"
    assert io.send_part("7", lambda: {"text": text})
    text = "I like"
    (packet,) = io.channels["router"].sent
    sent = packet.to_sendable_dict()
    assert (sent["packet_type"], sent["subject_id"], sent["data"]) == (
        "client_bound_live_update",
        "7",
        {"text": "I like"},
    )


def test_a_part_for_whom_there_is_no_connection_is_not_sent(io: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert io.send_part("7", dict) is False, "the agent is not known"
    io.agent_id_to_channel_id["7"] = "router"
    monkeypatch.setattr(Channel, "enqueue_send", lambda self, packet: False)
    assert io.send_part("7", dict) is False, "the connection is down"
    io.channels.clear()
    assert io.send_part("7", dict) is False, "the run is ending"


# --- what no page sends ---


@pytest.mark.parametrize(
    "kind", ["submit_metadata", "update_status", "agent_details", "alive", "no such", None, 5, ["x"]]
)
def test_packets_that_no_page_sends_are_dropped(io: Any, mephisto_run: Run, kind: Any) -> None:
    agent = chatting(io, mephisto_run)
    receive(io, kind, "1", {"tips": {"header": "h", "text": "t"}, "status": "completed"})
    assert agent.state.metadata.tips is None
    assert agent.pending_actions.empty()
    assert agent.db_status == "in task"


@pytest.mark.parametrize("data", [None, [], "text", 5, True])
@pytest.mark.parametrize(
    "kind", [LIVE, "submit_unit", "submit_onboarding", "register_agent", "return_statuses", "log_error"]
)
def test_data_of_odd_types_are_dropped(io: Any, mephisto_run: Run, kind: str, data: Any) -> None:
    agent = chatting(io, mephisto_run)
    packet = Packet(kind, "1", {})
    packet.data = data
    take(io, packet)
    assert agent.pending_actions.empty()
    assert not agent.did_submit.is_set()


@pytest.mark.parametrize("update_id", [[], {}, 1, True, "x" * 65])
def test_update_ids_of_odd_types_are_dropped(io: Any, mephisto_run: Run, update_id: Any) -> None:
    agent = chatting(io, mephisto_run)
    receive(io, LIVE, "1", {"update_id": update_id})
    assert agent.pending_actions.empty()


def test_a_hostile_packet_fills_no_log(io: Any, mephisto_run: Run, caplog: pytest.LogCaptureFixture) -> None:
    chatting(io, mephisto_run)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            receive(io, "submit_metadata", "\x1b[2J\n" + "x" * 10_000, {"text": "y" * 10_000})
            receive(io, "submit_onboarding", "onboarding_1", {"request_id": "r"})
    assert len([line for line in caplog.text.splitlines() if "dropped" in line]) == 1
    assert "\x1b" not in caplog.text
    assert "y" * 100 not in caplog.text
    assert all(len(record.getMessage()) < 400 for record in caplog.records)


# --- live updates ---


def test_an_update_is_taken_once_for_each_agent(io: Any, mephisto_run: Run) -> None:
    one, two = chatting(io, mephisto_run, "1"), chatting(io, mephisto_run, "2")
    for agent_id in ("1", "1", "2", "2"):
        receive(io, LIVE, agent_id, {"update_id": "m", "text": agent_id})
    assert one.pending_actions.get_nowait()["text"] == "1"
    assert two.pending_actions.get_nowait()["text"] == "2", "one worker's ids don't stand in another's way"
    assert one.pending_actions.empty()
    assert two.pending_actions.empty()


def test_waiting_updates_are_bounded_in_number_and_a_dropped_one_can_be_sent_again(io: Any, mephisto_run: Run) -> None:
    agent = chatting(io, mephisto_run)
    for number in range(MOST_WAITING + 10):
        receive(io, LIVE, "1", {"update_id": str(number)})
    assert agent.pending_actions.qsize() == MOST_WAITING
    while not agent.pending_actions.empty():
        agent.pending_actions.get_nowait()
    last = {"update_id": str(MOST_WAITING + 9)}
    receive(io, LIVE, "1", last)
    assert agent.pending_actions.get_nowait() == last


def test_waiting_updates_are_bounded_in_bytes(io: Any, mephisto_run: Run) -> None:
    agent = chatting(io, mephisto_run)
    for number in range(20):
        receive(io, LIVE, "1", {"update_id": str(number), "text": "x" * 200_000})
    assert agent.pending_actions.qsize() == MOST_WAITING_BYTES // 200_000
    agent.pending_actions.get_nowait()
    receive(io, LIVE, "1", {"update_id": "later", "text": "x" * 200_000})
    assert agent.pending_actions.qsize() == MOST_WAITING_BYTES // 200_000, "what was read no longer counts"


# --- handing in ---


def test_a_unit_is_handed_in_once_and_a_repeat_does_not_prolong_the_run(io: Any, mephisto_run: Run) -> None:
    agent = chatting(io, mephisto_run)
    receive(io, "submit_unit", "1", {"number": 1})
    io.last_submission_time = before = 1.0
    for number in range(2, 20):
        receive(io, "submit_unit", "1", {"number": number})
    assert agent.state.final_submission == {"number": 1}
    assert io.last_submission_time == before


def test_a_large_hand_in_counts_without_what_came_with_it(io: Any, mephisto_run: Run) -> None:
    agent = chatting(io, mephisto_run)
    receive(io, "submit_unit", "1", {"text": "x" * MOST_SUBMITTED_BYTES, "files": [{"filename": "../x"}]})
    assert agent.did_submit.is_set()
    assert agent.state.final_submission == {}


def test_files_that_a_hand_in_names_are_not_fetched(io: Any, mephisto_run: Run) -> None:
    agent = chatting(io, mephisto_run)
    receive(io, "submit_unit", "1", {"kept": 1, "files": [{"filename": "../../etc/passwd"}]})
    assert agent.state.final_submission == {"kept": 1}


def test_an_onboarding_is_not_handed_in_as_a_unit(io: Any, mephisto_run: Run) -> None:
    agent = mephisto_run.onboarding_agent()
    io.pool.onboarding_agents["onboarding_1"] = agent
    receive(io, "submit_unit", "onboarding_1", {})
    assert not agent.did_submit.is_set()


# --- requests ---


def test_one_worker_has_few_pending_requests_and_another_is_not_held_up(io: Any) -> None:
    for number in range(300):
        ask(io, "greedy", f"g{number}")
    ask(io, "modest", "m")
    assert io.pool.asked == ["greedy"] * MOST_REQUESTS + ["modest"]
    assert len(io.request_id_to_packet) == len(io.request_id_to_channel_id) == MOST_REQUESTS + 1
    io.enqueue_agent_details("g0", {"agent_id": "7"})
    ask(io, "greedy", "again")
    ask(io, "greedy", "too many")
    assert io.pool.asked == ["greedy"] * MOST_REQUESTS + ["modest", "greedy"]


def test_requests_that_nobody_answers_are_forgotten(io: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MOST_REQUESTS):
        ask(io, "greedy", f"g{number}")
    monkeypatch.setattr(client_io, "LONGEST_REQUEST", -1.0)
    ask(io, "greedy", "again")
    assert list(io.request_id_to_packet) == list(io.request_id_to_channel_id) == ["again"]
    assert io.pool.asked == ["greedy"] * (MOST_REQUESTS + 1)


@pytest.mark.parametrize("value", [None, 5, [], {}, "", "x" * 300])
@pytest.mark.parametrize("key", ["worker_name", "agent_registration_id", "assignment_id"])
def test_a_request_with_an_odd_id_is_dropped(io: Any, key: str, value: Any) -> None:
    ids = {"worker_name": "w", "agent_registration_id": "1-w", "assignment_id": "1", key: value}
    receive(io, "register_agent", "r", {"request_id": "r", "provider_data": ids})
    # Without a name a worker is answered: by the pool, with what to do.
    assert io.pool.asked == ([""] if (key, value) == ("worker_name", "") else [])
    io.pool.asked.clear()
    receive(io, "register_agent", "r", {"request_id": value, "provider_data": {**ids, key: "w"}})
    assert io.pool.asked == []


def test_nobody_gets_another_workers_conversation_by_its_registration(io: Any) -> None:
    ask(io, "victim", "r1", "1-victim")
    io.associate_agent_with_registration("7", "r1", "1-victim")
    io.enqueue_agent_details("r1", {"agent_id": "7"})
    ask(io, "attacker", "r2", "1-victim")
    assert io.pool.reconnected == []
    assert io.pool.asked == ["victim"]
    ask(io, "victim", "r3", "1-victim")  # the page was loaded again
    assert io.pool.reconnected == ["7"]


# --- connecting, and handing in an onboarding ---


class SlowChannel:
    """A channel that is alive at the given time of asking, or never (0)."""

    channel_id = "slow"

    def __init__(self, alive_at: int) -> None:
        self.alive_at, self.asked, self.calls = alive_at, 0, list[str]()

    def open(self) -> None:
        self.calls.append("open")

    def close(self) -> None:
        self.calls.append("close")

    def is_alive(self) -> bool:
        self.asked += 1
        return self.asked == self.alive_at


def test_a_connection_is_waited_for(io: Any) -> None:
    channel = SlowChannel(alive_at=3)
    assert io._register_channel(channel) == "slow"
    assert io.channels["slow"] is channel
    assert (channel.calls, channel.asked) == (["open"], 3)


def test_a_router_that_takes_no_connection_is_given_up(io: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "CONNECT_SECONDS", 0.05)
    channel = SlowChannel(alive_at=0)
    with pytest.raises(ConnectionRefusedError, match=r"takes no connection within 0\.05 s"):
        io._register_channel(channel)
    assert channel.calls == ["open", "close"]


def test_an_onboarding_is_handed_in_once_and_a_repeat_gets_the_answer_of_its_worker(io: Any, mephisto_run: Run) -> None:
    agent = mephisto_run.onboarding_agent()
    onboarding_id = agent.get_agent_id()
    io.pool.onboarding_agents[onboarding_id] = agent
    io.pool.onboarding_infos[onboarding_id] = SimpleNamespace(request_id="asked")
    for request_id in ("first", "again"):
        data = {"request_id": request_id, "onboarding_data": {}}
        io._on_submit_onboarding(Packet("submit_onboarding", onboarding_id, data), "router")
        io.get_live_run().loop_wrap.run()
        assert agent.did_submit.is_set()
        assert io.pool.asked == ([] if request_id == "first" else [onboarding_id])
    assert io.request_id_to_channel_id["again"] == "router"
    assert io.request_id_to_packet["again"].subject_id == onboarding_id


def test_of_packets_that_have_come_only_the_latest_are_remembered(io: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "SEEN", 2)
    for update_id in ("a", "b", "c"):
        io.seen_update_ids.add(update_id)
    assert list(io.seen_update_ids) == ["b", "c"]
