"""200 logs, three annotators each, a fifth of whom leave: from who is given what to the numbers of the analysis."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.records.conversation_logs import LoggedConversation, LogLine
from model_chat.records.journal import ALLOCATION_NAME
from model_chat.tests.analysis.conftest import make_conversation

LOGS = 200


def annotation(logged: LoggedConversation, worker: str, ticked: bool, left: bool) -> dict[str, Any]:
    record = make_conversation(worker=worker, hit=f"{worker}-{logged.id}", labels=[("rude",) if ticked else ()])
    for said, line in zip(record["dialog"], logged.dialog, strict=True):
        said["text"] = line.text
    record["dialog"][0]["fake_start"] = True
    record["judged_conversation"] = {"id": logged.id, "sha256": logged.sha256}
    return {**record, "status": "incomplete", "reason": "left"} if left else record


def test_each_log_has_three_and_alpha_is_that_of_the_table_by_hand(
    save: Callable[..., Path], compiler: Any, tmp_path: Path
) -> None:
    """The reply of log ``i`` is rude to ``i % 4`` of its three annotators, so 50 replies have 0, 1, 2 and 3 ticks each.

    Of 600 judgments 300 are ticks. Those of the replies with 1 or 2 ticks differ in 4 of 6 ordered pairs, which count half
    each, so 100 * 4 / 2 = 200 of 600 coincidences differ; by chance it were 2 * 300 * 300 / 599 of 600. Alpha is 1 less
    their ratio.
    """
    logs = [LoggedConversation(f"{i}", (LogLine(0, f"This is the log {i}"), LogLine(1, "reply"))) for i in range(LOGS)]
    quota = AnnotationQuota(logs, 3, 0, tmp_path / ALLOCATION_NAME, "t")
    rng = random.Random(11)
    done: dict[str, list[str]] = defaultdict(list)
    left = 0
    for number in itertools.count():
        if not quota.remaining():
            break
        worker = f"w{number}"
        for _ in range(10):
            place = quota.take(worker)
            if place is None:
                break
            before = done[place.subject.id]
            if rng.random() < 0.2:
                left += 1
                save(annotation(place.subject, worker, True, left=True))
                place.release()
                break
            save(annotation(place.subject, worker, len(before) < int(place.subject.id) % 4, left=False))
            before.append(worker)
            place.complete()
    assert left > 20
    assert Counter(len(set(workers)) for workers in done.values()) == {3: LOGS}
    files = compiler(bootstrap=100).compile_and_save_results()
    rude = pd.read_csv(files["agreement"]).set_index("judged").loc["rude"]
    assert (rude["items"], rude["judgments"], rude["conversations"]) == (200, 600, 200)
    assert rude["nominal"] == pytest.approx(1 - (200 / 600) / (2 * 300 * 300 / 599 / 600))
    assert rude["raw"] == pytest.approx((100 * 6 + 100 * 2) / (200 * 6))
    assert rude["low"] < rude["nominal"] < rude["high"]
    labels = pd.read_csv(files["majority_labels"])
    assert Counter(labels[labels["label"] == "rude"]["majority"]) == {True: 100, False: 100}
    model = pd.read_csv(files["model_results"]).iloc[0]
    assert list(model[["conversations", "annotations", "annotated_utterances"]]) == [200, 600, 200]
    assert model["rude_share"] == pytest.approx(0.5)
    excluded = pd.read_csv(files["excluded"])
    assert Counter(excluded["reason"]) == {"incomplete": left}
