"""What simulated workers answer is taken, or refused, as it is meant to be: checked by the server's own check."""

from __future__ import annotations

import random

import pytest

from model_chat.configuration.places import ROOT
from model_chat.configuration.study_flow import load_study_flow
from model_chat.configuration.study_items import KINDS, Item, items_for_page
from model_chat.conversation.study_answers import check_answers
from model_chat.errors import RefusedError
from model_chat.scripts._simulated_answers import invalid_answers, valid_answers

REPLY = "I like tea, too."
OPTIONS = ["a", "b", "c"]
ITEMS: list[Item] = [
    KINDS[kind].model_validate({"id": f"{kind}{number}", "kind": kind, "question": "?", **settings})
    for number, (kind, settings) in enumerate(
        [
            ("scale", {"points": 11, "not_applicable": True}),
            ("choice", {"options": OPTIONS, "other": True}),
            ("choice", {"options": OPTIONS, "many": True, "other": True, "required": False}),
            ("text", {"min_chars": 200, "max_chars": 210}),
            ("text", {"max_chars": 1}),
            ("number", {"min": 2.5, "max": 2.9}),
            ("number", {"min": 7}),
            ("number", {"max": -3}),
            ("number", {}),
            ("slider", {"required": False}),
            ("ranking", {"options": OPTIONS}),
            ("best_worst", {"options": OPTIONS}),
            ("matrix", {"rows": OPTIONS}),
            ("highlight", {"required": False}),
            ("slider", {"show_if": {"choice1": ["a"]}}),
        ]
    )
]


@pytest.mark.parametrize("seed", range(40))
def test_valid_answers_are_taken(seed: int) -> None:
    given = valid_answers(items_for_page(ITEMS), random.Random(seed), REPLY)
    assert check_answers(ITEMS, given, {}, REPLY).keys() == given.keys()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("items", [ITEMS, []])
def test_invalid_answers_are_refused(seed: int, items: list[Item]) -> None:
    with pytest.raises(RefusedError):
        check_answers(items, invalid_answers(items_for_page(items), random.Random(seed)), {}, REPLY)


def test_the_shipped_flow_is_sound() -> None:
    flow = load_study_flow("flag", str(ROOT / "task_config/study_flow.yaml"))
    for page in flow.pages:
        given = valid_answers(items_for_page(page.all_items), random.Random(1), REPLY)
        assert check_answers(page.all_items, given, {}, REPLY).keys() == given.keys()
