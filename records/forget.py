"""Forgetting a worker: their id goes from every record, or what they wrote goes, too (docs/data-protection.md)."""

from __future__ import annotations

import json
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from model_chat.errors import ConfigurationError
from model_chat.records.journal import JOURNAL_NAME
from model_chat.records.reading import list_files
from model_chat.records.writing import replace_file

SANDBOX_SUFFIX = "_sandbox"
"""What Mephisto appends to the names of workers on MTurk's sandbox, and of its mock provider."""
STATE_NAMES = ("state.json", "agent_data.json", "agent_meta.json")
STACK_NAMES = ("stack.json", "stack.journal")
NAMING_KEYS = frozenset({"workers", "bad_workers", "worker_id", "worker_name", "workerId"})
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
        pseudonym: that stands in the place of the worker's id from now on.
        files: conversations among the files.
        states: agents' states in Mephisto's data folder.
        rows: entries of the worker in Mephisto's database.
        stacks: files of image stacks.
    """

    pseudonym: str
    files: int
    states: int
    rows: int
    stacks: int


def forget_worker(
    worker_id: str,
    database: Path,
    chat_data_folders: Iterable[Path] = (),
    stack_folders: Iterable[Path] = (),
    delete: bool = False,
    dry_run: bool = False,
) -> Forgotten:
    """Replace a worker's id by a random pseudonym in all records of all tasks. No run may go on meanwhile.

    The conversations of a worker still belong together afterwards, and count as collected; who the worker was can't be told
    from them any more, unless the texts say so: ``delete`` removes the texts as well. It can be repeated, also after a
    crash in the middle; the database, in which the worker is looked up, comes last.

    Args:
        worker_id: the crowd platform's own.
        database: Mephisto's ``database.db``; agents' states lie in its folder.
        chat_data_folders: where conversations were saved; those that don't exist are passed over.
        stack_folders: of image chats, likewise.
        delete: whether the worker's conversations are deleted, in both records, rather than kept under the pseudonym.
        dry_run: whether to count only.

    Raises:
        ConfigurationError: the database can't be read or written.
        OSError: a file can't be read or written.
    """
    pseudonym = f"forgotten-{secrets.token_hex(8)}"
    names = {worker_id: pseudonym, f"{worker_id}{SANDBOX_SUFFIX}": pseudonym}

    def rename(value: Any) -> Any:
        return _rename(value, names)

    def rename_in_stack(value: Any) -> Any:
        return _rename_anywhere(value, names)

    files = 0
    for folder in filter(Path.is_dir, chat_data_folders):
        for source in list_files([folder]).sources:
            files += _change(Path(source.path), rename, dry_run, delete)
    stacks = sum(
        _change(folder / name, rename_in_stack, dry_run, False, lines=name.endswith(".journal"))
        for folder in stack_folders
        for name in STACK_NAMES
        if (folder / name).is_file()
    )
    try:
        with closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            ids = [
                row_id
                for (row_id,) in connection.execute(
                    "SELECT worker_id FROM workers WHERE worker_name IN (?, ?)",
                    (worker_id, f"{worker_id}{SANDBOX_SUFFIX}"),
                )
            ]
            states = sum(_change_states(connection, database, row_id, rename, dry_run, delete) for row_id in ids)
            if not dry_run:
                with connection:
                    for row_id in ids:
                        connection.execute(
                            "UPDATE workers SET worker_name = ? WHERE worker_id = ?", (f"{pseudonym}-{row_id}", row_id)
                        )
                        connection.execute("DELETE FROM granted_qualifications WHERE worker_id = ?", (row_id,))
                connection.execute("VACUUM")  # else the name stays readable in the file's free pages
    except sqlite3.Error as error:
        raise ConfigurationError(f"--database-path: '{database}' can't be changed ({error}).") from error
    return Forgotten(pseudonym, files, states, len(ids), stacks)


def _change_states(
    connection: sqlite3.Connection,
    database: Path,
    row_id: Any,
    rename: Callable[[Any], Any],
    dry_run: bool,
    delete: bool,
) -> int:
    """Change the states of the agents of one worker; return how many were changed."""
    runs = database.resolve().parent / "data" / "runs"
    changed = 0
    for query in (_PLACES, _ONBOARDING_PLACES):
        for parts in connection.execute(query, (row_id,)).fetchall():
            folder = runs.joinpath(*map(str, parts))
            changes = [
                _change(folder / name, _emptied if delete and name != STATE_NAMES[2] else rename, dry_run, False)
                for name in STATE_NAMES
                if (folder / name).is_file()
            ]
            journal = folder / JOURNAL_NAME
            if journal.is_file():
                if not dry_run and delete:
                    journal.unlink()
                elif not delete:
                    changes.append(_change(journal, rename, dry_run, False, lines=True, checksums=False))
            changed += any(changes)
    return changed


def _emptied(state: Any) -> Any:
    """An agent's state without anything that was said."""
    return {**state, "outputs": {"messages": [], "final_submission": None}} if isinstance(state, dict) else state


def _change(
    path: Path,
    change: Callable[[Any], Any],
    dry_run: bool,
    delete: bool,
    lines: bool = False,
    checksums: bool = True,
) -> bool:
    """Change what a file of JSON holds, or delete the file if it would be changed; return whether it would be."""
    data = path.read_bytes()
    if lines:
        changed = b"".join(_changed_line(line, change, checksums) for line in data.splitlines(keepends=True))
        is_other = changed != data
    else:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            return False  # not ours; the analysis names it
        other = change(content)
        is_other = other != content
        changed = json.dumps(other, indent=1).encode("ascii")
    if is_other and not dry_run:
        if delete:
            path.unlink()
        else:
            replace_file(path, changed, durable=True)
    return is_other


def _changed_line(line: bytes, change: Callable[[Any], Any], checksums: bool) -> bytes:
    """Change a line of a journal: JSON, after its checksum in the image stack's (images/_journal.py)."""
    text = line.rstrip(b"\n")[9:] if checksums else line
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError:
        return line  # half a line, cut off by a crash
    other = change(content)
    if other == content:
        return line
    text = orjson.dumps(other)
    return b"%08x %b\n" % (zlib.crc32(text), text) if checksums else text + b"\n"


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
        return {
            key: (_rename_anywhere if key in NAMING_KEYS else _rename)(entry, names) for key, entry in value.items()
        }
    return value
