"""Files of texts for workers: reading, and what is wrong with or missing in one (docs/languages.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_chat.configuration.files import parse_json, read_text
from model_chat.configuration.json_lines import JsonLines
from model_chat.configuration.worker_texts import (
    ENGLISH,
    ENGLISH_FILE,
    PAGE,
    PLACE,
    SERVER,
    Texts,
    flat,
    read_shipped,
    shipped_languages,
)
from model_chat.errors import ConfigurationError, collecting

LANGUAGE_FLAG, PATH_FLAG = "mephisto.blueprint.language", "mephisto.blueprint.texts_path"
PLURALS = ("zero", "one", "two", "few", "many", "other")
"""The plural categories of Unicode's CLDR, as ``Intl.PluralRules`` names them."""
COUNT = "count"
RIGHT_TO_LEFT = frozenset({"ar", "arc", "ckb", "dv", "fa", "he", "ks", "ps", "sd", "ug", "ur", "yi"})
"""Languages that are written from right to left unless their file says otherwise."""
THIN_SPACE = "\u202f"
"""Between thousands where a file does not say how its language writes them; every language reads it."""
TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?")
"""A language, maybe with script and region: ``de``, ``zh-Hant``, ``pt-BR``."""
ABOUT: dict[str, tuple[str, ...]] = {
    "language": (),
    "name": (),
    "direction": ("ltr", "rtl"),
    "translation": ("people", "machine"),
    "conversation_language": (),
    "thousands": (),
    "decimal": (),
}
"""What a file says of itself, with the values that there are; none: any text."""
LONGEST_SEPARATOR = 3

Key = tuple[str, ...]


@dataclass(frozen=True)
class CheckedTexts:
    """A file of texts that has been checked.

    Attributes:
        faults: one sentence each, with the line; a file that has any is not used.
        missing: dotted keys of the texts that it lacks.
        untranslated: dotted keys of the texts that are as in English.
    """

    data: Mapping[str, Any]
    faults: tuple[str, ...]
    missing: tuple[str, ...]
    untranslated: tuple[str, ...]


def check_texts(flag: str, path: str, text: str) -> CheckedTexts:
    """Check a file of texts against the English one.

    Raises:
        ConfigurationError: it is no JSON object, or has duplicate keys.
    """
    data = parse_json(flag, path, text)
    if not isinstance(data, dict):
        raise ConfigurationError(
            f"{flag}: '{path}' is no JSON object; scripts/texts.py template writes one to start from."
        )
    lines = JsonLines.of(text)
    faults: list[str] = []
    missing: list[str] = []
    untranslated: list[str] = []

    def fault(key: Key, problem: str) -> None:
        faults.append(f"{flag}: '{path}', line {lines.resolve(key)[1]}: {problem}")

    for problem_key, problem in _about_faults(data):
        fault(problem_key, problem)
    for part in (PAGE, SERVER):
        for key, english, own in _pairs((part,), ENGLISH_FILE[part], data.get(part, {}), fault):
            name = ".".join(key)
            if own is None:
                missing.append(name)
                continue
            if own == english:
                untranslated.append(name)
            for problem in _message_faults(name, english, own):
                fault(key, problem)
    if len(missing) and PAGE not in data and SERVER not in data:
        fault((), f"has no texts; they are below '{PAGE}' and '{SERVER}'.")
    return CheckedTexts(data, tuple(faults), tuple(missing), tuple(untranslated))


def _about_faults(data: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    for name, value in data.items():
        if name in (PAGE, SERVER):
            continue
        if name not in ABOUT:
            yield (name,), _unknown(name, [*ABOUT, PAGE, SERVER])
        elif not isinstance(value, str):
            yield (name,), f"'{name}' is no text."
        elif ABOUT[name] and value not in ABOUT[name]:
            yield (name,), f"'{name}' is '{value}'; it is {' or '.join(ABOUT[name])}."
        elif name in ("language", "conversation_language") and not TAG.fullmatch(value):
            yield (name,), f"'{name}' is '{value}'; give a language tag such as de or pt-BR."
        elif name in ("thousands", "decimal") and len(value) > LONGEST_SEPARATOR:
            yield (name,), f"'{name}' is '{value}'; give the character that separates, such as a comma."
    if "language" not in data:
        yield (), '\'language\' is missing; add it, such as "language": "de".'


def _pairs(key: Key, english: Any, own: Any, fault: Any) -> Iterator[tuple[Key, Any, Any]]:
    """Go through the messages of a file beside those of the English one; None where there is none."""
    if _is_message(english):
        yield key, english, own
        return
    if own is not None and not isinstance(own, dict):
        fault(key, f"'{'.'.join(key)}' is one value; it has the keys {', '.join(english)}.")
        own = None
    given = own or {}
    for name in given:
        if name not in english:
            fault((*key, name), _unknown(".".join((*key, name)), [".".join((*key, other)) for other in english]))
    for name, value in english.items():
        yield from _pairs((*key, name), value, given.get(name), fault)


def _is_message(value: Any) -> bool:
    return isinstance(value, str) or (
        "other" in value and set(value) <= set(PLURALS) and all(isinstance(form, str) for form in value.values())
    )


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown key '{name}'; {f'did you mean {near[0]}?' if near else 'remove it.'}"


def _message_faults(name: str, english: Any, own: Any) -> Iterator[str]:
    places = {place for form in _forms(english).values() for place in PLACE.findall(form)}
    if isinstance(own, dict):
        if COUNT not in places or name.startswith(f"{SERVER}."):
            yield f"'{name}' has several forms, and is one text."
            return
        for form in own:
            if form not in PLURALS:
                yield f"'{name}.{form}' is no plural form; there are {', '.join(PLURALS)}."
        if "other" not in own:
            yield f"'{name}' lacks the form 'other', which every language has."
    elif not isinstance(own, str):
        yield f"'{name}' is no text."
        return
    for form, text in _forms(own).items():
        where = f"{name}.{form}" if form else name
        if not isinstance(text, str):
            yield f"'{where}' is no text."
            continue
        if not text.strip():
            yield f"'{where}' is empty; write a text, or remove the key to have the English one."
            continue
        yield from _place_faults(where, text, places, counted=form not in ("", "other"))


def _place_faults(where: str, text: str, places: set[str], counted: bool) -> Iterator[str]:
    given = set(PLACE.findall(text))
    rest = PLACE.sub("", text)
    if "{" in rest or "}" in rest:
        yield f"'{where}' has a brace that belongs to no place; places are written {{name}}."
    for place in sorted(given - places):
        there = ", ".join(f"{{{one}}}" for one in sorted(places)) or "none"
        yield f"'{where}' has the place {{{place}}}, for which there is no value; its places: {there}."
    # A form for one number only, such as "one", may say the number in words.
    for place in sorted(places - given - ({COUNT} if counted else set())):
        yield f"'{where}' lacks the place {{{place}}}."


def _forms(message: Any) -> dict[str, Any]:
    return message if isinstance(message, dict) else {"": message}


def load_texts(language: str, path: str) -> Texts:
    """Return the texts of a study.

    Args:
        language: ``mephisto.blueprint.language``.
        path: ``mephisto.blueprint.texts_path``; "": the texts that ship.

    Raises:
        ConfigurationError: with every fault of the language and the file.
    """
    faults: list[str] = []
    shipped = _shipped_for(language)
    if not TAG.fullmatch(language):
        faults.append(f"{LANGUAGE_FLAG}: '{language}' is no language tag; give one such as de or pt-BR.")
    elif shipped is None and not path:
        faults.append(
            f"{LANGUAGE_FLAG}: '{language}' has no texts that ship; choose one of {', '.join(shipped_languages())}, or "
            f"name a file with {PATH_FLAG} ('python scripts/texts.py template {language} FILE' writes one to translate)."
        )
    layers: list[Mapping[str, Any]] = [] if shipped is None else [read_shipped(shipped)]
    if path:
        checked = None
        with collecting(faults):
            checked = check_texts(PATH_FLAG, path, read_text(PATH_FLAG, path))
        if checked is not None:
            faults += checked.faults
            own = checked.data.get("language", language)
            if isinstance(own, str) and own != language:
                faults.append(
                    f"{PATH_FLAG}: '{path}' is for the language '{own}', and {LANGUAGE_FLAG} is '{language}'; make them one."
                )
            layers.append(checked.data)
    ConfigurationError.raise_if(faults)
    if layers == [ENGLISH_FILE]:
        return Texts()
    return _joined(language, layers)


MOST_NAMED = 5
"""Texts that a remark names."""


def language_remarks(texts: Texts) -> list[str]:
    """Return what a requester should know of the texts of their study: what is not translated, or by no person."""
    remarks = []
    if texts.missing:
        named = ", ".join(texts.missing[:MOST_NAMED]) + (", …" if len(texts.missing) > MOST_NAMED else "")
        remarks.append(
            f"{LANGUAGE_FLAG}={texts.language}: {len(texts.missing)} texts are missing and are shown in English: {named}; "
            f"'python scripts/texts.py check' names them all."
        )
    if texts.is_machine_translated:
        remarks.append(
            f"{LANGUAGE_FLAG}={texts.language}: these texts were translated by a machine; have them read by somebody who "
            f"speaks the language."
        )
    return remarks


def _shipped_for(language: str) -> str | None:
    """The file for a language: its own, or that of the language without script and region."""
    there = shipped_languages()
    return next((tag for tag in (language, language.split("-")[0].lower()) if tag in there), None)


def _joined(language: str, layers: list[Mapping[str, Any]]) -> Texts:
    about: dict[str, Any] = {}
    for layer in layers:
        about.update({name: value for name, value in layer.items() if name in ABOUT})
    missing: list[str] = []
    parts: dict[str, Any] = {}
    for part in (PAGE, SERVER):
        parts[part] = _over((part,), ENGLISH_FILE[part], [layer.get(part) for layer in layers], missing)
    is_english = language.split("-")[0].lower() == ENGLISH
    primary = language.split("-")[0].lower()
    return Texts(
        language=language,
        direction=about.get("direction", "rtl" if primary in RIGHT_TO_LEFT else "ltr"),
        conversation_language=about.get("conversation_language", language),
        sentences=flat(parts[SERVER]),
        page=parts[PAGE],
        thousands=about.get("thousands", "," if is_english else THIN_SPACE),
        decimal=about.get("decimal", "."),
        missing=() if is_english else tuple(missing),
        is_machine_translated=about.get("translation") == "machine",
    )


def _over(key: Key, english: Any, layers: list[Any], missing: list[str]) -> Any:
    if _is_message(english):
        own = next((layer for layer in reversed(layers) if layer is not None), None)
        if own is None:
            missing.append(".".join(key))
            return english
        return own
    inner = [layer for layer in layers if isinstance(layer, Mapping)]
    return {
        name: _over((*key, name), value, [layer.get(name) for layer in inner], missing)
        for name, value in english.items()
    }
