"""A worker's way through the study flow: which page comes next, in which order it is shown, and what was answered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.configuration.study_flow import (
    ACCEPT,
    CONSENT,
    DECLINE,
    ConsentPage,
    Page,
    QuestionsPage,
    StudyFlow,
    TextPage,
)
from model_chat.configuration.study_items import Item, items_for_page
from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.incoming import MALFORMED, message_id_of
from model_chat.conversation.study_answers import INVALID, MISSING, UNEXPECTED, check_answers, is_shown
from model_chat.errors import RefusedError
from model_chat.records.schema import Answer


class DeclinedCount:
    """How many workers have declined to take part: all that is kept of them. Thread-safe; ``_lock`` guards the count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self) -> None:
        """Count one more."""
        with self._lock:
            self._count += 1

    @property
    def count(self) -> int:
        """How many there are."""
        with self._lock:
            return self._count


@dataclass(frozen=True)
class FlowOptions:
    """What all conversations of a run share.

    Attributes:
        max_page_time: seconds a worker has for a page.
        seed: of the orders that are drawn; with the worker's id, the same worker gets the same orders again.
    """

    flow: StudyFlow
    max_page_time: int
    seed: int = 42
    declined: DeclinedCount = field(default_factory=DeclinedCount)


@dataclass(frozen=True)
class AcceptedPage:
    """A page that the server has taken.

    Attributes:
        answers: item -> answer as it is saved; of a page of consent ``{"consent": "accept" or "decline"}``.
    """

    message_id: str
    answers: dict[str, Any]

    @property
    def is_decline(self) -> bool:
        """Whether the worker has declined to take part."""
        return self.answers.get(CONSENT) == DECLINE


class StudyFlowRun:
    """One worker's way through the flow. It belongs to the thread of the conversation."""

    def __init__(self, options: FlowOptions, worker_id: str) -> None:
        self.options = options
        self.flow = options.flow
        self.answers: list[Answer] = []
        self.has_declined = False
        self.orders: dict[str, dict[str, Any]] = {}
        """Page -> what was drawn: ``items`` (ids in order, by the list that they are in) and ``options`` (item -> texts)."""
        self._seed = f"{options.seed}|{worker_id}"
        self._next_idx = 0
        self._known: dict[str, Any] = {}
        self._items = {page.id: self._draw(page) for page in self.flow.pages}
        self._as_written = {item.id: item for _, item in self.flow.items()}

    @property
    def known(self) -> Mapping[str, Any]:
        """The answers so far, by item."""
        return self._known

    # --- orders ---

    def _draw(self, page: Page) -> dict[str, list[Item]]:
        """Draw the order of a page's items and their options, and note what was drawn."""
        lists: dict[str, list[Item]] = {}
        for name in ("items", "every_reply", "last_reply"):
            items: list[Item] = [self._with_order(page, item) for item in getattr(page, name, [])]
            if "items" in getattr(page, "shuffle", ()) and len(items) > 1:
                self._rng(page.id, name).shuffle(items)
                self.orders.setdefault(page.id, {}).setdefault("items", {})[name] = [item.id for item in items]
            lists[name] = items
        return lists

    def _with_order(self, page: Page, item: Item) -> Item:
        options = item.options_to_shuffle
        if item.shuffle is None or len(options) < 2:
            return item
        self._rng(page.id, item.id).shuffle(options)
        self.orders.setdefault(page.id, {}).setdefault("options", {})[item.id] = options
        return item.with_order(options)

    def _rng(self, *names: str) -> random.Random:
        return random.Random("|".join([self._seed, *names]))

    # --- pages ---

    def next_page(self, after_chat: bool) -> Page | None:
        """Return the page that comes now; None when there is no further one before, or after, the chat."""
        pages = self.flow.pages
        if after_chat:
            self._next_idx = max(self._next_idx, self.flow.chat_idx + 1)
        end = len(pages) if after_chat else self.flow.chat_idx
        while self._next_idx < end and not is_shown(pages[self._next_idx].show_if, self._known):
            self._next_idx += 1
        return pages[self._next_idx] if self._next_idx < end else None

    def told(self, page: Page) -> dict[str, Any]:
        """What the worker's page is told of a page, with what it can show of it already decided."""
        return {
            "page": page.for_page(items_for_page(self._decided(page, self._items[page.id]["items"]))),
            "page_idx": self.page_idx,
            "num_pages": len(self.flow.pages),
        }

    def _decided(self, page: Page, items: Sequence[Item]) -> list[Item]:
        """Items without the conditions on earlier pages, and without those whose conditions do not hold.

        A condition on the same page's answers stays: the worker's page shows and hides these items itself.
        """
        own = {item.id for item in page.all_items}
        decided = []
        for item in items:
            condition = item.show_if or {}
            if is_shown({name: values for name, values in condition.items() if name not in own}, self._known):
                left = {name: values for name, values in condition.items() if name in own}
                decided.append(item.model_copy(update={"show_if": left or None}))
        return decided

    @property
    def page_idx(self) -> int:
        """Which page of the flow comes now, the chat and pages that are not shown included."""
        return self._next_idx

    def check(self, page: Page, packet: Any, taken: set[str]) -> AcceptedPage | None:
        """Check what a page sent while it was to answer ``page``.

        Returns:
            what is taken of it; None for a repeat of a packet that the conversation has already.

        Raises:
            RefusedError: it can't be taken.
        """
        message_id = message_id_of(packet)
        if message_id is None:
            raise RefusedError("malformed", MALFORMED)
        if message_id in taken:
            return None
        task_data = packet["task_data"]
        try:
            if task_data.get("page") != page.id:
                raise RefusedError("not_your_turn", worker_text("messages.page_answered"))
            answers = self._check(page, task_data.get("answers"))
        except RefusedError as refused:
            refused.message_id = message_id
            raise
        return AcceptedPage(message_id, answers)

    def _check(self, page: Page, given: Any) -> dict[str, Any]:
        if isinstance(page, QuestionsPage):
            return check_answers(self._in_file_order(self._items[page.id]["items"]), given, self._known)
        if isinstance(page, ConsentPage):
            if not isinstance(given, dict) or CONSENT not in given:
                raise RefusedError(MISSING, worker_text("answers.consent"))
            if given.keys() != {CONSENT}:
                raise RefusedError(UNEXPECTED, worker_text("answers.other_page"))
            if given[CONSENT] not in (ACCEPT, DECLINE):
                raise RefusedError(INVALID, worker_text("answers.consent"))
            return {CONSENT: given[CONSENT]}
        if given not in (None, {}):
            raise RefusedError(UNEXPECTED, worker_text("answers.nothing_to_answer"))
        return {}

    def _in_file_order(self, items: Sequence[Item]) -> list[Item]:
        """Items in the order shown, with their options as in the file: so that answers of different workers are alike."""
        return [self._as_written[item.id] for item in items]

    def take(self, page: Page, accepted: AcceptedPage) -> None:
        """Keep the answers to a page, and go on to the next; of a page that was declined nothing is kept."""
        if accepted.is_decline:
            self.has_declined = True
            self.answers.clear()
            return
        self._keep(page, accepted.answers, None)
        self._next_idx += 1

    def skip_rest(self) -> None:
        """Leave out the pages that are left."""
        self._next_idx = len(self.flow.pages)

    def _keep(self, page: Page, answers: Mapping[str, Any], utterance_idx: int | None) -> None:
        now = time.time()
        self.answers += [
            Answer(page=page.id, item=item, value=value, utterance_idx=utterance_idx, timestamp=now)
            for item, value in answers.items()
        ]
        if not isinstance(page, ConsentPage):
            self._known.update(answers)

    @property
    def only_texts_left(self) -> bool:
        """Whether what comes after the chat, if anything, is only to be read."""
        rest = self.flow.pages[max(self._next_idx, self.flow.chat_idx + 1) :]
        return all(isinstance(page, TextPage) for page in rest if is_shown(page.show_if, self._known))

    # --- replies ---

    @property
    def reply_questions(self) -> dict[str, list[dict[str, Any]]]:
        """What the worker's page is told of the items of every reply, and of the last one."""
        chat = self.flow.chat
        lists = self._items[chat.id]
        return {name: items_for_page(self._decided(chat, lists[name])) for name in ("every_reply", "last_reply")}

    def has_reply_items(self, is_last: bool) -> bool:
        """Whether something may be asked of a reply."""
        return bool(self._decided(self.flow.chat, self._asked_of_reply(is_last)))

    def _asked_of_reply(self, is_last: bool) -> list[Item]:
        lists = self._items[self.flow.chat.id]
        return [*lists["every_reply"], *(lists["last_reply"] if is_last else [])]

    def check_reply(self, given: Any, reply: str, is_last: bool) -> dict[str, Any]:
        """Check what a page sent about a reply of the model.

        Args:
            given: untrusted; should be item -> answer.
            is_last: whether it is the last of the chat.

        Raises:
            RefusedError: it can't be taken.
        """
        return check_answers(self._in_file_order(self._asked_of_reply(is_last)), given, self._known, reply)

    def take_reply(self, answers: Mapping[str, Any], utterance_idx: int, is_last: bool) -> None:
        """Keep the answers about a reply; those of every reply are nothing that ``show_if`` could look back at later."""
        before = dict(self._known)
        self._keep(self.flow.chat, answers, utterance_idx)
        self._known = before
        if is_last:
            last = {item.id for item in self.flow.chat.last_reply}
            self._known.update({item: value for item, value in answers.items() if item in last})

    # --- what is kept ---

    @property
    def has_consent(self) -> bool:
        """Whether nothing was declined, and every page of consent before the chat that was to be shown was accepted."""
        return not self.has_declined and has_consent(self.flow, self.answers)

    @property
    def has_answers(self) -> bool:
        """Whether the worker has answered anything beside consent."""
        return has_answers(self.flow, self.answers)


def has_consent(flow: StudyFlow, answers: Sequence[Answer]) -> bool:
    """Whether what a worker has answered may be kept: each page of consent before the chat is accepted, or not for them."""
    accepted = {answer.page for answer in answers if answer.item == CONSENT and answer.value == ACCEPT}
    known = {answer.item: answer.value for answer in answers}
    return all(
        page.id in accepted or not is_shown(page.show_if, known)
        for page in flow.pages[: flow.chat_idx]
        if isinstance(page, ConsentPage)
    )


def has_answers(flow: StudyFlow, answers: Sequence[Answer]) -> bool:
    """Whether there are answers to items, not only consent."""
    consents = {page.id for page in flow.pages if isinstance(page, ConsentPage)}
    return any(answer.page not in consents for answer in answers)
