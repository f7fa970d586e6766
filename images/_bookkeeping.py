"""The rules of the stack, in memory: reservations, and which image a worker gets next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from model_chat.images._journal import Change, Place, Verb
from model_chat.images._saved_stack import Places, SavedStack

_BLOCK = 4096
"""Images in one bit mask. Combining 4,096 bits takes about 0.1 µs, so 100,000 images are 25 such steps at worst."""


class Progress(NamedTuple):
    """Numbers of a model's conversations."""

    finished: int
    in_flight: int
    needed: int
    """Places that are still free."""


class Bookkeeping:
    """The stack in memory. Not thread-safe; its owner locks.

    Args:
        wanted: conversations for each (image, model).
        saved: what an earlier run has left, with today's models; None: nothing.
        images_in_a_mask: at least 1; None: 4,096.
    """

    def __init__(
        self,
        num_images: int,
        models: Sequence[str],
        wanted: int,
        rng: random.Random,
        saved: SavedStack | None,
        images_in_a_mask: int | None = None,
    ) -> None:
        self._mask_size = _BLOCK if images_in_a_mask is None else images_in_a_mask
        self.num_images = num_images
        self.models = tuple(models)
        self.wanted = wanted
        self._rng = rng
        self.places: list[Places | None] = [None] * num_images
        """Who holds what of each image; None: nobody ever held anything."""
        # Bit i of mask b: image b * size + i still needs a conversation.
        self._open = [
            (1 << min(self._mask_size, num_images - start)) - 1 for start in range(0, num_images, self._mask_size)
        ]
        # Model -> the same for the images that still need a conversation with it.
        self._open_of = {model: list(self._open) for model in self.models}
        self._first_open_block = 0
        # Worker -> block -> the same for the images that they have had.
        self._had: dict[str, dict[int, int]] = {}
        # Worker -> (block, how many times the past had been reopened): before it was nothing for them, back then.
        self._looked_up_to: dict[str, tuple[int, int]] = {}
        self._times_reopened = 0
        self.in_flight: dict[Place, None] = {}
        """Places of conversations that have neither finished nor given them back, oldest first."""
        self.being_freed: set[Place] = set()
        """Places whose giving back is on its way to the disk."""
        self.seen: dict[str, set[int]] = {}
        """Worker -> images they saw but hold no place of: kept on disk in the journal's header."""
        if saved is not None:
            self._take_over(saved)

    def _take_over(self, saved: SavedStack) -> None:
        for image_idx, taken in enumerate(saved.places):
            if not any(taken.values()):
                continue
            self.places[image_idx] = taken
            for workers in taken.values():
                for worker in workers:
                    self._mark_had(worker, image_idx)
            mask, bit = self._bit(image_idx)
            full = [model for model in self.models if len(taken[model]) >= self.wanted]
            for model in full:
                self._open_of[model][mask] &= ~bit
            if len(full) == len(self.models):
                self._open[mask] &= ~bit
        for worker, images in saved.seen.items():
            self.seen[worker] = set(images)
            for image_idx in images:
                self._mark_had(worker, image_idx)
        self.in_flight = {place: None for place in saved.in_flight if self.holds(place)}

    def _mark_had(self, worker: str, image_idx: int) -> None:
        had = self._had.setdefault(worker, {})
        mask, bit = self._bit(image_idx)
        had[mask] = had.get(mask, 0) | bit

    def _bit(self, image_idx: int) -> tuple[int, int]:
        """The mask that an image belongs to, and its bit there."""
        return image_idx // self._mask_size, 1 << image_idx % self._mask_size

    def holds(self, place: Place) -> bool:
        """Whether the worker holds this place, finished or running."""
        if not 0 <= place.image_idx < self.num_images:
            return False
        taken = self.places[place.image_idx]
        return taken is not None and place.worker in taken.get(place.model, ())

    def reserve(self, worker: str, model: str | None = None) -> Place | None:
        """Take the worker's next place; None when there is none for them.

        Args:
            model: with which model; None: with any.
        """
        image_idx = self._next_image_for(worker) if model is None else self._next_image_with(model, worker)
        if image_idx is None:
            return None
        taken = self.places[image_idx]
        if taken is None:
            taken = self.places[image_idx] = {model: [] for model in self.models}
        wanted = self.wanted
        needed = [model for model in self.models if len(taken[model]) < wanted]
        if model is None:
            model = needed[0] if len(needed) == 1 else self._rng.choice(needed)
        taken[model].append(worker)
        self._mark_had(worker, image_idx)
        if len(taken[model]) >= wanted:
            mask, bit = self._bit(image_idx)
            self._open_of[model][mask] &= ~bit
            if len(needed) == 1:
                self._open[mask] ^= bit
        place = Place(image_idx, model, worker)
        self.in_flight[place] = None
        return place

    def _next_image_for(self, worker: str) -> int | None:
        blocks = len(self._open)
        while self._first_open_block < blocks and not self._open[self._first_open_block]:
            self._first_open_block += 1
        had = self._had.get(worker, {})
        looked_up_to, times_reopened = self._looked_up_to.get(worker, (0, 0))
        start = self._first_open_block
        if times_reopened == self._times_reopened:
            start = max(start, looked_up_to)
        found, block = 0, blocks
        for block in range(start, blocks):
            found = self._open[block] & ~had.get(block, 0)
            if found:
                break
        if had:  # a worker without any image has nothing worth remembering
            self._looked_up_to[worker] = (block, self._times_reopened)
        if not found:
            return None
        return block * self._mask_size + (found & -found).bit_length() - 1

    def _next_image_with(self, model: str, worker: str) -> int | None:
        """The first image that the worker has not had and that still needs a conversation with a model."""
        had = self._had.get(worker, {})
        for block, of_model in enumerate(self._open_of[model]):
            found = of_model & ~had.get(block, 0)
            if found:
                return block * self._mask_size + (found & -found).bit_length() - 1
        return None

    def _free(self, place: Place, seen: bool) -> None:
        image_idx, model, worker = place
        taken = self.places[image_idx]
        if taken is None or worker not in taken[model]:
            return
        taken[model].remove(worker)
        self.in_flight.pop(place, None)
        mask, bit = self._bit(image_idx)
        # A stack from elsewhere can be over the limit.
        if len(taken[model]) < self.wanted:
            self._open_of[model][mask] |= bit
            if not self._open[mask] & bit:
                self._open[mask] |= bit
                self._reopened(mask)
        if seen:
            self.seen.setdefault(worker, set()).add(image_idx)
        elif not any(worker in workers for workers in taken.values()):
            self._had[worker][mask] &= ~bit
            self._reopened(mask)

    def _reopened(self, block: int) -> None:
        self._times_reopened += 1
        self._first_open_block = min(self._first_open_block, block)

    def conclude(self, change: Change, written: bool) -> None:
        """Bring memory in line with how the writing of a change went.

        A place is taken in memory first and on disk after, and given back the other way round: so it is never free in
        one of the two while another worker could hold it in the other.
        """
        verb, place = change
        if verb is Verb.TAKE:
            if not written:
                self._free(place, seen=False)
        elif verb is Verb.FINISH:
            if written:
                self.in_flight.pop(place, None)
        else:
            self.being_freed.discard(place)
            if written:
                self._free(place, seen=verb is Verb.GIVE_BACK)

    def outlook(self, worker: str, model: str | None = None) -> tuple[bool, bool]:
        """Whether there is a place for a worker now, and whether one that others hold could become free for them.

        Args:
            model: with which model; None: with any.
        """
        had = self._had.get(worker, {})
        image_idx = self._next_image_for(worker) if model is None else self._next_image_with(model, worker)
        now = image_idx is not None
        bits = (self._bit(place.image_idx) for place in self.in_flight if model is None or place.model == model)
        later = any(not had.get(mask, 0) & bit for mask, bit in bits)
        return now, later

    def full_images(self) -> int:
        """How many images have no free place."""
        return self.num_images - sum(block.bit_count() for block in self._open)

    def progress_by_model(self) -> dict[str, Progress]:
        """The numbers of each model over all images."""
        total = dict.fromkeys(self.models, 0)
        free = dict.fromkeys(self.models, self.num_images * self.wanted)
        for taken in self.places:
            for model, workers in (taken or {}).items():
                total[model] += len(workers)
                free[model] -= min(len(workers), self.wanted)
        running = dict.fromkeys(self.models, 0)
        for place in self.in_flight:
            running[place.model] += 1
        return {model: Progress(total[model] - running[model], running[model], free[model]) for model in self.models}

    def stack_json(self) -> bytes:
        """What ``stack.json`` is to hold."""
        untouched: Places = {model: [] for model in self.models}
        return orjson.dumps([untouched if taken is None else taken for taken in self.places])
