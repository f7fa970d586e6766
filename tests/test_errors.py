"""The exceptions of the package: one hierarchy, and no handler broader than it says why."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_chat import errors
from model_chat.errors import ModelChatError

ROOT = Path(__file__).resolve().parents[1]
BEFORE_THE_PACKAGE = {"scripts/setup_env.py"}
"""These run before the package can be imported."""
BROAD = {"Exception", "BaseException", "ANYTHING"}


def sources() -> list[Path]:
    """The package's own modules, without tests and measurements."""
    folders = sorted({file.parent for file in ROOT.glob("*/__init__.py")} - {ROOT / "tests", ROOT / "benchmarks"})
    return [*sorted(ROOT.glob("*.py")), *(file for folder in folders for file in sorted(folder.rglob("*.py")))]


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return ast.unparse(node).rpartition(".")[2]


def exception_classes() -> dict[str, Path]:
    """The name of each exception class -> the module that defines it."""
    parents: dict[str, set[str]] = {}
    places: dict[str, Path] = {}
    for file in sources():  # parsed, they would take seconds of each process that collects this file
        for name, bases in re.findall(r"^ *class (\w+)\(([^)]*)\)", file.read_text(encoding="utf-8"), re.MULTILINE):
            parents.setdefault(name, set()).update(re.findall(r"(\w+)(?:\[.*?\])? *(?:,|$)", bases))
            places[name] = file

    def is_exception(name: str) -> bool:
        builtin = getattr(builtins, name, None)
        if isinstance(builtin, type) and issubclass(builtin, BaseException):
            return True
        return any(map(is_exception, parents.get(name, ())))

    return {name: place for name, place in places.items() if is_exception(name)}


CLASSES = {name: place.relative_to(ROOT) for name, place in exception_classes().items()}


def loaded(name: str) -> type[Exception]:
    """An exception class by its name."""
    place = ".".join(CLASSES[name].with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(f"model_chat.{place}")
    found: type[Exception] = getattr(module, name)
    return found


def test_the_classes_are_found() -> None:
    assert {"ModelChatError", "ConfigurationError", "StackWriteError", "_HookError"} <= set(CLASSES)


@pytest.mark.parametrize("name", sorted(n for n, at in CLASSES.items() if at.as_posix() not in BEFORE_THE_PACKAGE))
def test_every_exception_of_the_package_has_the_common_base(name: str) -> None:
    assert issubclass(loaded(name), ModelChatError)


def test_the_documented_tree_is_the_one_in_the_code() -> None:
    documented: dict[str, tuple[str, str | None]] = {}
    parents: list[str] = ["ModelChatError"]
    for indent, name, second in re.findall(
        r"^    ([│ ]*)[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or "", re.MULTILINE
    ):
        depth = len(indent) // 4
        documented[name] = (parents[depth], second or None)
        parents[depth + 1 :] = [name]
    public = {n for n, at in CLASSES.items() if not n.startswith("_") and at.as_posix() not in BEFORE_THE_PACKAGE}
    bases = {name: [base.__name__ for base in loaded(name).__bases__] for name in public - {"ModelChatError"}}
    assert documented == {name: (found[0], found[1] if len(found) > 1 else None) for name, found in bases.items()}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("ConfigurationError", ValueError),
        ("RefusedError", ValueError),
        ("ModelFailureError", RuntimeError),
        ("NoReservationLeftError", RuntimeError),
        ("PlatformError", RuntimeError),
        ("StackWriteError", OSError),
        ("MalformedError", ValueError),
        ("AnnotationRefusedError", errors.RefusedError),
    ],
)
def test_callers_may_still_catch_the_builtin(name: str, base: type[Exception]) -> None:
    assert issubclass(loaded(name), base)


def test_os_errors_keep_their_number() -> None:
    error = loaded("StackWriteError")(28, "No space left on device")
    assert isinstance(error, OSError)
    assert error.errno == 28


def unexplained_handlers(text: str) -> Iterator[int]:
    """The lines that catch whatever comes, do not raise it again as it came, and give no reason on the line."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        is_broad = any(each is None or name_of(each) in BROAD for each in caught)
        last = node.body[-1]
        raises_again = isinstance(last, ast.Raise) and last.exc is None
        if is_broad and not raises_again and not re.search(r":  # \w", lines[node.lineno - 1]):
            yield node.lineno


def test_a_handler_without_a_reason_is_found() -> None:
    text = "try:\n    f()\nexcept {}:\n    {}\n"
    assert list(unexplained_handlers(text.format("Exception", "pass"))) == [3]
    assert list(unexplained_handlers(text.format("(OSError, BaseException)", "pass"))) == [3]
    assert list(unexplained_handlers(text.format("Exception as error", "raise ValueError from error"))) == [3]
    assert list(unexplained_handlers("try:\n    f()\nexcept:\n    pass\n")) == [3]
    assert list(unexplained_handlers(text.format("Exception", "raise"))) == []
    assert list(unexplained_handlers(text.format("OSError", "pass"))) == []
    assert list(unexplained_handlers("try:\n    f()\nexcept Exception:  # the hook is not ours\n    pass\n")) == []


def test_whatever_is_caught_broadly_says_why() -> None:
    found = {
        str(file.relative_to(ROOT)): [*unexplained_handlers(file.read_text(encoding="utf-8"))] for file in sources()
    }
    assert {file: lines for file, lines in found.items() if lines} == {}
