"""Whether a text has visible characters: one check for workers' messages and models' replies."""

from __future__ import annotations

import re
import unicodedata

_BLANK = frozenset("\u115f\u1160\u2065\u2800\u3164\uffa0")
"""Letters and symbols that show nothing: Hangul fillers, the empty Braille pattern, and a place kept for such."""
_RESERVED = (range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000))
"""Kept by Unicode for characters that show nothing."""

_UNSAVEABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters, and halves of characters, which can stand in JSON but in no UTF-8 file."""


def saveable(text: str) -> str:
    """Return a text without control characters and half characters."""
    return _UNSAVEABLE.sub("", text)


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or spaces, controls, joiners and fillers are all that it has."""
    return not any(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    """Whether a character shows something by itself: a letter, number, punctuation mark or symbol that isn't blank.

    One that is newer than Python's tables is taken for such; one of private use shows something only with its own font.
    """
    category = unicodedata.category(character)
    if category[0] not in "LNPS" and category != "Cn":
        return False
    return character not in _BLANK and not any(ord(character) in kept for kept in _RESERVED)
