"""Which model the next conversation is with: the most needed, conversations in flight counted as taken."""

from __future__ import annotations

import threading
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from model_chat.conversation.quota import ConversationQuota, ModelCount, Reservation


def take_all(quota: ConversationQuota) -> list[Reservation]:
    places = []
    while (place := quota.take()) is not None:
        places.append(place)
    return places


def at_once(threads: int, action: object) -> list[object]:
    """Run ``action`` in so many threads, which start it together."""
    start, results, lock = threading.Barrier(threads), [], threading.Lock()

    def work() -> None:
        start.wait(30)
        result = action()  # type: ignore[operator]  # any callable
        with lock:
            results.append(result)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    return results


def test_ten_arrivals_at_once_on_five_and_five_give_exactly_five_each() -> None:
    for seed in range(20):
        quota = ConversationQuota({"a": 5, "b": 5}, seed=seed)
        places = at_once(10, quota.take)
        assert Counter(place.nickname for place in places) == {"a": 5, "b": 5}  # type: ignore[attr-defined]  # a Reservation
        assert quota.take() is None


def test_sixty_four_threads_never_take_more_than_is_needed() -> None:
    needed = {"a": 31, "b": 17, "c": 2}
    quota = ConversationQuota(needed)

    def live() -> Counter[str]:
        collected: Counter[str] = Counter()
        turn = 0
        while (place := quota.take()) is not None:
            turn += 1
            if turn % 3 == 0:
                place.release()
            else:
                place.complete()
                collected[place.nickname] += 1
        return collected

    results = at_once(64, live)
    # A thread may have gone home while others still held the last places, and gave them back afterwards.
    finished = sum(results, Counter()) + live()  # type: ignore[arg-type]  # Counters
    assert finished == needed
    assert quota.counts() == [ModelCount(name, count, 0, count) for name, count in needed.items()]
    assert quota.remaining() == 0


def test_the_model_that_needs_most_is_next() -> None:
    quota = ConversationQuota({"a": 2, "b": 5, "c": 1})
    assert [place.nickname for place in take_all(quota)][:3] == ["b", "b", "b"]


def test_ties_are_broken_at_random() -> None:
    first = {ConversationQuota({"a": 1, "b": 1, "c": 1}, seed=seed).take().nickname for seed in range(50)}  # type: ignore[union-attr]  # there is a place
    assert first == {"a", "b", "c"}


def test_the_same_seed_gives_the_same_order() -> None:
    def order(seed: int) -> list[str]:
        return [place.nickname for place in take_all(ConversationQuota({"a": 9, "b": 9, "c": 9}, seed=seed))]

    assert order(7) == order(7)
    assert any(order(7) != order(seed) for seed in range(10))


def test_what_earlier_runs_collected_counts() -> None:
    quota = ConversationQuota({"a": 3, "b": 3}, done={"a": 3, "b": 1, "not asked for": 9})
    assert [place.nickname for place in take_all(quota)] == ["b", "b"]
    assert quota.counts() == [ModelCount("a", 3, 0, 3), ModelCount("b", 1, 2, 3)]


def test_more_than_needed_collected_before_is_no_debt_of_other_models() -> None:
    quota = ConversationQuota({"a": 1, "b": 2}, done={"a": 10})
    assert quota.remaining() == 2
    assert len(take_all(quota)) == 2


def test_a_worker_who_leaves_gives_the_place_back() -> None:
    quota = ConversationQuota({"a": 1})
    place = quota.take()
    assert place is not None
    assert quota.take() is None
    assert quota.remaining() == 1
    place.release()
    assert quota.counts() == [ModelCount("a", 0, 0, 1)]
    assert quota.take() is not None


def test_a_place_settles_once() -> None:
    quota = ConversationQuota({"a": 5})
    completed, left = quota.take(), quota.take()
    assert completed is not None
    assert left is not None
    completed.complete()
    completed.complete()
    completed.release()
    left.release()
    left.complete()
    left.release()
    assert quota.counts() == [ModelCount("a", 1, 0, 5)]


def test_a_place_settled_by_many_threads_at_once_counts_once() -> None:
    quota = ConversationQuota({"a": 1})
    place = quota.take()
    assert place is not None
    at_once(32, place.complete)
    assert quota.counts() == [ModelCount("a", 1, 0, 1)]


def test_nothing_needed_gives_no_place() -> None:
    assert ConversationQuota({}).take() is None
    assert ConversationQuota({"a": 0}).take() is None


class QuotaMachine(RuleBasedStateMachine):
    """Any order of taking, completing and giving back, against plain counts."""

    places = Bundle("places")
    settled = Bundle("settled")

    @initialize(
        needed=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4), min_size=1),
        done=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5)),
        seed=st.integers(0, 9),
    )
    def begin(self, needed: dict[str, int], done: dict[str, int], seed: int) -> None:
        self.quota = ConversationQuota(needed, done, seed)
        self.needed = needed
        self.done = {name: done.get(name, 0) for name in needed}
        self.in_flight = dict.fromkeys(needed, 0)

    def missing(self) -> dict[str, int]:
        return {name: self.needed[name] - self.done[name] - self.in_flight[name] for name in self.needed}

    @rule(target=places)
    def take(self) -> Reservation | None:
        before = self.missing()
        place = self.quota.take()
        if max(before.values()) <= 0:
            assert place is None
            return None
        assert place is not None
        assert before[place.nickname] == max(before.values())
        self.in_flight[place.nickname] += 1
        return place

    @rule(target=settled, place=consumes(places), collected=st.booleans())
    def settle(self, place: Reservation | None, collected: bool) -> Reservation | None:
        if place is not None:
            (place.complete if collected else place.release)()
            self.in_flight[place.nickname] -= 1
            self.done[place.nickname] += collected
        return place

    @rule(place=settled, collected=st.booleans())
    def settle_again(self, place: Reservation | None, collected: bool) -> None:
        if place is not None:
            (place.complete if collected else place.release)()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "quota"):
            return
        assert self.quota.counts() == [
            ModelCount(name, self.done[name], self.in_flight[name], needed) for name, needed in self.needed.items()
        ]
        assert self.quota.remaining() == sum(max(0, self.needed[name] - self.done[name]) for name in self.needed)


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None, derandomize=True)


def test_what_is_wanted_in_all_includes_what_is_done_and_there_is_nothing_else_to_say() -> None:
    quota = ConversationQuota({"a": 3, "b": 1}, {"a": 2})
    assert (quota.wanted(), quota.remaining(), quota.notes()) == (4, 2, [])


def test_an_extension_wants_more_with_each_model_and_gives_places_at_once() -> None:
    quota = ConversationQuota({"a": 1, "b": 1}, {"a": 1})
    last = quota.take()
    assert last is not None
    assert quota.take() is None
    assert quota.extend(2) == 4
    assert (quota.wanted(), quota.remaining()) == (6, 5)
    assert sorted(place.nickname for _ in range(5) if (place := quota.take()) is not None) == ["a", "a", "b", "b"]


def test_what_is_collected_is_not_extended_for_the_run_is_ending() -> None:
    quota = ConversationQuota({"a": 1, "b": 1}, {"a": 1, "b": 1})
    assert quota.extend(2) == 0
    assert (quota.wanted(), quota.remaining()) == (2, 0)
