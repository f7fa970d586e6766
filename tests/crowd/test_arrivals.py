"""Who has come, by the address of their page."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.crowd.arrivals import (
    LONGEST_ID,
    LONGEST_QUERY,
    Arrival,
    ArrivalChecker,
    ArrivalRefusedError,
    NewVisitorError,
    read_address,
)
from model_chat.crowd.panel_store import PanelStore
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.tests.crowd.test_panels import panel

PID = "60ffe5c8371090c7041d43f8"


def test_the_ids_are_read_whatever_else_the_address_has() -> None:
    arrival, _ = read_address(panel(), f"?utm=x&PROLIFIC_PID={PID}&STUDY_ID=s1&SESSION_ID=e1")
    assert arrival == Arrival(PID, "s1", "e1")
    assert read_address(panel(), f"?PROLIFIC_PID={PID}")[0] == Arrival(PID)


def test_case_makes_no_other_participant_of_a_prolific_id() -> None:
    assert read_address(panel(), f"?PROLIFIC_PID={PID.upper()}")[0].participant == PID
    assert read_address(panel("panel"), "?participant=Ab")[0].participant == "Ab"


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("", Refusal.NO_ID),
        ("?", Refusal.NO_ID),
        ("?prolific_pid=x", Refusal.NO_ID),
        ("?PROLIFIC_PID=", Refusal.NO_ID),
        ("?PROLIFIC_PID", Refusal.NO_ID),
        ("?PROLIFIC_PID=%20%20", Refusal.NO_ID),
        ("?PROLIFIC_PID={{%PROLIFIC_PID%}}", Refusal.UNFILLED_ID),
        ("?PROLIFIC_PID=%7B%7B%25PROLIFIC_PID%25%7D%7D", Refusal.UNFILLED_ID),
        ("?PROLIFIC_PID=[%RID%]", Refusal.UNFILLED_ID),
        ("?PROLIFIC_PID=<id>", Refusal.UNFILLED_ID),
        ("?PROLIFIC_PID=${pid}", Refusal.UNFILLED_ID),
        (f"?PROLIFIC_PID={PID}&SESSION_ID={{{{%SESSION_ID%}}}}", Refusal.UNFILLED_ID),
        (f"?PROLIFIC_PID={PID}&STUDY_ID=", Refusal.NO_ID),
        ("?PROLIFIC_PID=a&PROLIFIC_PID=b", Refusal.DOUBLED_ID),
        ("?PROLIFIC_PID=a&PROLIFIC_PID=a", Refusal.DOUBLED_ID),
        ("?PROLIFIC_PID=a&PROLIFIC%5FPID=b", Refusal.DOUBLED_ID),
        (f"?PROLIFIC_PID={PID}&SESSION_ID=1&SESSION_ID=2", Refusal.DOUBLED_ID),
        (f"?PROLIFIC_PID={'a' * (LONGEST_ID + 1)}", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=a%20b", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=a%00b", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=a%0Ab", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=%C3%A9", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=%FF", Refusal.INVALID_ID),
        ("?PROLIFIC_PID=a%E2%80%8Bb", Refusal.INVALID_ID),
        (f"?PROLIFIC_PID={PID}&x={'y' * LONGEST_QUERY}", Refusal.INVALID_ID),
        (f"?PROLIFIC_PID={PID}" + "&x=1" * 60, Refusal.INVALID_ID),
    ],
)
def test_an_address_that_names_nobody_is_refused_with_what_to_do(query: str, refusal: Refusal) -> None:
    with pytest.raises(ArrivalRefusedError) as refused:
        read_address(panel(), query)
    assert refused.value.refusal is refusal
    assert TEXTS[refusal]


def test_a_sona_code_is_read_under_any_name() -> None:
    assert read_address(panel("sona"), "?id=4711")[0] == Arrival("4711")
    assert read_address(panel("sona", participant_param="code"), "?code=4711")[0] == Arrival("4711")


def test_a_visitor_is_known_by_what_the_server_gave_the_browser_and_by_nothing_else(tmp_path: Path) -> None:
    checker = ArrivalChecker(panel("link"), PanelStore(tmp_path / "link.db"))
    with pytest.raises(NewVisitorError) as new:
        checker.identify("?visitor=me", None)
    given = new.value.visitor
    known = checker.identify("", given)
    assert checker.identify("?participant=somebody", given) == known
    for typed in (
        given.split(".", maxsplit=1)[0],
        f"me.{given.split('.')[1]}",
        given[:-1],
        given.upper(),
        "é.é",
        7,
        ["x"],
        "",
    ):
        with pytest.raises(NewVisitorError) as stranger:
            checker.identify("", typed)
        assert stranger.value.visitor not in (given, typed)
    assert known.participant in given
    assert len(known.participant) >= 20  # 128 bits: it can't be guessed


def test_a_visitor_is_the_same_person_after_a_restart_and_in_another_study_of_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(NewVisitorError) as new:
        ArrivalChecker(panel("link"), PanelStore(tmp_path / "link.db")).identify("", None)
    again = ArrivalChecker(panel("link"), PanelStore(tmp_path / "link.db"))
    assert again.identify("", new.value.visitor).participant in new.value.visitor
    with pytest.raises(NewVisitorError):  # of another data folder
        ArrivalChecker(panel("link"), PanelStore(tmp_path / "other.db")).identify("", new.value.visitor)


@pytest.mark.parametrize("query", [None, 7, ["?PROLIFIC_PID=x"], {}])
def test_an_address_of_another_type_names_nobody(tmp_path: Path, query: object) -> None:
    with pytest.raises(ArrivalRefusedError):
        ArrivalChecker(panel(), PanelStore(tmp_path / "p.db")).identify(query, None)


@pytest.mark.parametrize("provider", ["prolific", "connect", "sona", "panel", "link"])
def test_the_address_says_who_has_come_unless_all_have_the_same_link(tmp_path: Path, provider: str) -> None:
    checker = ArrivalChecker(panel(provider), PanelStore(tmp_path / "panel.db"))
    assert checker.names_participants is (provider != "link")
