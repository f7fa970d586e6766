"""Normalisation of worker ids: ids that look alike, or differ only in invisible characters, are the same worker."""

from __future__ import annotations

import re
import unicodedata

PSEUDONYM_PREFIX = "anon-"
PSEUDONYM = re.compile(rf"{PSEUDONYM_PREFIX}[0-9a-f]{{16}}")
"""In place of a worker's id in deidentified exports."""
ID_WORD = re.compile(r"[A-Za-z0-9_-]+")
_SHORTEST_IN_TEXTS = 8
"""Characters from which an id with a digit is told from a word that somebody says."""
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that show nothing although Unicode calls them letters, marks or symbols."""


def normalise_worker_id(worker_id: str) -> str:
    """Return a worker id in the one spelling under which it is compared and kept.

    The spelling is Unicode's NFKC form without control characters, zero-width and bidirectional ones, variation selectors
    and half characters; white space at the ends goes, and any other run of it becomes one space. Normalising twice changes
    nothing.

    Returns:
        the id; "" where nothing of it can be seen.
    """
    spelled = " ".join(unicodedata.normalize("NFKC", worker_id).split())
    seen = "".join(character for character in spelled if not _is_invisible(character))
    # What has gone may have kept apart what belongs together: a letter and its accent, or two spaces.
    return " ".join(unicodedata.normalize("NFKC", seen).split())


def _is_invisible(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs")
        or character in _INVISIBLE
        or "\u180b" <= character <= "\u180f"
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0000" <= character <= "\U000e0fff"
    )


def is_unmistakable(name: str) -> bool:
    """Whether an id in a text is told from a word that somebody says: by its length and a digit."""
    return len(name) >= _SHORTEST_IN_TEXTS and any(character.isdigit() for character in name)
