"""The same as in test_fuzz.py for what studies, panels, endpoints and judges read.

MODEL_CHAT_FUZZ_EXAMPLES=20000 looks for longer (and for new examples).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from model_chat.agents._endpoint_client import _retry_after
from model_chat.agents._endpoint_reply import RequestFailedError, Usage, error_detail, read_stream, read_whole
from model_chat.agents._event_stream import EventTooLargeError
from model_chat.analysis.judgements import JudgementRows
from model_chat.analysis.plan import planned, read_plan
from model_chat.configuration.annotations import parse_annotations
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.study_design import parse_study_design
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.allocation import AllocationError, replay
from model_chat.conversation.incoming import check_judgement
from model_chat.conversation.study_flow import FlowOptions, StudyFlowRun
from model_chat.crowd.arrivals import Arrival, ArrivalRefusedError, read_address
from model_chat.crowd.json_web_tokens import TokenError, read_key, verify_token
from model_chat.crowd.prolific_api import _detail
from model_chat.crowd.prolific_models import BulkBonus, Study, SubmissionDetail, Submissions
from model_chat.errors import ConfigurationError, RefusedError
from model_chat.launch.recovered_answers import add_answers, answers_of, flow_of
from model_chat.launch.recovered_comparisons import comparisons_of, cost_of_unjudged
from model_chat.records.append_only_log import AppendOnlyLog
from model_chat.records.journal import read_journal
from model_chat.records.llm_judgments import REPLY, read_llm_judgments
from model_chat.records.reading import UnreadableError, parse_conversation
from model_chat.records.schema import Comparison
from model_chat.scripts._judge_money import JudgeLog
from model_chat.scripts._judge_prompt import Questions, WrongAnswerError, estimated_tokens, messages_for, read_answer
from model_chat.tests.crowd.test_panels import panel
from model_chat.tests.crowd.test_signed_links import encoded, signed_token
from model_chat.tests.designs import MIXED, design_of
from model_chat.tests.test_fuzz import ANYTHING, EXAMPLES
from model_chat.tests.test_fuzz import FUZZ as LONGER

FUZZ = settings(LONGER, max_examples=EXAMPLES or 20)
FLOW = """
pages:
  - {id: consent, kind: consent, text: Consent.}
  - id: about
    kind: questions
    shuffle: [items, options]
    items:
      - {id: age, kind: choice, question: Age, options: [young, old]}
      - {id: uses, kind: choice, question: Uses, options: [phone, laptop], many: true, other: true}
      - {id: years, kind: number, question: Years, min: 0, max: 80}
      - {id: trusts, kind: scale, question: Trusts, points: 11, not_applicable: true}
      - {id: like, kind: slider, question: Like}
      - {id: order, kind: ranking, question: Order, options: [tone, facts, speed]}
      - {id: ends, kind: best_worst, question: Ends, options: [tone, facts, speed]}
      - {id: agree, kind: matrix, question: Agree, rows: [kind, clever], points: 7}
      - {id: wish, kind: text, question: Wish, required: no}
  - id: chat
    kind: chat
    every_reply: [{id: wrong, kind: highlight, question: Wrong, required: no}]
    last_reply: [{id: better, kind: text, question: Better, required: no}]
  - {id: debrief, kind: text, text: Thank you.}
"""
WORDS = (
    *("pages", "id", "kind", "items", "question", "options", "show_if", "shuffle", "points", "min", "max", "many"),
    *("other", "required", "consent", "questions", "text", "chat", "every_reply", "last_reply", "choice", "scale"),
    *("matrix", "rows", "highlight", "number", "slider", "ranking", "best_worst", "factors", "model", "prompt"),
    *("num_turns", "between", "within", "order", "strata", "excluded", "conversations_per_cell", "seed", "measures"),
    *("workers", "difference", "value", "sd_worker", "pilot", "name", "comparison", "rate", "rating", "confidence"),
)
WRITTEN = st.recursive(
    ANYTHING | st.sampled_from([*WORDS, "a", "b", "no", "007", "1e400", ".nan"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=20,
)
YAML = WRITTEN.map(lambda value: json.dumps(value, allow_nan=False, default=str) if _is_json(value) else str(value))
SNIPPETS = st.sampled_from(
    ["- ", ": ", "\n", "  ", "&a ", "*a", "<<: ", "!!int ", "[", "]", "{", "}", "'", '"', "#", "|", *WORDS]
)
TEXTS = YAML | st.lists(SNIPPETS | st.text(max_size=3), max_size=30).map("".join)
JSON_BYTES = ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=100)


def _is_json(value: Any) -> bool:
    with contextlib.suppress(ValueError):
        json.dumps(value, allow_nan=False)
        return True
    return False


@FUZZ
@given(TEXTS)
def test_a_file_of_a_study_is_read_or_its_faults_are_sentences(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.yaml").write_text(text, encoding="utf-8", errors="replace")
    for read in (
        lambda: parse_study_flow("study_flow_path", "f.yaml", text),
        lambda: parse_study_design("design_path", "d.yaml", text),
        lambda: planned(read_plan(str(tmp_path / "plan.yaml"))),
    ):
        try:
            read()
        except ConfigurationError as error:
            assert all(fault.endswith(".") for fault in error.faults)


@FUZZ
@given(st.sampled_from(["rate", "rating", "comparison"]), st.dictionaries(st.sampled_from(WORDS), ANYTHING, max_size=8))
def test_a_plan_is_computed_or_its_faults_are_sentences(tmp_path: Path, kind: str, measure: dict[str, Any]) -> None:
    given_values = {"kind": kind, "name": "m", "value": 0.6, "difference": 0.1, "sd_worker": 0.1, **measure}
    if kind == "rating":
        given_values |= {"sd_residual": 1.0}
        given_values.pop("value")
    if kind == "comparison":
        given_values.pop("difference")
    plan = {"workers": [20], "measures": [given_values]}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan, default=str), encoding="utf-8")
    with contextlib.suppress(ConfigurationError):
        assert len(planned(read_plan(str(tmp_path / "plan.yaml")))) == 1


PARAMS = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID", "prolific_token", "%50ROLIFIC_PID")
QUERIES = st.text(max_size=60) | st.lists(st.tuples(st.sampled_from(PARAMS), st.text(max_size=20)), max_size=6).map(
    lambda pairs: "?" + "&".join(f"{name}={value}" for name, value in pairs)
)


@FUZZ
@given(QUERIES)
def test_an_address_names_a_participant_or_is_refused(query: str) -> None:
    try:
        arrival, params = read_address(panel(), query)
    except ArrivalRefusedError:
        return
    assert isinstance(arrival, Arrival)
    assert arrival.participant.isascii()
    assert arrival.participant.isprintable()
    assert params["PROLIFIC_PID"]


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "exp", "iat", "nbf", "aud", "sub"]), ANYTHING, max_size=6)


@FUZZ
@given(CLAIMS, ANYTHING, st.text(max_size=40) | st.binary(max_size=40).map(encoded))
def test_a_token_is_genuine_or_refused(claims: dict[str, Any], header: Any, other: str) -> None:
    signed = signed_token({"alg": "RS256", "kid": "k"}, claims, KEY)
    head, body, signature = signed.split(".")
    unsigned = encoded(json.dumps(header).encode())
    for token in (
        signed,
        f"{unsigned}.{body}.{signature}",
        f"{head}.{other}.{signature}",
        f"{head}.{body}.{other}",
        other,
    ):
        with contextlib.suppress(TokenError):
            found = verify_token(token, lambda _: KEY.public_key(), "me", clock=lambda: 1e9)
            assert found == claims
            assert found["iss"] == "me"
    with contextlib.suppress(TokenError):
        read_key(header)


@FUZZ
@given(
    st.lists(st.binary(max_size=30) | JSON_BYTES | st.sampled_from([b"data: ", b"\n", b"\r", b"[DONE]"]), max_size=12),
    st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(("choices", "usage", "error", "model", "object"), ANYTHING))
        | ANYTHING.map(lambda delta: {"choices": [{"delta": delta, "finish_reason": "stop"}]}),
        max_size=5,
    ),
    st.integers(1, 50),
)
def test_a_stream_gives_a_reply_or_a_failure(raw: list[bytes], events: list[Any], size: int) -> None:
    body = b"".join(raw) + b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    told: list[str] = []
    usage = Usage()
    with contextlib.suppress(RequestFailedError, EventTooLargeError):
        completion = asyncio.run(read_stream(chunks(), "m", 0.0, usage, told.append))
        assert isinstance(completion.text, str)
    with contextlib.suppress(RequestFailedError):
        read_whole(body, "m", usage)
    error_detail(body).encode("utf-8")
    "".join(told).encode("utf-8")


@FUZZ
@given(st.text(max_size=40), JSON_BYTES)
def test_what_a_panel_or_server_answers_ends_in_no_traceback(header: str, body: bytes) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        _retry_after({"retry-after": header, "retry-after-ms": header})
    _detail(httpx.Response(400, content=body))
    _detail(httpx.Response(400, content=b'{"error": {"detail": ' + body + b"}}"))
    for kind in (Study, SubmissionDetail, Submissions, BulkBonus):
        with contextlib.suppress(ValueError):
            kind.model_validate_json(body)


BOXES = parse_annotations(
    "--annotations-config-path",
    "boxes.json",
    json.dumps({"config": {name: {"name": name, "description": name} for name in ("bucket_0", "none_all_good")}}),
)


ITEMS_TO_JUDGE = parse_study_flow(
    "--study-flow-path",
    "flow.yaml",
    """\
pages:
  - id: chat
    kind: chat
    every_reply:
      - {id: trust, kind: scale, question: "Trust?"}
      - {id: wrong, kind: highlight, question: "Mark it.", required: false}
      - {id: rows, kind: matrix, question: "Agree?", rows: [a, b], required: false}
      - {id: ends, kind: best_worst, question: "Ends?", options: [a, b, c], required: false}
      - {id: own, kind: choice, question: "Which?", options: [a], many: true, other: true, required: false}
""",
).chat.every_reply


@FUZZ
@given(st.dictionaries(st.sampled_from([item.id for item in ITEMS_TO_JUDGE]), ANYTHING), st.text(max_size=20))
def test_a_judges_answers_to_items_are_taken_as_a_page_could_send_them_or_refused(
    given_answers: dict[str, object], reply: str
) -> None:
    questions = Questions(REPLY, BOXES, tuple(ITEMS_TO_JUDGE))
    answer = {"boxes": {"bucket_0": True, "none_all_good": False}, "items": given_answers}
    with contextlib.suppress(WrongAnswerError):
        taken = read_answer(json.dumps(answer), questions, reply).answers
        assert taken is not None
        json.dumps(taken).encode()
        for span in taken.get("wrong", []):
            assert span["text"] == reply[span["start"] : span["end"]]


@FUZZ
@given(st.lists(JSON_BYTES, max_size=4), st.text(max_size=60) | ANYTHING.map(json.dumps))
def test_what_a_judge_has_answered_is_read_or_left_out(tmp_path: Path, lines: list[bytes], answer: str) -> None:
    path = tmp_path / "judge_log.jsonl"
    path.write_bytes(b"\n".join(lines))
    log = JudgeLog(path)
    assert log.spent_usd >= 0
    log.close()
    with contextlib.suppress(ConfigurationError):
        read_llm_judgments("--judgments", str(path))
    with contextlib.suppress(WrongAnswerError):
        boxes = read_answer(answer, Questions(REPLY, BOXES)).boxes
        assert boxes is not None
        assert boxes.keys() == set(BOXES.values)


@FUZZ
@given(st.binary(max_size=60), st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=3))
def test_what_is_appended_to_any_file_is_whole_and_behind_what_was_there(
    tmp_path: Path, before: bytes, lines: list[dict[str, int]]
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(before)
    log = AppendOnlyLog(path)
    for line in lines:
        log.append_lines(json.dumps(line).encode() + b"\n", durable=False)
    log.close()
    assert path.read_bytes().startswith(before)
    assert read_journal(path)[len(read_journal(path)) - len(lines) :] == lines


ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"event": st.sampled_from(["start", "arrive", "take", "stratum", "finish", "leave", "count"])},
        optional={
            "worker_id": st.sampled_from(["w", "v"]) | ANYTHING,
            "sequence": st.lists(st.integers(-1, 6), max_size=3) | ANYTHING,
            "number": st.integers(-1, 3) | ANYTHING,
            "cell": st.integers(-1, 6) | ANYTHING,
            "by": st.integers(-2, 2) | ANYTHING,
            "answer": ANYTHING,
            "answers": ANYTHING,
            "conversations_per_cell": st.integers(-1, 3) | ANYTHING,
            "resume": st.booleans(),
            "design": st.just("d"),
        },
    ),
    max_size=6,
)


@FUZZ
@given(ENTRIES)
def test_an_allocation_goes_on_after_any_file_that_is_not_refused(entries: list[dict[str, Any]]) -> None:
    try:
        state = replay(design_of(MIXED % ("latin_square", 2)), entries)
    except AllocationError:
        return
    for entry in state.reconcile([("w", 0, None)]):
        state.apply(entry)
    for worker in ("w", "v", "new"):
        state.may_come(worker)
        for entry in state.take(worker):
            state.apply(entry)


RUN_OPTIONS = FlowOptions(parse_study_flow("study_flow_path", "f.yaml", FLOW), 60)
ITEM_IDS = [item.id for _, item in RUN_OPTIONS.flow.items()]


@FUZZ
@given(ANYTHING | st.dictionaries(st.sampled_from(ITEM_IDS), ANYTHING, max_size=9), ANYTHING)
def test_answers_of_any_page_are_taken_or_refused(answers: Any, page_id: Any) -> None:
    run = StudyFlowRun(RUN_OPTIONS, "w")
    for page in RUN_OPTIONS.flow.pages:
        for named in (page.id, page_id):
            packet = {"task_data": {"message_id": "m", "page": named, "answers": answers}}
            with contextlib.suppress(RefusedError):
                accepted = run.check(page, packet, set())
                assert accepted is not None
                json.dumps(accepted.answers, allow_nan=False).encode("utf-8")
    with contextlib.suppress(RefusedError):
        json.dumps(run.check_reply(answers, "A reply.", True), allow_nan=False).encode("utf-8")


@FUZZ
@given(
    ANYTHING
    | st.fixed_dictionaries(
        {"pick": st.sampled_from(["left", "tie"])}, optional={"strength": ANYTHING, "reason": ANYTHING}
    ),
    st.sampled_from([2, 7]),
)
def test_a_judgement_is_taken_or_refused(answer: Any, points: int) -> None:
    try:
        judged = check_judgement(answer, ComparisonSettings(points=points, reason=True), 50)
    except RefusedError as refused:
        assert refused.reason
        return
    json.dumps([judged.pick, judged.strength, judged.reason]).encode("utf-8")


CONTROLS = st.sampled_from(["comparison", "comparison_done", "page_done", "rating_done"])
UPDATES = st.lists(
    st.fixed_dictionaries(
        {
            "task_data": ANYTHING
            | st.fixed_dictionaries(
                {"control": CONTROLS},
                optional=dict.fromkeys(
                    (
                        "turn_idx",
                        "left",
                        "right",
                        "pick",
                        "answers",
                        "page",
                        "reply_answers",
                        "final_rating",
                        "problem_data",
                    ),
                    ANYTHING,
                )
                | {"complete": st.booleans(), "continued_with": st.sampled_from(["left", "right"])},
            )
        },
        optional={"update_id": ANYTHING, "timestamp": ANYTHING},
    ),
    max_size=5,
)


@FUZZ
@given(UPDATES, st.dictionaries(st.text(max_size=2), ANYTHING, max_size=3), ANYTHING)
def test_a_study_is_recovered_from_whatever_a_damaged_journal_holds(
    messages: list[dict[str, Any]], generations: dict[str, Any], head: Any
) -> None:
    for entry in comparisons_of(messages, generations):
        Comparison.model_validate(entry)
    cost_of_unjudged(messages, generations)
    answers_of(messages)
    flow_of(head if isinstance(head, dict) else None)
    saved = {"dialog": [{"agent_idx": 1, "text": "Hi."}], "status": "incomplete", "reason": "run died"}
    json.dumps(add_answers(saved, RUN_OPTIONS.flow, messages))


GOOD: dict[str, Any] = {
    "dialog": [{"agent_idx": 0, "text": "Hi.", "id": "Speaker 1"}, {"agent_idx": 1, "text": "Ho.", "id": "Speaker 2"}],
    "workers": ["w"],
    "task_description": {"model_nickname": "a|b"},
    "status": "complete",
}


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["comparisons", "conditions", "answers", "participation", "study_orders", "failed_generation"]),
        ANYTHING,
        max_size=6,
    ),
    st.lists(
        st.fixed_dictionaries(
            {
                "left": ANYTHING | st.just({"model_nickname": "a", "text": "x"}),
                "right": st.just({"model_nickname": "b"}),
            },
            optional=dict.fromkeys(("turn_idx", "strength", "reason", "question", "timestamp"), ANYTHING)
            | {"pick": st.sampled_from(["left", "right", "tie", "both_bad"]) | ANYTHING},
        ),
        max_size=3,
    ),
    st.text(alphabet=st.characters(), max_size=10),
)
def test_a_record_with_odd_comparisons_is_read_or_called_malformed(
    odd: dict[str, Any], comparisons: list[dict[str, Any]], said: str
) -> None:
    record = {**GOOD, "comparisons": comparisons, **odd}
    record["dialog"] = [*GOOD["dialog"], {"agent_idx": 0, "text": said, "id": "Speaker 1"}]
    try:
        conversation = parse_conversation(json.loads(json.dumps(record)))
    except UnreadableError as fault:
        assert fault.detail
        return
    rows = JudgementRows()
    rows.add(0, conversation)
    assert rows.batch().num_rows == len(conversation.comparisons or ())
    orjson.dumps([judged.model_dump(mode="json") for judged in conversation.comparisons or ()])
    messages = messages_for(conversation.dialog, Questions(REPLY, BOXES))
    assert estimated_tokens(messages) > 0
    httpx.Request("POST", "http://127.0.0.1/", json={"messages": messages})


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "<<: {<<: {<<: {pages: []}}}"])
def test_what_refers_to_itself_is_a_fault(text: str) -> None:
    for read in (parse_study_flow, parse_study_design):
        with pytest.raises(ConfigurationError):
            read("flag", "file.yaml", text)
