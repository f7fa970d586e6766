"""Why a worker gets no work: each reason is found from the database alone, and what lasts comes before what may pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.packet import PACKET_TYPE_REGISTER_AGENT, Packet
from mephisto.operations.datatypes import WorkerFailureReasons

from model_chat.quality.failures import Failures
from model_chat.quality.no_more_work import note_no_more_work
from model_chat.quality.refusals import TEXTS, ExplainingClientIO, Refusal, units_of, why_no_work
from model_chat.tests.mephisto_run import Run

BLUEPRINT = SimpleNamespace(
    args=SimpleNamespace(blueprint={"block_qualification": "blocked"}),
    get_failed_qual=lambda name: f"{name}-failed",
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def limits(run: Run, most: int = 0, at_once: int = 0) -> None:
    task_args = SimpleNamespace(maximum_units_per_worker=most, allowed_concurrent=at_once)
    run.task_run.get_task_args = lambda: task_args


def chat(run: Run, worker: Any, status: str = AssignmentState.ASSIGNED, agent_status: str | None = None) -> Any:
    """Let a worker work on a unit, or have worked on it."""
    agent = run.agent(worker)
    unit = agent.get_unit()
    unit.set_db_status(status)
    if agent_status is not None:
        agent.update_status(agent_status)
    return unit


def why(run: Run, worker: Any) -> Refusal:
    return why_no_work(worker, run.task_run, BLUEPRINT)


@pytest.mark.parametrize(
    ("done", "active", "most", "refusal"),
    [
        (1, 0, 1, Refusal.MAXIMUM),
        (2, 0, 1, Refusal.MAXIMUM),
        (1, 0, 2, Refusal.ALL_DONE),
        (3, 0, 0, Refusal.ALL_DONE),
        (0, 1, 1, Refusal.CONCURRENT),
        (1, 1, 2, Refusal.CONCURRENT),
        (0, 1, 2, Refusal.ALL_TAKEN),
        (2, 1, 2, Refusal.MAXIMUM),
    ],
)
def test_the_limit_of_units_in_all_alone(run: Run, done: int, active: int, most: int, refusal: Refusal) -> None:
    worker = run.worker()
    for _ in range(done):
        chat(run, worker, AssignmentState.COMPLETED)
    for _ in range(active):
        chat(run, worker, agent_status=AgentState.STATUS_IN_TASK)
    limits(run, most=most)
    assert units_of(worker, run.task_run) == (active, done)
    assert why(run, worker) is refusal


@pytest.mark.parametrize(
    ("active", "at_once", "refusal"),
    [(1, 1, Refusal.CONCURRENT), (1, 2, Refusal.ALL_TAKEN), (2, 2, Refusal.CONCURRENT), (1, 0, Refusal.ALL_TAKEN)],
)
def test_the_limit_of_units_at_once_alone(run: Run, active: int, at_once: int, refusal: Refusal) -> None:
    worker = run.worker()
    for _ in range(active):
        chat(run, worker, agent_status=AgentState.STATUS_IN_TASK)
    limits(run, at_once=at_once)
    assert why(run, worker) is refusal


def test_a_unit_that_its_worker_has_handed_in_is_done_though_mephisto_still_calls_it_assigned(run: Run) -> None:
    worker = run.worker()
    chat(run, worker, AssignmentState.ASSIGNED, AgentState.STATUS_COMPLETED)
    limits(run, most=1, at_once=1)
    assert units_of(worker, run.task_run) == (0, 1)
    assert why(run, worker) is Refusal.MAXIMUM


def test_what_others_work_on_may_become_free(run: Run) -> None:
    worker, other = run.worker(), run.worker()
    assert why(run, worker) is Refusal.ALL_DONE
    chat(run, other, agent_status=AgentState.STATUS_IN_TASK)
    assert why(run, worker) is Refusal.ALL_TAKEN


def test_an_expired_unit_counts_for_nothing(run: Run) -> None:
    worker = run.worker()
    chat(run, worker, AssignmentState.EXPIRED, AgentState.STATUS_EXPIRED)
    limits(run, most=1, at_once=1)
    assert units_of(worker, run.task_run) == (0, 0)
    assert why(run, worker) is Refusal.ALL_DONE


def test_who_has_seen_everything_is_told_so_before_anything_that_may_pass(run: Run) -> None:
    worker = run.worker()
    note_no_more_work(worker, "blocked")
    chat(run, worker, agent_status=AgentState.STATUS_IN_TASK)
    limits(run, most=1, at_once=1)
    assert why(run, worker) is Refusal.NOTHING_NEW


# --- on its way out ---


class Desk:
    """The explaining client I/O, with a worker who asks from a page."""

    def __init__(self, run: Run, worker: Any, agent: Any = None) -> None:
        self.client_io = ExplainingClientIO(run.db)
        pool = SimpleNamespace(get_agent_for_id=lambda agent_id: agent)
        self.live_run = SimpleNamespace(
            worker_pool=pool,
            task_run=run.task_run,
            blueprint=BLUEPRINT,
            provider=run.task_run.get_provider(),
            task_runner=SimpleNamespace(failures=Failures()),
        )
        self.client_io.register_run(self.live_run)
        name = None if worker is None else worker.worker_name
        self.client_io.request_id_to_packet["request"] = Packet(
            PACKET_TYPE_REGISTER_AGENT, "agent", {"provider_data": {"worker_name": name}}, client_timestamp=1.0
        )

    def explain(self, mephisto_reason: str = WorkerFailureReasons.NO_AVAILABLE_UNITS) -> dict[str, str]:
        return self.client_io._explanation("request", mephisto_reason)


def test_a_refusal_goes_out_with_its_code_and_sentence(run: Run) -> None:
    worker = run.worker()
    assert Desk(run, worker).explain() == {"refusal": "all_done", "failure_reason": TEXTS[Refusal.ALL_DONE]}


def test_who_hands_in_an_onboarding_is_known_by_their_agent(run: Run) -> None:
    assert Desk(run, None, run.agent()).explain()["refusal"] == "all_taken"


def test_one_whose_chats_broke_down_is_told_so(run: Run) -> None:
    worker = run.worker()
    desk = Desk(run, worker)
    for _ in range(3):
        desk.live_run.task_runner.failures.failed(worker.worker_name)
    assert desk.explain()["refusal"] == "trouble"


def test_a_worker_whom_nobody_knows_and_a_task_that_is_gone_are_not_explained(run: Run) -> None:
    assert Desk(run, None).explain() == {}
    assert Desk(run, run.worker()).explain(WorkerFailureReasons.TASK_MISSING) == {}


def sent(desk: Desk, details: dict[str, Any]) -> dict[str, Any]:
    """What goes out to the page."""
    packets: list[Any] = []
    desk.client_io.channels["channel"] = SimpleNamespace(enqueue_send=packets.append)
    desk.client_io.request_id_to_channel_id["request"] = "channel"
    desk.client_io.enqueue_agent_details("request", details)
    (packet,) = packets
    data: dict[str, Any] = packet.data
    return data


def test_an_answer_that_refuses_goes_out_with_the_reason(run: Run) -> None:
    data = sent(Desk(run, run.worker()), {"agent_id": None, "failure_reason": "no"})
    assert (data["refusal"], data["failure_reason"]) == ("all_done", TEXTS[Refusal.ALL_DONE])


def test_an_answer_that_gives_work_goes_out_as_it_is(run: Run) -> None:
    assert "refusal" not in sent(Desk(run, run.worker()), {"agent_id": "1", "failure_reason": None})


def test_an_explanation_that_fails_keeps_no_answer_back(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(run, run.worker())
    desk.live_run.task_runner = None
    data = sent(desk, {"agent_id": None, "failure_reason": "no"})
    assert data["failure_reason"] == "no" and "refusal" not in data
    assert "A refusal goes out without its reason" in caplog.text
