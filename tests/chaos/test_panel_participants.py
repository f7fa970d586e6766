"""Many participants of a panel, some of whom come twice, reload, forge, or fail; the run is killed meanwhile.

Those who have finished are then approved and paid on a Prolific that loses answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.scripts.manage_workers import main as manage_workers
from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker
from model_chat.tests.chaos.figures import FIGURES, KILLS, LONG
from model_chat.tests.crowd.prolific_server import STUDY, TOKEN, VARIABLE, ProlificServer, dropped, refused, serving
from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model
from model_chat.tests.e2e.test_wire import DUMMY_ANNOTATION, DUMMY_ONBOARDING, ONBOARDING_ANSWERS

PARTICIPANTS = 50 if LONG else 20
RELOADING, TWICE, FAILING = range(5), range(5, 10), range(10, 12)
CODES = {"complete": "C1DONE88", "screened_out": "C2SCREEN", "no_work": "C4FULL99"}
PATIENCE = 240.0
PANEL_KILLS = max(1, KILLS // 2)


def address(number: int, session: str | None = None) -> str:
    """A participant's address."""
    return f"?PROLIFIC_PID=p{number}&STUDY_ID={STUDY}&SESSION_ID={session or f'e{number}'}"


class Participant:
    """Comes again and again until the server says how their part ends, as somebody does who wants to be paid."""

    def __init__(self, number: int, http: httpx.AsyncClient) -> None:
        self.number = number
        self.arrives_after = number * (PANEL_KILLS + 1) // PARTICIPANTS
        """How many kills they come after: so there is somebody to disturb at each."""
        self.told: list[tuple[str, str | None]] = []
        answers = None if number in FAILING else ONBOARDING_ANSWERS
        self._behaviour = Behaviour(think_time=0.4, onboarding_answers=answers, step_timeout=20)
        self._http = http

    async def _visit(self, port: int) -> None:
        worker = SimulatedWorker(port, "x", "1", self._behaviour, self.number, self._http, query=address(self.number))
        await worker.run()
        if worker.outcome.ending is not None:
            self.told.append((worker.outcome.ending["kind"], worker.outcome.ending["code"]))

    async def come(self, port: int) -> None:
        """Take part until an ending is told; some do it in two browsers at once, some load the last screen again."""
        while not self.told:
            browsers = 2 if self.number in TWICE else 1
            await asyncio.gather(*(self._visit(port) for _ in range(browsers)))
            await asyncio.sleep(0.3)
        if self.number in RELOADING:
            await self._visit(port)


def pay(task: RunningTask, server: ProlificServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Approve all who have finished and give each a bonus, several times over, while the panel's answers get lost."""

    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = manage_workers([words[0], "--task-name", "model_chat", "--database-path", str(task.data), *words[1:]])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    server.order("POST", "/transition/", dropped(), refused(503), dropped(acts=False))
    for _ in range(2):
        code, said = command("approve", "--all")
    assert code == 0, said
    bonus = ("bonus", "--all", "--amount", "0.75", "--reason", "Thank you.")
    _, said = command(*bonus)
    total = re.search(r"--confirm (\d+\.\d\d)", said)
    assert total is not None, said
    server.order("POST", "/pay/$", dropped())
    for _ in range(3):
        code, said = command(*bonus, "--confirm", total[1])
    assert code == 0, said


@pytest.mark.timeout(600 + 60 * PANEL_KILLS)
def test_all_participants_get_one_conversation_the_right_code_and_one_bonus_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    with serving() as prolific:
        for number in range(PARTICIPANTS):
            prolific.add_submission(f"e{number}", f"p{number}")
        task = collect(tmp_path, prolific)
        pay(task, prolific, capsys)
        completed = {f"e{number}" for number in range(PARTICIPANTS) if number not in FAILING}
        assert prolific.paid() == {session: [75] for session in completed}
        approved = {session for session, one in prolific.submissions.items() if one["status"] == "APPROVED"}
        assert approved == completed, "who was screened out has their own code, and Prolific's own review"


def collect(tmp_path: Path, prolific: ProlificServer) -> RunningTask:
    """Let everybody take part; check what they were told and what was saved."""
    rng = random.Random(17)
    make_fixed_model(tmp_path / "models/a")
    completing = PARTICIPANTS - len(FAILING)
    flags = [
        f"mephisto.blueprint.base_model_folder={tmp_path / 'models'}",
        f'mephisto.blueprint.conversations_needed_string="a:{completing}"',
        "mephisto.blueprint.num_turns=2",
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        "mephisto.blueprint.onboarding_qualification=practised",
        "mephisto/provider=prolific",
        f"mephisto.provider.api_url={prolific.url}",
        f"mephisto.provider.api_token_env={VARIABLE}",
        f"mephisto.provider.study_id={STUDY}",
        "mephisto.provider.currency=GBP",
        "mephisto.task.task_reward=1.5",
        "mephisto.provider.linger_seconds=5",
        *(f"mephisto.provider.codes.{kind}={code}" for kind, code in CODES.items()),
    ]
    task = RunningTask(tmp_path / "task", flags)

    async def everybody() -> list[Participant]:
        unused = ssl.create_default_context()
        async with httpx.AsyncClient(trust_env=False, verify=unused, timeout=30) as http:
            people = [Participant(number, http) for number in range(PARTICIPANTS)]
            going: list[asyncio.Task[None]] = []
            for kills in range(PANEL_KILLS):
                going += [asyncio.create_task(one.come(task.port)) for one in people if one.arrives_after == kills]
                expected = len(going) * completing // PARTICIPANTS // 2
                while len(await asyncio.to_thread(task.conversations)) < expected:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(rng.uniform(0, 4))
                process = task.process
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                await asyncio.to_thread(task.__enter__)
            going += [asyncio.create_task(one.come(task.port)) for one in people if one.arrives_after == PANEL_KILLS]
            for query in ("?PROLIFIC_PID={{%PROLIFIC_PID%}}", "?PROLIFIC_PID=p1&PROLIFIC_PID=p2", "?PROLIFIC_PID="):
                forger = SimulatedWorker(task.port, "x", "1", Behaviour(), 1, http, query=query)
                outcome = await forger.run()
                assert outcome.result.startswith("no work")
                assert outcome.ending is None
            await asyncio.wait_for(asyncio.gather(*going), PATIENCE)
            return people

    try:
        task.__enter__()
        people = asyncio.run(everybody())
        assert task.wait() == 0, task.log
    finally:
        task.__exit__()
    for person in people:
        kind = "screened_out" if person.number in FAILING else "complete"
        assert set(person.told) == {(kind, CODES[kind])}, person.number
    saved = [chat for chat in task.conversations() if chat["status"] == "complete"]
    parts: list[dict[str, Any]] = [chat["participation"] for chat in saved]
    counted = Counter(part["participant"] for part in parts)
    assert counted == {f"p{number}": 1 for number in range(PARTICIPANTS) if number not in FAILING}
    assert {(part["ending"], part["code"]) for part in parts} == {("complete", CODES["complete"])}
    assert all(part["session"] == f"e{part['participant'][1:]}" for part in parts)
    told = sum(len(person.told) for person in people)
    row = {"kills": PANEL_KILLS, "codes told": told, "complete on disk": len(saved), "of these lost or doubled": 0}
    FIGURES.append((f"SIGKILL of a study with people of a panel, {PANEL_KILLS} times", row))
    names = task.rows("SELECT worker_name FROM workers")
    assert len(names) == len(set(names)) == PARTICIPANTS
    assert not any(code in task.log for code in CODES.values())
    assert json.dumps(sorted(map(json.dumps, saved))) == json.dumps(
        sorted(json.dumps(chat) for chat in task.world_data() if chat["status"] == "complete")
    )
    return task
