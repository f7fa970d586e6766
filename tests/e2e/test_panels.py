"""Participants of panels over the real router: one conversation each, the right ending, and codes at the end only."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker
from model_chat.tests.e2e.running_task import ROOT, RunningTask, wait_until
from model_chat.tests.e2e.test_wire import DUMMY_ANNOTATION, DUMMY_ONBOARDING, ONBOARDING_ANSWERS

Start = Callable[..., RunningTask]
CODE = "C1DONE88"
PROLIFIC = (
    "mephisto/provider=prolific",
    f"mephisto.provider.codes.complete={CODE}",
    "mephisto.provider.linger_seconds=0",
    "mephisto.blueprint.annotations_config_path=",
    "mephisto.blueprint.num_turns=1",
)


def address(participant: str, session: str = "e1") -> str:
    """The query of a participant's address on Prolific."""
    return f"?PROLIFIC_PID={participant}&STUDY_ID=s1&SESSION_ID={session}"


def together(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run coroutines at the same time."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*coroutines)

    return asyncio.run(gather())


async def visit(
    task: RunningTask, query: str, visitor: str | None = None, behaviour: Behaviour | None = None
) -> tuple[Outcome, SimulatedWorker]:
    """Let a participant's browser open an address and live through what comes."""
    async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
        worker = SimulatedWorker(task.port, query, "1", behaviour or Behaviour(), 1, http, query=query)
        worker.visitor = visitor
        return await worker.run(), worker


def come(task: RunningTask, query: str, **more: Any) -> Outcome:
    """One participant, alone."""
    ((outcome, _),) = together(visit(task, query, **more))
    assert isinstance(outcome, Outcome)
    return outcome


def participations(task: RunningTask) -> list[dict[str, Any]]:
    """What the records say; both say the same."""
    in_files = [chat["participation"] for chat in task.conversations()]
    assert sorted(map(json.dumps, in_files)) == sorted(json.dumps(chat["participation"]) for chat in task.world_data())
    return in_files


def test_a_participant_gets_the_code_with_the_last_message_and_finds_it_again(start_task: Start) -> None:
    task = start_task(*PROLIFIC, "mephisto.provider.codes.no_work=C4FULL99", needed="a:2")
    with httpx.Client(base_url=task.url, trust_env=False, timeout=120) as http:
        public = "".join(http.get(name).text for name in ("", "task_config.json", "wrap_crowd_source.js"))
    assert "getAgentRegistration" in public
    outcome = come(task, address("p1"))
    assert outcome.result == "complete", task.log
    *before, last = [text for text in map(json.dumps, outcome.packets) if "update_status" not in text]
    assert outcome.ending is not None
    assert outcome.ending["url"] == f"https://app.prolific.com/submissions/complete?cc={CODE}"
    # After it there is the answer to handing in, which is empty.
    last = next(text for text in [last, *reversed(before)] if '"ended"' in text)
    assert CODE in last
    for secret in (CODE, "C4FULL99"):
        assert secret not in public
        assert not any(secret in text for text in before if text != last)
    again = come(task, address("p1"))
    assert (again.result, again.ending) == ("told: complete", outcome.ending)
    other_session = come(task, address("p1", "e2"))
    assert other_session.ending == outcome.ending
    assert come(task, address("p2")).result == "complete"
    assert task.wait() == 0, task.log
    assert [part for part in participations(task) if part["participant"] == "p1"] == [
        {
            "provider": "prolific",
            "participant": "p1",
            "study": "s1",
            "session": "e1",
            "ending": "complete",
            "code": CODE,
        }
    ]
    kept = "".join(task.rows("SELECT init_params FROM task_runs"))
    for secret in (CODE, "C4FULL99"):
        assert secret not in task.log
        assert secret not in kept


def test_two_browsers_at_once_are_in_one_conversation(start_task: Start) -> None:
    task = start_task(*PROLIFIC, needed="a:2")

    async def both() -> list[Any]:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=120) as one,
            httpx.AsyncClient(trust_env=False, timeout=120) as two,
        ):
            workers = [
                SimulatedWorker(task.port, "x", "1", Behaviour(), 1, http, query=address("p1", session))
                for http, session in ((one, "e1"), (two, "e2"), (one, "e1"))
            ]
            details = await asyncio.gather(*(worker.register() for worker in workers))
            for worker in workers:
                await worker.disconnect()
            return details

    agents = {details["agent_id"] for details in asyncio.run(both())}
    assert len(agents) == 1
    assert len(task.agent_statuses()) == 1
    assert come(task, address("p1")).result == "complete"
    assert come(task, address("p2")).result == "complete"
    assert task.wait() == 0, task.log
    assert Counter(part["participant"] for part in participations(task)) == {"p1": 1, "p2": 1}


def test_who_fails_onboarding_is_screened_out_and_who_is_not_invited_is_blocked(start_task: Start) -> None:
    task = start_task(
        *PROLIFIC[:3],
        "mephisto.blueprint.num_turns=1",
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        "mephisto.blueprint.onboarding_qualification=practised",
        "mephisto.provider.codes.screened_out=C2SCREEN",
        needed="a:1",
    )
    failing = come(task, address("p1"))
    assert failing.result == "onboarding failed", task.log
    assert failing.ending is not None
    assert (failing.ending["kind"], failing.ending["code"]) == ("screened_out", "C2SCREEN")
    assert come(task, address("p1")).ending == failing.ending
    passing = come(task, address("p2"), behaviour=Behaviour(onboarding_answers=ONBOARDING_ANSWERS))
    assert passing.result == "complete", task.log
    assert task.wait() == 0, task.log


def test_blocked_and_timed_out_participants_are_asked_to_return_the_submission(start_task: Start) -> None:
    task = start_task(*PROLIFIC, "mephisto.blueprint.max_resp_time=6", "mephisto.blueprint.num_turns=2", needed="a:1")
    late = come(task, address("p1"), behaviour=Behaviour(stay_silent=True))
    assert late.result == "left"
    silent = Behaviour(stay_silent=True)
    wait_until(lambda: come(task, address("p1"), behaviour=silent).result == "told: timed_out")
    told = come(task, address("p1")).ending
    assert told is not None
    assert told["code"] is None
    assert "return your submission on Prolific" in told["text"]
    wait_until(
        lambda: "launched" in task.unit_statuses()
    )  # the place is offered again: who comes before is told "no_work"
    talked = come(task, address("p2"), behaviour=Behaviour(leave_after=1))
    assert talked.result == "left"
    wait_until(lambda: len(task.conversations()) == len(list(task.world_data())) == 1)
    assert participations(task)[0]["ending"] == "timed_out"
    wait_until(lambda: "launched" in task.unit_statuses())
    assert come(task, address("p3")).result == "complete", task.log


def test_a_participant_who_is_not_invited_is_blocked_with_a_code_that_stays(start_task: Start) -> None:
    flags = [*PROLIFIC, "mephisto.provider.codes.blocked=C9BLOCK"]
    task = start_task(*flags, "mephisto.blueprint.allowed_worker_qualification=invited", needed="a:1")
    told = come(task, address("p1")).ending
    assert told is not None
    assert (told["kind"], told["code"]) == ("blocked", "C9BLOCK")
    assert come(task, address("p1")).ending == told
    assert task.agent_statuses() == []


@pytest.mark.parametrize("after", ["record", "ending"])
def test_what_the_panel_is_told_and_what_the_record_says_agree_after_kill_9_between_the_two(
    start_task: Start, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monkeypatch.setenv("KILL_AFTER", after)
    dying = start_task(*PROLIFIC, f"mephisto.blueprint.world_file={ROOT / 'tests/e2e/panel_worlds.py'}", needed="a:2")

    async def come_to_the_death() -> Outcome:
        async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
            worker = SimulatedWorker(dying.port, "p1", "1", Behaviour(), 1, http, query=address("p1"))
            living = asyncio.create_task(worker.run())
            code = await asyncio.to_thread(dying.wait)
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            assert code == -signal.SIGKILL, dying.log
            return worker.outcome

    assert asyncio.run(come_to_the_death()).ending is None
    task = start_task(*PROLIFIC, needed="a:2")
    assert len(task.conversations()) == 1
    told = come(task, address("p1")).ending
    assert told is not None
    assert (told["kind"], told["code"]) == ("complete", CODE)
    assert come(task, address("p2")).result == "complete"
    assert task.wait() == 0, task.log
    assert Counter((part["participant"], part["ending"], part["code"]) for part in participations(task)) == {
        ("p1", "complete", CODE): 1,
        ("p2", "complete", CODE): 1,
    }


def test_a_study_that_is_stopped_tells_those_who_are_chatting_how_their_part_ends(start_task: Start) -> None:
    task = start_task(
        *PROLIFIC, "mephisto.blueprint.num_turns=3", "mephisto.provider.codes.incomplete=C5STOP", needed="a:1"
    )

    async def chat() -> Outcome:
        behaviour = Behaviour(think_time=1000)
        living = asyncio.create_task(visit(task, address("p1"), behaviour=behaviour))
        await asyncio.to_thread(wait_until, lambda: "in task" in task.agent_statuses(), lambda: task.log)
        await asyncio.to_thread(task.stop_slowly)
        task.interrupt()
        outcome, _ = await living
        return outcome

    outcome = asyncio.run(chat())
    assert outcome.result == "stopped", task.log
    assert outcome.ending is not None
    assert (outcome.ending["kind"], outcome.ending["code"]) == ("incomplete", "C5STOP")


def test_each_visitor_of_a_link_is_somebody_else_and_nobody_can_say_that_they_are_another(start_task: Start) -> None:
    task = start_task(
        "mephisto/provider=link",
        "mephisto.provider.codes.complete=THANKS-42",
        *PROLIFIC[2:],
        needed="a:4",
    )
    (one, first), (two, second) = together(visit(task, "?"), visit(task, "?"))
    assert [one.result, two.result] == ["complete"] * 2, task.log
    assert first.visitor is not None
    assert first.visitor != second.visitor
    again, same = together(visit(task, "?", first.visitor))[0]
    assert (again.result, same.visitor) == ("told: complete", first.visitor)
    typed, other = together(visit(task, f"?visitor={first.visitor}", f"{first.visitor[:-1]}x"))[0]
    assert typed.result == "complete"  # a new visitor, with a conversation of their own
    assert other.visitor not in (first.visitor, second.visitor)
    names = task.rows("SELECT worker_name FROM workers")
    assert len(names) == len(set(names)) == 3
    assert all(part["provider"] == "link" and part["study"] is None for part in participations(task))
    assert one.ending is not None
    assert one.ending["url"] is None
    assert os.fspath(Path("link/link.db")) in {str(path.relative_to(task.data)) for path in task.data.glob("*/*.db")}


@pytest.mark.parametrize(("conf", "query"), [("conf=prolific", address("p1")), ("conf=link", "?")])
def test_the_shipped_configurations_take_a_participant_in(start_task: Start, conf: str, query: str) -> None:
    task = start_task(conf, PROLIFIC[1], "mephisto.provider.linger_seconds=0", needed="a:1")
    with httpx.Client(base_url=task.url, trust_env=False, timeout=120) as http:
        data = {"provider_type": "panel", "query": query, "visitor": None}
        details = http.post("request_agent", json={"provider_data": data}).json()["data"]
        if details.get("visitor"):
            data["visitor"] = details["visitor"]
            details = http.post("request_agent", json={"provider_data": data}).json()["data"]
    assert details["agent_id"], task.log
    assert f"http://localhost:{task.port}/" in task.log


def test_with_signed_addresses_nobody_can_type_another_s_id(start_task: Start) -> None:
    from model_chat.tests.crowd.test_signed_links import AUDIENCE, PID, KeyServer, query

    keys = KeyServer()
    task = start_task(
        *PROLIFIC,
        "mephisto.provider.verify_links=true",
        f"mephisto.provider.link_audience={AUDIENCE}",
        f"mephisto.provider.link_keys_url={keys.url}",
        needed="a:2",
    )
    link = query()
    assert "not one that the panel has made for you" in come(task, address(PID)).result
    assert "not one that the panel has made for you" in come(task, query(shown={"PROLIFIC_PID": "somebody"})).result
    assert task.agent_statuses() == []
    outcome, worker = together(visit(task, link))[0]
    assert outcome.result == "complete", task.log
    assert "used in another browser" in come(task, link).result
    assert together(visit(task, link, worker.visitor))[0][0].result == "told: complete"
    assert keys.asked == 1
    assert [part["participant"] for part in participations(task)] == [PID]
    assert "prolific_token" not in task.log
