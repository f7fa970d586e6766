"""The router sends the page's files compressed to whoever accepts that, and answers as before to everybody else."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from model_chat.model_chat_blueprint import FRONTEND_DIST
from model_chat.tests.mephisto_run import Run
from model_chat.tests.router.test_local_architect import Served, make_architect

SCRIPT = re.search(r"assets/index-[\w-]+\.js", (FRONTEND_DIST / "index.html").read_text(encoding="utf-8"))[0]  # type: ignore[index]  # there is one


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compression")
    architect = make_architect(Run(folder), folder / "build")
    architect.prepare()
    static = Path(str(architect.running_dir or folder / "build" / "router")) / "static"
    static.mkdir(parents=True, exist_ok=True)
    (static / "large.txt").write_text("A line of text.\n" * 1000, encoding="utf-8")
    (static / "small.txt").write_text("Short.", encoding="utf-8")
    (static / "picture.png").write_bytes(os.urandom(4096))
    (static / ".hidden.txt").write_text("Nobody's business.\n" * 1000, encoding="utf-8")
    architect.deploy()
    try:
        yield Served(architect)
    finally:
        architect.shutdown()


def get(served: Served, path: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask as a page does, with nothing decoded: the body is what came over the wire."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = requests.request(
        method,
        f"http://{served.base}/{path}",
        headers={"Accept-Encoding": "identity", **named},
        timeout=60,
        stream=True,
    )
    response._content = response.raw.read(decode_content=False)
    return response


@pytest.mark.parametrize("path", ["", "index.html", SCRIPT, "large.txt"])
def test_text_comes_gzipped_and_is_the_file(served: Served, path: str) -> None:
    plain, packed = get(served, path), get(served, path, Accept_Encoding="gzip")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert int(packed.headers["Content-Length"]) == len(packed.content) < len(plain.content)
    assert packed.headers["Content-Type"].lower() == plain.headers["Content-Type"].lower()
    for name in ("Cache-Control", "Content-Security-Policy", "X-Content-Type-Options"):
        assert packed.headers[name] == plain.headers[name]


def test_the_script_is_a_third_of_its_size_on_the_wire_and_less_with_brotli(served: Served) -> None:
    plain = len(get(served, SCRIPT).content)
    gzipped = len(get(served, SCRIPT, Accept_Encoding="gzip").content)
    brotli = get(served, SCRIPT, Accept_Encoding="gzip, deflate, br")
    assert brotli.headers["Content-Encoding"] == "br"
    assert len(brotli.content) < gzipped < plain * 0.4


@pytest.mark.parametrize("accepted", ["identity", "deflate", "gzip;q=0", "zstd", ""])
def test_who_accepts_neither_gets_the_plain_file(served: Served, accepted: str) -> None:
    answer = get(served, "large.txt", Accept_Encoding=accepted)
    assert "Content-Encoding" not in answer.headers
    assert answer.content == b"A line of text.\n" * 1000


@pytest.mark.parametrize("accepted", ["identity", "gzip", "br"])
def test_caches_are_told_that_the_answer_depends_on_what_is_accepted(served: Served, accepted: str) -> None:
    assert get(served, "large.txt", Accept_Encoding=accepted).headers["Vary"] == "Accept-Encoding"


def test_each_form_has_an_etag_of_its_own_which_is_asked_for_again(served: Served) -> None:
    etags = {
        form: get(served, "large.txt", Accept_Encoding=form).headers["ETag"] for form in ("identity", "gzip", "br")
    }
    assert len(set(etags.values())) == 3
    known = get(served, "large.txt", Accept_Encoding="gzip", If_None_Match=etags["gzip"])
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", etags["gzip"])
    assert known.headers["Vary"] == "Accept-Encoding"
    assert get(served, "large.txt", Accept_Encoding="gzip", If_None_Match=etags["br"]).status_code == 200


def test_a_range_counts_the_bytes_of_the_file(served: Served) -> None:
    answer = get(served, "large.txt", Accept_Encoding="gzip", Range="bytes=2-5")
    assert (answer.status_code, answer.content) == (206, b"line")
    assert answer.headers["Content-Range"] == "bytes 2-5/16000"
    assert "Content-Encoding" not in answer.headers


def test_a_head_request_has_the_headers_and_no_body(served: Served) -> None:
    whole, head = (get(served, "large.txt", method, Accept_Encoding="gzip") for method in ("GET", "HEAD"))
    assert head.content == b""
    assert {name: head.headers[name] for name in ("Content-Length", "Content-Encoding", "ETag")} == {
        name: whole.headers[name] for name in ("Content-Length", "Content-Encoding", "ETag")
    }


def test_what_is_small_or_compressed_already_is_sent_as_it_is(served: Served) -> None:
    for path in ("small.txt", "picture.png"):
        answer = get(served, path, Accept_Encoding="gzip, br")
        assert answer.status_code == 200
        assert "Content-Encoding" not in answer.headers


def test_a_file_that_has_changed_is_compressed_anew(served: Served) -> None:
    file = next(Path(str(served.architect.running_dir)).rglob("static/large.txt"))
    before = file.read_bytes()
    get(served, "large.txt", Accept_Encoding="gzip")
    try:
        file.write_bytes(b"Something else.\n" * 2000)
        answer = get(served, "large.txt", Accept_Encoding="gzip")
        assert gzip.decompress(answer.content) == b"Something else.\n" * 2000
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    "path", [".hidden.txt", "large.txt/", "../server.js", "%2e%2e/server.js", "assets/../../server.js"]
)
def test_nothing_is_served_that_was_not(served: Served, path: str) -> None:
    assert get(served, path, Accept_Encoding="gzip").status_code in (403, 404)
