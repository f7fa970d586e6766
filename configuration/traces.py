"""Remove what a refused launch has created."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from model_chat.configuration.files import expand


def folder_fault(flag: str, path: str) -> str | None:
    """Say why nothing could be written to a folder, or why it could not be made; None if it can. Nothing is made."""
    if not path.strip():
        return f"{flag}: is empty; give a folder."
    folder = expand(path)
    try:
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not place.is_dir():
            return f"{flag}: '{path}' can't be used, for '{place}' is a file; give a folder."
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return f"{flag}: '{path}' can't be written to ({error.strerror}); give a folder that can."
    return None


class NewPaths:
    """Files and folders that are not there yet, and can be removed when they are.

    Args:
        paths: files, and empty folders; the folders above them are included.
    """

    def __init__(self, *paths: Path) -> None:
        self._new = {
            path
            for given in paths
            for path in (given.absolute(), *given.absolute().parents)
            if not os.path.lexists(path)
        }

    def remove(self) -> None:
        """Remove what is there now; a folder that holds anything else stays."""
        for path in sorted(self._new, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
