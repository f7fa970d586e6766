"""Whatever a worker sends or a file holds, what reads it answers in one of the ways that it promises.

MODEL_CHAT_FUZZ_EXAMPLES=200000 looks for longer (and for new examples).
"""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from model_chat.configuration.onboarding import OnboardingConfig
from model_chat.conversation.incoming import Accepted, Expected, RefusedError, check_packet
from model_chat.launch.logs import set_up_logging
from model_chat.launch.recovery import dialog_of
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.quality.onboarding import read_answers
from model_chat.records.collected import find_saved
from model_chat.records.journal import read_journal
from model_chat.records.reading import ReadConversation, UnreadableError, parse_conversation
from model_chat.tests.mephisto_run import Run
from model_chat.tests.scripted_human import BUCKETS, message

EXAMPLES = int(os.environ.get("MODEL_CHAT_FUZZ_EXAMPLES", "0"))
FUZZ = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYS = (
    *(
        "dialog",
        "workers",
        "task_description",
        "model_nickname",
        "personas",
        "status",
        "text",
        "id",
        "agent_idx",
        "task_name",
    ),
    *(
        "problem_data",
        "final_rating",
        "task_data",
        "message_id",
        "turn_idx",
        "problem_data_for_prior_message",
        "timing",
    ),
    *("shown", "sent", "first_key", "bucket_0", "none_all_good", "message", "record_head", "update_id", "control"),
    *(
        "onboarding_answers",
        "utterance_idx",
        "annotated_utterance_idx",
        "outputs",
        "messages",
        "WORLD_DATA",
        "custom_data",
    ),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(), max_size=20)
    | st.sampled_from(
        ["\ud800", "\x00", "\x1b[2J", "=cmd()", "<script>alert(1)</script>", "complete", "Speaker 1", *KEYS]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
_OPTIONAL = ("problem_data", "final_rating", "fake_start", "message_id", "timestamp", "timing")
UTTERANCES = st.lists(
    st.fixed_dictionaries(
        {"agent_idx": st.integers(-1, 2) | ANYTHING, "text": ANYTHING, "id": ANYTHING},
        optional=dict.fromkeys(_OPTIONAL, ANYTHING),
    ),
    max_size=4,
)
JSON_LINES = st.lists(ANYTHING, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode())


@FUZZ
@given(ANYTHING | st.fixed_dictionaries({"text": ANYTHING, "task_data": ANYTHING}), st.sampled_from([0, 2]))
def test_a_packet_is_taken_refused_or_a_repeat(packet: Any, ratings: int) -> None:
    try:
        accepted = check_packet(packet, Expected(BUCKETS, ratings, 50, turn_idx=0), frozenset({"taken"}))
    except RefusedError as refused:
        assert refused.reason
        return
    assert accepted is None or isinstance(accepted, Accepted)
    if accepted is not None:
        json.dumps([accepted.text, accepted.message_id]).encode("utf-8")


@FUZZ
@given(ANYTHING, ANYTHING, ANYTHING)
def test_a_packet_with_a_proper_frame_is_taken_or_refused(text: Any, ticks: Any, timing: Any) -> None:
    packet = message(text, ticks or None, timing=timing)
    try:
        accepted = check_packet(packet, Expected(BUCKETS, 0, 50), frozenset())
    except RefusedError:
        return
    assert accepted is not None
    assert 0 < len(accepted.text) <= 50


@FUZZ
@given(ANYTHING)
def test_answers_of_an_onboarding_are_read_or_refused(answers: Any) -> None:
    config = OnboardingConfig.model_validate(
        {
            "dialog": [[{"agent_idx": 0, "text": "Hi"}, {"agent_idx": 1, "text": "Ho", "answers": ["bucket_0"]}]],
            "min_correct": 1,
            "max_incorrect": 0,
            "max_failures_allowed": 1,
        }
    )
    try:
        read_answers({"task_data": {"message_id": "m", "onboarding_answers": answers}}, config, BUCKETS)
    except RefusedError as refused:
        assert refused.reason


@FUZZ
@given(ANYTHING | st.fixed_dictionaries({"dialog": UTTERANCES, "workers": ANYTHING, "task_description": ANYTHING}))
def test_a_conversation_is_read_or_called_malformed(loaded: Any) -> None:
    try:
        assert isinstance(parse_conversation(loaded), ReadConversation)
    except UnreadableError as fault:
        assert fault.detail


@FUZZ
@given(
    st.binary(max_size=200)
    | st.lists(ANYTHING, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode())
)
def test_a_journal_gives_what_is_whole_in_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    assert all(isinstance(entry, dict) for entry in read_journal(path))


@FUZZ
@given(
    st.lists(
        st.fixed_dictionaries({"message": ANYTHING}) | st.fixed_dictionaries({"record_head": ANYTHING}), max_size=4
    )
)
def test_a_state_comes_up_with_any_journal(mephisto_run: Run, entries: list[Any]) -> None:
    agent = _agent(mephisto_run)
    journal = Path(agent.state._get_expected_data_file()).parent / "journal.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("\n".join(map(json.dumps, entries)) + "\n", encoding="utf-8")
    try:
        state = ModelChatAgentState(agent)
        assert all(isinstance(message, dict) for message in state.messages)
        state.get_parsed_data()
        state.get_init_state()
    finally:
        journal.unlink()


_agents: list[Any] = []


def _agent(run: Run) -> Any:
    if not _agents:
        _agents.append(run.agent())
    return _agents[0]


@FUZZ
@given(st.text(max_size=30), st.sampled_from(["a", "\x1b]0;x\x07", "\u009b2J", "\r", "<b>"]))
def test_no_log_line_commands_a_terminal(text: str, hostile: str) -> None:
    handlers = logging.getLogger().handlers[:]
    levels = logging.getLogger().level
    file = io.StringIO()
    try:
        set_up_logging("warning", Console(file=file))
        logging.getLogger("model_chat.fuzz").warning("%s", text + hostile)
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(levels)
        logging.captureWarnings(False)
    assert not any(
        (ord(character) < 32 and character not in "\n\t") or 126 < ord(character) < 160 for character in file.getvalue()
    )


def test_a_folder_of_anything_is_counted(tmp_path: Path) -> None:
    day = tmp_path / "2026_01_01"
    day.mkdir()
    for number, data in enumerate((b"", b"{", b"null", b"[]", b'{"task_name": "t"}', b"\xff\xfe", b"[" * 100_000)):
        (day / f"20260101_00000{number}_x_live.json").write_bytes(data)
    assert list(find_saved(tmp_path, None, "t")) == []


@FUZZ
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": ANYTHING,
                "id": ANYTHING,
                "task_data": ANYTHING
                | st.fixed_dictionaries(
                    {"agent_idx": st.integers(0, 2)},
                    optional=dict.fromkeys(
                        ("annotated_utterance_idx", "utterance_idx", "problem_data", "message_id"), ANYTHING
                    ),
                ),
            },
            optional={"timestamp": ANYTHING, "fake_start": ANYTHING},
        ),
        max_size=4,
    )
)
def test_a_dialogue_is_put_together_from_whatever_a_damaged_journal_holds(messages: list[Any]) -> None:
    good = {"text": "Kept.", "id": "Speaker 1", "task_data": {"agent_idx": 0, "message_id": "m", "utterance_idx": 0}}
    dialog = dialog_of([good, *messages])
    assert dialog[0]["text"] == "Kept."
    json.dumps(dialog)


@pytest.mark.parametrize("control", ["annotated", "chat_done"])
@pytest.mark.parametrize("idx", [{}, [0], "0", None, 0.5])
def test_an_annotation_of_no_utterance_is_left_out(control: str, idx: Any) -> None:
    said = {"text": "Kept.", "id": "Speaker 2", "task_data": {"agent_idx": 1, "message_id": "m", "utterance_idx": 0}}
    data = {"control": control, "annotated_utterance_idx": idx, "problem_data": {"rude": True}}
    (line,) = dialog_of([said, {"task_data": data}])
    assert line.get("problem_data") is None


@pytest.mark.parametrize("data", [None, [], "x", {}, {"agent_idx": 0}, {"control": "start"}])
def test_updates_that_say_nothing_are_no_utterances(data: Any) -> None:
    if data == {"agent_idx": 0}:
        data = {**data, "attention_check": True}
    assert dialog_of([{"task_data": data, "text": "x", "id": "y"}]) == []
