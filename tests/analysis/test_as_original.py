"""`--as-original` counts old records as the original task did; without it, each difference has its own rule."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..records.original_files import LONG, image_chat, january_2021, year_2023

BUCKETS = "bucket_0,bucket_1,none_all_good"
Save = Callable[..., Path]


def said(conversation: dict[str, Any], text: str) -> dict[str, Any]:
    """The conversation with another message of the worker's own."""
    conversation["dialog"][2]["text"] = text
    return conversation


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """120 files, of 2021 and 2023 by turns.

    ============  =====  ==============================================  ==========  ===========
    worker        files  what they are                                   default     as original
    ============  =====  ==============================================  ==========  ===========
    busy          12     1 word                                          too short   too short
    busy          94     8 words; "Hi!" makes it 9 in 2                  94          88 (of 100)
    brief         8      4 words; "Hi!" makes it 5 in 2, mean 2.5        8           too short
    listed        2      8 words; in --worker-block-list                 blocked     2
    guest         2      8 words; the second is a copy of the first      1           2
    stray         1      8 words; its file is in --hit-block-list        blocked     blocked
    cut           1      `incomplete` in the file's name                 incomplete  incomplete
    ============  =====  ==============================================  ==========  ===========
    """
    number = 0

    def save(worker: str, text: str, times: int = 1, ending: str = "live", hit: str | None = None) -> None:
        nonlocal number
        for _ in range(times):
            number += 1
            make = january_2021 if number % 2 else year_2023
            conversation = said(make(worker, hit_ids=[hit or f"H{number}"], assignment_ids=[hit or f"A{number}"]), text)
            place = tmp_path / "results" / "2021_01_14"
            place.mkdir(parents=True, exist_ok=True)
            name = f"20210114_1{number // 60:02d}{number % 60:02d}0_{number}_{ending}.json"
            (place / name).write_text(json.dumps(conversation), encoding="utf-8")

    save("busy", "ok", 12)
    save("busy", LONG, 94)
    save("brief", "four plain words here", 8)
    save("listed", LONG, 2)
    save("stray", LONG, ending="stray_live")
    save("cut", LONG, ending="live_incomplete")
    save("guest", LONG, hit="G")
    number += 1  # the same period, so that the copy is one
    save("guest", LONG, hit="G")
    assert len(list(place_of(tmp_path).iterdir())) == 120
    return tmp_path


def place_of(folder: Path) -> Path:
    return folder / "results" / "2021_01_14"


FLAGS = {"problem_buckets": BUCKETS, "worker_block_list": "listed"}


def flags_for(corpus: Path) -> dict[str, Any]:
    (stray,) = place_of(corpus).glob("*stray*")
    return {**FLAGS, "hit_block_list": stray.name}


def test_by_default_103_of_120_conversations_count(corpus: Path, compiler: Callable[..., Any]) -> None:
    run = compiler(**flags_for(corpus))
    frame = run.compile_results()
    assert Counter(frame.drop_duplicates("conversation_idx")["worker_id"]) == {"busy": 94, "brief": 8, "guest": 1}
    assert run.summary.data.corpus.excluded_by_reason == {
        "incomplete": 1,
        "blocked_hit": 1,
        "blocked_worker": 2,
        "too_short": 12,
        "duplicate": 1,
    }
    (row,) = run.summary.models.to_dict("records")
    assert (row["human_utterances"], row["human_words"]) == (103, 94 * 8 + 8 * 4 + 8)
    assert run.summary.data.corpus.unmatched == []


def test_as_original_92_of_120_conversations_count(corpus: Path, compiler: Callable[..., Any]) -> None:
    run = compiler(**flags_for(corpus), as_original=True)
    frame = run.compile_results()
    assert Counter(frame.drop_duplicates("conversation_idx")["worker_id"]) == {"busy": 88, "listed": 2, "guest": 2}
    assert run.summary.data.corpus.excluded_by_reason == {
        "incomplete": 1,
        "blocked_hit": 1,
        "too_short": 12 + 8,
        "over_worker_limit": 6,
    }
    (row,) = run.summary.models.to_dict("records")
    assert (row["human_utterances"], row["human_words"]) == (2 * 92, 92 * (1 + 8))
    assert frame["conversation_idx"].nunique() == frame["conversation_idx"].max() + 1 == 92


def test_the_numbers_are_the_same_on_several_processes(corpus: Path, compiler: Callable[..., Any]) -> None:
    flags = {**flags_for(corpus), "as_original": True}
    alone, together = compiler(**flags).compile_results(), compiler(**flags, processes=2).compile_results()
    assert alone.equals(together)


def test_the_limit_counts_across_chunks_what_other_rules_leave_out(
    corpus: Path, compiler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_chat.analysis.parallel.chunked.__defaults__", (7,))
    run = compiler(**flags_for(corpus), as_original=True)
    run.compile_results()
    assert run.summary.data.corpus.excluded_by_reason["over_worker_limit"] == 6


def test_a_blocked_worker_is_only_left_out_of_the_printed_table(
    corpus: Path, compiler: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = compiler(**flags_for(corpus), as_original=True).compile_and_save_results()
    printed = capsys.readouterr().out.partition("Workers, most problems first")[2].partition("\n\n")[0]
    assert "guest" in printed and "listed" not in printed
    assert '"listed"' in files["worker_results"].read_text(encoding="utf-8")


def test_the_own_rule_of_a_subclass_comes_after_the_limit(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    from model_chat.analysis.compiler import ModelChatResultsCompiler

    class Picky(ModelChatResultsCompiler):
        def reject(self, conversation: Any) -> str | None:
            return "not this one" if conversation.hit_id == "h0" else None

    for number in range(3):
        save(make(worker="w", hit=f"h{number}"))
    counted = [
        compiler(Picky, max_convos_per_worker=2, as_original=flag).compile_results()["hit_id"].unique().tolist()
        for flag in (False, True)
    ]
    assert counted == [["h1", "h2"], ["h1"]]


def test_duplicates_are_told_between_files_and_database_only(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    assert compiler(as_original=True).settings.keep_duplicates
    assert compiler(as_original=True, results_folders=None, task_name="t").settings.keep_duplicates
    assert not compiler().settings.keep_duplicates
    both = compiler(as_original=True, task_name="t")
    assert not both.settings.keep_duplicates
    assert compiler(as_original=True, task_name="t", keep_duplicates=True).settings.keep_duplicates


def test_what_was_shown_as_said_counts_for_the_model_too(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    conversation = make(labels=[["rude"], []])
    for utterance in conversation["dialog"][:2]:
        utterance["fake_start"] = True
    save(conversation)
    counted = []
    for as_original in (False, True):
        run = compiler(as_original=as_original)
        run.compile_results()
        (row,) = run.summary.models.to_dict("records")
        counted.append((row["model_utterances"], row["annotated_utterances"], row["rude"]))
    assert counted == [(1, 1, 0), (2, 2, 1)]


def test_words_are_what_is_between_spaces_as_original_and_in_every_script_otherwise(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    for number, text in enumerate(
        ("今天天气真的很好。", "今日は公園に行きました。", "วันนี้อากาศดีมากเลยนะ", "well - no - oh - my")
    ):
        save(make(worker=f"w{number}", hit=f"h{number}", said=[text]))
    assert list(compiler().compile_results()["hit_id"].unique()) == ["h0", "h1", "h2", "h3"]
    assert list(compiler(as_original=True).compile_results()["hit_id"].unique()) == ["h3"]
    run = compiler(min_word_count=0, as_original=True)
    run.compile_results()
    assert run.summary.models["human_words"].to_list() == [1 + 1 + 1 + 7]


# --- annotations ---


def test_numbers_in_the_annotation_are_never_ticks(save: Save, compiler: Callable[..., Any]) -> None:
    numbers_only = january_2021("w2")
    for utterance in numbers_only["dialog"]:
        if "problem_data" in utterance:
            utterance["problem_data"] = {"turn_idx": 1}
    save(january_2021("w1"))
    save(numbers_only)
    run = compiler(problem_buckets=BUCKETS)
    frame = run.compile_results()
    (row,) = run.summary.models.to_dict("records")
    assert (row["annotated_utterances"], row["bucket_0"], row["none_all_good"]) == (2, 1, 1)
    assert run.summary.data.corpus.unknown_labels == {}
    assert frame[frame["worker_id"] == "w2"]["bucket_0"].isna().all()  # not annotated


def test_a_bucket_may_be_ticked_by_a_number_and_nothing_else_is_a_tick(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    good, bad = make(worker="w1"), make(worker="w2")
    good["dialog"][1]["problem_data"] = {"rude": 1, "odd": 0, "none_all_good": None}
    bad["dialog"][1]["problem_data"] = {"rude": 2, "none_all_good": False}
    save(good)
    save(bad)
    run = compiler()
    run.compile_results()
    assert run.summary.models["rude"].to_list() == [1]
    (excluded,) = run.summary.data.corpus.excluded
    assert excluded.detail == "`problem_data.rude` of utterance 1 is no tick: 2"


@pytest.mark.parametrize(
    ("annotation", "default", "original", "remark"),
    [
        # problems found and clean conversations, of one conversation with one message
        ({"rude": False, "none_all_good": True}, (0, 1), (0, 1), None),
        ({"rude": True, "none_all_good": False}, (1, 0), (1, 0), None),
        ({"rude": False, "odd": False}, (0, 1), (1, 1), "1 of 1 annotated messages had no box none_all_good"),
        ({"rude": True, "odd": False}, (1, 0), (1, 0), "1 of 1 annotated messages had no box none_all_good"),
        ({"rude": False, "none_all_good": False}, (1, 0), (1, 1), "have neither none_all_good nor another"),
        ({"rude": True, "none_all_good": True}, (1, 0), (0, 0), None),
    ],
)
def test_clean_conversations_are_those_without_a_problem_found(
    make: Callable[..., Any],
    save: Save,
    compiler: Callable[..., Any],
    annotation: dict[str, bool],
    default: tuple[int, int],
    original: tuple[int, int],
    remark: str | None,
) -> None:
    from model_chat.analysis.remarks import remarks

    conversation = make()
    conversation["dialog"][1]["problem_data"] = annotation
    save(conversation)
    for as_original, expected in ((False, default), (True, original)):
        run = compiler(as_original=as_original)
        run.compile_results()
        found = int(run.summary.workers["problems_found"].sum())
        assert (found, int(run.summary.models["clean_conversations"].sum())) == expected
        about = [entry for entry in remarks(run.summary) if "annotated messages" in entry]
        assert len(about) == (remark is not None)
        assert all(str(remark) in entry for entry in about)
        assert any("--as-original" in entry for entry in remarks(run.summary)) == as_original


def test_a_bucket_with_a_comma_is_counted_when_quoted_and_named_when_not(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any]
) -> None:
    from model_chat.analysis.remarks import remarks

    conversation = make()
    conversation["dialog"][1]["problem_data"] = {"rude, unkind": True, "it's off": False, "none_all_good": False}
    save(conversation)
    run = compiler(problem_buckets='"rude, unkind",it\'s off,none_all_good')
    frame = run.compile_results()
    assert frame["rude, unkind"].dropna().to_list() == [True]
    assert run.summary.models["clean_conversations"].to_list() == [0]
    split = compiler(problem_buckets="rude, unkind,it's off,none_all_good")
    split.compile_results()
    assert split.summary.models["clean_conversations"].to_list() == [0]
    said_of = " ".join(remarks(split.summary))
    assert 'A bucket with a comma is quoted as in csv: "rude, unkind".' in said_of


# --- lists ---


def test_a_hit_is_named_by_any_of_its_ids_or_by_its_file(save: Save, compiler: Callable[..., Any]) -> None:
    results = [save(january_2021(f"w{number}", hit_ids=[f"H{number}", f"M{number}"])) for number in range(5)]
    names = sorted(path.name for path in results[0].glob("*/*.json"))
    blocked = f"H0,M1,{names[2]},{names[3].removesuffix('.json')}"
    for as_original in (False, True):
        run = compiler(problem_buckets=BUCKETS, hit_block_list=blocked, as_original=as_original)
        assert list(run.compile_results()["worker_id"].unique()) == ["w4"]
        details = [entry.detail for entry in run.summary.data.corpus.excluded]
        assert sorted(details) == sorted(blocked.split(","))
        assert run.summary.data.corpus.unmatched == []


def test_ids_that_no_conversation_has_are_named(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    save(make(worker="A1B2C3D4E5F6G7", hit="h1"))
    save(make(worker="short", hit="h2", said=["no"]))
    save(make(worker="cut", hit="h3", status="incomplete"))
    compiler(worker_block_list="A1B2C3D4E5F6G8,short,cut,nobody", hit_block_list="h9x,h2").compile_and_save_results()
    printed = capsys.readouterr().out
    assert "Note: --hit-block-list names ids that no conversation has: 'h9x'." in printed
    near = "'A1B2C3D4E5F6G8' (did you mean 'A1B2C3D4E5F6G7'?), 'nobody'"
    assert f"Note: --worker-block-list names ids that no conversation has: {near}." in printed
    everything = compiler(worker_block_list="nobody", min_word_count=50)
    everything.compile_and_save_results()
    assert "names ids that no conversation has: 'nobody'" in capsys.readouterr().out  # also when nothing counts


def test_files_of_ids_have_comments_and_byte_order_marks(
    make: Callable[..., Any], save: Save, compiler: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "workers.txt").write_bytes("\ufeffw1\n# last year\nw2   # copied\n".encode())
    (tmp_path / "hits, old.txt").write_bytes("\ufeffh3\r\n".encode())
    for number in range(1, 5):
        save(make(worker=f"w{number}", hit=f"h{number}"))
    run = compiler(worker_block_list=f"@{tmp_path}/workers.txt", hit_block_list=f'"@{tmp_path}/hits, old.txt"')
    assert list(run.compile_results()["worker_id"].unique()) == ["w4"]


def test_a_results_folder_may_have_a_comma(make: Callable[..., Any], save: Save, compiler: Callable[..., Any]) -> None:
    one = save(make(worker="w1"), results="chats, old")
    two = save(make(worker="w2"), results="chats")
    frame = compiler(results_folders=f'"{one}",{two}').compile_results()
    assert sorted(frame["worker_id"].unique()) == ["w1", "w2"]


# --- files ---


def test_incomplete_files_are_left_out_unread_and_count_when_asked_for(
    save: Save, compiler: Callable[..., Any]
) -> None:
    save(year_2023("w1"), run_type="live_incomplete")
    save("{ half", run_type="incomplete")
    run = compiler(problem_buckets=BUCKETS)
    assert len(run.compile_results()) == 0
    assert run.summary.data.corpus.excluded_by_reason == {"incomplete": 2}
    asked = compiler(problem_buckets=BUCKETS, include_incomplete=True)
    assert list(asked.compile_results()["worker_id"].unique()) == ["w1"]
    assert asked.summary.data.corpus.excluded_by_reason == {"malformed": 1}


def test_image_chats_of_the_original_are_compiled(save: Save, compiler: Callable[..., Any]) -> None:
    save(image_chat())
    without = image_chat("w2", image_idx=None)
    without["dialog"] = copy.deepcopy(without["dialog"])
    del without["dialog"][0]["text"]
    save(without)
    frame = compiler(problem_buckets=BUCKETS).compile_results()
    first, second = (frame[frame["conversation_idx"] == number] for number in (0, 1))
    assert first["turn_idx"].to_list() == second["turn_idx"].to_list() == [-1, 0, 1, 2, 3]
    assert first["text"].iloc[0] == "Curious\nimage: 3"
    assert second["text"].iloc[0] == "image: test_17"
