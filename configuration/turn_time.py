"""The time that a worker has for a turn."""

from __future__ import annotations


def longest_turn(max_resp_time: int, time_extensions: int) -> int:
    """Return the seconds that a worker may take for one turn, every extension used.

    Args:
        max_resp_time: seconds for a turn, and for each extension of it.
        time_extensions: how many extensions a turn may have.
    """
    return max_resp_time * (1 + time_extensions)
