"""What the tests of the agent's state share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_chat.conversation.human_agent import HumanAgent
from model_chat.mephisto_task.agent_state import ModelChatAgentState
from model_chat.records.journal import JOURNAL_NAME

SAVED = {"dialog": [{"text": "secret-dialog"}], "task_description": {"model_nickname": "secret-nickname"}}


def reloaded(agent: Any) -> Any:
    """The state as another process finds it."""
    return ModelChatAgentState(agent)


def acknowledge(agent: Any, text: str) -> None:
    """Tell the page that a message of the worker's has arrived."""
    HumanAgent(agent).say("Speaker 1", text, message_id=f"id of {text}")


def journal_of(agent: Any) -> Path:
    return Path(agent.state._get_expected_data_file()).parent / JOURNAL_NAME
