"""The cost of paid work, in whole US cents."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

FEE_PERCENT = 20
"""MTurk's share of rewards and bonuses (https://requester.mturk.com/pricing); for HITs of up to nine assignments, and
Mephisto's have one each."""
SMALLEST_FEE_CENTS = 1
"""MTurk's least fee for an assignment."""


def to_cents(amount: Any) -> int:
    """Return an amount of dollars in cents.

    Raises:
        ValueError: it is no amount, less than nothing, or has a fraction of a cent.
    """
    try:
        cents = Decimal(str(amount)) * 100
    except InvalidOperation:
        raise ValueError(f"'{amount}' is no amount of dollars") from None
    if not cents.is_finite() or cents < 0 or cents != cents.to_integral_value():
        raise ValueError(f"'{amount}' is no amount of dollars and whole cents")
    return int(cents)


def fee_cents(cents: int) -> int:
    """Return MTurk's fee on one reward or bonus."""
    return max(SMALLEST_FEE_CENTS, int((Decimal(cents) * FEE_PERCENT / 100).to_integral_value(ROUND_HALF_UP)))


def dollars(cents: int) -> str:
    """Return an amount as it is written."""
    return f"${cents / 100:,.2f}"


def total_cents(units: int, reward_cents: int) -> int:
    """Return what so many units cost, fee included."""
    return units * (reward_cents + fee_cents(reward_cents))
