"""A bonus of one amount for a unit of work: which payment it is, and whether it was made before."""

from __future__ import annotations

from typing import Any

from model_chat.crowd.adapters import Owed
from model_chat.crowd.ledger import Bonus, token_of
from model_chat.crowd.workers import Task
from model_chat.quality.blocks import platform_id


def fixed_bonus(task: Task, agent: Any, cents: int, reason: str) -> Owed | Bonus:
    """Return the bonus that is owed, or the one that was begun or paid before: a unit gets each reason's bonus once.

    The caller holds :meth:`~model_chat.crowd.ledger.Ledger.paying`.

    Args:
        cents: hundredths of the currency.
    """
    token = token_of("fixed", task.name, agent.db_id, reason)
    before = next((bonus for bonus in task.ledger.bonuses(agent.db_id) if bonus.token == token), None)
    return before or Owed(agent, Bonus(token, agent.db_id, platform_id(agent.get_worker()), cents, reason))
