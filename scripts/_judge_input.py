"""The replies that a judge is asked about: read from the records, conversation by conversation, in a fixed order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.analysis.measures import dialog_digest, item_digests
from model_chat.configuration.annotations import AnnotationsConfig, parse_annotations
from model_chat.errors import ConfigurationError
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import (
    ReadConversation,
    Source,
    UnreadableError,
    list_files,
    read_conversation,
)
from model_chat.records.schema import MODEL_IDX, Completion
from model_chat.records.visible_text import is_blank
from model_chat.scripts._judge_prompt import Messages, messages_for, prompt_hash

CONFIG_FLAG = "--annotations-config-path"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to judge: where it is, and the keys that it is known by."""

    utterance_idx: int
    item: str
    key: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One conversation to judge.

    Attributes:
        source: where it lies.
        conversation: hash of its dialogue.
        replies: in order.
    """

    source: Source
    conversation: str
    replies: tuple[Reply, ...]


@dataclass
class Found:
    """What there is to judge.

    Attributes:
        boxes: what is asked about each reply.
        conversations: in the order of the sources.
        left_out: how many conversations are not judged, by reason.
    """

    boxes: AnnotationsConfig
    conversations: list[Judged] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def replies(self) -> Iterator[tuple[Judged, Reply]]:
        """Every reply with its conversation."""
        return ((judged, reply) for judged in self.conversations for reply in judged.replies)


def list_sources(
    folders: Sequence[str], task_name: str | None, database_path: str | None, statuses: Sequence[str], output: Path
) -> tuple[list[Source], int]:
    """List the conversations, and count those whose status in Mephisto's database does not count.

    Raises:
        ConfigurationError: a folder, database or task does not exist.
    """
    sources = list_files(folders, skip=[output]).sources
    agents = list_agents(find_database(database_path), task_name) if task_name else []
    counted = [source for source in agents if source.status in statuses]
    return [*sources, *counted], len(agents) - len(counted)


def boxes_of_records(sources: Sequence[Source]) -> AnnotationsConfig:
    """Return the boxes that people had in all conversations.

    Raises:
        ConfigurationError: the records hold no boxes, boxes that can't be read, or different ones.
    """
    texts: dict[str, AnnotationsConfig] = {}
    first: list[tuple[AnnotationsConfig, Source]] = []
    for source in sources:
        try:
            conversation = read_conversation(source)
        except UnreadableError:
            continue
        text = _config_text(conversation)
        if text is None or text in texts or _why_left_out(conversation) is not None:
            continue
        boxes = texts[text] = parse_annotations(f"annotations_config of {source.name}", source.name, text)
        if all(boxes.buckets != other.buckets for other, _ in first):
            first.append((boxes, source))
    if not first:
        raise ConfigurationError(
            f"No conversation was annotated: the records hold no annotation configuration; give the file by {CONFIG_FLAG}."
        )
    if len(first) > 1:
        names = " and ".join(f"'{source.name}'" for _, source in first[:2])
        raise ConfigurationError(
            f"The conversations were annotated with {len(first)} different annotation configurations, those of {names} for "
            f"instance; judge each study by itself, or give the one to judge by with {CONFIG_FLAG}."
        )
    return first[0][0]


def find_replies(
    sources: Sequence[Source], boxes: AnnotationsConfig, settings: EndpointSettings, forced: bool
) -> Found:
    """Find everything to judge.

    Args:
        sources: the conversations.
        boxes: what is asked.
        settings: of the judge.
        forced: whether conversations that people did not annotate are judged, too.
    """
    found, seen = Found(boxes), set[str]()
    for source in sources:
        try:
            conversation = read_conversation(source)
        except UnreadableError as error:
            found.left_out[error.reason.value] += 1
            continue
        reason = _why_left_out(conversation)
        whole = dialog_digest(conversation).hex()
        if reason is None and not forced and _config_text(conversation) is None:
            reason = "not_annotated"
        digests = [digest.hex() for digest in item_digests(conversation)]
        if reason is None and digests and whole in seen:
            reason = "duplicate"
        if reason is not None or not digests:
            found.left_out[reason or "no_conversation"] += 1
            continue
        seen.add(whole)
        replies = tuple(
            Reply(idx, digests[idx], prompt_hash(messages, boxes, settings))
            for idx, messages in _prompts(conversation, boxes)
        )
        found.conversations.append(Judged(source, whole, replies))
    return found


def prompts_of(judged: Judged, boxes: AnnotationsConfig) -> Iterator[tuple[str, Messages]]:
    """Read a conversation again, for its prompts by their keys; memory is needed for one conversation at a time.

    Nothing is given of a conversation that has changed since, or is gone.
    """
    try:
        conversation = read_conversation(judged.source)
    except UnreadableError:
        return
    if dialog_digest(conversation).hex() == judged.conversation:
        for reply, (_, messages) in zip(judged.replies, _prompts(conversation, boxes), strict=True):
            yield reply.key, messages


def _prompts(conversation: ReadConversation, boxes: AnnotationsConfig) -> Iterator[tuple[int, Messages]]:
    """The replies that people could annotate: what the model said itself, and not what was shown as said."""
    for idx, said in enumerate(conversation.dialog):
        if said.agent_idx == MODEL_IDX and not said.fake_start and not is_blank(said.text):
            so_far = conversation.dialog[: idx + 1]
            yield idx, messages_for([line for line in so_far if line.chat_idx == said.chat_idx], boxes)


def _why_left_out(conversation: ReadConversation) -> str | None:
    if conversation.status is Completion.INCOMPLETE:
        return "incomplete"
    if conversation.simulated:
        return "simulated"
    if conversation.image_idx is not None or conversation.image_id is not None:
        return "about_an_image"
    return None


def _config_text(conversation: ReadConversation) -> str | None:
    described = conversation.raw.get("task_description") if isinstance(conversation.raw, dict) else None
    text = described.get("annotations_config") if isinstance(described, dict) else None
    return text if isinstance(text, str) and text.strip() else None
