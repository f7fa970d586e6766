"""Annotation buckets: what a worker can say about each reply of the model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from model_chat.configuration.files import parse_json, read_text, validation_faults
from model_chat.configuration.worker_texts import worker_text
from model_chat.errors import ConfigurationError, RefusedError
from model_chat.records.schema import NONE_ALL_GOOD

__all__ = ["NONE_ALL_GOOD", "AnnotationRefusedError", "AnnotationsConfig", "Bucket", "check_ticks", "load_annotations"]


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
    """Read an annotation configuration file; return it with the file's text, which is saved with each conversation."""
    text = read_text(flag, path)
    return parse_annotations(flag, path, text), text


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
