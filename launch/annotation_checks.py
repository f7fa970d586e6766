"""Whether a configuration can be launched in which finished conversations are annotated."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from model_chat.configuration.files import expand
from model_chat.model_chat_blueprint import ANNOTATION_BLUEPRINT_TYPE
from model_chat.quality.attention import AttentionConfig

if TYPE_CHECKING:
    from model_chat.records.conversation_logs import LoggedConversation

BLUEPRINT = "mephisto.blueprint"
FLAG = f"{BLUEPRINT}.logs_path"


@dataclass(frozen=True)
class CheckedLogs:
    """Finished conversations, and how many annotations are wanted.

    Attributes:
        conversations: each with a ``sha256`` of its own.
        per_worker: most conversations of one worker; 0: no limit.
    """

    conversations: tuple[LoggedConversation, ...]
    annotators: int
    per_worker: int

    @cached_property
    def most_replies(self) -> int:
        """Of the longest conversation."""
        return max(logged.replies for logged in self.conversations)

    @property
    def needed(self) -> dict[str, int]:
        """Model -> annotations wanted."""
        counts = Counter(logged.model_nickname for logged in self.conversations)
        return {name: count * self.annotators for name, count in counts.items()}


def is_annotation(cfg: DictConfig) -> bool:
    """Whether the configuration is one of annotating finished conversations."""
    return bool(cfg.mephisto.blueprint._blueprint_type == ANNOTATION_BLUEPRINT_TYPE)


def number_faults(args: Any) -> Iterator[str]:
    """Find numbers and flags that can't be meant where conversations are annotated."""
    for name, smallest in (("annotators_per_conversation", 1), ("conversations_per_worker", 0)):
        if args[name] < smallest:
            yield f"{BLUEPRINT}.{name}: {args[name]} is too small; give a whole number of at least {smallest}."
    if args.comparison is not None:
        yield (
            f"{BLUEPRINT}.comparison: '{args.comparison}' needs models that reply; leave it out where finished "
            "conversations are annotated."
        )
    if args.check_acceptability:
        yield (
            f"{BLUEPRINT}.check_acceptability: annotators write no messages that could be checked; leave it out, or check "
            "their attention (attention_checks_path)."
        )


def check_logs(args: Any) -> CheckedLogs:
    """Read the conversations.

    Raises:
        ConfigurationError: a sentence for each conversation that can't be annotated.
    """
    from model_chat.records.conversation_logs import read_logs

    logs = read_logs(FLAG, expand(args.logs_path))
    return CheckedLogs(tuple(logs), args.annotators_per_conversation, args.conversations_per_worker)


def of_longest(cfg: DictConfig, logs: CheckedLogs | None) -> tuple[DictConfig, DictConfig]:
    """Return the configuration for the check of the attention checks, whose turns :func:`attention_faults` checks, and the
    one for the check of the times, in which the longest conversation is as long as it is."""
    of_attention, of_times = copy.deepcopy(cfg), copy.deepcopy(cfg)
    of_attention.mephisto.blueprint.num_turns = sys.maxsize
    of_times.mephisto.blueprint.num_turns = 1 if logs is None else logs.most_replies
    return of_attention, of_times


def attention_faults(attention: AttentionConfig | None, logs: CheckedLogs | None) -> Iterator[str]:
    """Find attention checks that can't be shown where conversations are annotated."""
    where = f"{BLUEPRINT}.attention_checks_path"
    for check in () if attention is None else attention.checks:
        if check.bucket is None:
            yield f"{where}: the check of turn {check.turn} expects words, and annotators write none; give it a 'bucket'."
        if logs is not None and check.turn >= logs.most_replies:
            yield (
                f"{where}: turn {check.turn} never comes; no conversation of {FLAG} has a reply after its reply "
                f"{logs.most_replies}."
            )
