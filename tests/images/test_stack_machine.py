"""The stack against a model of its rules that is too simple to be wrong: every image looked at, in order, each time."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from model_chat.images import _bookkeeping
from model_chat.images.stack import ImageStack, Place, read_stack

MODELS = ("a", "b", "c")


class StackMachine(RuleBasedStateMachine):
    """Draws, finishes, gives back, restarts, crashes and changes models, on both."""

    running = Bundle("running")
    workers = st.sampled_from([f"w{number}" for number in range(7)])

    @initialize(images=st.integers(1, 12), evals=st.integers(1, 3), seed=st.integers(0, 99))
    def start(self, images: int, evals: int, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.images, self.evals, self.seed = images, evals, seed
        self.models: tuple[str, ...] = MODELS[:2]
        self.held: set[Place] = set()
        self.in_flight: set[Place] = set()
        self.seen: set[tuple[str, int]] = set()
        self.stack = self.open()

    def open(self) -> ImageStack:
        return ImageStack(self.images, self.models, self.evals, self.folder, rng=self.seed, compact_after=6)

    @rule(target=running, worker=workers)
    def draw(self, worker: str) -> object:
        expected = None
        for image_idx in range(self.images):
            had = (worker, image_idx) in self.seen or any(
                place.worker == worker and place.image_idx == image_idx for place in self.held
            )
            needed = {
                model
                for model in self.models
                if sum(place[:2] == (image_idx, model) for place in self.held) < self.evals
            }
            if needed and not had:
                expected = image_idx, needed
                break
        draw = self.stack.get_next_image(worker)
        if expected is None:
            assert draw == (None, None, True)
            return multiple()
        assert draw.image_idx == expected[0]
        assert draw.model in expected[1]
        assert draw.no_more_work is False
        place = Place(draw.image_idx, draw.model, worker)
        self.held.add(place)
        self.in_flight.add(place)
        return place

    @rule(place=running)
    def finish(self, place: Place) -> None:
        assert self.stack.finish(place.worker, place.image_idx, place.model) == (place in self.in_flight)
        self.in_flight.discard(place)

    @rule(place=consumes(running), seen=st.booleans())
    def give_back(self, place: Place, seen: bool) -> None:
        held = place in self.held
        assert self.stack.remove_worker(place.worker, place.image_idx, place.model, seen=seen) == held
        self.held.discard(place)
        self.in_flight.discard(place)
        if seen and held:
            self.seen.add((place.worker, place.image_idx))

    @rule(keep=st.booleans())
    def settle(self, keep: bool) -> None:
        ended = self.in_flight if keep else set()
        assert set(self.stack.settle(ended)) == self.in_flight - ended
        for place in self.in_flight - ended:
            self.held.discard(place)
            self.seen.add((place.worker, place.image_idx))
        self.in_flight = set()

    @rule()
    def restart(self) -> None:
        self.stack.close()
        self.stack = self.open()

    @rule()
    def crash(self) -> None:
        """Continue from a copy of the files as they are now, with nothing written at the end."""
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.folder, copy, dirs_exist_ok=True)
        self.stack.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.stack = self.open()

    @rule(models=st.sampled_from([MODELS, MODELS[:2], MODELS[1:], MODELS[2:]]))
    def change_models(self, models: tuple[str, ...]) -> None:
        self.stack.close()
        for place in list(self.held):
            if place.model not in models:
                self.held.discard(place)
                self.in_flight.discard(place)
                self.seen.add((place.worker, place.image_idx))
        self.models = models
        self.stack = self.open()

    @rule(evals=st.integers(1, 3))
    def change_evaluations(self, evals: int) -> None:
        self.stack.close()
        self.evals = evals
        self.stack = self.open()

    @invariant()
    def memory_and_disk_hold_the_same_as_the_model(self) -> None:
        if not hasattr(self, "stack"):
            return
        for places in (self.stack.places(), read_stack(self.folder)):
            assert places is not None
            assert all(set(entry) == set(self.models) for entry in places)
            found = [
                Place(image_idx, model, worker)
                for image_idx, entry in enumerate(places)
                for model, workers in entry.items()
                for worker in workers
            ]
            assert len(found) == len(set(found))
            assert set(found) == self.held
        assert set(self.stack.in_flight()) == self.in_flight
        free = [
            sum(
                max(0, self.evals - sum(place[:2] == (image_idx, model) for place in self.held))
                for model in self.models
            )
            for image_idx in range(self.images)
        ]
        assert self.stack.full_images == free.count(0)
        assert sum(progress.needed for progress in self.stack.progress_by_model().values()) == sum(free)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("images_in_a_mask", [1, 3, 4096])
def test_the_stack_does_what_its_rules_say(monkeypatch: pytest.MonkeyPatch, images_in_a_mask: int) -> None:
    monkeypatch.setattr(_bookkeeping, "_BLOCK", images_in_a_mask)
    # The machine stops processes, not the power: the files are as real without waiting for the disk.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    run_state_machine_as_test(
        StackMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
