"""What a worker wrote is judged right in every script, and nothing that can be typed makes the checks raise."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.errors import ConfigurationError
from model_chat.quality.acceptability import (
    SHIPPED_WORDS,
    AcceptabilityChecker,
    count_words,
    is_all_caps,
    offensive_matcher,
    read_words,
)

CHECKER = AcceptabilityChecker(offensive_matcher())
GOOD = ["I like long walks in the hills.", "My sister plays the violin.", "Do you think it will rain?"]


def check(*messages: str, begun_before: bool = False) -> str:
    return CHECKER.violations(messages, begun_before)


def test_an_ordinary_conversation_violates_nothing() -> None:
    assert check(*GOOD) == check(*GOOD, begun_before=True) == check() == ""


@pytest.mark.parametrize(
    ("messages", "short"),
    [
        (["yes", "no"], True),
        (["I agree", "one two three four"], False),  # (2 + 4) / 2 = 3: not under
        (["I agree", "one two three"], True),  # 2.5
        (["", "one two three four five"], True),  # 2.5: an empty message counts as a message
        (["one two three"], False),
        ([""], True),
        (["👍 👍 👍"], False),
        (["👍"], True),
        (["我昨天去了一家很好的餐馆"], False),
        (["你好"], True),
        (["วันนี้อากาศดีมาก"], False),
        (["私 は 学生"], False),
    ],
)
def test_messages_of_under_three_words_on_average_are_too_short(messages: list[str], short: bool) -> None:
    assert ("under_min_length" in check(*messages)) is short


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("  \n ", 0), ("one", 1), ("it's a hi-fi", 3), ("你好", 1), ("我喜欢 jazz 音乐", 4), ("a\u3000b", 2)],
)
def test_words_are_counted_in_scripts_without_spaces_too(text: str, words: int) -> None:
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("messages", "caps"),
    [
        (["WHAT DO YOU LIKE TO EAT"], True),
        (["WHAT DO YOU LIKE TO EAT", "I like soup very much"], False),
        (["WHAT DO YOU LIKE TO EAT", "I like soup very much", "REALLY NOT FOR ME"], True),
        (["ПРИВЕТ КАК ТВОИ ДЕЛА"], True),
        (["你好,你今天好吗?"], False),
        (["123! 456! 789!"], False),
        (["👍 👍 👍"], False),
        (["I"], False),
        (["مرحبا كيف حالك"], False),
        (["", ""], False),
    ],
)
def test_shouting_is_told_from_scripts_without_small_letters(messages: list[str], caps: bool) -> None:
    assert ("too_much_all_caps" in check(*messages)) is caps
    assert sum(map(is_all_caps, messages)) >= caps


@pytest.mark.parametrize(
    ("messages", "repeats"),
    [
        (["I like the tea a lot.", "And you, my friend?", "i like tea,   a lot!"], True),
        (["I like tea a lot.", "What do you say?", "What do you say?"], False),  # only the first is compared
        (["I like tea a lot."], False),
        (["👍", "👍"], True),
        (["你好吗", "你好吗"], True),
        (["?!", "..."], False),  # punctuation alone is compared as it is
        (["...", "..."], True),
        (["", ""], False),
        (["the", "a"], False),
        (["ＦＵＬＬ width", "full width"], True),
    ],
)
def test_a_later_message_that_equals_the_first_is_a_repeat(messages: list[str], repeats: bool) -> None:
    assert ("exact_match" in check(*messages)) is repeats


def test_unsafe_messages_are_named_by_their_number_from_one() -> None:
    assert check(GOOD[0], "What the fuck is this nonsense?", GOOD[1], "You are a BASTARD, sir.") == "unsafe:2,unsafe:4"


@pytest.mark.parametrize(
    ("first", "greets"),
    [
        ("Hi, how are you today?", True),
        ("hello there my friend", True),
        ("Heyyy what is going on", True),
        ("“Good morning” to you all", True),
        ("What's up with that picture?", True),
        ("High mountains are a fine thing", False),
        ("His dog is very big", False),
        ("Hi-fi systems cost a lot", False),
        ("They say hello to us", False),
        ("你好,你今天好吗?", False),
        ("", False),
    ],
)
def test_a_greeting_counts_only_where_the_chat_had_already_begun(first: str, greets: bool) -> None:
    rest = ["I like long walks in the hills.", "And what about you?"]
    assert ("starts_with_greeting" in check(first, *rest, begun_before=True)) is greets
    assert "starts_with_greeting" not in check(first, *rest)


def test_several_violations_are_joined_by_commas_in_a_fixed_order() -> None:
    found = check("HELLO SHIT", "HELLO SHIT", begun_before=True)
    assert found == "under_min_length,too_much_all_caps,exact_match,unsafe:1,unsafe:2,starts_with_greeting"


@given(st.lists(st.text(), max_size=6), st.booleans())
def test_no_text_makes_the_checks_raise(messages: list[str], begun_before: bool) -> None:
    known = {"under_min_length", "too_much_all_caps", "exact_match", "starts_with_greeting"}
    known |= {f"unsafe:{number}" for number in range(1, len(messages) + 1)}
    found = check(*messages, begun_before=begun_before)
    assert set(filter(None, found.split(","))) <= known


@given(st.text(alphabet=st.characters(codec=None, categories=None, min_codepoint=0, max_codepoint=0x10FFFF)))
def test_lone_surrogates_and_unassigned_characters_are_text_like_any_other(text: str) -> None:
    check(text, text, begun_before=True)


@given(st.lists(st.sampled_from([*GOOD, "OK", "你好", "", "WHAT DO YOU LIKE"]), max_size=5))
def test_what_is_said_after_the_first_message_adds_no_greeting(messages: list[str]) -> None:
    assert "starts_with_greeting" not in check(GOOD[0], *messages, "hello", begun_before=True)


def test_harmless_words_near_an_offensive_one_are_let_through() -> None:
    harmless = """
        assess assassin class passage cumin cocktail peacock dickens
        scunthorpe shitake therapist analysis bass grape pussycat hello shell title
        constitution buttery spicy spices
        document cucumber
        circumstances retardant pakistan phuket basement snigger niggle whorl porncupine
        canteen spicier prickly hoard country
    """
    matcher = offensive_matcher()
    assert [word for word in harmless.split() if matcher(word)] == []
    assert matcher("These sluts") and matcher("FUCKING unbelievable") and matcher("kill   yourself")


def test_the_matcher_is_built_once_even_when_all_conversations_ask_at_the_same_moment() -> None:
    start, found = threading.Barrier(8), []

    def ask() -> None:
        start.wait(60)
        found.append(offensive_matcher(str(SHIPPED_WORDS)).__self__)  # type: ignore[attr-defined]  # a bound method

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(matcher) for matcher in found}) == 1
    assert len(found) == 8


def test_a_list_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    words = tmp_path / "words.list"
    words.write_text("# mine\n\nGurke  # vegetable\nrote bete\n", encoding="utf-8")
    assert read_words(str(words)) == ["gurke", "rote bete"]
    matcher = offensive_matcher(str(words))
    assert matcher("Du GURKE!")
    assert matcher("so eine rote Bete")
    assert not matcher("fuck")
    assert not matcher("# mine")


def test_a_list_that_is_not_there_is_said_with_its_flag(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"mephisto\.blueprint\.offensive_words_path: the file '.*none' does not"
    ):
        offensive_matcher(str(tmp_path / "none"))
