"""One study as the dashboard serves it: its records, its run, and what all who look at it share."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from model_chat.dashboard.acts import Acts
from model_chat.dashboard.audit import AuditLog
from model_chat.dashboard.blinding import Names, key_in
from model_chat.dashboard.live import Run
from model_chat.dashboard.overview import make_overview
from model_chat.dashboard.store import RecordStore
from model_chat.dashboard.study import StudyInfo

logger = logging.getLogger(__name__)

KEYS_FOLDER = "model_chat_dashboard"
"""In Mephisto's data folder."""
LOOK_SECONDS = 1.0
"""Between two looks at the records and the run, while anybody looks."""
WATCHED_SECONDS = 15.0
"""How long after the last request the records are still looked at."""
ESTIMATE_SECONDS = 30.0
"""Between two estimates at least."""


class Watched:
    """A study, its newest overview, and the event that says that there is a newer one.

    Blocking work is done in ``reader``, one thread; ``reading`` is held there, and by acts, while the store is refreshed.
    Everything else is used on the event loop only.

    Args:
        run: of the study, if it runs in the process that this dashboard belongs to.
    """

    def __init__(self, study: StudyInfo, run: Run | None = None) -> None:
        self.study, self.run = study, run
        self.names = Names(
            study.blind, key_in(study.database.parent / KEYS_FOLDER, study.task_name) if study.blind else b""
        )
        self.store = RecordStore(study)
        self.audit = AuditLog(study.chat_data_folder, study.task_name)
        self._reading = threading.Lock()
        self.acts = Acts(study, self.store, self._reading, self.audit)
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="dashboard-reader")
        self.actor = ThreadPoolExecutor(1, thread_name_prefix="dashboard-acts")
        self.overview: bytes = b"{}"
        self.version = 0
        self._told = 0
        self._seen: tuple[Any, ...] | None = None
        self._estimates: tuple[float, int, list[dict[str, Any]]] = (-ESTIMATE_SECONDS, -1, [])
        self._asked = -WATCHED_SECONDS
        self._changed = asyncio.Event()
        self._refreshing: asyncio.Future[None] | None = None

    @property
    def is_live(self) -> bool:
        """Whether the study runs, and has said how it is doing."""
        return self.run is not None and self.run.state is not None

    async def look(self) -> None:
        """Look at the records and the run now, together with everybody else who wants it at this moment."""
        self._asked = time.monotonic()
        if self._refreshing is None:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.run_in_executor(self.reader, self._refresh)
            self._refreshing.add_done_callback(self._looked)
        await asyncio.shield(self._refreshing)

    def _looked(self, future: asyncio.Future[None]) -> None:
        self._refreshing = None
        if self.version != self._told:
            self._told = self.version
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        if not future.cancelled() and future.exception() is not None:
            logger.error("The records of %s could not be looked at", self.study.task_name, exc_info=future.exception())

    def _refresh(self) -> None:
        """Make a new overview if anything has changed; in the reader's thread."""
        live = None if self.run is None else self.run.state
        with self._reading:
            snapshot = self.store.refresh()
        # The clock is part of what is shown; a study that does not change is shown anew now and then all the same.
        seen = (snapshot.number, live, int(time.time() // 60))
        if seen == self._seen:
            return
        self.names.learn(
            [*self.study.wanted, *(one.entry.model for one in snapshot.listed)]
            if not self.study.by_cell
            else [one.entry.model for one in snapshot.listed]
            + ([] if live is None else [r.name for r in live.replies]),
            [*(self.study.wanted if self.study.by_cell else ()), *(one.entry.cell or "" for one in snapshot.listed)],
        )
        at, number, rows = self._estimates
        if not self.study.blind and number != snapshot.number and time.monotonic() - at >= ESTIMATE_SECONDS:
            from model_chat.dashboard.estimates import estimates  # NumPy and SciPy, which nothing else needs

            rows = estimates(snapshot.listed)
            self._estimates = (time.monotonic(), snapshot.number, rows)
        made = {**make_overview(self.study, snapshot, live, self.names, rows), "now": round(time.time(), 1)}
        self.overview = orjson.dumps(made, option=orjson.OPT_NON_STR_KEYS)
        self._seen = seen
        self.version += 1

    @property
    def is_watched(self) -> bool:
        """Whether anybody has asked lately."""
        return time.monotonic() - self._asked < WATCHED_SECONDS

    async def keep_looking(self, watched: Callable[[], bool]) -> None:
        """Look once a second while anybody looks, and wake those who wait for something new; ends when cancelled."""
        while True:
            if watched() or self.is_watched:
                asked = self._asked
                try:
                    await self.look()
                except Exception:  # logged by _looked; the next look may go well
                    logger.debug("A look failed", exc_info=True)
                if not watched():
                    self._asked = asked  # looking by itself is no reason to go on
            await asyncio.sleep(LOOK_SECONDS)

    async def wait_for_change(self, known: int, seconds: float) -> bool:
        """Wait until the overview is newer than the one known; return whether it is."""
        if self.version != known:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return self.version != known

    async def in_reader(self, work: Callable[[], Any]) -> Any:
        """Do blocking work that reads."""
        return await asyncio.get_running_loop().run_in_executor(self.reader, work)

    async def in_actor(self, work: Callable[[], Any]) -> Any:
        """Do blocking work that acts."""
        return await asyncio.get_running_loop().run_in_executor(self.actor, work)

    def close(self) -> None:
        """Take no more work."""
        self.reader.shutdown(wait=False, cancel_futures=True)
        self.actor.shutdown(wait=True, cancel_futures=True)
