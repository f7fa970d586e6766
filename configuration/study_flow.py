"""The study flow: pages of consent, questions and texts before and after the chat, and questions about each reply.

``mephisto.blueprint.study_flow_path`` names the YAML file (docs/study-flow.md). All faults are found at once, each with its
line: first those of each page and item by itself, then those between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from model_chat.configuration.files import read_text
from model_chat.configuration.located_yaml import LocatedYaml, Path, Text, as_text, line_of, parse_located_yaml
from model_chat.configuration.study_items import KINDS, Conditional, Id, Item, as_lists
from model_chat.errors import ConfigurationError

CONSENT = "consent"
"""The item under which the answer to a page of consent is saved."""
ACCEPT, DECLINE = "accept", "decline"
MOST_ITEMS = 300
"""In one flow: more than anybody answers, and less than a packet of the page may hold."""

Shuffle = Annotated[
    list[Literal["items", "options"]], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class Page(Conditional):
    """One page."""

    id: Id
    kind: str
    title: Text | None = None

    @property
    def all_items(self) -> list[Item]:
        """The items of the page; none where it has none."""
        return []

    def for_page(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """What the worker's page is told, with the items as they are to be shown."""
        told = self.model_dump(include={"id", "kind", "title", "text", "accept", "decline"}, exclude_none=True)
        return {**told, "items": items}


class ConsentPage(Page):
    """A text that the worker accepts or declines."""

    kind: Literal["consent"]
    text: Text
    accept: Text | None = None
    decline: Text | None = None


class TextPage(Page):
    """A text to read, such as a debriefing."""

    kind: Literal["text"]
    text: Text


class QuestionsPage(Page):
    """Items to answer."""

    kind: Literal["questions"]
    text: Text | None = None
    items: list[Any] = Field(min_length=1)
    shuffle: Shuffle = Field(default_factory=list)

    @property
    def all_items(self) -> list[Item]:
        """The items, in the order of the file."""
        return self.items


class ChatPage(Page):
    """The chat, and what is asked of the model's replies."""

    kind: Literal["chat"]
    every_reply: list[Any] = Field(default_factory=list)
    last_reply: list[Any] = Field(default_factory=list)
    shuffle: Shuffle = Field(default_factory=list)

    @property
    def all_items(self) -> list[Item]:
        """Those of every reply, then those of the last."""
        return [*self.every_reply, *self.last_reply]


PAGES: dict[str, type[Page]] = {
    "consent": ConsentPage,
    "questions": QuestionsPage,
    "chat": ChatPage,
    "text": TextPage,
}
M = TypeVar("M", bound=Conditional)
_ITEM_LISTS = ("items", "every_reply", "last_reply")


@dataclass(frozen=True)
class StudyFlow:
    """A whole flow.

    Attributes:
        pages: in order, exactly one of them the chat.
        text: of the file; saved with each conversation.
    """

    pages: tuple[Page, ...]
    text: str = field(default="", repr=False)

    @property
    def chat_idx(self) -> int:
        """Which page is the chat."""
        return next(index for index, page in enumerate(self.pages) if isinstance(page, ChatPage))

    @property
    def chat(self) -> ChatPage:
        """The chat."""
        return next(page for page in self.pages if isinstance(page, ChatPage))

    def items(self) -> Iterator[tuple[Page, Item]]:
        """Every item with its page."""
        for page in self.pages:
            for item in page.all_items:
                yield page, item


def load_study_flow(flag: str, path: str) -> StudyFlow:
    """Read a study flow.

    Raises:
        ConfigurationError: no such file, no YAML, or anything wrong in it: one sentence, with its line, for each fault.
    """
    return parse_study_flow(flag, path, read_text(flag, path))


def pages_around_chat(path: str) -> int:
    """Return how many pages a worker answers or reads beside the chat; 0 without a file, or where it has faults."""
    try:
        return len(load_study_flow("", path).pages) - 1 if path else 0
    except ConfigurationError:
        return 0


def parse_study_flow(flag: str, path: str, text: str) -> StudyFlow:
    """Read a study flow from its text.

    Raises:
        ConfigurationError: one sentence, with its line, for each fault.
    """
    return _Reader(parse_located_yaml(flag, path, text), text).flow()


@dataclass
class _Entry:
    """A page or an item as it is written, one with faults included: a fault in it hides none that involve others.

    Attributes:
        what: None with a fault.
        list_name: of an item, the list that it is in; empty for a page.
        is_shuffled: whether the order of the list is drawn.
    """

    place: Path
    raw: dict[Any, Any]
    what: Conditional | None
    page_idx: int
    list_name: str = ""
    is_shuffled: bool = False

    @property
    def id(self) -> str | None:
        """The id as it is written."""
        written = as_text(self.raw.get("id"))
        return written if isinstance(written, str) and written else None

    @property
    def condition(self) -> dict[str, list[Any]]:
        """What its ``show_if`` says: the item, and the values as they are written."""
        given = self.raw.get("show_if")
        return as_lists(given) if isinstance(given, dict) else {}


@dataclass
class _Reader:
    """Reads pages and items one by one, so that a fault in one hides none in another."""

    file: LocatedYaml
    text: str
    faults: list[str] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    """Each page, followed by its items."""

    def flow(self) -> StudyFlow:
        """Return the flow.

        Raises:
            ConfigurationError: there are faults.
        """
        content = self.file.content
        if not isinstance(content, dict) or not isinstance(content.get("pages"), list) or not content["pages"]:
            raise ConfigurationError(self.file.fault(("pages",), "it needs 'pages', a list of at least one page"))
        for key in content:
            if key != "pages":
                self._add((key,), f"unknown key '{key}'; remove it or correct its spelling")
        pages = [self._read_page(index, raw) for index, raw in enumerate(content["pages"])]
        self._check_chats(content["pages"])
        self._check_ids()
        self._check_conditions()
        ConfigurationError.raise_if(sorted(set(self.faults), key=line_of))
        return StudyFlow(tuple(page for page in pages if page is not None), self.text)

    def _add(self, place: Path, problem: str) -> None:
        self.faults.append(self.file.fault(place, problem))

    # --- one by one ---

    def _read_page(self, index: int, raw: Any) -> Page | None:
        place: Path = ("pages", index)
        model = self._kind_of(place, raw, PAGES, "a page")
        if not isinstance(raw, dict):
            return None
        if model is ChatPage and raw.get("show_if") is not None:
            self._add((*place, "show_if"), "the chat can't have 'show_if', for every worker has one; remove it")
            raw = {key: value for key, value in raw.items() if key != "show_if"}
        page = None if model is None else self._validated(place, model, raw)
        entry = _Entry(place, raw, page, index)
        self.entries.append(entry)
        items: dict[str, list[Item]] = {}
        for name in _ITEM_LISTS:
            if isinstance(raw.get(name), list) and (model is None or name in model.model_fields):
                items[name] = list(self._read_items((*place, name), raw[name], page))
        if page is None:
            return None
        entry.what = page = page.model_copy(update=items)
        if isinstance(page, QuestionsPage | ChatPage) and "options" in page.shuffle:
            for item in page.all_items:
                if item.options_attribute is not None:
                    item.shuffle = "options"
        return page

    def _read_items(self, place: Path, raw: list[Any], page: Page | None) -> Iterator[Item]:
        _, page_idx, name = place
        for index, entry in enumerate(raw):
            here: Path = (*place, index)
            model = self._kind_of(here, entry, KINDS, "an item")
            if not isinstance(entry, dict):
                continue
            item = None if model is None else self._validated(here, model, entry)
            is_shuffled = "items" in getattr(page, "shuffle", ())
            self.entries.append(_Entry(here, entry, item, int(page_idx), str(name), is_shuffled))
            if model is not None and model.needs_reply and name == "items":
                self._add(
                    (*here, "kind"),
                    f"the kind '{entry['kind']}' is about a reply of the model; put the item under every_reply or "
                    "last_reply of the chat",
                )
            if item is not None:
                yield item

    def _kind_of(self, place: Path, raw: Any, kinds: Mapping[str, type[M]], what: str) -> type[M] | None:
        known = ", ".join(kinds)
        if not isinstance(raw, dict):
            self._add(place, f"{what} is written as keys and values, 'id' and 'kind' among them")
            return None
        kind = raw.get("kind")
        if "kind" not in raw:
            self._add(place, f"'kind' is missing; give one of {known}")
        elif not isinstance(kind, str) or kind not in kinds:
            shown = kind if isinstance(kind, str) else getattr(kind, "text", kind)
            self._add((*place, "kind"), f"there is no kind of {what.split()[1]} '{shown}'; give one of {known}")
        else:
            return kinds[kind]
        return None

    def _validated(self, place: Path, model: type[M], raw: Any) -> M | None:
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            self.faults += self.file.validation_faults(place, error)
            return None

    # --- together ---

    def _check_chats(self, raw: list[Any]) -> None:
        chats = [index for index, page in enumerate(raw) if isinstance(page, dict) and page.get("kind") == "chat"]
        if not chats:
            self._add(
                ("pages",), "there is no page of the kind chat; add '- {id: chat, kind: chat}' where the chat comes"
            )
        for index in chats[1:]:
            self._add(
                ("pages", index), "there is a second page of the kind chat; a flow has one, so remove one of them"
            )

    def _check_ids(self) -> None:
        pages: set[str] = set()
        items: set[str] = set()
        for entry in self.entries:
            seen = items if entry.list_name else pages
            if entry.id in seen:
                self._add(
                    (*entry.place, "id"),
                    f"duplicate item '{entry.id}'; ids of items differ in the whole file, so rename one"
                    if entry.list_name
                    else f"duplicate page '{entry.id}'; rename one",
                )
            if entry.id is not None:
                seen.add(entry.id)
        count = sum(bool(entry.list_name) for entry in self.entries)
        if count > MOST_ITEMS:
            self._add(("pages",), f"there are {count} items; a flow has at most {MOST_ITEMS}")

    def _check_conditions(self) -> None:
        known: dict[str, _Entry] = {}
        written = {entry.id for entry in self.entries if entry.list_name}
        for entry in self.entries:
            resolved: dict[str, Any] = {}
            for item_id, values in entry.condition.items():
                here: Path = (*entry.place, "show_if", item_id)
                try:
                    answers = _answers_for(entry, known.get(item_id), item_id, values, item_id in written)
                except ConfigurationError as error:
                    for fault in error.faults:
                        self._add(here, fault)
                else:
                    resolved[item_id] = answers
            if entry.what is not None and entry.what.show_if is not None:
                entry.what.show_if = resolved
            if entry.list_name and entry.id is not None:
                known.setdefault(entry.id, entry)


def _answers_for(entry: _Entry, earlier: _Entry | None, item_id: str, values: list[Any], is_written: bool) -> list[Any]:
    """Return the answers that the values of a ``show_if`` stand for.

    Args:
        entry: whose ``show_if`` it is.
        earlier: the item that is referred to, if it comes before.
        is_written: whether there is such an item anywhere.

    Raises:
        ConfigurationError: it can't refer to that item, or no answer of it can be one of the values.
    """
    if earlier is None:
        raise ConfigurationError(
            f"'show_if': '{item_id}' comes later or is the item itself; it can only look back"
            if is_written
            else f"'show_if': there is no item {item_id!r}; correct its id"
        )
    is_same_page = earlier.page_idx == entry.page_idx
    if earlier.list_name == "every_reply" and not (is_same_page and entry.list_name):
        raise ConfigurationError(
            f"'show_if': '{item_id}' is asked of every reply, so it has no single answer; use another item"
        )
    if earlier.is_shuffled and is_same_page and earlier.list_name == entry.list_name:
        raise ConfigurationError(
            f"'show_if': '{item_id}' may come later, for its page is shuffled; ask it on a page before"
        )
    item = earlier.what
    if not isinstance(item, Item):
        return []  # it has faults of its own
    if not item.conditions:
        raise ConfigurationError(
            f"'show_if': '{item_id}' is of the kind {item.kind}; use a choice, scale, number or slider"
        )
    answers, faults = [], []
    for value in values:
        try:
            answers.append(item.accepts(value))
        except ValueError as error:
            faults.append(f"'show_if': {item_id}: {error}")
    ConfigurationError.raise_if(faults)
    return answers
