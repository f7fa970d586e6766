"""The rows of each format, and how they are written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet

from model_chat.analysis.frames import columns
from model_chat.analysis.output import csv_line
from model_chat.exports.messages import ASSISTANT, SYSTEM, USER, ExportedConversation
from model_chat.exports.preferences import LabelledReplies, PreferencePairs, Rows
from model_chat.exports.settings import CSV, HF_DATASET, OPENAI, PREFERENCE, SHAREGPT, UNPAIRED, ExportSettings
from model_chat.records.writing import whole_file

_SHAREGPT_NAMES = {SYSTEM: "system", USER: "human", ASSISTANT: "gpt"}
_BATCH = 500
"""Conversations that are in memory while a parquet file is written."""
_CSV_COLUMNS = columns(
    "conversation_id message role text shown_as_said offered ticked ratings model worker hit_id assignment_id task_name "
    "day consent image_idx image_id"
)
_TEXTS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.int32())
_COMPARISON = pa.struct(
    [
        ("turn_idx", pa.int32()),
        ("question", pa.string()),
        ("left_model", pa.string()),
        ("left_text", pa.string()),
        ("left_offered", _TEXTS),
        ("left_ticked", _TEXTS),
        ("right_model", pa.string()),
        ("right_text", pa.string()),
        ("right_offered", _TEXTS),
        ("right_ticked", _TEXTS),
        ("pick", pa.string()),
        ("strength", pa.int32()),
        ("reason", pa.string()),
        ("continued_with", pa.string()),
    ]
)
HF_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("model", pa.string()),
        ("message_models", pa.list_(pa.struct([("message", pa.int32()), ("model", pa.string())]))),
        ("served_models", _TEXTS),
        ("worker", pa.string()),
        ("hit_id", pa.string()),
        ("assignment_id", pa.string()),
        ("task_name", pa.string()),
        ("day", pa.string()),
        ("consent", pa.string()),
        ("ratings", _NUMBERS),
        ("rating_questions", _TEXTS),
        ("annotations", pa.list_(pa.struct([("message", pa.int32()), ("offered", _TEXTS), ("ticked", _TEXTS)]))),
        ("comparisons", pa.list_(_COMPARISON)),
        ("shown_as_said", _NUMBERS),
        ("conditions", pa.list_(pa.struct([("factor", pa.string()), ("level", pa.string())]))),
        ("acceptability_violation", pa.string()),
        ("context_dataset", pa.string()),
        ("image_idx", pa.int32()),
        ("image_id", pa.string()),
    ]
)
"""Columns of `hf-dataset`."""


class _OneRow(Rows):
    """A format with a row a conversation."""

    def rows(self, exported: ExportedConversation) -> Iterator[dict[str, Any]]:
        yield self.row(exported)

    def row(self, exported: ExportedConversation) -> dict[str, Any]:
        raise NotImplementedError


class _OpenAi(_OneRow):
    def row(self, exported: ExportedConversation) -> dict[str, Any]:
        return {"messages": exported.messages, "metadata": exported.metadata}


class _ShareGpt(_OneRow):
    def row(self, exported: ExportedConversation) -> dict[str, Any]:
        said = [
            {"from": _SHAREGPT_NAMES[message["role"]], "value": message["content"]} for message in exported.messages
        ]
        return {"id": exported.metadata["id"], "conversations": said, "metadata": exported.metadata}


class _HfDataset(_OneRow):
    def row(self, exported: ExportedConversation) -> dict[str, Any]:
        return {"messages": exported.messages, **exported.metadata}


class _Csv(Rows):
    def rows(self, exported: ExportedConversation) -> Iterator[dict[str, Any]]:
        metadata = exported.metadata
        shared = {name: metadata[name] for name in _CSV_COLUMNS if name in metadata and name != "ratings"}
        shared["conversation_id"] = metadata["id"]
        shared["ratings"] = "|".join(map(str, metadata["ratings"]))
        annotated = {entry["message"]: entry for entry in metadata["annotations"]}
        for position, message in enumerate(exported.messages):
            boxes = annotated.get(position, {"offered": [], "ticked": []})
            yield {
                **shared,
                "message": position,
                "role": message["role"],
                "text": message["content"],
                "shown_as_said": str(position in metadata["shown_as_said"]).lower(),
                "offered": _cell(boxes["offered"]),
                "ticked": _cell(boxes["ticked"]),
            }


def _cell(names: list[str]) -> str:
    """Names in one cell: as JSON, so that a comma in a name parts nothing; empty for none."""
    return json.dumps(names, ensure_ascii=False) if names else ""


def rows_of(settings: ExportSettings) -> Rows:
    """The maker of the rows of a format."""
    if settings.format == UNPAIRED:
        return LabelledReplies(settings.labels)
    kinds: dict[str, type[Rows]] = {
        OPENAI: _OpenAi,
        SHAREGPT: _ShareGpt,
        PREFERENCE: PreferencePairs,
        HF_DATASET: _HfDataset,
        CSV: _Csv,
    }
    return kinds[settings.format]()


def write_rows(path: Path, settings: ExportSettings, rows: Iterable[dict[str, Any]]) -> int:
    """Write the rows of a format, whole or not at all, and return how many there are; a batch is in memory at a time."""
    with whole_file(path) as file:
        if settings.format == HF_DATASET:
            return _write_parquet(file, rows)
        if settings.format == CSV:
            return _write_csv(file, rows, settings.csv_guard)
        return _write_lines(file, rows, path.parent)


def _write_lines(file: IO[bytes], rows: Iterable[dict[str, Any]], folder: Path) -> int:
    """Write a JSON object a line, first those that are the first to have a value where others before them had none.

    `datasets` takes the types of a file's columns from its first 10 MB, and refuses a later value where it had seen none.
    """
    first: list[bytes] = []
    valued: set[str] = set()
    count = 0
    with tempfile.TemporaryFile(dir=folder) as others:
        for count, row in enumerate(rows, 1):  # noqa: B007 (the last count is returned)
            line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
            found = set(_valued(row, ""))
            if found <= valued:
                others.write(line)
            else:
                valued |= found
                first.append(line)
        file.writelines(first)
        others.seek(0)
        shutil.copyfileobj(others, file)
    return count


def _valued(value: Any, path: str) -> Iterator[str]:
    """Name the places in a row that hold a value, lists' entries as one."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _valued(entry, f"{path}.{name}")
    elif isinstance(value, list):
        for entry in value:
            yield from _valued(entry, f"{path}[]")
    elif value is not None:
        yield path


def _write_csv(file: IO[bytes], rows: Iterable[dict[str, Any]], guard: bool) -> int:
    file.write(csv_line(_CSV_COLUMNS, guard=False))
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 (as above)
        file.write(csv_line([row[name] for name in _CSV_COLUMNS], guard))
    return count


def _write_parquet(file: IO[bytes], rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with pa.parquet.ParquetWriter(file, HF_SCHEMA, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            count += 1
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, HF_SCHEMA))
                batch = []
        if batch or not count:
            writer.write_table(pa.Table.from_pylist(batch, HF_SCHEMA))
    return count
