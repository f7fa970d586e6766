"""Orders of conditions are balanced to the first order."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from model_chat.conversation.latin_squares import williams_square


@pytest.mark.parametrize("conditions", range(1, 13))
def test_each_condition_is_equally_often_at_each_position_and_after_each_other(conditions: int) -> None:
    rows = williams_square(conditions)
    times = 2 if conditions % 2 and conditions > 1 else 1

    assert all(sorted(row) == list(range(conditions)) for row in rows)
    positions = Counter((at, condition) for row in rows for at, condition in enumerate(row))
    assert set(positions.values()) == {times}
    assert len(positions) == conditions**2
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert len(pairs) == conditions * (conditions - 1)
    assert set(pairs.values()) <= {times}
