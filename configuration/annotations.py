"""Annotation buckets: what a worker can say about each reply of the model."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from model_chat.configuration.files import parse_json, read_text, validation_faults
from model_chat.configuration.worker_texts import worker_text
from model_chat.errors import ConfigurationError, RefusedError
from model_chat.records.schema import NONE_ALL_GOOD as NONE_ALL_GOOD

RESULT_COLUMN = re.compile(
    "folder|worker_id|hit_id|model_nickname|conversation_idx|turn_idx|agent_idx|text|conversation|rated|part|final_rating.*"
)
"""Columns of the analysis' results, and of what they are made of."""
_MODEL_COLUMN = re.compile(
    "conversations|annotations|workers|(model|annotated|human)_utterances|clean_(conversations?|share)|human_(words|questions)"
    "|(words|questions)_per_utterance"
)
"""Columns of the analysis' table of models, and what is estimated of each."""


class Bucket(BaseModel):
    """One box that can be ticked: the key under which it is saved, its name, and what it means."""

    model_config = ConfigDict(extra="forbid")

    value: str = Field(min_length=1)
    name: str = Field(min_length=1)
    description: str = ""


class AnnotationsConfig(BaseModel):
    """The buckets in the order in which they are shown."""

    model_config = ConfigDict(extra="forbid")

    buckets: list[Bucket] = Field(alias="config", min_length=1)
    show_line_breaks: bool = False

    @field_validator("buckets", mode="before")
    @classmethod
    def _read_mapping(cls, config: Any) -> Any:
        """Read ``{"<bucket>": {"name", "description"}, …}`` as well as the list form."""
        if isinstance(config, dict):
            return [
                {"value": value, **bucket} if isinstance(bucket, dict) and "value" not in bucket else bucket
                for value, bucket in config.items()
            ]
        return config

    @field_validator("buckets")
    @classmethod
    def _refuse_repeats(cls, buckets: list[Bucket]) -> list[Bucket]:
        seen: set[str] = set()
        for index, bucket in enumerate(buckets):
            if bucket.value in seen:
                raise PydanticCustomError(
                    "repeated_bucket",
                    "duplicate bucket '{bucket}'; remove or rename one",
                    {"bucket": bucket.value, "index": index},
                )
            seen.add(bucket.value)
        return buckets

    @property
    def values(self) -> tuple[str, ...]:
        """The buckets' keys, in order."""
        return tuple(bucket.value for bucket in self.buckets)

    def for_page(self, question: str) -> dict[str, Any]:
        """What the page needs to draw the boxes (`annotation` in docs/protocol.md)."""
        return {
            "question": question,
            "show_line_breaks": self.show_line_breaks,
            "buckets": [bucket.model_dump() for bucket in self.buckets],
        }


def parse_annotations(flag: str, path: str, text: str) -> AnnotationsConfig:
    """Read an annotation configuration in either form.

    Args:
        text: ``{"config": {bucket: {"name", "description"}, …}, "show_line_breaks": bool}``, the same with a list of
            ``{"value", "name", "description"}`` under ``config``, or that list alone.

    Raises:
        ConfigurationError: not JSON, an unknown or missing key, or a duplicate bucket: one sentence for each.
    """
    data = parse_json(flag, path, text)
    if isinstance(data, list):
        data = {"config": data}
    try:
        return AnnotationsConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(*validation_faults(flag, path, text, error)) from None


def load_annotations(flag: str, path: str) -> tuple[AnnotationsConfig, str]:
    """Read an annotation configuration file; return it with the file's text, which is saved with each conversation.

    Raises:
        ConfigurationError: as :func:`parse_annotations`, or a bucket is called like a column of the analysis.
    """
    text = read_text(flag, path)
    config = parse_annotations(flag, path, text)
    ConfigurationError.raise_if(
        f"{flag}: '{path}' has the bucket '{name}', which is the name of a column of the results; rename the bucket."
        for name in called_like_columns(config.values)
    )
    return config, text


def called_like_columns(buckets: Collection[str]) -> list[str]:
    """Return those of the buckets whose counts the analysis couldn't tell from another column."""
    shares = {f"{bucket}_share" for bucket in buckets}
    return [
        bucket
        for bucket in buckets
        if bucket in shares or RESULT_COLUMN.fullmatch(bucket) or _MODEL_COLUMN.fullmatch(bucket)
    ]


class AnnotationRefusedError(RefusedError):
    """An annotation that can't be taken."""


def check_ticks(config: AnnotationsConfig, ticks: object) -> dict[str, bool]:
    """Check what a worker's page sent as the annotation of one reply.

    Args:
        ticks: untrusted; should be bucket -> bool.

    Returns:
        every bucket of the task -> whether it is ticked, in the task's order (buckets left out count as not ticked).

    Raises:
        AnnotationRefusedError: no mapping of known buckets to booleans, nothing ticked, or ``none_all_good`` beside others.
    """
    if ticks is None:
        raise AnnotationRefusedError("annotation_missing", worker_text("boxes.missing"))
    if not isinstance(ticks, dict) or not all(
        isinstance(key, str) and isinstance(value, bool) for key, value in ticks.items()
    ):
        raise AnnotationRefusedError("malformed", worker_text("boxes.damaged"))
    if not ticks.keys() <= set(config.values):
        raise AnnotationRefusedError("annotation_unknown", worker_text("boxes.unknown"))
    ticked = {value for value in config.values if ticks.get(value, False)}
    if not ticked:
        raise AnnotationRefusedError("annotation_missing", worker_text("boxes.missing"))
    if NONE_ALL_GOOD in ticked and len(ticked) > 1:
        name = next(bucket.name for bucket in config.buckets if bucket.value == NONE_ALL_GOOD)
        raise AnnotationRefusedError("annotation_conflict", worker_text("boxes.conflict", name=name))
    return {value: value in ticked for value in config.values}
