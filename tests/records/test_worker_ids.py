"""One spelling of a worker id."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.records.worker_ids import normalise_worker_id


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [
        ("A1B2", "A1B2"),
        ("  A1B2\t\n", "A1B2"),
        ("ann  lee", "ann lee"),
        ("ann\u00a0\u3000lee", "ann lee"),
        ("Ann", "Ann"),
        ("\uff21\uff11", "A1"),
        ("\ufb01", "fi"),
        ("e\u0301", "\u00e9"),
        ("e\u200d\u0301", "\u00e9"),
        ("a\u200bb\u200cc\u2060d\ufeffe", "abcde"),
        ("\u202eab\u202c\u2066c\u2069\u200e\u200f\u061c", "abc"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("a\u00adb", "ab"),
        ("a\u034fb\ufe0f\U000e0101", "ab"),
        ("a\u180bb\u180e\u180f", "ab"),
        ("a\ud800b", "ab"),
        ("\u3164\u115f\uffa0\u2800", ""),
        ("a \u200b b", "a b"),
        ("\U000e0041a", "a"),
        ("\u4f60\u597d", "\u4f60\u597d"),
        ("[/x]", "[/x]"),
        ("", ""),
    ],
)
def test_what_looks_alike_is_one_id(given_id: str, expected: str) -> None:
    assert normalise_worker_id(given_id) == expected


@pytest.mark.parametrize("first_and_last", [(0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0000, 0xE0FFF)])
def test_every_character_of_a_range_that_shows_nothing_goes_and_its_neighbours_stay(
    first_and_last: tuple[int, int],
) -> None:
    first, last = first_and_last
    assert normalise_worker_id(f"a{chr(first)}{chr(last)}b") == "ab"
    for neighbour in (first - 1, last + 1):
        assert len(normalise_worker_id(f"a{chr(neighbour)}b")) > 2


@given(st.text(alphabet=st.characters(), max_size=20))
def test_normalising_twice_changes_nothing_and_leaves_nothing_unseen(text: str) -> None:
    once = normalise_worker_id(text)
    assert normalise_worker_id(once) == once
    assert once == once.strip()
    assert not [character for character in once if unicodedata.category(character) in ("Cc", "Cf", "Cs")]
    assert normalise_worker_id(f"\u200b {text}\u2069") == once
