"""Amounts of money, in whole pence, cents or the like: written, read, and with fees."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

SIGNS = {"USD": "$", "GBP": "£", "EUR": "€"}
MOST_MINOR = 10**12
"""Hundredths; nobody is paid more."""
NAMES = {"USD": "dollars", "GBP": "pounds", "EUR": "euros"}


def to_minor(amount: Any, currency: str = "USD") -> int:
    """Return an amount of a currency in hundredths of it.

    Raises:
        ValueError: it is no amount, less than nothing, or has a fraction of a hundredth.
    """
    name = NAMES.get(currency, currency)
    try:
        minor = Decimal(str(amount)) * 100
    except ArithmeticError:  # no number, or one beyond what decimals hold
        raise ValueError(f"'{amount}' is no amount of {name}") from None
    if not minor.is_finite() or not 0 <= minor <= MOST_MINOR or minor != minor.to_integral_value():
        raise ValueError(f"'{amount}' is no amount of {name} and whole {'pence' if currency == 'GBP' else 'cents'}")
    return int(minor)


def plain(minor: int) -> str:
    """Return hundredths as a decimal number without sign of a currency, such as ``12.50``."""
    return f"{minor // 100}.{minor % 100:02d}"


def written(minor: int, currency: str = "USD") -> str:
    """Return hundredths of a currency as people write it: ``$1,250.00``, ``£0.30``, ``12.00 CHF``."""
    number = f"{minor // 100:,}.{minor % 100:02d}"
    sign = SIGNS.get(currency)
    return f"{sign}{number}" if sign else f"{number} {currency}"


def percent_of(minor: int, percent: float) -> int:
    """Return a share, rounded up, so that a cost is never said too low."""
    return int((Decimal(minor) * Decimal(str(percent)) / 100).to_integral_value(ROUND_CEILING))


def hourly(minor: int, minutes: float) -> int:
    """Return what an amount for so many minutes (more than 0) is an hour, rounded to the nearest hundredth."""
    return int((Decimal(minor) * 60 / Decimal(str(minutes))).to_integral_value(ROUND_HALF_UP))


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
