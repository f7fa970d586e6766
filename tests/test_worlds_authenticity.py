"""Counts of how a worker's messages were written: recorded with consent only, checked, and never held against anybody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.study_flow import FlowOptions
from model_chat.quality.attention import AttentionConfig
from model_chat.records.authenticity import MOST
from model_chat.records.schema import Completion, Conversation
from model_chat.tests.scripted_human import ScriptedHuman, chat_options, message, play, rating
from model_chat.tests.test_worlds_study_flow import page
from model_chat.worlds import ModelChatWorld, make_world

FLOW = """
pages:
  - {id: consent, kind: consent, text: We count.}
  - {id: chat, kind: chat}
"""
ACCEPT = page("consent", {"consent": "accept"})
COUNTS = {"pasted_characters": 7, "times_away": 2, "keys": 11}


def hold(*messages: Any, flow: str | None = FLOW, record: bool = True, **changes: Any) -> Any:
    """A whole conversation of two messages; return its world, its worker and what is saved."""
    known: dict[str, Any] = {"record_authenticity": record, **changes}
    if flow is not None:
        known["study_flow"] = FlowOptions(parse_study_flow("flow", "flow.yaml", flow), max_page_time=300)
    end = rating(4, ticks="bucket_0")
    human = ScriptedHuman(*([] if flow is None else [ACCEPT]), *messages, end)
    world: ModelChatWorld = make_world(chat_options(**known), [human])
    play(world)
    assert world.completion is Completion.COMPLETE
    return world, human, world.get_custom_task_data()


def said(text: str, authenticity: Any = None, **more: Any) -> Any:
    return message(text, "bucket_0", **({} if authenticity is None else {"authenticity": authenticity}), **more)


def test_counts_are_saved_with_the_length_of_the_message_and_told_back() -> None:
    _, human, saved = hold(said("One two.", COUNTS), said("  Three ☕.  ", {**COUNTS, "keys": 0}))
    assert saved["authenticity"] == [
        {"utterance_idx": 2, "characters": 8, **COUNTS},
        {"utterance_idx": 4, "characters": 8, **COUNTS, "keys": 0},
    ]
    assert [saved["dialog"][entry["utterance_idx"]]["text"] for entry in saved["authenticity"]] == [
        "One two.",
        "Three ☕.",
    ]
    assert Conversation.from_dict(json.loads(json.dumps(saved))).to_dict() == saved
    told = [update["task_data"]["authenticity"] for update in human.updates if "authenticity" in update["task_data"]]
    assert told == [COUNTS, {**COUNTS, "keys": 0}]


def test_off_by_default_whatever_a_page_sends() -> None:
    assert chat_options().record_authenticity is False
    _, human, saved = hold(said("One.", COUNTS), said("Two.", COUNTS), record=False)
    assert saved["authenticity"] is None
    assert "pasted" not in json.dumps([saved, human.updates])


def test_without_a_page_of_consent_nothing_is_recorded_even_where_the_flag_is_set() -> None:
    _, human, saved = hold(said("One.", COUNTS), said("Two.", COUNTS), flow=None)
    assert saved["authenticity"] == []
    assert "pasted" not in json.dumps(human.updates)


def test_a_page_that_counts_nothing_leaves_no_entry() -> None:
    _, _, saved = hold(said("One."), said("Two.", COUNTS))
    assert [entry["utterance_idx"] for entry in saved["authenticity"]] == [4]


HOSTILE: dict[str, Any] = {
    "no object": "keys",
    "a list": [COUNTS],
    "a number": 3,
    "empty": {},
    "unknown keys only": {"text": "from elsewhere", "clipboard": "from elsewhere", "key": "a"},
    "negative": {"keys": -1},
    "huge": {"keys": MOST + 1},
    "far too huge": {"keys": 10**400},
    "a float": {"keys": 3.0},
    "a bool": {"keys": True},
    "digits": {"keys": "3"},
    "digits of another script": {"keys": "٣"},
    "null": {"keys": None},
    "nested": {"keys": {"keys": 3}},
    "not a number": {"keys": float("nan")},
    "infinite": {"keys": float("inf")},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_can_not_be_a_count_is_dropped_and_costs_no_message(name: str) -> None:
    _, human, saved = hold(said("One.", HOSTILE[name]), said("Two.", COUNTS))
    assert human.controls("refused") == []
    assert [entry["utterance_idx"] for entry in saved["authenticity"]] == [4]
    assert "from elsewhere" not in json.dumps([saved, human.updates])


@pytest.mark.parametrize("name", [name for name, sent in HOSTILE.items() if isinstance(sent, dict)])
def test_a_wrong_count_takes_no_right_one_with_it(name: str) -> None:
    _, _, saved = hold(said("One.", {"pasted_characters": 5, **HOSTILE[name]}), said("Two."))
    (entry,) = saved["authenticity"]
    assert entry == {"utterance_idx": 2, "characters": 4, "pasted_characters": 5, "times_away": None, "keys": None}


def test_the_largest_count_is_taken() -> None:
    _, _, saved = hold(said("One.", {"keys": MOST}), said("Two.", {"keys": 0}))
    assert [entry["keys"] for entry in saved["authenticity"]] == [MOST, 0]


def test_a_message_that_is_sent_again_is_counted_once() -> None:
    first = said("One.", COUNTS, message_id="m1")
    again = said("One.", {**COUNTS, "keys": 999}, message_id="m1")
    _, _, saved = hold(first, again, said("Two.", COUNTS))
    assert [entry["keys"] for entry in saved["authenticity"]] == [11, 11]


def test_the_answer_to_an_attention_check_is_no_message_and_not_counted() -> None:
    attention = AttentionConfig.model_validate({"checks": [{"turn": 1, "text": "Say yes.", "expect": ["yes"]}]})
    _, _, saved = hold(
        said("One.", COUNTS), message("yes", authenticity=COUNTS), said("Two.", COUNTS), attention=attention
    )
    assert [entry["utterance_idx"] for entry in saved["authenticity"]] == [2, 4]
    assert [saved["dialog"][entry["utterance_idx"]]["text"] for entry in saved["authenticity"]] == ["One.", "Two."]


def test_no_count_is_a_reason_to_block_or_to_refuse_anybody() -> None:
    worst = {"pasted_characters": MOST, "times_away": MOST, "keys": 0}
    world, human, saved = hold(said("One.", worst), said("Two.", worst))
    assert (world.block_reasons(), saved["acceptability_violations"], saved["bad_workers"]) == ([], [None], [])
    assert (saved["status"], human.controls("refused")) == ("complete", [])


def test_who_declines_after_the_chat_leaves_no_counts() -> None:
    flow = FLOW + "  - {id: again, kind: consent, text: Still}\n"
    decline = page("again", {"consent": "decline"})
    human = ScriptedHuman(ACCEPT, said("One.", COUNTS), said("Two.", COUNTS), rating(4, ticks="bucket_0"), decline)
    parsed = FlowOptions(parse_study_flow("flow", "flow.yaml", flow), max_page_time=300)
    world = make_world(chat_options(record_authenticity=True, study_flow=parsed), [human])
    play(world)
    assert world.keeps_nothing and not world.is_worth_keeping
