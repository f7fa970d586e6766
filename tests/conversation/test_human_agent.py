"""The worker's side of a conversation on a real Mephisto agent: waiting for the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.exceptions import (
    AgentDisconnectedError,
    AgentReturnedError,
    AgentShutdownError,
    AgentTimeoutError,
)

from model_chat.conversation.human_agent import HumanAgent
from model_chat.tests.mephisto_run import Run, arrive


@pytest.fixture
def agent(mephisto_run: Run) -> Any:
    return mephisto_run.agent()


def soon() -> float:
    return time.monotonic() + 60


class Waiting(threading.Thread):
    """A world that waits for the page."""

    def __init__(self, agent: Any, deadline: float) -> None:
        super().__init__(daemon=True)
        self.got: Any = None
        self.error: BaseException | None = None
        self._seat, self._deadline = HumanAgent(agent), deadline
        self.start()

    def run(self) -> None:
        try:
            self.got = self._seat.receive(self._deadline)
        except BaseException as error:
            self.error = error


def test_what_the_page_sends_is_received_in_order(agent: Any) -> None:
    human = HumanAgent(agent)
    for number in range(3):
        arrive(agent, {"n": number})
    assert [human.receive(soon())["n"] for _ in range(3)] == [0, 1, 2]


def test_a_packet_wakes_the_world_that_waits(agent: Any) -> None:
    world = Waiting(agent, soon())
    world.join(0.05)
    assert world.is_alive()
    arrive(agent, {"text": "hi"})
    world.join(30)
    assert world.got == {"text": "hi"}


def test_what_came_too_early_is_taken_without_waiting(agent: Any) -> None:
    human = HumanAgent(agent)
    assert human.discard_waiting() == []
    arrive(agent, {"n": 0})
    arrive(agent, {"n": 1})
    assert [packet["n"] for packet in human.discard_waiting()] == [0, 1]
    assert human.discard_waiting() == []


def test_a_packet_taken_before_its_signal_is_no_timeout_of_the_worker(agent: Any) -> None:
    # What happens when the world takes a packet between the two steps of Mephisto's socket.
    agent.pending_actions.put({"n": 0})
    assert HumanAgent(agent).discard_waiting() == [{"n": 0}]
    agent.has_live_update.set()
    world = Waiting(agent, soon())
    world.join(0.1)
    assert world.error is None
    assert world.is_alive()
    arrive(agent, {"n": 1})
    world.join(30)
    assert (world.got, world.error) == ({"n": 1}, None)
    assert agent.get_status() != AgentState.STATUS_TIMEOUT


def test_a_worker_who_sends_nothing_times_out(agent: Any) -> None:
    for deadline in (time.monotonic() + 0.05, time.monotonic() - 5):
        with pytest.raises(AgentTimeoutError):
            HumanAgent(agent).receive(deadline)
    assert agent.get_status() != AgentState.STATUS_TIMEOUT, "what there is may be handed in"


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (lambda agent: agent.update_status(AgentState.STATUS_DISCONNECT), AgentDisconnectedError),
        (lambda agent: agent.update_status(AgentState.STATUS_RETURNED), AgentReturnedError),
        (lambda agent: agent.shutdown(), AgentShutdownError),
    ],
)
def test_a_worker_who_leaves_wakes_the_world(
    agent: Any, leave: Callable[[Any], None], error: type[BaseException]
) -> None:
    world = Waiting(agent, soon())
    world.join(0.05)
    leave(agent)
    world.join(30)
    assert isinstance(world.error, error)
    with pytest.raises(error):
        HumanAgent(agent).receive(soon())


def test_what_was_sent_before_leaving_is_still_received(agent: Any) -> None:
    arrive(agent, {"text": "bye"})
    agent.update_status(AgentState.STATUS_DISCONNECT)
    assert HumanAgent(agent).receive(soon()) == {"text": "bye"}


def test_what_is_sent_to_the_page_never_ends_the_episode_for_it(agent: Any) -> None:
    human = HumanAgent(agent)
    human.control("your_turn", ask="message")
    human.say("Speaker 2", "Hello.")
    told = [(update["id"], update["text"], update["episode_done"]) for update in agent.state.messages]
    assert told == [("System", "", False), ("Speaker 2", "Hello.", False)]


def test_an_onboarding_has_no_ids_of_a_unit(mephisto_run: Run) -> None:
    human = HumanAgent(mephisto_run.onboarding_agent())
    for name in ("hit_id", "assignment_id"):
        with pytest.raises(TypeError, match="no unit"):
            getattr(human, name)


def test_ids_are_mephistos_where_the_platform_has_none(agent: Any) -> None:
    human = HumanAgent(agent)
    assert human.worker_id == agent.get_worker().worker_name
    assert human.hit_id == agent.get_unit().db_id
    assert human.assignment_id == agent.get_unit().assignment_id


def test_ids_are_the_platforms_where_it_has_them(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, worker = agent.get_unit(), agent.get_worker()
    monkeypatch.setattr(worker, "get_mturk_worker_id", lambda: "A1B2", raising=False)
    monkeypatch.setattr(unit, "get_mturk_hit_id", lambda: "3HIT", raising=False)
    monkeypatch.setattr(unit, "get_mturk_assignment_id", lambda: "3ASSIGNMENT", raising=False)
    human = HumanAgent(agent)
    assert (human.worker_id, human.hit_id, human.assignment_id) == ("A1B2", "3HIT", "3ASSIGNMENT")
    monkeypatch.setattr(unit, "get_mturk_hit_id", lambda: None)
    assert human.hit_id == unit.db_id


# --- replies that grow, and are held back ---


class Pausing(threading.Thread):
    """A world that holds a reply back."""

    def __init__(self, agent: Any, until: float) -> None:
        super().__init__(daemon=True)
        self._human, self._until = HumanAgent(agent), until
        self.start()

    def run(self) -> None:
        self._human.wait(self._until)


def test_a_reply_is_held_back_until_its_time(agent: Any) -> None:
    until = time.monotonic() + 0.1
    HumanAgent(agent).wait(until)
    assert time.monotonic() >= until
    HumanAgent(agent).wait(time.monotonic() - 5)


def test_a_packet_does_not_end_the_pause_and_is_still_there(agent: Any) -> None:
    world = Pausing(agent, soon())
    arrive(agent, {"n": 0})
    world.join(0.2)
    assert world.is_alive()
    agent.did_submit.set()
    world.join(30)
    assert not world.is_alive()
    assert HumanAgent(agent).discard_waiting() == [{"n": 0}]


@pytest.mark.parametrize(
    "leave",
    [
        lambda agent: agent.update_status(AgentState.STATUS_DISCONNECT),
        lambda agent: agent.update_status(AgentState.STATUS_RETURNED),
        lambda agent: agent.update_status(AgentState.STATUS_EXPIRED),
        lambda agent: agent.shutdown(),
        lambda agent: agent.handle_submit({}),
    ],
)
def test_whoever_leaves_or_ends_the_run_ends_the_pause(agent: Any, leave: Callable[[Any], None]) -> None:
    world = Pausing(agent, soon())
    world.join(0.05)
    assert world.is_alive()
    leave(agent)
    world.join(30)
    assert not world.is_alive()
    HumanAgent(agent).wait(soon())


def test_without_a_run_there_is_nobody_to_send_a_part_to(agent: Any) -> None:
    assert HumanAgent(agent).send_part(dict) is False


def test_a_part_is_made_when_it_is_sent_and_kept_nowhere(agent: Any) -> None:
    sent: list[tuple[str, Callable[[], dict[str, Any]]]] = []

    class ClientIO:
        is_shutdown = False

        def send_part(self, agent_id: str, make: Callable[[], dict[str, Any]]) -> bool:
            sent.append((agent_id, make))
            return True

    agent.set_live_run(SimpleNamespace(client_io=ClientIO()))
    text = "I"
    assert HumanAgent(agent).send_part(lambda: {"control": "reply_part", "text": text})
    text = "I like"
    ((agent_id, make),) = sent
    assert agent_id == agent.get_agent_id()
    part = make()
    assert part.pop("update_id") != make()["update_id"]
    assert part == {
        "id": "System",
        "text": "",
        "episode_done": False,
        "task_data": {"control": "reply_part", "text": "I like"},
    }
    assert agent.state.messages == []
    assert agent.datastore.agent_data[agent.db_id]["observed"] == []
