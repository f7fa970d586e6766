"""How the dashboard lists and shows conversations, also to those who mustn't know whose they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.dashboard import store as store_module
from model_chat.dashboard.blinding import Names, key_in
from model_chat.dashboard.listing import Query, list_conversations
from model_chat.dashboard.settings import Role
from model_chat.dashboard.store import RecordStore
from model_chat.dashboard.watch import Watched
from model_chat.records.schema import Utterance
from model_chat.tests.dashboard.conftest import Served
from model_chat.tests.dashboard.sample import QUESTION, START, MadeUpRun, SampleStudy

Serve = Callable[..., Served]
OPEN = Names(blind=False)


def test_conversations_are_filtered_counted_sorted_and_cut_into_pages(sample: SampleStudy, serve: Serve) -> None:
    for number in range(5):
        model = "beta" if number % 2 else "alpha"
        sample.chat(f"w{number}", model=model, started=START + number, rating=1 + number, text=f"word{number}")
    sample.chat("w0", started=START + 9, violations="all_caps,unsafe:2", status="approved")
    client = serve(Watched(sample.info())).client(Role.READ)
    whole = client.get("conversations")
    assert [item["id"] for item in whole["items"]] == ["a6", "a5", "a4", "a3", "a2", "a1"]
    assert whole["facets"]["model"] == {"alpha": 4, "beta": 2}
    assert whole["facets"]["signal"] == {"all_caps": 1, "unsafe": 1}
    page = client.get("conversations?offset=2&limit=2&sort=started")
    assert ([item["id"] for item in page["items"]], page["total"]) == (["a3", "a4"], 6)
    filtered = client.get("conversations?model=alpha&review=pending")
    assert [item["id"] for item in filtered["items"]] == ["a5", "a3", "a1"]
    assert filtered["facets"]["model"] == {"alpha": 3, "beta": 2}  # under the other filters alone
    assert [item["id"] for item in client.get("conversations?q=WORD3")["items"]] == ["a4"]
    assert [item["id"] for item in client.get("conversations?worker=w0&sort=-rating")["items"]] == ["a6", "a1"]
    assert [item["id"] for item in client.get("conversations?signal=unsafe")["items"]] == ["a6"]


def test_one_conversation_is_shown_in_full(sample: SampleStudy, serve: Serve) -> None:
    sample.chat(text="I said <b>this</b>.")
    found = serve(Watched(sample.info())).client(Role.READ).get("conversations/a1")
    human, model = found["turns"][1:3]
    assert (human["who"], human["text"], human["seconds"]) == ("worker", "I said <b>this</b>. 1", 8.0)
    assert (model["who"], model["seconds"], model["annotations"]["none_all_good"]) == ("model", 0.5, True)
    assert found["boxes"]["none_all_good"] == "Nothing is wrong"
    assert found["answers"] == [
        {"page": "final rating", "id": "final_rating_1", "question": QUESTION, "answer": 4, "turn": None}
    ]


def test_texts_are_kept_for_searching_up_to_a_limit_which_other_tasks_do_not_use_up(
    sample: SampleStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_TEXT_BYTES", 500)
    own, sample.task_name = sample.task_name, "other_local"
    sample.chat(text="long " * 100)
    sample.task_name = own
    sample.chat(text="own words")
    snapshot = RecordStore(sample.info()).refresh()
    assert snapshot.searchable
    assert list_conversations(snapshot, OPEN, Query(q="own words"))["total"] == 1
    sample.chat(text="long " * 100)
    assert not RecordStore(sample.info()).refresh().searchable


def test_conversations_of_people_who_were_played_by_a_model_are_told_apart(sample: SampleStudy) -> None:
    sample.chat()
    sample.chat("played", simulated={"model": "llm"})
    listed = list_conversations(RecordStore(sample.info()).refresh(), OPEN, Query(filters={"signal": "simulated"}))
    assert [item["worker"] for item in listed["items"]] == ["played"]


def test_compared_replies_are_shown_with_the_pick(sample: SampleStudy, serve: Serve) -> None:
    sample.chat(
        model="alpha|beta",
        comparisons=[
            {
                "turn_idx": 0,
                "left": {"model_nickname": "beta", "text": "Left.", "problem_data": {"bucket_0": True}},
                "right": {"model_nickname": "alpha", "text": "Right."},
                "pick": "right",
                "continued_with": "right",
            }
        ],
    )
    found = serve(Watched(sample.info())).client(Role.READ).get("conversations/a1")
    (turn,) = [turn for turn in found["turns"] if "replies" in turn]
    assert (turn["picked"], turn["side"]) == ("right", "right")
    assert turn["replies"] == [
        {"side": "left", "text": "Left.", "model": "beta", "annotations": {"bucket_0": True}},
        {"side": "right", "text": "Right.", "model": "alpha", "annotations": {}},
    ]


def test_an_opening_of_the_model_is_not_taken_for_the_replies_that_are_compared_after_it(
    sample: SampleStudy, serve: Serve
) -> None:
    sides = {side: {"model_nickname": name, "text": f"Of {name}."} for side, name in (("left", "a"), ("right", "b"))}
    said = [(0, "Hi!", None), (1, "Hello!", "b"), (0, "A question.", None), (1, "Of a.", "a")]
    dialog = [
        Utterance(agent_idx=who, text=text, id="Speaker", model_nickname=name, fake_start=text == "Hi!" or None)
        for who, text, name in said
    ]
    comparison = {"turn_idx": 0, **sides, "pick": "left", "continued_with": "left"}
    sample.chat(model="a|b", dialog=dialog, comparisons=[comparison])
    turns = serve(Watched(sample.info())).client(Role.READ).get("conversations/a1")["turns"]
    assert [(turn["text"], turn["model"], "replies" in turn) for turn in turns] == [
        ("Hi!", None, False), ("Hello!", "b", False), ("A question.", None, False), ("Of a.", "a", True),
    ]  # fmt: skip


def test_compared_chats_are_kept_apart_and_the_pick_says_which_it_was(sample: SampleStudy, serve: Serve) -> None:
    said = [(0, "One.", 0, None), (1, "Two.", 0, "b"), (0, "Three.", 1, None), (1, "Four.", 1, "a")]
    dialog = [
        Utterance(agent_idx=who, text=text, id="Speaker", chat_idx=chat, model_nickname=name)
        for who, text, chat, name in said
    ]
    sides = {"left": {"model_nickname": "b"}, "right": {"model_nickname": "a"}}
    strong = {"question": "Better?", **sides, "pick": "right", "strength": 2, "reason": "It listened."}
    sample.chat(model="a|b", dialog=dialog, comparisons=[strong, {"question": "Kinder?", **sides, "pick": "both_bad"}])
    found = serve(Watched(sample.info(blind=True, wanted={}))).client(Role.READ).get("conversations/a1")
    assert [turn["chat"] for turn in found["turns"]] == [0, 0, 1, 1]
    first, second = (found["turns"][place]["model"] for place in (1, 3))
    assert {first, second} == {"model 1", "model 2"}
    assert [(row["question"], row["answer"]) for row in found["answers"]] == [
        ("Better?", {"preferred": "second chat", "strength": 2, "reason": "It listened."}),
        ("Kinder?", {"preferred": "both bad"}),
    ]


# --- blind ---


SECRET_FAILURE = (
    "model failed: secretalpha raised RequestFailedError(\"'secret-4' at https://secret/v1 does not answer\")"
)


def test_a_blind_study_names_no_model_and_no_condition_anywhere(sample: SampleStudy, serve: Serve) -> None:
    secret = {"prompt": "secretwarm"}
    for number in range(40):  # enough for estimates, if there were any
        model = ("secretalpha", "secretbeta")[number % 2]
        sample.chat(f"w{number}", model=model, conditions=secret, rating=1 + number % 5)
    sample.chat("f", model="secretalpha", reason=SECRET_FAILURE, rating=None)
    comparison = {
        "turn_idx": 0,
        "left": {"model_nickname": "secretbeta", "text": "Left."},
        "right": {"model_nickname": "secretalpha", "text": "Right."},
        "pick": "left",
        "continued_with": "left",
    }
    sample.chat("c", model="secretalpha|secretbeta", comparisons=[comparison])

    class Named(MadeUpRun):
        @property
        def state(self) -> Any:
            text = super().state.model_dump_json().replace("alpha", "secretalpha").replace("beta", "secretbeta")
            return type(super().state).model_validate_json(text)

    wanted = {"prompt=secretwarm": 20}
    client = serve(Watched(sample.info(blind=True, by_cell=True, wanted=wanted), Named())).client(Role.PAY)
    paths = ["overview", "conversations?limit=200", "audit", *(f"conversations/a{number}" for number in range(1, 43))]
    shown = [client.http.get(f"api/studies/study_local/{path}").text for path in paths]
    with client.http.stream("GET", "api/studies/study_local/events") as stream:
        lines = stream.iter_lines()
        shown += [next(lines), next(lines)]
    assert not [text for text in shown if "secret" in text]
    overview = json.loads(shown[0])
    assert overview["blind"] is True
    assert overview["estimates"] == []
    assert [row["name"] for row in overview["models"]] == ["model 1", "model 2"]
    assert set(client.get("conversations")["facets"]["model"]) >= {"model 1", "model 2"}
    failed = client.get("conversations?status=failed")["items"][0]
    assert failed["reason"] == "model failed"
    assert client.get(f"conversations?model={failed['model']}")["total"] == 21
    assert client.get("conversations?q=secretalpha")["total"] == 0
    assert client.get("conversations?model=secretalpha")["total"] == 0


@pytest.mark.parametrize(
    ("blind", "reason", "shown"),
    [
        (True, SECRET_FAILURE, "model failed"),
        (False, SECRET_FAILURE, SECRET_FAILURE),
        (True, "left: the page was closed", "left: the page was closed"),
    ],
)
def test_only_failures_and_only_in_a_blind_study_lose_their_details(
    sample: SampleStudy, serve: Serve, blind: bool, reason: str, shown: str
) -> None:
    sample.chat(reason=reason, rating=None)
    (listed,) = serve(Watched(sample.info(blind=blind))).client(Role.READ).get("conversations")["items"]
    assert listed["reason"] == shown


def test_numbers_in_a_blind_study_stay_the_same_and_do_not_follow_the_alphabet(tmp_path: Path) -> None:
    names = [f"model-{letter}" for letter in "abcdefgh"]
    key = key_in(tmp_path / "keys", "study")
    assert key_in(tmp_path / "keys", "study") == key
    first, second = Names(True, key), Names(True, key)
    first.learn(names, [])
    second.learn(reversed(names), [])
    assert [first.model(name) for name in names] == [second.model(name) for name in names]
    orders = set()
    for number in range(20):
        other = Names(True, bytes([number]) * 32)
        other.learn(names, [])
        orders.add(tuple(other.model(name) for name in names))
    assert len(orders) > 1
    assert first.model("a newcomer") == "a model"
