"""Endings: which code, which sentence, and that the first one stays."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from model_chat.crowd.arrivals import Arrival
from model_chat.crowd.endings import OF_REFUSALS, TEXTS, Endings
from model_chat.crowd.panel_store import PanelStore
from model_chat.quality.refusals import Refusal
from model_chat.records.participation import EndingKind, Participation
from model_chat.tests.crowd.test_panels import CODES, panel


def endings(folder: Path, one_each: bool = True, **codes: str) -> Endings:
    """The endings of a run; another run of the same task for the same folder."""
    return Endings(panel(codes={**CODES, **codes}), PanelStore(folder / "p.db"), "study", one_each)


def test_an_ending_has_code_and_way_back_of_the_session_that_came_last(tmp_path: Path) -> None:
    of_run = endings(tmp_path)
    of_run.arrived(Arrival("p", "s1", "e1"))
    of_run.arrived(Arrival("p", "s1", "e2"))
    ending = of_run.decide("p", EndingKind.COMPLETE)
    packet = ending.packet()
    assert packet is not None
    assert (packet["kind"], packet["code"]) == ("complete", "C1DONE88")
    assert packet["url"] == "https://app.prolific.com/submissions/complete?cc=C1DONE88"
    assert packet["seconds"] > 0
    assert ending.participation() == {
        "provider": "prolific",
        "participant": "p",
        "study": "s1",
        "session": "e2",
        "ending": "complete",
        "code": "C1DONE88",
    }


@pytest.mark.parametrize("kind", EndingKind)
def test_an_ending_without_a_code_asks_to_return_the_submission_without_blame(tmp_path: Path, kind: EndingKind) -> None:
    ending = endings(tmp_path).decide("p", kind)
    packet = ending.packet()
    assert packet is not None
    assert packet["text"].startswith(TEXTS[kind])
    if kind in (EndingKind.COMPLETE, EndingKind.MODEL_FAILED):
        assert packet["code"] == "C1DONE88"
    else:
        assert (packet["code"], packet["url"], packet["seconds"]) == (None, None, 0)
        assert "return your submission on Prolific" in packet["text"]
        assert "does not count against you" in packet["text"]


def test_what_was_told_first_stays_also_in_later_runs(tmp_path: Path) -> None:
    first = endings(tmp_path)
    first.arrived(Arrival("p", "s", "e"))
    first.keep(first.decide("p", EndingKind.COMPLETE))
    later = endings(tmp_path, timed_out="LATE", complete="CHANGED")
    later.arrived(Arrival("p", "s", "e"))
    assert later.keep(later.decide("p", EndingKind.TIMED_OUT)).kind is EndingKind.COMPLETE
    found = later.find(Arrival("p", "s", "e"))
    assert found is not None
    assert (found.kind, found.code) == (EndingKind.COMPLETE, "C1DONE88")
    assert Endings(panel(), PanelStore(tmp_path / "p.db"), "another study").find(Arrival("p", "s", "e")) is None


def test_one_conversation_each_whatever_the_session_or_one_for_each_session(tmp_path: Path) -> None:
    of_run = endings(tmp_path)
    of_run.arrived(Arrival("p", "s", "e1"))
    of_run.keep(of_run.decide("p", EndingKind.COMPLETE))
    assert of_run.find(Arrival("p", "s", "e2")) is not None
    assert endings(tmp_path, one_each=False).find(Arrival("p", "s", "e2")) is None
    assert endings(tmp_path, one_each=False).find(Arrival("p", "s", "e1")) is not None


@pytest.mark.parametrize("refusal", OF_REFUSALS)
def test_a_refusal_with_a_code_is_found_again_and_one_without_lasts_as_long_as_its_reason(
    tmp_path: Path, refusal: Refusal
) -> None:
    without = endings(tmp_path)
    told = without.refused("p", refusal)
    assert told is not None
    assert told.code is None
    assert without.find(Arrival("p")) is None
    having = endings(tmp_path, **{OF_REFUSALS[refusal].value: "OUT"})
    told = having.refused("p", refusal)
    assert told is not None
    found = having.find(Arrival("p"))
    assert found is not None
    assert (found.kind, found.code) == (told.kind, "OUT")


@pytest.mark.parametrize(
    "refusal", [Refusal.TECHNICAL, Refusal.NO_ID, Refusal.CONCURRENT, Refusal.PAUSED, Refusal.LINK_EXPIRED]
)
def test_what_may_pass_is_no_ending(tmp_path: Path, refusal: Refusal) -> None:
    assert endings(tmp_path).refused("p", refusal) is None


def test_a_saved_conversation_whose_participant_was_not_told_is_remembered(tmp_path: Path) -> None:
    of_run = endings(tmp_path)
    part = Participation(provider="prolific", participant="p", session="e", ending=EndingKind.COMPLETE, code="C1DONE88")
    of_run.remember({"participation": part.model_dump(mode="json")})
    found = of_run.find(Arrival("p", None, "e"))
    assert found is not None
    assert found.code == "C1DONE88"


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"participation": None},
        {"participation": "x"},
        {"participation": {"provider": "prolific", "participant": "p", "ending": None}},
        {"participation": {"provider": "mock", "participant": "p", "ending": "complete"}},
    ],
)
def test_a_conversation_that_was_cut_off_or_is_another_provider_s_tells_nothing(
    tmp_path: Path, saved: dict[str, object]
) -> None:
    of_run = endings(tmp_path)
    of_run.remember(saved)
    assert of_run.find(Arrival("p")) is None


def test_a_disk_that_takes_nothing_costs_nobody_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of_run = endings(tmp_path)

    def full(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(of_run._store, "keep_ending", full)
    assert of_run.keep(of_run.decide("p", EndingKind.COMPLETE)).code == "C1DONE88"
    found = of_run.find(Arrival("p"))
    assert found is not None
    assert found.code == "C1DONE88"
    assert "check the disk" in caplog.text
    assert "C1DONE88" not in caplog.text


def test_without_a_panel_the_record_names_the_ending_and_the_page_is_told_none() -> None:
    from model_chat.crowd.endings import Ending

    ending = Ending(EndingKind.COMPLETE, "mock", "me")
    assert ending.packet() is None
    assert ending.participation()["ending"] == "complete"


@pytest.mark.parametrize(
    ("provider", "what"),
    [("link", "note the code"), ("panel", "enter the code below on the page that you came from"), ("sona", "on SONA")],
)
def test_without_a_way_back_a_participant_is_told_what_the_code_is_for(
    tmp_path: Path, provider: str, what: str
) -> None:
    of_run = Endings(panel(provider), PanelStore(tmp_path / "p.db"), "study")
    packet = of_run.decide("p", EndingKind.COMPLETE).packet()
    assert packet is not None
    assert what in packet["text"]
