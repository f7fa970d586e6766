"""Who tries to see or do what they may not, over the real wire."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_chat.dashboard.access import (
    FAILURES_OF_ADDRESS,
    FAILURES_OF_ALL,
    SESSION_SECONDS,
    WINDOW_SECONDS,
    AttemptLimit,
)
from model_chat.dashboard.app import MAX_BODY_BYTES, SECURITY_HEADERS, STREAMS_OF_SESSION
from model_chat.dashboard.settings import Role
from model_chat.dashboard.watch import Watched
from model_chat.tests.dashboard.conftest import TOKEN, Served, serving
from model_chat.tests.dashboard.sample import MadeUpRun, SampleStudy

Serve = Callable[..., Served]
READING = ("overview", "events", "conversations", "conversations/a1", "audit")


@pytest.fixture
def served(sample: SampleStudy, serve: Serve) -> Served:
    """A study with one conversation, and a run."""
    sample.chat()
    return serve(Watched(sample.info(), MadeUpRun()))


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same, for all tests that can change nothing: what is tried is refused."""
    sample = SampleStudy(tmp_path_factory.mktemp("unchanged") / "study")
    sample.chat()
    with serving(Watched(sample.info(), MadeUpRun())) as served:
        yield served


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"]


def test_nothing_is_shown_without_a_session(unchanged: Served) -> None:
    http = unchanged.client().http
    paths = ["api/session", *(f"api/studies/study_local/{path}" for path in READING)]
    for path in paths:
        answer = http.get(path)
        assert (answer.status_code, list(answer.json())) == (401, ["error"]), path
    for path in ("api/studies/study_local/acts", "api/studies/study_local/run", "api/logout"):
        assert http.post(path, json={}, headers={"Origin": unchanged.base.rstrip("/")}).status_code == 401


def test_the_link_logs_in_and_its_token_does_not_stay_in_the_address(served: Served) -> None:
    http = served.client().http
    answer = http.get("login", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, f"./api/login?token={TOKEN}")
    answer = http.get(answer.headers["location"])
    assert (answer.status_code, answer.headers["location"]) == (303, "../")
    cookie = cookie_of(answer).lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    session = http.get("api/session").json()
    assert session["role"] == "pay"
    assert TOKEN not in cookie


def test_behind_https_the_cookie_is_for_https_alone(served: Served) -> None:
    http = served.client().http
    plain = cookie_of(http.get("api/login", params={"token": TOKEN}))
    secure = cookie_of(http.get("api/login", params={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}))
    assert "secure" not in plain.lower()
    assert "secure" in secure.lower()


@pytest.mark.parametrize(
    "token", ["", "x", TOKEN + "x", TOKEN[:-1], "é", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_another_token_opens_nothing(served: Served, token: str) -> None:
    http = served.client().http
    answer = http.get("api/login", params={"token": token})
    assert answer.status_code == 303
    assert "set-cookie" not in answer.headers
    assert http.get("api/session").status_code == 401


def test_forged_sessions_and_those_of_another_dashboard_open_nothing(
    served: Served, serve: Serve, tmp_path: Path
) -> None:
    other = serve(Watched(SampleStudy(tmp_path / "other").info()))
    (cookie,) = other.client(Role.PAY).http.cookies.jar
    client = served.client()
    name = f"model_chat_dashboard_{served.base.rstrip('/').rpartition(':')[2]}"
    for value in (cookie.value or "", "", "x" * 4000, 'a\\"b'):
        answer = client.http.get("api/session", headers={"Cookie": f"{name}={value}"})
        assert answer.status_code == 401


def test_a_session_ends_when_it_is_not_used_and_when_it_is_logged_out(sample: SampleStudy, serve: Serve) -> None:
    now = [1000.0]
    served = serve(Watched(sample.info()), clock=lambda: now[0])
    client = served.client(Role.READ)
    now[0] += SESSION_SECONDS - 1
    assert client.http.get("api/session").status_code == 200
    now[0] += SESSION_SECONDS + 1
    assert client.http.get("api/session").status_code == 401
    second = served.client(Role.READ)
    cookies = dict(second.http.cookies)
    assert second.post("api/logout", {}).status_code == 200
    second.http.cookies.update(cookies)
    assert second.http.get("api/session").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"X-CSRF-Token": None},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "x" * 43},
        {"X-CSRF-Token": "é"},
    ],
)
def test_what_does_not_come_from_the_page_itself_changes_nothing(
    unchanged: Served, headers: dict[str, str | None]
) -> None:
    client = unchanged.client(Role.PAY)
    version = client.get("conversations/a1")["version"]
    sent = {name: value for name, value in {**client.headers, **headers}.items() if value is not None}
    body = {"act": "approve", "ids": ["a1"], "versions": {"a1": version}}
    encoded = {name: value.encode("utf-8") for name, value in sent.items()}
    for path, content in (("acts", body), ("run", {"act": "stop"})):
        answer = client.http.post(f"api/studies/study_local/{path}", json=content, headers=encoded)
        assert answer.status_code == 403, path
    assert client.get("conversations/a1")["review"] == "pending"
    assert client.get("audit")["total"] == 0


def test_a_log_in_from_another_site_is_refused(unchanged: Served) -> None:
    client = unchanged.client()
    body = {"password": "pay-password", "name": "eve"}
    answer = client.http.post("api/login", json=body, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("role", "act", "status"),
    [
        (Role.READ, {"act": "approve"}, 403),
        (Role.READ, {"act": "bonus", "amount": 1}, 403),
        (Role.REVIEW, {"act": "bonus", "amount": 1}, 403),
        (Role.REVIEW, {"act": "approve"}, 200),
        (Role.PAY, {"act": "bonus", "amount": 1}, 200),
    ],
)
def test_each_role_may_do_its_own_and_no_more(served: Served, role: Role, act: dict[str, Any], status: int) -> None:
    client = served.client(role)
    version = client.get("conversations/a1")["version"]
    body = {"ids": ["a1"], "versions": {"a1": version}, "reason": "Thank you!", **act}
    answer = client.post("api/studies/study_local/acts", body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("role", [Role.READ, Role.REVIEW])
def test_only_those_who_pay_stop_and_extend_the_run(unchanged: Served, role: Role) -> None:
    client = unchanged.client(role)
    for body in ({"act": "stop"}, {"act": "resume"}, {"act": "extend", "more": 5}):
        assert client.post("api/studies/study_local/run", body).status_code == 403
    run: Any = unchanged.watched[0].run
    assert run.asked == []


def test_a_role_can_not_be_asked_for(unchanged: Served) -> None:
    client = unchanged.client()
    body = {"password": "read-password", "name": "eve", "role": "pay"}
    assert client.post("api/login", body).status_code == 422


def test_names_are_shown_as_they_are_and_never_split_a_header(served: Served) -> None:
    client = served.client(Role.READ, "Ann\r\nSet-Cookie: a=b\u202e <script>")
    assert client.http.get("api/session").json()["name"] == "Ann Set-Cookie: a=b <script>"
    body = {"password": "read-password", "name": "\u200b\r\n"}
    assert served.client().post("api/login", body).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../dashboard.html",
        "/assets/..%2f..%2f..%2fsetup.py",
        "/assets/%2e%2e/%2e%2e/setup.py",
        "/assets//etc/passwd",
        "/..%2f..%2fsetup.py",
        "/api/studies/..%2f..%2fetc/overview",
        "/api/studies/study_local/conversations/..%2f..%2fa1",
        "/api/studies/study_local/conversations/%00",
    ],
)
def test_no_path_leads_out_of_the_page_folder(unchanged: Served, path: str) -> None:
    client = unchanged.client(Role.PAY)
    host, port = unchanged.base.removeprefix("http://").rstrip("/").split(":")
    cookies = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n".encode()
        )
        data = b"".join(iter(lambda: raw.recv(65536), b""))
    assert data.split()[1] in (b"404", b"400"), data[:200]
    assert b"root:" not in data
    assert b"setuptools" not in data


@pytest.mark.parametrize("has_length", [True, False])
def test_a_large_body_is_refused(unchanged: Served, has_length: bool) -> None:
    client = unchanged.client(Role.PAY)
    data = b'{"act": "approve", "reason": "' + b"x" * MAX_BODY_BYTES + b'"}'

    def parts() -> Iterator[bytes]:
        for start in range(0, len(data), 8192):
            yield data[start : start + 8192]

    headers = {**client.headers, "Content-Type": "application/json"}
    answer = client.http.post("api/studies/study_local/acts", content=data if has_length else parts(), headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 5000, 400),
        (b"null", 422),
        (b'{"act": "approve", "ids": "a1"}', 422),
        (b'{"act": "approve", "ids": [1]}', 422),
        (b'{"act": "approve", "ids": []}', 422),
        (b'{"act": "delete", "ids": ["a1"]}', 422),
        (b'{"act": "approve", "ids": ["a1"], "more": 1}', 422),
        (b'{"act": "approve", "ids": ["a1"], "versions": ["x"]}', 422),
        (b'{"act": "bonus", "ids": ["a1"], "amount": {}}', 422),
        (b'{"act": "bonus", "ids": ["a1"], "amount": NaN}', 400),
        (b'{"act": "bonus", "ids": ["a1"], "amount": 1e400}', 400),
    ],
)
def test_a_faulty_body_is_refused_with_a_sentence(unchanged: Served, content: bytes, status: int) -> None:
    client = unchanged.client(Role.PAY)
    headers = {**client.headers, "Content-Type": "application/json"}
    answer = client.http.post("api/studies/study_local/acts", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].endswith(".")
    as_form = client.http.post("api/studies/study_local/acts", data={"act": "approve"}, headers=client.headers)
    assert as_form.status_code == 415


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=1e3", "offset=1²", "sort=text", "sort=--started,"])
def test_a_faulty_question_is_refused_with_a_sentence(unchanged: Served, query: str) -> None:
    answer = unchanged.client(Role.READ).http.get(f"api/studies/study_local/conversations?{query}")
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_every_answer_keeps_other_sites_out(unchanged: Served) -> None:
    client = unchanged.client(Role.READ)
    paths = ["", "icon.svg", "healthz", "nothing", "login?token=x", "api/session", "api/studies/none/overview"]
    for path in (*paths, "api/studies/study_local/overview", "api/studies/study_local/conversations/a1"):
        answer = client.http.get(path)
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, path
        if path.startswith("api/"):
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert client.http.post("api/studies/study_local/acts").headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in SECURITY_HEADERS["content-security-policy"]
    assert "unsafe-eval" not in SECURITY_HEADERS["content-security-policy"]


def test_conversations_of_another_study_are_not_found_under_this_one(
    sample: SampleStudy, serve: Serve, tmp_path: Path
) -> None:
    other = SampleStudy(tmp_path / "other", "other_local")
    for _ in range(3):
        other.chat(worker="somebody else")
    sample.chat()
    served = serve(Watched(sample.info()), Watched(other.info()))
    client = served.client(Role.PAY)
    assert client.http.get("api/studies/other_local/conversations/a3").status_code == 200
    assert client.http.get("api/studies/study_local/conversations/a3").status_code == 404
    (result,) = client.act("approve", "a3", versions={"a3": "x"}).json()["results"]
    assert (result["ok"], result["error"]) == (False, "There is no such conversation.")


def test_failed_log_ins_are_limited_by_address_and_sessions_go_on(served: Served) -> None:
    logged_in = served.client(Role.READ)
    client = served.client()
    wrong = {"password": "pay-passwore", "name": "eve"}
    statuses = [client.post("api/login", wrong).status_code for _ in range(FAILURES_OF_ADDRESS + 2)]
    assert statuses == [401] * FAILURES_OF_ADDRESS + [429] * 2
    right = client.post("api/login", {"password": "pay-password", "name": "ann"})
    assert right.status_code == 429
    assert 0 < right.json()["retry_after"] <= WINDOW_SECONDS
    assert right.headers["retry-after"] == str(right.json()["retry_after"])
    assert (
        client.http.get("api/login", params={"token": TOKEN}).status_code == 303
    )  # the owner of the link is not shut out
    assert logged_in.http.get("api/session").status_code == 200


def test_failed_log_ins_from_many_addresses_are_limited_together_and_forgotten_after_a_while() -> None:
    now = [0.0]
    limit = AttemptLimit(lambda: now[0])
    for number in range(FAILURES_OF_ALL):
        assert limit.wait(f"10.0.0.{number}") == 0
        limit.failed(f"10.0.0.{number}")
    assert limit.wait("10.1.1.1") == WINDOW_SECONDS
    now[0] = WINDOW_SECONDS
    assert limit.wait("10.1.1.1") == 0


def test_an_address_waits_though_all_together_have_not_failed_too_often() -> None:
    limit = AttemptLimit(lambda: 0.0)
    for _ in range(FAILURES_OF_ADDRESS):
        limit.failed("10.0.0.1")
    assert limit.wait("10.0.0.1") > 0
    assert limit.wait("10.0.0.2") == 0


def test_a_session_has_so_many_streams_at_most_and_a_closed_one_makes_room(served: Served) -> None:
    client = served.client(Role.READ)
    open_ones = []
    for _ in range(STREAMS_OF_SESSION):
        request = client.http.build_request("GET", "api/studies/study_local/events")
        stream = client.http.send(request, stream=True)
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == "event: overview"
        open_ones.append((stream, lines))
    assert client.http.get("api/studies/study_local/events").status_code == 429
    open_ones.pop()[0].close()
    for _ in range(600):
        with client.http.stream("GET", "api/studies/study_local/events") as again:
            if again.status_code == 200:
                break
    else:
        raise AssertionError("the stream was closed, and its place is not free")
    for stream, _ in open_ones:
        stream.close()
