"""The commands of README.md, CONTRIBUTING.md, docs/ and frontend/README.md, as a stranger would copy them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "frontend/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
NEEDS = frozenset({"needs an account", "needs docker", "needs the network", "needs a cluster"})
"""What a command may need that no test has. Said in a comment before its block, or right behind it in a sentence."""
PROGRAM = r"(?:[^\s`]*/)?(?:python[^\s`]*|pip|pytest)|make|npm|ray|heroku|docker|cp|source|mkdir"
_INLINE = re.compile(rf"`((?:[A-Z_]+=[^\s`]+ )*(?:{PROGRAM}) [^`]+)`(?:<!-- (needs [a-z ]+) -->)?")
_MARK = re.compile(r"<!-- (needs [a-z ]+) -->\s*$")
_SENTENCE = re.compile(r"…|\b(?:NAME|COMMAND)\b")
"""In a command that is only spoken of: something is left out, or any will do."""


@dataclass(frozen=True)
class Command:
    """One line that a page asks to type; several programs if they are joined by ``&&``."""

    page: str
    line: str
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def blocks(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Shell blocks, fenced by ```bash: where they begin, what is in them, and what they need."""
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        if found[2] == "bash":
            before = text[: found.start()].rstrip().rpartition("\n")[2]
            marked = _MARK.search(before)
            yield found.start(), found[3], marked and marked[1]


def _lines(block: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        # A comment begins behind a space; what is quoted holds none on our pages.
        command = re.sub(r"(^|\s)#.*", "", line).strip()
        if command:
            yield command


def commands_of(page: Path) -> list[Command]:
    """Every command of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = [(at, Command(name, line, needs)) for at, block, needs in blocks(text) for line in _lines(block)]
    blank = re.sub(r"^ *```.*?^ *```$", lambda block: " " * len(block[0]), text, flags=re.MULTILINE | re.DOTALL)
    for match in _INLINE.finditer(blank):
        if not _SENTENCE.search(match[1]):
            found.append((match.start(), Command(name, " ".join(match[1].split()), match[2])))
    return [command for _, command in sorted(found, key=lambda each: each[0])]


COMMANDS = [command for page in PAGES for command in commands_of(page)]
