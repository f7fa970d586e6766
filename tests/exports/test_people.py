"""Pseudonyms, consent, and that nothing of a forgotten worker is in a later export."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from model_chat.exports.identities import Identities, read_salt
from model_chat.exports.settings import FORMATS
from model_chat.launch.recovery import use_chat_data
from model_chat.records.forget import forget_worker
from model_chat.records.writing import save_conversation
from model_chat.scripts import export
from model_chat.tests.exports.conftest import CONSENT, WORKER, Place, comparison
from model_chat.tests.launch.test_recovery import begin, finished
from model_chat.tests.mephisto_run import Run

OTHER = "5f6e7d8c9b0a1f2e3d4c5b6a"
LABELS = {"trl-unpaired": ["--min-rating", "1"]}
SALT = bytes(range(32))


@pytest.mark.parametrize("format_name", FORMATS)
def test_no_byte_names_a_worker(place: Place, format_name: str) -> None:
    place.add(
        worker=WORKER,
        hit="HIT-OF-THIS",
        said=[f"I am {WORKER}, and my friend is {OTHER}."],
        bad_workers=[WORKER],
        participation={"participant": "PARTICIPANT99", "session": WORKER},
        additional_context=f"As {WORKER} said.",
        task_name=f"study of PARTICIPANT99 and {WORKER}",
        comparisons=[comparison(reason=f"{WORKER}: better", right=f"No, {WORKER}!")],
    )
    place.add(worker=OTHER, hit="HIT-OF-OTHER", status="incomplete")
    assert place.run(format_name, "--deidentify", *LABELS.get(format_name, [])) == 0
    if format_name == "hf-dataset":
        assert place.run("openai", "--deidentify") == 0  # the same rows as text; parquet's are compressed
    for name, content in place.content().items():
        for secret in (WORKER, OTHER, "PARTICIPANT99", "HIT-OF", "as-HIT"):
            assert secret.encode() not in content, name
    assert read_salt(place.folder / "configuration" / "model-chat" / "export_salt").hex().encode() not in b"".join(
        place.content().values()
    )


def test_a_worker_has_one_pseudonym_in_an_export_and_another_with_another_salt(place: Place) -> None:
    for number, worker in enumerate((WORKER, OTHER, WORKER)):
        place.add(worker=worker, hit=f"h{number}")
    first, second, third = [row["metadata"]["worker"] for row in place.rows("openai", "--deidentify")]
    assert first == third != second
    assert re.fullmatch(r"anon-[0-9a-f]{16}", first)
    ids = {row["metadata"]["id"] for row in place.rows("openai", "--overwrite")}
    salted = place.rows("openai", "--overwrite", "--deidentify", "--salt-file", str(place.folder / "other.salt"))
    assert salted[0]["metadata"]["worker"] != first
    assert not ids & {row["metadata"]["id"] for row in salted}  # else the hash of a known conversation would tell it


def test_a_word_that_is_a_workers_name_stays_in_texts_and_goes_from_metadata() -> None:
    identities = Identities(SALT, ["dialog", "Zoë Müller 1984", "w1", WORKER])
    said = f"A dialog with w1 and {WORKER}x, by Zoë Müller 1984."
    assert identities.in_texts(said) == said.replace("Zoë Müller 1984", identities.pseudonym("Zoë Müller 1984"))
    assert identities.replaced_in_texts == 1
    assert identities.in_metadata(["by w1", {"dialog": "dialog"}, 3, None]) == [
        f"by {identities.pseudonym('w1')}",
        {"dialog": identities.pseudonym("dialog")},
        3,
        None,
    ]


def test_ids_that_are_the_same_worker_have_the_same_pseudonym() -> None:
    identities = Identities(SALT, [])
    assert identities.pseudonym("A1B2") == identities.pseudonym(" A1\u200bB2 ") == identities.pseudonym("A1B2_sandbox")
    assert identities.pseudonym("A1B2") != identities.pseudonym("A1B3")


def test_the_salt_is_the_owners_alone_and_what_is_no_salt_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add()
    assert place.run("openai", "--deidentify") == 0
    salt = place.folder / "configuration" / "model-chat" / "export_salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    for content in ("", "abcd", "no digits", "ü"):
        salt.write_text(content, encoding="utf-8")
        assert place.run("openai", "--deidentify", "--overwrite") == 2
        assert f"--salt-file is '{salt}', which holds no salt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "flags", "counts"),
    [
        ([CONSENT], [], True),
        ([CONSENT, {**CONSENT, "page": "share", "value": "decline"}], [], False),
        ([CONSENT, {**CONSENT, "page": "share", "value": "decline"}], ["--consent-pages", "consent"], True),
        ([CONSENT], ["--consent-pages", "consent,share"], False),
        ([{**CONSENT, "value": "decline"}, CONSENT], [], True),
        ([CONSENT, {**CONSENT, "value": "decline"}], [], False),
        ([{**CONSENT, "item": "age", "value": "accept"}], [], False),
        ([], [], False),
        (None, [], False),
        ("accept", [], False),
        (["accept"], [], False),
    ],
)
def test_consent_is_every_answered_page_accepted_and_at_least_one(
    place: Place, answers: Any, flags: list[str], counts: bool
) -> None:
    place.add(answers=answers)
    assert len(place.rows("openai", "--only-consented", *flags)) == counts
    left_out = place.manifest("openai")["left_out_conversations"]
    assert left_out == ({} if counts else {"no_consent": 1})


def test_a_duplicate_without_consent_is_one_conversation(place: Place) -> None:
    place.add()
    place.add()
    place.rows("openai", "--only-consented")
    assert place.manifest("openai")["left_out_conversations"] == {"duplicate": 1, "no_consent": 1}


def in_both_records(run: Run, chats: Path, said: str) -> Any:
    """A finished conversation of a new worker, in both records."""
    agent = begin(run, said)
    judged = comparison(turn_idx=1, left="I see.", reason=said)
    record: Any = {**finished(agent), "bad_workers": [], "comparisons": [judged]}
    record["dialog"][-1]["final_rating"] = "4"
    with use_chat_data(chats):
        save_conversation(chats, record, live=False)
    agent.state.record_world_data({"custom_data": record})
    agent.state.finish()
    run.db.update_agent(agent.db_id, status="completed")
    return agent


def both(run: Run, chats: Path, output: Path, format_name: str, *flags: str) -> int:
    """Export from both records."""
    sources = ["--results-folders", str(chats), "--task-name", "study_local", "--database-path", run.db.db_path]
    return export.main([*sources, "--output", str(output), "--format", format_name, *flags])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "mephisto").mkdir()
    return Run(tmp_path / "mephisto")


def test_a_conversation_in_both_records_is_one_and_one_that_a_reviewer_rejected_is_none(run: Run, place: Place) -> None:
    for number in range(2):
        agent = in_both_records(run, place.results, f"Message number {number}.")
    run.db.update_agent(agent.db_id, status="rejected")
    assert both(run, place.results, place.output, "openai") == 0
    manifest = place.manifest("openai")
    assert manifest["conversations"] == 1
    assert manifest["left_out_conversations"] == {"duplicate": 1, "mephisto_status": 2}


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("delete", [False, True])
def test_forgetting_leaves_no_trace_in_a_later_export(run: Run, place: Place, format_name: str, delete: bool) -> None:
    in_both_records(run, place.results, "I keep seventeen hedgehogs.")
    in_both_records(run, place.results, "I like tea.")
    flags = ["--deidentify", "--overwrite", *LABELS.get(format_name, [])]
    assert both(run, place.results, place.output, format_name, *flags) == 0
    before = _text_of(place, format_name)
    pseudonym = Identities(read_salt(place.folder / "configuration/model-chat/export_salt"), []).pseudonym("worker-1")
    assert "hedgehogs" in before
    assert (pseudonym in before) == (not format_name.startswith("trl-"))  # which hold no metadata
    forget_worker("worker-1", Path(run.db.db_path), [place.results], delete=delete)
    assert both(run, place.results, place.output, format_name, *flags) == 0
    after = _text_of(place, format_name)
    assert pseudonym not in after  # the salt is the same, and still the worker can't be linked to the earlier export
    assert "worker-1" not in after
    assert ("hedgehogs" in after) == (not delete)
    assert place.manifest(format_name)["conversations"] == (1 if delete else 2)
    assert list(place.output.rglob(".*")) == []


def test_when_everybody_is_forgotten_the_earlier_file_does_not_stay(
    run: Run, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    in_both_records(run, place.results, "I keep seventeen hedgehogs.")
    assert both(run, place.results, place.output, "openai") == 0
    forget_worker("worker-1", Path(run.db.db_path), [place.results], delete=True)
    assert both(run, place.results, place.output, "openai", "--overwrite") == 0
    assert (place.output / "openai.jsonl").read_bytes() == b""
    assert "Nothing was exported" in capsys.readouterr().err


def _text_of(place: Place, format_name: str) -> str:
    """All that an export says, parquet uncompressed."""
    import pyarrow.parquet as pq

    text = b"".join(place.content().values()).decode("utf-8", "replace")
    if format_name == "hf-dataset":
        text += json.dumps(pq.read_table(place.output / "data" / "train-00000-of-00001.parquet").to_pylist())
    return text
