"""A conversation inside a study flow: pages before and after the chat, and questions about replies."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentDisconnectedError, AgentTimeoutError

from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.study_flow import FlowOptions
from model_chat.records.schema import Completion, Conversation
from model_chat.tests.scripted_human import Early, ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import ModelChatWorld, State, make_world

FLOW = """
pages:
  - {id: consent, kind: consent, text: We study chat partners.}
  - id: about
    kind: questions
    items:
      - {id: trained, kind: choice, question: Trained, options: [yes, no]}
      - {id: years, kind: number, question: Years, min: 0, max: 80, show_if: {trained: yes}}
  - {id: only_trained, kind: text, text: Thanks, show_if: {trained: yes}}
  - id: chat
    kind: chat
    every_reply: [{id: trust, kind: scale, question: Trust, points: 7}]
    last_reply: [{id: better, kind: text, question: Better, required: no}]
  - id: after
    kind: questions
    shuffle: [items, options]
    items:
      - {id: warmth, kind: slider, question: Warmth}
      - {id: order, kind: ranking, question: Order, options: [tone, facts, speed, wit]}
      - {id: agree, kind: matrix, question: Agree, rows: [kind, clever, quick, witty]}
  - {id: debrief, kind: text, text: Both were models.}
"""
_ids = count()


def page(page_id: str, answers: Any = None, message_id: str | None = None) -> Any:
    data = {"message_id": message_id or f"page-{next(_ids)}", "page": page_id}
    return {"text": "", "task_data": data if answers is None else {**data, "answers": answers}}


def said(text: str, trust: Any = 4, ticks: Any = "bucket_0", **more: Any) -> Any:
    return message(text, ticks, reply_answers={"trust": trust, **more})


ACCEPT = page("consent", {"consent": "accept"})
ABOUT = page("about", {"trained": "no"})
AFTER = page(
    "after",
    {
        "warmth": 70,
        "order": ["wit", "tone", "facts", "speed"],
        "agree": dict.fromkeys(["kind", "clever", "quick", "witty"], 3),
    },
)


def rated(*, better: str | None = "Shorter.") -> Any:
    packet = rating(4, ticks="none_all_good")
    packet["task_data"]["reply_answers"] = {"trust": 7, **({} if better is None else {"better": better})}
    return packet


def whole() -> list[Any]:
    return [ACCEPT, ABOUT, said("One."), said("Two.", 5), rated(), AFTER, page("debrief")]


def options(flow: str = FLOW, **changes: Any) -> Any:
    parsed = parse_study_flow("flow", "flow.yaml", flow)
    return chat_options(study_flow=FlowOptions(parsed, max_page_time=300), **changes)


def begin(*script: Any, flow: str = FLOW, **changes: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    human = ScriptedHuman(*script)
    return make_world(options(flow, **changes), [human]), human


def hold(*script: Any, **changes: Any) -> tuple[ModelChatWorld, ScriptedHuman]:
    world, human = begin(*script, **changes)
    play(world)
    return world, human


def test_a_whole_study_from_consent_to_debriefing() -> None:
    world, human = hold(*whole())
    assert world.completion is Completion.COMPLETE
    saved = Conversation.from_dict(world.get_custom_task_data())
    answers = [(answer.page, answer.item, answer.value, answer.utterance_idx) for answer in saved.answers or []]
    assert answers == [
        ("consent", "consent", "accept", None),
        ("about", "trained", "no", None),
        ("chat", "trust", 4, 1),
        ("chat", "trust", 5, 3),
        ("chat", "trust", 7, 5),
        ("chat", "better", "Shorter.", 5),
        ("after", "warmth", 70, None),
        ("after", "order", ["wit", "tone", "facts", "speed"], None),
        ("after", "agree", {"kind": 3, "clever": 3, "quick": 3, "witty": 3}, None),
    ] or {entry[1] for entry in answers[6:]} == {"warmth", "order", "agree"}
    assert all(answer.timestamp is not None for answer in saved.answers or [])
    assert saved.task_description.study_flow == FLOW
    assert saved.dialog[5].final_rating == "4"
    assert [told["ask"] for told in human.controls("your_turn")] == [
        "page",
        "page",
        "message",
        "message",
        "final_rating",
        "page",
        "page",
    ]
    assert not human.script


def test_nothing_is_taken_from_the_worker_by_the_first_step() -> None:
    world, human = begin(*whole())
    world.parley()
    assert (human.updates, world.state) == ([], State.PAGES_BEFORE)


def test_a_page_comes_with_its_items_and_its_own_time_limit() -> None:
    _, human = hold(*whole())
    told = human.controls("your_turn")[1]
    assert (told["page_idx"], told["num_pages"], told["seconds"], told["turn_idx"]) == (1, 6, 300, 1)
    assert told["page"]["id"] == "about"
    trained, years = told["page"]["items"]
    assert trained == {
        "id": "trained",
        "kind": "choice",
        "question": "Trained",
        "required": True,
        "options": ["yes", "no"],
        "many": False,
        "other": False,
    }
    assert years["show_if"] == {"trained": ["yes"]}


def test_the_page_is_told_that_a_page_was_taken_with_its_answers() -> None:
    _, human = hold(*whole())
    done = human.controls("page_done")
    assert [entry["page"] for entry in done] == ["consent", "about", "after", "debrief"]
    assert done[1]["answers"] == {"trained": "no"}
    assert done[1]["message_id"] == ABOUT["task_data"]["message_id"]


def test_a_page_with_show_if_is_left_out_or_shown() -> None:
    _, human = hold(*whole())
    shown = [told["page"]["id"] for told in human.controls("your_turn") if told["ask"] == "page"]
    assert "only_trained" not in shown
    script = whole()
    script[1:2] = [page("about", {"trained": "yes", "years": 3}), page("only_trained")]
    _, human = hold(*script)
    shown = [told["page"]["id"] for told in human.controls("your_turn") if told["ask"] == "page"]
    assert shown == ["consent", "about", "only_trained", "after", "debrief"]


def test_the_chat_begins_after_the_pages_and_the_model_sees_none_of_them() -> None:
    world, human = hold(*whole())
    steps = human.steps()
    assert steps.index("start") > steps.index("page_done")
    assert steps[: steps.index("start") + 2] == [
        "your_turn",
        "page_done",
        "your_turn",
        "page_done",
        "reply_items",
        "start",
        "Hi!",
    ]
    assert world.bot._clone.seen == ["Hi!", "One.", "Two."]
    asked = human.controls("reply_items")[0]
    assert [item["id"] for item in asked["every_reply"] + asked["last_reply"]] == ["trust", "better"]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (page("about", {"trained": "maybe"}), "answer_invalid"),
        (page("about", {"trained": "yes"}), "answer_missing"),
        (page("about", {"trained": "no", "years": 3}), "answer_unexpected"),
        (page("about", {"trained": "no", "nobody": 3}), "answer_unexpected"),
        (page("about", ["trained"]), "malformed"),
        (page("consent", {"consent": "accept"}), "not_your_turn"),
        (page("after", {}), "not_your_turn"),
        (message("Hello."), "not_your_turn"),
        ({"text": "", "task_data": {"page": "about"}}, "malformed"),
        (7, "malformed"),
    ],
)
def test_what_is_no_answer_to_the_page_is_refused_and_it_stays_open(packet: Any, code: str) -> None:
    script = whole()
    script[1:1] = [packet]
    world, human = hold(*script)
    assert [refused["code"] for refused in human.controls("refused")] == [code]
    assert world.completion is Completion.COMPLETE


def test_a_message_that_was_held_back_on_a_page_is_not_taken_for_the_chat() -> None:
    script = whole()
    script[2:2] = [page("about", {"trained": "no"})]
    world, human = hold(*script)
    assert [refused["code"] for refused in human.controls("refused")] == ["not_your_turn"]
    assert world.completion is Completion.COMPLETE


def test_a_page_that_is_sent_again_is_taken_once() -> None:
    script = whole()
    script[2:2] = [ABOUT]
    world, human = hold(*script)
    assert human.controls("refused") == []
    assert [answer.item for answer in world.flow.answers].count("trained") == 1


def test_what_comes_too_early_is_refused() -> None:
    script = whole()
    script[1:1] = [Early(message("Hello."))]
    _, human = hold(*script)
    assert [refused["code"] for refused in human.controls("refused")] == ["not_your_turn"]


def test_more_time_for_a_page_is_as_long_as_the_page() -> None:
    script = whole()
    wish = {"text": "", "task_data": {"message_id": "more", "control": "more_time", "turn_idx": 1}}
    script[1:1] = [wish]
    _, human = hold(*script, time_extensions=1)
    (given,) = human.controls("more_time")
    assert (given["turn_idx"], given["extensions_left"]) == (1, 0)
    assert 500 < given["seconds"] <= 600


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"trust": 8}, "answer_invalid"),
        ({}, "answer_missing"),
        (None, "answer_missing"),
        ({"trust": 1, "better": "x"}, "answer_unexpected"),
        ({"trust": 1, "warmth": 3}, "answer_unexpected"),
    ],
)
def test_answers_about_a_reply_are_checked_with_the_message(wrong: Any, code: str) -> None:
    script = whole()
    script[2:2] = [message("Zero.", "bucket_0", reply_answers=wrong)]
    world, human = hold(*script)
    assert [refused["code"] for refused in human.controls("refused")] == [code]
    assert "Zero." not in [line.text for line in world.dialog]


def test_answers_about_a_reply_without_a_flow_are_refused() -> None:
    human = ScriptedHuman(
        message("One.", "bucket_0", reply_answers={"trust": 1}),
        message("One.", "bucket_0"),
        AgentTimeoutError(None, "1"),
    )
    world = make_world(chat_options(), [human])
    with pytest.raises(AgentTimeoutError):
        play(world)
    assert [refused["code"] for refused in human.controls("refused")] == ["answer_unexpected"]


def test_items_stand_without_boxes_too() -> None:
    script = [ACCEPT, ABOUT, said("One.", ticks=None), said("Two.", ticks=None), rating(4), AFTER, page("debrief")]
    script[4]["task_data"]["reply_answers"] = {"trust": 7}
    world, human = hold(*script, annotations=None, annotations_text=None)
    assert world.completion is Completion.COMPLETE
    assert human.controls("refused") == []


def test_the_message_that_is_said_back_has_the_answers_about_the_reply() -> None:
    _, human = hold(*whole())
    said_back = next(update for update in human.updates if update["text"] == "Two.")["task_data"]
    assert said_back["reply_answers"] == {"trust": 5}
    assert said_back["answered_utterance_idx"] == said_back["utterance_idx"] - 1
    (done,) = human.controls("rating_done")
    assert (done["final_rating"], done["reply_answers"]) == ([4], {"trust": 7, "better": "Shorter."})


def test_orders_are_drawn_by_worker_and_saved() -> None:
    world, human = hold(*whole())
    drawn = world.get_custom_task_data()["study_orders"]["after"]
    told = next(t["page"] for t in human.controls("your_turn") if t["ask"] == "page" and t["page"]["id"] == "after")
    assert drawn["items"] == {"items": [item["id"] for item in told["items"]]}
    by_id = {item["id"]: item for item in told["items"]}
    assert drawn["options"] == {"order": by_id["order"]["options"], "agree": by_id["agree"]["rows"]}
    again, _ = begin()
    assert again.flow.orders == world.flow.orders, "the same worker gets the same order again"
    orders = set()
    for number in range(40):
        human = ScriptedHuman()
        human.worker_id = f"worker-{number}"
        other = make_world(options(), [human])
        orders.add(tuple(other.flow.orders["after"]["options"]["order"]))
    assert len(orders) > 12, "workers get different ones"


# --- endings ---


def test_who_declines_leaves_nothing_and_gives_the_place_back() -> None:
    world, human = begin(page("consent", {"consent": "decline"}))
    play(world)
    assert (world.ending_kind, world.completion, world.is_worth_keeping) == ("declined", Completion.INCOMPLETE, False)
    assert world.flow.answers == []
    assert human.steps() == ["your_turn"], "that it was declined is said by the end alone"
    world.settle(collected=False)
    assert world.options.quota.counts()[0].in_flight == 0
    assert world.block_reasons() == []


def test_who_declines_after_the_chat_withdraws_everything() -> None:
    flow = FLOW + "  - {id: keep, kind: consent, text: May we keep it}\n"
    world, _ = hold(*whole(), page("keep", {"consent": "decline"}), flow=flow)
    assert (world.ending_kind, world.completion, world.is_worth_keeping) == ("declined", Completion.INCOMPLETE, False)


@pytest.mark.parametrize(
    "answer", [{"consent": "maybe"}, {"consent": True}, {"consent": []}, {}, None, {"consent": "accept", "x": 1}]
)
def test_consent_is_yes_or_no(answer: Any) -> None:
    world, human = hold(page("consent", answer), *whole())
    assert len(human.controls("refused")) == 1
    assert world.completion is Completion.COMPLETE


QUESTIONS_FIRST = """
pages:
  - {id: first, kind: questions, items: [{id: age, kind: number, question: Age}]}
  - {id: consent, kind: consent, text: Please.}
  - {id: chat, kind: chat}
"""


def test_nothing_is_kept_of_a_worker_who_left_before_consenting() -> None:
    world, _ = begin(page("first", {"age": 3}), AgentDisconnectedError("1"), flow=QUESTIONS_FIRST)
    with pytest.raises(AgentDisconnectedError):
        play(world)
    assert world.flow.has_answers
    assert world.keeps_nothing
    assert not world.is_worth_keeping


def test_answers_are_kept_of_a_worker_who_left_after_consenting() -> None:
    world, _ = begin(ACCEPT, ABOUT, AgentDisconnectedError("1"))
    with pytest.raises(AgentDisconnectedError):
        play(world)
    world.abandon("left")
    assert world.is_worth_keeping
    saved = world.get_custom_task_data()
    assert [answer["item"] for answer in saved["answers"]] == ["consent", "trained"]
    assert saved["status"] == "incomplete"


def test_consent_alone_is_nothing_to_keep() -> None:
    world, _ = begin(ACCEPT, AgentDisconnectedError("1"))
    with pytest.raises(AgentDisconnectedError):
        play(world)
    assert not world.keeps_nothing
    assert not world.is_worth_keeping


@pytest.mark.parametrize("how", [AgentTimeoutError(None, "1"), AgentDisconnectedError("1")])
def test_a_debriefing_that_is_not_read_costs_no_conversation(how: Exception) -> None:
    world, _ = begin(*whole()[:-1], how)
    try:
        play(world)
    except AgentDisconnectedError:
        world.abandon("left")
    assert (world.completion, world.reason, world.state) == (Completion.COMPLETE, None, State.ENDED)


def test_questions_after_the_chat_that_are_not_answered_leave_it_incomplete() -> None:
    world, human = begin(*whole()[:-2], AgentTimeoutError(None, "1"))
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.abandon("timeout")
    saved = world.get_custom_task_data()
    assert (saved["status"], saved["dialog"][-1]["final_rating"]) == ("incomplete", "4")
    assert "complete" not in human.controls("rating_done")[0]


def test_what_a_recovery_needs_changes_when_the_chat_begins() -> None:
    world, _ = begin(*whole())
    world.parley()
    before = world.head_version
    play(world, until=lambda: world.state is State.HUMAN_TURN)
    assert world.head_version > before


def test_options_are_saved_in_the_order_of_the_file_whatever_was_drawn() -> None:
    flow = """
pages:
  - id: about
    kind: questions
    shuffle: options
    items: [{id: uses, kind: choice, question: Uses, options: [a, b, c, d, e], many: true}]
  - {id: chat, kind: chat}
"""
    world, _ = begin(page("about", {"uses": ["e", "a", "c"]}), AgentDisconnectedError("1"), flow=flow)
    assert world.flow.orders["about"]["options"]["uses"] != ["a", "b", "c", "d", "e"]
    with pytest.raises(AgentDisconnectedError):
        play(world)
    assert world.flow.answers[0].value == ["a", "c", "e"]


def test_a_page_that_is_only_read_takes_no_answers_and_one_sent_again_is_taken_once() -> None:
    debrief = page("debrief", message_id="last")
    world, human = hold(*whole()[:-2], AFTER, AFTER, page("debrief", {"warmth": 1}), debrief)
    assert [refused["code"] for refused in human.controls("refused")] == ["answer_unexpected"]
    assert world.completion is Completion.COMPLETE
    saved = Conversation.from_dict(world.get_custom_task_data())
    assert [answer.item for answer in saved.answers or []].count("warmth") == 1
