"""What workers are told, in the language of their study. The words are in ``frontend/src/texts/`` (docs/languages.md)."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

TEXTS_FOLDER = Path(__file__).resolve().parent.parent / "frontend" / "src" / "texts"
ENGLISH = "en"
SERVER, PAGE = "server", "page"
"""The parts of a file: sentences of the server, and texts that the page has itself."""
PLACE = re.compile(r"\{(\w+)\}")
"""A place for a value in a text."""

Value = str | int | float


def read_shipped(language: str) -> dict[str, Any]:
    """Return the file of a language that ships."""
    data: dict[str, Any] = json.loads((TEXTS_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return data


def shipped_languages() -> list[str]:
    """Return the languages that ship, in order."""
    return sorted(file.stem for file in TEXTS_FOLDER.glob("*.json"))


def flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the sentences of a tree by their dotted keys; what is no text is left out."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, str):
            found[key] = value
        elif isinstance(value, Mapping):
            found.update({f"{key}.{below}": text for below, text in flat(value).items()})
    return found


ENGLISH_FILE = read_shipped(ENGLISH)
ENGLISH_SENTENCES: Mapping[str, str] = MappingProxyType(flat(ENGLISH_FILE[SERVER]))


class WorkerText(str):
    """A sentence for workers: in English, with what it takes to say it in another language (:meth:`Texts.told`).

    Attributes:
        text_id: dotted key below ``server``.
        values: for its places; a text among them may be a sentence of its own.
    """

    text_id: str
    values: Mapping[str, Value]


def worker_text(text_id: str, /, **values: Value) -> WorkerText:
    """Return a sentence for workers.

    Args:
        text_id: dotted key below ``server`` of ``en.json``.
        values: one for each of its places; whole numbers are grouped by thousands.

    Raises:
        KeyError: there is no such sentence.
    """
    sentence = WorkerText(_filled(ENGLISH_SENTENCES[text_id], values, ",", "."))
    sentence.text_id, sentence.values = text_id, values
    return sentence


def _filled(text: str, values: Mapping[str, Value], thousands: str, decimal: str) -> str:
    def value(place: re.Match[str]) -> str:
        given = values.get(place[1], place[0])
        if isinstance(given, float):
            return f"{given:g}".replace(".", decimal)
        return given if isinstance(given, str) else f"{given:,}".replace(",", thousands)

    return PLACE.sub(value, text).strip()  # where a value at an end is empty


@dataclass(frozen=True)
class Texts:
    """The texts of a study's language, with English where it lacks one.

    Attributes:
        language: a BCP 47 tag.
        direction: ``ltr`` or ``rtl``.
        conversation_language: of the replies and the worker's messages.
        sentences: of the server, by their dotted keys.
        page: of the page; None: those that it has itself, in English.
        thousands, decimal: separators in the numbers of the server's sentences.
        missing: dotted keys of what is said in English for want of a translation, ``page`` or ``server`` first.
        is_machine_translated: whether no person has checked the translation.
    """

    language: str = ENGLISH
    direction: str = "ltr"
    conversation_language: str = ENGLISH
    sentences: Mapping[str, str] = field(default_factory=lambda: ENGLISH_SENTENCES)
    page: Mapping[str, Any] | None = None
    thousands: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()
    is_machine_translated: bool = False

    def told(self, value: Any) -> Any:
        """Return something for a worker with each :class:`WorkerText` in it in the study's language.

        Args:
            value: of JSON types; a text that is no :class:`WorkerText` stays as it is.
        """
        if self.sentences is ENGLISH_SENTENCES:  # as it is said already
            return value
        if isinstance(value, WorkerText):
            values = {name: self.told(one) for name, one in value.values.items()}
            return _filled(self.sentences[value.text_id], values, self.thousands, self.decimal)
        if isinstance(value, dict):
            return {key: self.told(one) for key, one in value.items()}
        return [self.told(one) for one in value] if isinstance(value, list) else value

    def default(self, text_id: str, value: str) -> str:
        """Return the text of a flag, in the study's language where the flag has its English default.

        Args:
            text_id: of the default, below ``server.defaults``.
        """
        name = f"defaults.{text_id}"
        return self.sentences[name] if value == ENGLISH_SENTENCES[name] else value

    def put_into(self, index_html: str) -> str:
        """Return the built page's ``index.html`` in this language, with the page's texts in it; English as it is."""
        if self.page is None:
            return index_html
        sentences = flat(self.page)

        def text(found: re.Match[str]) -> str:
            return f"{found[1]}{html.escape(sentences.get(found[3], found[4]))}{found[5]}"

        page = re.sub(r'(<(\w+)[^>]* data-text="([\w.]+)"[^>]*>)([^<]*)(</\2>)', text, index_html)
        page = re.sub(r"<html[^>]*>", f'<html lang="{self.language}" dir="{self.direction}">', page, count=1)
        data = {
            "language": self.language,
            "direction": self.direction,
            "conversationLanguage": self.conversation_language,
            "page": self.page,
        }
        embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # nothing may end the element
        return page.replace(
            "</head>", f'<script type="application/json" id="model-chat-texts">{embedded}</script></head>', 1
        )
