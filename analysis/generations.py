"""How the models' replies were made: served models, times, tokens, cost, pace, retries and failures, a row a model.

Where two models are compared each has its own row, with its replies that the conversation did not go on with.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from model_chat.analysis.frames import columns
from model_chat.records.reading import ReadConversation
from model_chat.records.schema import MODEL_IDX, Completion, Generation

FAILED = "model failed"
"""How the reason of an incomplete conversation begins whose model failed."""
COLUMNS = columns(
    "model_nickname replies served_models seconds_median seconds_p95 first_token_median first_token_p95 prompt_tokens "
    "completion_tokens cut_at_limit retries failures cost_usd not_paced"
)
_COUNTS = ("replies", "prompt_tokens", "completion_tokens", "cut_at_limit", "retries", "failures", "not_paced")


class ConversationGenerations(NamedTuple):
    """What is known of the replies of one conversation.

    Attributes:
        digest: the content of the conversation, for telling duplicates.
        model_nickname: who replied; of a pair ``a|b``.
        replies: those that are known, with the model that gave each.
        failed_generation: of the reply that it could not give; of a pair, what nobody knows whose it was.
    """

    digest: bytes
    model_nickname: str
    replies: list[tuple[str, Generation]]
    failed: bool
    failed_generation: Generation | None


def generations_of(conversation: ReadConversation, digest: bytes) -> ConversationGenerations | None:
    """Return what is known of a conversation's replies; None where nothing is, as in older records."""
    replies = [
        (line.model_nickname or conversation.model_nickname, line.generation)
        for line in conversation.dialog
        if line.agent_idx == MODEL_IDX and line.generation is not None
    ]
    for judged in conversation.comparisons or ():  # the other reply is in the dialogue
        if judged.continued_with is not None:
            other = judged.right if judged.continued_with == "left" else judged.left
            if other.generation is not None:
                replies.append((other.model_nickname, other.generation))
    failed = conversation.status is Completion.INCOMPLETE and (conversation.reason or "").startswith(FAILED)
    if not replies and not failed:
        return None
    return ConversationGenerations(digest, conversation.model_nickname, replies, failed, conversation.failed_generation)


@dataclass
class _OfModel:
    replies: int = 0
    served_models: dict[str, None] = field(default_factory=dict)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    first_token: array[float] = field(default_factory=lambda: array("d"))
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut_at_limit: int = 0
    retries: int | None = None
    failures: int = 0
    cost_usd: float | None = None
    not_paced: int | None = None

    def add(self, generation: Generation) -> None:
        """Count what a reply has used, given or not."""
        for name in ("prompt_tokens", "completion_tokens", "retries", "cost_usd"):
            value = getattr(generation, name)
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)

    def add_reply(self, generation: Generation) -> None:
        """Count a reply that was given."""
        self.replies += 1
        self.add(generation)
        if generation.served_model is not None:
            self.served_models.setdefault(generation.served_model)
        if generation.seconds is not None:
            self.seconds.append(generation.seconds)
        if generation.seconds_to_first_token is not None:
            self.first_token.append(generation.seconds_to_first_token)
        self.cut_at_limit += generation.finish_reason == "length"
        if generation.paced is not None:
            self.not_paced = (self.not_paced or 0) + (not generation.paced)


class GenerationTotals:
    """Adds up what is known of replies, over all conversations that could be read, counted in the analysis or not.

    The incomplete ones are among them: they have cost something, too, and a model that fails ends a conversation.
    """

    def __init__(self) -> None:
        self._of_model: dict[str, _OfModel] = {}
        self._seen: set[bytes] = set()

    def add(self, conversations: Iterable[ConversationGenerations]) -> None:
        """Count conversations; one that was counted before, from the other record, is left out."""
        for digest, nickname, replies, failed, failed_generation in conversations:
            if digest in self._seen:
                continue
            self._seen.add(digest)
            for speaker, generation in replies:
                self._of(speaker).add_reply(generation)
            if failed or failed_generation is not None:
                of_model = self._of(nickname)
                of_model.failures += failed
                if failed_generation is not None:
                    of_model.add(failed_generation)

    def _of(self, nickname: str) -> _OfModel:
        return self._of_model.setdefault(nickname, _OfModel())

    def table(self) -> pd.DataFrame:
        """Return a row a model of which anything is known, in order of name; empty cells for what is not known.

        `seconds` and `first_token` are in seconds; tokens, retries and cost are sums that include failed replies;
        `cut_at_limit` counts replies that ended at the limit of tokens, `not_paced` those that could not keep the study's
        pace (empty where none was set); `served_models` are joined by `; `, in the order in which they came.
        """
        rows = [
            {
                "model_nickname": nickname,
                "served_models": "; ".join(of_model.served_models) or None,
                "seconds_median": _quantile(of_model.seconds, 0.5),
                "seconds_p95": _quantile(of_model.seconds, 0.95),
                "first_token_median": _quantile(of_model.first_token, 0.5),
                "first_token_p95": _quantile(of_model.first_token, 0.95),
                **{name: getattr(of_model, name) for name in (*_COUNTS, "cost_usd")},
            }
            for nickname, of_model in sorted(self._of_model.items())
        ]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        return frame.astype({**dict.fromkeys(_COUNTS, "Int64"), "cost_usd": "float64"})

    def remarks(self) -> list[str]:
        """Say what a reader has to know: models that were served as several, and what was spent."""
        said = [
            f"The endpoint of '{nickname}' has answered as {len(of_model.served_models)} models "
            f"({', '.join(of_model.served_models)}): replies of all of them are in its numbers."
            for nickname, of_model in sorted(self._of_model.items())
            if len(of_model.served_models) > 1
        ]
        costs = [of_model.cost_usd for of_model in self._of_model.values() if of_model.cost_usd is not None]
        if costs:
            total, digits = sum(costs), 2 if sum(costs) >= 1 else 4
            said.append(f"The models' replies have cost ${total:,.{digits}f}, incomplete conversations included.")
        return said


def _quantile(values: array[float], at: float) -> float:
    return float(np.quantile(np.frombuffer(values), at)) if values else float("nan")
