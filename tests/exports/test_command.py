"""Flags: all faults at once, nothing replaced or left half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_chat.exports import export as exporting
from model_chat.records.locks import hold
from model_chat.tests.exports.conftest import Place, comparison


def faults_of(place: Place, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    """The sentences that a wrong command line gets; nothing is written."""
    before = place.content() if place.output.exists() else None
    assert place.run(*flags) == 2
    assert (place.content() if place.output.exists() else None) == before
    return [line.removeprefix("✗ ") for line in capsys.readouterr().err.splitlines()]


def test_all_faults_are_told_at_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.output.mkdir()
    (place.output / "openai.jsonl").write_text("mine")
    faults = faults_of(
        place,
        capsys,
        "openai",
        *("--start-date", "soon", "--mephisto-statuses", "done", "--task-name", "t", "--database-path", "/nowhere"),
        *("--min-rating", "9", "--max-rating", "0", "--rating-question", "0", "--good-buckets", "a,b"),
        *("--bad-buckets", "b", "--salt-file", "salt", "--consent-pages", "c", "--license", " ", "--pay-text", "a\nb"),
        *("--results-folders", "/not/there"),
    )
    for start in (
        "--start-date is 'soon'",
        "--mephisto-statuses names 'done'",
        "--results-folders names '/not/there'",
        "--database-path is '/nowhere'",
        "--output is '" + str(place.output) + "', where 'openai.jsonl' is there already",
        "--salt-file is 'salt' but --deidentify is not set",
        "--good-buckets, --bad-buckets, --min-rating, --max-rating: labels are for --format trl-unpaired",
        "--min-rating is 9",
        "--max-rating is 0",
        "--rating-question is 0",
        "--good-buckets and --bad-buckets both name b",
        "--consent-pages is 'c' but --only-consented is not set",
        "--license is ' '",
        "--pay-text is 'a\\nb'",
    ):
        assert [fault for fault in faults if fault.startswith(start)], start
    assert len(faults) == 14


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["trl-unpaired"], "--format trl-unpaired needs a rule for its labels"),
        (["trl-unpaired", "--min-rating", "3", "--max-rating", "3"], "--max-rating is 3 and --min-rating is 3"),
        (["trl-unpaired", "--good-buckets", " , "], "--good-buckets is empty"),
        (["trl-unpaired", "--bad-buckets", '"a'], "--bad-buckets: the quotation marks"),
        (["openai", "--results-folders", ""], "Nothing to read"),
        (["openai", "--min-word-count", "-1"], "--min-word-count is -1.0"),
    ],
)
def test_one_fault_is_one_sentence(
    place: Place, capsys: pytest.CaptureFixture[str], flags: list[str], fault: str
) -> None:
    (told,) = faults_of(place, capsys, *flags)
    assert told.startswith(fault)


@pytest.mark.parametrize("where", ["results", "results/2026_11_20"])
def test_an_export_is_not_written_where_it_would_be_read_as_a_conversation(
    place: Place, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    place.add()
    place.output = place.folder / where
    (told,) = faults_of(place, capsys, "openai")
    assert told.startswith(f"--output is '{place.output}', which holds the conversations")


def test_the_salt_may_not_lie_in_what_is_published(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    inside = place.output / "deeper" / "salt"
    (told,) = faults_of(place, capsys, "openai", "--deidentify", "--salt-file", str(inside))
    assert told.startswith(f"--salt-file is '{inside}', inside --output")


def test_an_earlier_export_is_replaced_only_on_request(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.add()
    place.rows("openai")
    place.add(worker="w2", hit="h2")
    faults = faults_of(place, capsys, "openai")
    assert [fault.split("'")[3] for fault in faults] == ["openai.jsonl", "manifest-openai.json"]
    assert len(place.rows("openai", "--overwrite")) == 2


def test_the_rules_of_the_analysis_leave_out_what_they_leave_out_there(place: Place) -> None:
    place.add(worker="w1", hit="h1")
    place.add(worker="w2", hit="h2")
    place.add(worker="w3", hit="h3", acceptability_violations=["shouting"])
    place.add(worker="w4", hit="h4", said=["no"])
    place.add(worker="w5", hit="h5")
    flags = ["--worker-block-list", "w1", "--hit-block-list", "h2", "--exclude-violations", "--min-word-count", "2"]
    assert [row["metadata"]["worker"] for row in place.rows("openai", *flags)] == ["w5"]
    assert place.manifest("openai")["left_out_conversations"] == {
        "acceptability_violation": 1,
        "blocked_hit": 1,
        "blocked_worker": 1,
        "too_short": 1,
    }
    assert place.rows("openai", "--overwrite", "--start-date", "2026-11-21") == []


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_nothing_behind_and_an_earlier_export_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(*arguments: Any) -> Any:
        raise error

    place.add(comparisons=[comparison()])
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "card", broken)
        if isinstance(error, OSError):
            assert place.run("hf-dataset") == 1
        else:
            with pytest.raises(KeyboardInterrupt):
                place.run("hf-dataset")
    assert not place.output.exists()
    assert place.run("hf-dataset") == 0
    before = place.content()
    place.add(worker="w2", hit="h2")
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "card", broken)
        if isinstance(error, OSError):
            assert place.run("hf-dataset", "--overwrite") == 1
        else:
            with pytest.raises(KeyboardInterrupt):
                place.run("hf-dataset", "--overwrite")
    assert place.content() == before


def test_a_file_that_appears_meanwhile_is_not_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add()
    real = exporting.card

    def late(*arguments: Any) -> str:
        (place.output / "openai.jsonl").write_text("of somebody else")
        return real(*arguments)

    monkeypatch.setattr(exporting, "card", late)
    assert place.run("openai") == 2
    assert place.content() == {"openai.jsonl": b"of somebody else"}


def test_without_its_manifest_an_export_is_not_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add()
    place.rows("openai")
    real = Path.replace

    def broken(self: Path, target: Any) -> Path:
        if Path(target).name == "DATA_CARD.md":
            raise OSError("full")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    assert place.run("openai", "--overwrite") == 1
    assert "manifest-openai.json" not in place.content()


def test_a_study_is_named_by_its_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from model_chat.launch import study
    from model_chat.scripts import export

    place.add()
    known = study.Study("mine", "mine_local", place.folder / "no.db", place.results, None, ())
    monkeypatch.setattr(study, "find_study", lambda conf: known)
    assert export.main(["--conf", "mine", "--output", str(place.output), "--format", "openai"]) == 0
    assert place.manifest("openai")["conversations"] == 1
    missing = study.Study("mine", "mine_local", place.folder / "no.db", place.folder / "none", None, ())
    monkeypatch.setattr(study, "find_study", lambda conf: missing)
    assert export.main(["--conf", "mine", "--output", str(place.output), "--format", "csv"]) == 2
    assert "--conf mine: nothing is collected yet" in capsys.readouterr().err


def test_a_faulty_file_of_a_study_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    from model_chat.scripts import export

    assert export.main(["--conf", "no_such_study", "--output", str(place.output), "--format", "openai"]) == 2
    assert "no_such_study" in capsys.readouterr().err


def test_what_a_killed_export_has_left_goes_with_the_next(place: Place) -> None:
    place.add()
    left = place.output / ".export-killed"
    left.mkdir(parents=True)
    (left / "openai.jsonl").write_text("texts of people")
    place.rows("openai")
    assert not left.exists()


def test_two_exports_do_not_write_to_one_folder_at_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.add()
    place.output.mkdir()
    with hold(place.output, alone=True):
        (told,) = faults_of(place, capsys, "openai")
    assert "where another export is being written" in told
    assert len(place.rows("openai")) == 1


def test_annotations_of_finished_conversations_are_left_out(place: Place) -> None:
    place.add()
    place.add(worker="annotator", judged_conversation={"id": "x", "sha256": "0" * 64})
    assert len(place.rows("openai")) == 1
    assert place.manifest("openai")["left_out_conversations"] == {"annotation": 1}
