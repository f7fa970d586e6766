"""Judges beside people: the numbers by hand, their errors against statsmodels, and that nothing else sees a judge."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa as kappa_of_statsmodels

from model_chat.analysis import compile_results
from model_chat.analysis.estimates import rate
from model_chat.analysis.judge_agreement import cohens_kappa
from model_chat.analysis.measures import item_digests
from model_chat.records.llm_judgments import Judge, JudgmentUsage, LlmJudgment
from model_chat.records.reading import parse_conversation

from .conftest import BUCKETS, BUCKETS_FLAG, Conversation, make_conversation, saver

Row = dict[str, Any]


def ticks(*ticked: str) -> dict[str, bool]:
    return {box: box in (ticked or ("none_all_good",)) for box in BUCKETS}


def judged(
    conversation: Conversation,
    boxes: Sequence[dict[str, bool] | None],
    model: str = "judge",
    endpoint_model: str = "big",
    served_model: str = "big-1",
) -> list[LlmJudgment]:
    """A judgment of each reply; None: missing, for no JSON came."""
    digests = item_digests(parse_conversation(conversation))
    return [
        LlmJudgment(
            conversation=digests[-1].hex(),
            utterance_idx=2 * number + 1,
            item=digests[2 * number + 1].hex(),
            boxes=ticked,
            missing="not_json" if ticked is None else None,
            judge=Judge(model=model, endpoint_model=endpoint_model, served_model=served_model),
            usage=JudgmentUsage(),
            prompt_sha256="0" * 64,
        )
        for number, ticked in enumerate(boxes)
    ]


class Study:
    """Records, judgments, and the command over both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write = saver(folder)
        self.file = folder / "judgments.jsonl"

    def save(self, *judgments: LlmJudgment) -> None:
        self.file.write_bytes(b"".join(judgment.line() for judgment in judgments))

    def compile(self, *more: str, out: str = "out") -> int:
        flags = ["--results-folders", str(self.folder / "results"), "--output-folder", str(self.folder / out)]
        numbers = ["--problem-buckets", BUCKETS_FLAG, "--bootstrap", "100", "--permutations", "99"]
        return compile_results.main([*flags, *numbers, "--min-word-count", "0", "--no-report", *more])

    def file_of(self, name: str, out: str = "out") -> Path:
        (found,) = (self.folder / out).glob(f"{name}_2*")
        return found

    def rows(self, by: str = "all") -> dict[str, list[Row]]:
        """The rows of the table, by box; numbers as numbers."""
        found: dict[str, list[Row]] = {}
        with self.file_of("judge_agreement").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["by"] == by:
                    texts = {"judge", "judged", "kind", "level", "by", "group"}
                    values = {k: v if k in texts else float(v) if v else math.nan for k, v in row.items()}
                    found.setdefault(row["judged"], []).append(values)
        return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def three_workers(study: Study) -> Conversation:
    """Four replies that three workers saw alike; the third annotated three of them. Rude: 1000, 1010, 110-."""
    rude, good = ("rude",), ()
    labels = [(rude, good, good, good), (rude, good, rude, good), (rude, rude, good, None)]
    conversations = [make_conversation(worker=f"w{i}", hit=f"h{i}", labels=own) for i, own in enumerate(labels)]
    for conversation in conversations:
        study.write(conversation)
    return conversations[0]


# --- numbers ---


def test_the_numbers_are_those_of_a_calculation_by_hand(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = three_workers(study)
    study.save(*judged(conversation, [ticks("rude"), ticks(), ticks("rude"), ticks()]))
    assert study.compile("--judgments", str(study.file)) == 0
    (row,) = study.rows()["rude"]
    assert (row["items"], row["judgments"], row["workers"]) == (4, 11, 3)
    assert row["raw"] == pytest.approx(8 / 11)  # 3 of 4, 4 of 4, 1 of 3
    expected = rate(np.array([3.0, 4.0, 1.0]), np.array([4.0, 4.0, 3.0]))
    assert (row["raw_low"], row["raw_high"]) == pytest.approx((expected.low, expected.high))
    # The judge ticked 6 of 11, people 5 of 11: by chance they agree in (30 + 30) / 121.
    assert row["kappa"] == pytest.approx((8 / 11 - 60 / 121) / (61 / 121))
    assert row["kappa_low"] < row["kappa"] < row["kappa_high"]
    # 22 ticks of which 11 are set; observed disagreement 3/11, expected 2 · 11 · 11 / (22 · 21).
    assert row["alpha"] == pytest.approx(1 - (3 / 11) / (242 / 462))
    # Agreeing ordered pairs of people: 6 + 2 + 2 + 2 of 6 + 6 + 6 + 2; 5 of 11 ticks are set.
    assert (row["person_items"], row["person_judgments"]) == (4, 11)
    assert row["person_raw"] == pytest.approx(12 / 20)
    assert row["person_alpha"] == pytest.approx(1 - (4 / 11) / (60 / 110))
    assert (row["judge_rate"], row["person_rate"]) == pytest.approx((6 / 11, 5 / 11))
    assert row["difference"] == pytest.approx(1 / 11)
    assert row["low"] < 1 / 11 < row["high"]
    (never,) = study.rows()["odd"]
    assert never["raw"] == 1
    assert math.isnan(never["kappa"])
    said = capsys.readouterr().out
    assert "Judges beside people" in said
    assert "judge has judged 4 of the 4 different replies that people annotated." in said


def test_people_are_compared_on_the_items_of_the_judge_alone(study: Study) -> None:
    conversation = three_workers(study)
    study.save(*judged(conversation, [None, ticks("odd"), ticks("rude"), None]))
    assert study.compile("--judgments", str(study.file)) == 0
    (row,) = study.rows()["rude"]
    assert (row["items"], row["judgments"], row["person_items"], row["person_judgments"]) == (2, 6, 2, 6)
    assert row["person_raw"] == pytest.approx(4 / 12)


def test_a_second_annotation_of_a_worker_is_not_used(study: Study) -> None:
    first = make_conversation(worker="w", hit="h1", labels=[("rude",)])
    study.write(first)
    study.write(make_conversation(worker="w", hit="h2", labels=[()]))
    study.write(make_conversation(worker="other", hit="h3", labels=[("rude",)]))
    study.save(*judged(first, [ticks("rude")]))
    assert study.compile("--judgments", str(study.file)) == 0
    (row,) = study.rows()["rude"]
    assert (row["judgments"], row["raw"]) == (2, 1)


def test_a_judge_that_always_ticks_long_or_late_replies_is_seen(study: Study) -> None:
    # Six exchanges; the even ones have long replies. The judge finds the long ones odd and the last two rude.
    texts = [f"{'x' * (500 if i % 2 == 0 else 5)}{i}" for i in range(6)]
    boxes = [ticks(*(["odd"] if i % 2 == 0 else []), *(["rude"] if i >= 4 else [])) for i in range(6)]
    for worker in range(3):
        conversation = make_conversation(worker=f"w{worker}", hit=f"h{worker}", labels=[()] * 6, replies=texts)
        study.write(conversation)
    study.save(*judged(conversation, boxes))
    assert study.compile("--judgments", str(study.file)) == 0
    by_length = {row["group"]: row for row in study.rows("length")["odd"]}
    assert (by_length["short"]["from"], by_length["short"]["to"], by_length["short"]["difference"]) == (6, 6, 0)
    assert (by_length["long"]["from"], by_length["long"]["to"], by_length["long"]["difference"]) == (501, 501, 1)
    by_position = {row["group"]: row for row in study.rows("position")["rude"]}
    assert [(group, row["from"], row["to"], row["difference"]) for group, row in by_position.items()] == [
        ("early", 1, 2, 0),
        ("middle", 3, 4, 0),
        ("late", 5, 6, 1),
    ]


def test_lengths_belong_to_their_replies_where_not_all_are_annotated(study: Study) -> None:
    texts = ["a" * 10, "b" * 20, "c" * 300, "d" * 400]
    conversation = make_conversation(labels=[None, (), (), None], replies=texts)
    study.write(conversation)
    study.write(make_conversation(worker="w2", hit="h2", labels=[(), None, None, ()], replies=texts))
    study.save(*judged(conversation, [ticks()] * 4))
    assert study.compile("--judgments", str(study.file)) == 0
    rows = {row["group"]: (row["from"], row["to"], row["judgments"]) for row in study.rows("length")["odd"]}
    assert rows["short"][:2] in ((10, 20), (10, 10))
    assert rows["long"][:2] in ((300, 400), (400, 400))
    assert sum(judgments for *_, judgments in rows.values()) == 4


# --- Cohen's kappa ---


def test_kappa_and_its_error_are_those_of_statsmodels_without_clusters() -> None:
    rng = np.random.default_rng(3)
    a = (rng.random(400) < 0.4).astype(float)
    b = np.where(rng.random(400) < 0.8, a, 1 - a)
    table = np.array([[np.sum((a == i) & (b == j)) for j in (0, 1)] for i in (0, 1)])
    theirs = kappa_of_statsmodels(table)
    own = cohens_kappa(a, b, np.arange(400))
    assert own.value == pytest.approx(theirs.kappa)
    assert own.high - own.low == pytest.approx(2 * 1.966 * theirs.std_kappa, rel=5e-3)


def test_the_same_pairs_twice_from_the_same_workers_are_no_more_certain() -> None:
    rng = np.random.default_rng(4)
    a, b = ((rng.random(60) < 0.5).astype(float) for _ in range(2))
    workers = np.arange(60) // 6
    once = cohens_kappa(a, b, workers)
    twice = cohens_kappa(np.tile(a, 2), np.tile(b, 2), np.tile(workers, 2))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(
    ("a", "b", "clusters", "value", "has_interval"),
    [
        ([], [], [], math.nan, False),
        ([1, 1], [1, 1], [0, 1], math.nan, False),
        ([1, 0], [1, 0], [0, 1], 1.0, False),
        ([1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], 0.5, False),
        ([1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 2, 3], 0.5, True),
    ],
)
def test_kappa_at_the_edges(
    a: list[float], b: list[float], clusters: list[int], value: float, has_interval: bool
) -> None:
    found = cohens_kappa(np.array(a, dtype=float), np.array(b, dtype=float), np.array(clusters, dtype=np.int64))
    assert found.value == pytest.approx(value, nan_ok=True)
    assert math.isfinite(found.low) is has_interval
    assert not has_interval or -1 <= found.low < value < found.high <= 1


# --- apart from people ---


def test_no_other_table_changes_by_a_judge(study: Study) -> None:
    conversation = three_workers(study)
    for number in range(12):
        study.write(make_conversation(model="b", worker=f"w{number}", hit=f"b{number}", rating=str(number % 5 + 1)))
    study.save(*judged(conversation, [ticks("rude"), ticks(), ticks("odd"), ticks()]))
    assert study.compile(out="without") == 0
    assert study.compile("--judgments", str(study.file), out="with") == 0

    def contents(out: str) -> dict[str, bytes]:
        files = [path for path in (study.folder / out).rglob("*") if path.is_file() and path.suffix in (".csv", ".tex")]
        named = {path.name.partition("_20")[0]: path.read_bytes() for path in files}
        return {name: content.partition(b"Needs")[2] or content for name, content in named.items()}

    without, beside = contents("without"), contents("with")
    assert beside.keys() - without.keys() == {"judge_agreement"}
    assert len(without) >= 15
    assert {name for name in without if without[name] != beside[name]} == set()
    before, after = (
        json.loads(study.file_of("statistics", out).read_text(encoding="utf-8")) for out in ("without", "with")
    )
    assert {name: after.pop(name) for name in ("judge_agreement", "judge_remarks")}["judge_agreement"]
    assert after == before


def test_the_report_has_a_section_of_its_own(study: Study) -> None:
    conversation = three_workers(study)
    study.save(*judged(conversation, [ticks("rude"), ticks(), ticks("odd"), ticks()], model="<b>judge</b>"))
    assert study.compile("--judgments", str(study.file), "--report") == 0
    report = study.file_of("report").read_text(encoding="utf-8")
    assert '<h2 id="judges">' in report
    assert "<b>judge</b>" not in report
    assert study.compile("--report", out="without") == 0
    assert 'id="judges"' not in study.file_of("report", "without").read_text(encoding="utf-8")


# --- what is in the file ---


def test_several_judges_are_told_apart(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = three_workers(study)
    four = [ticks("rude"), ticks(), ticks(), ticks()]
    study.save(
        *judged(conversation, four, model="one"),
        *judged(conversation, four, model="two", endpoint_model="big"),
        *judged(conversation, four, model="two", endpoint_model="small"),
    )
    assert study.compile("--judgments", str(study.file)) == 0
    assert [row["judge"] for row in study.rows()["rude"]] == ["one", "two (big)", "two (small)"]
    assert "different judgments" not in capsys.readouterr().out


def test_what_is_odd_about_the_judgments_is_said(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = three_workers(study)
    unknown = make_conversation(said=["never collected"], labels=[()])
    study.save(
        *judged(conversation, [ticks("rude"), None, ticks(), ticks()]),
        *judged(conversation, [ticks(), None, ticks()], served_model="big-2"),
        *judged(unknown, [None]),
    )
    assert study.compile("--judgments", str(study.file)) == 0
    said = capsys.readouterr().out
    assert "judge has judged 3 of the 4 different replies" in said
    assert "judge gave no usable answer about annotated replies: not_json 2." in said
    assert "judge is in the file with different judgments of 1 replies; the first ones count." in said
    assert "judge answered as several models: big-1, big-2." in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: {**line, "kind": "person"}, "line 2: `kind`"),
        (lambda line: {**line, "item": "xyz"}, "line 2: `item`"),
        (lambda line: {**line, "boxes": {"rude": 1}}, "line 2: `boxes.rude`"),
        (lambda line: {**line, "more": 1}, "line 2: `more`"),
        (lambda line: {"dialog": []}, "line 2: "),
    ],
)
def test_a_file_of_anything_else_is_refused(
    study: Study, change: Callable[[Row], Row], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = three_workers(study)
    study.save(*judged(conversation, [ticks(), ticks()]))
    first, second = study.file.read_text(encoding="utf-8").splitlines()
    study.file.write_text(f"{first}\n{json.dumps(change(json.loads(second)))}\n", encoding="utf-8")
    assert study.compile("--judgments", str(study.file)) == 2
    assert words in capsys.readouterr().err
    assert not (study.folder / "out").exists()


def test_wrong_flags_are_named_together(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    three_workers(study)
    assert study.compile("--judgments", str(study.folder / "nowhere"), "--power", "7") == 2
    said = capsys.readouterr().err
    assert "nowhere' can't be read (No such file or directory)" in said
    assert "--power is 7" in said
    study.save()
    assert study.compile("--judgments", str(study.file), "--problem-buckets", "none") == 2
    assert "--problem-buckets is none" in capsys.readouterr().err


def test_an_empty_file_gives_an_empty_table(study: Study) -> None:
    three_workers(study)
    study.save()
    assert study.compile("--judgments", str(study.file)) == 0
    assert study.rows() == {}
