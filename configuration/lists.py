"""Lists that flags take: entries between commas, quoted as in csv, and files of ids, one a line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches

from model_chat.configuration.files import read_text
from model_chat.errors import ConfigurationError, collecting

FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
"""How a text begins that spreadsheets take for a formula (OWASP, "CSV Injection")."""
GUARD = "'"
"""Before such a text in a csv file."""
FILE_MARK = "@"
"""An entry of a list of ids that begins like this names a file of ids."""
_ENTRY = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"\s*|(?P<plain>(?!")[^,]*))(?P<end>,|$)', re.ASCII)
_INVISIBLE = "\ufeff\u200b"
_MOST_NAMED = 5
_MOST_COMPARED = 20_000
"""Known ids among which a near one is looked for; beyond, it takes seconds."""
_NEAR = 0.8
"""Share of letters in common (difflib) from which an id is suggested for another."""


def split_list(flag: str, text: str | None, keep_empty: bool = False) -> list[str]:
    """Split a list as a line of csv: ``a,b`` or ``"with, a comma",b``.

    Args:
        keep_empty: whether an empty entry is returned as "", for callers that refuse it.

    Returns:
        the entries, without the spaces around them.

    Raises:
        ConfigurationError: a quotation mark is not closed, or text follows a closed one.
    """
    rest = (text or "").strip()
    entries, position, more = [], 0, bool(rest)
    while more:
        match = _ENTRY.match(rest, position)
        if match is None:
            raise ConfigurationError(
                f"{flag}: the quotation marks of {rest} don't match; write an entry with a comma as in csv, for "
                'instance "one, two",three, and a quotation mark within quotation marks twice.'
            )
        quoted = match["quoted"]
        entries.append(match["plain"].strip() if quoted is None else quoted.replace('""', '"'))
        position, more = match.end(), match["end"] == ","
    return entries if keep_empty else [entry for entry in entries if entry]


def join_list(entries: Iterable[str]) -> str:
    """Return entries as one text that :func:`split_list` splits into the same."""
    return ",".join(
        _quoted(entry) if "," in entry or '"' in entry or entry != entry.strip() else entry for entry in entries
    )


def _quoted(entry: str) -> str:
    doubled = entry.replace('"', '""')
    return f'"{doubled}"'


def shell_command(command: str, *arguments: str) -> str:
    """Return a command line that can be copied into a shell, whatever the arguments hold.

    Args:
        command: as it is typed, such as ``python run.py``.
        arguments: the rest, one word of the command line each.
    """
    return " ".join([command, *map(shlex.quote, arguments)])


def read_ids(flag: str, path: str, what: str = "id") -> list[str]:
    """Read a file of ids, each once, in order.

    One id is on a line. What follows a ``#`` is a comment; blank lines and a byte order mark are ignored. An id that holds
    a space, a comma or a ``#`` is quoted as in csv.

    Raises:
        ConfigurationError: the file can't be read, or lines hold more than one id (each is named).
    """
    ids: dict[str, None] = {}
    faults: list[str] = []
    for number, line in enumerate(read_text(flag, path).splitlines(), 1):
        text = line.strip().strip(_INVISIBLE).strip()
        quoted = re.fullmatch(r'"((?:[^"]|"")*)"\s*(?:#.*)?', text)
        if quoted:
            ids[quoted[1].replace('""', '"')] = None
            continue
        entry = text.split("#")[0].strip()
        if len(entry.split()) > 1 or "," in entry or entry.startswith('"'):
            faults.append(f"{flag}: line {number} of '{path}' is '{entry}'; write one {what} a line.")
        elif entry:
            ids[entry] = None
    ConfigurationError.raise_if(faults)
    return list(ids)


def ids_of(flag: str, text: str | None) -> list[str]:
    """Return the ids of a list, each once, in order; an entry ``@FILE`` stands for the ids in the file.

    Raises:
        ConfigurationError: one sentence for each file or line that can't be read.
    """
    ids: dict[str, None] = {}
    faults: list[str] = []
    for entry in split_list(flag, text):
        with collecting(faults):
            found = read_ids(flag, entry[len(FILE_MARK) :]) if entry.startswith(FILE_MARK) else [entry]
            ids.update(dict.fromkeys(found))
    ConfigurationError.raise_if(faults)
    return list(ids)


def unmatched(ids: Iterable[str], known: Iterable[str]) -> str:
    """Return the ids that are not among the known ones, as a list to read; "" if all of them are.

    The first few are named, with the known id that is nearest if one is near.
    """
    present = set(known)
    missing = [entry for entry in ids if entry not in present]
    compared = sorted(present) if missing and len(present) <= _MOST_COMPARED else []
    named = []
    for entry in missing[:_MOST_NAMED]:
        near = get_close_matches(entry, compared, 1, _NEAR)
        named.append(f"'{entry}' (did you mean '{near[0]}'?)" if near else f"'{entry}'")
    more = len(missing) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
