"""Counting words in every script: the one counter of the acceptability checks and of the analysis."""

from __future__ import annotations

import regex

_EAST_ASIAN = regex.compile(
    r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{scx=Katakana}\p{Bopomofo}\p{Yi}]&&\p{Alphabetic}]+", regex.V1
)
_EAST_ASIAN_LETTERS = 1.5
"""Letters a word: the mean of Chinese text, and near that of Japanese text with its particles."""
_COMPLEX = regex.compile(r"[\p{Line_Break=SA}\p{Tibetan}\p{Balinese}\p{Javanese}]+")
"""Thai, Lao, Khmer, Burmese and the others that Unicode breaks by dictionary (UAX #14, class SA), and their like."""
_COMPLEX_LETTERS = 3
"""Letters a word, without vowel signs and tone marks."""
_LETTER = regex.compile(r"\p{L}")
_SPACED = regex.compile(r"[\p{L}\p{N}\p{So}][^\s\u200b\u1361]*")


def count_words(text: str) -> int:
    """Count the words of a text.

    A word is what is between spaces (U+200B and the Ethiopic U+1361 are spaces, too), if it holds a letter, a digit or
    a symbol such as an emoji; punctuation alone is none. Where a script puts no spaces between words, their number is
    estimated from the letters of each run: 1.5 a word in Chinese and Japanese, 3 in Thai and the scripts like it, rounded
    to the nearest number, and 1 at least.
    """
    if text.isascii():
        return len(_SPACED.findall(text))
    east_asian = sum(max(1, round(len(run) / _EAST_ASIAN_LETTERS)) for run in _EAST_ASIAN.findall(text))
    rest = _EAST_ASIAN.sub(" ", text)
    letters = (len(_LETTER.findall(run)) for run in _COMPLEX.findall(rest))
    unspaced = sum(max(1, round(count / _COMPLEX_LETTERS)) for count in letters if count)
    return east_asian + unspaced + len(_SPACED.findall(_COMPLEX.sub(" ", rest)))
