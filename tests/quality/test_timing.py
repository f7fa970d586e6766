"""Times from a page are saved only where they can be true."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_chat.quality.timing import SLACK_SECONDS, plausible
from model_chat.records.schema import Timing

SENT = 1_760_000_100.0


def times(shown: float | None, first_key: float | None, sent: float | None = SENT) -> tuple[float | None, ...] | None:
    found = plausible(Timing(shown=shown, first_key=first_key, sent=sent), since_reply=30, since_start=300)
    return None if found is None else (found.shown, found.first_key, found.sent)


def test_an_honest_page_keeps_its_times_whatever_its_clock_says() -> None:
    assert times(SENT - 25, SENT - 12) == (SENT - 25, SENT - 12, SENT)
    assert times(75.5, 88.25, 100.0) == (75.5, 88.25, 100.0)  # a clock that thinks it is 1970


def test_who_begins_to_write_before_the_reply_is_there_keeps_the_first_key() -> None:
    assert times(SENT - 5, SENT - 20) == (SENT - 5, SENT - 20, SENT)


def test_more_time_than_has_gone_by_on_the_server_is_not_believed() -> None:
    assert times(SENT - 30 - SLACK_SECONDS - 1, SENT - 300 - SLACK_SECONDS - 1) == (None, None, SENT)


def test_times_after_sending_are_not_believed() -> None:
    assert times(SENT + 1, SENT + 0.1) == (None, None, SENT)


def test_without_the_time_of_sending_nothing_is_kept() -> None:
    assert times(SENT - 3, SENT - 2, None) is None
    assert plausible(None, 1, 1) is None


moments = st.none() | st.floats(min_value=0, max_value=1e11, exclude_min=True)


@given(moments, moments, moments, st.floats(0, 1e5), st.floats(0, 1e5))
def test_what_is_kept_is_in_order_and_no_longer_than_the_server_measured(
    shown: float | None, first_key: float | None, sent: float | None, since_reply: float, since_start: float
) -> None:
    found = plausible(Timing(shown=shown, first_key=first_key, sent=sent), since_reply, since_start)
    if found is None:
        assert sent is None
        return
    assert found.sent is not None
    for time, longest in ((found.shown, since_reply), (found.first_key, since_start)):
        if time is not None:
            assert -0.002 <= found.sent - time <= longest + SLACK_SECONDS + 0.002
