"""One export: conversations read one at a time, written to whole files, described by a card and a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.exports.card import CardFacts, card
from model_chat.exports.formats import rows_of, write_rows
from model_chat.exports.identities import Identities, read_salt
from model_chat.exports.messages import exported
from model_chat.exports.preferences import Rows
from model_chat.exports.selection import Selection, chats_of
from model_chat.exports.settings import ExportSettings, card_name, file_of, manifest_name, taken_places
from model_chat.records.locks import hold, hold_or_refuse

MANIFEST_VERSION = 1
STAGING = ".export-"
"""How the folder begins in which files are made."""


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        files: of the export, relative to its folder; the manifest last.
        left_out_conversations: reason -> number.
        left_out_rows: what of the conversations gave no row: reason -> number.
        damaged: the first files that could not be read, with the reason.
        replaced_in_texts: how many times an id was replaced in texts.
    """

    files: tuple[str, ...]
    rows: int
    conversations: int
    left_out_conversations: dict[str, int]
    left_out_rows: dict[str, int]
    damaged: tuple[str, ...]
    replaced_in_texts: int


def export(settings: ExportSettings) -> Exported:
    """Write one format.

    The files are made in a folder of their own beside their places and moved there at the end, the manifest last.

    Raises:
        ConfigurationError: a folder, database or task does not exist, a file would be replaced, or a flag does not fit the
            data; nothing is written then.
        OSError: a file can't be written; nothing of an earlier export is lost.
    """
    data, manifest = file_of(settings.format), manifest_name(settings.format)
    ConfigurationError.raise_if(taken_places(settings.output, settings.format, settings.overwrite))
    selection = Selection(settings)
    identities = None
    if settings.salt_file is not None:
        identities = Identities(read_salt(settings.salt_file), selection.worker_ids())
    facts, maker = CardFacts(), rows_of(settings)
    made = [folder for folder in (settings.output, *settings.output.parents) if not folder.exists()]
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
        with _alone(settings.output), tempfile.TemporaryDirectory(dir=settings.output, prefix=STAGING) as place:
            staged = Path(place)
            (staged / data).parent.mkdir(exist_ok=True)
            rows = _rows(selection, maker, identities, settings.persona, facts)
            count = write_rows(staged / data, settings, rows)
            maker.check()
            text = card(facts, _positive(selection.left_out), settings).encode()
            (staged / card_name(settings.format)).write_bytes(text)
            files = (data, card_name(settings.format))
            content = {
                "version": MANIFEST_VERSION,
                "format": settings.format,
                "rows": count,
                "conversations": facts.conversations,
                "left_out_conversations": _positive(selection.left_out),
                "left_out_rows": _positive(maker.left_out),
                "deidentified": settings.deidentify,
                "files": {name: _described(staged / name) for name in sorted(files)},
            }
            (staged / manifest).write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")
            _check_card(settings, text)
            ConfigurationError.raise_if(taken_places(settings.output, settings.format, settings.overwrite))
            _move(staged, settings.output, (*files, manifest))
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # something else is in it, or it was never made
                folder.rmdir()
        raise
    return Exported(
        files=(*files, manifest),
        rows=count,
        conversations=facts.conversations,
        left_out_conversations=_positive(selection.left_out),
        left_out_rows=_positive(maker.left_out),
        damaged=tuple(selection.damaged),
        replaced_in_texts=identities.replaced_in_texts if identities else 0,
    )


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the folder, so that two exports don't write to it at once, and remove what a killed one has left there.

    Raises:
        ConfigurationError: another export holds it.
    """
    busy = f"--output is '{output}', where another export is being written; wait for its end, or give another folder."
    with hold_or_refuse(hold(output, alone=True), busy):
        for left in output.glob(f"{STAGING}*"):
            shutil.rmtree(left)
        yield


def _rows(
    selection: Selection, maker: Rows, identities: Identities | None, persona: bool, facts: CardFacts
) -> Iterator[dict[str, Any]]:
    for selected in selection:
        for chat in chats_of(selected):
            conversation = exported(chat, identities, persona)
            facts.add(conversation)
            yield from maker.rows(conversation)


def _check_card(settings: ExportSettings, text: bytes) -> None:
    """Check that the card of other formats in the same folder says the same.

    Raises:
        ConfigurationError: it is about other conversations, and may not be replaced.
    """
    path = settings.output / card_name(settings.format)
    if path.is_dir() or (path.exists() and not settings.overwrite and path.read_bytes() != text):
        raise ConfigurationError(
            f"--output is '{settings.output}', whose '{path.name}' describes another export; give another folder, or "
            "--overwrite to replace it."
        )


def _move(staged: Path, output: Path, names: tuple[str, ...]) -> None:
    """Move files to their places; without a manifest, an export is not whole."""
    (output / names[-1]).unlink(missing_ok=True)
    for name in names:
        (output / name).parent.mkdir(exist_ok=True)
        (staged / name).replace(output / name)


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _positive(counts: Counter[str]) -> dict[str, int]:
    return {reason: number for reason, number in sorted(counts.items()) if number}
