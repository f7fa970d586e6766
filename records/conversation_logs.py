"""Finished conversations that people are to annotate: read from files of several formats, all faults at once.

A file of JSON Lines holds one conversation a line, each in one of these formats, which are told apart by their keys:

* OpenAI messages: ``{"messages": [{"role", "content"}, …]}``;
* ShareGPT: ``{"conversations": [{"from", "value"}, …]}``;
* ParlAI: ``{"dialog": [[{"id", "text"}, {"id", "text"}], …]}``, the person's act first in each exchange;
* this project's own records (:mod:`model_chat.records.schema`), of whatever age.

In place of a file, a folder of own records is read, as a run has saved them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from model_chat.errors import ConfigurationError, ModelChatError
from model_chat.records.reading import (
    ReadConversation,
    ReadUtterance,
    Source,
    UnreadableError,
    list_files,
    parse_conversation,
    read_conversation,
)
from model_chat.records.schema import HUMAN_IDX, MODEL_IDX, Completion
from model_chat.records.visible_text import is_blank

FAULTS_SHOWN = 20
FAULTS_OF_A_LINE = 3
UTF8_MARK = b"\xef\xbb\xbf"
"""What some editors put before the first line of a file, and files that were joined have in between."""
LONGEST_TEXT = 200_000
"""Characters of one message."""
LONGEST_NAME = 300
"""Characters of an id, or of a model's name."""
UNKNOWN_MODEL = "unknown"
"""The nickname of a model that a log does not name."""
FORMATS = "OpenAI messages ('messages'), ShareGPT ('conversations'), ParlAI or own records ('dialog')"
_MODEL_NAMES = frozenset({"gpt", "assistant", "model", "bot", "chatgpt", "bing", "bard"})
_HUMAN_NAMES = frozenset({"human", "user"})
_LEFT_OUT = frozenset({"system", "developer", "context"})
"""Speakers whose texts people did not see."""
_ID_KEYS = ("id", "conversation_id")
_MODEL_KEYS = ("model_nickname", "model")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One utterance of a finished conversation.

    Attributes:
        agent_idx: 0 for the person, 1 for the model.
        fake_start: it was shown as already said, and is not judged.
    """

    agent_idx: int
    text: str
    fake_start: bool = False

    @property
    def is_judged(self) -> bool:
        """Whether it is a reply that the model gave itself."""
        return self.agent_idx == MODEL_IDX and not self.fake_start


@dataclass(frozen=True)
class LoggedConversation:
    """A finished conversation that people are to annotate.

    Attributes:
        id: its own, or where it was found.
        dialog: up to the last reply that is judged; what the person said after it can't matter to a judgement.
        model_nickname: :data:`UNKNOWN_MODEL` where it is not known.
        worker_id: who talked with the model, where an own record says it: they never annotate it.
        context: further keys of the record that annotations of it have as well.
        sha256: of the model's name, the context and the dialogue.
    """

    id: str
    dialog: tuple[LogLine, ...]
    model_nickname: str = UNKNOWN_MODEL
    worker_id: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    model_opt: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        known = [
            self.model_nickname,
            self.context.get("personas"),
            self.context.get("additional_context"),
            [[line.agent_idx, line.text] for line in self.dialog],
        ]
        object.__setattr__(self, "sha256", hashlib.sha256(json.dumps(known).encode()).hexdigest())

    @property
    def replies(self) -> int:
        """How many replies are judged."""
        return sum(line.is_judged for line in self.dialog)


class LogError(ModelChatError, ValueError):
    """Why a line, or a record, is no conversation that can be annotated."""


def read_logs(flag: str, path: Path) -> list[LoggedConversation]:
    """Read all conversations of a file or folder.

    Args:
        path: a file of JSON Lines, or a folder of own records; incomplete records of a folder are left out, and so are
            annotations of other conversations, and those in which a model played the person.

    Raises:
        ConfigurationError: it can't be read, or holds nothing; or a sentence for each line that is no conversation, that
            holds nothing to judge, or that is there twice.
    """
    if not path.exists():
        raise ConfigurationError(
            f"{flag}: '{path}' does not exist; give a file of JSON Lines, or a folder of conversations."
        )
    faults: list[str] = []
    found: list[LoggedConversation] = []
    places: dict[str, str] = {}
    ids: dict[str, str] = {}
    try:
        for place, read in _folder(path) if path.is_dir() else _lines(path):
            try:
                logged = read()
                if logged is None:
                    continue
                _check_new(logged, places, ids, place)
            except (LogError, UnreadableError) as error:
                faults.append(f"{flag}: '{path}', {place}: {error}.")
                continue
            found.append(logged)
    except OSError as error:
        raise ConfigurationError(
            f"{flag}: '{path}' can't be read ({error.strerror}); change its permissions."
        ) from None
    more = len(faults) - FAULTS_SHOWN
    if more > 0:
        faults = [*faults[:FAULTS_SHOWN], f"{flag}: '{path}': {more} more conversations have faults."]
    if not found and not faults:
        faults.append(f"{flag}: '{path}' holds no finished conversation; give {FORMATS}, one JSON object a line.")
    ConfigurationError.raise_if(faults)
    return found


def _check_new(logged: LoggedConversation, places: dict[str, str], ids: dict[str, str], place: str) -> None:
    """Note a conversation.

    Raises:
        LogError: it, or its id, is there already.
    """
    if logged.sha256 in places:
        raise LogError(f"is the same conversation as {places[logged.sha256]}; leave one of them out")
    if logged.id in ids:
        raise LogError(f"has the same id '{logged.id}' as {ids[logged.id]}; give each conversation its own")
    places[logged.sha256] = ids[logged.id] = place


_Reader = Callable[[], LoggedConversation | None]


def _lines(path: Path) -> Iterator[tuple[str, _Reader]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            data = line.removeprefix(UTF8_MARK)
            if data.strip():
                yield f"line {number}", partial(log_of_line, data, f"{path.name}:{number}")


def _folder(path: Path) -> Iterator[tuple[str, _Reader]]:
    for source in list_files([path]).sources:
        yield f"'{Path(source.path).name}'", partial(_of_file, source)


def _of_file(source: Source) -> LoggedConversation | None:
    conversation = read_conversation(source)
    if (
        conversation.status is Completion.INCOMPLETE
        or conversation.judged_conversation is not None
        or conversation.simulated
    ):
        return None
    return log_of_record(conversation, Path(source.path).stem)


def log_of_line(data: bytes, name: str) -> LoggedConversation:
    """Read a line of a file.

    Args:
        name: of the conversation, where it has no id of its own.

    Raises:
        LogError, UnreadableError: it is no conversation that can be annotated.
    """
    try:
        text = data.decode()
        if "\0" in text:  # as in UTF-16 of ASCII; JSON has none
            raise UnicodeError
        loaded = orjson.loads(text)
    except UnicodeError:
        raise LogError("is not UTF-8; save the file as UTF-8") from None
    except orjson.JSONDecodeError as error:
        raise LogError(f"is no JSON ({error.msg}, character {error.pos + 1}); write one JSON object a line") from None
    if not isinstance(loaded, dict):
        raise LogError("is no JSON object; write one conversation a line, without a list around them")
    kinds = [key for key in ("messages", "conversations", "dialog") if key in loaded]
    if len(kinds) != 1:
        what = f"has {' and '.join(map(repr, kinds))}" if kinds else "has none of the known keys"
        raise LogError(f"{what}; give {FORMATS}")
    entries = loaded[kinds[0]]
    if not isinstance(entries, list) or not entries:
        raise LogError(f"'{kinds[0]}' is no list of messages, or is empty")
    own_id = _named(loaded, _ID_KEYS) or name
    if kinds[0] == "dialog" and not isinstance(entries[0], list):
        conversation = parse_conversation(loaded)
        if conversation.status is Completion.INCOMPLETE:
            raise LogError("the conversation is incomplete; leave it out")
        if conversation.judged_conversation is not None:
            raise LogError("is an annotation of another conversation; leave it out")
        if conversation.simulated:
            raise LogError("a model played the person (simulated); leave it out")
        return log_of_record(conversation, own_id)
    lines: Iterable[LogLine] = _read_each(entries, _READERS[kinds[0]])
    if kinds[0] == "messages":
        lines = _as_shown(lines, loaded)
    model = _named(loaded, _MODEL_KEYS) or UNKNOWN_MODEL
    return _checked(LoggedConversation(own_id, to_last_reply(lines), model, _named(loaded, ("worker",))))


def _named(loaded: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these keys that has a value, in the object itself or in its ``metadata``."""
    metadata = loaded.get("metadata")
    for place in (loaded, metadata if isinstance(metadata, dict) else {}):
        for key in keys:
            value = place.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
                name = str(value).strip()
                if len(name) > LONGEST_NAME:
                    raise LogError(f"'{key}' has {len(name):,} characters; give at most {LONGEST_NAME}")
                return name
    return None


def _read_each(entries: Sequence[Any], read: Callable[[int, Any], Iterable[LogLine]]) -> list[LogLine]:
    """Read what a conversation is made of.

    Args:
        read: gets an entry's number, from 1, and the entry.

    Raises:
        LogError: it names the first faults, of all entries.
    """
    lines: list[LogLine] = []
    faults: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            lines += read(number, entry)
        except LogError as error:
            faults.append(str(error))
    if faults:
        more = [f"and {len(faults) - FAULTS_OF_A_LINE} more"] if len(faults) > FAULTS_OF_A_LINE else []
        raise LogError("; ".join([*faults[:FAULTS_OF_A_LINE], *more]))
    return lines


def _openai(number: int, entry: Any) -> Iterator[LogLine]:
    if not isinstance(entry, dict):
        raise LogError(f"message {number} is no object with 'role' and 'content'")
    return _line_of(number, "role", entry, lambda: _content(number, entry.get("content")))


def _as_shown(lines: Iterable[LogLine], loaded: Mapping[str, Any]) -> Iterator[LogLine]:
    """Mark what had been shown as already said, where the line is of this project's own export, which says so."""
    metadata = loaded.get("metadata")
    shown = metadata.get("shown_as_said") if isinstance(metadata, dict) else None
    positions = set(shown) if isinstance(shown, list) and all(type(one) is int for one in shown) else set()
    said = [number for number, entry in enumerate(loaded["messages"]) if entry["role"].lower() not in _LEFT_OUT]
    for position, line in zip(said, lines, strict=True):
        yield LogLine(line.agent_idx, line.text, position in positions)


def _content(number: int, content: Any) -> Any:
    """The text of a message's content, which may be a list of parts."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise LogError(f"message {number} has parts that are no text; only text can be shown")
    return "".join(part for part in parts if part is not None)


def _sharegpt(number: int, entry: Any) -> Iterator[LogLine]:
    if not isinstance(entry, dict):
        raise LogError(f"message {number} is no object with 'from' and 'value'")
    return _line_of(number, "from", entry, lambda: entry.get("value"))


def _parlai(number: int, exchange: Any) -> Iterator[LogLine]:
    """Acts of an exchange: the first of two is the person's, the second the model's; one alone is the person's."""
    if not isinstance(exchange, list) or not all(isinstance(act, dict) for act in exchange):
        raise LogError(f"exchange {number} is no list of acts with 'id' and 'text'")
    acts = [act for act in exchange if not (isinstance(act.get("id"), str) and act["id"] in _LEFT_OUT)]
    if len(acts) > 2:
        raise LogError(f"exchange {number} has {len(acts)} acts; a person and a model have two")
    for agent_idx, act in zip((HUMAN_IDX, MODEL_IDX), acts, strict=False):
        yield LogLine(agent_idx, _text(f"exchange {number}", act.get("text")))


def _line_of(number: int, key: str, entry: Mapping[str, Any], text: Callable[[], Any]) -> Iterator[LogLine]:
    speaker = entry.get(key)
    name = speaker.lower() if isinstance(speaker, str) else ""
    if name in _LEFT_OUT:
        return
    if speaker is None:
        raise LogError(f"message {number} has no '{key}'")
    if name not in _HUMAN_NAMES | _MODEL_NAMES:
        raise LogError(
            f"message {number} has {key} {json.dumps(speaker)}; a conversation to judge has people and models only"
        )
    yield LogLine(HUMAN_IDX if name in _HUMAN_NAMES else MODEL_IDX, _text(f"message {number}", text()))


_READERS = {"messages": _openai, "conversations": _sharegpt, "dialog": _parlai}


def _text(where: str, text: Any) -> str:
    if not isinstance(text, str) or is_blank(text):
        raise LogError(f"{where} has no text")
    if len(text) > LONGEST_TEXT:
        raise LogError(f"{where} has {len(text):,} characters; nobody can judge more than {LONGEST_TEXT:,}")
    return text


def log_of_record(conversation: ReadConversation, name: str) -> LoggedConversation:
    """Return what people see of an own record.

    Raises:
        LogError: it can't be annotated.
    """
    if conversation.image_idx is not None or conversation.image_id is not None:
        raise LogError("is about an image, which can't be shown")
    if any(said.chat_idx is not None for said in conversation.dialog):
        raise LogError(
            "holds two chats that were compared; give an export (scripts/export.py --format openai), in which each is a "
            "conversation"
        )
    described = conversation.raw.get("task_description") if isinstance(conversation.raw, dict) else None
    opt = described.get("model_opt") if isinstance(described, dict) else None
    lines = _read_each(conversation.dialog, _own)
    return _checked(
        LoggedConversation(
            name,
            to_last_reply(lines),
            conversation.model_nickname,
            conversation.worker_id,
            {
                "personas": conversation.personas,
                "context_dataset": conversation.context_dataset,
                "person1_seed_utterance": conversation.person1_seed_utterance,
                "person2_seed_utterance": conversation.person2_seed_utterance,
                "additional_context": conversation.additional_context,
            },
            opt if isinstance(opt, dict) else {},
        )
    )


def _own(number: int, said: ReadUtterance) -> Iterator[LogLine]:
    yield LogLine(said.agent_idx, _text(f"utterance {number}", said.text), said.fake_start)


def to_last_reply(lines: Iterable[LogLine]) -> tuple[LogLine, ...]:
    """Return the lines that matter to a judgement: those up to the last reply that is judged."""
    dialog = tuple(lines)
    judged = [position for position, line in enumerate(dialog) if line.is_judged]
    return dialog[: judged[-1] + 1] if judged else ()


def _checked(logged: LoggedConversation) -> LoggedConversation:
    if not logged.dialog:
        raise LogError("holds no reply of a model")
    return logged
