"""The preview answers its own page, on this machine, and no other site's."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.netutil
from rich.console import Console
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClosedError, websocket_connect

from model_chat.configuration.hydra import ROOT
from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.preview import server as preview_server
from model_chat.preview.server import http_server
from model_chat.preview.session import MOST_CONVERSATIONS, Preview

B = "mephisto.blueprint"
PATHS = ("", "task_config.json", "preview_state", "preview.js", "wrap_crowd_source.js", "index.html")
POSTS = ("request_agent", "submit_onboarding", "submit_task", "log_error", "start_over")


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preview]:
    texts = shutil.copytree(ROOT / "task_config", tmp_path_factory.mktemp("study") / "texts")
    made = Preview([f"{B}.task_config_path={texts}", f"{B}.num_turns=1"], "Fixed.", True, Console(file=io.StringIO()))
    yield made
    made.close()


def with_server(preview: Preview, act: Callable[[int], Any]) -> Any:
    """Serve the preview while ``act(port)`` runs; return its result."""

    async def main() -> Any:
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        served = http_server(preview)
        served.add_sockets(sockets)
        try:
            return await act(sockets[0].getsockname()[1])
        finally:
            preview.start_over()
            served.stop()
            await served.close_all_connections()

    return asyncio.run(main())


def codes_of(preview: Preview, headers: Callable[[int], dict[str, str]]) -> dict[str, int]:
    """The status of every address to a request with these headers, the socket's among them."""

    async def act(port: int) -> dict[str, int]:
        client, base, found = AsyncHTTPClient(), f"http://127.0.0.1:{port}/", {}
        version = preview.version
        for path in (*PATHS, *POSTS):
            method: dict[str, Any] = {"method": "POST", "body": "{}"} if path in POSTS else {}
            answer = await client.fetch(base + path, raise_error=False, headers=headers(port), **method)
            found[path] = answer.code
        assert (preview.version == version) == (found["start_over"] != 200)
        try:
            socket = await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{port}/", headers=headers(port)))
            socket.close()
            found["socket"] = 101
        except HTTPClientError as error:
            found["socket"] = error.code
        return found

    found: dict[str, int] = with_server(preview, act)
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost.evil.example:PORT"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_gets_nothing_and_changes_nothing(preview: Preview, headers: dict[str, str]) -> None:
    found = codes_of(preview, lambda port: {key: value.replace("PORT", str(port)) for key, value in headers.items()})
    assert found == dict.fromkeys(found, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost:PORT", "Origin": "http://localhost:PORT"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_its_own_page_and_programs_are_answered(preview: Preview, headers: dict[str, str]) -> None:
    found = codes_of(preview, lambda port: {key: value.replace("PORT", str(port)) for key, value in headers.items()})
    assert found == {**dict.fromkeys(found, 200), "socket": 101}


def test_a_link_from_another_site_may_be_followed_and_do_nothing_else(preview: Preview) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    found = codes_of(preview, lambda port: headers)
    assert found[""] == found["index.html"] == 200
    assert {found[path] for path in POSTS} == {403}


@pytest.mark.parametrize("body", ["[" * 30_000, "{", "", "\x00", '{"a":' * 20_000 + "1" + "}" * 20_000])
def test_a_broken_or_deeply_nested_body_is_a_bad_request(preview: Preview, body: str) -> None:
    async def act(port: int) -> int:
        url = f"http://127.0.0.1:{port}/request_agent"
        code: int = (await AsyncHTTPClient().fetch(url, method="POST", body=body, raise_error=False)).code
        return code

    assert with_server(preview, act) in (400, 413)


def test_broken_packets_end_nothing_and_large_ones_the_connection(preview: Preview) -> None:
    async def act(port: int) -> None:
        socket = await websocket_connect(f"ws://127.0.0.1:{port}/")
        for packet in ("[" * 100_000, "{", "5", '{"subject_id": {}}', '{"subject_id": "1", "packet_type": []}'):
            await socket.write_message(packet)
        await socket.write_message("x" * (preview_server.MOST_PACKET_BYTES + 1))
        assert await socket.read_message() is None
        with pytest.raises(WebSocketClosedError):
            await socket.write_message("x")

    with_server(preview, act)


def test_conversations_at_the_same_time_are_bounded(preview: Preview) -> None:
    async def act(port: int) -> list[Any]:
        answers = []
        for number in range(MOST_CONVERSATIONS + 2):
            body = json.dumps({"provider_data": {"agent_registration_id": f"{number}-chat"}})
            answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/request_agent", method="POST", body=body)
            answers.append(json.loads(answer.body)["data"])
        return answers

    answers = with_server(preview, act)
    assert [answer["agent_id"] is None for answer in answers] == [False] * MOST_CONVERSATIONS + [True] * 2
    assert answers[-1]["failure_reason"] == "There are 20 conversations with this preview; start over."


def test_an_error_report_is_one_printable_line(preview: Preview, caplog: pytest.LogCaptureFixture) -> None:
    async def act(port: int) -> None:
        body = json.dumps({"error_data": "\x1b[2J\n" + "x" * 9000})
        await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/log_error", method="POST", body=body)

    with caplog.at_level(logging.ERROR):
        with_server(preview, act)
    (record,) = [record for record in caplog.records if "reports an error" in record.getMessage()]
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 2100


def test_a_symbolic_link_is_not_served(preview: Preview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(FRONTEND_DIST, tmp_path / "dist"))
    (tmp_path / "secret.txt").write_text("private", encoding="utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "plain.txt").write_text("public", encoding="utf-8")
    monkeypatch.setattr(preview_server, "FRONTEND_DIST", folder)

    async def act(port: int) -> list[int]:
        client, base = AsyncHTTPClient(), f"http://127.0.0.1:{port}/"
        return [(await client.fetch(base + name, raise_error=False)).code for name in ("link.txt", "plain.txt")]

    assert with_server(preview, act) == [403, 200]
