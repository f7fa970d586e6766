"""The texts that workers see, in other languages (docs/languages.md): a file to translate, and what one lacks.

python scripts/texts.py template nl texts_nl.json     # the English texts, to be translated in place
python scripts/texts.py check texts_nl.json           # every fault of the file, and what it lacks
python scripts/texts.py check                         # the languages that ship
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_chat.configuration.exit_codes import ExitCode, exit_with, reports_faults
from model_chat.configuration.files import read_text
from model_chat.configuration.text_files import RIGHT_TO_LEFT, TAG, check_texts
from model_chat.configuration.worker_texts import (
    ENGLISH,
    ENGLISH_FILE,
    PAGE,
    SERVER,
    TEXTS_FOLDER,
    read_shipped,
    shipped_languages,
)
from model_chat.errors import ConfigurationError


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 2 where a file has a fault or lacks a text."""
    parser = argparse.ArgumentParser(prog="texts.py", description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    template = commands.add_parser("template", help="write a file to translate")
    template.add_argument("language", help="language tag, such as nl or pt-BR")
    template.add_argument("file", type=Path, help="file to write; it must not exist")
    check = commands.add_parser("check", help="check files")
    check.add_argument("file", nargs="*", help="files, or languages that ship; none: all languages that ship")
    args = parser.parse_args(arguments)
    return write_template(args.language, args.file) if args.command == "template" else check_files(args.file)


def write_template(language: str, file: Path) -> int:
    """Write a file of texts to translate, with those that ship for the language, else the English ones.

    Raises:
        ConfigurationError: no language tag, or the file is there or can't be written.
    """
    if not TAG.fullmatch(language):
        raise ConfigurationError(f"language: '{language}' is no language tag; give one such as de or pt-BR.")
    data: dict[str, Any] = copy.deepcopy(read_shipped(language) if language in shipped_languages() else ENGLISH_FILE)
    if language not in shipped_languages():
        rtl = language.split("-")[0].lower() in RIGHT_TO_LEFT
        texts = {PAGE: data[PAGE], SERVER: data[SERVER]}
        about = {"language": language, "direction": "rtl" if rtl else "ltr", "translation": "people"}
        data = {**about, "thousands": ",", "decimal": ".", **texts}
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    except FileExistsError:
        raise ConfigurationError(f"file: '{file}' exists; name another, or remove it first.") from None
    except OSError as error:
        raise ConfigurationError(f"file: '{file}' can't be written ({error.strerror}); name another.") from None
    print(f"{file}: translate the texts; leave what is in braces as it is. Then: python scripts/texts.py check {file}")
    return ExitCode.DONE


def check_files(files: Sequence[str]) -> int:
    """Print the faults of files, and what they lack; return the exit code."""
    in_order = True
    for name in files or shipped_languages():
        path = str(TEXTS_FOLDER / f"{name}.json") if name in shipped_languages() else name
        try:
            checked = check_texts("file", path, read_text("file", path))
        except ConfigurationError as error:
            in_order = False
            for fault in error.faults:
                print(f"✗ {fault}")
            continue
        covered = checked.data.get("language") in shipped_languages() and name == path
        for fault in checked.faults:
            print(f"✗ {fault}")
        if covered:
            print(f"{name}: {len(checked.missing)} texts are those that ship for '{checked.data['language']}'.")
        else:
            for missing in checked.missing:
                print(f"✗ {name}: '{missing}' is missing; workers see it in English.")
        if checked.untranslated and checked.data.get("language") != ENGLISH:
            print(f"{name}: as in English, which may be right: {', '.join(checked.untranslated)}.")
        if checked.data.get("translation") == "machine":
            print(f"{name}: translated by a machine; have it read by somebody who speaks the language.")
        if checked.faults or (checked.missing and not covered):
            in_order = False
        else:
            print(f"✓ {name}: in order.")
    return ExitCode.DONE if in_order else ExitCode.CONFIGURATION


if __name__ == "__main__":
    exit_with(main)
