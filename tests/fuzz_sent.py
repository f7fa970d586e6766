"""Parsers for tests/fuzz_with_atheris.py: what pages, panels, models' endpoints, judges and reviewers send.

Each target reads one input; anything but the errors that it names is a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any

import atheris
import httpx
from cryptography.hazmat.primitives.asymmetric import rsa

from model_chat import compat as compat
from model_chat.agents._endpoint_client import _retry_after
from model_chat.agents._endpoint_reply import RequestFailedError, Usage, error_detail, read_stream, read_whole
from model_chat.agents._event_stream import EventTooLargeError
from model_chat.configuration.comparison import ComparisonSettings
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.conversation.incoming import check_judgement
from model_chat.conversation.study_flow import FlowOptions, StudyFlowRun
from model_chat.crowd.arrivals import ArrivalRefusedError, Visitors, read_address
from model_chat.crowd.json_web_tokens import TokenError, read_key, verify_token
from model_chat.crowd.prolific_api import ProlificClient, ProlificError
from model_chat.crowd.signed_links import is_same_address
from model_chat.dashboard.access import Access
from model_chat.dashboard.app import Dashboard
from model_chat.dashboard.audit import AuditLog
from model_chat.dashboard.link import RunLink
from model_chat.dashboard.live import LiveState
from model_chat.dashboard.settings import Role, read_passwords
from model_chat.dashboard.watch import Watched
from model_chat.errors import RefusedError
from model_chat.records.authenticity import MessageCounts
from model_chat.records.llm_judgments import REPLY, read_llm_judgments
from model_chat.scripts._judge_money import JudgeLog
from model_chat.scripts._judge_prompt import Questions, WrongAnswerError, read_answer
from model_chat.scripts._played_people import read_personas
from model_chat.tests.crowd.test_panels import panel
from model_chat.tests.crowd.test_signed_links import encoded, signed_token
from model_chat.tests.fuzz_inputs import FOLDER, as_json, file_of, text_of, tried
from model_chat.tests.test_fuzz_studies import BOXES, FLOW, ITEMS_TO_JUDGE

RUN_OPTIONS = FlowOptions(parse_study_flow("study_flow_path", "f.yaml", FLOW), 60)


def study_answers(data: bytes) -> None:
    """What a page sends to the pages of a flow, about a reply, to a comparison; its counts of how a message was written."""
    sent = as_json(data)
    run = StudyFlowRun(RUN_OPTIONS, "w")
    for page in RUN_OPTIONS.flow.pages:
        for answers in (sent, {item.id: sent for item in getattr(page, "items", ())}):
            with contextlib.suppress(RefusedError):
                accepted = run.check(
                    page, {"task_data": {"message_id": "m", "page": page.id, "answers": answers}}, set()
                )
                json.dumps(None if accepted is None else accepted.answers, allow_nan=False).encode("utf-8")
    with contextlib.suppress(RefusedError):
        json.dumps(run.check_reply(sent, "A reply.", True), allow_nan=False).encode("utf-8")
    for answer in (sent, {"pick": "left", "strength": sent, "reason": sent}):
        with contextlib.suppress(RefusedError):
            check_judgement(answer, ComparisonSettings(points=7, reason=True), 50)
    MessageCounts.of(sent)


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIGNED = signed_token({"alg": "RS256", "kid": "k"}, {"iss": "me"}, KEY).split(".")


def links(data: bytes) -> None:
    """Addresses that participants come with, tokens in them, and keys of a panel."""
    text, sent = text_of(data), as_json(data)
    for query in (text, f"?PROLIFIC_PID={text}", f"?PROLIFIC_PID=p&STUDY_ID={text}"):
        with contextlib.suppress(ArrivalRefusedError):
            read_address(panel(), query)
    Visitors(b"k").read(sent)
    Visitors(b"k").read(text)
    head, body, signature = SIGNED
    tokens = [text, f"{text}.{body}.{signature}", f"{head}.{text}.{signature}", f"{encoded(data)}.{body}.{signature}"]
    if isinstance(sent, dict):
        with contextlib.suppress(ValueError):
            tokens.append(signed_token({"alg": "RS256", "kid": "k"}, sent, KEY))
            tokens.append(signed_token({"alg": "RS256", "kid": "k"}, {"iss": "me", "exp": 2e9, **sent}, KEY))
    for token in tokens:
        with contextlib.suppress(TokenError):
            verify_token(token, lambda _: KEY.public_key(), "me", clock=lambda: 1e9)
    for key in (
        sent,
        {"kty": "RSA", "kid": "k", "e": "AQAB", "n": sent},
        {"kty": "RSA", "kid": "k", "n": text, "e": sent},
    ):
        with contextlib.suppress(TokenError):
            read_key(key)
    is_same_address(text, "https://h/")
    is_same_address(f"https://{text}", "https://h/")


ANSWERS: list[tuple[int, bytes, str]] = []


def _answering(request: httpx.Request) -> httpx.Response:
    status, body, header = ANSWERS[0]
    headers = {"retry-after": header} if header.isascii() and header.isprintable() else {}
    return httpx.Response(status, content=body, headers=headers)


@lru_cache(1)
def _client() -> ProlificClient:
    client = ProlificClient("token-of-nobody-0123456789", "TOKEN", "http://127.0.0.1:9", sleep=lambda seconds: None)
    client._http = httpx.Client(transport=httpx.MockTransport(_answering))
    return client


def panel_answers(data: bytes) -> None:
    """What a panel's API answers."""
    client = _client()
    for status, body in ((200, data), (200, json.dumps(as_json(data)).encode()), (400, data), (429, data), (302, data)):
        ANSWERS[:] = [(status, body, text_of(data)[:40])]
        for ask in (
            lambda: client.study("s"),
            client.check_token,
            lambda: client.balance("w"),
            lambda: client.submission("s"),
            lambda: client.submissions("s")[:3],
        ):
            with contextlib.suppress(ProlificError):
                ask()


def streams(data: bytes) -> None:
    """What a model's endpoint answers, whole and as events."""
    usage, told = Usage(), list[str]()
    event = b"data: " + json.dumps({"choices": [{"delta": as_json(data[:100])}]}).encode() + b"\n\n"
    size = 1 + data[0] % 50 if data else 1

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    for body in (data, b"data: " + data + b"\n\n", event + b"data: [DONE]\n\n"):
        with contextlib.suppress(RequestFailedError, EventTooLargeError):
            asyncio.run(read_stream(chunks(body), "m", 0.0, usage, told.append))
    "".join(told).encode("utf-8")
    for body in (data, json.dumps({"choices": [{"message": as_json(data)}]}).encode()):
        with contextlib.suppress(RequestFailedError):
            read_whole(body, "m", usage)
    error_detail(data).encode("utf-8")
    _retry_after({"retry-after": text_of(data), "retry-after-ms": text_of(data)})


def judges(data: bytes) -> None:
    """What a judge answers, and the files of a judge."""
    sent, text = as_json(data), text_of(data)
    for questions, answer in (
        (Questions(REPLY, BOXES), text),
        (Questions(REPLY, BOXES), json.dumps(sent)),
        (Questions(REPLY, None, tuple(ITEMS_TO_JUDGE)), json.dumps({"items": sent})),
        (
            Questions(REPLY, None, tuple(ITEMS_TO_JUDGE)),
            json.dumps(
                {"items": {**{item.id: None for item in ITEMS_TO_JUDGE}, "trust": 1, "wrong": sent, "own": sent}}
            ),
        ),
    ):
        with contextlib.suppress(WrongAnswerError):
            read_answer(answer, questions, "A reply.")
    path = file_of(data, "judge_log.jsonl")
    log = JudgeLog(path)
    log.close()
    tried(lambda: read_llm_judgments("--judgments", str(path)), lambda: read_personas(str(path)))


METHODS = ("GET", "POST", "HEAD", "PUT", "OPTIONS")
PATHS = ("overview", "conversations", "conversations/a1", "acts", "run", "audit", "events/x")


@lru_cache(1)
def _dashboard() -> tuple[httpx.AsyncClient, dict[str, str], asyncio.AbstractEventLoop]:
    from model_chat.tests.dashboard.sample import MadeUpRun, SampleStudy

    sample = SampleStudy(FOLDER / "study")
    sample.chat()
    watched = Watched(sample.info(), MadeUpRun())
    app = Dashboard([watched], Access({"pay-password": Role.PAY}, "link"), FOLDER, "cookie").app
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h")
    loop = asyncio.new_event_loop()
    given = loop.run_until_complete(
        client.post("/api/login", json={"password": "pay-password", "name": "n"}, headers={"Origin": "http://h"})
    )
    return client, {"Origin": "http://h", "X-CSRF-Token": given.json()["csrf"]}, loop


def dashboard(data: bytes) -> None:
    """Requests to the dashboard, its audit log, its passwords, and what a run tells it."""
    client, headers, loop = _dashboard()
    source = atheris.FuzzedDataProvider(data)
    method, path = source.PickValueInList(list(METHODS)), source.PickValueInList(list(PATHS))
    rest = source.ConsumeBytes(4000)
    query = httpx.QueryParams(
        [(word, text_of(rest[:30])) for word in ("q", "sort", "offset", "limit", "model", "worker")]
    )
    body: dict[str, Any] = {"content": json.dumps(as_json(rest)) if len(rest) % 2 else rest}
    headers = {**headers, "Content-Type": "application/json"}
    for one in (
        f"/api/studies/study_local/{path}",
        f"/api/studies/{text_of(rest[:40])}",
        f"/assets/{text_of(rest[:40])}",
    ):
        with contextlib.suppress(httpx.InvalidURL, UnicodeEncodeError):
            url = httpx.URL(f"http://h{one}").copy_with(params=query)
            answer = loop.run_until_complete(client.request(method, url, headers=headers, **body))
            if answer.status_code >= 500 and answer.status_code != 503:
                raise TypeError(answer.text)
    file_of(data, "dashboard_audit.jsonl")
    json.dumps(AuditLog(FOLDER, "study_local").about("a1"))
    link = RunLink(open(FOLDER / "asked", "wb"))  # noqa: SIM115, PTH123 (nothing is written to it)
    link.follow([data, b'{"state": %b}' % json.dumps(as_json(data)).encode()], lambda: None)
    if not isinstance(link.state, LiveState | None):
        raise TypeError
    tried(lambda: read_passwords("--password-env", text_of(data)))


TARGETS = (study_answers, links, panel_answers, streams, judges, dashboard)
SEEDS: dict[Callable[[bytes], None], tuple[bytes, ...]] = {
    study_answers: (
        b'{"age": "young", "years": 5, "order": ["tone", "facts", "speed"], "agree": {"kind": 1}}',
        b"[0, 3]",
    ),
    links: (
        b"?PROLIFIC_PID=p1&STUDY_ID=s&SESSION_ID=e",
        ".".join(SIGNED).encode(),
        b'{"alg": "RS256", "kid": "k", "exp": 2e9, "iat": 1, "nbf": 1}',
        b'{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}',
    ),
    panel_answers: (b'{"results": [{"id": "a", "status": "ACTIVE"}], "error": {"detail": {"x": ["y"]}}}',),
    streams: (
        b'{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}',
        b"data: x\r\n: c\n\ndata: [DONE]\n\n",
        b"Wed, 21 Oct 2026 07:28:00 GMT",
    ),
    judges: (
        b'{"boxes": {"bucket_0": true, "none_all_good": false}}',
        b'[{"quote": "A", "place": 1}]',
        b'{"event": "reserved", "request": 1, "most_usd": 0.1}',
        b'{"id": "anna", "persona": "You are Anna."}',
    ),
    dashboard: (
        b'\x00\x03{"act": "approve", "ids": ["a1"], "versions": {"a1": "x"}}',
        b'\x01\x04{"act": "extend", "more": 3}',
        b'{"task": "study_local", "key": "k", "target": "a1"}',
        b"read:VARIABLE,pay:OTHER",
    ),
}
