"""Sentences for workers, in the language of a study."""

from __future__ import annotations

import copy
import html
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.text_files import language_remarks, load_texts
from model_chat.configuration.worker_texts import ENGLISH_FILE, ENGLISH_SENTENCES, Texts, WorkerText, worker_text
from model_chat.crowd.endings import Ending
from model_chat.crowd.panels import KINDS
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.records.participation import EndingKind

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    file
    for file in ROOT.rglob("*.py")
    if file.relative_to(ROOT).parts[0] not in ("tests", "build", "benchmarks", "typings")
    and not any(part.startswith(".") or part == "node_modules" for part in file.relative_to(ROOT).parts)
]


def own_file(tmp_path: Path, **more: Any) -> str:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(more, ensure_ascii=False), encoding="utf-8")
    return str(path)


def test_a_sentence_is_its_english_form_and_is_told_in_the_language_of_the_study() -> None:
    sentence = worker_text("messages.too_long", length=2001, most=2000)
    assert sentence == "Your message is too long (2,001 of 2,000 characters). Please shorten it."
    assert Texts().told(sentence) == sentence
    assert (
        load_texts("de", "").told(sentence)
        == "Ihre Nachricht ist zu lang (2.001 von 2.000 Zeichen). Bitte kürzen Sie sie."
    )
    assert "2,001" in load_texts("ar", "").told(sentence)


def test_a_sentence_inside_another_and_those_in_a_packet_are_told_too() -> None:
    about = worker_text("answers.about", question="Wie {viel}?", remedy=worker_text("answers.missing"))
    german = load_texts("de", "")
    assert german.told(about) == "„Wie {viel}?“ Bitte beantworten Sie diese Frage."
    packet = {"reason": about, "ending": {"text": worker_text("endings.blocked"), "code": "C"}, "n": [1, None, about]}
    told = german.told(packet)
    assert told["ending"]["text"].startswith("Diese Studie steht Ihnen nicht offen.")
    assert told["n"] == [1, None, german.told(about)]
    assert type(told["reason"]) is str


def test_numbers_have_the_separators_of_the_language() -> None:
    sentence = worker_text("answers.number_between", least=0.5, most=1000.0)
    assert sentence == "Please give a number from 0.5 to 1000."
    assert load_texts("de", "").told(sentence) == "Bitte geben Sie eine Zahl von 0,5 bis 1000 an."


def test_a_sentence_of_a_world_of_ones_own_stays_as_it_is() -> None:
    assert load_texts("de", "").told("My own words {length}.") == "My own words {length}."


def test_an_end_without_a_value_leaves_no_space_in_any_language() -> None:
    sentence = worker_text("endings.said", text="Thanks.", remedy="")
    assert [texts.told({"text": [sentence]}) for texts in (Texts(), load_texts("de", ""))] == [
        {"text": ["Thanks."]}
    ] * 2


def test_a_sentence_survives_being_copied() -> None:
    sentence = worker_text("rating.range", least=1, most=5)
    for other in (copy.deepcopy(sentence), pickle.loads(pickle.dumps(sentence))):
        assert isinstance(other, WorkerText)
        assert load_texts("de", "").told(other) == "Bitte wählen Sie Antworten von 1 bis 5."


def test_every_sentence_of_the_server_is_used_and_there_are_no_others() -> None:
    used: set[str] = set()
    for file in SOURCES:
        source = file.read_text(encoding="utf-8")
        used |= set(re.findall(r'worker_text\(\s*"([\w.]+)"', source))
        used |= {f"answers.{name}" for name in re.findall(r'_refuse\(item, "(\w+)"', source)}
        used |= set(re.findall(r'ENGLISH_SENTENCES\["([\w.]+)"\]', source))
    used |= {f"refusals.{refusal}" for refusal in Refusal} | {f"endings.{kind}" for kind in EndingKind}
    assert used == set(ENGLISH_SENTENCES)


def test_refused_packets_have_no_sentence_outside_of_the_file() -> None:
    """A sentence in quotes would be said in English to everybody."""
    spoken = re.compile(r'RefusedError\(\s*"?\w+"?,\s*f?"|reason=f?"[A-Z]')
    found = {file.name for file in SOURCES if spoken.search(file.read_text(encoding="utf-8"))}
    assert found == {"session.py"}, "the preview tells the requester where to look"


@pytest.mark.parametrize("kind", list(EndingKind))
@pytest.mark.parametrize("provider", sorted(KINDS))
def test_every_ending_of_every_panel_is_told_in_the_language(kind: EndingKind, provider: str) -> None:
    class OfPanel:
        def __init__(self, leads_back: bool) -> None:
            self.provider, self.kind, self.leads_back = provider, KINDS[provider], leads_back

        def return_url(self, *ids: object) -> str | None:
            return "https://example.org/" if self.leads_back else None

    for code in ("C1", None):
        for leads_back in (True, False):
            panel: Any = OfPanel(leads_back)
            packet = Ending(kind, provider, "p", code=code, panel=panel).packet()
            assert packet is not None
            text = load_texts("ar", "").told(packet)["text"]
            brand = KINDS[provider].label
            assert not re.search(r"[A-Za-z]", text.replace(brand, "") if brand else text), text


def test_a_default_question_is_asked_in_the_language_and_a_question_of_ones_own_is_not_touched() -> None:
    german, default = load_texts("de", ""), ENGLISH_SENTENCES["defaults.final_rating_question"]
    assert german.default("final_rating_question", default) == "Wie gut war Ihr Gegenüber insgesamt?"
    assert german.default("final_rating_question", "Wie war es?") == "Wie war es?"
    assert Texts().default("final_rating_question", default) == default


def test_english_without_texts_of_ones_own_changes_nothing_of_the_page() -> None:
    assert load_texts("en", "") == Texts()
    assert Texts().put_into("<html><head></head></html>") == "<html><head></head></html>"


INDEX = (
    '<!doctype html><html lang="en" dir="ltr"><head><title data-text="defaultTitle">Chat</title></head><body>'
    '<h1 data-text="screens.beforeScript.title">Loading…</h1><p data-text="screens.newer">Kept</p></body></html>'
)


def test_the_page_comes_in_the_language_before_its_script_runs() -> None:
    page = load_texts("ar", "").put_into(INDEX)
    assert '<html lang="ar" dir="rtl">' in page
    assert ">محادثة</title>" in page and ">جارٍ التحميل…</h1>" in page
    assert ">Kept</p>" in page, "of a text that this version does not know, the page's own stays"
    (embedded,) = re.findall(r'<script type="application/json" id="model-chat-texts">(.*?)</script>', page)
    data = json.loads(embedded)
    assert (data["language"], data["direction"], data["conversationLanguage"]) == ("ar", "rtl", "ar")
    assert data["page"].keys() == ENGLISH_FILE["page"].keys()
    assert "server" not in data, "what the server says is the server's"


def test_no_text_can_end_the_element_that_it_is_in(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script> & <b>"
    path = own_file(tmp_path, language="en", page={"close": evil, "defaultTitle": evil})
    page = load_texts("en", path).put_into(INDEX)
    assert "<script>" not in page and "<b>" not in page
    assert f"{html.escape(evil)}</title>" in page
    (embedded,) = re.findall(r'id="model-chat-texts">(.*?)</script>', page)
    assert json.loads(embedded)["page"]["close"] == evil


def test_a_file_of_ones_own_stands_over_the_language_and_english_under_it(tmp_path: Path) -> None:
    own = own_file(
        tmp_path, language="de", page={"composer": {"send": "Ab damit"}}, server={"messages": {"wait": "Moment."}}
    )
    texts = load_texts("de", own)
    assert texts.page is not None
    assert (texts.page["composer"]["send"], texts.page["close"]) == ("Ab damit", "Schließen")
    assert texts.told(worker_text("messages.wait")) == "Moment."
    assert texts.told(worker_text("messages.empty")).startswith("Ihre Nachricht ist leer.")
    assert texts.missing == ()


def test_what_a_language_lacks_is_english_and_is_named(tmp_path: Path) -> None:
    own = own_file(tmp_path, language="he", page={"close": "סגור"}, server={"messages": {"wait": "רגע."}})
    texts = load_texts("he", own)
    assert texts.direction == "rtl"
    assert texts.page is not None
    assert texts.page["youSaid"] == "You said:"
    assert texts.told(worker_text("messages.empty")) == worker_text("messages.empty")
    assert "page.youSaid" in texts.missing and "server.messages.empty" in texts.missing
    assert not {"page.close", "server.messages.wait"} & set(texts.missing)
    (remark,) = language_remarks(texts)
    assert remark.startswith(
        f"mephisto.blueprint.language=he: {len(texts.missing)} texts are missing and are shown in English"
    )


def test_a_region_has_the_texts_of_its_language_and_says_its_own_tag() -> None:
    texts = load_texts("de-AT", "")
    assert texts.language == texts.conversation_language == "de-AT"
    assert texts.told(worker_text("messages.wait")) == "Bitte warten Sie auf die Antwort."


def test_refusals_of_a_run_are_told_in_its_language() -> None:
    assert (
        load_texts("de", "").told(TEXTS[Refusal.ALL_DONE])
        == "Alle Chats dieser Aufgabe sind erledigt. Danke, dass Sie gekommen sind!"
    )
