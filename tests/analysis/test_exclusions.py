"""Every conversation that is left out is counted, named and listed; nothing stops the run."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.records.schema import FORGOTTEN_SHA256


def reasons(files: dict[str, Path]) -> list[tuple[str, str]]:
    with files["excluded"].open(encoding="utf-8", newline="") as file:
        return [(row["reason"], row["detail"]) for row in csv.DictReader(file)]


def test_each_rule_leaves_out_and_names_its_conversation(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="good"))
    save(make(worker="old"), day="2026_10_31")
    save("{ this is no json")
    save("")
    save([1, 2])
    save(make(worker="cut", status="incomplete", reason="disconnected"))
    save(make(worker="w2", hit="blocked"))
    save(make(worker="enemy"))
    save(make(worker="terse", said=["too short"]))
    files = compiler(
        start_date="2026_11_01", hit_block_list="blocked", worker_block_list="enemy"
    ).compile_and_save_results()
    found = Counter(reason for reason, _ in reasons(files))
    assert found == {
        "before_start_date": 1,
        "malformed": 3,
        "incomplete": 1,
        "blocked_hit": 1,
        "blocked_worker": 1,
        "too_short": 1,
    }
    details = dict(reasons(files))
    assert details["incomplete"] == "disconnected"
    assert details["too_short"] == "2.00 words a message"


def test_what_is_left_of_an_annotation_of_a_deleted_conversation_counts_nowhere(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="good"))
    emptied = make(worker="annotator", judged_conversation={"id": "forgotten", "sha256": FORGOTTEN_SHA256}, said=[""])
    save({**emptied, "dialog": [{**line, "text": ""} for line in emptied["dialog"]]})
    made = compiler(include_incomplete=True)
    assert [reason for reason, _ in reasons(made.compile_and_save_results())] == ["forgotten"]
    assert list(made.compile_results()["worker_id"].unique()) == ["good"]


def test_the_worker_limit_counts_the_first_ones(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for i in range(3):
        save(make(worker="busy", hit=f"h{i}"))
    frame = compiler(max_convos_per_worker=2).compile_results()
    assert list(frame["hit_id"].unique()) == ["h0", "h1"]
    assert len(compiler(max_convos_per_worker=-1).compile_results()["hit_id"].unique()) == 3


def test_conversations_left_out_do_not_use_up_the_limit(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="busy", hit="short", said=["no"]))
    save(make(worker="busy", hit="long"))
    assert list(compiler(max_convos_per_worker=1).compile_results()["hit_id"].unique()) == ["long"]


def test_the_mean_length_decides_not_one_message(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(labels=[[], []], said=["one", "one two three four five six seven"]))  # mean exactly 4
    assert len(compiler().compile_results()) == 5
    assert len(compiler(min_word_count=4.5).compile_results()) == 0


def test_a_conversation_saved_twice_counts_once(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make())
    save(make())
    save(make(worker="w2"))
    files = compiler().compile_and_save_results()
    assert [reason for reason, _ in reasons(files)] == ["duplicate"]
    assert compiler(keep_duplicates=True).compile_results()["conversation_idx"].nunique() == 3


def test_incomplete_ones_count_when_asked_for(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(status="incomplete", reason="model_failed", rating=None))
    assert len(compiler().compile_results()) == 0
    assert len(compiler(include_incomplete=True).compile_results()) == 3


def test_uniform_labels_are_filtered_only_when_asked_for(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="w1", labels=[["rude"], ["rude"]]))
    save(make(worker="w2", labels=[["rude"], []]))
    save(make(worker="w3", labels=[["rude"]]))  # one message is too few to judge uniformity
    assert compiler().compile_results()["worker_id"].nunique() == 3
    kept = compiler(filter_uniform_hits=True).compile_results()["worker_id"].unique()
    assert list(kept) == ["w2", "w3"]


def test_fast_ones_are_filtered_by_their_median_time(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for worker, seconds in (("fast", 0.4), ("slow", 9.0)):
        conversation = make(worker=worker)
        conversation["dialog"][0]["timing"] = {"shown": 100.0, "first_key": 100.1, "sent": 100.0 + seconds}
        save(conversation)
    save(make(worker="unknown"))  # no timing is no fault
    kept = compiler(min_seconds_per_message=1).compile_results()["worker_id"].unique()
    assert list(kept) == ["slow", "unknown"]


def test_run_type_and_violations_are_filtered_when_asked_for(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    save(make(worker="w1"))
    save(make(worker="w2"), run_type="sandbox")
    save(make(worker="w3", acceptability_violations=["too_much_all_caps"]))
    assert compiler().compile_results()["worker_id"].nunique() == 3
    assert list(compiler(run_type="sandbox").compile_results()["worker_id"].unique()) == ["w2"]
    assert list(compiler(exclude_violations=True).compile_results()["worker_id"].unique()) == ["w1", "w2"]


def test_an_empty_corpus_still_gives_every_file(save: Callable[..., Path], compiler: Callable[..., Any]) -> None:
    save("broken")
    files = compiler(report=True).compile_and_save_results()
    for name, path in files.items():
        assert path.exists(), name
    assert files["results"].read_text().startswith("folder,worker_id,hit_id,model_nickname,")


def test_the_output_folder_may_lie_among_the_results(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], tmp_path: Path
) -> None:
    save(make())
    flags = {"output_folder": str(tmp_path / "results" / "2026_11_21"), "results_format": "json"}
    compiler(**flags).compile_and_save_results()
    run = compiler(**flags)
    run.compile_and_save_results()
    assert run.summary.data.corpus.sources == 1


def test_a_database_name_that_does_not_exist_is_one_sentence(compiler: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--database-path is .* no database"):
        compiler(results_folders=None, task_name="t", database_path=str(tmp_path / "no.db")).compile_results()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"problem_buckets": "rude,odd"}, "has to hold none_all_good"),
        ({"problem_buckets": "rude,rude,none_all_good"}, "more than once"),
        ({"problem_buckets": "text,none_all_good"}, "name of a column"),
        ({"start_date": "yesterday"}, "--start-date is 'yesterday'"),
        ({"max_convos_per_worker": 0}, "--max-convos-per-worker is 0"),
        ({"results_folders": None}, "Nothing to read"),
        ({"mephisto_statuses": "finished"}, "names 'finished'"),
        ({"worker_block_list": "@/does/not/exist"}, "--worker-block-list: the file '/does/not/exist' does not exist"),
        ({"hit_block_list": '"h1'}, "--hit-block-list: the quotation marks of \"h1 don't match"),
        ({"problem_buckets": '"rude, odd,none_all_good'}, "--problem-buckets: the quotation marks of"),
        ({"results_folders": " , "}, "Nothing to read"),
        ({"mephisto_statuses": ""}, "--mephisto-statuses is empty"),
        ({"confidence": 1.5}, "--confidence is 1.5"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_read(
    compiler: Callable[..., Any], flags: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        compiler(**flags)


def test_all_faults_are_told_at_once(compiler: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compiler(start_date="x", confidence=2, seed=-1)
    assert len(caught.value.faults) == 3


def test_block_lists_can_be_files(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "block.txt").write_text("w1\n\nw2\n")
    for worker in ("w1", "w2", "w3"):
        save(make(worker=worker))
    frame = compiler(worker_block_list=f"@{tmp_path / 'block.txt'}").compile_results()
    assert list(frame["worker_id"].unique()) == ["w3"]
