"""Asking a worker for the answers to a page of a study flow."""

from __future__ import annotations

from model_chat.conversation.asking import WorkerTurns
from model_chat.conversation.human_agent import AgentTimeoutError, HumanAgent
from model_chat.conversation.study_flow import StudyFlowRun


def take_page(flow: StudyFlowRun, turns: WorkerTurns, human: HumanAgent, after_chat: bool, may_skip: bool) -> None:
    """Show the page that comes now, if there is one, and take its answers.

    Args:
        may_skip: whether a worker who takes too long leaves out the rest, which is only to be read.

    Raises:
        AgentTimeoutError: the worker took too long.
    """
    page = flow.next_page(after_chat)
    if page is None:
        return
    try:
        accepted = turns.await_answer(
            lambda packet: flow.check(page, packet, turns.taken),
            flow.page_idx,
            flow.options.max_page_time,
            ask="page",
            **flow.told(page),
        )
    except AgentTimeoutError:
        if not may_skip:
            raise
        flow.skip_rest()
        return
    turns.taken.add(accepted.message_id)
    flow.take(page, accepted)
    if not accepted.is_decline:
        complete = {"complete": True} if after_chat and flow.only_texts_left else {}
        human.control("page_done", page=page.id, message_id=accepted.message_id, answers=accepted.answers, **complete)
