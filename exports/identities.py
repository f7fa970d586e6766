"""Pseudonyms in place of workers' ids, and the removal of ids from texts."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.records.forget import SANDBOX_SUFFIX
from model_chat.records.worker_ids import ID_WORD, PSEUDONYM_PREFIX, is_unmistakable, normalise_worker_id
from model_chat.records.writing import write_new_file

SALT_BYTES = 32


def default_salt_file() -> Path:
    """Where the salt is kept if no flag says so: in the user's configuration folder (XDG Base Directory Specification)."""
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = configured if configured.is_absolute() else Path.home() / ".config"
    return folder / "model-chat" / "export_salt"


def read_salt(path: Path) -> bytes:
    """Read the salt, or make one of :data:`SALT_BYTES` random bytes, saved as hexadecimal digits for the owner only.

    Raises:
        ConfigurationError: the file can't be read or made, or holds something else.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # made by an earlier export
            write_new_file(path, secrets.token_hex(SALT_BYTES).encode("ascii") + b"\n")
        salt = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise ConfigurationError(
            f"--salt-file is '{path}', which can't be used ({error.strerror or error}); give another place."
        ) from error
    except ValueError:
        salt = b""
    if len(salt) < SALT_BYTES:
        raise ConfigurationError(
            f"--salt-file is '{path}', which holds no salt; it has to hold {2 * SALT_BYTES} hexadecimal digits. Give "
            "another file, which is made when missing."
        )
    return salt


class Identities:
    """Names workers by salted pseudonyms and takes their ids out of texts.

    A pseudonym is an HMAC (RFC 2104) with SHA-256 of the worker's id, of which 64 bits are kept: who does not have the salt
    can't compute it from an id. The same salt gives the same pseudonyms.

    Args:
        salt: secret bytes.
        worker_ids: of everybody whose id is to be removed.
    """

    def __init__(self, salt: bytes, worker_ids: Iterable[str]) -> None:
        self._salt = salt
        names = {worker_id: self.pseudonym(worker_id) for worker_id in worker_ids if worker_id.strip()}
        self._words = {name: pseudonym for name, pseudonym in names.items() if ID_WORD.fullmatch(name)}
        # An id of other characters is looked for by itself: there are few, in studies with names typed by hand.
        self._others = {name: pseudonym for name, pseudonym in names.items() if name not in self._words}
        self.replaced_in_texts = 0
        """How many times an id was replaced in what people and models said."""

    def pseudonym(self, worker_id: str) -> str:
        """The worker's name in the export."""
        spelled = normalise_worker_id(worker_id).removesuffix(SANDBOX_SUFFIX)
        return f"{PSEUDONYM_PREFIX}{self._digest('worker', spelled)[:16]}"

    def conversation_id(self, digest: bytes) -> str:
        """The id of a conversation; 32 hexadecimal digits."""
        return self._digest("conversation", digest.hex())[:32]

    def _digest(self, kind: str, value: str) -> str:
        return hmac.new(self._salt, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()

    def in_texts(self, value: Any) -> Any:
        """Replace ids in what was said: those that nobody takes for a word (eight characters or more, one a digit)."""
        return self._replaced(value, texts=True)

    def in_metadata(self, value: Any) -> Any:
        """Replace every id, wherever it stands by itself, in strings, lists and values of dictionaries."""
        return self._replaced(value, texts=False)

    def _replaced(self, value: Any, texts: bool) -> Any:
        if isinstance(value, str):
            return self._in_string(value, texts)
        if isinstance(value, list):
            return [self._replaced(entry, texts) for entry in value]
        if isinstance(value, Mapping):
            return {key: self._replaced(entry, texts) for key, entry in value.items()}
        return value

    def _in_string(self, text: str, is_said: bool) -> str:
        count = 0

        def of_word(match: re.Match[str]) -> str:
            nonlocal count
            word = match[0]
            if word in self._words and (not is_said or is_unmistakable(word)):
                count += 1
                return self._words[word]
            return word

        changed = ID_WORD.sub(of_word, text)
        for name, pseudonym in self._others.items():
            if name in changed and (not is_said or is_unmistakable(name)):
                changed, found = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", pseudonym, changed)
                count += found
        if is_said:
            self.replaced_in_texts += count
        return changed
