"""Output that no terminal's encoding ends in a traceback.

Requesters see ✗, …, and whatever workers and models write, on terminals that know ASCII, Latin-1 or Windows' code pages too.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

HANDLER = "model_chat_terminal"
ASCII = {
    "✗": "x", "✓": "+", "…": "...", "→": "->", "←": "<-", "×": "x", "·": "-", "•": "*", "±": "+/-", "−": "-", "–": "-",
    "—": "-", "≥": ">=", "≤": "<=", "≈": "~", "“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u202f": " ",
}  # fmt: skip
"""What our own texts and rich's have, and what they become where a terminal has no such character."""
BRAILLE, BOXES = range(0x2800, 0x2900), range(0x2500, 0x2580)
"""Of rich's spinners, and of its tables."""


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_written, error.object[error.start : error.end])), error.end


def _written(character: str) -> str:
    if character in ASCII:
        return ASCII[character]
    if ord(character) in BRAILLE:
        return "*"
    if ord(character) in BOXES:
        return "|" if character in "│┃║" else "-"
    return character.encode("ascii", "backslashreplace").decode("ascii")


def let_any_terminal_be_written_to() -> None:
    """Write a character that standard output or error has none for as one that it has, or as its number.

    Half an emoji (a lone surrogate), which UTF-8 has none for either, is written as its number. What the environment says
    about errors (``PYTHONIOENCODING=ascii:replace``) stays.
    """
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        usual = ("strict", "surrogateescape", "backslashreplace")
        if isinstance(stream, io.TextIOWrapper) and stream.errors in usual:
            stream.reconfigure(errors=HANDLER)


def print_plain(console: Console, text: str) -> None:
    """Print a text as it is: without markup or highlighting, and with no line broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
