"""Recognising a worker's dialogues in copies by the words, whatever a conversion did to white space or workers' ids."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from model_chat.records.conversation_logs import LogLine, to_last_reply
from model_chat.records.schema import HUMAN_IDX
from model_chat.records.worker_ids import ID_WORD, PSEUDONYM, is_unmistakable

SHORTEST_TELLING = 20
"""Bytes of UTF-8 from which a message that nobody else has written points to its author."""
_ID = "\0"
Line = tuple[int, str]
"""Who said what: `agent_idx`, text."""
Lines = tuple[Line, ...]


def plain(text: str) -> str:
    """Return a text in Unicode's NFKC form, each run of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def lines_of(dialog: Iterable[LogLine]) -> Lines:
    """The lines of a dialogue as they are compared."""
    return tuple((line.agent_idx, plain(line.text)) for line in dialog)


class Words:
    """What a worker and all others have said.

    A copy of a dialogue is recognised if all its lines are the same; if it has pseudonyms of a deidentified export, each may
    be in place of a word that could be an id.
    """

    def __init__(self) -> None:
        self._theirs: defaultdict[Lines, set[Lines]] = defaultdict(set)  # without what may be ids -> as said
        self._anothers: set[int] = set()
        self._messages: set[str] = set()
        self._messages_of_others: set[str] = set()

    def take(self, dialog: Iterable[LogLine], is_theirs: bool) -> None:
        """Learn a dialogue of the worker's, or of another's."""
        said = [*dialog]
        lines = lines_of(to_last_reply(said))
        own = next((at for at, line in enumerate(said) if _is_message(line)), 0)
        for begin in range(own + 1) if lines else ():  # in another format, what was only shown as said may be missing
            if is_theirs:
                self._theirs[_without_ids(lines[begin:])].add(lines[begin:])
            else:
                self._anothers.add(hash(lines[begin:]))
        messages = self._messages if is_theirs else self._messages_of_others
        messages |= {_without_id(plain(line.text)) for line in said if _is_message(line)}

    def is_theirs(self, lines: Lines) -> bool:
        """Whether a dialogue is the worker's."""
        return any(own == lines or _is_deidentified(lines, own) for own in self._theirs.get(_without_ids(lines), ()))

    def is_anothers(self, lines: Lines) -> bool:
        """Whether a dialogue is somebody else's that is known."""
        return hash(lines) in self._anothers

    def shares(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts is a message of the worker's that nobody else has written, and is no short one."""
        found = self._messages & {_without_id(plain(text)) for text in texts}
        return any(len(text.encode()) >= SHORTEST_TELLING for text in found - self._messages_of_others)


def _is_message(line: LogLine) -> bool:
    return line.agent_idx == HUMAN_IDX and not line.fake_start


def _without_id(text: str) -> str:
    return ID_WORD.sub(lambda match: _ID if is_unmistakable(match[0]) else match[0], text)


def _without_ids(lines: Lines) -> Lines:
    return tuple((agent_idx, _without_id(text)) for agent_idx, text in lines)


def _is_deidentified(copy: Lines, own: Lines) -> bool:
    """Whether two dialogues that are the same without ids differ in pseudonyms only."""
    return all(
        word == said or PSEUDONYM.fullmatch(word)
        for (_, text), (_, own_text) in zip(copy, own, strict=True)
        for word, said in zip(ID_WORD.findall(text), ID_WORD.findall(own_text), strict=True)
    )
