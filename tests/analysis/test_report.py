"""The report: right, safe with any text, accessible, and without the network; the latter in real Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from playwright.sync_api import Browser

from model_chat.analysis import charts
from model_chat.analysis.latex import number as latex_number
from model_chat.analysis.report import _folder_names, _interval, _number, _percent
from model_chat.configuration.lists import join_list
from model_chat.tests.e2e.browser import axe_findings, chromium

from .conftest import compiler_of, make_conversation, saver

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> and <b>more</b>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    save = saver(folder)
    for number in range(24):
        save(
            make_conversation(
                model=("alpha", "beta", "<i>gamma</i>")[number % 3],
                worker=f"w{number % 6}" if number else EVIL,
                hit=f"h{number}",
                labels=[["rude"] if number % 2 else [], [] if number % 4 else ["odd"]],
                rating=f"{1 + number % 5}|{1 + number % 3}",
                said=[EVIL if number == 3 else "these are five plain words", f"message number {number} is here"],
                replies=[EVIL if number == 5 else "the same first reply", "and a second one"],
            )
        )
    save("broken")
    path: Path = compiler_of(folder)(report=True).compile_and_save_results()["report"]
    return path


def test_it_is_one_file_that_asks_for_nothing(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert "@import" not in page and "url(" not in re.sub(r"url\(#", "", page)
    assert "default-src 'none'" in page


def test_no_text_of_a_worker_or_model_is_markup(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "document.title='owned'</script>" not in page
    assert "<i>gamma" not in page and "<b>more" not in page and "<img" not in page
    data = re.search(r'<script type="application/json" id="conversation-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    texts = [turn["text"] for entry in json.loads(data[1])["conversations"] for turn in entry["turns"]]
    assert texts.count(EVIL) == 2  # and nothing of it is lost


def test_no_name_is_markup_whatever_is_called_so(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    def evil(field: str) -> str:
        return f"\"'><img src=x onerror=alert(1)><script>alert('{field}')</script>&lt;{{{{7*7}}}}\u2028\x1b[2J</style>"

    bucket = evil("bucket").replace(",", "")
    for number in range(4):
        chat = make(
            model=evil("model") if number % 2 else "other",
            worker=evil("worker") + str(number),
            hit=evil("hit"),
            labels=[[], []],
            said=[evil("text") * 2] * 2,
            replies=[evil("reply")] * 2,
            personas=[[evil("persona")], [evil("persona")]],
            context_dataset=evil("dataset"),
            person1_seed_utterance=evil("seed"),
            additional_context=evil("context"),
            acceptability_violations=[evil("violation") if number == 3 else ""],
        )
        for line in chat["dialog"]:
            if "problem_data" in line:
                line["problem_data"] = {bucket: number == 1, "none_all_good": number != 1}
        save(chat)
    save(make(worker=evil("worker"), status="incomplete", reason=evil("reason")))
    save("broken " + evil("file"))
    page: str = (
        compiler(report=True, problem_buckets=join_list([bucket, "none_all_good"]))
        .compile_and_save_results()["report"]
        .read_text(encoding="utf-8")
    )
    assert "alert(" in page, "it is there"
    tags: list[str] = []
    handlers: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            handlers.extend(name for name, _ in attributes if name.startswith("on"))

    Reader().feed(page)
    assert "img" not in tags
    assert tags.count("script") == 2, "the data and our own"
    assert page.count("</style>") == tags.count("style")
    assert handlers == []
    assert "{49}" not in page


def test_the_only_script_that_may_run_is_ours(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    script = (Path(__file__).parents[2] / "analysis" / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and f"<script>{script}</script>" in page


def test_it_says_what_was_found(report: Path) -> None:
    page = re.sub(r"\s+", " ", re.sub(r"<wbr>", "", report.read_text(encoding="utf-8")))
    assert "<dt>Conversations counted</dt><dd>24</dd>" in page and "<dt>Left out</dt><dd>1</dd>" in page
    assert "<code>malformed</code></td><td>1</td>" in page
    assert "7 workers held 24 conversations with 3 models; 1 further conversation was left out" in page
    assert 'aria-label="Dot plot of' in page and "Final rating 2" in page
    for colour in re.findall(r"#0[1-9a-c]0[1-9a-c]0[1-9a-c]\b", page):
        pytest.fail(f"{colour} did not become a variable of the style sheet")


BOXES = json.dumps(
    {
        "config": {
            "rude": {"name": "Is rude, or <b>worse</b>", "description": ""},
            "none_all_good": {"name": "All is well", "description": ""},
        }
    }
)


def described(make: Callable[..., Any], **more: Any) -> Any:
    """A conversation that says what was asked."""
    chat = make(labels=[["rude"], []], rating="4|2", **more)
    chat["task_description"] |= {"annotations_config": BOXES, "final_rating_question": "How good was it?|Again?"}
    return chat


def visible(page: str) -> str:
    """The text of a page without its scripts and style."""
    bare = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", bare.replace("<wbr>", "")))


def test_it_is_named_after_the_task_and_shows_names_and_questions(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(4):
        save(described(make, model=f"m{number % 2}", worker=f"w{number}", task_name="study_live"))
    page: str = compiler(report=True).compile_and_save_results()["report"].read_text()
    text = visible(page)
    assert "<h1>Results: study_live</h1>" in page and "<title>Results: study_live</title>" in page
    assert "Is rude, or &lt;b&gt;worse&lt;/b&gt; rude" in text, "the key is beside it, for the files"
    assert "Odd" in text, "a box without a name keeps its key"
    assert "other than “All is well”" in text
    assert "How good was it?" in text and "Again?" in text
    assert "final_rating" not in text and "final rating" not in text and "none all good" not in text
    data = re.search(r'id="conversation-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["buckets"][0] == {"key": "rude", "name": "Is rude, or <b>worse</b>"}
    assert '<option value="none_all_good">All is well</option>' in page


@pytest.mark.parametrize(
    ("flags", "names", "title"),
    [
        ({}, ["b", "b", "a"], "b, a"),
        ({}, ["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        ({}, [None, None], "results"),
        ({}, [None, "a"], "a"),
        ({}, [7, ["x"], " "], "results"),
    ],
)
def test_the_title_is_the_tasks_name_as_far_as_the_records_hold_it(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    flags: dict[str, str],
    names: list[Any],
    title: str,
) -> None:
    for number, name in enumerate(names):
        save(make(worker=f"w{number}", task_name=name))
    page = compiler(report=True, **flags).compile_and_save_results()["report"].read_text()
    assert f"<h1>Results: {title}</h1>" in page


def test_a_folder_named_dot_is_named_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _folder_names([".", "/a/b"]) == f"{tmp_path.name}, b"


def test_a_single_question_is_the_rating(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    chat = make(worker="w1")
    chat["task_description"]["final_rating_question"] = "How good was it?"
    save(chat)
    save(make(worker="w2"))
    text = visible(compiler(report=True).compile_and_save_results()["report"].read_text())
    assert text.count("How good was it?") >= 2


@pytest.mark.parametrize("counts", [[2, 2], [1, 2], [1, 1, 3], [4, 60]])
def test_an_axis_of_counts_has_whole_numbers(counts: list[int]) -> None:
    quality = pd.DataFrame({"conversations": counts, "mean_deviation": [0.1 * i for i in range(len(counts))]})
    svg = charts.worker_dots(quality)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    below = texts[: texts.index("conversations")]
    assert below and all(re.fullmatch(r"\d+", text) for text in below), below
    assert set(map(int, below)) & set(counts)


def curves(model: str, bucket: str) -> str:
    """A chart over two exchanges with these names in it."""
    turns = pd.DataFrame(
        {
            "model_nickname": model,
            "bucket": bucket,
            "exchange": [1, 2],
            "rate": 5.0,
            "low": 0.0,
            "high": 9.0,
            "messages": 9,
        }
    )
    return charts.turn_curves(turns, [model], [bucket], "95%", str)


@pytest.mark.parametrize("control", ["\x00", "\x1b", "\x7f", "\x9b"])
def test_names_in_a_chart_lose_characters_that_no_svg_may_contain(control: str) -> None:
    svg = curves(f"m{control}1", f"buc{control}ket")
    assert control not in svg
    assert {"m1", "bucket"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    ElementTree.fromstring(svg)


@pytest.mark.parametrize("space", ["\t", "\n", "\x1f", "\u2028", "\u00a0"])
def test_names_in_a_chart_have_one_space_for_any_white_space(space: str) -> None:
    assert charts.short(f"a{space}b") == charts.label(f"a{space}b") == "a b"


def test_a_name_in_another_script_is_drawn_without_a_warning() -> None:
    assert {"模型", "質問"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", curves("模型", "質問")))


def test_a_rate_of_zero_throughout_has_an_axis_from_zero_to_five_percent() -> None:
    turns = pd.DataFrame(
        {"model_nickname": "m", "bucket": "b", "exchange": [1, 2], "rate": 0.0, "low": 0.0, "high": 0.0, "messages": 9}
    )
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", charts.turn_curves(turns, ["m"], ["b"], "95%", str))
    shares = [text for text in texts if text.endswith("%")]
    assert len(set(shares)) == len(shares), "no label twice"
    assert shares[0] == "0%" and shares[-1] in ("4%", "5%")


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.0, "0.00"), (-0.004, "0.00"), (-0.006, "\u22120.01"), (0.0, "0.00"), (-1e-17, "0.00")]
)
def test_nothing_is_minus_zero(value: float, shown: str) -> None:
    assert _number(value) == shown
    assert _percent(value / 10, 1) == shown.replace("0.00", "0.0%").replace("0.01", "0.1%")
    assert _interval({"low": value, "high": value}, "rating") == f"[{shown}, {shown}]"
    assert "\u22120.0," not in _interval({"low": value / 100, "high": value / 100}, "rate")
    assert latex_number(value) == shown.replace("\u22120.01", "$-0.01$")


def test_the_report_says_which_p_is_which(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(18):
        save(make(model="abc"[number % 3], worker=f"w{number}", rating=str(1 + number % 5)))
    text = visible(compiler(report=True, permutations=199).compile_and_save_results()["report"].read_text())
    assert "the interval leaves out 0 where p is at most 0.05, and only there" in text
    assert (
        "p (Holm) is corrected over the 3 pairs of models, so it can be large although the interval leaves out 0"
        in text
    )
    assert "the smallest p it can give is 0.00500" in text
    assert "clustered t test" not in text, "it was not used"


def test_a_sample_is_seeded_and_says_so(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    for number in range(20):
        save(make(worker=f"w{number}"))
    pages = [
        compiler(report=True, report_conversations=5).compile_and_save_results()["report"].read_text() for _ in range(2)
    ]
    assert "A random sample of 5 of 20 conversations (seed 42)" in pages[0]
    first, second = (re.findall(r'"idx":(\d+)', page) for page in pages)
    assert len(first) == 5 and first == second


# --- in real Chromium --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.e2e
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1280, 390])
def test_axe_finds_nothing_and_nothing_overflows(report: Path, browser: Browser, scheme: str, width: int) -> None:
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert axe_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert asked == [report.as_uri()]
    if width >= 1280:
        cut = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth + 1)"
            ".map((each) => each.getAttribute('aria-label'))"
        )
        assert "Table: Workers" not in cut


@pytest.mark.e2e
def test_conversations_are_browsed_by_every_filter_and_run_nothing(report: Path, browser: Browser) -> None:
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(report.as_uri())
    status = page.locator("#conversation-status")
    assert status.inner_text() == "24 of 24 conversations fit; page 1 of 3."
    page.click("#next-page")
    assert "page 2 of 3" in status.inner_text()
    page.select_option("#filter-model", "beta")
    assert status.inner_text() == "8 of 24 conversations fit; page 1 of 1."
    page.select_option("#filter-model", "")
    page.select_option("#filter-worker", "w2")
    assert status.inner_text().startswith("4 of 24")
    page.select_option("#filter-worker", "")
    page.select_option("#filter-bucket", "odd")
    assert status.inner_text().startswith("6 of 24")
    page.select_option("#filter-bucket", "")
    page.select_option("#filter-rating", "5")
    assert status.inner_text().startswith("4 of 24")
    page.select_option("#filter-rating", "")
    page.fill("#filter-text", "onerror")
    assert status.inner_text().startswith("2 of 24")
    assert page.locator("#conversation-list").inner_text().count(EVIL) == 2
    assert page.title().startswith("Results: ") and faults == []


@pytest.mark.e2e
def test_it_prints_without_controls_and_in_light_colours(report: Path, browser: Browser) -> None:
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible() and not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"
