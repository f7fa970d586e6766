"""Who is let in, for how long and how often: each limit and each check by itself."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from model_chat.dashboard import access as access_module
from model_chat.dashboard import app as app_module
from model_chat.dashboard.access import (
    FAILURES_OF_ADDRESS,
    FAILURES_OF_ALL,
    LONGEST_NAME,
    LONGEST_SESSION_SECONDS,
    SESSION_SECONDS,
    WINDOW_SECONDS,
    Access,
    AttemptLimit,
)
from model_chat.dashboard.acts import MOST_AT_ONCE
from model_chat.dashboard.app import Dashboard
from model_chat.dashboard.settings import Role
from model_chat.dashboard.study import StudyInfo
from model_chat.dashboard.watch import Watched
from model_chat.tests.dashboard.sample import MadeUpRun

BASE = "http://study.lab"
ACTS, RUN = "/api/studies/s/acts", "/api/studies/s/run"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- attempts ---


def test_of_two_limits_the_one_that_ends_later_is_waited_for() -> None:
    clock = Clock()
    limit = AttemptLimit(clock)
    for number in range(FAILURES_OF_ALL - FAILURES_OF_ADDRESS):
        limit.failed(f"10.0.0.{number}")
    clock.now = 100.0
    for _ in range(FAILURES_OF_ADDRESS):
        limit.failed("10.1.1.1")
    assert limit.wait("10.1.1.1") == WINDOW_SECONDS
    assert limit.wait("10.2.2.2") == WINDOW_SECONDS - 100


def test_addresses_are_forgotten_when_their_failures_count_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MOST_ADDRESSES", 3)
    clock = Clock()
    limit = AttemptLimit(clock)
    for address in ("old", "older"):
        limit.failed(address)
    clock.now = WINDOW_SECONDS - 1
    for _ in range(FAILURES_OF_ADDRESS):
        limit.failed("new")
    clock.now = WINDOW_SECONDS
    limit.failed("newest")
    assert limit._of_address.keys() == {"new", "newest"}
    assert limit.wait("new") == WINDOW_SECONDS - 1


# --- sessions ---


def test_without_a_link_or_a_password_nobody_is_let_in_by_it() -> None:
    closed = Access({}, "")
    assert (closed.log_in_by_token(""), closed.log_in_by_token("x")) == (None, None)
    assert (closed.takes_passwords, closed.log_in_by_password("", "ann")) == (False, None)


def test_the_password_gives_the_role_and_is_not_kept() -> None:
    access = Access({"read-password": Role.READ, "pay-password": Role.PAY}, "secret-token", owner="lab")
    for password, role in (("read-password", Role.READ), ("pay-password", Role.PAY)):
        found = access.log_in_by_password(password, "ann")
        assert found is not None
        assert found[1].role is role
    by_link = access.log_in_by_token("secret-token")
    assert by_link is not None
    assert (by_link[1].name, by_link[1].role) == ("lab", Role.PAY)
    assert not [secret for secret in ("read-password", "pay-password", "secret-token") if secret in repr(vars(access))]


def test_a_session_that_is_used_goes_on_and_ends_after_a_week() -> None:
    clock = Clock()
    access = Access({"pay-password": Role.PAY}, "", clock=clock)
    found = access.log_in_by_password("pay-password", "ann")
    assert found is not None
    while clock.now + SESSION_SECONDS <= LONGEST_SESSION_SECONDS:
        clock.now += SESSION_SECONDS
        assert access.session(found[0]) is found[1]
    clock.now = LONGEST_SESSION_SECONDS + 1
    assert access.session(found[0]) is None


def test_of_too_many_sessions_the_one_that_was_not_used_for_longest_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MOST_SESSIONS", 2)
    clock = Clock()
    access = Access({"pay-password": Role.PAY}, "", clock=clock)
    ids = []
    for _ in range(3):
        found = access.log_in_by_password("pay-password", "ann")
        assert found is not None
        ids.append(found[0])
        clock.now += 1
        access.session(ids[0])
    assert [access.session(one) is not None for one in ids] == [True, False, True]


# --- requests ---


@pytest.mark.parametrize(
    ("origin", "host", "taken"),
    [
        ("http://h:1", "h:1", True),
        ("https://H:1", "h:1", True),
        ("ftp://h:1", "h:1", False),
        ("http://h:2", "h:1", False),
        ("http://h", "h:1", False),
        ("http://h:1.evil.example", "h:1", False),
        ("http://x@h:1", "h:1", False),
        ("http://", "", False),
        ("null", "null", False),
        (None, "h:1", False),
    ],
)
def test_an_origin_is_that_of_the_page_or_is_refused(origin: str | None, host: str, taken: bool) -> None:
    sent = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin is not None else [])]
    request = Request({"type": "http", "headers": sent})
    try:
        Dashboard._check_origin(request)
    except HTTPException as refused:
        assert (refused.status_code, taken) == (403, False)
    else:
        assert taken


class Page:
    """The dashboard's application, asked without a socket."""

    def __init__(self, folder: Path, run: MadeUpRun | None = None) -> None:
        info = {"title": "s", "task_name": "s", "database": folder / "d", "chat_data_folder": folder / "c"}
        self.watched = Watched(StudyInfo(id="s", **info), run)  # type: ignore[arg-type]  # one type for all
        self.dashboard = Dashboard([self.watched], Access({"pay-password": Role.PAY}, "link"), folder, "cookie")

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.dashboard.app)
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Origin": BASE})

    async def logged_in(self) -> httpx.AsyncClient:
        client = self.client()
        answer = await client.post("/api/login", json={"password": "pay-password", "name": "ann"})
        client.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return client


def test_wrong_links_shut_out_nobody_and_no_answer_with_a_session_is_kept(tmp_path: Path) -> None:
    async def ask() -> None:
        client = Page(tmp_path).client()
        right = await client.get("/login", params={"token": "link"})
        assert (right.status_code, right.headers["cache-control"]) == (303, "no-store")
        for _ in range(FAILURES_OF_ADDRESS):  # as the pictures of any site make a browser ask
            assert "set-cookie" not in (await client.get("/login", params={"token": "x"})).headers
        answer = await client.post("/api/login", json={"password": "pay-password", "name": "ann"})
        assert answer.status_code == 200

    asyncio.run(ask())


def test_a_name_of_fitting_length_goes_with_a_password(tmp_path: Path) -> None:
    async def ask() -> None:
        client = Page(tmp_path).client()
        for name, status in (("", 422), (" ", 422), ("x" * LONGEST_NAME, 200), ("x" * (LONGEST_NAME + 1), 422)):
            answer = await client.post("/api/login", json={"password": "pay-password", "name": name})
            assert answer.status_code == status, name

    asyncio.run(ask())


def test_nobody_is_logged_out_by_another_site(tmp_path: Path) -> None:
    async def ask() -> None:
        client = await Page(tmp_path).logged_in()
        for headers in ({"Origin": "http://evil.example"}, {"X-CSRF-Token": "x"}):
            assert (await client.post("/api/logout", headers=headers)).status_code == 403
        assert (await client.get("/api/session")).status_code == 200

    asyncio.run(ask())


def test_all_together_have_a_limited_number_of_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(tmp_path)

    async def ask() -> None:
        client = await page.logged_in()
        page.dashboard._streams = app_module.STREAMS_OF_ALL
        answer = await client.get("/api/studies/s/events")
        assert (answer.status_code, answer.json()["retry_after"]) == (429, 30)

    asyncio.run(ask())


def test_too_many_conversations_at_once_and_numbers_without_end_are_refused(tmp_path: Path) -> None:
    async def ask() -> None:
        client = await Page(tmp_path).logged_in()
        for number, status in ((MOST_AT_ONCE, 409), (MOST_AT_ONCE + 1, 422)):
            body = {"act": "approve", "ids": [f"a{n}" for n in range(number)]}
            assert (await client.post(ACTS, json=body)).status_code == status
        for path in ("conversations", "audit"):
            answer = await client.get(f"/api/studies/s/{path}?offset={'9' * 5000}")
            assert answer.status_code == 422

    asyncio.run(ask())


def test_the_audit_log_is_shown_page_by_page_newest_first(tmp_path: Path) -> None:
    page = Page(tmp_path)
    entries: list[dict[str, Any]] = [{"act": "approve", "when": number} for number in range(app_module.AUDIT_PAGE + 2)]
    page.watched.audit.entries = lambda: entries  # type: ignore[method-assign]  # too many to write to a disk

    async def ask() -> None:
        client = await page.logged_in()
        for offset, newest, length in ((0, 101, app_module.AUDIT_PAGE), (100, 1, 2)):
            shown = (await client.get(f"/api/studies/s/audit?offset={offset}")).json()
            assert (shown["total"], shown["items"][0]["when"], len(shown["items"])) == (102, newest, length)

    asyncio.run(ask())


def test_a_run_is_asked_once_it_has_said_how_it_is_and_more_only_to_extend(tmp_path: Path) -> None:
    class Launching(MadeUpRun):
        @property
        def state(self) -> Any:
            return None

    launching, running = Launching(), MadeUpRun()

    async def ask(run: MadeUpRun) -> int:
        client = await Page(tmp_path, run).logged_in()
        return (await client.post(RUN, json={"act": "stop", "more": 5})).status_code

    assert (asyncio.run(ask(launching)), launching.asked) == (409, [])
    assert (asyncio.run(ask(running)), running.asked) == (200, [("stop", None)])


def test_an_act_that_waits_for_another_is_done_though_its_page_has_gone(tmp_path: Path) -> None:
    page, go_on, done = Page(tmp_path), threading.Event(), list[str]()

    async def ask() -> None:
        first = asyncio.create_task(app_module._done(page.watched, lambda: go_on.wait(60)))
        second = asyncio.create_task(app_module._done(page.watched, lambda: done.append("second")))
        await asyncio.sleep(0)  # both are handed in
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        go_on.set()
        await first
        await app_module._done(page.watched, lambda: done.append("third"))

    asyncio.run(ask())
    assert done == ["second", "third"]


def test_an_act_that_has_begun_is_done_before_the_dashboard_ends(tmp_path: Path) -> None:
    watched = Page(tmp_path).watched
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)
        done.set()

    watched.actor.submit(work)
    assert begun.wait(60)
    closing = threading.Thread(target=watched.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    closing.join(60)
    assert done.is_set()
