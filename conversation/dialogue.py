"""The dialogue of a conversation: what was said, how it is told to the page, and what the worker said of each reply."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.incoming import Accepted
from model_chat.quality.attention import AttentionCheck
from model_chat.quality.timing import plausible
from model_chat.records.authenticity import MessageSignals
from model_chat.records.schema import (
    HUMAN_ID,
    HUMAN_IDX,
    MODEL_ID,
    MODEL_IDX,
    AttentionResult,
    Generation,
    Timing,
    Utterance,
)

if TYPE_CHECKING:
    from model_chat.conversation.study_flow import StudyFlowRun


class Dialogue:
    """What was said in a conversation, in one chat or in two.

    Args:
        annotations: the buckets, or None when replies are not annotated.
        records_authenticity: whether the counts of the worker's messages are kept, where the worker has given consent.

    Attributes:
        attention_results: of the checks so far; neither they nor their answers are utterances.
        signals: of the worker's messages, those that have counts.
        chat_idx: of the chat that goes on, where there are two; else None.
    """

    def __init__(
        self,
        human: HumanAgent,
        annotations: AnnotationsConfig | None,
        flow: StudyFlowRun | None,
        records_authenticity: bool = False,
    ) -> None:
        self._human = human
        self._annotations = annotations
        self._flow = flow
        self._records_authenticity = records_authenticity
        self._started = time.time()
        self.utterances: list[Utterance] = []
        self.attention_results: list[AttentionResult] = []
        self.signals: list[MessageSignals] = []
        self.chat_idx: Literal[0, 1] | None = None

    @property
    def page_idx(self) -> int:
        """The index under which the page knows the next utterance: it counts attention checks and their answers, too."""
        return len(self.utterances) + 2 * len(self.attention_results)

    @property
    def last_reply(self) -> Utterance | None:
        """The last utterance if it is the model's own reply."""
        last = self.utterances[-1] if self.utterances else None
        return None if last is None or last.agent_idx != MODEL_IDX or last.fake_start else last

    @property
    def reply_to_annotate(self) -> Utterance | None:
        """The model's last reply if it is to be annotated and isn't yet."""
        last = self.last_reply
        return None if self._annotations is None or last is None or last.problem_data is not None else last

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the worker has said something, or a reply of the model has cost something."""
        return any(
            (line.agent_idx == HUMAN_IDX and not line.fake_start)
            or (line.generation is not None and bool(line.generation.cost_usd))
            for line in self.utterances
        )

    def own_texts(self) -> list[list[str]]:
        """What the worker wrote themselves in each chat."""
        chats: dict[int | None, list[str]] = {}
        for line in self.utterances:
            own = chats.setdefault(line.chat_idx, [])
            if line.agent_idx == HUMAN_IDX and not line.fake_start:
                own.append(line.text)
        return list(chats.values())

    def show_check(self, check: AttentionCheck) -> AnnotationsConfig | None:
        """Show an attention check where the model's reply is awaited; return the boxes that are to be ticked, if any."""
        ticks_wanted = self._annotations if check.bucket is not None else None
        told: dict[str, Any] = {"utterance_idx": self.page_idx, "agent_idx": MODEL_IDX, "attention_check": True}
        if ticks_wanted is None:
            told["annotate"] = False
        self._human.say(MODEL_ID, check.text, **told)
        return ticks_wanted

    def take_check(self, check: AttentionCheck, accepted: Accepted) -> None:
        """Take the answer to an attention check."""
        idx = self.page_idx
        self.attention_results.append(check.result(accepted.text, accepted.problem_data))
        said: dict[str, Any] = {"utterance_idx": idx + 1, "agent_idx": HUMAN_IDX, "message_id": accepted.message_id}
        if accepted.problem_data is not None:
            said.update(problem_data=accepted.problem_data, annotated_utterance_idx=idx)
        self._human.say(HUMAN_ID, accepted.text, **said, attention_check=True)

    def reply_check(self, is_last: bool) -> Callable[[Any], dict[str, Any]] | None:
        """Return what checks the answers about the model's last reply; None where nothing is asked of it."""
        flow, last = self._flow, self.last_reply
        if flow is None or last is None or not flow.has_reply_items(is_last):
            return None
        return lambda given: flow.check_reply(given, last.text, is_last)

    def annotate(self, accepted: Accepted, is_last: bool) -> None:
        """Keep the boxes and answers about the model's last reply."""
        annotated = self.reply_to_annotate
        if annotated is not None:
            annotated.problem_data = accepted.problem_data
        if self._flow is not None and accepted.reply_answers:
            self._flow.take_reply(accepted.reply_answers, len(self.utterances) - 1, is_last)

    def told_of_reply(self, accepted: Accepted, page_idx: int | None = None) -> dict[str, Any]:
        """Return what the page is told of its boxes and answers about the last reply.

        Args:
            page_idx: under which the page knows what they are about, where that is an attention check.
        """
        told: dict[str, Any] = {}
        if page_idx is None:
            page_idx = self.page_idx - 1
        if accepted.problem_data is not None:
            told.update(problem_data=accepted.problem_data, annotated_utterance_idx=page_idx)
        if self._flow is not None and accepted.reply_answers:
            told.update(
                reply_answers=accepted.reply_answers,
                answered_utterance_idx=page_idx,
                chat_page=self._flow.flow.chat.id,
            )
        return told

    def add(
        self,
        agent_idx: int,
        text: str,
        accepted: Accepted | None = None,
        fake_start: bool = False,
        generation: Generation | None = None,
        model_nickname: str | None = None,
        problem_data: dict[str, bool] | None = None,
    ) -> None:
        """Add an utterance, and tell the page.

        Args:
            accepted: the worker's message, of which the page has to know that it has arrived.
            model_nickname: of the model, where there are two.
            problem_data: the boxes of a reply that was annotated before it became an utterance.
        """
        now = time.time()
        utterance = Utterance(
            agent_idx=agent_idx,
            text=text,
            id=HUMAN_ID if agent_idx == HUMAN_IDX else MODEL_ID,
            timestamp=now,
            fake_start=True if fake_start else None,
            episode_done=False if fake_start else None,
            message_id=accepted.message_id if accepted is not None else None,
            timing=None if accepted is None else self.plausible_timing(accepted, now),
            generation=generation,
            model_nickname=model_nickname,
            chat_idx=self.chat_idx,
            problem_data=problem_data,
        )
        task_data: dict[str, Any] = {"utterance_idx": self.page_idx, "agent_idx": agent_idx}
        if self.chat_idx is not None:
            task_data["chat_idx"] = self.chat_idx
        if problem_data is not None:
            task_data.update(problem_data=problem_data, annotated_utterance_idx=self.page_idx)
        if accepted is not None:
            task_data |= {"message_id": accepted.message_id, **self.told_of_reply(accepted)}
            task_data |= self._count(accepted)
        self.utterances.append(utterance)
        recorded = None if generation is None else generation.saved()
        if recorded is not None and model_nickname is not None:
            recorded["model_nickname"] = model_nickname
        self._human.say(utterance.id, text, fake_start, recorded, **task_data)

    def _count(self, accepted: Accepted) -> dict[str, Any]:
        """Keep the counts of the worker's message that comes next; return what the page is told of them."""
        counts = accepted.counts
        if counts is None or not self._records_authenticity or self._flow is None or not self._flow.has_consent:
            return {}
        told = counts.told()
        characters = len(accepted.text)
        self.signals.append(MessageSignals(utterance_idx=len(self.utterances), characters=characters, **told))
        return {"authenticity": told}

    def plausible_timing(self, accepted: Accepted, now: float) -> Timing | None:
        """Return the page's times of a message, as far as they can be true."""
        shown = [utterance.timestamp for utterance in self.utterances if utterance.timestamp is not None]
        # Without anything said before, the time of the turn bounds it.
        start = self._started
        return plausible(accepted.timing, now - (shown[-1] if shown else start), now - start)
