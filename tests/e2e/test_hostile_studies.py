"""What a hostile page can send into pages of a study and into comparisons: nothing of it is taken, and the study goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour, SimulatedWorker
from model_chat.tests.e2e.running_task import RunningTask

Start = Callable[..., RunningTask]
MARK = "HOSTILE"
"""Stands in every hostile update that could be saved."""
FLOW = """
pages:
  - {id: consent, kind: consent, text: Consent.}
  - {id: about, kind: questions, items: [{id: age, kind: choice, question: Age, options: [young, old]}]}
  - {id: chat, kind: chat, every_reply: [{id: trust, kind: scale, question: Trust, points: 7}]}
  - {id: after, kind: questions, items: [{id: words, kind: text, question: Words}]}
"""
ODD: list[Any] = [None, True, -1, 10**30, "", MARK, [MARK], {"a": MARK}, {MARK: 1}]
HOSTILE: list[dict[str, Any]] = [
    *({"page": "about", "answers": value} for value in ODD if value is not None),
    *({"page": value, "answers": {"age": MARK}} for value in ODD),
    *({"page": "about", "answers": {"age": value}} for value in ODD),
    *({"page": "after", "answers": {"words": value}} for value in ODD if value != MARK),
    *({"comparison": value} for value in ODD),
    *({"comparison": {"pick": value, "reason": MARK}} for value in ODD),
    *({"comparison": {"pick": "left", "strength": value, "reason": MARK}} for value in ODD if value is not None),
    {"comparison": {"pick": "left"}, "page": "about"},
    {"control": "page_done", "page": "about", "answers": {"age": MARK}, "complete": True},
    {"control": "comparison_done", "pick": MARK, "continued_with": "left"},
    {"control": "ended", "ending": {"kind": "complete", "code": MARK}},
    {"control": "reply_part", "utterance_idx": 1, "part": 1, "text": MARK},
    {"reply_answers": {"trust": MARK}, "page": None},
]


class Attacker(SimulatedWorker):
    """Sends everything hostile before each proper update, and notes what is refused of it."""

    def _take(self, update: dict[str, Any]) -> None:
        data = update.get("task_data") or {}
        if data.get("control") == "refused" and str(data.get("message_id")).startswith("hostile-"):
            self.outcome.refused[data["code"]] += 1
        else:
            super()._take(update)

    async def send_update(self, task_data: dict[str, Any], text: Any = "", message_id: str | None = None) -> str:
        for number, data in enumerate(HOSTILE[len(self._seen) % 8 :: 8]):  # the router drops floods
            own = {"message_id": f"hostile-{len(self._seen)}-{number}", "turn_idx": task_data.get("turn_idx"), **data}
            await super().send_update(own, None, own["message_id"])
        return await super().send_update(task_data, text, message_id)


def test_nothing_hostile_is_taken_on_pages_and_in_comparisons(start_task: Start, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW, encoding="utf-8")
    task = start_task(
        f"mephisto.blueprint.study_flow_path={tmp_path / 'flow.yaml'}",
        "mephisto.blueprint.comparison=per_turn",
        "mephisto.blueprint.comparison_reason=true",
        "mephisto.blueprint.num_turns=2",
        needed="a|b:1",
    )

    async def attack() -> Any:
        async with httpx.AsyncClient(timeout=60) as http:
            return await Attacker(task.port, "attacker", "1", Behaviour(step_timeout=60), 1, http).run()

    outcome = asyncio.run(attack())
    assert outcome.result == "complete", task.log
    assert task.wait() == 0, task.log
    assert sum(outcome.refused.values()) > len(HOSTILE) // 2
    (saved,) = task.conversations()
    assert MARK not in json.dumps(saved)
    record = Conversation.from_dict(saved)
    assert [one.turn_idx for one in record.comparisons or ()] == [0, 1]
    assert sorted({answer.item for answer in record.answers or ()}) == ["age", "consent", "trust", "words"]
    told = json.dumps(outcome.packets)
    assert not [secret for secret in ("model_nickname", "a|b", "generation", "continued_with_model") if secret in told]
    assert "Traceback" not in task.log
