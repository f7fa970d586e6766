"""What others made of a worker's conversations, and what holds the worker's words: annotations, files of logs, judgments.

:func:`known_places` says where Mephisto's database knows of such; :class:`Copies` finds them and removes the words.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from model_chat.records.conversation_logs import (
    UTF8_MARK,
    LogError,
    LoggedConversation,
    LogLine,
    log_of_line,
    log_of_record,
)
from model_chat.records.forget_words import Words, lines_of
from model_chat.records.journal import JOURNAL_NAME
from model_chat.records.legacy import worker_of
from model_chat.records.llm_judgments import JUDGE_LOG_NAME, JUDGMENTS_NAME
from model_chat.records.mephisto_database import open_read_only
from model_chat.records.reading import (
    Origin,
    ReadConversation,
    Source,
    UnreadableError,
    read_conversation,
)
from model_chat.records.schema import FORGOTTEN_SHA256, HUMAN_IDX
from model_chat.records.writing import replace_file

FORGOTTEN = "forgotten"
"""In place of a judgment in the judge's log, and of the id of a conversation in the annotator's record."""
_MOST_LINES = 20
"""Numbers of lines that are named."""
_STATES = ("state.json", "agent_data.json")
KEPT_OF_A_RECORD = frozenset(
    {
        "workers",
        "bad_workers",
        "hit_ids",
        "assignment_ids",
        "status",
        "reason",
        "task_name",
        "participation",
        "simulated",
    }
)
"""What pay depends on, beside the times of the utterances."""
_RUNS = "SELECT init_params FROM task_runs WHERE init_params LIKE '%chat_data_folder%'"
_ANNOTATORS = """
SELECT COALESCE(p.project_name, 'NO_PROJECT'), a.task_run_id, a.assignment_id, a.agent_id
FROM agents a
JOIN task_runs r ON r.task_run_id = a.task_run_id
JOIN tasks t ON t.task_id = a.task_id
LEFT JOIN projects p ON p.project_id = t.project_id
WHERE r.init_params LIKE '%logs_path%'
ORDER BY a.agent_id
"""


@dataclass(frozen=True)
class KnownPlaces:
    """Where the runs of a database have kept conversations.

    Attributes:
        folders: of conversations and annotations; those that are there. A relative path was given from the folder in which
            the run was started, which is taken for the present one.
        logs: files of finished conversations that people annotated.
        annotators: folders of the states of those who annotated.
    """

    folders: tuple[Path, ...]
    logs: tuple[Path, ...]
    annotators: tuple[Path, ...]


def known_places(database: Path) -> KnownPlaces:
    """Ask Mephisto's database where its runs have kept conversations.

    Raises:
        sqlite3.Error: it can't be read.
    """
    with open_read_only(database) as connection:
        blueprints = [_blueprint(stored) for (stored,) in connection.execute(_RUNS)]
        parts = connection.execute(_ANNOTATORS).fetchall()
    runs = database.resolve().parent / "data" / "runs"
    given = {
        Path(os.path.expanduser(os.path.expandvars(value)))  # noqa: PTH111 (as flags are read: no error for an unknown ~name)
        for blueprint in blueprints
        for key in ("chat_data_folder", "logs_path")
        if isinstance(value := blueprint.get(key), str) and value
    }
    places = sorted(given)
    return KnownPlaces(
        tuple(filter(Path.is_dir, places)),
        tuple(filter(Path.is_file, places)),
        tuple(runs.joinpath(*map(str, names)) for names in parts),
    )


def _blueprint(stored: object) -> dict[str, Any]:
    """The blueprint's flags of a run: YAML in JSON, as Mephisto stores it."""
    try:
        text = json.loads(str(stored))
        loaded = yaml.safe_load(text) if isinstance(text, str) else None
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    blueprint = loaded.get("blueprint") if isinstance(loaded, dict) else None
    return blueprint if isinstance(blueprint, dict) else {}


class Copies:
    """Finds what was made of a worker's conversations, and removes it.

    A copy is recognised by what is saved of the conversation with it, its ``sha256`` or the id that an export gave it; and
    by the words, where it had been converted to another format. What holds a message of the worker's and is not recognised
    is named, and so is what is of no conversation that was read.

    Args:
        names: the worker's ids, pseudonyms of exports among them.
        dry_run: whether everything stays as it is.
        ids_of: every id by which scripts/judge.py and exports know a conversation.
    """

    def __init__(
        self,
        names: Collection[str],
        dry_run: bool,
        ids_of: Callable[[ReadConversation], Collection[str]] = lambda _: (),
    ) -> None:
        self._names, self._dry_run, self._ids_of = names, dry_run, ids_of
        self._ids: set[str] = set()
        self._others_ids: set[str] = {FORGOTTEN_SHA256}
        self._words = Words()
        self._unknown: Counter[str] = Counter()
        self._alike: defaultdict[Path, list[int]] = defaultdict(list)
        self._not_searched: list[Path] = []
        self.changed: list[str] = []
        """What was removed, or would be: a file, or a file with a number of lines."""
        self.unread: list[Path] = []
        """Damaged annotations, and judges' logs with answers of which nobody can tell whose conversation they are about."""

    @property
    def remarks(self) -> list[str]:
        """What may be the worker's and was left as it is, a sentence for each place."""
        places = [f"'{path}'" + (f" (lines {_listed(lines)})" if lines else "") for path, lines in self._alike.items()]
        return [
            *(f"{place} holds a message of theirs; look at it, and delete it yourself" for place in places),
            *(f"'{path}' is no file of JSON Lines and was not searched; look yourself" for path in self._not_searched),
            *(
                f"{count:,} {what} of conversations that are in no folder or file that was searched, so that nobody can "
                "tell whether they are theirs; name those by --also, or look yourself"
                for what, count in self._unknown.items()
            ),
        ]

    def find(self, sources: Iterable[Source], logs: Iterable[Path]) -> None:
        """Learn which conversations are the worker's, and what copies of them are known by.

        Args:
            sources: of all that may be a conversation, or an annotation of one.
            logs: files of finished conversations.
        """
        annotations: list[ReadConversation] = []
        for source in sources:
            try:
                conversation = read_conversation(source)
            except UnreadableError:
                continue
            if conversation.judged_conversation is None:
                self._take(conversation, conversation.worker_id in self._names)
            else:
                annotations.append(conversation)
        for path in logs:
            for _, logged in _logged(path):
                if isinstance(logged, LoggedConversation) and self._is_theirs(logged):
                    self._ids.add(logged.sha256)
                    self._words.take(logged.dialog, is_theirs=True)
                elif isinstance(logged, LoggedConversation) and not self._words.shares(_human_texts(logged)):
                    self._others_ids.add(logged.sha256)
        for conversation in annotations:  # the whole ones of a log that was converted are recognised by the words
            judged = conversation.judged_conversation
            if judged and (self._is_copy(conversation) or self._words.is_theirs(lines_of(_dialog(conversation)))):
                self._ids.add(judged.sha256)
        for conversation in annotations:
            if self._is_copy(conversation):
                self._ids |= {*self._ids_of(conversation)}
            elif not self._others_ids.isdisjoint(_ids_in(conversation)):
                self._others_ids |= {*self._ids_of(conversation)}

    def _take(self, conversation: ReadConversation, is_theirs: bool) -> None:
        ids = self._ids if is_theirs else self._others_ids
        ids |= {*self._ids_of(conversation)}
        with contextlib.suppress(LogError):  # else nothing of it can have been annotated as it is
            ids.add(log_of_record(conversation, "").sha256)
        for chat in {said.chat_idx for said in conversation.dialog}:  # an export has each of two chats by itself
            self._words.take(_dialog(conversation, chat), is_theirs)

    def _is_theirs(self, logged: LoggedConversation | str | None) -> bool:
        if not isinstance(logged, LoggedConversation):
            return logged in self._names
        return (
            logged.worker_id in self._names
            or not self._ids.isdisjoint((logged.id, logged.sha256))
            or self._words.is_theirs(lines_of(logged.dialog))
        )

    def _is_copy(self, conversation: ReadConversation) -> bool:
        return not self._ids.isdisjoint(_ids_in(conversation))

    def _look_at(self, path: Path, ids: Collection[str], texts: Collection[str], kind: str) -> None:
        """Note what is not recognised as a copy of the worker's conversations, nor of another's."""
        if not self._others_ids.isdisjoint(ids):
            return
        if self._words.shares(texts):
            self._alike[path] = []
        elif ids:
            self._unknown[kind] += 1

    def remove_annotations(self, sources: Iterable[Source]) -> None:
        """Delete the files of annotations of the worker's conversations."""
        for source in sources:
            try:
                conversation = read_conversation(source)
            except UnreadableError:
                self._note_damaged(Path(source.path))
                continue
            path = Path(source.path).resolve()
            if conversation.judged_conversation is not None and not self._is_copy(conversation):
                where = f"annotations in '{path.parent}'"
                self._look_at(path, _ids_in(conversation), _human_texts(conversation), where)
            elif self._is_copy(conversation):
                self.changed.append(str(path))
                if not self._dry_run:
                    path.unlink(missing_ok=True)

    def _note_damaged(self, path: Path) -> None:
        """Note a file that can't be read, if it names one of the worker's conversations."""
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if any(known.encode() in data for known in self._ids):
                self.unread.append(path)

    def empty_states(self, folders: Iterable[Path]) -> None:
        """Remove the words from what Mephisto keeps of the annotators; what their pay depends on stays."""
        for folder in folders:
            journal = folder / JOURNAL_NAME
            contents: dict[Path, Any] = {}
            for path in (*(folder / name for name in _STATES), journal):
                contents[path] = _loaded(path, is_journal=path == journal)
            ids = {one for content in contents.values() for one in _judged_in(content)}
            if self._ids.isdisjoint(ids):
                where = f"annotators' states in '{folder.parent.parent}'"
                self._look_at(folder, ids, {*_texts_in([*contents.values()])}, where)
                continue
            self.changed.append(str(folder))
            if self._dry_run:
                continue
            for path, content in contents.items():
                if path != journal and isinstance(content, dict):
                    replace_file(path, json.dumps(_without_words(content), indent=1).encode("ascii"), durable=True)
            journal.unlink(missing_ok=True)  # last: it may be what the folder is recognised by

    def remove_logs(self, paths: Iterable[Path]) -> None:
        """Empty the worker's lines in files of finished conversations; the others keep their numbers, which may be ids."""
        for path in paths:
            read = [*_logged(path)]
            theirs = [self._is_theirs(logged) for _, logged in read]
            objects = [_object(line.removeprefix(UTF8_MARK)) for line, _ in read]
            if any(line.strip() for line, _ in read) and not any(objects):
                self._not_searched.append(path)
            alike = [
                number
                for number, (one, drop) in enumerate(zip(objects, theirs, strict=True), 1)
                if not drop and self._words.shares(_texts_in(one))
            ]
            if alike:
                self._alike[path] = alike
            self._replace(
                path, [b"" if drop else line for (line, _), drop in zip(read, theirs, strict=True)], sum(theirs)
            )

    def remove_judgments(self, folder: Path) -> None:
        """Remove a judge's judgments of the worker's conversations; what they have cost stays in its log."""
        judgments, log = folder / JUDGMENTS_NAME, folder / JUDGE_LOG_NAME
        keys: set[str] = set()
        others: set[str] = set()
        kept: list[bytes] = []
        lines = judgments.read_bytes().split(b"\n") if judgments.is_file() else []
        for line in lines:
            judgment = _object(line)
            about = judgment.get("conversation")
            is_theirs = about in self._ids
            if isinstance(about, str) and not is_theirs:
                self._look_at(judgments, {about}, (), f"judgments in '{judgments}'")
            (keys if is_theirs else others).add(str(judgment.get("prompt_sha256")))
            if not is_theirs:
                kept.append(line)
        keys -= others  # the same prompt may have been about several conversations that began alike
        if log.is_file():
            entries = [(line, _object(line)) for line in log.read_bytes().split(b"\n")]
            emptied = [_emptied(entry) if entry.get("key") in keys else entry for _, entry in entries]
            changed = [before != after for (_, before), after in zip(entries, emptied, strict=True)]
            self._replace(
                log,
                [
                    json.dumps(after).encode("ascii") if change else line
                    for (line, _), after, change in zip(entries, emptied, changed, strict=True)
                ],
                sum(changed),
            )
            if self._ids and any(_has_words(entry) and entry.get("key") not in keys | others for _, entry in entries):
                self.unread.append(log)
        self._replace(judgments, kept, len(lines) - len(kept))

    def _replace(self, path: Path, lines: list[bytes], changed: int) -> None:
        if changed:
            path = path.resolve()
            self.changed.append(f"{path} ({changed} lines)")
            if not self._dry_run:
                replace_file(path, b"\n".join(lines), durable=True)


def states_of(folders: Iterable[Path]) -> Iterator[Source]:
    """The conversations in the states of agents."""
    for folder in folders:
        for name in _STATES:
            if (folder / name).is_file():
                yield Source(str(folder / name), origin=Origin.DATABASE, record_id=folder.name)


def _dialog(conversation: ReadConversation, chat: int | None = None) -> Iterator[LogLine]:
    """The lines of a conversation, or of one of two chats."""
    return (
        LogLine(said.agent_idx, said.text, said.fake_start) for said in conversation.dialog if said.chat_idx == chat
    )


def _human_texts(conversation: ReadConversation | LoggedConversation) -> set[str]:
    return {said.text for said in conversation.dialog if said.agent_idx == HUMAN_IDX}


def _listed(lines: list[int]) -> str:
    more = f" and {len(lines) - _MOST_LINES:,} more" if len(lines) > _MOST_LINES else ""
    return ", ".join(map(str, lines[:_MOST_LINES])) + more


def _ids_in(conversation: ReadConversation) -> set[str]:
    """What an annotation saves of the conversation by which it is known."""
    judged = conversation.judged_conversation
    return set() if judged is None else {judged.id, judged.sha256}


def _texts_in(value: Any) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(entry)


def _logged(path: Path) -> Iterator[tuple[bytes, LoggedConversation | str | None]]:
    """The lines of a file of logs, and what they hold: of one that nobody could annotate, the worker, if it names any."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        data = line.removeprefix(UTF8_MARK)
        try:
            yield line, log_of_line(data, f"{path.name}:{number}")
        except (LogError, UnreadableError):
            yield line, _worker_of(_object(data))


def _worker_of(loaded: dict[str, Any]) -> str | None:
    metadata = loaded.get("metadata")
    for place in (loaded, metadata if isinstance(metadata, dict) else {}):
        if isinstance(place.get("worker"), str):
            return str(place["worker"])
    return worker_of(loaded) if isinstance(loaded.get("workers"), list) else None


def _loaded(path: Path, is_journal: bool) -> Any:
    """The JSON of a state, or of all lines of a journal; None where there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if is_journal:
        return [_object(line) for line in data.split(b"\n")]
    return _object(data) or None


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for what is none."""
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _judged_in(value: Any) -> Iterator[str]:
    """Every id and ``sha256`` of a finished conversation that records somewhere in a value are annotations of."""
    if isinstance(value, list):
        for entry in value:
            yield from _judged_in(entry)
    elif isinstance(value, dict):
        judged = value.get("judged_conversation")
        if isinstance(judged, dict):
            yield from (one for name in ("id", "sha256") if isinstance(one := judged.get(name), str))
        for entry in value.values():
            yield from _judged_in(entry)


def _without_words(state: dict[str, Any]) -> dict[str, Any]:
    """An annotator's state without anything that was shown or answered."""
    outputs = state.get("outputs")
    messages = outputs.get("messages") if isinstance(outputs, dict) else None
    kept = []
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        world, final = message.get("WORLD_DATA"), message.get("final_chat_data")
        if isinstance(world, dict):
            kept.append({**message, "WORLD_DATA": {"custom_data": _record_without_words(world.get("custom_data"))}})
        elif isinstance(final, dict):
            kept.append({**message, "final_chat_data": _record_without_words(final)})
    return {**state, "outputs": {"messages": kept, "final_submission": None}}


def _record_without_words(record: Any) -> Any:
    if not isinstance(record, dict):
        return None
    described = record.get("task_description")
    nickname = described.get("model_nickname") if isinstance(described, dict) else None
    dialog = record.get("dialog")
    return {
        **{key: value if key in KEPT_OF_A_RECORD else None for key, value in record.items()},
        "acceptability_violations": [None],
        "task_description": {"model_nickname": nickname},
        "judged_conversation": {"id": FORGOTTEN, "sha256": FORGOTTEN_SHA256},
        "dialog": [
            {"agent_idx": line.get("agent_idx"), "text": "", "id": line.get("id"), "timestamp": line.get("timestamp")}
            for line in (dialog if isinstance(dialog, list) else [])
            if isinstance(line, dict)
        ],
    }


def _has_words(entry: dict[str, Any]) -> bool:
    """Whether an answer of a judge holds any text."""
    answers = entry.get("answers")
    return isinstance(answers, dict) and any(isinstance(value, str | list | dict) for value in answers.values())


def _emptied(entry: dict[str, Any]) -> dict[str, Any]:
    """An answer in a judge's log that counts as given and as cost, and whose text is gone."""
    emptied = dict.fromkeys(("boxes", "answers", "ratings"))
    return {**entry, **emptied, "missing": FORGOTTEN, "is_final": True}
