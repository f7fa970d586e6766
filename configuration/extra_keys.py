"""Keys of a requester's JSON file that this program does not know: harmless ones are named and ignored, others are faults.

Files that other versions of a task have written carry keys of their own (`dialog_id`, `comment`, `timestamp`). Ignoring
these changes nothing. Ignoring a key that was to change what a worker is asked or how the answers are judged (`image`,
`min_answers`), or a misspelt one (`min_corect`), would run another study than the requester wrote.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SIMILARITY = 0.85
"""``difflib``'s ratio from which two keys count as one misspelt: one or two letters in a short word."""

_TELLING_WORDS = """
accept accepted acceptable allow allowed annotate annotation annotations answer answers attempt attempts audio box boxes
bucket buckets button buttons checkbox choice choices condition correct correction criteria criterion deadline duration
exact exclude excluded expect expected explain explanation explanations fail failed failure failures fails feedback
forbidden gold guideline guidelines hint hints html ignore ignored image images img incorrect instruction instructions
include included lenient limit limits mandatory max maximum media min minimum multiple optional option options order
partial pass passing persona personas photo picture points prompt qualification question questions quiz random randomise
randomised randomize randomized require required retries retry right rule rules scale scoring seconds select selection
show shown shuffle shuffled skip skipped solution solutions strict threshold tick ticks timeout timer tries try video
weight weights wrong
"""
_CHANGES_WHAT_IS_ASKED = frozenset(_TELLING_WORDS.split())
"""Words in a key by which it would change what a worker sees or may answer, or how that is judged."""


def is_harmless(key: str, known: Collection[str]) -> bool:
    """Whether a key that nobody here reads can be ignored without changing what a worker is asked.

    Args:
        known: the keys that could be there and aren't; a key that resembles one of them is taken for a misspelt one.
    """
    if key.startswith("_"):  # how JSON files carry comments
        return True
    if any(word.lower() in _CHANGES_WHAT_IS_ASKED for word in _WORD.findall(key)):
        return False
    return not difflib.get_close_matches(key.lower(), known, n=1, cutoff=_SIMILARITY)
