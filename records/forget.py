"""Forgetting a worker: the id is removed from every record, on request with what they wrote (docs/data-protection.md)."""

from __future__ import annotations

import json
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.records.forget_annotations import Copies, KnownPlaces, known_places, states_of
from model_chat.records.journal import ALLOCATION_NAME, AUDIT_NAME, JOURNAL_NAME
from model_chat.records.llm_judgments import JUDGE_LOG_NAME, JUDGMENTS_NAME
from model_chat.records.locks import STACK_LOCK, LockedError, hold, hold_data, runs_going_on
from model_chat.records.mephisto_database import DATABASE_NAME
from model_chat.records.participation import PANELS
from model_chat.records.reading import ReadConversation, list_files
from model_chat.records.writing import replace_file

SANDBOX_SUFFIX = "_sandbox"
"""What Mephisto appends to the names of workers on MTurk's sandbox, and of its mock provider."""
STATE_NAMES = ("state.json", "agent_data.json", "agent_meta.json")
STACK_NAMES = ("stack.json", "stack.journal")
NAMING_KEYS = frozenset({"workers", "bad_workers", "worker_id", "worker_name", "workerId", "participant", "worker"})
_OWN_LINES = frozenset({ALLOCATION_NAME, AUDIT_NAME, JUDGMENTS_NAME, JUDGE_LOG_NAME})
"""Files of JSON Lines that hold no finished conversations."""
_PATIENCE = 10.0

_PLACES = """
SELECT COALESCE(p.project_name, 'NO_PROJECT'), a.task_run_id, a.assignment_id, a.agent_id
FROM agents a JOIN tasks t ON t.task_id = a.task_id LEFT JOIN projects p ON p.project_id = t.project_id
WHERE a.worker_id = ?
"""
_ONBOARDING_PLACES = """
SELECT COALESCE(p.project_name, 'NO_PROJECT'), a.task_run_id, 'onboarding', 'onboarding_' || a.onboarding_agent_id
FROM onboarding_agents a JOIN tasks t ON t.task_id = a.task_id LEFT JOIN projects p ON p.project_id = t.project_id
WHERE a.worker_id = ?
"""


@dataclass(frozen=True)
class Forgotten:
    """What was changed, or would be.

    Attributes:
        pseudonym: that replaces the worker's id from now on.
        files: conversations among the files, the draws of a study's design, the audit log of its dashboard, and files of
            finished conversations.
        copies: where others' annotations and a model's judgments of the worker's conversations were deleted.
        unread: files that name the worker and are no JSON, or hold answers of a judge that may be about the worker's
            conversations; they were left as they are.
        remarks: a sentence for each further place that may hold what the worker wrote, and was left as it is.
    """

    pseudonym: str
    files: int
    states: int
    rows: int
    stacks: int
    copies: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def forget_worker(
    worker_id: str,
    database: Path,
    chat_data_folders: Iterable[Path] = (),
    stack_folders: Iterable[Path] = (),
    delete: bool = False,
    dry_run: bool = False,
    also: Iterable[Path] = (),
    aliases: Collection[str] = (),
    ids_of: Callable[[ReadConversation], Collection[str]] = lambda _: (),
) -> Forgotten:
    """Replace a worker's id by a random pseudonym in all records of all tasks.

    No run may be active meanwhile: it knows the worker and would write the id back. That is checked, and runs are kept from
    starting until the end, by locks on the data folder, on the folders of conversations and on the image stacks.

    The conversations of a worker still belong together afterwards, and count as collected; who the worker was can't be told
    from them any more, unless the texts reveal it: ``delete`` removes the texts as well, those in other people's annotations
    among them. It can be repeated, also after a crash in the middle: what others made of the conversations goes before
    these, by which it is recognised; the database, in which the worker is looked up, comes last.

    Args:
        database: Mephisto's ``database.db``; agents' states lie in its folder. The folders in which its runs have kept
            conversations, and their files of finished conversations, are changed as well.
        chat_data_folders: where conversations were saved; those that don't exist are passed over.
        stack_folders: of image chats, likewise.
        delete: whether the worker's conversations are deleted, in both records, rather than kept under the pseudonym.
        also: further places: folders of conversations or annotations, outputs of scripts/judge.py, Mephisto's data folders
            of studies of annotation, files of finished conversations, and folders of these.
        aliases: the worker's pseudonyms in deidentified exports.
        ids_of: every id by which scripts/judge.py and exports know a conversation; without it, judgments stay.

    Raises:
        ConfigurationError: a run is active, or the database can't be read or written.
        OSError: a file can't be read or written.
    """
    chats, stacks = [[*filter(Path.is_dir, folders)] for folders in (chat_data_folders, stack_folders)]
    further = [*also]
    databases = [database, *(path / DATABASE_NAME for path in further if (path / DATABASE_NAME).is_file())]
    known = [_known(one) for one in databases]
    flags = {path.resolve(): flag for flag, path in _folders_held(chats, further, known)}
    folders, logs = [*flags], _once([*_logs_in(further), *(path for one in known for path in one.logs)])
    pseudonym = f"forgotten-{secrets.token_hex(8)}"
    names = (*names_of(worker_id), *aliases)
    change = _Change(dict.fromkeys(names, pseudonym), dry_run, delete)
    copies = Copies(names, dry_run, ids_of)
    with _alone([one.resolve().parent for one in databases], flags, stacks):
        if delete:
            annotators = [folder for one in known for folder in one.annotators]
            sources, own = list_files(folders).sources, {*_own_states(database, names)}
            copies.find([*sources, *states_of([*annotators, *own])], logs)
            # Each comes before that by which it is recognised.
            for folder in folders:
                copies.remove_judgments(folder)
            copies.remove_annotations(sources)
            copies.empty_states(folder for folder in annotators if folder not in own)
            copies.remove_logs(logs)
        files = sum(change.conversation(Path(source.path)) for source in list_files(folders).sources)
        lines = [folder / name for folder in folders for name in (ALLOCATION_NAME, AUDIT_NAME)]
        files += sum(change.allocation(path) for path in lines if path.is_file())
        files += sum(change.logs(path) for path in logs)
        stack_files = sum(
            change.stack(folder / name) for folder in stacks for name in STACK_NAMES if (folder / name).is_file()
        )
        with _changing(database), closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection:
            ids = _row_ids(connection, names)
            if not dry_run:
                _forget_at_panels(database.resolve().parent, worker_id)
            states = sum(map(change.state, _states(connection, database, ids)))
            if not dry_run:
                with connection:
                    for row_id in ids:
                        connection.execute(
                            "UPDATE workers SET worker_name = ? WHERE worker_id = ?",
                            (f"{pseudonym}-{row_id}", row_id),
                        )
                        connection.execute("DELETE FROM granted_qualifications WHERE worker_id = ?", (row_id,))
                connection.execute("VACUUM")  # else the name stays readable in the file's free pages
    unread = tuple(map(str, (*change.unread, *copies.unread)))
    remarks = (*copies.remarks, *_exports_in(further)) if delete else ()
    return Forgotten(pseudonym, files, states, len(ids), stack_files, tuple(copies.changed), unread, remarks)


def names_of(worker_id: str) -> tuple[str, ...]:
    """The ids under which records and Mephisto's database name a worker."""
    return (worker_id, f"{worker_id}{SANDBOX_SUFFIX}", *(f"{panel}:{worker_id}" for panel in PANELS))


def _logs_in(further: Iterable[Path]) -> Iterator[Path]:
    """Files of finished conversations that are named, or lie in a folder that is."""
    for path in further:
        if path.is_dir():
            yield from (file for file in sorted(path.glob("*.jsonl")) if file.name not in _OWN_LINES)
        else:
            yield path


def _exports_in(further: Iterable[Path]) -> Iterator[str]:
    """A sentence for each folder that holds exports, by their manifests."""
    for path in further:
        formats = sorted(file.stem.removeprefix("manifest-") for file in path.glob("manifest-*.json"))
        if formats:
            yield (
                f"'{path}' holds exports ({', '.join(formats)}), of which only conversations in JSON Lines are changed; "
                "make them again with --overwrite, or delete them"
            )


@contextmanager
def _changing(database: Path) -> Iterator[None]:
    """Turn what keeps a database from being read or changed into a sentence.

    Raises:
        ConfigurationError: something does.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeEncodeError) as error:
        raise ConfigurationError(f"--database-path: '{database}' can't be changed ({error}).") from error


def _known(database: Path) -> KnownPlaces:
    with _changing(database):
        return known_places(database)


def _folders_held(
    chats: Iterable[Path], further: Iterable[Path], known: Iterable[KnownPlaces]
) -> Iterator[tuple[str, Path]]:
    """Folders with the flag that names them; the last flag of a folder counts."""
    for one in known:
        yield from (("--database-path", folder) for folder in one.folders)
    yield from (("--also", folder) for folder in further if folder.is_dir())
    yield from (("--chat-data-folder", folder) for folder in chats)


def _once(paths: Iterable[Path]) -> list[Path]:
    return [*dict.fromkeys(path.resolve() for path in paths)]


def _row_ids(connection: sqlite3.Connection, names: Sequence[str]) -> list[Any]:
    """The worker's rows in Mephisto's database."""
    query = f"SELECT worker_id FROM workers WHERE worker_name IN ({', '.join('?' * len(names))})"
    return [row_id for (row_id,) in connection.execute(query, names)]


def _own_states(database: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the states of the worker's agents."""
    with _changing(database), closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection:
        return [*_states(connection, database, _row_ids(connection, names))]


def _forget_at_panels(data_folder: Path, participant: str) -> None:
    """Remove what a participant of a panel was told at the end, and with which links they came.

    Raises:
        sqlite3.Error: a file can't be changed.
    """
    for panel in PANELS:
        path = data_folder / panel / f"{panel}.db"
        if path.is_file():
            with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
                with connection:
                    for table in ("endings", "links"):
                        connection.execute(f"DELETE FROM {table} WHERE participant = ?", (participant,))
                connection.execute("VACUUM")


@contextmanager
def _alone(data_folders: Iterable[Path], chats: Mapping[Path, str], stacks: Iterable[Path]) -> Iterator[None]:
    """Hold all that a run writes to.

    Args:
        chats: folder -> the flag that names it.

    Raises:
        ConfigurationError: with a sentence for each that a run holds.
    """
    faults: list[str] = []
    with ExitStack() as held:
        for data_folder in data_folders:
            try:
                held.enter_context(hold_data(data_folder, alone=True))
            except LockedError:
                who = ", ".join(runs_going_on(data_folder)) or "unknown"
                faults.append(
                    f"--database-path: a task of the database in '{data_folder}' is running (process {who}), which would "
                    "write workers' ids back; stop it first."
                )
        for flag, path in (
            *((flag, folder) for folder, flag in chats.items()),
            *(("--stack-folder", folder / STACK_LOCK) for folder in stacks),
        ):
            try:
                held.enter_context(hold(path, alone=True))
            except LockedError:
                folder = path.parent if path.name == STACK_LOCK else path
                faults.append(
                    f"{flag}: a run is writing to '{folder}', which would bring workers' ids back; stop it first."
                )
        ConfigurationError.raise_if(faults)
        yield


def _states(connection: sqlite3.Connection, database: Path, row_ids: Iterable[Any]) -> Iterator[Path]:
    """The folders of the states of one worker's agents."""
    runs = database.resolve().parent / "data" / "runs"
    for row_id in row_ids:
        for query in (_PLACES, _ONBOARDING_PLACES):
            for parts in connection.execute(query, (row_id,)).fetchall():
                yield runs.joinpath(*map(str, parts))


class _Change:
    """What is changed in files, and which could not be read.

    Args:
        names: the worker's ids and what takes their place.
    """

    def __init__(self, names: dict[str, str], dry_run: bool, delete: bool) -> None:
        self.names = names
        self.unread: list[Path] = []
        """Files that name the worker and are no JSON."""
        self._dry_run, self._delete = dry_run, delete

    def conversation(self, path: Path) -> bool:
        """Change or delete a saved conversation; return whether it is, or would be."""
        return self._content(path, self._rename, self._delete)

    def allocation(self, path: Path) -> bool:
        """Change the draws of a study's design, or its dashboard's audit log, which hold nothing of a worker but the id."""
        return self._lines(path, self._rename, checksums=False)

    def logs(self, path: Path) -> bool:
        """Change a file of finished conversations; it is the requester's own, so that no damaged line goes."""
        return self._lines(path, self._rename, checksums=False, keeps_damaged=True)

    def stack(self, path: Path) -> bool:
        """Change a file of an image stack."""
        if path.suffix == ".journal":
            return self._lines(path, self._rename_anywhere, checksums=True)
        return self._content(path, self._rename_anywhere, delete=False)

    def state(self, folder: Path) -> bool:
        """Change what Mephisto keeps of an agent."""
        changes = [
            self._content(folder / name, _emptied if self._delete and name != STATE_NAMES[2] else self._rename, False)
            for name in STATE_NAMES
            if (folder / name).is_file()
        ]
        journal = folder / JOURNAL_NAME
        if journal.is_file():
            if not self._delete:
                changes.append(self._lines(journal, self._rename, checksums=False))
            elif not self._dry_run:
                journal.unlink()
        return any(changes)

    def _rename(self, value: Any) -> Any:
        return _rename(value, self.names)

    def _rename_anywhere(self, value: Any) -> Any:
        return _rename_anywhere(value, self.names)

    def _content(self, path: Path, change: Callable[[Any], Any], delete: bool) -> bool:
        """Change the JSON of a file, or delete the file if it would be changed; return whether it would be."""
        path = path.resolve()  # what a link leads to is the record
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False  # a link to nothing
        try:
            content = json.loads(data)
            other = change(content)
            if other == content:
                return False
            changed = json.dumps(other, indent=1).encode("ascii")
        except (ValueError, RecursionError):  # no record of ours; the analysis names it
            if self._is_named(data):
                self.unread.append(path)
            return False
        if not self._dry_run and delete:
            path.unlink()
        elif not self._dry_run:
            replace_file(path, changed, durable=True)
        return True

    def _lines(self, path: Path, change: Callable[[Any], Any], checksums: bool, keeps_damaged: bool = False) -> bool:
        """Change a journal, line by line; return whether it is, or would be, changed.

        A damaged line that names the worker goes where readers leave it out anyway: in an agent's journal, and at the end of
        a stack's, where a crash cuts lines off.
        """
        data = path.read_bytes()
        lines = data.split(b"\n")
        last = len(lines) - 1  # what follows the last newline: nothing, or a line that was cut off
        kept: list[bytes] = []
        for number, line in enumerate(lines):
            try:
                kept.append(_changed_line(line, change, checksums))
            except (ValueError, RecursionError):
                if not self._is_named(line):
                    kept.append(line)
                elif number == last and not keeps_damaged:
                    kept.append(b"")
                elif checksums or keeps_damaged:
                    kept.append(line)
                    self.unread.append(path)
        changed = b"\n".join(kept)
        if changed != data and not self._dry_run:
            replace_file(path, changed, durable=True)
        return changed != data

    def _is_named(self, data: bytes) -> bool:
        """Whether bytes hold one of the worker's ids, as JSON may write it."""
        return any(
            json.dumps(name, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass") in data
            for name in self.names
            for ascii_only in (True, False)
        )


def _emptied(state: Any) -> Any:
    """An agent's state without anything that was said."""
    return {**state, "outputs": {"messages": [], "final_submission": None}} if isinstance(state, dict) else state


def _changed_line(line: bytes, change: Callable[[Any], Any], checksums: bool) -> bytes:
    """Change a line of a journal: JSON, after its checksum in the image stack's (images/_journal.py).

    Raises:
        ValueError, RecursionError: the line is damaged.
    """
    if not line.strip():
        return line
    text = line[9:] if checksums else line
    if checksums and int(line[:8], 16) != zlib.crc32(text):
        raise ValueError("checksum")
    content = json.loads(text)
    other = change(content)
    if other == content:
        return line
    # Not orjson: a journal may hold half an emoji and numbers of more than 64 bits.
    text = json.dumps(other, separators=(",", ":")).encode("ascii")
    return b"%08x %b" % (zlib.crc32(text), text) if checksums else text


def _rename_anywhere(value: Any, names: dict[str, str]) -> Any:
    """Replace ids, as values and as keys, where nothing but models and workers is named."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_rename_anywhere(entry, names) for entry in value]
    if isinstance(value, dict):
        return {names.get(key, key): _rename_anywhere(entry, names) for key, entry in value.items()}
    return value


def _rename(value: Any, names: dict[str, str]) -> Any:
    """Replace ids only where a record names a worker: one may be called ``dialog``, or like a word that somebody says."""
    if isinstance(value, list):
        return [_rename(entry, names) for entry in value]
    if isinstance(value, dict):
        renamed = {
            key: (_rename_anywhere if key in NAMING_KEYS else _rename)(entry, names) for key, entry in value.items()
        }
        return _without_session(renamed, value, names)
    return value


def _without_session(renamed: dict[str, Any], value: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What else names a panel's participant: the id of their submission, and the address that led them back."""
    if value.get("participant") in names and "session" in value:
        renamed["session"] = None
    if value.get("control") in ("ended", "onboarding_failed") and isinstance(value.get("ending"), dict):
        renamed["ending"] = {**value["ending"], "url": None}
    return renamed
