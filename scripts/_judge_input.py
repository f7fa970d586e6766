"""What a judge is asked about: read from the records, conversation by conversation, in a fixed order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.analysis.answers import flow_text_of
from model_chat.analysis.measures import dialog_digest, item_digests
from model_chat.configuration.annotations import AnnotationsConfig, parse_annotations
from model_chat.configuration.study_flow import Page, StudyFlow, parse_study_flow
from model_chat.configuration.study_items import Item
from model_chat.errors import ConfigurationError
from model_chat.records.legacy import described
from model_chat.records.llm_judgments import CONVERSATION, REPLY
from model_chat.records.mephisto_database import find_database, list_agents
from model_chat.records.reading import (
    ReadConversation,
    Source,
    UnreadableError,
    list_files,
    read_conversation,
)
from model_chat.records.schema import MODEL_IDX, RATING_SEPARATOR, Completion
from model_chat.records.visible_text import is_blank
from model_chat.scripts._judge_asking import Prompt
from model_chat.scripts._judge_items import askable
from model_chat.scripts._judge_prompt import Questions, messages_for, prompt_hash

CONFIG_FLAG = "--annotations-config-path"
FLOW_FLAG = "--study-flow-path"
ITEMS_FLAG = "--items"
FINAL_RATING = "final_rating"
"""In the list of items: the final rating questions."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: where what it is about lies, and the keys that it is known by.

    Attributes:
        utterance_idx: of the reply; of a conversation, of its last judged reply.
        item: hash of the reply with all before it, or of the conversation.
        key: hash of the prompt.
        questions: what is asked.
    """

    utterance_idx: int
    item: str
    key: str
    questions: Questions


@dataclass(frozen=True, slots=True)
class Judged:
    """One conversation to judge.

    Attributes:
        source: where it lies.
        conversation: hash of its dialogue.
        asked: about its replies in order, then about the whole.
    """

    source: Source
    conversation: str
    asked: tuple[Asked, ...]


@dataclass
class Found:
    """What there is to judge.

    Attributes:
        conversations: in the order of the sources.
        left_out: how many conversations are not judged, by reason.
        items_left_out: ids of items that depend on answers which the judge is not asked for.
    """

    conversations: list[Judged] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    items_left_out: set[str] = field(default_factory=set)

    def prompts(self) -> Iterator[tuple[Judged, Asked]]:
        """Every prompt with its conversation."""
        return ((judged, asked) for judged in self.conversations for asked in judged.asked)

    def counts(self) -> str:
        """Say what is asked, in words."""
        replies = sum(asked.questions.about == REPLY for _, asked in self.prompts())
        every = [asked.questions for _, asked in self.prompts()]
        boxes = {value for questions in every if questions.boxes for value in questions.boxes.values}
        items = {item.id for questions in every for item in questions.items}
        ratings = max((len(questions.ratings) for questions in every), default=0)
        what = [f"{len(boxes):,} boxes"] if boxes or not (items or ratings) else []
        what += [f"{len(items):,} items"] if items else []
        what += [f"{ratings:,} final rating{'s' if ratings > 1 else ''}"] if ratings else []
        by = " and ".join(filter(None, [", ".join(what[:-1]), what[-1]]))
        return f"{len(self.conversations):,} conversations with {replies:,} replies to judge by {by}"


@dataclass
class _Known:
    """What the records of one conversation say that people were asked: the chat's, and those of its annotations."""

    config: str | None = None
    flow: str | None = None
    ratings: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a judge is to be asked.

    Attributes:
        boxes: in place of those that the records hold, and about conversations that nobody annotated, too.
        flow: in place of those that the records hold.
        items: ids of items, :data:`FINAL_RATING` among them; None for all.
    """

    boxes: AnnotationsConfig | None = None
    flow: StudyFlow | None = None
    items: frozenset[str] | None = None

    def takes(self, item: str) -> bool:
        """Whether an item is to be asked."""
        return self.items is None or item in self.items


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


def find_prompts(sources: Sequence[Source], wanted: Wanted, settings: EndpointSettings) -> Found:
    """Find everything to judge.

    Args:
        sources: the conversations.
        wanted: what is asked.
        settings: of the judge.

    Raises:
        ConfigurationError: the records hold nothing to ask, boxes or flows that can't be read, different boxes, or not the
            items that are wanted.
    """
    known, boxes = _survey(sources, wanted.boxes)
    _check_items(known.values(), wanted)
    found, seen = Found(), set[str]()
    for source in sources:
        try:
            conversation = read_conversation(source)
        except UnreadableError as error:
            found.left_out[error.reason.value] += 1
            continue
        reason = _why_left_out(conversation)
        digests, whole = [digest.hex() for digest in item_digests(conversation)], dialog_digest(conversation).hex()
        if reason is None and not digests:
            reason = "no_conversation"
        if reason is None and whole in seen:
            reason = "duplicate" if conversation.judged_conversation is None else "annotation_of_the_same"
        if reason is not None:
            found.left_out[reason] += 1
            continue
        asked = tuple(
            Asked(
                idx,
                digests[idx] if questions.about == REPLY else whole,
                _prompt(conversation, idx, questions, settings).key,
                questions,
            )
            for idx, questions in _questions(conversation, known[whole], boxes, wanted, found.items_left_out)
        )
        if not asked:
            found.left_out["not_annotated"] += 1
            continue
        seen.add(whole)
        found.conversations.append(Judged(source, whole, asked))
    return found


def _survey(
    sources: Iterable[Source], forced: AnnotationsConfig | None
) -> tuple[dict[str, _Known], AnnotationsConfig | None]:
    """Read what people were asked: by the hash of the conversation, and the boxes of all.

    Raises:
        ConfigurationError: there is nothing to ask; or boxes or flows that can't be read, or different boxes.
    """
    known: dict[str, _Known] = {}
    texts: dict[str, AnnotationsConfig] = {}
    first: list[tuple[AnnotationsConfig, Source]] = []
    for source in sources:
        try:
            conversation = read_conversation(source)
        except UnreadableError:
            continue
        if not conversation.dialog or _why_left_out(conversation) is not None:
            continue
        own = known.setdefault(dialog_digest(conversation).hex(), _Known())
        config, flow = _described(conversation, "annotations_config"), flow_text_of(conversation.raw)
        own.config, own.flow = own.config or config, own.flow or flow
        own.ratings = own.ratings or _described(conversation, "final_rating_question")
        if flow is not None:
            _flow(flow)
        if config is None or config in texts or forced is not None:
            continue
        boxes = texts[config] = parse_annotations(f"annotations_config of {source.name}", source.name, config)
        # The words may differ between a chat and its annotations (“what you said”, “what the person said”): the first count.
        if all(set(boxes.values) != set(other.values) for other, _ in first):
            first.append((boxes, source))
    if len(first) > 1:
        names = " and ".join(f"'{source.name}'" for _, source in first[:2])
        raise ConfigurationError(
            f"The conversations were annotated with {len(first)} different annotation configurations, those of {names} for "
            f"instance; judge each study by itself, or give the one to judge by with {CONFIG_FLAG}."
        )
    if not first and forced is None and not any(own.flow or own.ratings for own in known.values()):
        raise ConfigurationError(
            "No conversation was annotated: the records hold no annotation configuration, study flow or final rating "
            f"question; give a file by {CONFIG_FLAG} or {FLOW_FLAG}."
        )
    return known, forced or (first[0][0] if first else None)


def _check_items(known: Iterable[_Known], wanted: Wanted) -> None:
    flows = [wanted.flow] if wanted.flow else [_flow(own.flow) for own in known if own.flow]
    ids = {item.id for flow in flows for page in _pages(flow) for item in page.all_items}
    missing = sorted((wanted.items or frozenset()) - ids - {FINAL_RATING})
    if missing:
        others = ", ".join([*sorted(ids), FINAL_RATING])
        raise ConfigurationError(
            f"{ITEMS_FLAG} names {', '.join(missing)}, which nobody is asked in the chat or after it; give some of: "
            f"{others}."
        )


@lru_cache(maxsize=64)
def _flow(text: str) -> StudyFlow:
    return parse_study_flow("study_flow of a conversation", "in its record", text)


def _pages(flow: StudyFlow) -> Sequence[Page]:
    """The chat and the pages after it: what comes before can't be about the conversation."""
    return flow.pages[flow.chat_idx :]


def _questions(
    conversation: ReadConversation,
    known: _Known,
    boxes: AnnotationsConfig | None,
    wanted: Wanted,
    left_out: set[str],
) -> Iterator[tuple[int, Questions]]:
    """What is asked about each reply that people could judge, and then about the whole conversation."""
    judged = [
        idx
        for idx, said in enumerate(conversation.dialog)
        if said.agent_idx == MODEL_IDX and not said.fake_start and not is_blank(said.text)
    ]
    if not judged:
        return
    flow = wanted.flow or (_flow(known.flow) if known.flow else None)
    own_boxes = boxes if wanted.boxes is not None or known.config is not None else None

    def chosen(items: Iterable[Item]) -> tuple[Item, ...]:
        asked, depending = askable([item for item in items if wanted.takes(item.id)])
        left_out.update(item.id for item in depending)
        return tuple(asked)

    for idx in judged:
        items: list[Item] = []
        if flow is not None:
            items = [*flow.chat.every_reply, *(flow.chat.last_reply if idx == judged[-1] else ())]
        questions = Questions(REPLY, own_boxes, chosen(items))
        if questions:
            yield idx, questions
    texts = (known.ratings or "").split(RATING_SEPARATOR) if wanted.takes(FINAL_RATING) else []
    after = [] if flow is None else [item for page in _pages(flow)[1:] for item in _items_of(page)]
    questions = Questions(CONVERSATION, None, chosen(after), tuple(text.strip() for text in texts if text.strip()))
    if questions:
        yield judged[-1], questions


def _items_of(page: Page) -> Iterator[Item]:
    """The items of a page, each with the page's own condition."""
    for item in page.all_items:
        both = {**(page.show_if or {}), **(item.show_if or {})}
        for key in (page.show_if or {}).keys() & (item.show_if or {}).keys():
            both[key] = [value for value in (page.show_if or {})[key] if value in (item.show_if or {})[key]]
        yield item.model_copy(update={"show_if": both or None})


def prompts_of(judged: Judged, settings: EndpointSettings) -> Iterator[Prompt]:
    """Read a conversation again, for its prompts; memory is needed for one conversation at a time.

    Nothing is given of a conversation that has changed since, or is gone.
    """
    try:
        conversation = read_conversation(judged.source)
    except UnreadableError:
        return
    if dialog_digest(conversation).hex() == judged.conversation:
        for asked in judged.asked:
            yield _prompt(conversation, asked.utterance_idx, asked.questions, settings)


def _prompt(conversation: ReadConversation, idx: int, questions: Questions, settings: EndpointSettings) -> Prompt:
    said = conversation.dialog[idx]
    shown = conversation.dialog[: idx + 1]
    if questions.about == REPLY:  # of two chats, the model knew its own alone
        shown = [line for line in shown if line.chat_idx == said.chat_idx]
    messages = messages_for(shown, questions)
    return Prompt(prompt_hash(messages, questions, settings), messages, questions, said.text)


def _why_left_out(conversation: ReadConversation) -> str | None:
    if conversation.status is Completion.INCOMPLETE:
        return "incomplete"
    if conversation.simulated:
        return "simulated"
    if conversation.is_forgotten:
        return "forgotten"
    if conversation.image_idx is not None or conversation.image_id is not None:
        return "about_an_image"
    return None


def _described(conversation: ReadConversation, key: str) -> str | None:
    """A text of the description of the task; None where there is none."""
    text = described(conversation.raw, key)
    return text if isinstance(text, str) and text.strip() else None
