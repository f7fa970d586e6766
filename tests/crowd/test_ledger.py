"""The record of bonuses: one row a payment, whatever happens between writing it down and hearing that it was made."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sqlite3
from pathlib import Path

import pytest

from model_chat.crowd.ledger import FILE, LONGEST_TOKEN, PAID, SENDING, Bonus, Ledger, token_of
from model_chat.errors import ConfigurationError

FIRST = Bonus("token-1", "agent-1", "A1", 50, "Thank you")


def test_a_payment_is_written_as_sending_and_then_marked_as_paid(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.begin(FIRST) == FIRST
    assert ledger.bonuses() == [FIRST]
    assert FIRST.state == SENDING
    ledger.paid("token-1")
    assert Ledger(tmp_path).bonuses() == [dataclasses.replace(FIRST, state=PAID)]
    assert ledger.path == tmp_path / FILE


def test_a_payment_that_is_known_comes_back_as_it_was_written_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.begin(Bonus("token-0", "agent-0", "A0", 1, "Another's"))
    ledger.begin(FIRST)
    ledger.paid("token-1")
    again = ledger.begin(Bonus("token-1", "agent-2", "A2", 70, "Another reason"))
    assert again == dataclasses.replace(FIRST, state=PAID)
    assert len(ledger.bonuses()) == 2


def test_only_a_payment_that_was_not_made_can_be_withdrawn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in (1, 2, 3):
        ledger.begin(dataclasses.replace(FIRST, token=f"token-{number}"))
    ledger.paid("token-2")
    ledger.withdraw("token-1")
    ledger.withdraw("token-2")
    ledger.withdraw("token-4")
    assert [(bonus.token, bonus.state) for bonus in ledger.bonuses()] == [("token-2", PAID), ("token-3", SENDING)]


def test_an_agents_bonuses_are_its_own_in_the_order_of_their_payment_and_count_from_the_start(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for token, agent, cents in (("z", "agent-1", 50), ("m", "agent-2", 700), ("a", "agent-1", 5)):
        ledger.begin(Bonus(token, agent, "A1", cents, "Thank you"))
    ledger.paid("z")
    assert [bonus.token for bonus in ledger.bonuses("agent-1")] == ["z", "a"]
    assert [bonus.token for bonus in ledger.bonuses()] == ["z", "m", "a"]
    assert ledger.cents_paid("agent-1") == 55
    assert ledger.cents_paid("agent-2") == 700
    assert ledger.cents_paid("agent-3") == 0


@pytest.mark.parametrize("cents", [0, -5])
def test_a_bonus_of_nothing_or_less_is_never_written_down(tmp_path: Path, cents: int) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises((sqlite3.IntegrityError, StopIteration)):
        ledger.begin(dataclasses.replace(FIRST, cents=cents))
    assert ledger.bonuses() == []
    assert ledger.begin(dataclasses.replace(FIRST, cents=1)).cents == 1


def test_only_one_pays_at_a_time(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path), Ledger(tmp_path)
    with ledger.paying():
        with pytest.raises(ConfigurationError, match=re.escape("another process is paying bonuses")), other.paying():
            pytest.fail("two pay at the same time")
        assert other.bonuses() == [], "reading is allowed"
    with other.paying():
        pass


def test_a_token_depends_on_every_part_and_where_it_ends() -> None:
    assert token_of("agent", 50, "reason") == token_of("agent", "50", "reason")
    tokens = [token_of(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ("ab", "c", ""))]
    assert len(set(tokens)) == len(tokens)
    assert token_of("ab", "c") == hashlib.sha256(b"ab\x1fc").hexdigest()
    assert {len(token) for token in tokens} == {64} == {LONGEST_TOKEN}
