"""Parts of a reply while it is made: what they hold, when they are sent, and that none comes after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat.conversation import growing_reply
from model_chat.conversation.growing_reply import MAX_PART_BYTES, GrowingReply, whole_characters
from model_chat.conversation.pacing import ReplyDelivery
from model_chat.tests.scripted_human import ScriptedHuman

STREAMED = ReplyDelivery(stream=True)


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """No thread sends parts: a test does, at a time of its own."""
    monkeypatch.setattr(growing_reply.SENDER, "add", lambda reply: None)
    return Clock()


def reply(
    clock: Callable[[], float], human: Any = None, delivery: ReplyDelivery = STREAMED, **more: Any
) -> GrowingReply:
    return GrowingReply(human or ScriptedHuman(), delivery, 3, clock=clock, **more)


def texts(human: ScriptedHuman) -> list[str]:
    return [part["text"] for part in human.parts]


def tell(growing: GrowingReply, text: str) -> None:
    assert growing.tell is not None
    growing.tell(text)


def test_each_part_has_the_whole_text_so_far_and_the_next_number(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human) as growing:
        growing.send_part()
        assert human.parts == [], "there is nothing to be shown yet"
        for text in ("I", "I like", "I like tea."):
            tell(growing, text)
            growing.send_part()
            growing.send_part()
    assert human.parts == [
        {"control": "reply_part", "utterance_idx": 3, "side": None, "part": number, "text": text}
        for number, text in enumerate(("I", "I like", "I like tea."), 1)
    ]


def test_a_part_names_the_side_where_two_replies_are_compared(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human, side="left") as left, reply(clock, human, side="right") as right:
        tell(left, "One")
        tell(right, "Two")
        left.send_part()
        right.send_part()
    assert [(part["side"], part["part"], part["text"]) for part in human.parts] == [
        ("left", 1, "One"),
        ("right", 1, "Two"),
    ]


def test_no_part_comes_after_the_end(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human) as growing:
        tell(growing, "I")
    growing.send_part()
    tell(growing, "I like")
    growing.send_part()
    assert human.parts == []


def test_no_part_comes_after_the_end_while_many_threads_try() -> None:
    human, ended, late = ScriptedHuman(), threading.Event(), []

    class Watching(ScriptedHuman):
        def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
            late.append(ended.is_set())
            return human.send_part(take)

    growing = reply(time.monotonic, Watching())
    stop = threading.Event()

    def press(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            tell(growing, f"{number} {count}")
            growing.send_part()

    threads = [threading.Thread(target=press, args=(number,)) for number in range(4)]
    with growing:
        for thread in threads:
            thread.start()
        while len(human.parts) < 50:
            time.sleep(0.001)
    ended.set()
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(late)


def test_a_part_that_still_waits_is_replaced_by_the_newer_one(clock: Clock) -> None:
    waiting: list[Callable[[], dict[str, Any]]] = []

    class Slow(ScriptedHuman):
        def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
            waiting.append(take)
            return True

    with reply(clock, Slow()) as growing:
        for text in ("I", "I like", "I like tea."):
            tell(growing, text)
            growing.send_part()
        (take,) = waiting
        assert take()["text"] == "I like tea."
        tell(growing, "I like tea. You?")
        growing.send_part()
        assert len(waiting) == 2


def test_a_part_for_which_there_is_no_connection_is_tried_again_later(clock: Clock) -> None:
    tries: list[bool] = []

    class Away(ScriptedHuman):
        def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
            tries.append(True)
            return super().send_part(take) if len(tries) > 1 else False

    human = Away()
    with reply(clock, human) as growing:
        tell(growing, "I")
        growing.send_part()
        tell(growing, "I like")
        growing.send_part()
    assert texts(human) == ["I like"]


def test_at_each_tick_parts_of_a_fifth_of_the_replies_are_sent_and_of_those_that_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parts of all at once would hold up the turns of everybody."""
    sender = growing_reply._Sender()
    ended = threading.Event()
    ticks: list[list[int]] = []

    class Reply:
        def __init__(self, number: int) -> None:
            self.number, self.has_begun = number, True

        def send_part(self) -> None:
            ticks[-1].append(self.number)

    replies: list[Any] = [Reply(number) for number in range(11)]
    replies[10].has_begun = False

    def sleep(_: float) -> None:
        added.wait()
        if len(ticks) == 10:
            for each in replies:
                sender.remove(each)
            ended.set()
        ticks.append([])

    monkeypatch.setattr(growing_reply, "time", SimpleNamespace(sleep=sleep))
    added = threading.Event()
    for each in replies:
        sender.add(each)
    added.set()
    assert ended.wait(60)
    sent = [[number for number in tick if number < 10] for tick in ticks[:10]]
    assert [len(numbers) for numbers in sent] == [2] * 10
    assert sorted(number for tick in sent[:5] for number in tick) == list(range(10)) and sent[5:] == sent[:5]
    assert all(10 in tick for tick in ticks[:10]), "its first part is sent at once"


@pytest.mark.parametrize("letter", ["a", "茶", "😀"])
def test_parts_end_where_a_reply_grows_too_long(clock: Clock, letter: str) -> None:
    human = ScriptedHuman()
    fits = letter * (MAX_PART_BYTES // len(letter.encode()))
    with reply(clock, human) as growing:
        for text in (fits, fits + letter):
            tell(growing, text)
            growing.send_part()
        growing.hold_back(fits + letter)
        growing.send_part()
    assert texts(human) == [fits]


def test_what_shows_nothing_is_no_part(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human) as growing:
        for text in (" ", "\n\u200b", "\u200d"):
            tell(growing, text)
            growing.send_part()
    assert human.parts == []


def test_a_reply_that_begins_anew_replaces_what_was_shown(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human) as growing:
        for text in ("I like tea", "No", "No, I don't."):
            tell(growing, text)
            growing.send_part()
        growing.hold_back("No, I don't.")
    assert [(part["part"], part["text"]) for part in human.parts] == [(1, "I like tea"), (2, "No"), (3, "No, I don't.")]


def test_nobody_is_told_where_replies_do_not_grow(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human, ReplyDelivery(chars_per_second=10)) as growing:
        assert growing.tell is None
        growing.hold_back("I like tea.")
        growing.send_part()
    assert human.parts == []
    assert human.waits == [pytest.approx(1001.1)]
    assert growing.paced is True


def test_without_a_pace_a_whole_reply_is_not_held_back(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human) as growing:
        clock.now += 5
        growing.hold_back("I like tea.")
    assert human.waits == []
    assert growing.paced is None


def test_a_reply_that_comes_whole_flows_at_the_pace(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human, ReplyDelivery(True, 2.0, 10.0)) as growing:
        clock.now += 0.5
        growing.hold_back("I like green tea.")
        for _ in range(5):
            clock.now += 0.7
            growing.send_part()
    assert texts(human) == ["I like", "I like green t", "I like green tea."]
    assert human.waits == [pytest.approx(1003.7)]
    assert growing.paced is True


def test_a_fast_and_a_slow_model_send_the_same_parts_at_the_same_times(clock: Clock) -> None:
    delivery = ReplyDelivery(True, 4.0, 10.0)
    fast, slow = ScriptedHuman(), ScriptedHuman()
    with reply(clock, fast, delivery) as first, reply(clock, slow, delivery) as second:
        for tenth in range(100):
            clock.now = 1000 + tenth / 10
            if tenth == 2:
                first.hold_back("All of it at once, after 0.2 s.")
            if 30 <= tenth <= 36:
                tell(second, "All of it at once, after 0.2 s."[: 5 * (tenth - 29)])
            if tenth == 37:
                second.hold_back("All of it at once, after 0.2 s.")
            first.send_part()
            second.send_part()
            assert len(fast.parts) == len(slow.parts)
    assert texts(fast) == texts(slow)
    assert fast.waits == slow.waits == [pytest.approx(1007.1)]
    assert (first.paced, second.paced) == (True, True)


def test_a_model_that_cannot_keep_the_pace_says_so(clock: Clock) -> None:
    with reply(clock, delivery=ReplyDelivery(True, 2.0, 10.0)) as growing:
        clock.now += 3
        growing.hold_back("Late.")
    assert growing.paced is False


def test_a_text_is_presented_before_it_is_shown(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human, presentable=lambda text: text.upper().rstrip("?")) as growing:
        tell(growing, "hello?")
        growing.send_part()
        tell(growing, "hello? yes")
        growing.send_part()
        growing.hold_back("HELLO? YES")
    assert texts(human) == ["HELLO", "HELLO? YES"]


def test_what_is_presented_in_another_way_does_not_begin_anew(clock: Clock) -> None:
    human = ScriptedHuman()
    with reply(clock, human, ReplyDelivery(True, 0.0, 10.0), presentable=str.capitalize) as growing:
        tell(growing, "hello there")
        clock.now += 1
        growing.send_part()
        growing.hold_back("Hello there")
    assert growing.paced is True
    assert human.waits == [pytest.approx(1001.1)]


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
WAVE, FLAG, ACCENT = "\U0001f44b\U0001f3fd", "\U0001f1eb\U0001f1f7", "e\u0301"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc", ["a", "ab", "abc"]),
        ("茶好", ["茶", "茶好"]),
        (f"a{ACCENT}b", ["a", "a", f"a{ACCENT}", f"a{ACCENT}b"]),
        (f"a{WAVE}", ["a", "a", f"a{WAVE}"]),
        (f"a{FAMILY}", ["a", "a", "a", "a", "a", f"a{FAMILY}"]),
        (f"{FLAG}{FLAG}", ["", FLAG, FLAG, FLAG + FLAG]),
        ("\u2764\ufe0f!", ["", "\u2764\ufe0f", "\u2764\ufe0f!"]),
        ("a\u200d", ["", "a"]),
    ],
)
def test_no_character_is_cut_in_two(text: str, shown: list[str]) -> None:
    assert [whole_characters(text, length) for length in range(1, len(text) + 1)] == shown


def test_one_thread_sends_the_parts_of_all_replies_and_ends_with_the_last() -> None:
    humans = [ScriptedHuman() for _ in range(20)]
    replies = [GrowingReply(human, STREAMED, 1) for human in humans]
    for growing in replies:
        growing.__enter__()
        tell(growing, "I like")
    while not all(human.parts for human in humans):
        time.sleep(0.01)
    sending = [thread for thread in threading.enumerate() if thread.name == "reply-parts"]
    assert len(sending) == 1
    for growing in replies:
        tell(growing, "I like tea.")
    while not all(len(human.parts) == 2 for human in humans):
        time.sleep(0.01)
    for growing in replies:
        growing.__exit__()
    sending[0].join(60)
    assert not sending[0].is_alive()


def test_a_reply_whose_parts_cannot_be_sent_keeps_no_other_from_being_shown(caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> str:
        raise ValueError("on purpose")

    human, tries = ScriptedHuman(), 0
    with GrowingReply(ScriptedHuman(), STREAMED, 1, presentable=broken) as one, GrowingReply(human, STREAMED, 1) as two:
        tell(one, "I")
        while len(human.parts) < 2:
            tries += 1
            tell(two, "I like" + " tea" * tries)
            time.sleep(0.01)
        one.hold_back("I")
    assert [record.getMessage() for record in caplog.records] == ["No parts are sent of a reply; it comes whole"]
