"""Write tables as csv, json or parquet, atomically and in batches."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from model_chat.analysis.arrays import rating_columns
from model_chat.analysis.collect import Corpus, entries_of
from model_chat.analysis.exclusions import Exclusion
from model_chat.configuration.lists import FORMULA, GUARD
from model_chat.records.writing import whole_file

ENDING = "ending"
"""The column of what panels' participants were told; only where there are such."""
EXCLUDED_COLUMNS = ("source", "worker_id", "hit_id", "model_nickname", "reason", "detail")


def result_schema(corpus: Corpus, extra_columns: Mapping[str, type]) -> pa.Schema:
    """Columns of the results table, in order."""
    settings = corpus.settings
    spooled = _spool_schema(corpus)
    return pa.schema(
        [
            *([("folder", pa.string())] if settings.results_folders else []),
            ("worker_id", pa.string()),
            ("hit_id", pa.string()),
            ("model_nickname", pa.string()),
            ("conversation_idx", pa.int32()),
            ("turn_idx", pa.int32()),
            ("agent_idx", pa.int8()),
            ("text", pa.string()),
            *((bucket, pa.bool_()) for bucket in settings.problem_buckets),
            *((name, pa.int8()) for name in rating_columns(corpus.questions)),
            *([(ENDING, pa.string())] if _has_endings(corpus, extra_columns) else []),
            *((name, pa.string()) for name in settings.by),
            *((name, spooled.field(name).type) for name in extra_columns),
        ]
    )


def _has_endings(corpus: Corpus, extra_columns: Mapping[str, type]) -> bool:
    """Whether participants of a panel were told an ending, and no subclass has a column of that name."""
    endings = corpus.conversations[ENDING]
    taken = {*extra_columns, *corpus.settings.problem_buckets}
    return ENDING not in taken and endings.null_count < len(endings)


def result_batches(corpus: Corpus, extra_columns: Mapping[str, type]) -> Iterator[pa.RecordBatch]:
    """The results table, a batch at a time: a row an utterance, the context's row first."""
    schema = result_schema(corpus, extra_columns)
    ratings = [_rating(corpus, question) for question in range(max(corpus.questions, 1))]
    count = corpus.conversations.num_rows
    models = corpus.model_names().combine_chunks()
    first_part = corpus.first_parts()
    split = {
        name: pa.array(corpus.answers.column(name, count) or [None] * count, pa.string()) for name in corpus.settings.by
    }
    for batch in corpus.utterances():
        conversation = batch["conversation"]
        columns: dict[str, pa.Array] = {
            name: batch[name] for name in batch.schema.names if name not in ("conversation", "rated", "part")
        }
        columns["model_nickname"] = models.take(pa.array(_entries(batch, first_part)))
        for name in ("folder", "worker_id", "hit_id"):
            columns[name] = corpus.conversations[name].combine_chunks().take(conversation)
        if ENDING in schema.names and ENDING not in columns:
            columns[ENDING] = corpus.conversations[ENDING].combine_chunks().take(conversation)
        columns["conversation_idx"] = conversation
        for name, values in split.items():
            columns[name] = values.take(conversation)
        for name, values in zip(rating_columns(corpus.questions), ratings, strict=True):
            columns[name] = pc.if_else(batch["rated"], values.take(conversation), pa.scalar(None, pa.int8()))
        yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _entries(batch: pa.RecordBatch, first_part: np.ndarray) -> np.ndarray:
    """Of each row, the number of its part of the conversation among all entries, or of the conversation."""
    return entries_of(batch["conversation"].to_numpy(), batch["part"].to_numpy(), first_part)


def _spool_schema(corpus: Corpus) -> pa.Schema:
    with pa.memory_map(str(corpus.spool)) as file, pa.ipc.open_stream(file) as reader:
        return reader.schema


def _rating(corpus: Corpus, question: int) -> pa.Array:
    answers = corpus.conversations["ratings"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(answers), 0)
    offsets = answers.offsets.to_numpy()[:-1].astype(np.int64)
    has = np.asarray(lengths) > question
    flat = answers.values
    at = pa.array(np.where(has, offsets + question, 0), pa.int64(), mask=~has)
    return flat.take(at) if len(flat) else pa.nulls(len(answers), pa.int8())


def write_batches(path: Path, kind: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], guard: bool) -> int:
    """Write a table that comes in batches.

    Args:
        kind: `csv`, `json` (a list of objects, one a line) or `parquet`.
        guard: in csv, put an apostrophe before texts (and names of columns) that begin like a formula.

    Returns:
        How many texts were given an apostrophe.
    """
    guarded = 0
    with whole_file(path, private=False) as file:
        if kind == "csv":
            options = pa.csv.WriteOptions(include_header=False)
            file.write(csv_line(schema.names, guard))
            with pa.csv.CSVWriter(file, schema, write_options=options) as writer:
                for batch in batches:
                    safe, count = guard_formulas(batch) if guard else (batch, 0)
                    guarded += count
                    writer.write_batch(safe)
        elif kind == "parquet":
            with pa.parquet.ParquetWriter(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        else:
            separator = b"[\n"
            for batch in batches:
                for row in batch.to_pylist():
                    file.write(separator + orjson.dumps(row, default=str))
                    separator = b",\n"
            file.write(b"\n]\n" if separator == b",\n" else b"[]\n")
    return guarded


def csv_line(cells: Iterable[object], guard: bool) -> bytes:
    """A line of csv, its cells quoted where they have to be, with an apostrophe as :func:`write_batches` says."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(  # whose characters are what it quotes
        f"{GUARD}{cell}" if guard and isinstance(cell, str) and re.match(FORMULA, cell) else cell for cell in cells
    )
    return line.getvalue().removesuffix("\r\n").encode() + b"\n"


def guard_formulas(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
    """Put an apostrophe before every text that begins like a formula, and count them."""
    count = 0
    for index, kind in enumerate(batch.schema):
        if kind.type != pa.string():
            continue
        column = batch.column(index)
        found = pc.fill_null(pc.match_substring_regex(column, FORMULA), False)
        here = pc.sum(found).as_py() or 0
        if here:
            prefixed = pc.binary_join_element_wise(GUARD, column, "")
            batch = batch.set_column(index, kind, pc.if_else(found, prefixed, column))
            count += here
    return batch, count


def write_frame(path: Path, kind: str, frame: pd.DataFrame, guard: bool) -> int:
    """Write a small table; see :func:`write_batches`."""
    table = pa.Table.from_pandas(_typed(frame), preserve_index=False).replace_schema_metadata(None)
    table = table.cast(pa.schema([pa.field(f.name, _plain(f.type)) for f in table.schema]))
    return write_batches(path, kind, table.schema, table.to_batches(), guard)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of nothing but missing values become numbers, which every format can hold."""
    empty = [name for name in frame.columns if frame[name].dtype == object and frame[name].isna().all()]
    return frame.assign(**dict.fromkeys(empty, float("nan")))  # pandas' NA can't be cast


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_null(kind) else kind


def write_exclusions(path: Path, exclusions: Iterable[Exclusion], guard: bool) -> int:
    """Write the list of conversations that do not count; always csv."""
    rows = [
        [entry.source, entry.worker_id, entry.hit_id, entry.model_nickname, entry.reason.value, entry.detail]
        for entry in exclusions
    ]
    return write_frame(path, "csv", pd.DataFrame(rows, columns=list(EXCLUDED_COLUMNS)), guard)


def write_statistics(path: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, object]) -> None:
    """Write all tables and facts into one JSON file, numbers with all their digits; what is not known is null."""
    content = {**facts, **{name: _rows(frame) for name, frame in tables.items()}}
    with whole_file(path, private=False) as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY, default=str) + b"\n")


def _rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a table, missing values as None."""
    known = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(known.columns, row, strict=True)) for row in known.itertuples(index=False, name=None)]
