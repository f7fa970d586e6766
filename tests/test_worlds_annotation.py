"""The annotation of one finished conversation, with a scripted annotator."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.exceptions import AgentTimeoutError

from model_chat.annotating.worlds import AnnotationOptions, AnnotationWorld, make_world
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.conversation.study_flow import FlowOptions
from model_chat.launch.recovered_annotations import judged_of, shown_as_said
from model_chat.launch.recovery import dialog_of
from model_chat.quality.attention import AttentionConfig
from model_chat.quality.blocks import BlockReason
from model_chat.records.conversation_logs import LoggedConversation, LogLine
from model_chat.records.reading import parse_conversation
from model_chat.records.schema import Completion, Conversation
from model_chat.serving.pool import ModelPool
from model_chat.tests.scripted_human import SHORT_CHAT, ScriptedHuman, message, play, rating
from model_chat.worlds import NoReservationLeftError

LOGGED = LoggedConversation(
    "log-1",
    (
        LogLine(0, "Hi!", fake_start=True),
        LogLine(1, "Hello.", fake_start=True),
        LogLine(0, "How are you?"),
        LogLine(1, "Fine."),
        LogLine(1, "And you?"),
        LogLine(0, "I am tired."),
        LogLine(1, "Sleep well."),
    ),
    "secret-model",
    context={"personas": [["I cook."], ["I sail."]], "additional_context": "Sea"},
    model_opt={"beam": 3},
)
SHORTEST = LoggedConversation("log-2", (LogLine(1, "Hello."),), "m")
FLOW = """
pages:
  - {id: consent, kind: consent, text: We study chat partners.}
  - id: chat
    kind: chat
    every_reply: [{id: trust, kind: scale, question: Trust, points: 7}]
    last_reply: [{id: better, kind: text, question: Better, required: no}]
"""
_ids = count()


def annotation(ticks: Any = "bucket_0", **more: Any) -> Any:
    return message("", ticks, f"annotation-{next(_ids)}", **more)


def begin(
    folder: Path, *script: Any, logged: LoggedConversation = LOGGED, **changes: Any
) -> tuple[AnnotationWorld, ScriptedHuman]:
    options = AnnotationOptions(
        models=ModelPool([], 1, 60),
        quota=AnnotationQuota([logged], 1, 0, folder / "allocation.jsonl", "t"),
        **{**SHORT_CHAT, "num_turns": 99, **changes},
    )
    human = ScriptedHuman(*script)
    return make_world(options, [human]), human


def whole() -> list[Any]:
    return [annotation("bucket_0"), annotation("none_all_good"), rating(4, ticks="bucket_1")]


def test_the_conversation_grows_reply_by_reply_and_is_rated_at_the_end(tmp_path: Path) -> None:
    world, human = begin(tmp_path, *whole())
    play(world)
    assert human.steps() == [
        "start",
        *("Hi!", "Hello.", "How are you?", "Fine."),
        *("your_turn", "annotated", "And you?"),
        *("your_turn", "annotated", "I am tired.", "Sleep well."),
        "your_turn",
    ]
    assert [told["ask"] for told in human.controls("your_turn")] == ["annotation", "annotation", "final_rating"]
    assert [told["num_turns"] for told in human.controls("your_turn")] == [2, 2, 2]
    assert human.controls("start")[0]["personas"] == ["I cook."]
    assert world.completion is Completion.COMPLETE


def test_the_record_is_a_conversation_of_the_annotator_that_names_the_one_judged(tmp_path: Path) -> None:
    world, _ = begin(tmp_path, *whole())
    play(world)
    saved = Conversation.from_dict(world.get_custom_task_data())
    assert saved.workers == ["worker-7"]
    assert saved.judged_conversation is not None
    assert saved.judged_conversation.model_dump() == {"id": "log-1", "sha256": LOGGED.sha256}
    assert [line.text for line in saved.dialog] == [line.text for line in LOGGED.dialog]
    ticked = [[name for name, on in (line.problem_data or {}).items() if on] for line in saved.dialog]
    assert ticked == [[], [], [], ["bucket_0"], ["none_all_good"], [], ["bucket_1"]]
    assert [line.fake_start for line in saved.dialog] == [True, True, True, None, None, True, None]
    assert saved.dialog[-1].final_rating == "4"
    assert saved.task_description.model_nickname == "secret-model"
    assert saved.task_description.model_opt == {"beam": 3}
    assert saved.personas == [["I cook."], ["I sail."]]
    assert saved.acceptability_violations == [None]
    read = parse_conversation(world.get_custom_task_data())
    assert read.judged_conversation == saved.judged_conversation
    assert read.ratings == [4]


def test_the_page_learns_nothing_of_the_model_or_of_who_talked_with_it(tmp_path: Path) -> None:
    world, human = begin(tmp_path, *whole())
    play(world)
    assert not any(word in str(human.updates) for word in ("secret-model", "log-1", LOGGED.sha256, "I sail."))


def test_an_only_reply_is_annotated_and_rated_at_once(tmp_path: Path) -> None:
    world, human = begin(tmp_path, rating(5, ticks="bucket_0"), logged=SHORTEST)
    play(world)
    assert [told["ask"] for told in human.controls("your_turn")] == ["final_rating"]
    assert world.completion is Completion.COMPLETE
    assert world.dialog[-1].problem_data == {"bucket_0": True, "bucket_1": False, "none_all_good": False}


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (annotation(None), "annotation_missing"),
        (annotation({"no such box": True}), "annotation_unknown"),
        (message("I chat.", "bucket_0"), "malformed"),
        (rating(5, ticks="bucket_0"), "rating_early"),
        (annotation("bucket_0", turn_idx=1), "not_your_turn"),
        (annotation("bucket_0", reply_answers={"trust": 1}), "answer_unexpected"),
        ("no packet", "malformed"),
    ],
)
def test_what_is_no_annotation_is_refused_and_the_turn_stays_open(tmp_path: Path, packet: Any, code: str) -> None:
    world, human = begin(tmp_path, packet, *whole())
    play(world)
    assert [told["code"] for told in human.controls("refused")] == [code]
    assert world.completion is Completion.COMPLETE


def test_the_same_annotation_sent_again_is_taken_once(tmp_path: Path) -> None:
    first = annotation("bucket_0")
    world, human = begin(tmp_path, first, first, annotation("none_all_good"), rating(4, ticks="bucket_1"))
    play(world)
    assert len(human.controls("annotated")) == 2
    assert not human.controls("refused")


def test_without_boxes_the_conversation_is_read_and_rated(tmp_path: Path) -> None:
    world, human = begin(tmp_path, annotation(None), annotation(None), rating(3), annotations=None)
    play(world)
    assert world.completion is Completion.COMPLETE
    assert all("problem_data" not in told for told in human.controls("annotated"))


def test_questions_about_replies_and_consent_come_as_in_a_chat(tmp_path: Path) -> None:
    flow = FlowOptions(parse_study_flow("flow", "flow.yaml", FLOW), max_page_time=300)
    consent = {"text": "", "task_data": {"message_id": "c", "page": "consent", "answers": {"consent": "accept"}}}
    last = rating(4, ticks="bucket_1")
    last["task_data"]["reply_answers"] = {"trust": 1, "better": "Shorter."}
    script = [consent, *(annotation(reply_answers={"trust": trust}) for trust in (7, 6)), last]
    world, _ = begin(tmp_path, *script, study_flow=flow)
    play(world)
    answers = Conversation.from_dict(world.get_custom_task_data()).answers or []
    assert [(answer.item, answer.value, answer.utterance_idx) for answer in answers] == [
        ("consent", "accept", None),
        ("trust", 7, 3),
        ("trust", 6, 4),
        ("trust", 1, 6),
        ("better", "Shorter.", 6),
    ]


def test_an_attention_check_comes_between_two_replies_and_is_no_part_of_the_conversation(tmp_path: Path) -> None:
    checks = [{"turn": 1, "text": "Tick the second box.", "bucket": "bucket_1"}]
    attention = AttentionConfig.model_validate({"checks": checks})
    script = [annotation("bucket_0"), annotation("bucket_0"), annotation("none_all_good"), rating(4, ticks="bucket_1")]
    world, human = begin(tmp_path, *script, attention=attention)
    play(world)
    assert human.steps()[5:10] == ["your_turn", "annotated", "Tick the second box.", "your_turn", "annotated"]
    assert [result.passed for result in world.attention_results] == [False]
    assert [line.text for line in world.dialog] == [line.text for line in LOGGED.dialog]
    assert world.block_reasons()[0][0] is BlockReason.ATTENTION
    shown = [update["task_data"]["utterance_idx"] for update in human.updates if update["text"]]
    assert len(shown) == len(set(shown))
    told = [data["annotated_utterance_idx"] for data in human.controls("annotated")]
    assert told == [3, 4, 6]


def test_who_has_done_nothing_leaves_nothing_to_keep(tmp_path: Path) -> None:
    world, _ = begin(tmp_path, AgentTimeoutError(None, "1"))
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.abandon("timeout")
    assert not world.is_worth_keeping


def test_what_was_annotated_before_the_worker_left_is_kept_as_incomplete(tmp_path: Path) -> None:
    world, _ = begin(tmp_path, annotation("bucket_0"), AgentTimeoutError(None, "1"))
    with pytest.raises(AgentTimeoutError):
        play(world)
    world.abandon("timeout")
    assert world.is_worth_keeping
    assert world.get_custom_task_data()["status"] == "incomplete"


def test_a_run_that_died_is_recovered_from_what_the_page_was_sent(tmp_path: Path) -> None:
    world, human = begin(tmp_path, annotation("bucket_0"), AgentTimeoutError(None, "1"))
    with pytest.raises(AgentTimeoutError):
        play(world)
    head = world.get_custom_task_data()
    recovered = shown_as_said(dialog_of(human.updates))
    assert judged_of(head) == (LOGGED.sha256, "worker-7")
    assert [line["text"] for line in recovered] == [line.text for line in world.dialog]
    assert [line.get("problem_data") for line in recovered] == [line.problem_data for line in world.dialog]
    assert [line.get("fake_start") for line in recovered] == [line.fake_start for line in world.dialog]
    assert recovered[3]["message_id"] == world.dialog[3].message_id


def test_nobody_else_gets_a_conversation_that_is_held(tmp_path: Path) -> None:
    world, human = begin(tmp_path, *whole())
    with pytest.raises(NoReservationLeftError):
        make_world(world.options, [human])
    world.shutdown()
    assert world.options.quota.remaining() == 1
