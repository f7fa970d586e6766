"""The cost of paid work, in whole US cents."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

FEE_PERCENT = 20
"""MTurk's share of rewards and bonuses (https://requester.mturk.com/pricing); for HITs of up to nine assignments, and
Mephisto's have one each."""
SMALLEST_FEE_CENTS = 1
"""MTurk's least fee for an assignment."""


def fee_cents(cents: int) -> int:
    """Return MTurk's fee on one reward or bonus."""
    return max(SMALLEST_FEE_CENTS, int((Decimal(cents) * FEE_PERCENT / 100).to_integral_value(ROUND_HALF_UP)))


def total_cents(units: int, reward_cents: int) -> int:
    """Return what so many units cost, fee included."""
    return units * (reward_cents + fee_cents(reward_cents))
