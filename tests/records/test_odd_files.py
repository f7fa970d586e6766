"""One odd file never ends a start, an analysis or a list of workers: it is named and left out, the others count."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.analysis.compiler import ModelChatResultsCompiler
from model_chat.crowd.workers import Task
from model_chat.errors import ConfigurationError
from model_chat.launch.image_task_run import _saved_places
from model_chat.records import collected, reading
from model_chat.records.collected import find_saved
from model_chat.records.reading import (
    Origin,
    ReadConversation,
    ReadingReason,
    Source,
    UnreadableError,
    list_files,
    read_conversation,
)

TASK = "study_local"
DIGITS = "9" * 400
TOO_MANY_DIGITS = "9" * 5_000
"""More than Python turns into a number."""


def saved(**more: Any) -> dict[str, Any]:
    return {
        "dialog": [
            {"agent_idx": 0, "id": "Speaker 1", "text": "these are five plain words", "timestamp": 1.0},
            {"agent_idx": 1, "id": "Speaker 2", "text": "Yes.", "final_rating": "4", "timestamp": 2.0},
        ],
        "workers": ["w1"],
        "hit_ids": ["h1"],
        "assignment_ids": ["as1"],
        "task_description": {"model_nickname": "a"},
        "status": "complete",
        "task_name": TASK,
        **more,
    }


def with_reply(**more: Any) -> str:
    chat = saved()
    chat["dialog"][1].update(more)
    return json.dumps(chat)


def nested(levels: int) -> Any:
    content: Any = "deep"
    for _ in range(levels):
        content = [content]
    return content


READ_ALL_THE_SAME = {
    "an integer of 65 bits in the options": json.dumps(saved(task_description={"model_nickname": "a", "n": 2**65})),
    "an integer of 400 digits in an utterance": with_reply(more="@").replace('"@"', DIGITS),
    "an integer of 400 digits in the options": json.dumps(
        saved(task_description={"model_nickname": "a", "n": int(DIGITS)})
    ),
    "NaN and infinities": with_reply(more=[math.nan, math.inf, -math.inf]),
    "half an emoji": with_reply(text="half a face: \ud83d"),
    "half an emoji in a key": with_reply(more={"\ud83d": 1}),
    "a text of two million characters": with_reply(text="x" * 2_000_000),
    "300 levels, more than orjson writes": with_reply(more=nested(300)),
}
LEFT_OUT = {
    "a rating of 400 digits": with_reply(final_rating="@").replace('"@"', DIGITS),
    "a rating of 400 digits as text": with_reply(final_rating=DIGITS),
    "a rating of 400 digits among several": with_reply(final_rating=["4", "@"]).replace('"@"', DIGITS),
    "a rating of 5,000 digits": with_reply(final_rating="@").replace('"@"', TOO_MANY_DIGITS),
    "a rating that is infinite": with_reply(final_rating=math.inf, problem_data={"final_rating": math.inf}) + "x",
    "a time of 400 digits": with_reply(timestamp="@").replace('"@"', DIGITS),
    "a time that is no number": with_reply(timestamp="nan"),
    "a time of the page that is infinite": with_reply(timing={"shown": "inf"}),
    "an image of 65 bits": json.dumps(saved(image_idx=2**65)),
    "an image of 400 digits": json.dumps(saved(image_idx=int(DIGITS))),
    "an image below 0": json.dumps(saved(image_idx=-1)),
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "a dialogue of numbers": json.dumps(saved(dialog=[1, 2])),
    "a text that is a number": with_reply(text=3),
    "a number": DIGITS,
    "bytes that are no text": "\0\0\0",
}


def place(folder: Path, name: str) -> Path:
    day = folder / "2026_11_20"
    day.mkdir(parents=True, exist_ok=True)
    return day / f"20261120_{name}_x_live.json"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A folder with one good conversation."""
    folder = tmp_path / "chats"
    place(folder, "100000").write_text(json.dumps(saved(workers=["good"], assignment_ids=["good"])))
    return folder


def left_out(chats: Path, out: Path) -> tuple[int, list[str]]:
    """Compile a folder: how many conversations count, and the reasons of the others."""
    compiler = ModelChatResultsCompiler(
        {
            "results_folders": str(chats),
            "output_folder": str(out),
            "problem_buckets": "none",
            "min_word_count": 0,
            "bootstrap": 100,
            "permutations": 99,
        }
    )
    compiler.compile_and_save_results()
    assert compiler.summary is not None
    corpus = compiler.summary.data.corpus
    return corpus.conversations.num_rows, [entry.reason.value for entry in corpus.excluded]


@pytest.mark.parametrize("what", LEFT_OUT)
def test_an_odd_file_is_named_and_left_out_of_a_start(chats: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    odd = place(chats, "110000")
    odd.write_text(LEFT_OUT[what])
    with caplog.at_level(logging.WARNING):
        kept = find_saved(chats, None, TASK)
    assert kept.complete() == {"a": 1} and kept.unnamed == 0
    assert [record.args[0] for record in caplog.records if record.args] == [str(odd)]
    assert _saved_places(list_files([chats]).sources, TASK) == set()


def test_odd_files_are_named_and_left_out_of_an_analysis(chats: Path, tmp_path: Path) -> None:
    for number, text in enumerate(LEFT_OUT.values()):
        place(chats, f"11{number:04d}").write_text(text)
    counted, reasons = left_out(chats, tmp_path / "out")
    assert counted == 1
    assert reasons == ["malformed"] * len(LEFT_OUT)


def test_what_is_odd_but_whole_counts_in_a_start_and_in_an_analysis(chats: Path, tmp_path: Path) -> None:
    for number, text in enumerate(READ_ALL_THE_SAME.values()):
        chat = json.loads(text)
        chat["assignment_ids"] = [f"as{number}"]
        place(chats, f"12{number:04d}").write_text(json.dumps(chat))
    assert find_saved(chats, None, TASK).complete() == {"a": 1 + len(READ_ALL_THE_SAME)}
    counted, reasons = left_out(chats, tmp_path / "out")
    assert (counted, reasons) == (1 + len(READ_ALL_THE_SAME), [])


def test_a_conversation_too_deep_to_be_told_from_others_is_left_out_of_a_start(
    chats: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_deep(raw: dict[str, Any]) -> str:
        if raw["workers"] == ["w1"]:
            raise RecursionError
        return "digest"

    monkeypatch.setattr(collected, "conversation_digest", too_deep)
    place(chats, "110000").write_text(json.dumps(saved()))
    assert find_saved(chats, None, TASK).complete() == {"a": 1}
    assert "nested too deeply" in caplog.text


def test_agents_without_a_conversation_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Source(str(tmp_path / "none.json"), origin=Origin.DATABASE, record_id="7")
    with caplog.at_level(logging.DEBUG):
        assert collected._read(source) is None
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG


def test_a_file_larger_than_any_conversation_is_left_out(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(saved())
    path = place(chats, "110000")
    path.write_text(text)
    source = Source(str(path))
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", len(text))
    assert read_conversation(source).worker_id == "w1"
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", len(text) - 1)
    with pytest.raises(UnreadableError, match="larger than"):
        read_conversation(source)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"image_idx": -1}, "`image_idx`: Input should be greater than or equal to 0"),
        ({"image_idx": -1, "context_dataset": 3}, "`context_dataset`: Input should be a valid string (and 1 more)"),
    ],
)
def test_the_first_fault_is_said_and_how_many_more_there_are(change: dict[str, Any], detail: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        reading.parse_conversation(saved(**change))
    assert caught.value.detail == detail


@pytest.fixture
def named_pipe(chats: Path) -> Iterator[Path]:
    path = place(chats, "110000")
    os.mkfifo(path)
    yield path


def test_pipes_and_sockets_are_no_conversations_and_are_never_opened(chats: Path, named_pipe: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(named_pipe.parent)  # a socket's path must be short
    try:
        listener.bind("s.json")
        Path("link.json").symlink_to(named_pipe.name)
        Path("folder.json").mkdir()
    finally:
        os.chdir(before)
        listener.close()
    listing = list_files([chats])
    assert len(listing.sources) == 1
    assert {Path(path).name for path in listing.other_files} == {named_pipe.name, "s.json", "link.json"}


def test_a_link_is_read_and_a_link_to_nothing_is_named(chats: Path) -> None:
    real = chats / "real"
    real.write_text(json.dumps(saved()))
    place(chats, "110000").symlink_to(real)
    place(chats, "120000").symlink_to(chats / "nothing")
    place(chats, "130000").symlink_to(place(chats, "130000"))  # to itself
    (chats / "2026_11_21").symlink_to(chats / "2026_11_21")
    first, second, third, fourth = list_files([chats]).sources
    assert read_conversation(first).worker_id == "good" and read_conversation(second).worker_id == "w1"
    for source in (third, fourth):
        with pytest.raises(UnreadableError) as caught:
            read_conversation(source)
        assert caught.value.reason is ReadingReason.UNREADABLE


def test_a_name_that_is_not_utf_8_is_read_and_shown(chats: Path, tmp_path: Path) -> None:
    day = os.fsencode(place(chats, "110000").parent)
    for name, text in ((b"20261120_110000_\xff_live.json", json.dumps(saved())), (b"20261120_12\xff.json", "{")):
        Path(os.fsdecode(day + b"/" + name)).write_text(text)
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe"))
    chats.rename(named)
    counted, reasons = left_out(named, tmp_path / "out")
    assert (counted, reasons) == (2, ["malformed"])
    assert find_saved(named, None, TASK).complete() == {"a": 2}
    assert all("\udcff" not in source.name and "\ufffd" in source.name for source in list_files([named]).sources)


def test_a_folder_that_cannot_be_read_is_one_sentence(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir
    locked = str(chats / "2026_11_20")

    def scandir(path: Any) -> Any:
        if str(path) == locked:
            raise PermissionError(13, "Permission denied", locked)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ConfigurationError, match=f"can't be read .Permission denied: '{locked}'"):
        list_files([chats])


@pytest.mark.parametrize(
    ("checks", "failed"),
    [(None, 0), (3, 0), ("no", 0), ({"passed": False}, 0), ([1, None, "x"], 0), ([{"passed": False}, {}, 7], 1)],
)
def test_attention_checks_of_any_type_are_counted_or_passed_over(checks: Any, failed: int) -> None:
    from model_chat.crowd.workers import WorkerSummary, count_conversation

    row = WorkerSummary("w")
    count_conversation(row, reading.parse_conversation(saved(attention_checks=checks)))
    assert row.attention_failed == failed and row.complete == 1


@pytest.mark.parametrize(
    ("times", "seconds"), [((1.0, 61.0), 60.0), ((-1.7e308, 1.7e308), 0.0), ((0, 5.0), 0.0), ((None, None), 0.0)]
)
def test_the_length_of_a_conversation_is_a_number_whatever_its_times(
    times: tuple[Any, Any], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = saved()
    for line, moment in zip(chat["dialog"], times, strict=True):
        line["timestamp"] = moment
    task: Any = object.__new__(Task)
    monkeypatch.setattr(Task, "conversation", lambda self, agent_id: reading.parse_conversation(chat))
    assert Task.seconds(task, "1") == seconds


LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from(
        [int(DIGITS), -int(DIGITS), math.nan, math.inf, 1e308, "\ud800", "nan", "Infinity", "1e999", DIGITS]
    )
    | st.floats()
    | st.text(max_size=6)
)
ANY = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
RECORD_KEYS = (*saved(), "personas", "image_idx", "reason", "bad_workers", "additional_context")
UTTERANCE_KEYS = (
    "agent_idx", "text", "id", "problem_data", "final_rating", "timing", "timestamp", "fake_start", "message_id",
    "problem_data_for_prior_message",
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from([*saved(), "personas", "image_idx", "reason", "bad_workers", "additional_context"]), ANY
    ),
    st.dictionaries(st.sampled_from(UTTERANCE_KEYS), ANY, max_size=3),
)
def test_whatever_stands_anywhere_is_read_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, change: dict[str, Any], in_reply: dict[str, Any]
) -> None:
    chat = saved()
    chat["dialog"][1] |= in_reply
    folder = tmp_path_factory.getbasetemp() / "anything"
    path = place(folder, "100000")
    path.write_text(json.dumps({**chat, **change}))
    read: ReadConversation | None
    try:
        read = read_conversation(Source(str(path)))
    except UnreadableError as error:
        assert error.detail
        read = None
    counts = read is not None and read.raw.get("task_name") == TASK
    assert sum(1 for _ in find_saved(folder, None, TASK)) == counts


@pytest.fixture
def builder(tmp_path: Path) -> Callable[[Source], Any]:
    from model_chat.analysis.rows import RowBuilder

    settings = {"results_folders": "x", "output_folder": str(tmp_path), "problem_buckets": "none"}
    compiler = ModelChatResultsCompiler(settings)
    made = RowBuilder(compiler.settings, compiler)
    return lambda source: (made([source]), made.digest(source))


def test_content_that_breaks_the_measuring_is_no_digest_and_an_exclusion(
    chats: Path, builder: Callable[[Source], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_chat.analysis import rows

    def broken(*given: Any) -> Any:
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(rows, "measure", broken)
    chunk, digest = builder(list_files([chats]).sources[0])
    assert digest is None
    assert [entry.detail for entry in chunk.excluded] == [
        "reading failed with OverflowError: int too large to convert to float"
    ]
