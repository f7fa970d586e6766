"""The rules of the stack in memory, beyond one bit mask: what a mask holds makes no difference."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from model_chat.images._bookkeeping import Bookkeeping, Progress
from model_chat.images._journal import Change, Place, Verb
from model_chat.images._saved_stack import SavedStack

MASKS = [1, 2, 3, 5, 4096]


def books(images: int, models: str = "a", wanted: int = 1, mask: int | None = None, **saved: Any) -> Bookkeeping:
    found = None
    if saved:
        places = saved.pop("places")
        found = SavedStack(places=places, **saved)
    return Bookkeeping(images, list(models), wanted, random.Random(1), found, mask)


def take(of: Bookkeeping, worker: str) -> Place:
    place = of.reserve(worker)
    assert place is not None
    of.conclude(Change(Verb.TAKE, place), written=True)
    return place


def end(of: Bookkeeping, place: Place, verb: Verb, written: bool = True) -> None:
    of.conclude(Change(verb, place), written=written)


@pytest.mark.parametrize("mask", MASKS)
def test_a_worker_gets_the_images_in_order_up_to_the_last(mask: int) -> None:
    of = books(11, mask=mask, wanted=2)
    assert [take(of, "w").image_idx for _ in range(11)] == list(range(11))
    assert of.reserve("w") is None
    assert of.full_images() == 0
    assert [take(of, "v").image_idx for _ in range(11)] == list(range(11))
    assert of.full_images() == 11
    assert of.reserve("u") is None


@pytest.mark.parametrize("images", [4_095, 4_096, 4_097, 8_193])
def test_a_stack_of_more_images_than_the_usual_mask_holds(images: int) -> None:
    of = books(images)
    for image_idx in range(images):
        assert take(of, f"w{image_idx % 7}").image_idx == image_idx
    assert of.full_images() == images
    assert of.reserve("new") is None
    last = Place(images - 1, "a", f"w{(images - 1) % 7}")
    end(of, last, Verb.GIVE_BACK)
    assert of.full_images() == images - 1
    assert of.reserve(last.worker) is None, "they have seen it"
    assert take(of, "new") == Place(images - 1, "a", "new")


@pytest.mark.parametrize("mask", MASKS)
def test_an_image_given_back_comes_before_later_ones_for_everybody_who_has_not_seen_it(mask: int) -> None:
    of = books(9, mask=mask)
    places = [take(of, f"w{number}") for number in range(8)]
    end(of, places[2], Verb.GIVE_BACK)
    end(of, places[6], Verb.GIVE_BACK_UNSEEN)
    assert take(of, "w2").image_idx == 6, "not the one that they have seen"
    assert take(of, "w6").image_idx == 2
    assert take(of, "w2").image_idx == 8
    assert of.reserve("w5") is None


@pytest.mark.parametrize("mask", MASKS)
def test_who_has_looked_in_vain_finds_what_becomes_free_afterwards(mask: int) -> None:
    of = books(6, mask=mask)
    places = [take(of, "w") for _ in range(5)]
    mine = take(of, "v")
    assert mine.image_idx == 5
    assert of.reserve("v") is None
    end(of, places[1], Verb.GIVE_BACK)
    assert take(of, "v").image_idx == 1
    assert of.reserve("v") is None
    end(of, mine, Verb.GIVE_BACK_UNSEEN)
    assert take(of, "v").image_idx == 5


@pytest.mark.parametrize("mask", MASKS)
def test_what_may_come_later_is_what_others_hold_and_the_worker_has_not_had(mask: int) -> None:
    of = books(7, mask=mask)
    assert of.outlook("w") == (True, False)
    first = take(of, "w")
    assert of.outlook("w") == (True, False), "their own is nothing to wait for"
    assert of.outlook("v") == (True, True)
    others = [take(of, "v") for _ in range(6)]
    assert of.outlook("w") == (False, True)
    for place in others:
        end(of, place, Verb.FINISH)
    assert of.outlook("w") == (False, False)
    assert of.outlook("u") == (False, True), "the first is still in flight"
    end(of, first, Verb.FINISH)
    assert of.outlook("u") == (False, False)


@pytest.mark.parametrize("mask", MASKS)
def test_a_place_that_could_not_be_written_is_as_if_it_had_never_been_taken(mask: int) -> None:
    of = books(4, mask=mask)
    for _ in range(3):
        take(of, "w")
    place = of.reserve("w")
    assert place is not None and place.image_idx == 3
    assert of.reserve("v") is None
    end(of, place, Verb.TAKE, written=False)
    assert not of.holds(place)
    assert of.in_flight.keys() == {Place(number, "a", "w") for number in range(3)}
    assert take(of, "w") == place


@pytest.mark.parametrize("verb", [Verb.GIVE_BACK, Verb.GIVE_BACK_UNSEEN])
def test_a_place_whose_giving_back_could_not_be_written_stays_held(verb: Verb) -> None:
    of = books(1)
    place = take(of, "w")
    of.being_freed.add(place)
    end(of, place, verb, written=False)
    assert of.holds(place) and place in of.in_flight and not of.being_freed
    assert of.reserve("v") is None
    end(of, place, verb)
    assert not of.holds(place) and place not in of.in_flight
    assert (of.reserve("w") is None) is (verb is Verb.GIVE_BACK)


def test_a_finish_that_could_not_be_written_leaves_it_in_flight() -> None:
    of = books(1)
    place = take(of, "w")
    end(of, place, Verb.FINISH, written=False)
    assert list(of.in_flight) == [place]
    end(of, place, Verb.FINISH)
    assert list(of.in_flight) == [] and of.holds(place)


@pytest.mark.parametrize("mask", MASKS)
def test_what_an_earlier_run_has_left_is_taken_over(mask: int) -> None:
    running, gone = Place(4, "a", "v"), Place(0, "a", "nobody")
    full: dict[str, list[str]] = {"a": ["w"], "b": ["u"]}
    empty: dict[str, list[str]] = {"a": [], "b": []}
    of = books(
        6,
        models="ab",
        mask=mask,
        places=[full, empty, {"a": ["w"], "b": []}, empty, {"a": ["v"], "b": []}, empty],
        seen={"x": [1, 5]},
        in_flight=[running, gone],
    )
    assert list(of.in_flight) == [running]
    assert of.full_images() == 1
    assert [take(of, "x").image_idx for _ in range(3)] == [2, 3, 4]
    assert of.reserve("x") is None
    assert [take(of, "w").image_idx for _ in range(3)] == [1, 3, 5]
    assert of.progress_by_model()["a"].finished == 2


def test_the_numbers_of_each_model() -> None:
    of = books(3, models="ab", wanted=2)
    places = [take(of, f"w{number}") for number in range(5)]
    end(of, places[0], Verb.FINISH)
    numbers = of.progress_by_model()
    for model in "ab":
        held = [place for place in places if place.model == model]
        finished = sum(place == places[0] for place in held)
        assert numbers[model] == Progress(finished, len(held) - finished, 6 - len(held))


@pytest.mark.parametrize("mask", MASKS)
def test_whatever_happens_a_mask_of_any_size_gives_the_same(mask: int) -> None:
    rng = random.Random(3)
    one, other = books(12, models="ab", mask=mask), books(12, models="ab", mask=100)
    held: list[Place] = []
    for step in count():
        if step == 600:
            break
        worker = f"w{rng.randrange(5)}"
        if held and rng.random() < 0.5:
            place, verb = held.pop(rng.randrange(len(held))), rng.choice(list(Verb)[1:])
            for of in (one, other):
                end(of, place, verb)
        else:
            place_or_none = one.reserve(worker)
            assert place_or_none == other.reserve(worker)
            held += [place_or_none] if place_or_none else []
        assert one.outlook(worker) == other.outlook(worker)
        assert one.full_images() == other.full_images()
        assert one.stack_json() == other.stack_json()


def test_a_stack_over_the_limit_opens_only_what_is_below_it() -> None:
    of = books(1, places=[{"a": ["w", "v"]}], seen={}, in_flight=[Place(0, "a", "w")])
    end(of, Place(0, "a", "w"), Verb.GIVE_BACK)
    assert of.reserve("new") is None
    assert of.full_images() == 1


def test_nothing_beyond_the_stack_is_held() -> None:
    of = books(2)
    take(of, "w")
    assert not of.holds(Place(-1, "a", "w"))
    assert not of.holds(Place(2, "a", "w"))
    assert not of.holds(Place(1, "a", "w"))
    assert not of.holds(Place(0, "b", "w"))
    assert of.holds(Place(0, "a", "w"))
