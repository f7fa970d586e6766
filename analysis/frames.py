"""Columns of the analysis' tables, which a table has without rows, too."""

from __future__ import annotations


def columns(names: str) -> list[str]:
    """Return the names of columns, which are given with spaces between them, in order."""
    return names.split()
