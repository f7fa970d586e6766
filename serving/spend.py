"""What the replies of a task's models have cost, and whether that is as much as the requester wants to spend."""

from __future__ import annotations

from model_chat.serving.pool import ModelPool


class ModelSpend:
    """The money that a task's models have cost: what earlier runs have saved, and what this run's pool counts.

    Known are the replies of models with prices (`usd_per_million_…`), failed requests as far as the server says what they
    used. Thread-safe: the pool guards what changes.

    Args:
        limit: US dollars of ``mephisto.blueprint.max_model_spend_usd``; None: no limit.
        earlier: US dollars that earlier runs of the task have cost.
    """

    def __init__(self, pool: ModelPool, limit: float | None = None, earlier: float = 0.0) -> None:
        self._pool = pool
        self.limit = limit
        self.earlier = earlier

    def total(self) -> float:
        """Return the US dollars so far, earlier runs included."""
        return self.earlier + sum(self._pool.spent_usd().values())

    def by_model(self) -> dict[str, float]:
        """Return the US dollars that each model has cost in this run."""
        return self._pool.spent_usd()

    def is_reached(self) -> bool:
        """Whether there is a limit, and no further conversation is to begin."""
        return self.limit is not None and self.total() >= self.limit

    def text(self) -> str:
        """Return it for the requester, in a few words; "" where nothing is spent and nothing limits it."""
        total = self.total()
        if self.limit is not None:
            return f"models: {dollars(total)} of {dollars(self.limit)} spent"
        return f"models: {dollars(total)} spent" if total else ""


def dollars(amount: float) -> str:
    """Return an amount in US dollars to read; small ones with more decimals, for replies cost less than a cent."""
    return f"${amount:,.2f}" if amount == 0 or amount >= 1 else f"${amount:.4f}"
