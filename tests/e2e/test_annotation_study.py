"""A whole study of annotation: a panel, consent, onboarding, questions, a run that is killed, and the tables."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pandas as pd

from model_chat.analysis import compile_results
from model_chat.configuration.study_flow import load_study_flow
from model_chat.conversation.study_answers import check_answers
from model_chat.records.schema import Conversation
from model_chat.scripts.simulate_workers import Behaviour
from model_chat.tests.e2e.running_task import RunningTask, wait_until
from model_chat.tests.e2e.test_annotation import judged, logs
from model_chat.tests.e2e.test_panels import CODE, PROLIFIC, address, come, participations
from model_chat.tests.e2e.test_wire import DUMMY_ANNOTATION, DUMMY_ONBOARDING, ONBOARDING_ANSWERS

B = "mephisto.blueprint"
FLOW = """\
pages:
  - {id: consent, kind: consent, text: We study how people judge replies.}
  - {id: about, kind: questions, items: [{id: age, kind: choice, question: Age, options: [young, old]}]}
  - id: chat
    kind: chat
    every_reply: [{id: trust, kind: scale, question: Trust, points: 7}]
    last_reply: [{id: wrong, kind: highlight, question: Wrong, required: no}]
  - {id: after, kind: questions, items: [{id: warmth, kind: slider, question: Warmth}]}
"""
BUCKETS = "bucket_0,bucket_1,bucket_2,bucket_3,bucket_4,none_all_good"


def test_a_study_of_annotation_from_the_panel_to_the_tables(tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW, encoding="utf-8")
    flags = [
        "conf=example_annotation",
        *PROLIFIC[:3],
        "mephisto.provider.codes.screened_out=C2SCREEN",
        "mephisto.provider.codes.declined=C3DECLIN",
        DUMMY_ANNOTATION,
        DUMMY_ONBOARDING,
        f"{B}.onboarding_qualification=practised",
        f"{B}.study_flow_path={flow}",
        f"{B}.logs_path={logs(tmp_path, 2)}",
        f"{B}.annotators_per_conversation=2",
    ]
    practised = Behaviour(onboarding_answers=ONBOARDING_ANSWERS)
    task = RunningTask(tmp_path / "task", flags)

    def offered(wanted: int = 1) -> None:
        wait_until(lambda: task.unit_statuses().count("launched") >= wanted)

    with task:
        failing = come(task, address("failing"))
        assert failing.result == "onboarding failed", task.log
        assert failing.ending is not None
        assert (failing.ending["kind"], failing.ending["code"]) == ("screened_out", "C2SCREEN")
        offered()
        declining = come(
            task, address("declining"), behaviour=Behaviour(declines=True, onboarding_answers=ONBOARDING_ANSWERS)
        )
        assert declining.ending is not None
        assert (declining.ending["kind"], declining.ending["code"]) == ("declined", "C3DECLIN")
        offered()
        assert come(task, address("p1"), behaviour=practised).result == "complete", task.log
        leaving = Behaviour(onboarding_answers=ONBOARDING_ANSWERS, leave_after=1)
        offered()
        assert come(task, address("p2"), behaviour=leaving).result == "left"
        assert task.process is not None
        os.killpg(task.process.pid, signal.SIGKILL)
        task.process.wait()
    with task:
        told = come(task, address("p1"))
        assert told.result == "told: complete"
        for number in range(3, 6):
            offered()
            outcome = come(task, address(f"p{number}"), behaviour=practised)
            assert outcome.result == "complete", task.log
        assert task.wait() == 0, task.log
    chats = task.conversations()
    complete = [chat for chat in chats if chat["status"] == "complete"]
    assert Counter(log for _, log in judged(complete)) == {"logs.jsonl:1": 2, "logs.jsonl:2": 2}
    assert len(set(judged(chats))) == len(chats)
    assert {part["code"] for part in participations(task) if part["ending"] == "complete"} == {CODE}
    pages = load_study_flow("", str(flow)).pages
    for chat in complete:
        saved = Conversation.from_dict(chat)
        for page in (pages[1], pages[3]):
            given = {answer.item: answer.value for answer in saved.answers or [] if answer.page == page.id}
            assert check_answers(page.all_items, given, {}) == given
        assert [answer.utterance_idx for answer in saved.answers or [] if answer.item == "trust"] == [1, 3, 4]
        assert all(line.problem_data for line in saved.dialog if line.agent_idx == 1)
    out = tmp_path / "out"
    analysed = ["--results-folders", str(task.chats), "--output-folder", str(out), "--problem-buckets", BUCKETS]
    assert compile_results.main([*analysed, "--by", "age", "--bootstrap", "100", "--permutations", "99"]) == 0
    (models,) = out.glob("model_results_2*.csv")
    model = pd.read_csv(models).iloc[0]
    assert list(model[["conversations", "annotations", "workers", "annotated_utterances"]]) == [2, 4, 4, 6]
    (agreement,) = out.glob("agreement_2*.csv")
    items = pd.read_csv(agreement).set_index("judged")["items"]
    assert (items["none_all_good"], items["final_rating"], items["trust"], items["warmth"]) == (6, 2, 6, 2)
