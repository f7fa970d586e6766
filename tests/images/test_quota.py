"""The image stack as a quota: how much is collected, what is in flight, what there is for a worker."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.quota import ModelCount, Reservation
from model_chat.images.quota import ImageQuota, Outlook
from model_chat.images.stack import ImageStack, StackWriteError, read_stack
from model_chat.records.extensions import NUM_CONVERSATIONS, Extensions

Make = Callable[..., ImageQuota]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make a quota on a stack in the same folder each time; the one before is closed."""
    made: list[ImageQuota] = []

    def build(images: int = 2, models: str = "ab", evals: int = 1, conversations: int = 100) -> ImageQuota:
        while made:
            made.pop().close()
        stack = ImageStack(images, list(models), evals, tmp_path / "stack", rng=1)
        made.append(ImageQuota(stack, conversations))
        return made[0]

    yield build
    while made:
        made.pop().close()


def taken(quota: ImageQuota, worker: str) -> Reservation[int]:
    place = quota.take(worker)
    assert place is not None
    place.seen = True
    return place


def test_places_are_counted_from_taking_to_completion(make: Make) -> None:
    quota = make(images=2, models="a")
    assert (quota.wanted(), quota.remaining()) == (2, 2)
    place = taken(quota, "ann")
    assert (place.nickname, place.subject, place.worker) == ("a", 0, "ann")
    assert quota.counts() == [ModelCount("a", 0, 1, 2)]
    assert quota.remaining() == 2
    place.complete()
    place.complete()
    place.release()
    assert quota.counts() == [ModelCount("a", 1, 0, 2)]
    assert quota.remaining() == 1
    assert quota.run_statistics() == {"by_model": {"a": 1}, "by_image": {"0": 1}}
    assert quota.notes() == ["images: 1 of 2 given out in full"]


def test_the_log_says_how_many_were_collected_with_each_model_and_about_the_image(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    quota = make(images=1, models="ab", evals=2)
    assert [count.needed for count in quota.counts()] == [2, 2]
    with caplog.at_level(logging.INFO):
        for worker in ("ann", "bob", "cy"):
            taken(quota, worker).complete()
    collected = quota.run_statistics()["by_model"]
    assert sorted(collected.values()) == [1, 2]
    assert caplog.messages[-1] == f"run_statistics: by model {collected}; image 0: {collected}"


def test_a_place_given_back_is_free_for_others_and_its_image_is_not_shown_to_the_same_worker_again(make: Make) -> None:
    quota = make(images=1, models="a")
    taken(quota, "ann").release()
    assert quota.take("ann") is None
    assert taken(quota, "ben").subject == 0


def test_who_has_not_seen_the_image_may_have_it_later(make: Make) -> None:
    quota = make(images=1, models="a")
    place = quota.take("ann")
    assert place is not None
    place.release()
    assert taken(quota, "ann").subject == 0


def test_no_more_conversations_are_given_out_than_are_wanted(make: Make) -> None:
    quota = make(images=10, models="ab", conversations=3)
    with ThreadPoolExecutor(16) as threads:
        places = [place for place in threads.map(quota.take, map(str, range(50))) if place is not None]
    assert len(places) == 3
    assert quota.outlook("new") is Outlook.LATER
    places[0].release()
    assert quota.outlook("new") is Outlook.WORK
    places[0] = taken(quota, "new")
    for place in places:
        place.complete()
    assert quota.remaining() == 0
    assert quota.outlook("newer") is Outlook.NOTHING
    assert sum(Counter(len(image[model]) for image in quota._stack.places() for model in "ab").elements()) == 3


def test_a_draw_counts_at_every_moment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the lock of the counts is free, a place that is being taken is under way or in flight."""
    quota = make(images=2, models="a", conversations=1)
    free: list[bool] = []

    class Watched:
        """The lock; after each release another worker asks."""

        def __init__(self, lock: Any) -> None:
            self.lock, self.asking = lock, False

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.lock.release()
            if not self.asking and drawn:
                self.asking = True
                free.append(quota.take("bob") is not None)
                self.asking = False

    draw, drawn = quota._stack.get_next_image, []

    def get_next_image(worker: str) -> Any:
        drawn.append(worker)
        return draw(worker)

    monkeypatch.setattr(quota._stack, "get_next_image", get_next_image)
    monkeypatch.setattr(quota, "_lock", Watched(quota._lock))
    assert quota.take("ann") is not None
    assert free
    assert not any(free)
    assert drawn == ["ann"]


def test_a_draw_that_fails_holds_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = make(images=1, models="a", conversations=1)

    def fail(worker: str) -> Any:
        raise StackWriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(quota._stack, "get_next_image", fail)
        with pytest.raises(StackWriteError):
            quota.take("ann")
    assert quota.counts() == [ModelCount("a", 0, 0, 1)]
    assert quota.take("ann") is not None


def test_more_are_never_wanted_than_the_stack_has_room_for(make: Make) -> None:
    assert make(images=3, models="ab", evals=2, conversations=100).wanted() == 12


def test_a_second_run_goes_on_where_the_first_ended(make: Make) -> None:
    quota = make(conversations=3)
    for worker in ("ann", "ben"):
        taken(quota, worker).complete()
    taken(quota, "cat").release()
    quota = make(conversations=3)
    assert (quota.wanted(), quota.remaining()) == (3, 1)
    assert quota.take("ann") is not None, "the second image is new to her"
    assert quota.take("dan") is None
    quota.close()
    assert make(conversations=1).wanted() == 2, "what is collected stays collected"


def test_what_a_killed_run_left_is_settled_by_what_was_saved(make: Make) -> None:
    quota = make(images=2, models="a")
    first, second = taken(quota, "ann"), taken(quota, "ben")
    assert (first.subject, second.subject) == (0, 1)
    quota = make(images=2, models="a")
    assert quota.left_in_flight()
    assert quota.remaining() == 2
    quota.settle({(0, "a", "ann"), (1, "a", "somebody else")})
    assert not quota.left_in_flight()
    assert quota.remaining() == 1
    assert quota.counts() == [ModelCount("a", 1, 0, 2)]
    assert taken(quota, "cat").subject == 1


@pytest.mark.parametrize("who, outlook", [("seen all", Outlook.NOTHING), ("new", Outlook.LATER)])
def test_nothing_now_is_told_from_nothing_at_all(make: Make, who: str, outlook: Outlook) -> None:
    quota = make(images=1, models="ab")
    taken(quota, "seen all")
    taken(quota, "other")
    assert quota.take(who) is None
    assert quota.outlook(who) is outlook


class Disk:
    """A disk that is full or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: Any) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data)


def test_what_a_full_disk_did_not_take_is_made_up_for(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quota = make(images=3, models="a")
    done, left = taken(quota, "ann"), taken(quota, "ben")
    disk = Disk(monkeypatch)
    disk.full = True
    done.complete()
    left.release()
    assert quota.counts() == [ModelCount("a", 1, 0, 3)], "the conversation is saved: it counts"
    with pytest.raises(StackWriteError):
        quota.take("cat")
    disk.full = False
    assert taken(quota, "cat").subject == 1, "the place that was given back"
    saved = read_stack(tmp_path / "stack")
    assert saved == [{"a": ["ann"]}, {"a": ["cat"]}, {"a": []}]
    quota = make(images=3, models="a")
    assert quota._stack.in_flight() == [(1, "a", "cat")]


def test_conversations_that_outlive_the_run_are_settled_by_the_next(make: Make) -> None:
    quota = make(images=1, models="a")
    place = taken(quota, "ann")
    quota.close()
    place.release()
    quota = make(images=1, models="a")
    assert quota.left_in_flight()
    quota.settle([])
    assert quota.take("ben") is not None


# --- nothing now, or nothing at all ---


def test_one_that_others_hold_can_come_back_until_it_is_done(make: Make) -> None:
    quota = make(images=1, models="a")
    place = taken(quota, "ann")
    assert (quota.outlook("ann"), quota.outlook("ben")) == (Outlook.NOTHING, Outlook.LATER)
    place.complete()
    assert quota.outlook("ben") is Outlook.NOTHING


def test_enough_under_way_is_later_even_where_images_are_free(make: Make) -> None:
    quota = make(images=3, models="a", conversations=1)
    place = taken(quota, "ann")
    assert (quota.outlook("ann"), quota.outlook("ben")) == (Outlook.LATER, Outlook.LATER), "the one may be given back"
    place.release()
    assert (quota.outlook("ann"), quota.outlook("ben")) == (Outlook.WORK, Outlook.WORK)
    taken(quota, "ben").complete()
    assert (quota.outlook("ann"), quota.outlook("new")) == (Outlook.NOTHING, Outlook.NOTHING)


def test_the_last_free_place_is_work_for_one(make: Make) -> None:
    quota = make(images=2, models="a", conversations=2)
    taken(quota, "ann")
    assert quota.outlook("ben") is Outlook.WORK
    taken(quota, "ben")
    assert quota.outlook("cleo") is Outlook.LATER


def test_a_draw_that_is_under_way_counts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = make(images=2, models="a", conversations=1)
    seen: list[tuple[Outlook, object]] = []
    draw = quota._stack.get_next_image

    def during(worker: str) -> object:
        seen.append((quota.outlook("ben"), quota.take("ben")))
        return draw(worker)

    monkeypatch.setattr(quota._stack, "get_next_image", during)
    assert quota.take("ann") is not None
    assert seen == [(Outlook.LATER, None)]


def test_closing_makes_up_for_what_could_not_be_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = make(images=1, models="a")
    place = taken(quota, "ann")

    def full(*_: object, **__: object) -> bool:
        raise StackWriteError("full")

    with monkeypatch.context() as patch:
        patch.setattr(quota._stack, "remove_worker", full)
        place.release()
    assert read_stack(tmp_path / "stack") == [{"a": ["ann"]}]
    quota.close()
    assert read_stack(tmp_path / "stack") == [{"a": []}]


def test_an_extension_is_kept_for_later_runs_and_none_is_where_it_can_not_be(tmp_path: Path) -> None:
    for number, folder in enumerate((tmp_path, tmp_path / "gone")):
        extensions = Extensions(folder, "study", {NUM_CONVERSATIONS: 1})
        quota = ImageQuota(ImageStack(3, ["a"], 1, tmp_path / f"stack{number}", rng=1), 1, extensions)
        if number == 0:
            assert quota.extend(9) == 2
            assert extensions.wanted() == {NUM_CONVERSATIONS: 3}
        else:
            with pytest.raises(OSError, match="No such file"):
                quota.extend(9)
            assert quota.wanted() == 1
        quota.close()


def test_an_extension_goes_as_far_as_the_stack_has_room(make: Make) -> None:
    quota = make(images=3, models="a", conversations=1)
    last = taken(quota, "ann")
    assert quota.take("bob") is None
    assert quota.extend(1) == 1
    taken(quota, "bob").complete()
    assert quota.extend(10) == 1
    assert (quota.wanted(), quota.remaining()) == (3, 2)
    assert quota.extend(10) == 0
    last.complete()
    taken(quota, "cid").complete()
    assert (quota.extend(1), quota.remaining()) == (0, 0)
