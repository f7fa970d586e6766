"""Agents whose part in a run is over: the last ones stay as they are, older ones are read again if their pages come back.

Mephisto keeps every agent of a run, with its queue, its locks, its worker and (at the mock provider) all that its page was
sent, until the run ends: a run of days would grow by some kilobytes with each conversation, and slow down.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import mephisto.data_model.agent as mephisto_agents
from mephisto.abstractions.database import EntryDoesNotExistException
from mephisto.data_model.agent import Agent, OnboardingAgent
from mephisto.data_model.worker import Worker

if TYPE_CHECKING:
    from mephisto.operations.datatypes import LiveTaskRun

KEPT = 256
"""Agents that stay in memory: those whose pages are likely to send something yet, or to be loaded again."""


class RetiredAgents:
    """The agents of one run whose part is over. ``_lock`` guards the table."""

    def __init__(self, db: Any, kept: int = KEPT) -> None:
        self._db = db
        self._kept = kept
        self._lock = threading.Lock()
        self._last: OrderedDict[str, Agent | OnboardingAgent] = OrderedDict()

    def add(self, agent: Agent | OnboardingAgent) -> None:
        """Take in an agent; the one that has been here longest is let go when there are too many."""
        let_go = []
        with self._lock:
            self._last[agent.get_agent_id()] = agent
            self._last.move_to_end(agent.get_agent_id())
            while len(self._last) > self._kept:
                let_go.append(self._last.popitem(last=False)[1])
        for old in let_go:
            _let_go(self._db, old)

    def get(self, agent_id: str, live_run: LiveTaskRun) -> Agent | OnboardingAgent | None:
        """Return an agent of a run, read from the database if need be; None if there is none of this id.

        Args:
            agent_id: as its page has it; may come from anywhere.
        """
        with self._lock:
            agent = self._last.get(agent_id)
        if agent is not None:
            return agent
        is_onboarding = OnboardingAgent.is_onboarding_id(agent_id)
        number = OnboardingAgent.get_db_id_from_agent_id(agent_id) if is_onboarding else agent_id
        if not (number.isascii() and number.isdecimal() and len(number) < 16):
            return None
        find = self._db.get_onboarding_agent if is_onboarding else self._db.get_agent
        try:
            row = find(number)
        except EntryDoesNotExistException:
            return None
        if row is None or str(row["task_run_id"]) != str(live_run.task_run.db_id):
            return None
        agent = OnboardingAgent.get(self._db, number) if is_onboarding else Agent.get(self._db, number)
        agent.set_live_run(live_run)
        self.add(agent)
        return agent


def _let_go(db: Any, agent: Agent | OnboardingAgent) -> None:
    """Take an agent out of everything of Mephisto's that holds it, or counts it, by its id."""
    agent.hide_state()
    cache = getattr(db, "_singleton_cache", {})
    for kind, key in ((type(agent), agent.db_id), (Worker, agent.worker_id)):
        for stored, objects in cache.items():
            if issubclass(kind, stored):
                objects.pop(key, None)
    if isinstance(agent, Agent):
        getattr(getattr(agent, "datastore", None), "agent_data", {}).pop(agent.db_id, None)  # of the mock provider
    agent_type = "main" if isinstance(agent, Agent) else "onboarding"
    with contextlib.suppress(KeyError):
        mephisto_agents.ACTIVE_WORKERS.remove(agent.worker_id, agent_type)
