"""Orders of conditions that are balanced to the first order."""

from __future__ import annotations


def williams_square(conditions: int) -> list[tuple[int, ...]]:
    """Return rows in which each condition comes equally often at each position, and after each other condition.

    For an even number there are as many rows as conditions, and each ordered pair of neighbours comes once; for an odd
    number there are twice as many rows, and each pair comes twice (Williams 1949, "Experimental designs balanced for the
    estimation of residual effects of treatments", Australian Journal of Scientific Research A 2(2), 149-168).
    """
    first = [0]
    low, high = 1, conditions - 1
    while low <= high:
        first.append(low)
        if low != high:
            first.append(high)
        low, high = low + 1, high - 1
    rows = [tuple((at + shift) % conditions for at in first) for shift in range(conditions)]
    if conditions % 2 and conditions > 1:
        rows += [row[::-1] for row in rows]
    return rows
