"""Output of benchmark figures: a table to read, and a JSON file to compare."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], width: int) -> None:
    """Print a table.

    Args:
        columns: heading -> how a row's figures are shown, such as ``{turn_p50_s:.3f} s``.
    """
    table = Table(title=title)
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(*(form.format_map(row) for form in columns.values()))
    Console(width=width).print(table)


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``, for :func:`write_json`."""
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")


def write_json(file: Path | None, figures: Any) -> None:
    """Write the figures to the file of ``--json``, if one is given."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=2), encoding="utf-8")
