"""One counter of words, which every script gets a sensible number from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.quality.words import count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("  \n ", 0),
        ("one", 1),
        ("it's a hi-fi", 3),
        ("a\u3000b\u00a0c", 3),  # wide and no-break spaces
        ("well - no", 2),  # punctuation alone is no word
        ("C'est la vie, non ?", 4),
        ("...", 0),
        ("\u200b", 0),
        ("👍 👍", 2),
        ("नमस्ते आप कैसे हैं", 4),
        ("오늘 날씨가 좋네요", 3),
        ("你好", 1),  # 2 / 1.5 = 1.33
        ("今天天气很好。", 4),  # 6 / 1.5
        ("我今天去公园散步了，天气很好！", 9),  # 9 / 1.5 and 4 / 1.5 = 2.67
        ("我喜欢 jazz 音乐", 4),  # 2, 1 and 1
        ("iPhone手机很好用", 4),  # 1, and 5 / 1.5 = 3.33
        ("今日は公園に行きました", 7),  # 11 / 1.5 = 7.33
        ("ｶﾀｶﾅ", 3),
        ("𠀀𠀀𠀀", 2),  # beyond the first plane
        ("วันนี้อากาศดีมาก", 4),  # 12 letters without the marks
        ("สวัสดีครับ", 2),
        ("ខ្ញុំ\u200bចូលចិត្ត\u200bភ្នំ", 4),  # U+200B between words: 2, 5 and 2 letters: 1, 2 and 1
        ("བཀྲ་ཤིས་བདེ་ལེགས", 3),  # 8 letters of Tibetan
        ("ᬳᬦᬘᬭᬓ", 2),  # Balinese: 5 / 3 = 1.67
        ("ꦲꦤꦕꦫꦏ", 2),  # Javanese
        ("ꋊꂿꇪ", 2),  # Yi: 3 / 1.5
        ("ㄋㄧㄏㄠ", 3),  # Bopomofo: 4 / 1.5 = 2.67
        ("ሰላም፡ዓለም", 2),  # Ethiopic words with the wordspace between them
        ("ห้อง๑๒", 2),  # digits after a word without spaces
        ("ကျွန်တော် ပန်းခြံကို သွားခဲ့တယ်", 3),
    ],
)
def test_words_are_counted_in_every_script(text: str, words: int) -> None:
    assert count_words(text) == words


@given(st.text())
def test_no_text_makes_the_counter_raise_and_parts_add_up(text: str) -> None:
    assert count_words(f"{text}\n{text}") == 2 * count_words(text)


@given(st.text(alphabet="ab1 \n"))
def test_plain_text_is_counted_as_what_stands_between_spaces(text: str) -> None:
    assert count_words(text) == len(text.split())
