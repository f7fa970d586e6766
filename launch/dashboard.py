"""The run's side of its dashboard: a process that is started with it, told its counters, and listened to."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from model_chat.dashboard.link import Answer, Ask, Start, line_of
from model_chat.dashboard.live import ENDLESS, Chatting, Count, LiveState, Replies
from model_chat.dashboard.settings import PORT_FLAG
from model_chat.dashboard.sockets import address_of, bind
from model_chat.dashboard.study import StudyInfo
from model_chat.mephisto_task.agent_state import state_of
from model_chat.mephisto_task.task_database import worker_counts
from model_chat.records.schema import HUMAN_ID

if TYPE_CHECKING:
    from model_chat.conversation.quota import Quota
    from model_chat.mephisto_task.shared_state import ModelChatSharedState

logger = logging.getLogger(__name__)

SECONDS = 1.0
"""Between two looks at the counters."""
END_SECONDS = 5.0
WAITING = ("none", "accepted", "waiting")
"""Statuses of agents who have come and do not chat yet."""


class RunCounters:
    """Reads a run's state; nothing that the run's own threads need is held for longer than a copy takes.

    Args:
        by_cell: whether the quota counts conditions rather than models.
    """

    def __init__(self, shared: ModelChatSharedState, quota: Quota, by_cell: bool) -> None:
        self._shared, self._quota, self._by_cell = shared, quota, by_cell
        self._started = time.time()

    def read(self) -> LiveState:
        """Return the counters as they are now.

        Raises:
            sqlite3.Error: the database can't be read.
        """
        live_run, spend = self._shared.live_run, self._shared.spend
        counts: dict[tuple[str, str], int] = {}
        chatting: list[Chatting] = []
        accepting = False
        if live_run is not None:
            run = live_run.task_run
            counts = worker_counts(run.db, run.db_id)
            chatting = [_chatting(unit.agent) for unit in list(live_run.task_runner.running_units.values())]
            accepting = not (live_run.worker_pool.is_closed or live_run.worker_pool.is_paused)
        flow = getattr(self._shared.world_opt, "study_flow", None)
        return LiveState(
            accepting=accepting and not (spend is not None and spend.is_reached()),
            started=self._started,
            by_cell=self._by_cell,
            counts=[
                Count(name=one.nickname, done=one.done, in_flight=one.in_flight, needed=one.needed)
                for one in self._quota.counts()
            ],
            chatting=chatting,
            replies=self._replies(),
            onboarding=counts.get(("onboarding", "onboarding"), 0),
            waiting=sum(counts.get(("task", status), 0) for status in WAITING),
            declined=0 if flow is None else flow.declined.count,
            models_usd=None if spend is None else spend.total(),
            models_limit_usd=None if spend is None else spend.limit,
        )

    def _replies(self) -> list[Replies]:
        """What the run's meter of replies has counted."""
        options = self._shared.world_opt
        if options is None:
            return []
        meter = options.models.meter
        buckets: dict[str, list[tuple[float, int]]] = {}
        failures: dict[str, int] = {}
        for metric in meter.seconds.collect():
            for sample in metric.samples:
                if sample.name.endswith("_bucket"):
                    buckets.setdefault(sample.labels["model"], []).append(
                        (float(sample.labels["le"]), round(sample.value))
                    )
        for metric in meter.failures.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    failures[sample.labels["model"]] = round(sample.value)
        return [
            Replies(
                name=name,
                replies=found[-1][1] if found else 0,
                failures=failures.get(name, 0),
                buckets=[(min(bound, ENDLESS), number) for bound, number in found],
            )
            for name, found in buckets.items()
        ]


def _chatting(agent: Any) -> Chatting:
    """Return how far a conversation is, from what its state holds; a lock is taken nowhere."""
    state = state_of(agent)
    messages = state.messages
    head = state.head if isinstance(state.head, dict) else {}
    task = head.get("task_description")
    said = sum(1 for message in messages if message.get("id") == HUMAN_ID and not message.get("fake_start"))
    workers = head.get("workers")
    name = workers[0] if isinstance(workers, list) and workers else str(agent.get_worker().worker_name)
    return Chatting(
        agent_id=str(agent.db_id),
        worker=str(name),
        model=task.get("model_nickname") if isinstance(task, dict) else None,
        since=next((message["timestamp"] for message in messages if "timestamp" in message), None),
        turn=said,
    )


class _Process:
    """The dashboard's process. ``_lock`` guards writing to it."""

    def __init__(
        self, start: Start, listening: socket.socket, counters: RunCounters, act: Callable[[Ask], str]
    ) -> None:
        self._counters, self._act = counters, act
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "model_chat.dashboard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for the run, which ends the dashboard itself
        )
        with suppress(OSError):  # it has ended at once: _listen says so
            self._say(start)
        for work in (self._tell, self._listen):
            threading.Thread(target=work, name="dashboard", daemon=True).start()

    def _say(self, message: Any) -> None:
        """Send a line.

        Raises:
            OSError, ValueError: the process has ended.
        """
        with self._lock:
            if self.process.stdin is None:
                raise OSError("no pipe")
            self.process.stdin.write(line_of(message))
            self.process.stdin.flush()

    def _tell(self) -> None:
        """Send the counters, again and again."""
        last: LiveState | None = None
        while not self._over.is_set():
            try:
                state = self._counters.read()
            except Exception:  # the database, or a state that changes while it is read: the next look may go well
                logger.debug("The counters could not be read for the dashboard", exc_info=True)
            else:
                try:
                    if state != last:
                        self._say({"state": state.model_dump(mode="json")})
                except (OSError, ValueError):
                    break
                last = state
            self._over.wait(SECONDS)

    def _listen(self) -> None:
        """Do what the dashboard asks for, until it ends."""
        for line in self.process.stdout or ():
            try:
                ask = Ask.model_validate_json(line)
            except ValidationError:
                logger.error("The dashboard has asked for something that the run does not understand")
                continue
            try:
                fault = self._act(ask)
            except Exception:  # the database, or a crowd platform
                logger.exception("The run could not do what the dashboard asked for (%s)", ask.act)
                fault = "The run could not do it; see its log."
            with suppress(OSError, ValueError):
                self._say(Answer(answer=ask.ask, fault=fault))
        if not self._over.is_set():
            logger.warning(
                "The dashboard has ended (exit code %s); the study goes on without it. scripts/dashboard.py shows it "
                "again, read from the records.",
                self.process.wait(),
            )

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._over.set()
        # Not by _say's lock: somebody may be writing to a process that hangs.
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def serve_dashboard(cfg: Any, shared: ModelChatSharedState, quota: Quota) -> Iterator[str]:
    """Serve the dashboard of a run, in a process of its own; yields the link to print.

    Raises:
        ConfigurationError: the port was taken meanwhile.
    """
    args = cfg.mephisto.blueprint
    study = StudyInfo.of(cfg, cfg.mephisto.task.task_name)  # which the launch has completed
    with bind(PORT_FLAG, str(args.dashboard_host), args.dashboard_port) as listening:
        token = secrets.token_urlsafe(24)
        start = Start(study=study, socket=listening.fileno(), token=token, passwords=args.dashboard_password_env)
        process = _Process(
            start, listening, RunCounters(shared, quota, study.by_cell), lambda ask: perform(ask, shared, quota)
        )
        address = address_of(listening)
        listening.close()  # the process has it
        try:
            yield f"{address}login?token={token}"
        finally:
            process.end()


def perform(ask: Ask, shared: ModelChatSharedState, quota: Quota) -> str:
    """Do what the dashboard asks for; return "", or why it is not done."""
    live_run = shared.live_run
    if live_run is None or live_run.worker_pool.is_closed:
        return "The run is ending."
    if ask.act != "extend":
        live_run.worker_pool.is_paused = ask.act == "stop"
        logger.warning(
            "%s (dashboard)", "No new workers are admitted" if ask.act == "stop" else "New workers are admitted"
        )
        return ""
    if shared.is_live and shared.most_units is not None:
        return (
            "On MTurk each further conversation is paid for, and its cost is confirmed at the launch: raise the number of "
            "conversations in the configuration and start the run again."
        )
    try:
        more = quota.extend(ask.more or 0)
    except OSError as error:
        return f"Further conversations can't be kept for later runs ({error.strerror}), so that nothing was extended."
    if not more:
        why = "has collected everything" if quota.remaining() == 0 else "can't be extended while it runs"
        return f"This study {why}; raise the number in its configuration, and start the run again."
    offered = sum(live_run.task_launcher.replace() for _ in range(more))
    logger.warning("%d further conversations are wanted (dashboard)", more)
    return "" if offered == more else f"Only {offered} of {more} further conversations could be offered."
