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
from model_chat.configuration.located_yaml import LocatedYaml, Path, Text, line_of, parse_located_yaml
from model_chat.configuration.study_items import KINDS, Conditional, Id, Item
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
class _Placed:
    """An item that can be referred to, and where it stands."""

    item: Item
    page_idx: int
    list_name: str
    is_shuffled: bool


@dataclass
class _Reader:
    """Reads pages and items one by one, so that a fault in one hides none in another."""

    file: LocatedYaml
    text: str
    faults: list[str] = field(default_factory=list)
    pages: list[tuple[Path, Page]] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    """Ids of all items as they are written, those with faults included."""
    places: dict[int, Path] = field(default_factory=dict)
    """Where each item stands, by its identity."""

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
        for index, raw in enumerate(content["pages"]):
            self._read_page(("pages", index), raw)
        self._check_chats(content["pages"])
        self._check_ids()
        self._check_conditions()
        ConfigurationError.raise_if(sorted(set(self.faults), key=line_of))
        return StudyFlow(tuple(page for _, page in self.pages), self.text)

    def _add(self, place: Path, problem: str) -> None:
        self.faults.append(self.file.fault(place, problem))

    # --- one by one ---

    def _read_page(self, place: Path, raw: Any) -> None:
        model = self._kind_of(place, raw, PAGES, "page")
        if model is None:
            return
        if model is ChatPage and raw.get("show_if") is not None:
            self._add((*place, "show_if"), "the chat can't have 'show_if', for every worker has one; remove it")
            raw = {key: value for key, value in raw.items() if key != "show_if"}
        items: dict[str, list[Item]] = {}
        for name in _ITEM_LISTS:
            if name in raw and name in model.model_fields and isinstance(raw[name], list):
                items[name] = list(self._read_items((*place, name), raw[name], model is ChatPage))
        page = self._validated(place, model, raw)
        if page is None:
            return
        for name, found in items.items():
            page = page.model_copy(update={name: found})
        if isinstance(page, QuestionsPage | ChatPage) and "options" in page.shuffle:
            for item in page.all_items:
                if item.options_attribute is not None:
                    item.shuffle = "options"
        self.pages.append((place, page))

    def _read_items(self, place: Path, raw: list[Any], in_chat: bool) -> Iterator[Item]:
        for index, entry in enumerate(raw):
            here: Path = (*place, index)
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                self.written.add(entry["id"])
            model = self._kind_of(here, entry, KINDS, "item")
            item = None if model is None else self._validated(here, model, entry)
            if item is None:
                continue
            if item.needs_reply and not in_chat:
                self._add(
                    (*here, "kind"),
                    f"the kind '{item.kind}' is about a reply of the model; put the item under every_reply or last_reply of "
                    "the chat",
                )
            self.places[id(item)] = here
            yield item

    def _kind_of(self, place: Path, raw: Any, kinds: Mapping[str, type[M]], what: str) -> type[M] | None:
        known = ", ".join(kinds)
        if not isinstance(raw, dict):
            self._add(place, f"a {what} is written as keys and values, 'id' and 'kind' among them")
            return None
        kind = raw.get("kind")
        if "kind" not in raw:
            self._add(place, f"'kind' is missing; give one of {known}")
        elif not isinstance(kind, str) or kind not in kinds:
            shown = kind if isinstance(kind, str) else getattr(kind, "text", kind)
            self._add((*place, "kind"), f"there is no kind of {what} '{shown}'; give one of {known}")
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
        count = 0
        for place, page in self.pages:
            if page.id in pages:
                self._add((*place, "id"), f"duplicate page '{page.id}'; rename one")
            pages.add(page.id)
            for item in page.all_items:
                count += 1
                if item.id in items:
                    self._add(
                        (*self.places[id(item)], "id"),
                        f"duplicate item '{item.id}'; ids of items differ in the whole file, so rename one",
                    )
                items.add(item.id)
        if count > MOST_ITEMS:
            self._add(("pages",), f"there are {count} items; a flow has at most {MOST_ITEMS}")

    def _check_conditions(self) -> None:
        known: dict[str, _Placed] = {}
        for index, (place, page) in enumerate(self.pages):
            self._resolve(place, page, index, "", known)
            for name in _ITEM_LISTS:
                shuffled = "items" in getattr(page, "shuffle", ())
                for item in getattr(page, name, []):
                    self._resolve(self.places[id(item)], item, index, name, known)
                    known.setdefault(item.id, _Placed(item, index, name, shuffled))

    def _resolve(
        self, place: Path, what: Conditional, page_idx: int, list_name: str, known: Mapping[str, _Placed]
    ) -> None:
        """Check what a ``show_if`` refers to, and put the answers in place of what is written."""
        resolved: dict[str, Any] = {}
        for item_id, values in (what.show_if or {}).items():
            here: Path = (*place, "show_if", item_id)
            placed = known.get(item_id)
            if placed is None:
                ahead = (
                    f"'{item_id}' comes later or is the item itself; it can only look back"
                    if item_id in self.written
                    else ""
                )
                self._add(here, f"'show_if': {ahead or f'there is no item {item_id!r}; correct its id'}")
                continue
            same_list = (placed.page_idx, placed.list_name) == (page_idx, list_name)
            if placed.list_name == "every_reply" and not (placed.page_idx == page_idx and list_name):
                self._add(
                    here,
                    f"'show_if': '{item_id}' is asked of every reply, so it has no single answer; use another item",
                )
            elif placed.is_shuffled and same_list:
                self._add(
                    here,
                    f"'show_if': '{item_id}' may come later, for its page is shuffled; ask it on a page before",
                )
            elif not placed.item.conditions:
                self._add(
                    here,
                    f"'show_if': '{item_id}' is of the kind {placed.item.kind}; use a choice, scale, number or slider",
                )
            else:
                answers = []
                for value in values:
                    try:
                        answers.append(placed.item.accepts(value))
                    except ValueError as error:
                        self._add(here, f"'show_if': {item_id}: {error}")
                resolved[item_id] = answers
        if what.show_if is not None:
            what.show_if = resolved
