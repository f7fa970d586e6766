"""Acceptability: five checks of what a worker wrote in a complete conversation.

The names in the result are the interface (section 6 of the behaviour specification): ``under_min_length``,
``too_much_all_caps``, ``exact_match``, ``unsafe:<n>`` and ``starts_with_greeting``, joined by commas.
"""

from __future__ import annotations

import re
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from model_chat.configuration.files import expand, read_text
from model_chat.quality.words import count_words

MIN_WORDS = 3
"""Words a message must have on average."""
MOST_ALL_CAPS = 2
"""So many messages in capitals are too much; of a single message, one is."""
MIN_UPPERCASE_LETTERS = 2
"""Letters; "I" or "B" alone is an answer, not shouting."""
PARLAI_LIST = "parlai"
"""Stands for the list that ParlAI fetches from parl.ai into its own data folder."""
SHIPPED_WORDS = Path(__file__).resolve().parent / "offensive_words.txt"

# A dash joins another word: "hi-fi", "yo-yo".
_GREETING = re.compile(
    r"\W*(?:hi+|hiya|hello+|hullo|hey+|heya|hey there|howdy|yo|greetings|good (?:morning|afternoon|evening|day)|sup|"
    r"what'?s up|whats up|g'?day)(?![\w-])",
    re.IGNORECASE,
)

Matcher = Callable[[str], Any]
"""Returns something true for text that contains offensive language."""


class AcceptabilityChecker:
    """Checks conversations. Has no state of its own: one is shared by all conversations and threads of a process."""

    def __init__(self, is_offensive: Matcher) -> None:
        self._is_offensive = is_offensive

    def violations(self, messages: Sequence[str], begun_before: bool) -> str:
        """Return the names of the checks that fail, joined by commas; "" when all is well, or when there is no message.

        Args:
            messages: the worker's own, in order; never what was only shown as said.
            begun_before: whether the conversation had already begun when the worker came (seeded text chat, image chat),
                so that a greeting shows that what was there has not been read.
        """
        return self.violations_of_chats([messages], begun_before)

    def violations_of_chats(self, chats: Sequence[Sequence[str]], begun_before: bool) -> str:
        """Return the same for a worker who has chatted more than once: each chat partner may be told the same.

        Messages are numbered through all chats.

        Args:
            begun_before: as for :meth:`violations`, in each chat.
        """
        messages = [text for chat in chats for text in chat]
        if not messages:
            return ""
        found = []
        if sum(map(count_words, messages)) < MIN_WORDS * len(messages):
            found.append("under_min_length")
        if sum(map(is_all_caps, messages)) >= min(MOST_ALL_CAPS, len(messages)):
            found.append("too_much_all_caps")
        if any(map(_repeats_first, chats)):
            found.append("exact_match")
        found += [f"unsafe:{number}" for number, text in enumerate(messages, 1) if self._is_offensive(text)]
        if begun_before and any(_GREETING.match(chat[0]) for chat in chats if chat):
            found.append("starts_with_greeting")
        return ",".join(found)


def _repeats_first(messages: Sequence[str]) -> bool:
    """Whether a later message of a chat equals the first one."""
    first, *later = map(_normalised, messages) if messages else [""]
    return bool(first) and first in later


def is_all_caps(text: str) -> bool:
    """Whether a text shouts: at least two letters that could be small, none of which is. False for "你好" and "123!"."""
    return text.isupper() and sum(character.isupper() for character in text) >= MIN_UPPERCASE_LETTERS


def _normalised(text: str) -> str:
    """Text without what does not make another message of it: case, width, punctuation, spaces, articles.

    ParlAI's ``normalize_answer``; what consists of nothing else (such as "?!" or "the") is compared as it is.
    """
    from parlai.core.metrics import normalize_answer

    folded = unicodedata.normalize("NFKC", text).casefold()
    normal: str = normalize_answer(folded)
    return normal or " ".join(folded.split())


_building = threading.Lock()
"""Guards the building of matchers: two threads that ask at once wait for one and the same."""


def offensive_matcher(path: str = str(SHIPPED_WORDS)) -> Matcher:
    """Return ParlAI's ``OffensiveStringMatcher`` for a list of words, built once for each list in a process.

    It is read-only once built, so threads share it. Needs no network unless ``path`` is ``parlai``.

    Args:
        path: a text file, one word or phrase a line, lines that begin with # are comments; or ``parlai``.

    Raises:
        ConfigurationError: the file can't be read (flag ``mephisto.blueprint.offensive_words_path``).
    """
    with _building:
        return _build_matcher(path)


@cache
def _build_matcher(path: str) -> Matcher:
    from parlai.utils.safety import OffensiveStringMatcher

    fetched = path == PARLAI_LIST
    matcher = OffensiveStringMatcher() if fetched else _matcher_of(read_words(path), OffensiveStringMatcher)
    contains: Matcher = matcher.contains_offensive_language
    return contains


def _matcher_of(words: Sequence[str], matcher_class: Any) -> Any:
    """Make a matcher of words: its own constructor reads a file as it is, comments and all."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(words))
        file.flush()
        return matcher_class(file.name)


def read_words(path: str) -> list[str]:
    """Read a list of words: lower case, without comments and blank lines.

    Raises:
        ConfigurationError: the file can't be read.
    """
    text = read_text("mephisto.blueprint.offensive_words_path", str(expand(path)))
    lines = (line.split("#")[0].strip().lower() for line in text.splitlines())
    return [line for line in lines if line]
