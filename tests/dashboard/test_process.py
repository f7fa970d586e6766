"""The dashboard's process and the pipes between it and the run."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson

from model_chat.conversation.quota import ConversationQuota
from model_chat.dashboard.link import Answer, Ask, RunLink, Start, line_of
from model_chat.dashboard.live import LiveState
from model_chat.dashboard.sockets import address_of, bind
from model_chat.launch.dashboard import RunCounters, perform
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.records.extensions import Extensions
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.dashboard.sample import SampleStudy
from model_chat.tests.parlai_agents import ScriptedAgent

WAIT_SECONDS = 90.0


def wait_for(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_the_process_shows_what_the_run_says_asks_it_and_ends_with_it(sample: SampleStudy) -> None:
    sample.chat()
    with bind("--port", "127.0.0.1", 0) as listening:
        base = address_of(listening)
        process = subprocess.Popen(
            [sys.executable, "-m", "model_chat.dashboard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
        start = Start(study=sample.info(), socket=listening.fileno(), token="token")
    assert process.stdin is not None
    assert process.stdout is not None
    try:

        def say(message: Any) -> None:
            assert process.stdin is not None
            process.stdin.write(line_of(message))
            process.stdin.flush()

        say(start)
        say({"state": LiveState(accepting=True, started=1.0).model_dump()})
        process.stdin.write(b'no JSON\n{"state": {"accepting": "x"}}\n[]\n{"answer": 99, "fault": ""}\n')
        with httpx.Client(base_url=base, trust_env=False, timeout=WAIT_SECONDS) as http:
            http.get("api/login", params={"token": "token"})  # waits in the socket until the process is up
            wait_for(lambda: http.get("api/studies/study_local/overview").json()["live"])
            session = http.get("api/session").json()
            headers = {"X-CSRF-Token": session["csrf"], "Origin": base.rstrip("/")}
            asked: list[Ask] = []

            def answer() -> None:
                assert process.stdout is not None
                asked.append(Ask.model_validate_json(process.stdout.readline()))
                say(Answer(answer=asked[0].ask, fault="The run is ending."))

            thread = threading.Thread(target=answer)
            thread.start()
            refused = http.post("api/studies/study_local/run", json={"act": "stop"}, headers=headers)
            thread.join(WAIT_SECONDS)
        assert (asked[0].act, refused.status_code, refused.json()["error"]) == ("stop", 409, "The run is ending.")
        process.stdin.close()
        assert process.wait(WAIT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_run_that_has_ended_is_asked_for_nothing() -> None:
    pipe = io.BytesIO()
    link = RunLink(pipe)
    pipe.close()
    assert link.ask("stop", None) == "The run has ended."
    assert link._waiting == {}


def test_a_line_that_is_no_message_changes_nothing() -> None:
    link = RunLink(io.BytesIO())
    ended: list[bool] = []
    state = LiveState(accepting=True, started=1.0)
    lines = [line_of({"state": state.model_dump()}), b"{}\n", b"7\n", b'{"state": 1}\n']
    link.follow(lines, lambda: ended.append(True))
    assert (link.state, ended) == (state, [True])


# --- the run's side ---


class Launcher:
    """Offers units, so many at most."""

    def __init__(self, most: int) -> None:
        self.left = most

    def replace(self) -> bool:
        self.left -= 1
        return self.left >= 0


def shared_of(most_units: int | None = None, is_live: bool = False, offers: int = 10) -> Any:
    state = ModelChatSharedState(is_live=is_live, most_units=most_units)
    pool = SimpleNamespace(is_closed=False, is_paused=False)
    state.live_run = SimpleNamespace(worker_pool=pool, task_launcher=Launcher(offers))  # type: ignore[assignment]  # all that is used
    return state


def test_stopping_and_resuming_take_turns() -> None:
    shared, quota = shared_of(), ConversationQuota({"a": 1})
    assert perform(Ask(ask=1, act="stop"), shared, quota) == ""
    assert shared.live_run.worker_pool.is_paused is True
    assert perform(Ask(ask=2, act="resume"), shared, quota) == ""
    assert shared.live_run.worker_pool.is_paused is False


def test_a_run_that_is_ending_does_nothing_more() -> None:
    shared, quota = shared_of(), ConversationQuota({"a": 1})
    shared.live_run.worker_pool.is_closed = True
    assert perform(Ask(ask=1, act="resume"), shared, quota) == "The run is ending."
    assert perform(Ask(ask=1, act="extend", more=5), shared, quota) == "The run is ending."
    assert quota.wanted() == 1
    shared.live_run = None
    assert perform(Ask(ask=1, act="stop"), shared, quota) == "The run is ending."


def test_an_extension_is_wanted_and_offered() -> None:
    quota = ConversationQuota({"a": 1, "b": 1})
    assert perform(Ask(ask=1, act="extend", more=3), shared_of(), quota) == ""
    assert quota.wanted() == 8
    said = perform(Ask(ask=1, act="extend", more=3), shared_of(offers=4), quota)
    assert said == "Only 4 of 6 further conversations could be offered."


def test_an_extension_that_later_runs_would_not_know_of_is_refused(tmp_path: Path) -> None:
    quota = ConversationQuota({"a": 1}, extensions=Extensions(tmp_path / "gone", "study", {"a": 1}))
    shared = shared_of()
    said = perform(Ask(ask=1, act="extend", more=3), shared, quota)
    assert said == (
        "Further conversations can't be kept for later runs (No such file or directory), so that nothing was extended."
    )
    assert (quota.wanted(), shared.live_run.task_launcher.left) == (1, 10)


def test_what_is_collected_or_designed_is_not_extended() -> None:
    said = perform(Ask(ask=1, act="extend", more=3), shared_of(), ConversationQuota({"a": 1}, {"a": 1}))
    assert said.startswith("This study has collected everything; raise the number")
    quota: Any = SimpleNamespace(extend=lambda more: 0, remaining=lambda: 4)  # as that of a design
    said = perform(Ask(ask=1, act="extend", more=3), shared_of(), quota)
    assert said.startswith("This study can't be extended while it runs; raise the number")


def test_where_each_conversation_was_confirmed_with_its_cost_nothing_is_extended() -> None:
    quota = ConversationQuota({"a": 1})
    shared = shared_of(most_units=1, is_live=True)
    assert "its cost is confirmed at the launch" in perform(Ask(ask=1, act="extend", more=3), shared, quota)
    assert (quota.wanted(), shared.live_run.task_launcher.left) == (1, 10)


def test_the_counters_of_a_run_that_is_launching_are_read(sample: SampleStudy) -> None:
    from parlai.core.opt import Opt

    pool = ModelPool([LoadedModel("a", ScriptedAgent(Opt(script=[])), None)], 1, 30)
    shared = ModelChatSharedState(world_opt=SimpleNamespace(models=pool))  # type: ignore[arg-type]  # all that is read
    pool.meter.seconds.labels("a").observe(0.4)
    pool.meter.failures.labels("a").inc()
    state = RunCounters(shared, ConversationQuota({"a": 3}, {"a": 1}), by_cell=False).read()
    assert (state.accepting, state.chatting) == (False, [])
    assert state.counts[0].model_dump() == {"name": "a", "done": 1, "in_flight": 0, "needed": 3}
    (replies,) = state.replies
    assert (replies.name, replies.replies, replies.failures, replies.buckets[2]) == ("a", 1, 1, (0.5, 1))
    assert orjson.loads(line_of(state))  # infinity is no JSON
    assert LiveState.model_validate_json(line_of(state)) == state


def test_who_chats_waits_and_practises_is_read_from_the_run(sample: SampleStudy) -> None:
    agent = sample.run.agent()
    agent.state.record_head({"task_description": {"model_nickname": "a"}, "workers": ["ann"]})
    agent.state.messages += [
        {"id": "Speaker 1", "fake_start": True, "timestamp": 5.0},
        {"id": "Speaker 2", "timestamp": 6.0},
        {"id": "Speaker 1", "timestamp": 7.0},
    ]
    agent.update_status("in task")
    sample.run.agent().update_status("accepted")
    sample.run.onboarding_agent().update_status("onboarding")
    shared = shared_of()
    shared.live_run.task_run = sample.run.task_run
    shared.live_run.task_runner = SimpleNamespace(running_units={"1": SimpleNamespace(agent=agent)})
    state = RunCounters(shared, ConversationQuota({"a": 3}), by_cell=False).read()
    (chatting,) = state.chatting
    assert chatting.model_dump() == {
        "agent_id": agent.db_id,
        "worker": "ann",
        "model": "a",
        "since": 5.0,
        "turn": 1,
    }
    assert (state.accepting, state.waiting, state.onboarding) == (True, 1, 1)
    shared.live_run.worker_pool.is_paused = True
    assert RunCounters(shared, ConversationQuota({"a": 3}), by_cell=False).read().accepting is False


def test_a_socket_says_its_address() -> None:
    with bind("--port", "::1", 0) as listening:
        assert address_of(listening) == f"http://[::1]:{listening.getsockname()[1]}/"
