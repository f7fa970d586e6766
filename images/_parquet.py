"""Checks of an image file before it is read: whether it is Parquet, and how large its content claims to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError

PATH_FLAG = "mephisto.blueprint.image_context_path"
MAKE_IT = "make it with: python scripts/save_image_contexts.py --task TASK --num-examples N --image-context-path FILE"

MAX_IMAGES = 1_000_000
MAX_CHUNK_BYTES = 1 << 30
"""Of one column in one row group, as the file's metadata says: so much at most is unpacked at once."""

_MAGIC = b"PAR1"


def refuse_bombs(path: Path, metadata: Any) -> None:
    """Refuse what would fill the memory: a few kilobytes can claim a billion rows, or gigabytes of zeros.

    Raises:
        ConfigurationError: too many images, or too much in one column of a row group.
    """
    if metadata.num_rows > MAX_IMAGES:
        raise ConfigurationError(
            f"{PATH_FLAG}={path}: it says that it holds {metadata.num_rows:,} images; at most {MAX_IMAGES:,} can be used; "
            "split it."
        )
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        largest = max((row_group.column(n).total_uncompressed_size for n in range(row_group.num_columns)), default=0)
        if largest > MAX_CHUNK_BYTES:
            raise ConfigurationError(
                f"{PATH_FLAG}={path}: its row group {group} has {largest:,} bytes in one column; at most "
                f"{MAX_CHUNK_BYTES:,} can be read; write it with smaller row groups."
            )


def refuse_other_files(path: Path) -> None:
    """Raise a ConfigurationError unless there is a Parquet file at ``path``."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigurationError(f"{PATH_FLAG}={path}: the file {what}; {MAKE_IT}")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ConfigurationError(
            f"{PATH_FLAG}={path}: it can't be read ({error.strerror}); check its permissions."
        ) from None
    if head == _MAGIC:
        return
    # Pickle protocols 2 to 5 begin so; 0 and 1 have no mark, but nobody has written them for long.
    if (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or path.suffix in (".pkl", ".pickle"):
        raise ConfigurationError(
            f"{PATH_FLAG}={path}: this is a pickle file, and loading one can run any code that is in it; {MAKE_IT}"
        )
    raise ConfigurationError(f"{PATH_FLAG}={path}: this is no Parquet file; {MAKE_IT}")
