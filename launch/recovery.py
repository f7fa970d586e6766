"""Recovery of runs that died: conversations that were cut off, and units that are still offered."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.data_model.agent import Agent
from mephisto.data_model.constants.assignment_state import AssignmentState
from pydantic import ValidationError

from model_chat.configuration.mephisto_data import DATABASE
from model_chat.configuration.traces import NewPaths
from model_chat.conversation.human_agent import CHAT_DONE
from model_chat.crowd.platform import PlatformError, take_down
from model_chat.errors import ConfigurationError
from model_chat.launch.recovered_annotations import annotated_in, annotation_of, judged_of, shown_as_said
from model_chat.launch.recovered_answers import add_answers, flow_of, may_keep
from model_chat.launch.recovered_authenticity import add_authenticity
from model_chat.launch.recovered_comparisons import comparisons_of, cost_of_unjudged, is_judged_to_the_end
from model_chat.mephisto_task.agent_state import state_of
from model_chat.records.collected import SavedConversations, message_ids_of
from model_chat.records.journal import JOURNAL_NAME
from model_chat.records.locks import (
    DATA_LOCK,
    LOCKS_FOLDER,
    hold,
    hold_alone_from_now,
    hold_data,
    hold_or_refuse,
    use_folder,
)
from model_chat.records.participation import PANELS
from model_chat.records.schema import HUMAN_IDX, Completion, Generation, Utterance
from model_chat.records.writing import save_conversation

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker

logger = logging.getLogger(__name__)

CUT_OFF = "run died: the program ended without warning during the conversation"
"""Why a recovered conversation is incomplete."""
DATABASES = (DATABASE, *(f"{provider}/{provider}.db" for provider in ("mock", "mturk", "mturk_sandbox", *PANELS)))
"""What Mephisto makes in its data folder when its database is opened."""
_OPEN_UNITS = (AssignmentState.CREATED, AssignmentState.LAUNCHED, AssignmentState.ASSIGNED)


@dataclass(frozen=True)
class Recovered:
    """What was put in order.

    Attributes:
        cut_off: conversations that were cut off and are now kept as incomplete.
        repaired: finished conversations of which one record was missing.
        expired: units that nobody can work on any more.
    """

    cut_off: int = 0
    repaired: int = 0
    expired: int = 0

    def sentence(self) -> str | None:
        """Say it to the requester; None when there was nothing to do."""
        parts = [
            f"{number} {one if number == 1 else many}"
            for number, one, many in (
                (
                    self.cut_off,
                    "conversation that was cut off is kept as incomplete",
                    "conversations that were cut off are kept as incomplete",
                ),
                (
                    self.repaired,
                    "finished conversation was added to Mephisto's database",
                    "finished conversations were added to Mephisto's database",
                ),
                (self.expired, "open unit was expired", "open units were expired"),
            )
            if number
        ]
        return f"An earlier run ended without warning: {', '.join(parts)}." if parts else None


@contextmanager
def hold_task(data_folder: Path, task_name: str, makes: Sequence[Path] = ()) -> Iterator[None]:
    """Keep any other process from running the same task with the same data meanwhile. The locks end with the process.

    Where the block raises :class:`ConfigurationError`, nothing is left of what is new since: the locks, the database if no
    other run uses it, and ``makes``, with the folders above them.

    Args:
        makes: further files that the block makes.

    Raises:
        ConfigurationError: another process runs the task, or changes the records of all tasks.
    """
    path = data_folder / LOCKS_FOLDER / f"{hashlib.sha256(task_name.encode()).hexdigest()[:24]}.lock"
    databases = [data_folder / f"{name}{suffix}" for name in DATABASES for suffix in ("", "-wal", "-shm")]
    new = NewPaths(path, *makes)
    new_data = NewPaths(data_folder / LOCKS_FOLDER / DATA_LOCK, *databases)
    with (
        hold_or_refuse(
            hold_data(data_folder, alone=False),
            f"mephisto.datapath: workers in '{data_folder}' are being forgotten (manage_workers.py); start again when that "
            "is done.",
        ) as shared,
        hold_or_refuse(
            hold(path, alone=True, note=str(os.getpid())),
            f"mephisto.task.task_name: '{task_name}' is running already (process {{holder}}); stop that run, or give "
            "another name.",
        ),
    ):
        try:
            yield
        except ConfigurationError:
            new.remove()
            if hold_alone_from_now(shared):  # no other run uses the data
                new_data.remove()
            raise


def use_chat_data(folder: Path) -> AbstractContextManager[None]:
    """Keep others from changing what is saved in a folder of conversations while a run saves there.

    Raises:
        ConfigurationError: workers are being forgotten in it.
    """
    return hold_or_refuse(
        use_folder(folder),
        f"mephisto.blueprint.chat_data_folder: workers in '{folder}' are being forgotten (manage_workers.py); start again "
        "when that is done.",
    )


def recover(
    db: MephistoDB,
    task_name: str,
    kept: SavedConversations,
    chat_data_folder: Path,
    is_live: bool,
    block: Callable[[Worker, dict[str, Any]], None] = lambda worker, saved: None,
    remember_ending: Callable[[dict[str, Any]], None] = lambda saved: None,
) -> Recovered:
    """Put in order what earlier runs of a task left behind. To be called while no run of the task is active.

    Conversations that were cut off are kept in both records as incomplete; a finished one whose file is there is put into
    Mephisto's record as well; its worker is blocked if the record asks for it; units are expired (on MTurk their
    HITs, by its API). What fails is logged and tried again at the next start.

    Args:
        block: gets each worker whose conversation the run had saved but not ended, with that conversation.
        remember_ending: gets each of these conversations: their participants may not have been told the ending yet.
    """
    cut_off = repaired = expired = 0
    for task in db.find_tasks(task_name=task_name):
        for agent in _unfinished_agents(db, task.db_id):
            try:
                outcome = _recover_agent(agent, kept, chat_data_folder, is_live, block, remember_ending)
            except Exception:  # what one agent left may be damaged in any way; the others are recovered
                logger.exception("What is left of %s could not be recovered", agent)
                continue
            cut_off += outcome is Completion.INCOMPLETE
            repaired += outcome is Completion.COMPLETE
        for onboarding in _in_status(db.find_onboarding_agents, task.db_id):
            onboarding.update_status(AgentState.STATUS_EXPIRED)
        runs = db.find_task_runs(task_id=task.db_id, is_completed=False)
        for status in _OPEN_UNITS:
            expired += sum(map(_expire, db.find_units(task_id=task.db_id, status=status)))
        for run in runs:
            db.update_task_run(run.db_id, is_completed=True)
    return Recovered(cut_off, repaired, expired)


def _in_status(find: Any, task_id: str) -> Iterable[Any]:
    """Everybody of a task who has not come to an end."""
    for status in AgentState.valid():
        if status not in AgentState.complete():
            yield from find(task_id=task_id, status=status)


def _unfinished_agents(db: MephistoDB, task_id: str) -> list[Agent]:
    """Agents that have not come to an end, and those that have but left a journal."""
    found = {agent.db_id: agent for agent in _in_status(db.find_agents, task_id)}
    for run in db.find_task_runs(task_id=task_id):
        for journal in Path(run.get_run_dir()).glob(f"*/*/{JOURNAL_NAME}"):
            agent_id = journal.parent.name
            if agent_id.isdecimal() and agent_id not in found:
                found[agent_id] = Agent.get(db, agent_id)
    return list(found.values())


def _recover_agent(
    agent: Agent,
    kept: SavedConversations,
    chat_data_folder: Path,
    is_live: bool,
    block: Callable[[Worker, dict[str, Any]], None],
    remember_ending: Callable[[dict[str, Any]], None],
) -> Completion | None:
    """Keep what an agent's journal holds.

    Returns:
        INCOMPLETE for a conversation that was cut off, COMPLETE for one whose record was repaired, None for neither.
    """
    state, outcome = state_of(agent), None
    if not state.is_recorded and state.head is not None:
        dialog = dialog_of(state.messages, state.generations)
        flow = flow_of(state.head)
        has_consent, has_answers = may_keep(flow, state.messages)
        judged = judged_of(state.head)
        if judged is not None:
            dialog = shown_as_said(dialog)
        path = kept.find_file((state.head.get("assignment_ids") or [None])[0], message_ids_of(dialog), judged)
        if path is not None:
            saved = json.loads(path.read_bytes())
            state.record_world_data({"custom_data": saved})
            outcome = Completion(saved.get("status") or Completion.COMPLETE)
        elif not has_consent:
            state.forget()
        elif has_answers or any(map(_is_worth_keeping if judged is None else _is_annotated, dialog)):
            saved = {**state.head, "dialog": dialog, "status": Completion.INCOMPLETE.value, "reason": CUT_OFF}
            saved = add_authenticity(add_answers(saved, flow, state.messages), state.messages)
            if state.head.get("comparisons") is not None:
                saved["comparisons"] = comparisons_of(state.messages, state.generations)
                if cost := cost_of_unjudged(state.messages, state.generations):
                    saved["failed_generation"] = {"cost_usd": cost}
                if is_judged_to_the_end(state.messages):
                    saved.update(status=Completion.COMPLETE.value, reason=None)
            save_conversation(chat_data_folder, saved, is_live)
            state.record_world_data({"custom_data": saved})
            outcome = Completion(saved["status"])
    if state.recorded is not None:
        remember_ending(state.recorded)  # first: as long as the journal is there, it is tried again
    state.head, state.generations = None, {}
    state.finish()
    if agent.db_status not in AgentState.complete():
        if state.recorded is not None:
            block(agent.get_worker(), state.recorded)
        # Whoever's part was recorded has done it, submitted or not.
        done = state.is_recorded and outcome is not Completion.INCOMPLETE
        agent.update_status(AgentState.STATUS_COMPLETED if done else AgentState.STATUS_EXPIRED)
    return outcome


def _is_worth_keeping(utterance: dict[str, Any]) -> bool:
    """Whether an utterance is a worker's own, or has cost something."""
    own = utterance["agent_idx"] == HUMAN_IDX and "fake_start" not in utterance
    return own or bool(utterance.get("generation", {}).get("cost_usd"))


def _is_annotated(utterance: dict[str, Any]) -> bool:
    """Whether an annotator has ticked boxes of an utterance of a finished conversation."""
    return "problem_data" in utterance


def dialog_of(
    messages: Iterable[dict[str, Any]], generations: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Put the utterances of a conversation together from what its page was sent, as they are saved.

    Attention checks and their answers are no part of a dialogue and left out, as are times that only the page knew, and
    what is no utterance at all (a damaged file): the rest is kept.

    Args:
        generations: how the model's replies were made, by the ids of their updates.
    """
    dialog: list[Utterance] = []
    by_page_idx: dict[int, Utterance] = {}
    for message in messages:
        data = message.get("task_data")
        annotation_of(data, by_page_idx)
        if not isinstance(data, dict):
            continue
        if data.get("control") == CHAT_DONE:
            _annotate(by_page_idx, data)
        if "control" in data or data.get("attention_check") or "agent_idx" not in data:
            continue
        try:
            utterance, annotated_idx, annotation = _utterance_of(message, data)
        except (ValidationError, KeyError, TypeError) as error:
            logger.warning("A damaged utterance is left out of a conversation that is recovered: %s", error)
            continue
        generation = generations.get(str(message.get("update_id")))
        if generation is not None:
            utterance.generation = Generation.of(generation)
            utterance.model_nickname = _text_or_none(generation, "model_nickname")
        dialog.append(utterance)
        page_idx = data.get("utterance_idx")
        by_page_idx[page_idx if isinstance(page_idx, int) else len(dialog) - 1] = utterance
        annotated = by_page_idx.get(annotated_idx)  # an earlier reply, or a compared one that was annotated before
        if annotated is not None:
            annotated.problem_data = annotation
    return [utterance.to_dict() for utterance in dialog]


def _annotate(by_page_idx: Mapping[int, Utterance], data: dict[str, Any]) -> None:
    """Give the last reply of a chat the boxes with which the chat was closed."""
    annotated, ticks = annotated_in(data, by_page_idx), data.get("problem_data")
    if annotated is not None and isinstance(ticks, dict) and all(type(ticked) is bool for ticked in ticks.values()):
        annotated.problem_data = ticks


def _text_or_none(known: Any, key: str) -> str | None:
    value = known.get(key) if isinstance(known, Mapping) else None
    return value if isinstance(value, str) else None


def _utterance_of(message: dict[str, Any], data: dict[str, Any]) -> tuple[Utterance, int, dict[str, bool] | None]:
    """An update's utterance, and which reply it annotates (-1: none) how.

    Raises:
        ValidationError, KeyError: it is none.
    """
    fake = True if message.get("fake_start") else None
    utterance = Utterance(
        agent_idx=data["agent_idx"],
        text=message["text"],
        id=message["id"],
        timestamp=message.get("timestamp"),
        fake_start=fake,
        episode_done=False if fake else None,
        message_id=data.get("message_id"),
        chat_idx=data.get("chat_idx"),
    )
    annotated_idx, annotation = data.get("annotated_utterance_idx"), data.get("problem_data")
    if not isinstance(annotated_idx, int):
        return utterance, -1, None
    Utterance(agent_idx=utterance.agent_idx, text="", id="", problem_data=annotation)  # is it one?
    return utterance, annotated_idx, annotation


def _expire(unit: Unit) -> bool:
    """Take a unit off the platform; return whether it was still open.

    The HIT of a worker who has finished but not handed in would be offered again when its time is up: it is taken down, too.
    """
    agent = unit.get_assigned_agent()
    is_done = agent is not None and agent.db_status == AgentState.STATUS_COMPLETED
    try:
        take_down(unit)
    except PlatformError as error:
        logger.error("Of an earlier run, %s; it is tried again at the next start, or look it up there", error)
        return False
    if unit.db_status in _OPEN_UNITS:
        unit.set_db_status(AssignmentState.COMPLETED if is_done else AssignmentState.EXPIRED)
    return bool(unit.db_status == AssignmentState.EXPIRED)
