"""Endings: what a participant is told at the end, with which code, and how they get back to their panel.

The server decides which ending it is. It is on disk before it is told, and the first one stays: a participant who
comes again finds it again, in this run and in later ones of the task.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from model_chat.configuration.worker_texts import WorkerText, worker_text
from model_chat.crowd.arrivals import Arrival
from model_chat.crowd.panel_store import PanelStore, ToldEnding
from model_chat.crowd.panels import RETURN_SECONDS, Panel
from model_chat.quality.refusals import Refusal
from model_chat.records.participation import EndingKind, Participation

logger = logging.getLogger(__name__)

MOST_ARRIVALS = 20_000
"""Participants of whom is remembered with which session they came last."""

TEXTS = {kind: worker_text(f"endings.{kind}") for kind in EndingKind}
"""What each ending says first."""
OF_REFUSALS: dict[Refusal, EndingKind] = {
    Refusal.ACCEPTABILITY: EndingKind.BLOCKED,
    Refusal.ATTENTION: EndingKind.BLOCKED,
    Refusal.BLOCKED: EndingKind.BLOCKED,
    Refusal.NOT_INVITED: EndingKind.BLOCKED,
    Refusal.ONBOARDING: EndingKind.SCREENED_OUT,
    Refusal.NOTHING_NEW: EndingKind.NO_WORK,
    Refusal.MAXIMUM: EndingKind.NO_WORK,
    Refusal.TROUBLE: EndingKind.NO_WORK,
    Refusal.ALL_TAKEN: EndingKind.NO_WORK,
    Refusal.ALL_DONE: EndingKind.NO_WORK,
    Refusal.STOPPED: EndingKind.NO_WORK,
}
"""The endings of participants who get no work. What may pass when the page is loaded again is none."""


@dataclass(frozen=True)
class Ending:
    """How one participant's part ends.

    Attributes:
        kind: None for a part that has not ended yet, or was cut off.
        participant: as in ``workers`` of the record.
        study, session: the panel's ids; None for none.
        code: None where the ending has none.
        panel: None for providers that are no panel: their pages are told no ending.
    """

    kind: EndingKind | None
    provider: str
    participant: str
    study: str | None = None
    session: str | None = None
    code: str | None = None
    panel: Panel | None = None

    def participation(self) -> dict[str, Any]:
        """Return `participation` of a saved conversation."""
        return Participation(
            provider=self.provider,
            participant=self.participant,
            study=self.study,
            session=self.session,
            ending=self.kind,
            code=self.code,
        ).model_dump(mode="json")

    def packet(self) -> dict[str, Any] | None:
        """Return what the page is told (docs/protocol.md); None without a panel."""
        if self.panel is None or self.kind is None:
            return None
        url = self.panel.return_url(self.code, self.participant, self.study, self.session)
        return {
            "kind": self.kind.value,
            "code": self.code,
            "url": url,
            "seconds": RETURN_SECONDS if url else 0,
            "text": self._text(TEXTS[self.kind], self.panel, url),
        }

    def _text(self, text: WorkerText, panel: Panel, url: str | None) -> WorkerText:
        """What a participant is told: how their part has ended, and what they do now if the page does not lead them back."""
        if self.code is not None and url is not None:
            return text
        return worker_text("endings.said", text=text, remedy=self._what_to_do(panel))

    def _what_to_do(self, panel: Panel) -> WorkerText:
        label = panel.kind.label
        if self.code is not None:
            if panel.provider == "link":
                return worker_text("endings.note_code")
            back = panel.provider == "panel"
            return worker_text("endings.enter_code_back") if back else worker_text("endings.enter_code", label=label)
        if panel.provider == "link":
            return worker_text("endings.close_page")
        if panel.provider == "panel":
            return worker_text("endings.return_task")
        return worker_text("endings.return_submission", label=label)


class Endings:
    """The endings of one run's participants. ``_lock`` guards who came with which session, and what could not be kept.

    Args:
        one_each: whether a participant has one conversation in the task; else one for each session of the panel's.
    """

    def __init__(self, panel: Panel, store: PanelStore, task_name: str, one_each: bool = True) -> None:
        self.panel = panel
        self._store = store
        self._task_name = task_name
        self._one_each = one_each
        self._lock = threading.Lock()
        self._last: OrderedDict[str, Arrival] = OrderedDict()
        self._unkept: dict[str, ToldEnding] = {}
        """Endings that the disk did not take, by participant."""

    def arrived(self, arrival: Arrival) -> None:
        """Note with which session a participant came last: it is that one which their panel waits for."""
        with self._lock:
            self._last[arrival.participant] = arrival
            self._last.move_to_end(arrival.participant)
            if len(self._last) > MOST_ARRIVALS:
                self._last.popitem(last=False)

    def decide(self, participant: str, kind: EndingKind | None) -> Ending:
        """Return the ending of a participant, which is neither kept nor told yet.

        Args:
            kind: None for a part that has not ended.
        """
        with self._lock:
            last = self._last.get(participant)
        code = None if kind is None else self.panel.codes.get(kind)
        ending = Ending(kind, self.panel.provider, participant, code=code, panel=self.panel)
        return ending if last is None else replace(ending, study=last.study, session=last.session)

    def keep(self, ending: Ending) -> Ending:
        """Keep an ending on disk, before it is told; return the one that counts: an earlier one stays.

        One that can't be kept is told all the same: the participant has done their part.
        """
        if ending.kind is None:
            return ending
        told = ToldEnding(ending.participant, ending.study or "", ending.session or "", ending.kind.value, ending.code)
        try:
            return self._of(self._store.keep_ending(self._task_name, told))
        except sqlite3.Error as error:
            logger.error("The ending of a participant can't be kept (%s); check the disk", error)
            with self._lock:
                self._unkept.setdefault(ending.participant, told)
            return ending

    def find(self, arrival: Arrival) -> Ending | None:
        """Return what a participant was told before, None for one whose part has not ended."""
        with self._lock:
            unkept = self._unkept.get(arrival.participant)
        for told in [*self._store.endings(self._task_name, arrival.participant), *([unkept] if unkept else [])]:
            same = (told.study, told.session) == (arrival.study or "", arrival.session or "")
            if self._one_each or same:
                return self._of(told)
        return None

    def refused(self, participant: str, refusal: Refusal) -> Ending | None:
        """Return the ending of a participant who gets no work; None for a reason that may pass.

        It is kept if it has a code: then the panel is told, and what it was told stays. Without one the reason itself
        lasts as long as it is true.
        """
        kind = OF_REFUSALS.get(refusal)
        if kind is None:
            return None
        ending = self.decide(participant, kind)
        return ending if ending.code is None else self.keep(ending)

    def remember(self, saved: dict[str, Any]) -> None:
        """Keep the ending that a saved conversation names: its run died before it could.

        Args:
            saved: the conversation; one without an ending is passed over.
        """
        try:
            part = Participation.model_validate(saved.get("participation"))
        except ValueError:  # none, or damaged
            return
        if part.ending is not None and part.provider == self.panel.provider:
            told = ToldEnding(part.participant, part.study or "", part.session or "", part.ending.value, part.code)
            self._store.keep_ending(self._task_name, told)

    def _of(self, told: ToldEnding) -> Ending:
        return Ending(
            kind=EndingKind(told.kind),
            provider=self.panel.provider,
            participant=told.participant,
            study=told.study or None,
            session=told.session or None,
            code=told.code,
            panel=self.panel,
        )
