"""Locations of the task's own files and of a requester's. Standard library only, for scripts that start early."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The package's folder: what ships is read from here."""


MEPHISTO_DATA = "~/.mephisto/data"
"""Mephisto's data folder, unless its own configuration names another."""


def is_checkout(root: Path = ROOT) -> bool:
    """Whether the package is a working copy that is used in its own folder, rather than an installed wheel."""
    return (root / "pyproject.toml").is_file()  # no wheel holds it


def work_dir(root: Path = ROOT) -> Path:
    """Return the folder below which a requester's models, data and ``conf/`` are looked for and written.

    In a working copy that is the copy; nobody wants their data among installed packages, so for an installed wheel it
    is the current folder.
    """
    return root if is_checkout(root) else Path.cwd()


def command_of(script: str) -> str:
    """Return how a requester calls one of our scripts, such as ``scripts/preview.py``."""
    if is_checkout():
        return f"python {script}"
    return f"python -m model_chat.{script.removesuffix('.py').replace('/', '.')}"


def set_up_command() -> str:
    """Return what installs the parts that are not Python, as a requester types it."""
    return "make setup" if is_checkout() else command_of("scripts/setup_env.py")
