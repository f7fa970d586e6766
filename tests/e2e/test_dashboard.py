"""The dashboard of a real run, while a worker chats; the study does not need it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from model_chat.records.extensions import EXTENSIONS_NAME
from model_chat.scripts.simulate_workers import Behaviour, Outcome, simulate
from model_chat.tests.e2e.running_task import RunningTask

Start = Callable[..., RunningTask]
WAIT_SECONDS = 90.0


class Requester:
    """Somebody who has opened the printed link."""

    def __init__(self, task: RunningTask) -> None:
        task.wait_for_log("  Dashboard: ")
        (link,) = re.findall(r"Dashboard: +(\S+)\n", task.log)
        self.base, _, _ = link.partition("login?")
        self.http = httpx.Client(trust_env=False, timeout=60)
        led = self.http.get(link, follow_redirects=True)
        assert str(led.url) == self.base
        assert "token" not in led.text
        self.session = self.http.get(f"{self.base}api/session").json()
        (study,) = self.session["studies"]
        self.study = f"{self.base}api/studies/{study['id']}/"

    def get(self, path: str) -> Any:
        answer = self.http.get(self.study + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        headers = {"X-CSRF-Token": self.session["csrf"], "Origin": self.base.rstrip("/")}
        answer = self.http.post(self.study + path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the overview is as it should be; return it."""
        end = time.monotonic() + WAIT_SECONDS
        while not holds(overview := self.get("overview")):
            assert time.monotonic() < end, overview
            time.sleep(0.2)
        return dict(overview)


def live(task: RunningTask, prefix: str, **behaviour: Any) -> Outcome:
    """Let one worker come, and wait until they have left."""
    return asyncio.run(simulate(task.port, 1, [Behaviour(**behaviour)], prefix=prefix))[0]


def test_a_running_study_is_watched_reviewed_stopped_extended_and_goes_on_without_its_dashboard(
    start_task: Start,
) -> None:
    task = start_task(
        "mephisto.blueprint.num_turns=2",
        "mephisto.blueprint.dashboard_port=0",
        "mephisto.blueprint.block_qualification=keep_out",
        needed="a:2",
    )
    requester = Requester(task)
    requester.wait(lambda seen: seen["accepting"] and seen["live"])

    async def while_one_chats() -> dict[str, Any]:
        silent = asyncio.create_task(simulate(task.port, 1, [Behaviour(stay_silent=True)], prefix="silent"))
        try:
            return await asyncio.to_thread(
                requester.wait, lambda seen: [one["turns"] for one in seen["now_chatting"]] == [2]
            )
        finally:
            silent.cancel()

    seen = asyncio.run(while_one_chats())
    (chatting,) = seen["now_chatting"]
    assert (chatting["worker"], chatting["model"], chatting["turns"]) == ("silent0", "a", 2)
    assert (seen["workers"]["chatting"], seen["target"], seen["finished"]) == (1, 2, 0)

    assert live(task, "first").result == "complete"
    requester.wait(lambda seen: seen["finished"] == 1 and seen["workers"]["finished"] == 1)
    (chat,) = requester.get("conversations?status=complete")["items"]
    act = {"act": "approve", "ids": [chat["id"]], "versions": {chat["id"]: chat["version"]}}
    (result,) = requester.post("acts", act)["results"]
    assert result["ok"], result
    assert "approved" in task.agent_statuses()

    requester.post("run", {"act": "stop"})
    requester.wait(lambda seen: not seen["accepting"])
    assert live(task, "late").result.startswith("no work")
    requester.post("run", {"act": "resume"})
    requester.post("run", {"act": "extend", "more": 1})
    requester.wait(lambda seen: seen["accepting"] and seen["target"] == 3)
    acts = [(entry["act"], entry["outcome"]) for entry in requester.get("audit")["items"]]
    assert acts == [("extend", "done"), ("resume", "done"), ("stop", "done"), ("approve", "done")]
    (kept,) = map(json.loads, (task.chats / EXTENSIONS_NAME).read_text(encoding="ascii").splitlines())
    assert [sum(kept[name].values()) for name in ("configured", "wanted")] == [2, 3], "a restart goes by it"

    assert task.process is not None
    (process,) = [
        child for child in psutil.Process(task.process.pid).children() if "model_chat.dashboard" in child.cmdline()
    ]
    process.kill()
    task.wait_for_log("The dashboard has ended (exit code -9); the study goes on without it", WAIT_SECONDS)
    assert live(task, "second").result == "complete", task.log
    assert [chat["workers"] for chat in task.conversations()] == [["first0"], ["second0"]]
    assert task.process.poll() is None
