"""The same as in test_fuzz.py for what the dashboard is sent, and for conversations that are to be annotated.

MODEL_CHAT_FUZZ_EXAMPLES=20000 looks for longer (and for new examples).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_chat.dashboard.listing import FACETS, SORTS
from model_chat.dashboard.settings import Role
from model_chat.dashboard.watch import Watched
from model_chat.errors import ConfigurationError
from model_chat.records.conversation_logs import read_logs
from model_chat.tests.dashboard.conftest import Client, serving
from model_chat.tests.dashboard.sample import MadeUpRun, SampleStudy
from model_chat.tests.test_fuzz import ANYTHING, EXAMPLES
from model_chat.tests.test_fuzz import FUZZ as LONGER

FUZZ = settings(LONGER, max_examples=EXAMPLES or 20)
STUDY = "api/studies/study_local"

SPEAKERS = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", "", "Alice", "Bob"]) | ANYTHING
TEXTS = st.sampled_from(["Hello", "", " ", "\ud800", "\x00", "a" * 300]) | st.text(max_size=8) | ANYTHING
PARTS = st.lists(st.fixed_dictionaries({}, optional={"type": st.just("text") | ANYTHING, "text": TEXTS}), max_size=3)
ACTS = st.fixed_dictionaries(
    {},
    optional={
        "role": SPEAKERS,
        "content": TEXTS | PARTS,
        "from": SPEAKERS,
        "value": TEXTS,
        "id": SPEAKERS,
        "text": TEXTS,
        "agent_idx": st.integers(-1, 2) | ANYTHING,
        "fake_start": st.booleans() | ANYTHING,
        "episode_done": st.booleans(),
        "problem_data": ANYTHING,
    },
)
DIALOGUES = st.lists(ACTS | ANYTHING, max_size=5) | st.lists(st.lists(ACTS, max_size=3), max_size=4) | ANYTHING
LOGS = st.dictionaries(st.sampled_from(["messages", "conversations", "dialog"]), DIALOGUES, max_size=2).flatmap(
    lambda dialogues: st.dictionaries(
        st.sampled_from(
            [
                "id",
                "conversation_id",
                "model",
                "model_nickname",
                "metadata",
                "metadata_path",
                "personas",
                "workers",
                "task_description",
                "additional_context",
                "status",
                "context",
                "problems",
            ]
        ),
        ANYTHING | st.sampled_from(["complete", ["w1"], {"model": "m"}, {"model_nickname": "m", "model_opt": {}}]),
        max_size=5,
    ).map(lambda others: {**others, **dialogues})
)
LINES = (LOGS | ANYTHING).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@FUZZ
@given(st.lists(LINES, min_size=1, max_size=4))
def test_a_line_of_a_log_is_a_conversation_to_judge_or_a_sentence(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "logs.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        read = read_logs("logs_path", path)
    except ConfigurationError as error:
        assert all(fault.endswith(".") for fault in error.faults)
        return
    assert read
    for one in read:
        assert one.dialog[-1].is_judged and one.replies >= 1
        json.dumps([one.id, one.model_nickname, one.context, one.model_opt]).encode()  # as an annotation keeps it


@pytest.fixture(scope="module")
def reviewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Who may do everything, at a study with two conversations and a run."""
    sample = SampleStudy(tmp_path_factory.mktemp("dashboard") / "study")
    sample.chat()
    sample.chat()
    with serving(Watched(sample.info(), MadeUpRun())) as served:
        yield served.client(Role.PAY)


PARAMS = ("offset", "limit", "sort", "q", "worker", "of", *FACETS)
VALUES = (
    st.text(max_size=12)
    | st.integers(-(10**12), 10**12).map(str)
    | st.sampled_from(
        [*SORTS, *(f"-{sort}" for sort in SORTS), "--", "0", "1", "٣", "1e3", "complete", "a1", "%", "\x00"]
    )
)
QUERIES = st.lists(st.tuples(st.sampled_from(PARAMS), VALUES), max_size=6).map(
    lambda pairs: "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs)
)


@FUZZ
@given(st.sampled_from(["conversations", "audit", "overview"]), QUERIES)
def test_a_list_is_shown_or_the_question_is_refused(reviewer: Client, what: str, query: str) -> None:
    answer = reviewer.http.get(f"{STUDY}/{what}?{query}")
    assert answer.status_code in (200, 422), answer.text
    assert answer.status_code == 200 or answer.json()["error"].endswith(".")


@FUZZ
@given(st.text(min_size=1, max_size=20))
def test_a_conversation_of_any_name_is_shown_or_not_there(reviewer: Client, name: str) -> None:
    answer = reviewer.http.get(f"{STUDY}/conversations/{quote(name, safe='', errors='surrogatepass')}")
    assert answer.status_code in (200, 404, 405), answer.text


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "act": st.sampled_from(["approve", "reject", "pay", "block", "unblock", "stop", "resume", "extend"]) | ANYTHING,
        "ids": st.lists(st.sampled_from(["a1", "a2", "nobody", ""]) | st.text(max_size=4), max_size=4) | ANYTHING,
        "versions": st.dictionaries(st.sampled_from(["a1", "a2"]), st.text(max_size=4), max_size=2) | ANYTHING,
        "reason": st.text(max_size=5) | ANYTHING,
        "amount": st.sampled_from(["1", "0", "-1", "1e9", "NaN", "0.001", "Infinity"]) | ANYTHING,
        "category": st.text(max_size=4) | ANYTHING,
        "more": st.integers() | ANYTHING,
    },
)


@FUZZ
@given(st.sampled_from(["acts", "run"]), BODIES | ANYTHING)
def test_an_act_is_done_or_refused_in_a_sentence(reviewer: Client, where: str, body: Any) -> None:
    data = json.dumps(body).encode()
    headers = {**reviewer.headers, "Content-Type": "application/json"}
    answer = reviewer.http.post(f"{STUDY}/{where}", content=data, headers=headers)
    assert answer.status_code in (200, 400, 409, 422), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"].endswith(".")
