"""Attention checks: at configured turns the worker gets a message of the system in place of the model's reply.

It asks for a certain answer, or for a certain box to be ticked. The model never sees check or answer; its own reply comes
afterwards, and the conversation continues as before. Off by default (docs/quality-control.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.configuration.files import parse_json, read_text, validation_faults
from model_chat.errors import ConfigurationError
from model_chat.records.schema import AttentionResult

FLAG = "mephisto.blueprint.attention_checks_path"


class AttentionCheck(BaseModel):
    """One check: passed by an answer that holds one of ``expect``, or by ticking ``bucket`` and nothing else."""

    model_config = ConfigDict(extra="forbid")

    turn: int = Field(ge=1)
    """It comes after the worker's message of this exchange, 1-based."""
    text: str = Field(min_length=1)
    expect: list[str] | None = Field(default=None, min_length=1)
    bucket: str | None = None

    @model_validator(mode="after")
    def _one_way_to_pass(self) -> AttentionCheck:
        if (self.expect is None) == (self.bucket is None):
            raise ValueError("give either 'expect', a list of answers, or 'bucket', a box to tick")
        if self.expect is not None and not all(map(_words, self.expect)):
            raise ValueError("an answer in 'expect' has neither letters nor numbers: it would always be found")
        return self

    def grade(self, text: str, ticks: Mapping[str, bool] | None) -> bool:
        """Whether the check is passed: by the words of an expected answer, in a row, in any case; or by the one box."""
        if self.expect is not None:
            said = f" {_words(text)} "
            return any(f" {_words(answer)} " in said for answer in self.expect)
        return [bucket for bucket, ticked in (ticks or {}).items() if ticked] == [self.bucket]

    def result(self, text: str, ticks: Mapping[str, bool] | None) -> AttentionResult:
        """Grade an answer for the record."""
        return AttentionResult(
            turn=self.turn,
            text=self.text,
            answer=text,
            ticked=None if ticks is None else [bucket for bucket, ticked in ticks.items() if ticked],
            passed=self.grade(text, ticks),
        )


class AttentionConfig(BaseModel):
    """The whole of an attention check file."""

    model_config = ConfigDict(extra="forbid")

    checks: list[AttentionCheck] = Field(min_length=1)
    max_failures: int = Field(default=0, ge=0)
    """A worker who fails more checks of one conversation is soft-blocked."""

    def due(self, turn: int) -> AttentionCheck | None:
        """Return the check that comes after the worker's message of an exchange (1-based), if there is one."""
        return next((check for check in self.checks if check.turn == turn), None)

    def too_many_failed(self, results: Sequence[AttentionResult]) -> bool:
        """Whether so many checks of a conversation failed that its worker is to be blocked."""
        return sum(not result.passed for result in results) > self.max_failures


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def load_attention_checks(path: str, num_turns: int, annotations: AnnotationsConfig | None) -> AttentionConfig:
    """Read and check an attention check file.

    Raises:
        ConfigurationError: not JSON, wrong keys or types, a turn that never comes or has two checks, or a bucket that
            the task has not: one sentence for each.
    """
    text = read_text(FLAG, path)
    try:
        config = AttentionConfig.model_validate(parse_json(FLAG, path, text))
    except ValidationError as error:
        raise ConfigurationError(*validation_faults(FLAG, path, text, error)) from None
    ConfigurationError.raise_if(_faults(config, num_turns, annotations, f"{FLAG}: '{path}'"))
    return config


def _faults(config: AttentionConfig, num_turns: int, annotations: AnnotationsConfig | None, where: str) -> list[str]:
    buckets: Collection[str] = () if annotations is None else annotations.values
    faults = [
        f"{where}: turn {turn} has {number} checks; one turn can have one."
        for turn, number in Counter(check.turn for check in config.checks).items()
        if number > 1
    ]
    for check in config.checks:
        if check.turn > num_turns:
            faults.append(f"{where}: turn {check.turn} never comes; mephisto.blueprint.num_turns is {num_turns}.")
        if check.bucket is not None and check.bucket not in buckets:
            known = f"use one of {', '.join(buckets)}" if buckets else "this task has none; use 'expect'"
            faults.append(
                f"{where}: '{check.bucket}' is no bucket of mephisto.blueprint.annotations_config_path; {known}."
            )
    return faults
