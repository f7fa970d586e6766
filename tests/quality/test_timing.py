"""Times from a page are saved only where they can be true."""

from __future__ import annotations

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from model_chat.quality.timing import SLACK_SECONDS, plausible
from model_chat.records.schema import Timing
from model_chat.tests.scripted_human import ScriptedHuman, chat_options, message, play, rating
from model_chat.worlds import make_world

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


def test_a_time_is_kept_up_to_the_last_moment_that_the_server_allows() -> None:
    longest = 30 + SLACK_SECONDS
    assert times(SENT, SENT) == (SENT, SENT, SENT), "in the same moment"
    assert times(SENT - longest, SENT - 300 - SLACK_SECONDS) == (SENT - longest, SENT - 300 - SLACK_SECONDS, SENT)
    assert times(SENT - longest - 0.5, SENT - 300 - SLACK_SECONDS - 0.5) == (None, None, SENT)


def test_times_are_kept_in_milliseconds() -> None:
    assert times(SENT - 2.00049, SENT - 1.0004, SENT + 0.00049) == (SENT - 2, SENT - 1, SENT)


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
    for moment, longest in ((found.shown, since_reply), (found.first_key, since_start)):
        if moment is not None:
            assert -0.002 <= found.sent - moment <= longest + SLACK_SECONDS + 0.002


def test_a_conversation_saves_what_can_be_true_of_each_message() -> None:
    now = time.time()
    honest = {"shown": now - 0.002, "first_key": now - 0.001, "sent": now}
    rubbish = {"shown": -5, "first_key": "a secret typed here", "sent": 1e300, "keys": ["a", "b"]}
    ages = {"shown": 12.0, "first_key": 900.0, "sent": 1e10}
    human = ScriptedHuman(
        message("First.", "bucket_0", timing=honest),
        message("Second.", "bucket_0", timing=rubbish),
        message("Third.", "bucket_0", timing=ages),
        rating(3, ticks="bucket_0"),
    )
    world = make_world(chat_options([], num_turns=3), [human])
    play(world)
    saved = world.get_custom_task_data()["dialog"]
    first, second, third = (line.get("timing") for line in saved if line["text"] in ("First.", "Second.", "Third."))
    assert first == {key: round(value, 3) for key, value in honest.items()}
    assert second is None
    assert third == {"sent": 1e10}
    assert "secret" not in json.dumps(saved)
