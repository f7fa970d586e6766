"""Reading saved conversations: from JSON files in date folders and, with the same schema, from Mephisto's database.

A :class:`Source` says where one conversation lies; :func:`read_conversation` turns it into a :class:`ReadConversation`
or raises :class:`UnreadableError` with the reason. Listing is separate from reading, so that the caller can read in any
order, on several processes or machines, and needs memory for one conversation at a time.
"""

from __future__ import annotations

import datetime
import json
import logging
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from model_chat.errors import ConfigurationError, ModelChatError
from model_chat.records.legacy import MalformedError, as_bool, modernise, worker_of
from model_chat.records.schema import (
    FORGOTTEN_SHA256,
    HUMAN_IDX,
    MODEL_IDX,
    Completion,
    Generation,
    JudgedConversation,
    Pick,
)

logger = logging.getLogger(__name__)

INCOMPLETE_MARK = "incomplete"
"""In the name of a file: the original task saved conversations that were cut off so, and never counted them."""
MAX_RECORD_BYTES = 64 * 2**20
"""No conversation is larger; what is would fill the memory of the process that reads it."""
_DATE_FOLDER = re.compile(r"^\d{4}_\d{2}_\d{2}$")
_FILE_NAME = re.compile(r"^(?P<day>\d{8})_\d{6}.*?(?:_(?P<run_type>live|sandbox))?\.json$")


class Origin(StrEnum):
    """Which of the two records a conversation is read from."""

    FILE = "file"
    DATABASE = "database"


class ReadingReason(StrEnum):
    """Why a source gave no conversation."""

    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    NO_CONVERSATION = "no_conversation"


class UnreadableError(ModelChatError):
    """A source that gave no conversation."""

    def __init__(self, reason: ReadingReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[ReadingReason, str]]:
        """Exceptions travel between processes by their arguments."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Source:
    """Where one saved conversation lies.

    Attributes:
        folder: the folder of a JSON file, as the caller named it; None from the database.
        day: the day of collection, None when unknown (files: local time, database: UTC).
        run_type: `live` or `sandbox`, None when the file's name does not say.
        worker_id: the worker's name in Mephisto's database, for records that hold none.
        status: the agent's status in Mephisto's database; None for files.
        record_id: the agent's id in Mephisto's database; None for files.
        named_incomplete: the file's name says that the conversation is incomplete, as the original task's did.
    """

    path: str
    origin: Origin = Origin.FILE
    folder: str | None = None
    day: datetime.date | None = None
    run_type: str | None = None
    worker_id: str | None = None
    status: str | None = None
    record_id: str | None = None
    named_incomplete: bool = False

    @property
    def name(self) -> str:
        """What the source is called in lists of excluded conversations."""
        if self.origin is Origin.DATABASE:
            return f"agent {self.record_id}"
        return _printable(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """What a list may call the source: as :attr:`name` does, or a file by its own name, with or without its ending."""
        if self.origin is Origin.DATABASE:
            return (self.name,)
        path = Path(self.path)
        return self.path, path.name, path.stem


def _ticks(value: object) -> object:
    """Turn words that are ticks into booleans; numbers stay, since only a bucket's 0 or 1 is a tick (`turn_idx` is none)."""
    if not isinstance(value, dict):
        return value
    read: dict[str, Any] = {}
    for key, entry in value.items():
        tick = as_bool(entry) if isinstance(entry, str) else None
        read[key] = entry if tick is None else tick
    return read


def _is_set(value: object) -> object:
    return False if value is None else value


_Seconds = Annotated[float, Field(allow_inf_nan=False)]


def _generation(value: object) -> Generation | None:
    """Read how a reply was made; what is of the wrong type is taken for unknown, and no reason to refuse a conversation."""
    return Generation.of(value) if isinstance(value, dict) else None


def _nickname(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _chat(value: object) -> object:
    return value if type(value) is int and value in (0, 1) else None


class ReadTiming(BaseModel):
    """When a human turn happened, epoch seconds by the page's clock; what could not be told is None."""

    shown: _Seconds | None = None
    first_key: _Seconds | None = None
    sent: _Seconds | None = None


class ReadUtterance(BaseModel):
    """One utterance, of whatever age. Keys that are not listed here are in :attr:`ReadConversation.raw`."""

    agent_idx: Annotated[int, Field(ge=HUMAN_IDX, le=MODEL_IDX)]
    text: str
    fake_start: Annotated[bool, BeforeValidator(_is_set)] = False
    problem_data: Annotated[dict[str, Any] | None, BeforeValidator(_ticks)] = None
    """Bucket -> ticked, for the utterance that carries it; numbers and what is no tick are kept as they are."""
    timestamp: _Seconds | None = None
    timing: ReadTiming | None = None
    generation: Annotated[Generation | None, BeforeValidator(_generation)] = None
    """How a model's reply was made; None in older records."""
    model_nickname: Annotated[str | None, BeforeValidator(_nickname)] = None
    """Of the model that said it, where two models are compared."""
    chat_idx: Annotated[Literal[0, 1] | None, BeforeValidator(_chat)] = None
    """Which of two chats it belongs to, where whole chats are compared."""


class ReadComparedReply(BaseModel):
    """One side of a judgement."""

    model_nickname: Annotated[str, Field(min_length=1)]
    text: str | None = None
    generation: Annotated[Generation | None, BeforeValidator(_generation)] = None
    problem_data: Annotated[dict[str, Any] | None, BeforeValidator(_ticks)] = None
    """Bucket -> ticked, where boxes were ticked for both replies."""


class ReadComparison(BaseModel):
    """A judgement of two replies or conversations; see :class:`model_chat.records.schema.Comparison`."""

    turn_idx: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    question: str | None = None
    left: ReadComparedReply
    right: ReadComparedReply
    pick: Pick
    strength: Annotated[int, Field(ge=0, lt=128)] | None = None
    reason: str | None = None
    continued_with: Literal["left", "right"] | None = None

    @property
    def not_taken(self) -> ReadComparedReply | None:
        """The reply with which the conversation did not go on: in no dialogue. None for two conversations."""
        if self.continued_with is None:
            return None
        return self.right if self.continued_with == "left" else self.left


class ReadConversation(BaseModel):
    """A saved conversation as the analysis sees it, whichever record and version it came from."""

    dialog: list[ReadUtterance]
    ratings: list[int] | None = None
    """Answers to the final rating question(s), 1 to 5, in the questions' order; None when there are none."""
    worker_id: str
    hit_id: str | None = None
    assignment_id: str | None = None
    model_nickname: str
    acceptability_violation: str | None = None
    """Comma-separated names; None when nothing was found or nothing was checked."""
    bad_workers: list[str] = Field(default_factory=list)
    personas: list[list[str]] | None = None
    """`[the human's lines, the model's lines]`."""
    context_dataset: str | None = None
    person1_seed_utterance: str | None = None
    person2_seed_utterance: str | None = None
    additional_context: str | None = None
    image_idx: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    conditions: dict[str, str] | None = None
    image_id: str | None = None
    """The image teacher's own id, where the record holds the act about the image."""
    status: Completion = Completion.COMPLETE
    reason: str | None = None
    failed_generation: Annotated[Generation | None, BeforeValidator(_generation)] = None
    """Of the reply that the model could not give, where that ended the conversation."""
    comparisons: list[ReadComparison] | None = None
    judged_conversation: JudgedConversation | None = None
    """Which finished conversation was annotated; None where the worker talked with the model."""
    simulated: bool = False
    """Whether a model played the worker."""
    ending: str | None = None
    """What a panel's participant was told at the end; None for other providers."""
    raw: Any = Field(default=None, repr=False)
    """The JSON as it was saved, for what this class leaves out."""

    @property
    def is_forgotten(self) -> bool:
        """Whether it was an annotation of a conversation that has been deleted, and holds no words any more."""
        return self.judged_conversation is not None and self.judged_conversation.sha256 == FORGOTTEN_SHA256

    def exchanges(self) -> dict[int, int]:
        """Return the exchange of each of the model's replies: its place in the dialogue -> ``turn_idx``, -1 for an opening.

        What was only shown as said is in none.
        """
        exchange, found = -1, {}
        for place, utterance in enumerate(self.dialog):
            if utterance.fake_start:
                continue
            if utterance.agent_idx == HUMAN_IDX:
                exchange += 1
            else:
                found[place] = exchange
        return found

    def cost_usd(self) -> float:
        """Return what the model's replies have cost, as far as it is known; US dollars."""
        made = [*(utterance.generation for utterance in self.dialog), self.failed_generation]
        made += [judged.not_taken.generation for judged in self.comparisons or () if judged.not_taken is not None]
        return sum(generation.cost_usd or 0.0 for generation in made if generation is not None)


@dataclass(slots=True)
class FileListing:
    """What a walk through results folders found.

    Attributes:
        sources: one a JSON file, in the order of their names (which begin with the time) and then paths.
        other_files: files that are no conversations by their name, and were not read.
    """

    sources: list[Source] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)


def list_files(folders: Iterable[str | os.PathLike[str]], skip: Sequence[str | os.PathLike[str]] = ()) -> FileListing:
    """Find the JSON files of conversations in results folders.

    A results folder holds date folders (`YYYY_MM_DD`), each with JSON files; JSON files that lie directly in the
    results folder are taken as well, and a date folder may be named itself. A folder that is reached twice is read
    once. The order does not depend on the file system, nor on the order of ``folders``.

    Args:
        skip: folders that hold no conversations although they lie inside (the analysis' own output).

    Raises:
        ConfigurationError: a folder does not exist or can't be read.
    """
    named = [Path(folder) for folder in folders]
    ConfigurationError.raise_if(
        f"--results-folders names '{folder}', which is not a folder; give folders that exist, separated by commas (one "
        "with a comma in its name in double quotes)."
        for folder in named
        if not folder.is_dir()
    )
    skipped = {Path(folder).resolve() for folder in skip}
    listing = FileListing()
    seen: set[Path] = set()
    for folder in named:
        try:
            for place in (folder, *_date_folders(folder)):
                real = place.resolve()
                if real in seen or real in skipped:
                    continue
                seen.add(real)
                _list_folder(place, listing)
        except OSError as error:
            raise ConfigurationError(
                f"--results-folders names '{_printable(str(folder))}', which can't be read ({error.strerror}: "
                f"'{_printable(str(error.filename))}'); change its permissions, or name another folder."
            ) from error
    listing.sources.sort(key=lambda source: (os.path.basename(source.path), source.path))  # noqa: PTH119 (a plain string, 100,000 times)
    listing.other_files.sort()
    return listing


def _date_folders(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if _DATE_FOLDER.match(entry.name) and _is_folder(entry):
            yield folder / entry.name


def _list_folder(folder: Path, listing: FileListing) -> None:
    shown = _printable(str(folder))
    day_of_folder = _day(folder.name, "%Y_%m_%d") if _DATE_FOLDER.match(folder.name) else None
    for entry in os.scandir(folder):
        if _is_folder(entry):
            continue
        if not entry.name.endswith(".json") or entry.name.startswith(".") or _is_special(entry):
            listing.other_files.append(_printable(entry.path))
            continue
        match = _FILE_NAME.match(entry.name)
        day = day_of_folder
        if day is None and match is not None:
            day = _day(match["day"], "%Y%m%d")
        run_type = match["run_type"] if match else None
        listing.sources.append(
            Source(
                path=entry.path,
                folder=shown,
                day=day,
                run_type=run_type,
                named_incomplete=INCOMPLETE_MARK in entry.name.lower(),
            )
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads back to itself


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, a socket or a device: to open one may wait for ever."""
    try:
        return not entry.is_file() and not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a link to nothing, or to itself: reading reports it


def _printable(path: str) -> str:
    """A path for people and tables: a name that is not UTF-8 gets U+FFFD where it is not."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "replace")


def _day(text: str, form: str) -> datetime.date | None:
    try:
        return datetime.datetime.strptime(text, form).date()
    except ValueError:
        return None


def read_conversation(source: Source) -> ReadConversation:
    """Read one conversation.

    Raises:
        UnreadableError: the file can't be opened, is no JSON, holds no conversation or a malformed one.
    """
    try:
        with open(source.path, "rb") as file:  # noqa: PTH123 (a plain string, 100,000 times: 3 µs saved on each)
            data = file.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError:
        if source.origin is Origin.DATABASE:
            raise UnreadableError(
                ReadingReason.NO_CONVERSATION, f"Mephisto holds no data for this agent at {source.path}"
            ) from None
        raise UnreadableError(ReadingReason.UNREADABLE, "the file is gone") from None
    except OSError as error:
        raise UnreadableError(ReadingReason.UNREADABLE, error.strerror or str(error)) from error
    if len(data) > MAX_RECORD_BYTES:
        raise UnreadableError(
            ReadingReason.MALFORMED, f"it is larger than {MAX_RECORD_BYTES // 2**20} MiB, which no conversation is"
        )
    loaded = _loads(data)
    if source.origin is Origin.DATABASE:
        loaded = _custom_data(loaded)
        if source.worker_id and isinstance(loaded, dict) and worker_of(loaded) is None:
            loaded = {**loaded, "workers": [source.worker_id, *_after_first(loaded.get("workers"))]}
    conversation = parse_conversation(loaded)
    if source.named_incomplete and conversation.status is Completion.COMPLETE:
        conversation.status, conversation.reason = Completion.INCOMPLETE, "the file is named incomplete"
    return conversation


def _after_first(workers: object) -> list[Any]:
    return workers[1:] if isinstance(workers, list) else []


def parse_conversation(loaded: object) -> ReadConversation:
    """Make a conversation of what its JSON held.

    Raises:
        UnreadableError: it is malformed; the detail names the place.
    """
    try:
        return ReadConversation.model_validate(modernise(loaded))
    except MalformedError as error:
        raise UnreadableError(ReadingReason.MALFORMED, str(error)) from error
    except ValidationError as error:
        raise UnreadableError(ReadingReason.MALFORMED, _first_fault(error)) from error
    except RecursionError:
        raise UnreadableError(ReadingReason.MALFORMED, "it is nested too deeply") from None


def _loads(data: bytes) -> Any:
    """Parse JSON: fast where it is strict, and the way Python's own writer may have written it where it is not."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as strict:
        if not data.strip():
            raise UnreadableError(ReadingReason.MALFORMED, "the file is empty") from None
        try:
            # Python's json wrote NaN, Infinity and lone surrogates, and tells the encoding from the first bytes.
            return _clean(json.loads(data))
        except (ValueError, RecursionError):
            raise UnreadableError(ReadingReason.MALFORMED, f"it is no JSON: {strict}") from None


def _clean(value: Any) -> Any:
    """Replace what no table and no JSON file may hold: lone surrogates by U+FFFD, NaN and infinities by null."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    return value


def _custom_data(state: object) -> object:
    """The conversation in an agent's saved state: the world's data in the last message, or `final_chat_data`.

    In states of early versions of Mephisto, what a message holds is one level down, under `data`.
    """
    outputs = state.get("outputs") if isinstance(state, dict) else None
    messages = outputs.get("messages") if isinstance(outputs, dict) else None
    if isinstance(messages, list):
        for message in reversed(messages):
            if not isinstance(message, dict):
                continue
            for level in (message, message.get("data"), message.get("task_data")):
                if not isinstance(level, dict):
                    continue
                world_data = level.get("WORLD_DATA")
                if isinstance(world_data, dict) and world_data.get("custom_data"):
                    return world_data["custom_data"]
                if level.get("final_chat_data"):
                    return level["final_chat_data"]
    raise UnreadableError(ReadingReason.NO_CONVERSATION, "the agent's state holds no finished conversation")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    more = error.error_count() - 1
    return f"`{place}`: {fault['msg']}" + (f" (and {more} more)" if more else "")
