"""What a start finds of a conversation with comparisons whose run was killed: every judgement that was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.human_agent import HumanAgent
from model_chat.launch.recovered_comparisons import comparisons_of, cost_of_unjudged
from model_chat.launch.recovery import Recovered, dialog_of
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.records.journal import Journal
from model_chat.records.schema import Comparison, Conversation
from model_chat.tests.launch.test_recovery import die, files, head_of, start
from model_chat.tests.mephisto_run import Run


@pytest.fixture
def mephisto_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A database of its own: what other tests leave open would be recovered, too."""
    return Run(tmp_path_factory.mktemp("recovery"))


def show(human: HumanAgent, turn: int) -> None:
    recorded = {
        side: {"model_nickname": name, "generation": {"cost_usd": 0.25}}
        for side, name in (("left", "b"), ("right", "a"))
    }
    texts = {"left": {"text": f"B{turn}."}, "right": {"text": f"A{turn}."}}
    human.show_compared(recorded, turn_idx=turn, utterance_idx=3 + 2 * turn, **texts)


def begin(run: Run) -> Any:
    """An agent whose worker has judged once and is asked again."""
    agent = run.agent()
    agent.update_status("in task")
    agent.state.set_init_state({})
    human = HumanAgent(agent)
    human.control("start")
    human.say("Speaker 1", "Hi!", fake_start=True, utterance_idx=0, agent_idx=0)
    human.say("Speaker 2", "Hello.", generation={"model_nickname": "a"}, utterance_idx=1, agent_idx=1)
    head = {**head_of(agent), "hit_ids": [None], "comparisons": []}
    agent.state.record_head({**head, "task_description": {"model_nickname": "a|b"}})
    human.say("Speaker 1", "One.", utterance_idx=2, agent_idx=0, message_id="m1")
    show(human, 0)
    human.control(
        "comparison_done", turn_idx=0, utterance_idx=3, pick="right", strength=None, reason="Kinder.",
        continued_with="right", message_id="c1",
    )  # fmt: skip
    told = {"model_nickname": "a", "cost_usd": 0.25}
    human.say("Speaker 2", "A0.", generation=told, utterance_idx=3, agent_idx=1)
    human.say("Speaker 1", "Two.", utterance_idx=4, agent_idx=0, message_id="m2")
    show(human, 1)
    return agent


def test_a_run_that_was_killed_at_a_comparison_keeps_what_was_judged_before(mephisto_run: Run, tmp_path: Path) -> None:
    agent = die(begin(mephisto_run))
    assert start(mephisto_run, tmp_path) == Recovered(cut_off=1, expired=1)
    (saved,) = files(tmp_path)
    (entry,) = saved["comparisons"]
    assert entry["left"] == {"model_nickname": "b", "text": "B0.", "generation": {"cost_usd": 0.25}}
    assert entry["right"] == {"model_nickname": "a", "text": "A0.", "generation": {"cost_usd": 0.25}}
    assert (entry["turn_idx"], entry["pick"], entry["reason"], entry["continued_with"]) == (
        0,
        "right",
        "Kinder.",
        "right",
    )
    assert isinstance(entry["timestamp"], float)
    assert [line.get("model_nickname") for line in saved["dialog"]] == [None, "a", None, "a", None]
    assert saved["failed_generation"] == {"cost_usd": 0.5}, "what the replies have cost that nobody judged"
    assert Conversation.from_dict(saved).comparisons is not None
    assert ModelChatAgentState(agent).get_parsed_data()["save_data"] == {"custom_data": saved}


def test_boxes_of_both_replies_are_kept_with_the_judgement_and_the_reply_that_went_on() -> None:
    ticks = {"left": {"rude": True}, "right": {"rude": False}}
    texts = {side: {"text": side} for side in ("left", "right")}
    messages: list[dict[str, Any]] = [
        {"update_id": "u1", "task_data": {"control": "comparison", "turn_idx": 0, **texts}},
        {
            "task_data": {
                "control": "comparison_done",
                "turn_idx": 0,
                "pick": "left",
                "continued_with": "right",
                "problem_data_of_replies": ticks,
            }
        },
        {
            "text": "right",
            "id": "Speaker 2",
            "task_data": {
                "utterance_idx": 3,
                "agent_idx": 1,
                "problem_data": ticks["right"],
                "annotated_utterance_idx": 3,
            },
        },
    ]
    made = {"u1": {"left": {"model_nickname": "a"}, "right": {"model_nickname": "b"}}}
    (entry,) = comparisons_of(messages, made)
    assert {side: entry[side]["problem_data"] for side in ("left", "right")} == ticks
    assert [line["problem_data"] for line in dialog_of(messages)] == [ticks["right"]]
    messages[1]["task_data"]["problem_data_of_replies"] = ["left"]
    assert comparisons_of(messages, made) == [], "a damaged judgement is left out"


def test_no_page_that_comes_back_is_told_whose_replies_they_are(mephisto_run: Run) -> None:
    told = begin(mephisto_run).state.get_init_state()
    assert "model_nickname" not in str(told)
    assert "cost_usd" not in str(told)


def test_a_judgement_is_on_disk_before_the_page_is_told(mephisto_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: list[bool] = []
    append = Journal.append

    def note(journal: Journal, entries: Any, last: bool) -> None:
        durable.append(last)
        append(journal, entries, last)

    monkeypatch.setattr(Journal, "append", note)
    agent = begin(mephisto_run)
    controls = [message["task_data"].get("control") for message in agent.state.messages]
    assert len(durable) == len(controls) + 1, "the head is a line, too"
    lasting = [control for control, last in zip(controls, [*durable[:3], *durable[4:]], strict=True) if last]
    assert lasting == [None, "comparison_done", None]


@pytest.mark.parametrize(
    "made",
    [{}, {"u1": {}}, {"u1": {"left": {"model_nickname": "a"}}}, {"u1": {"left": 1, "right": 2}}, {"u1": None}],
)
def test_what_is_damaged_is_left_out(made: dict[str, Any]) -> None:
    texts = {"left": {"text": "x"}, "right": {"text": "y"}}
    shown = {"update_id": "u1", "task_data": {"control": "comparison", "turn_idx": 0, **texts}}
    done = {"task_data": {"control": "comparison_done", "turn_idx": 0, "pick": "left", "continued_with": "left"}}
    assert comparisons_of([shown, done], made) == []
    assert cost_of_unjudged([shown], made) == 0.0


@pytest.mark.parametrize("turn", [[0], {"a": 1}, None, "x"], ids=repr)
@pytest.mark.parametrize("data", [[1], "x", 3, None], ids=repr)
def test_updates_of_a_damaged_journal_are_no_judgements(turn: Any, data: Any) -> None:
    sides = {side: {"text": "x"} for side in ("left", "right")}
    shown = {"update_id": "u1", "task_data": {"control": "comparison", "turn_idx": turn, **sides}}
    done = {"task_data": {"control": "comparison_done", "turn_idx": turn, "pick": "left", "continued_with": "left"}}
    made = {"u1": {side: {"model_nickname": "a", "generation": {"cost_usd": 0.25}} for side in ("left", "right")}}
    messages = [{"task_data": data}, shown, {"task_data": data}, {"update_id": ["u"], "task_data": data}]
    assert cost_of_unjudged(messages, made) == 0.5
    found = comparisons_of([*messages, done], made)
    assert all(Comparison.model_validate(entry) for entry in found)
    assert [entry["turn_idx"] for entry in found] == ([None] if turn is None else [])
