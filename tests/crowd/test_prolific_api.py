"""The client of Prolific's API, against a server that speaks the documented protocol and goes wrong on purpose."""

from __future__ import annotations

import email.utils
import logging
import math
import time
from collections.abc import Iterator

import pytest

from model_chat.crowd.platform import PlatformError
from model_chat.crowd.prolific_api import (
    ATTEMPTS,
    LONGEST_RETRY_AFTER,
    NoAnswerError,
    ProlificClient,
    RefusedByProlificError,
    address_fault,
    read_token,
)
from model_chat.crowd.prolific_models import BonusLine
from model_chat.tests.crowd.prolific_server import (
    GROUP,
    STUDY,
    TOKEN,
    VARIABLE,
    WORKSPACE,
    Fault,
    ProlificServer,
    dropped,
    garbled,
    refused,
    serving,
    twice,
)


@pytest.fixture
def prolific() -> Iterator[ProlificServer]:
    with serving() as server:
        for number in range(1, 4):
            server.add_submission(f"s{number}", f"p{number}")
        yield server


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that the client waited, without waiting."""
    return []


@pytest.fixture
def client(prolific: ProlificServer, pauses: list[float]) -> Iterator[ProlificClient]:
    client = ProlificClient(TOKEN, VARIABLE, prolific.url, sleep=pauses.append)
    yield client
    client.close()


# --- what is asked, and how the answers are read ---


def test_a_study_is_read_with_its_currency_and_its_places_are_raised(
    client: ProlificClient, prolific: ProlificServer
) -> None:
    study = client.study(STUDY)
    assert (study.reward, study.currency, study.total_available_places) == (150, "GBP", 20)
    assert client.set_places(STUDY, 30).total_available_places == 30
    prolific.studies[STUDY]["status"] = "PAUSED"
    client.start(STUDY)
    assert prolific.studies[STUDY]["status"] == "ACTIVE"
    assert client.balance(WORKSPACE).available_balance == 10_000
    client.check_token()


def test_an_older_name_of_the_currency_is_known_and_none_is_none(
    client: ProlificClient, prolific: ProlificServer
) -> None:
    prolific.add_study("old", currency_code=None, presentment_currency_code="USD")
    prolific.add_study("none", currency_code=None)
    assert client.study("old").currency == "USD"
    assert client.study("none").currency is None


@pytest.mark.parametrize("past_the_end", [200, 404])
@pytest.mark.parametrize("cap", [7, 1000])
def test_all_pages_are_read_however_long_the_server_makes_them(
    client: ProlificClient, prolific: ProlificServer, cap: int, past_the_end: int
) -> None:
    for number in range(4, 250):
        prolific.add_submission(f"s{number}", f"p{number}")
    prolific.page_cap, prolific.past_the_end = cap, past_the_end
    assert [one.id for one in client.submissions(STUDY)] == [f"s{number}" for number in range(1, 250)]


def test_a_server_that_gives_the_same_page_for_ever_is_asked_no_further(
    client: ProlificClient, prolific: ProlificServer
) -> None:
    page = {"results": [{"id": "s1", "participant_id": "p1", "status": "ACTIVE"}]}
    prolific.order("GET", "/submissions/", *(garbled(page) for _ in range(3)))
    assert [one.id for one in client.submissions(STUDY)] == ["s1"]
    assert len(prolific.sent("GET", "/submissions/")) == 2


def test_a_status_that_is_not_documented_is_no_error(client: ProlificClient, prolific: ProlificServer) -> None:
    prolific.submissions["s1"]["status"] = "PROCESSING"
    assert client.submissions(STUDY)[0].status == "PROCESSING"
    assert client.submission("s1").status == "PROCESSING"


def test_ids_can_not_leave_their_place_in_the_path(client: ProlificClient, prolific: ProlificServer) -> None:
    for strange in ("../users/me", "..", "a?b=1", "a#b", "s1/transition"):
        with pytest.raises(RefusedByProlificError, match="answered 404"):
            client.submission(strange)
    assert all(path.startswith("/api/v1/submissions/") for _, path, _ in prolific.requests)
    assert prolific.requests[1][1] == "/api/v1/submissions/%2E%2E/"


def test_groups_are_joined_and_left_each_once(client: ProlificClient, prolific: ProlificServer) -> None:
    client.add_to_group(GROUP, ["p1", "p2", "p1"])
    client.add_to_group(GROUP, ["p2", "p3"])
    assert prolific.groups[GROUP] == ["p1", "p2", "p3"]
    client.remove_from_group(GROUP, ["p2", "p9"])
    assert prolific.groups[GROUP] == ["p1", "p3"]
    assert prolific.sent("DELETE", "/participants/") == [{"participant_ids": ["p2", "p9"]}]


def test_a_large_group_is_changed_in_parts(client: ProlificClient, prolific: ProlificServer) -> None:
    client.add_to_group(GROUP, [f"p{number}" for number in range(1201)])
    assert [len(body["participant_ids"]) for body in prolific.sent("POST", "/participants/")] == [500, 500, 201]
    assert len(prolific.groups[GROUP]) == 1201


# --- bonuses ---


def test_amounts_are_sent_as_decimals_of_the_currency() -> None:
    lines = [BonusLine("s1", cents).as_csv() for cents in (1, 9, 10, 99, 100, 425, 123_456)]
    assert lines == ["s1,0.01", "s1,0.09", "s1,0.10", "s1,0.99", "s1,1.00", "s1,4.25", "s1,1234.56"]


def test_setting_up_pays_nothing_and_says_the_total(client: ProlificClient, prolific: ProlificServer) -> None:
    bulk = client.set_up_bonuses(STUDY, [BonusLine("s1", 425), BonusLine("s2", 75)])
    assert bulk.amount == 500
    assert bulk.total_amount == pytest.approx(500 + 166.5 + 33.3)
    assert prolific.paid() == {}
    client.pay_bonuses(bulk.id)
    assert prolific.paid() == {"s1": [425], "s2": [75]}


@pytest.mark.parametrize("amount", [50000, 499, 0.5])
def test_another_sum_than_was_meant_is_refused(client: ProlificClient, prolific: ProlificServer, amount: float) -> None:
    prolific.order("POST", "bonus-payments", garbled({"id": "x", "amount": amount, "total_amount": 700}, 201))
    with pytest.raises(PlatformError, match="set up another sum than was asked for"):
        client.set_up_bonuses(STUDY, [BonusLine("s1", 500)])


@pytest.mark.parametrize("sum_of", [{"total_amount": math.inf}, {"total_amount": 700, "amount": math.nan}], ids=repr)
def test_a_sum_that_is_no_number_is_no_answer(
    client: ProlificClient, prolific: ProlificServer, sum_of: dict[str, float]
) -> None:
    prolific.order("POST", "bonus-payments", garbled({"id": "x", **sum_of}, 201))
    with pytest.raises(NoAnswerError, match="Input should be a finite number"):
        client.set_up_bonuses(STUDY, [BonusLine("s1", 500)])


def test_unknown_ids_are_named(client: ProlificClient) -> None:
    with pytest.raises(
        RefusedByProlificError, match=r"answered 400 to POST /submissions/bonus-payments/: .* unknown: nobody"
    ):
        client.set_up_bonuses(STUDY, [BonusLine("s1", 5), BonusLine("nobody", 5)])


# --- repeats ---


@pytest.mark.parametrize(
    "fault",
    [dropped(), dropped(acts=False), refused(503), refused(500, acts=True), refused(429), refused(408)],
    ids=str,
)
def test_what_changes_nothing_when_repeated_is_repeated(
    client: ProlificClient, prolific: ProlificServer, fault: Fault, pauses: list[float]
) -> None:
    prolific.order("POST", "/transition/", fault)
    client.transition("s1", "APPROVE")
    assert prolific.submissions["s1"]["status"] == "APPROVED"
    assert len(prolific.sent("POST", "/transition/")) == 2
    assert len(pauses) == 1
    assert 0.25 <= pauses[0] <= 0.5


@pytest.mark.parametrize(
    "fault", [dropped(), dropped(acts=False), refused(503), refused(429, Retry_After="0"), refused(500)], ids=str
)
def test_what_would_be_done_twice_is_never_repeated(
    client: ProlificClient, prolific: ProlificServer, fault: Fault, pauses: list[float]
) -> None:
    bulk = client.set_up_bonuses(STUDY, [BonusLine("s1", 5)])
    for pattern, act in (
        ("/pay/", lambda: client.pay_bonuses(bulk.id)),
        ("/messages/", lambda: client.send_message("p1", "Hi", STUDY)),
        ("/bonus-payments/$", lambda: client.set_up_bonuses(STUDY, [BonusLine("s1", 5)])),
    ):
        before = len(prolific.requests)
        prolific.order("POST", pattern, fault)
        with pytest.raises(PlatformError):
            act()
        assert len(prolific.requests) == before + 1
    assert pauses == []


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
def test_a_refused_payment_was_not_made_for_certain(
    client: ProlificClient, prolific: ProlificServer, status: int
) -> None:
    prolific.order("POST", "/pay/", refused(status))
    with pytest.raises(RefusedByProlificError):
        client.pay_bonuses("bulk1")


@pytest.mark.parametrize("fault", [dropped(), dropped(acts=False), refused(500), refused(504), refused(408)], ids=str)
def test_a_payment_without_an_answer_may_have_been_made(
    client: ProlificClient, prolific: ProlificServer, fault: Fault
) -> None:
    prolific.order("POST", "/pay/", fault)
    with pytest.raises(NoAnswerError):
        client.pay_bonuses("bulk1")


def test_a_server_that_is_not_there_has_done_nothing(pauses: list[float]) -> None:
    client = ProlificClient(TOKEN, VARIABLE, "http://127.0.0.1:9", sleep=pauses.append)
    with pytest.raises(RefusedByProlificError, match=r"Prolific at http://127.0.0.1:9 can't be reached"):
        client.study(STUDY)
    assert len(pauses) == ATTEMPTS - 1
    assert all(least / 2 <= pause <= least for pause, least in zip(pauses, (0.5, 1, 2, 4), strict=True))
    client.close()


def test_repeats_end(client: ProlificClient, prolific: ProlificServer) -> None:
    prolific.order("GET", "/studies/", *(refused(503, "down") for _ in range(ATTEMPTS)))
    with pytest.raises(NoAnswerError, match=rf"^Prolific answered 503 to GET /studies/{STUDY}/: down$"):
        client.study(STUDY)
    assert len(prolific.requests) == ATTEMPTS


def test_retry_after_is_kept_to_in_seconds_or_as_a_date(
    client: ProlificClient, prolific: ProlificServer, pauses: list[float]
) -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    prolific.order("GET", "/studies/", refused(429, Retry_After="7"), refused(503, Retry_After=date))
    client.study(STUDY)
    assert 7 <= pauses[0] <= 7 * 1.25
    assert 25 <= pauses[1] <= 31 * 1.25


@pytest.mark.parametrize(
    "text", ["soon", "nan", "", "-5", "Fri, 01 Jan 999999 00:00:00 GMT", "Fri, 99 Jan 99999999999 00:00:00 GMT"]
)
def test_a_retry_after_that_says_nothing_is_no_reason_to_wait_long(
    client: ProlificClient, prolific: ProlificServer, pauses: list[float], text: str
) -> None:
    prolific.order("GET", "/studies/", refused(429, Retry_After=text))
    client.study(STUDY)
    assert pauses[0] <= 0.5


def test_nobody_waits_for_hours(client: ProlificClient, prolific: ProlificServer, pauses: list[float]) -> None:
    prolific.order("GET", "/studies/", refused(429, Retry_After=str(LONGEST_RETRY_AFTER + 1)))
    with pytest.raises(RefusedByProlificError, match="too much to do; repeat the command in a minute"):
        client.study(STUDY)
    assert pauses == []


def test_an_answer_that_comes_twice_is_not_the_next_ones(client: ProlificClient, prolific: ProlificServer) -> None:
    prolific.order("GET", "/submissions/s1/", twice())
    assert client.submission("s1").participant == "p1"
    assert client.submission("s2").participant == "p2"


# --- what goes wrong is one sentence, without the token ---


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"", b"[]", b"null", {"id": 5}, {"id": STUDY, "status": "ACTIVE", "reward": "much"}, b"\xff{"],
)
def test_an_answer_that_is_not_documented_is_one_sentence(
    client: ProlificClient, prolific: ProlificServer, content: object
) -> None:
    prolific.order("GET", "/studies/", garbled(content))
    with pytest.raises(PlatformError, match=rf"^Prolific answered GET /studies/{STUDY}/ with something that") as caught:
        client.study(STUDY)
    assert "\n" not in str(caught.value)
    assert len(prolific.requests) == 1


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("No such thing.", ": No such thing."),
        (["one", "two"], ": one two"),
        ({"message": ["too short", "too dull"]}, ": message: too short too dull"),
        ({}, ": Error"),
        (None, ": Error"),
    ],
)
def test_what_prolific_says_of_an_error_is_passed_on(
    client: ProlificClient, prolific: ProlificServer, detail: object, said: str
) -> None:
    prolific.order("GET", "/studies/", refused(400, detail))
    with pytest.raises(RefusedByProlificError) as caught:
        client.study(STUDY)
    assert str(caught.value) == f"Prolific answered 400 to GET /studies/{STUDY}/{said.rstrip('.')}"


def test_the_token_is_in_no_error_and_no_log(
    client: ProlificClient, prolific: ProlificServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    prolific.tokens.clear()
    prolific.order("GET", "/users/", refused(400, f"Token {TOKEN} is odd"))
    for ask in (client.check_token, client.check_token, lambda: client.study(STUDY)):
        with pytest.raises(PlatformError) as caught:
            ask()
        assert TOKEN not in str(caught.value)
    assert f"the token in {VARIABLE} is not accepted (expired, or revoked)" in str(caught.value)
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(client)


def test_the_token_follows_no_redirect(client: ProlificClient, prolific: ProlificServer) -> None:
    prolific.order("GET", "/studies/", refused(302, Location=f"{prolific.url}/elsewhere"))
    with pytest.raises(RefusedByProlificError, match="it names another address; correct api_url"):
        client.study(STUDY)
    assert len(prolific.requests) == 1


# --- settings ---


def test_the_token_is_read_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f" {TOKEN}\n")
    assert read_token("flag", VARIABLE) == (TOKEN, [])


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (None, "", "flag: is not set; give the environment variable"),
        ("", "", "flag: is not set"),
        ("tok-3n", "", "flag: must be the name of an environment variable, never the token itself."),
        (VARIABLE, "", f"flag: the environment variable '{VARIABLE}' is not set; put the token into it"),
        (VARIABLE, "two words", f"flag: the environment variable '{VARIABLE}' holds characters that no token has."),
    ],
)
def test_what_is_wrong_with_the_token_is_said_without_it(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, value: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    token, (fault,) = read_token("flag", variable)
    assert token == ""
    assert fault.startswith(said)
    assert "two words" not in fault
    assert "tok-3n" not in fault


@pytest.mark.parametrize("address", ["https://api.prolific.com", "http://127.0.0.1:80", "http://localhost/x"])
def test_addresses_that_can_be_asked(address: str) -> None:
    assert address_fault("flag", address) is None


@pytest.mark.parametrize(
    "address",
    [
        *("http://api.prolific.com", "api.prolific.com", "https://u:p@h", "https://h?x", "ftp://h", "", "http://[::1"),
        *("https://h:99999", "https://h:x", "https://h/a\x01b", "https://xn--/"),  # no client takes these
    ],
)
def test_addresses_that_would_give_the_token_away_or_lead_nowhere(address: str) -> None:
    assert str(address_fault("flag", address)).startswith("flag: ")
