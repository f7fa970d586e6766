"""Judgments by a model: the lines of `judgments.jsonl`, which scripts/judge.py writes and the analysis reads.

They never lie among the records of people: a file of its own, each line marked with its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_chat.errors import ConfigurationError

FAULTS_SHOWN = 5
JUDGMENTS_NAME = "judgments.jsonl"
JUDGE_LOG_NAME = "judge_log.jsonl"
"""Beside the judgments: every answer and what each request has cost."""
About = Literal["reply", "conversation"]
REPLY: About = "reply"
CONVERSATION: About = "conversation"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Judge(_Strict):
    """Which model judged."""

    model: str
    """The nickname of its settings."""
    endpoint_model: str
    served_model: str | None = None
    """The name that the endpoint gave; None where it gave none."""


class JudgmentUsage(_Strict):
    """What an answer has used, its retries included."""

    prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    completion_tokens: Annotated[int, Field(ge=0)] | None = None
    cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """US dollars; estimated from the length of the texts where the endpoint counted no tokens; None without prices."""


class LlmJudgment(_Strict):
    """A model's judgment of one reply or one conversation. It holds no text of the conversation and no worker's name.

    Texts that the judge was asked for, and passages that it has marked, are in ``answers``.
    """

    kind: Literal["llm"] = "llm"
    about: About = REPLY
    conversation: str
    """Hash of the whole conversation."""
    utterance_idx: Annotated[int, Field(ge=0)]
    """The reply's position in `dialog`; of a conversation, its last judged reply's."""
    item: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """Hash of the reply with everything that was said before it, or of the conversation: what people's judgments are matched
    by."""
    boxes: dict[str, bool] | None
    """Box -> ticked, every box of the task; None where the judgment is missing, or no boxes were asked."""
    answers: dict[str, Any] | None = None
    """Item of the study flow -> answer, as people's are saved; None as above."""
    ratings: list[Annotated[int, Field(ge=1, le=5)]] | None = None
    """Answers to the final rating questions; None as above."""
    missing: str | None = None
    """Why there is no answer."""
    judge: Judge
    usage: JudgmentUsage
    prompt_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hash of everything that the answer depends on: prompt, answer format, settings of the judge."""

    def line(self) -> bytes:
        """The judgment as it is saved, with its newline."""
        return self.model_dump_json().encode() + b"\n"


def read_llm_judgments(flag: str, path: str) -> list[LlmJudgment]:
    """Read a file of judgments.

    Raises:
        ConfigurationError: it can't be read, or lines of it are no judgments by a model; a sentence each for the first few.
    """
    found: list[LlmJudgment] = []
    faults: list[str] = []
    try:
        for number, line in _lines(path):
            try:
                found.append(LlmJudgment.model_validate_json(line))
            except ValidationError as error:
                faults.append(
                    f"{flag}: '{path}', line {number}: {_first(error)}; give a file that scripts/judge.py wrote."
                )
    except OSError as error:
        raise ConfigurationError(
            f"{flag}: '{path}' can't be read ({error.strerror}); give the judgments.jsonl of scripts/judge.py."
        ) from None
    more = len(faults) - FAULTS_SHOWN
    ConfigurationError.raise_if(
        [*faults[:FAULTS_SHOWN], *([f"{flag}: '{path}': {more} more lines have faults."] if more > 0 else [])]
    )
    return found


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    with Path(path).expanduser().open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _first(error: ValidationError) -> str:
    fault: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{f'`{place}`: ' if place else ''}{fault['msg']}"
