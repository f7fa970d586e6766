"""The report's section of authenticity signals."""

from __future__ import annotations

from typing import Any

from model_chat.analysis.authenticity import ALL, STRENGTH, Authenticity
from model_chat.analysis.settings import Settings
from model_chat.analysis.summary import Summary

_ROWS_SHOWN = 25
"""Workers; the file has all."""


def authenticity_content(summary: Summary) -> dict[str, Any] | None:
    """What the template shows: thresholds, workers, and each result with and without; None where nothing was recorded."""
    found = summary.authenticity
    if found is None:
        return None
    workers = found.workers.astype(object).where(found.workers.notna(), None).to_dict("records")
    return {
        "above": len(found.names_above),
        "thresholds": list(_thresholds(summary.settings)),
        "all_workers": len(workers),
        "workers": workers[:_ROWS_SHOWN],
        "results": list(_beside(found)),
        "strength": STRENGTH,
    }


def _thresholds(settings: Settings) -> list[str]:
    """The thresholds that are set, in words."""
    said = []
    if settings.max_pasted_share < 1:
        said.append(f"more than {settings.max_pasted_share:.0%} of the characters pasted")
    if settings.max_times_away >= 0:
        said.append(f"away more than {settings.max_times_away:g} times a message")
    if settings.min_keys_per_character > 0:
        said.append(f"fewer than {settings.min_keys_per_character:g} keys a character, where keys are known")
    return said


def _beside(found: Authenticity) -> list[dict[str, Any]]:
    """A row a result: what it is, with all workers, and without those above a threshold (None where there is nobody)."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in found.results.to_dict("records"):
        shown = {name: row[name] for name in ("metric", "aspect", "model_nickname", "measure")}
        entry = rows.setdefault(tuple(shown.values()), {"all": None, "without": None, **shown})
        entry["all" if row["counted"] == ALL else "without"] = row
    return [
        row
        for row in rows.values()
        if any(side is not None and side["workers"] for side in (row["all"], row["without"]))
    ]
