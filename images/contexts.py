"""The file of images with their contexts: what ``scripts/save_image_contexts.py`` writes and image chat reads.

It is a Parquet file with three columns, which ``datasets`` and ``pandas`` read as they are:

* ``image``: Hugging Face's layout of an image, ``struct<bytes: binary, path: string>``; PNG or JPEG, upright RGB;
* ``act``: JSON object, what the task's teacher said about the image, without the image;
* ``context``: JSON object, where the image comes from (task, datatype, number of the example, size, hash).

Nothing in it can run code when it is loaded, unlike a pickle; a pickle is refused.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import itertools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from model_chat.errors import ConfigurationError
from model_chat.images._parquet import MAKE_IT as MAKE_IT
from model_chat.images._parquet import PATH_FLAG as PATH_FLAG
from model_chat.images._parquet import refuse_bombs, refuse_other_files
from model_chat.images.pictures import UnreadablePictureError, content_hash, encode, fit, read_picture
from model_chat.records.writing import sync_folder, whole_file

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUGGINGFACE = {
    "info": {
        "features": {
            "image": {"_type": "Image"},
            "act": {"dtype": "string", "_type": "Value"},
            "context": {"dtype": "string", "_type": "Value"},
        }
    }
}
"""What ``datasets`` looks for under the key ``huggingface`` of a Parquet schema to know that ``image`` is one."""

SCHEMA = pa.schema(
    [("image", _IMAGE), ("act", pa.string()), ("context", pa.string())],
    metadata={"huggingface": json.dumps(_HUGGINGFACE)},
)

_FINGERPRINT = "model_chat.fingerprint"
_GROUP_ROWS = 16
_GROUP_BYTES = 4 * 1024 * 1024
"""A row group, the least that can be read, is closed at so many images or bytes: reading one image costs no more."""

_CACHED_GROUPS = 4

MAX_IMAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class ImageContext:
    """One image and what is known about it."""

    image_idx: int
    image_bytes: bytes
    """The encoded file, PNG or JPEG."""
    path: str
    """A file name for it."""
    act: dict[str, Any]
    context: dict[str, Any]
    is_bare: bool = True
    """Whether the file is one of :mod:`~model_chat.images.pictures`' own: small, and nothing but the picture."""

    @property
    def media_type(self) -> str:
        """MIME type of ``image_bytes``."""
        return "image/png" if self.image_bytes.startswith(b"\x89PNG") else "image/jpeg"

    def data_url(self) -> str:
        """Return the image as a ``data:`` URL for the page: without what else a photo's file says, where it was taken say.

        Raises:
            UnreadablePictureError: a picture from elsewhere is damaged.
        """
        content, kind = self.image_bytes, self.media_type
        if not self.is_bare:
            content, suffix = encode(fit(self.open()))
            kind = "image/png" if suffix == ".png" else "image/jpeg"
        return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

    def open(self) -> Image.Image:
        """Decode the image, RGB: what ParlAI calls image mode ``raw``.

        Raises:
            UnreadablePictureError: the file's bytes are damaged.
        """
        return read_picture(self.image_bytes)


class ImageContextsWriter:
    """Writes an image file, image by image; it appears under its name when it is complete, and not before.

    For one thread. Use it as a context manager: leaving it by an exception removes what was written.

    Args:
        path: where to put the file; what is there now is replaced at the end.

    Raises:
        ConfigurationError: the file can't be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self.count = 0
        """Images added so far."""
        self._file = ExitStack()
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._fingerprint = hashlib.sha256()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise IsADirectoryError(f"'{self.path}' is a folder")
            # Pictures are compressed already; the JSON beside them is worth it.
            self._writer: pq.ParquetWriter | None = pq.ParquetWriter(
                self._file.enter_context(whole_file(self.path, private=False)),
                SCHEMA,
                compression={"image.bytes": "none", "act": "zstd", "context": "zstd"},
            )
        except OSError as error:
            raise ConfigurationError(
                f"--image-context-path {self.path}: it can't be written ({error}); name a file in a folder you may write."
            ) from error

    def add(self, image: Image.Image, act: Mapping[str, Any], context: Mapping[str, Any]) -> None:
        """Add an image.

        Args:
            image: an RGB picture (``pictures.upright_rgb``).
            act: the teacher's act; the image itself and what JSON can't hold are left out.
            context: JSON types; ``width``, ``height`` and ``sha256`` (of the pixels) are added.

        Raises:
            OSError: the disk is full.
        """
        if self._writer is None:
            raise RuntimeError("The image file is closed.")
        content, suffix = encode(image)
        digest = content_hash(image)
        self._fingerprint.update(bytes.fromhex(digest))
        known = {**context, "width": image.width, "height": image.height, "sha256": digest}
        row = {
            "image": {"bytes": content, "path": f"{self.count:06d}{suffix}"},
            "act": json.dumps(json_safe_act(act), ensure_ascii=False),
            "context": json.dumps(known, ensure_ascii=False),
        }
        self._rows.append(row)
        self._bytes += len(content) + len(row["act"])
        self.count += 1
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush(self._writer)

    def _flush(self, writer: pq.ParquetWriter) -> None:
        if self._rows:
            writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows, self._bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the finished file in place, or remove what was written.

        Raises:
            OSError: the disk is full.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with self._file:
            if error is None:
                self._flush(writer)
                writer.add_key_value_metadata({_FINGERPRINT: self._fingerprint.hexdigest()})
            writer.close()
            if error is not None:
                raise error
        sync_folder(self.path.parent)


class ImageContexts:
    """An image file, open for reading: any image by its index, without holding more than a few in memory.

    Thread-safe; ``_lock`` owns the open file and the cache.

    Args:
        path: the file; ``~`` is expanded.

    Raises:
        ConfigurationError: there is no such file, it is a pickle, no Parquet file, damaged, empty, or has no images.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        # Row group -> the batch of it that was read last: the index of its first image, and the rows.
        self._cache: OrderedDict[int, tuple[int, list[dict[str, Any]]]] = OrderedDict()
        refuse_other_files(self.path)
        try:
            self._file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigurationError(
                f"{PATH_FLAG}={self.path}: the Parquet file is damaged ({error}); {MAKE_IT}"
            ) from None
        try:
            self._check_schema()
        except BaseException:
            self._file.close()
            raise
        metadata = self._file.metadata
        rows = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = [0, *itertools.accumulate(rows)]

    def _check_schema(self) -> None:
        schema = self._file.schema_arrow
        image = schema.field("image").type if "image" in schema.names else None
        names = {image.field(n).name for n in range(image.num_fields)} if image and pa.types.is_struct(image) else set()
        if "bytes" not in names:
            raise ConfigurationError(
                f"{PATH_FLAG}={self.path}: it has no column 'image' of the form {{bytes, path}}, but {schema.names}; "
                f"{MAKE_IT}"
            )
        if not self._file.metadata.num_rows:
            raise ConfigurationError(f"{PATH_FLAG}={self.path}: it holds no image; {MAKE_IT}")
        self._columns = [name for name in ("image", "act", "context") if name in schema.names]
        refuse_bombs(self.path, self._file.metadata)
        self._is_ours = _FINGERPRINT.encode() in (self._file.metadata.metadata or {})

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, image_idx: int) -> ImageContext:
        """Return an image.

        Raises:
            IndexError: there is no such image (negative indices are not counted from the end).
            ConfigurationError: this image's part of the file is damaged.
        """
        if not 0 <= image_idx < len(self):
            raise IndexError(f"image {image_idx} of {len(self)}")
        group = bisect.bisect_right(self._starts, image_idx) - 1
        with self._lock:
            first, rows = self._cache.get(group, (0, []))
            if not first <= image_idx < first + len(rows):
                first, rows = self._cache[group] = self._read_batch(group, image_idx)
            self._cache.move_to_end(group)
            if len(self._cache) > _CACHED_GROUPS:
                self._cache.popitem(last=False)
        return self._context(image_idx, rows[image_idx - first])

    def _read_batch(self, group: int, image_idx: int) -> tuple[int, list[dict[str, Any]]]:
        """Read a few images, the wanted one among them; return the index of the first, too. Called with ``_lock``."""
        first = self._starts[group]
        try:
            # Not the whole group: a dictionary of one picture can stand for a million rows.
            for batch in self._file.iter_batches(_GROUP_ROWS, row_groups=[group], columns=self._columns):
                if image_idx < first + batch.num_rows:
                    return first, batch.to_pylist()
                first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(image_idx, error) from None
        raise self._unreadable(image_idx, "its row group is shorter than the file says")

    def _unreadable(self, image_idx: int, why: object) -> ConfigurationError:
        return ConfigurationError(f"{PATH_FLAG}={self.path}: image {image_idx} can't be read ({why}); {MAKE_IT}")

    def _context(self, image_idx: int, row: Mapping[str, Any]) -> ImageContext:
        image = row["image"] or {}
        if not image.get("bytes"):
            raise ConfigurationError(
                f"{PATH_FLAG}={self.path}: image {image_idx} is not in the file itself (only its path "
                f"{image.get('path')!r}); {MAKE_IT}"
            )
        if len(image["bytes"]) > MAX_IMAGE_BYTES:
            raise self._unreadable(image_idx, f"{len(image['bytes']):,} bytes; at most {MAX_IMAGE_BYTES:,}")
        try:
            act, context = _object(row.get("act")), _object(row.get("context"))
        except (ValueError, RecursionError) as error:
            raise self._unreadable(image_idx, f"its act or context is no JSON: {error}") from None
        return ImageContext(
            image_idx=image_idx,
            image_bytes=image["bytes"],
            path=image.get("path") or f"{image_idx:06d}",
            act=act,
            context=context,
            is_bare=self._is_ours,
        )

    def __iter__(self) -> Iterator[ImageContext]:
        """Give all images in their order, reading the file once.

        Raises:
            ConfigurationError: a part of the file is damaged.
        """
        image_idx = 0
        try:
            with pq.ParquetFile(self.path) as file:  # of its own: the other one is read from by others meanwhile
                for batch in file.iter_batches(_GROUP_ROWS, columns=self._columns):
                    for row in batch.to_pylist():
                        yield self._context(image_idx, row)
                        image_idx += 1
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(image_idx, error) from None

    @property
    def fingerprint(self) -> str:
        """Which images these are, in their order: for ``ImageStack(images_id=...)``.

        A file from elsewhere is read for this, and each of its pictures opened.

        Raises:
            ConfigurationError: one of them can't be read.
        """
        stored = (self._file.metadata.metadata or {}).get(_FINGERPRINT.encode())
        if stored:
            return str(stored.decode("ascii"))
        digest = hashlib.sha256()  # a file from elsewhere: its encoded bytes must do
        for image in self:
            try:
                image.open()
            except UnreadablePictureError as error:
                raise self._unreadable(image.image_idx, error) from None
            digest.update(hashlib.sha256(image.image_bytes).digest())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _object(text: str | None) -> dict[str, Any]:
    content = json.loads(text) if text else {}
    return content if isinstance(content, dict) else {"value": content}


def json_safe_act(act: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold of an act: no ``image``; tuples and sets as lists; other objects are left out."""
    safe = {}
    for key, value in act.items():
        if key != "image":
            kept = _json_safe(value)
            if kept is not _LEFT_OUT:
                safe[str(key)] = kept
    return safe


_LEFT_OUT = object()


def _json_safe(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        pairs = ((str(key), _json_safe(item)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not _LEFT_OUT}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [item for item in map(_json_safe, items) if item is not _LEFT_OUT]
    if hasattr(value, "item") and getattr(value, "size", None) == 1:  # a numpy number
        return _json_safe(value.item())
    return _LEFT_OUT
