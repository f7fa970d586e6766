"""Names of models and conditions, hidden until the analysis where the study is blind."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from model_chat.records.writing import write_new_file

KEY_BYTES = 32
PAIR = "|"
"""Between the nicknames of two models that are compared."""


class Names:
    """What models and conditions are called on the page.

    In a blind study they are numbered, in an order that the key decides: who knows the nicknames still can't tell which is
    which. Numbers stay the same as long as the same names are wanted. Not thread-safe; one store's thread uses it.
    """

    def __init__(self, blind: bool, key: bytes = b"") -> None:
        self.blind = blind
        self._key = key
        self._models: dict[str, str] = {}
        self._cells: dict[str, str] = {}
        self._named: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, models: Iterable[str], cells: Iterable[str]) -> None:
        """Take names in; those that are new get the next numbers."""
        if not self.blind:
            return
        before = len(self._models) + len(self._cells)
        singles = [part for name in models for part in name.split(PAIR)]
        for known, names, word in ((self._models, singles, "model"), (self._cells, cells, "condition")):
            for name in sorted(set(names) - known.keys() - {""}, key=self._order):
                known[name] = f"{word} {len(known) + 1}"
        if len(self._models) + len(self._cells) > before:
            self._named = {**self._cells, **self._models}
            words = sorted(self._named, key=len, reverse=True)  # one may begin with another
            self._pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))

    def _order(self, name: str) -> bytes:
        return hmac.new(self._key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    def model(self, name: str) -> str:
        """What a model, or a pair of models, is called."""
        if not self.blind or not name:
            return name
        return f" {PAIR} ".join(self._models.get(part, "a model") for part in name.split(PAIR))

    def cell(self, name: str | None) -> str | None:
        """What a condition is called."""
        return name if name is None or not self.blind else self._cells.get(name, "a condition")

    def text(self, text: str | None) -> str | None:
        """A sentence of the program's own, without names."""
        if text is None or self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._named[found[0]], text)


def key_in(folder: Path, task_name: str) -> bytes:
    """Return a task's key, which is made where there is none; where it can't be written, it is a new one each time."""
    path = folder / f"{hashlib.sha256(task_name.encode()).hexdigest()[:16]}.key"
    for _ in range(2):
        try:
            key = path.read_bytes()
            if len(key) == KEY_BYTES:
                return key
        except OSError:
            pass
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return (write_new_file(path, new := secrets.token_bytes(KEY_BYTES)), new)[1]
        except OSError:
            continue
    return secrets.token_bytes(KEY_BYTES)
